"""The library for programs in C: the numbers of the calculator, errors as numbers and words, and the example."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import hop_family
import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import primitive_neighbor_list
from small_models import ELEMENTS, cluster, small_model
from test_committee import deep_model

from nnpkit.data.formats.reading import write
from nnpkit.data.graph import build_graph, edge_vectors
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import load
from nnpkit.deploy.metadata import model_metadata
from nnpkit.deploy.targets.committee_file import export_committee
from nnpkit.deploy.targets.torchscript import export_model
from nnpkit.families.factory import build_model
from nnpkit.families.registered import FAMILIES
from nnpkit.install.entry_point import C_HEADER, C_LIBRARY, plugin_path
from nnpkit.md.calculator import NnpkitCalculator
from nnpkit.seal import seal

ROOT = Path(__file__).parents[2]
OK, BAD_ARGUMENT, NO_FILE, BAD_MODEL, NOT_COVERED, BAD_STRUCTURE = range(6)
KINDS = ("symmetry functions", "deep potential", "committee", "committee of deep potentials")
MESSAGE = 500


class _Atoms(ctypes.Structure):
    _fields_ = [("n", ctypes.c_int64), ("positions", ctypes.c_void_p), ("types", ctypes.c_void_p)]


class _Neighbors(ctypes.Structure):
    _fields_ = [
        ("n_centers", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("centers", "offsets", "neighbors", "shifts")),
    ]


class _Results(ctypes.Structure):
    _fields_ = [
        ("energy", ctypes.c_double),
        ("virial", ctypes.c_double * 9),
        ("extrapolations", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("forces", "energies", "features")),
    ]


class CallError(Exception):
    """A call that returned something else than 0."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Potential:
    """A potential of the library, with arrays of numpy."""

    def __init__(self, library: ctypes.CDLL, path: Path, threads: int = 1) -> None:
        self.library, self.handle = library, ctypes.c_void_p()
        text = ctypes.create_string_buffer(MESSAGE)
        status = library.nnpkit_load(str(path).encode(), threads, ctypes.byref(self.handle), text, MESSAGE)
        if status:
            raise CallError(status, text.value.decode())
        self.n_features = library.nnpkit_n_features(self.handle)

    def __del__(self) -> None:
        self.library.nnpkit_free(self.handle)

    def types(self, symbols: list[str]) -> np.ndarray:
        return np.array([self.library.nnpkit_type(self.handle, s.encode()) for s in symbols], np.int32)

    def call(
        self, positions: Any, types: np.ndarray, cell: Any = None, periodic: Any = None, *, lists: Any = None
    ) -> dict[str, Any]:
        """`lists`: centers, offsets, neighbors, shifts; else the cell is searched."""
        x = np.ascontiguousarray(positions, float)
        rows = len(types) if lists is None else len(lists[1]) - 1
        found = {"forces": np.full(x.shape, np.nan), "energies": np.full(rows, np.nan)}
        found["features"] = np.full((rows, self.n_features), np.nan)
        results = _Results(0.0, (ctypes.c_double * 9)(), 0, *(a.ctypes.data for a in found.values()))
        atoms = _Atoms(len(types), x.ctypes.data, types.ctypes.data)
        text = ctypes.create_string_buffer(MESSAGE)
        if lists is None:
            box = (ctypes.c_double * 9)(*np.ravel(cell))
            flags = (ctypes.c_int * 3)(*(int(p) for p in periodic))
            status = self.library.nnpkit_evaluate_cell(
                self.handle, ctypes.byref(atoms), box, flags, ctypes.byref(results), text, MESSAGE
            )
        else:
            centers, offsets, neighbors, shifts = lists
            pointers = [None if a is None else a.ctypes.data for a in (centers, offsets, neighbors, shifts)]
            table = _Neighbors(rows, *pointers)
            status = self.library.nnpkit_evaluate(
                self.handle, ctypes.byref(atoms), ctypes.byref(table), ctypes.byref(results), text, MESSAGE
            )
        if status:
            assert np.isnan(found["forces"]).all(), "a call that failed has written"
            raise CallError(status, text.value.decode())
        virial = np.array(results.virial).reshape(3, 3)
        return {**found, "energy": results.energy, "virial": virial, "outside": results.extrapolations}

    def of(self, atoms: Atoms) -> dict[str, Any]:
        return self.call(atoms.positions, self.types(list(atoms.symbols)), atoms.cell[:], atoms.pbc)


def status_of_loading(library: ctypes.CDLL, path: Path) -> int:
    """0, or what went wrong."""
    try:
        Potential(library, path)
    except CallError as failure:
        return failure.status
    return OK


@pytest.fixture(scope="module")
def library() -> ctypes.CDLL:
    path = Path(plugin_path(), C_LIBRARY)
    if not path.is_file():
        pytest.skip("the C library is not compiled (nnpkit build)")
    found = ctypes.CDLL(str(path))
    pointer, text = ctypes.c_void_p, ctypes.c_char_p
    found.nnpkit_load.argtypes = [text, ctypes.c_int, pointer, text, ctypes.c_size_t]
    found.nnpkit_free.argtypes = [pointer]
    found.nnpkit_free.restype = None
    found.nnpkit_type.argtypes = [pointer, text]
    found.nnpkit_element.argtypes, found.nnpkit_element.restype = [pointer, ctypes.c_int], text
    found.nnpkit_cutoff.argtypes, found.nnpkit_cutoff.restype = [pointer], ctypes.c_double
    for name in ("n_elements", "n_members", "n_features"):
        getattr(found, f"nnpkit_{name}").argtypes = [pointer]
    found.nnpkit_evaluate.argtypes = [pointer] * 5 + [ctypes.c_size_t]
    found.nnpkit_evaluate_cell.argtypes = [pointer] * 6 + [ctypes.c_size_t]
    found.nnpkit_status_text.restype = text
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    paths = {kind: folder / f"{k}.pt" for k, kind in enumerate(KINDS)}
    export_model(small_model(wall={"O-O": 2.0, "H-O": 0.95}), paths[KINDS[0]])
    export_model(deep_model(), paths[KINDS[1]])
    other = small_spec_of_other_functions()
    members = [small_model(seed=3), other, small_model(seed=5)]
    export_committee(members, [model_metadata(m) for m in members], paths[KINDS[2]])
    deep = [deep_model(), deep_model()]
    export_committee(deep, [model_metadata(m) for m in deep], paths[KINDS[3]])
    return paths


def small_spec_of_other_functions() -> Any:
    """A member with a descriptor of its own."""
    from small_models import small_spec

    return small_model(seed=4, functions=small_spec()["functions"][:-2])


def slab(periodic: Any, seed: int = 5) -> Atoms:
    """A cell smaller than the cutoff sphere; atoms may be outside of it."""
    atoms = cluster(seed=seed).to_atoms()
    atoms.pbc = periodic
    atoms.positions[::2] += np.where(periodic, 1, 0) @ (atoms.cell[:] * [[2], [-3], [1]])
    return atoms


# ---- numbers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("periodic", [(1, 1, 1), (1, 0, 1), (0, 0, 1), (0, 0, 0)])
def test_numbers_of_the_calculator(
    library: ctypes.CDLL, files: dict[str, Path], kind: str, periodic: Any
) -> None:
    atoms = slab(periodic)
    found = Potential(library, files[kind]).of(atoms)
    atoms.calc = NnpkitCalculator(files[kind], kernel="torchscript")
    tables = 1e-10 if "deep" not in kind else 1e-8  # embedding networks are tabulated
    assert found["energy"] == pytest.approx(atoms.get_potential_energy(), rel=1e-12, abs=tables)
    np.testing.assert_allclose(found["energies"].sum(), found["energy"], rtol=1e-13)
    np.testing.assert_allclose(found["forces"], atoms.get_forces(), rtol=0, atol=tables)
    atoms.calc = NnpkitCalculator(files[kind])  # the same tables
    np.testing.assert_allclose(found["energies"], atoms.get_potential_energies(), rtol=1e-12, atol=1e-10)
    np.testing.assert_allclose(found["forces"], atoms.get_forces(), rtol=0, atol=1e-10)
    if all(periodic):
        stress = atoms.get_stress(voigt=False)
        np.testing.assert_allclose(-found["virial"] / atoms.get_volume(), stress, rtol=0, atol=1e-10)
    np.testing.assert_array_equal(found["virial"], found["virial"].T)


@pytest.mark.parametrize("kind", KINDS)
def test_features_and_extrapolations_of_the_model(
    library: ctypes.CDLL, files: dict[str, Path], kind: str
) -> None:
    atoms, model = slab((1, 1, 1)), load(files[kind])
    found = Potential(library, files[kind]).of(atoms)
    graph = build_graph(Structure.from_atoms(atoms, name="a"), model.elements, model.cutoff)
    features = model.module.features(
        edge_vectors(graph), graph.types[graph.neighbor], graph.offsets, graph.types
    )
    np.testing.assert_allclose(found["features"], features.detach().numpy(), rtol=1e-9, atol=1e-7)
    ranges = model.metadata["feature_ranges"]
    if ranges is None:
        assert found["outside"] == -1
        return
    low, high = (np.zeros(features.shape) for _ in range(2))
    for row, symbol in enumerate(atoms.symbols):
        low[row, : len(ranges[symbol]["min"])] = ranges[symbol]["min"]
        high[row, : len(ranges[symbol]["max"])] = ranges[symbol]["max"]
    assert found["outside"] == ((found["features"] < low) | (found["features"] > high)).sum() > 0


def test_lists_of_the_caller(library: ctypes.CDLL, files: dict[str, Path]) -> None:
    """With shifts, and with images that are atoms; pairs beyond the cutoff change nothing."""
    atoms, potential = slab((1, 1, 1)), Potential(library, files[KINDS[0]], threads=3)
    expected, types = potential.of(atoms), potential.types(list(atoms.symbols))
    i, j, s = primitive_neighbor_list("ijS", atoms.pbc, atoms.cell[:], atoms.positions, 5.3)
    offsets = np.searchsorted(i, np.arange(len(atoms) + 1)).astype(np.int64)
    shifts = s @ atoms.cell[:]
    by_shift = potential.call(atoms.positions, types, lists=(None, offsets, j.astype(np.int64), shifts))
    images, index = np.unique(np.column_stack([s, j]), axis=0, return_inverse=True)
    x = np.vstack([atoms.positions, atoms.positions[images[:, 3]] + images[:, :3] @ atoms.cell[:]])
    everywhere = np.concatenate([types, types[images[:, 3]]]).astype(np.int32)
    neighbors = (np.ravel(index) + len(atoms)).astype(np.int64)
    chosen = np.arange(len(atoms), dtype=np.int64)
    by_image = potential.call(x, everywhere, lists=(chosen, offsets, neighbors, None))
    np.add.at(by_image["forces"], images[:, 3], by_image["forces"][len(atoms) :].copy())
    by_image["forces"] = by_image["forces"][: len(atoms)]
    for found in (by_shift, by_image):
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-12, atol=1e-11, err_msg=name)


def test_atoms_that_the_potential_does_not_see(library: ctypes.CDLL, files: dict[str, Path]) -> None:
    atoms, potential = slab((1, 1, 1)), Potential(library, files[KINDS[0]])
    expected, types = potential.of(atoms), potential.types(list(atoms.symbols))
    x = np.insert(atoms.positions, 2, [0.1, 0.2, 0.3], axis=0)
    found = potential.call(x, np.insert(types, 2, -1).astype(np.int32), atoms.cell[:], atoms.pbc)
    assert found["energy"] == expected["energy"]
    for name in ("forces", "energies", "features"):
        np.testing.assert_array_equal(found[name][2], 0.0)
        np.testing.assert_array_equal(np.delete(found[name], 2, axis=0), expected[name])


def test_a_model_with_stages_is_refused_with_the_reason(
    library: ctypes.CDLL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FAMILIES._loaded, "hop", hop_family.HOP)
    networks = {"H": {"hidden": [2], "activations": ["tanh", "linear"]}}
    model = build_model(
        {"kind": "hop", "elements": ["H"], "descriptor": {"cutoff": 3.0}, "networks": networks,
         "reference_energies": {"H": 0.0}}
    )  # fmt: skip
    export_model(model, tmp_path / "hop.pt")
    with pytest.raises(CallError, match="the model has stages") as found:
        Potential(library, tmp_path / "hop.pt")
    assert found.value.status == NOT_COVERED


def test_no_atoms_at_all(library: ctypes.CDLL, files: dict[str, Path]) -> None:
    found = Potential(library, files[KINDS[0]]).of(Atoms(cell=np.eye(3) * 9, pbc=True))
    assert (found["energy"], np.abs(found["virial"]).max()) == (0.0, 0.0)


def test_a_large_cell(library: ctypes.CDLL, files: dict[str, Path]) -> None:
    """More bins than one in every direction."""
    atoms = slab((1, 1, 1)).repeat((5, 4, 4))
    atoms.rattle(0.02, seed=3)
    found = Potential(library, files[KINDS[0]], threads=2).of(atoms)
    atoms.calc = NnpkitCalculator(files[KINDS[0]])
    np.testing.assert_allclose(found["forces"], atoms.get_forces(), rtol=0, atol=1e-10)
    atoms.pbc = (0, 1, 0)
    found = Potential(library, files[KINDS[0]]).of(atoms)
    np.testing.assert_allclose(found["forces"], atoms.get_forces(), rtol=0, atol=1e-10)


def test_several_threads_share_a_potential(library: ctypes.CDLL, files: dict[str, Path]) -> None:
    potential = Potential(library, files[KINDS[2]])
    structures = [slab((1, 1, 1), seed=seed) for seed in (5, 6, 7, 8)]
    alone = [potential.of(atoms)["energy"] for atoms in structures]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda atoms: potential.of(atoms)["energy"], structures * 25))
    assert together == alone * 25


@pytest.mark.parametrize("name", ["acsf", "deep_potential", "committee", "chebyshev"])
def test_files_of_earlier_versions(library: ctypes.CDLL, name: str) -> None:
    path = Path(__file__).parent / "earlier_models" / f"{name}.pt"
    if name == "chebyshev":
        assert status_of_loading(library, path) == NOT_COVERED
        return
    symbols = load(path).elements
    atoms = Structure.to_atoms(cluster(symbols=(symbols * 9)[:9]))
    found = Potential(library, path).of(atoms)
    atoms.calc = NnpkitCalculator(path)
    assert found["energy"] == pytest.approx(atoms.get_potential_energy(), rel=1e-13, abs=1e-10)
    np.testing.assert_allclose(found["forces"], atoms.get_forces(), rtol=1e-12, atol=1e-10)


# ---- errors ---------------------------------------------------------------------------------------------------


def test_what_cannot_be_loaded(library: ctypes.CDLL, files: dict[str, Path], tmp_path: Path) -> None:
    def status(path: Path, threads: int = 1) -> tuple[int, str]:
        with pytest.raises(CallError) as failure:
            Potential(library, path, threads)
        return failure.value.status, str(failure.value)

    whole = files[KINDS[0]].read_bytes()
    assert status(tmp_path / "none.pt") == (NO_FILE, f"{tmp_path}/none.pt: No such file or directory")
    assert status(files[KINDS[0]], threads=0)[0] == BAD_ARGUMENT
    path = tmp_path / "model.pt"
    for content, words in (
        (whole[:-10], "it does not end with a checksum"),
        (whole.replace(b"O", b"N", 1), "its checksum is wrong"),
        (seal(b"PK\x05\x06" + bytes(18)), "no TorchScript archive"),
    ):
        path.write_bytes(content)
        code, text = status(path)
        assert (code, words in text) == (BAD_MODEL, True), text
    export_model(small_model(), path, {"baseline": {"name": "GFN2-xTB", "included": False}})
    assert status(path) == (
        NOT_COVERED,
        f"{path}: this is a correction to GFN2-xTB, which the file does not hold",
    )
    assert library.nnpkit_status_text(NOT_COVERED) == b"a model that the compiled kernels do not evaluate"
    assert library.nnpkit_load(None, 1, None, None, 0) == BAD_ARGUMENT


def test_altered_weights_fail_the_self_test(
    library: ctypes.CDLL, files: dict[str, Path], tmp_path: Path
) -> None:
    """The seal is no signature: whoever edits a file can seal it again."""
    whole = files[KINDS[0]].read_bytes()[: -len(b"nnpkit-sha256:") - 64]
    archive = whole[:-2] + b"\0\0"
    weight = load(files[KINDS[0]]).module.state_dict()["model.networks.networks.0.layers.0.weight"]
    raw = weight.detach().numpy().tobytes()[:64]
    at = archive.index(raw)
    changed = archive[:at] + (np.frombuffer(raw) * 1.001).tobytes() + archive[at + 64 :]
    path = tmp_path / "model.pt"
    path.write_bytes(seal(changed))
    with pytest.raises(CallError, match="self-test stored in the file is not reproduced") as failure:
        Potential(library, path)
    assert failure.value.status == BAD_MODEL


def test_damage_is_refused_or_harmless(library: ctypes.CDLL, files: dict[str, Path], tmp_path: Path) -> None:
    """Bytes of the archive's own tables and of the pickle, sealed again: never a crash, never other numbers."""
    whole = files[KINDS[2]].read_bytes()[: -len(b"nnpkit-sha256:") - 64]
    archive, random = whole[:-2] + b"\0\0", np.random.default_rng(7)
    pickle = archive.index(b"data.pkl")
    directory = int.from_bytes(archive[-6:-2], "little")
    path, statuses = tmp_path / "model.pt", []
    for trial in range(300):
        begin, end = ((pickle, pickle + 6000), (directory, len(archive) - 22), (0, len(archive) - 22))[
            trial % 3
        ]
        changed = bytearray(archive)
        for at in random.integers(begin, end, size=1 + trial % 2):
            changed[at] = random.integers(256)
        path.write_bytes(seal(bytes(changed)))
        statuses.append(status_of_loading(library, path))
    assert set(statuses) <= {OK, BAD_MODEL, NOT_COVERED}
    assert 100 < statuses.count(BAD_MODEL) < 300


def test_calls_that_make_no_sense(library: ctypes.CDLL, files: dict[str, Path]) -> None:
    atoms, potential = slab((1, 1, 1)), Potential(library, files[KINDS[0]])
    x, types = atoms.positions, potential.types(list(atoms.symbols))
    n, cell, periodic = len(atoms), atoms.cell[:], (1, 1, 1)
    i, j, s = primitive_neighbor_list("ijS", atoms.pbc, cell, x, 4.5)
    offsets = np.searchsorted(i, np.arange(n + 1)).astype(np.int64)
    j, shifts = j.astype(np.int64), s @ cell
    half = (i < j) | ((i == j) & (s @ [100, 10, 1] > 0))
    half_list = (
        None, np.searchsorted(i[half], np.arange(n + 1)).astype(np.int64), j[half].copy(), shifts[half].copy()
    )  # fmt: skip

    def refused(status: int, words: str, *arguments: Any, **lists: Any) -> None:
        with pytest.raises(CallError, match=words) as failure:
            potential.call(*arguments, **lists)
        assert failure.value.status == status

    assert potential.call(x, types, lists=(None, offsets, j, shifts))["energy"]
    refused(BAD_ARGUMENT, "the neighbour list is not full", x, types, lists=half_list)
    refused(BAD_ARGUMENT, "not full", x, types, lists=(None, offsets, j, np.abs(shifts)))
    far = j.copy()
    far[3] = n
    refused(BAD_ARGUMENT, f"neighbour {n} is none of the", x, types, lists=(None, offsets, far, shifts))
    falling = offsets.copy()
    falling[2] = 0
    refused(BAD_ARGUMENT, "offsets", x, types, lists=(None, falling, j, shifts))
    twice = np.zeros(n, np.int64)
    refused(BAD_ARGUMENT, "twice the same", x, types, lists=(twice, offsets, j, shifts))
    refused(
        BAD_ARGUMENT,
        "atom 1 has type 2",
        x,
        np.where(np.arange(n) == 1, 2, types).astype(np.int32),
        cell,
        periodic,
    )
    refused(BAD_ARGUMENT, "has no length", x, types, cell * [[0], [1], [1]], periodic)
    refused(BAD_ARGUMENT, "has no volume", x, types, cell[[0, 0, 2]], periodic)
    refused(BAD_ARGUMENT, "thinner", x, types, cell * [[1], [1], [1e-4]], periodic)
    together, nowhere = x.copy(), x.copy()
    together[1] = together[0] + cell[1]
    nowhere[4, 2] = np.nan
    refused(BAD_STRUCTURE, "atoms 0 and 1 are at the same place", together, types, cell, periodic)
    refused(BAD_STRUCTURE, "position of atom 4 is not finite", nowhere, types, cell, periodic)
    assert library.nnpkit_evaluate(potential.handle, None, None, None, None, 0) == BAD_ARGUMENT
    assert (library.nnpkit_type(None, b"H"), library.nnpkit_element(None, 0)) == (-1, None)
    assert (library.nnpkit_type(potential.handle, b"Xx"), library.nnpkit_element(potential.handle, 2)) == (
        -1,
        None,
    )


# ---- what a program in C meets ----------------------------------------------------------------------------------


def test_the_library_is_what_its_header_says(library: ctypes.CDLL) -> None:
    """The functions of the header and no others; neither torch nor LAMMPS nor Python."""
    folder = Path(plugin_path())
    header = (folder / C_HEADER).read_text()
    assert header == (ROOT / "lammps_plugin" / "c_library" / C_HEADER).read_text()
    declared = set(re.findall(r"NNPKIT_PUBLIC[^;]*?\b(nnpkit_\w+)\(", header))
    symbols = subprocess.run(
        ["nm", "-D", "--defined-only", folder / C_LIBRARY], capture_output=True, text=True, check=True
    ).stdout
    assert {line.split()[-1] for line in symbols.splitlines()} == declared
    needed = subprocess.run(["ldd", folder / C_LIBRARY], capture_output=True, text=True, check=True).stdout
    assert not re.search("torch|lammps|python|mpi", needed, re.I), needed
    for status in range(7):
        assert library.nnpkit_status_text(status) != b"an unknown status"


@pytest.fixture(scope="module")
def program(library: ctypes.CDLL, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, compiled as the documentation says."""
    compiler = shutil.which("gcc")
    if compiler is None:
        pytest.skip("there is no gcc")
    target, folder = tmp_path_factory.mktemp("program") / "nve", plugin_path()
    subprocess.run(
        [
            compiler, "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O2",
            ROOT / "examples" / "c_library" / "nve.c", f"-I{folder}", f"-L{folder}", "-lnnpkit",
            f"-Wl,-rpath,{folder}", "-lm", "-o", target,
        ], check=True,
    )  # fmt: skip
    return target


def energies(program: Path, *arguments: object) -> tuple[np.ndarray, float]:
    """Rows of step, potential, kinetic and total energy, and the largest deviation of the last."""
    done = subprocess.run(
        [program, *map(str, arguments)], capture_output=True, text=True, check=True, timeout=300
    ).stdout
    rows = re.findall(r"step +(\d+) +potential (\S+) +kinetic (\S+) +total (\S+) eV", done)
    (drift,) = re.findall(r"conserved to (\S+) eV per atom", done)
    return np.array(rows, float), float(drift)


def test_the_example_conserves_its_energy(program: Path, files: dict[str, Path], tmp_path: Path) -> None:
    """To second order in the time step; its first energy is that of the calculator."""
    atoms = cluster().to_atoms()
    atoms.cell, atoms.pbc = np.eye(3) * 5.2, True
    atoms.info = {}
    write(str(tmp_path / "start.xyz"), [Structure.from_atoms(atoms, name="start")])
    path = files[KINDS[0]]
    rows, coarse = energies(program, path, tmp_path / "start.xyz", 5.2, 200, 0.1)
    atoms.calc = NnpkitCalculator(path)
    assert rows[0, 1] == pytest.approx(atoms.get_potential_energy(), rel=1e-13, abs=1e-10)
    assert rows[-1, 0] == 200
    assert np.ptp(rows[:, 2]) > 1e-3  # it moves
    assert coarse < 1e-3 * np.ptp(rows[:, 2])
    fine = energies(program, path, tmp_path / "start.xyz", 5.2, 400, 0.05)[1]
    assert coarse / fine == pytest.approx(4.0, rel=0.1)


def test_the_example_says_what_is_wrong(program: Path, files: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / "start.xyz").write_text("1\nargon\nAr 0 0 0\n")
    done = subprocess.run(
        [program, files[KINDS[0]], tmp_path / "start.xyz", "5", "1", "1"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "element Ar is not known\n")
    assert "Ar" not in ELEMENTS


def test_a_processor_without_avx2_gets_the_same_numbers(
    program: Path, files: dict[str, Path], tmp_path: Path
) -> None:
    """An emulated one, which would stop at the first instruction that it does not have."""
    emulator = shutil.which("qemu-x86_64")
    if emulator is None:
        pytest.skip("qemu-x86_64 is not installed (Debian: apt install qemu-user)")
    atoms = cluster().to_atoms()
    atoms.cell, atoms.pbc = np.eye(3) * 5.2, True
    atoms.info = {}
    write(str(tmp_path / "start.xyz"), [Structure.from_atoms(atoms, name="start")])
    old = [emulator, "-cpu", "Nehalem"]
    for kind in KINDS[:2]:
        words = [program, files[kind], tmp_path / "start.xyz", "5.2", "10", "0.1"]
        asked = {**os.environ, "NNPKIT_ISA": "portable"}
        said = [
            subprocess.run([*before, *words], capture_output=True, text=True, env=environment, timeout=120)
            for before, environment in (([], asked), (old, None))
        ]
        assert said[1].returncode == 0, said[1].stderr
        here, there = (np.array(re.findall(r"total (\S+) eV", one.stdout), float) for one in said)
        np.testing.assert_allclose(there, here, rtol=1e-13)
    refused = subprocess.run(
        [*old, *words], capture_output=True, text=True, env={**os.environ, "NNPKIT_ISA": "avx2"}, timeout=120
    )
    assert refused.returncode == 1
    assert "NNPKIT_ISA=avx2: this processor lacks it" in refused.stderr
