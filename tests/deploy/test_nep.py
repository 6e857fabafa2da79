"""Neuroevolution potentials in and out: the papers' formulas and calorine's own numbers are the judges."""

from __future__ import annotations

from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from calorine_peer import calorine
from nep_by_hand import atomic_energies, random_nep, write_nep
from small_models import cluster, small_model
from typer.testing import CliRunner

from nnpkit.cli.main import app
from nnpkit.data.graph import build_graph, edge_vectors
from nnpkit.data.structure import Structure
from nnpkit.deploy.imports.nep_file import read_nep_file
from nnpkit.deploy.load import LoadedModel, load
from nnpkit.deploy.metadata import model_metadata
from nnpkit.deploy.targets.contract import TargetOptions
from nnpkit.deploy.targets.nep import NEP_FILE
from nnpkit.errors import InputError
from nnpkit.families.factory import build_model, initialise
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.scaling import FeatureStatistics
from nnpkit.models.sum_model import SumModel
from nnpkit.models.tabulated_zbl import nep_wall

ELEMENTS = ["Cu", "O", "H", "Si", "K"]
SIZES: list[dict[str, Any]] = [
    {"n": 1, "l_max": 4, "switches": (2, 1)},
    {"n": 2, "l_max": 3, "switches": (0, 0), "zbl": (0.6, 1.9)},
    {"n": 2, "l_max": 4, "switches": (2, 1, 1, 1, 1, 1), "zbl": (0.0, 0.0)},
    {"n": 3, "l_max": 2, "switches": (2, 0, 1), "version": 3},
    {"n": 1, "l_max": 1, "switches": (0, 1), "version": 3, "zbl": (0.0, 0.0)},
    {"n": 5, "l_max": 0, "switches": (0, 0), "zbl": (0.5, 2.5)},
    {"n": 2, "l_max": 8, "switches": (2, 0, 0, 1)},
    {"n": 4, "l_max": 5, "switches": (0, 0, 0, 0, 1), "zbl": (0.3, 1.7)},
]


def potential(seed: int, n: int, **changes: Any) -> dict:
    sizes = {"n_max": (2, 1), "basis": (3, 2), "neurons": 4, **changes}
    return random_nep(ELEMENTS[:n], seed=seed, **sizes)


def frame(n_elements: int, seed: int = 5) -> Structure:
    return cluster(8, seed=seed, symbols=[ELEMENTS[k % n_elements] for k in range(8)])


@pytest.mark.parametrize("number", range(len(SIZES)))
def test_an_imported_potential_has_the_energies_of_the_formulas(tmp_path: Path, number: int) -> None:
    p, structure = potential(number, **SIZES[number]), frame(SIZES[number]["n"])
    graph = build_graph(structure, p["elements"], 5.0)
    vectors, types, ends = edge_vectors(graph).numpy(), graph.types.numpy(), graph.offsets.numpy()
    slices = [slice(a, b) for a, b in pairwise(ends)]
    neighbors = types[graph.neighbor.numpy()]
    expected = atomic_energies(p, [vectors[s] for s in slices], [neighbors[s] for s in slices], types)
    file = write_nep(tmp_path / "nep.txt", p)
    model = load(file)
    assert model.metadata["feature_ranges"] is None
    np.testing.assert_allclose(model.predict(structure).energies, expected, rtol=1e-11)
    NEP_FILE.write(model, tmp_path / "again.txt", TargetOptions())
    np.testing.assert_allclose(load(tmp_path / "again.txt").predict(structure).energies, expected, rtol=1e-11)
    step, moved = 1e-4, structure.positions.copy()
    moved[3, 1] += step
    up = model.predict(structure.replace(positions=moved)).energy
    moved[3, 1] -= 2.0 * step
    slope = (up - model.predict(structure.replace(positions=moved)).energy) / (2.0 * step)
    assert model.predict(structure).forces[3, 1] == pytest.approx(-slope, rel=1e-4, abs=1e-5)


def test_calorine_agrees_with_what_is_read_and_with_what_is_written(tmp_path: Path) -> None:
    cases, ours = [], []
    zbl = [None, (0.6, 1.9), (0.0, 0.0), (0.5, 2.5, 0.65)]
    for seed in range(40):
        case = {
            **SIZES[seed % len(SIZES)],
            "zbl": zbl[seed // 2 % 4],
            "version": 3 + seed // 3 % 2,
            "n": 1 + seed % 5,
        }
        file = write_nep(tmp_path / f"nep{seed}.txt", potential(seed, **case))
        model, structure = load(file), frame(case["n"], seed)
        NEP_FILE.write(model, tmp_path / f"out{seed}.txt", TargetOptions())
        cases += [(file, structure), (tmp_path / f"out{seed}.txt", structure)]
        ours.append(model.predict(structure))
    for (file, _), peer, mine in zip(cases, calorine(cases), np.repeat(ours, 2), strict=True):
        scale = max(1.0, float(np.abs(peer.energies).max()))
        np.testing.assert_allclose(mine.energies, peer.energies, atol=1e-6 * scale, err_msg=file.name)
        np.testing.assert_allclose(mine.forces, peer.forces, atol=1e-5 * scale, err_msg=file.name)
        np.testing.assert_allclose(mine.virial, peer.virial, atol=1e-5 * scale, err_msg=file.name)


def trained(kind: str = "nep", **changes: Any) -> AtomicModel:
    """A model with every number different from what it begins with."""
    elements = ["O", "H"]
    spec = {
        "kind": kind, "elements": elements, "energy_scale": 0.7, "reference_energies": {"O": -4.1, "H": -1.3},
        "wall": nep_wall({"O-H": 0.9, "H-H": 1.3}),
        "descriptor": {
            "radial_cutoff": 4.5, "angular_cutoff": 4.0, "cutoff_kind": "cosine", "radial_channels": 3,
            "radial_basis": 4, "angular_channels": 2, "angular_basis": 3,
            "invariants": [[1, 1], [2, 2], [3, 3], [4, 4], [2, 2, 2], [1, 1, 1, 1]],
        },
        "networks": {e: {"hidden": [6], "activations": ["tanh", "linear"]} for e in elements},
    }  # fmt: skip
    for key, value in changes.items():
        spec[key] = {**spec[key], **value} if key in ("descriptor", "networks") else value
    model = build_model(spec)
    initialise(model, "xavier", 3)
    generator = torch.Generator().manual_seed(4)
    low = torch.rand(model.scaling.shift.shape, generator=generator, dtype=torch.float64)
    model.scaling.set(FeatureStatistics(low, low + 2.0, low + 0.7, low + 0.3), "sigma", -0.5, 1.5)
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model


def loaded(model: AtomicModel, **extra: Any) -> LoadedModel:
    return LoadedModel(model, model_metadata(model, extra), "here")


WRITTEN: dict[str, dict[str, Any]] = {
    "nep": {},
    "cluster": {"kind": "cluster_expansion"},
    "unlike networks": {"networks": {"H": {"hidden": [3], "activations": ["tanh", "linear"]}}},
    "one energy": {"reference_energies": {"O": 0.0, "H": 0.0}, "wall": {}},
    "other order": {
        "descriptor": {"invariants": [[2, 3, 3], [1, 1, 2], [4, 4], [2, 2], [1, 2, 3], [1, 3, 4]]}
    },
}


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_trained_here_is_written_with_the_same_energies(tmp_path: Path, name: str) -> None:
    model, structure = trained(**WRITTEN[name]), cluster(9)
    expected = loaded(model).predict(structure)
    NEP_FILE.write(loaded(model), tmp_path / "nep.txt", TargetOptions())
    again = load(tmp_path / "nep.txt")
    found = again.predict(structure)
    np.testing.assert_allclose(found.energies, expected.energies, rtol=1e-12)
    np.testing.assert_allclose(found.forces, expected.forces, atol=1e-11)
    assert np.abs(expected.forces).max() > 0.1
    again.save(tmp_path / "model.pt")
    np.testing.assert_allclose(
        load(tmp_path / "model.pt").predict(structure).energies, expected.energies, rtol=1e-12
    )


def test_calorine_agrees_with_what_was_trained_here(tmp_path: Path) -> None:
    cases, ours = [], []
    for number, changes in enumerate(WRITTEN.values()):
        model = trained(**changes)
        NEP_FILE.write(loaded(model), tmp_path / f"{number}.txt", TargetOptions())
        cases.append((tmp_path / f"{number}.txt", cluster(9)))
        ours.append(loaded(model).predict(cluster(9)))
    for mine, peer in zip(ours, calorine(cases), strict=True):
        np.testing.assert_allclose(mine.energies, peer.energies, rtol=1e-6)
        np.testing.assert_allclose(mine.forces, peer.forces, atol=1e-5)
        np.testing.assert_allclose(mine.virial, peer.virial, atol=1e-5)


def test_elements_with_energies_of_their_own_get_one_more_neuron(tmp_path: Path) -> None:
    lines = NEP_FILE.write(loaded(trained()), tmp_path / "nep.txt", TargetOptions())
    assert read_nep_file(tmp_path / "nep.txt").neurons == 7
    assert len(lines) == 1
    heavy = trained(reference_energies={"O": -432.0, "H": -13.6})
    lines = NEP_FILE.write(loaded(heavy), tmp_path / "nep.txt", TargetOptions())
    assert "single precision" in lines[1]
    assert "432 eV" in lines[1]


@pytest.mark.parametrize(
    ("extra", "expected", "why"),
    [({}, (77, 54), "0.2 atoms per Å³"), ({"min_distance": {"O-H": 2.2, "H-H": 2.5}}, (51, 36), "2.20 Å apart"),
     ({"min_distance": {"O-H": 0.9}}, (77, 54), "0.2 atoms per Å³"),
     ({"source": {"format": "nep", "neighbors": [111, 22]}}, (111, 22), "the file it came from")],
)  # fmt: skip
def test_there_is_room_for_enough_neighbours(
    tmp_path: Path, extra: dict, expected: tuple[int, int], why: str
) -> None:
    # 4/3 pi 4.5^3 0.2 = 76.3 and 4/3 pi 4^3 0.2 = 53.6; closest packing at 2.2 Å: 0.1328 atoms per Å³
    lines = NEP_FILE.write(loaded(trained(), **extra), tmp_path / "nep.txt", TargetOptions())
    assert read_nep_file(tmp_path / "nep.txt").neighbors == expected
    assert why in lines[0]


def without_tanh() -> dict[str, Any]:
    return {e: {"hidden": [6], "activations": ["softplus", "linear"]} for e in ("O", "H")}


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"descriptor": {"cutoff_kind": "poly2"}}, "cutoff function poly2"),
        ({"descriptor": {"invariants": [[1, 1], [1, 1, 2, 2]]}}, "the invariant 1122"),
        ({"descriptor": {"angular_cutoff": 5.0}}, "angular cutoff is longer"),
        ({"networks": {"H": {"hidden": [4, 4], "activations": ["tanh", "tanh", "linear"]}}}, "network of H"),
        ({"networks": without_tanh()}, "network of O"), ({"wall": {"O-H": 0.9}}, "repulsion .O-H below 0.90 Å."),
        ({"descriptor": {"radial_basis": 19}}, "functions in the radial basis"),
    ],
)  # fmt: skip
def test_what_the_format_cannot_express_is_refused(tmp_path: Path, changes: dict, why: str) -> None:
    with pytest.raises(InputError, match=why):
        NEP_FILE.write(
            loaded(trained(kind="cluster_expansion", **changes)), tmp_path / "nep.txt", TargetOptions()
        )
    assert not any(tmp_path.iterdir())


def test_other_kinds_and_corrections_are_refused(tmp_path: Path) -> None:
    whole = trained()
    missing = {"baseline": {"name": "a dispersion", "spec": {"kind": "d3"}, "included": False}}
    for model, why in [
        (loaded(small_model()), "kind acsf"), (loaded(SumModel(whole, deepcopy(whole))), "kind total"),
        (loaded(whole, **missing), "correction to a dispersion"),
    ]:  # fmt: skip
        with pytest.raises(InputError, match=why):
            NEP_FILE.write(model, tmp_path / "nep.txt", TargetOptions())
    with pytest.raises(InputError, match="bohr-hartree"):
        NEP_FILE.write(loaded(whole), tmp_path / "nep.txt", TargetOptions("bohr-hartree"))


def test_the_wall_can_be_left_out(tmp_path: Path) -> None:
    structure = cluster(9)
    NEP_FILE.write(loaded(trained(wall={"O-H": 1.2})), tmp_path / "nep.txt", TargetOptions(without_wall=True))
    bare = loaded(trained(wall={})).predict(structure)
    np.testing.assert_allclose(
        load(tmp_path / "nep.txt").predict(structure).energies, bare.energies, rtol=1e-12
    )


def test_cutoffs_of_elements_that_differ_are_refused(tmp_path: Path) -> None:
    file = write_nep(tmp_path / "nep.txt", potential(1, 2, cutoffs=(5.0, 4.0, 4.5, 3.5)))
    with pytest.raises(InputError, match="cutoffs of the elements differ"):
        load(file)


def test_convert_goes_both_ways(tmp_path: Path) -> None:
    file, structure = write_nep(tmp_path / "nep.txt", potential(2, 2, version=3)), frame(2)
    run = CliRunner().invoke
    result = run(app, ["convert", str(file), str(tmp_path / "model.pt")])
    assert result.exit_code == 0, result.output
    assert "one network of a NEP3 potential" in result.output
    assert "nep potential for Cu O, cutoff 5 Å" in result.output
    result = run(app, ["convert", str(tmp_path / "model.pt"), str(tmp_path / "back.txt")])
    assert result.exit_code == 0, result.output
    assert "room for 200 and 100 neighbours within the cutoffs, as in the file it came from" in result.output
    expected = load(file).predict(structure).energies
    for name in ("model.pt", "back.txt"):
        np.testing.assert_allclose(load(tmp_path / name).predict(structure).energies, expected, rtol=1e-12)
    result = run(app, ["convert", str(file), str(tmp_path / "same"), "--to", "nep"])
    assert result.exit_code == 0, result.output
    assert read_nep_file(tmp_path / "same").version == 4


def test_convert_says_in_one_line_why_not(tmp_path: Path) -> None:
    damaged = tmp_path / "nep.txt"
    damaged.write_text("nep4_dipole 1 Cu\n")
    result = CliRunner().invoke(app, ["convert", str(damaged), str(tmp_path / "model.pt")])
    assert result.exit_code == 1
    assert "nep4_dipole has dipoles, no energies" in result.output
    small_model_file = tmp_path / "acsf.pt"
    loaded(small_model()).save(small_model_file)
    result = CliRunner().invoke(app, ["convert", str(small_model_file), str(tmp_path / "out.txt")])
    assert result.exit_code == 1
    assert "a nep.txt cannot express a potential of kind acsf" in result.output
    assert not (tmp_path / "out.txt").exists()
