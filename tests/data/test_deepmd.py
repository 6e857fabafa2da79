"""DeePMD-kit's npy folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from data_tools import assert_same, emt_copper, structures, water
from foreign_tools import read_with_notes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnpkit.data.formats.reading import detect_format, read, write
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError


def make_system(folder: Path, dtype: type = np.float64, **files: np.ndarray | str | None) -> Path:
    """Two frames of a water molecule as DeePMD-kit would have them, some files replaced or left out (None)."""
    frames = [water(energy=-14.0), water(energy=-15.0)]
    contents: dict[str, np.ndarray | str | None] = {
        "type.raw": "0\n1 1\n",
        "type_map.raw": "O\nH\n",
        "coord": np.array([s.positions.ravel() for s in frames], dtype),
        "box": np.array([s.cell.ravel() for s in frames], dtype),
        "energy": np.array([s.energy for s in frames], dtype),
        "force": np.array([s.forces.ravel() for s in frames], dtype),
        "virial": np.array([s.virial.ravel() for s in frames], dtype),
    }
    contents |= files
    (folder / "set.000").mkdir(parents=True)
    for name, content in contents.items():
        if isinstance(content, str):
            (folder / name).write_text(content)
        elif content is not None:
            np.save(folder / "set.000" / f"{name}.npy", content)
    return folder


def test_system_in_detail(tmp_path: Path) -> None:
    system = make_system(tmp_path / "system")
    assert detect_format(system) == "deepmd"
    first, second = read(system)
    assert_same(first, water(energy=-14.0), relative=1e-15)  # the stress, through virial = -stress * volume
    assert (second.energy, second.name) == (-15.0, f"{system}#1")


def test_single_precision_and_energy_column(tmp_path: Path) -> None:
    make_system(tmp_path / "system", np.float32, energy=np.array([[-14.0], [-15.0]], np.float32), force=None)
    first, _ = read(tmp_path / "system")
    assert_same(first, water(energy=-14.0).replace(forces=None), relative=1e-6)
    assert first.positions.dtype == np.float64


def test_sets_in_order_and_cluster(tmp_path: Path) -> None:
    system = make_system(tmp_path / "system", nopbc="", box=None, virial=None)
    (system / "set.001").mkdir()
    np.save(system / "set.001" / "coord.npy", np.ones((1, 9)))
    frames = read(system)
    assert [s.name.rpartition("#")[2] for s in frames] == ["0", "1", "2"]
    assert not frames[0].pbc.any()
    assert frames[2].labels == ()


def test_mixed_types_with_padding(tmp_path: Path) -> None:
    types = np.array([[0, 1, 1], [1, 1, -1]])
    make_system(tmp_path / "system", **{"type.raw": "0\n0\n0\n"}, real_atom_types=types)
    first, second = read(tmp_path / "system")
    assert (first.symbols, second.symbols) == (["O", "H", "H"], ["H", "H"])
    assert second.forces.shape == second.positions.shape == (2, 3)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        structures(with_extras=False, partly_periodic=False, symbols=["H", "O", "H"]), min_size=1, max_size=4
    ),
    st.integers(0, 10**9),
)
def test_round_trip(tmp_path: Path, frames: list[Structure], number: int) -> None:
    """Frames come back in the order of their systems, which are by kind of labels."""
    folder = tmp_path / f"data{number}-{len(list(tmp_path.iterdir()))}"
    write(folder, frames, "deepmd")
    kinds: dict = {}
    for frame in frames:
        kinds.setdefault((frame.labels, frame.total_charge is None, frame.multiplicity is None), []).append(
            frame
        )
    for frame, back in zip([f for kind in kinds.values() for f in kind], read(folder), strict=True):
        assert_same(frame, back, relative=4e-16)


def test_several_systems_get_folders_of_their_own(tmp_path: Path) -> None:
    copper = emt_copper(n=2)
    write(tmp_path / "data", [copper[0], water(), copper[1]])
    assert sorted(p.name for p in (tmp_path / "data").iterdir()) == ["000-Cu32", "001-H2O1"]
    back = read(tmp_path / "data")
    for frame, other in zip([*copper, water()], back, strict=True):
        assert_same(frame, other, relative=4e-16)


def test_clusters_and_extras(tmp_path: Path) -> None:
    cluster = water().replace(
        pbc=np.full(3, False), cell=np.zeros((3, 3)), stress=None, charges=np.arange(3.0)
    )
    write(tmp_path / "data", [cluster.replace(info={"left": "out"})])
    assert (tmp_path / "data" / "nopbc").exists()
    assert_same(cluster, read(tmp_path / "data")[0])


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written as DeePMD data"):
        write(tmp_path / "data", [water().replace(pbc=np.array([True, True, False]))])
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(InputError, match="exists and is not empty"):
        write(tmp_path / "full", [water()])
    assert [p.name for p in tmp_path.iterdir()] == ["full"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"type_map.raw": None}, "type_map.raw: no such file. Write the element of type 0"),
        ({"type_map.raw": "O\n"}, "#0: type 1 has no element. Type_map.raw has 1 lines"),
        ({"type.raw": "0 1 H"}, "type.raw: 'H' is not a type"),
        ({"coord": None}, "coord.npy: cannot read the array"),
        ({"box": None}, "no box.npy. Put an empty file nopbc"),
        (
            {"force": np.zeros((2, 6))},
            r"force.npy has shape \(2, 6\); expected \(2, 9\) for 2 frames of 3 atoms",
        ),
        ({"energy": np.zeros(3)}, r"energy.npy has shape \(3,\); expected \(2, 1\)"),
        ({"energy": np.array([0.0, np.nan])}, "#1: energy is nan"),
        ({"box": np.zeros((2, 9)), "virial": None}, "#0: a periodic cell vector has no length"),
        ({"real_atom_types": np.zeros((2, 4), int)}, r"shape \(2, 4\); expected \(2, 3\)"),
    ],
)
def test_bad_systems(tmp_path: Path, files: dict, message: str) -> None:
    system = make_system(tmp_path / "system", **files)
    with pytest.raises(InputError, match=message):
        read(system)


def test_damaged_and_dangerous_arrays(tmp_path: Path) -> None:
    system = make_system(tmp_path / "system")
    force = system / "set.000" / "force.npy"
    force.write_bytes(force.read_bytes()[:-8])
    with pytest.raises(InputError, match=r"force.npy: cannot read the array"):
        read(system)
    np.save(force, np.array([[{"any": "object"}]]), allow_pickle=True)
    with pytest.raises(InputError, match=r"force.npy: cannot read the array.*Python objects"):
        read(system)
    np.save(force, np.array(["text"]))
    with pytest.raises(InputError, match=r"expected numbers"):
        read(system)


def test_no_sets(tmp_path: Path) -> None:
    (tmp_path / "type.raw").write_text("0\n")
    (tmp_path / "type_map.raw").write_text("H\n")
    with pytest.raises(InputError, match=r"no folder set.\* and no coord.raw"):
        read(tmp_path)


def test_linked_systems_are_read(tmp_path: Path) -> None:
    make_system(tmp_path / "store" / "b")
    make_system(tmp_path / "store" / "deep" / "c")
    make_system(tmp_path / "some" / "a")
    (tmp_path / "links").mkdir()
    for folder, name, target in (
        ("some", "b", "../store/b"), ("links", "b", "../store/b"), ("links", "all", "../store/deep"),
    ):  # fmt: skip
        (tmp_path / folder / name).symlink_to(target)
    frames = read(tmp_path / "some")
    assert [s.name for s in frames] == [f"{tmp_path}/some/{name}" for name in ("a#0", "a#1", "b#0", "b#1")]
    assert detect_format(tmp_path / "links") == "deepmd"
    assert len(read(tmp_path / "links")) == 4
    (tmp_path / "link").symlink_to("store/b")
    assert len(read(tmp_path / "link")) == 2


def test_links_in_circles_and_to_nothing(tmp_path: Path) -> None:
    make_system(tmp_path / "all" / "b" / "system")
    (tmp_path / "all" / "a").symlink_to("b")
    (tmp_path / "all" / "b" / "up").symlink_to("..")
    (tmp_path / "all" / "b" / "system" / "itself").symlink_to(".")
    (tmp_path / "all" / "c").symlink_to("b/system")
    (tmp_path / "all" / "gone").symlink_to("nowhere")
    frames, said = read_with_notes(tmp_path / "all")
    assert [s.name for s in frames] == [f"{tmp_path}/all/b/system#{k}" for k in (0, 1)]
    assert "gone is a link to nothing" in said
    assert f"{tmp_path}/all/c and {tmp_path}/all/b/system are the same folder, read once" in said


def test_files_that_are_not_read_are_named(tmp_path: Path) -> None:
    make_system(tmp_path / "system", fparam=np.ones(2), atom_pref=np.ones((2, 3)))
    _, said = read_with_notes(tmp_path / "system")
    assert "not read in system/set.000: atom_pref.npy, fparam.npy" in said


def test_virial_without_a_cell(tmp_path: Path) -> None:
    make_system(tmp_path / "system", nopbc="", box=None, virial=np.zeros((2, 9)))
    frames, said = read_with_notes(tmp_path / "system")
    assert frames[0].labels == ("energy", "forces")
    assert "a virial of zeros without a cell is left out (2 frames" in said
    make_system(tmp_path / "other", nopbc="", box=None)
    with pytest.raises(InputError, match="a virial without a cell"):
        read(tmp_path / "other")


def test_text_systems_are_read(tmp_path: Path) -> None:
    make_system(tmp_path / "npy")
    text = tmp_path / "text"
    text.mkdir()
    for name in ("type.raw", "type_map.raw"):
        (text / name).write_bytes((tmp_path / "npy" / name).read_bytes())
    for array in sorted((tmp_path / "npy" / "set.000").glob("*.npy")):
        values = np.load(array)
        np.savetxt(text / f"{array.stem}.raw", values.reshape(len(values), -1), fmt="%.17g")
    frames, expected = read(text), read(tmp_path / "npy")
    assert len(frames) == len(expected)
    for a, b in zip(frames, expected, strict=True):
        assert_same(a, b)
    (text / "force.raw").write_text("1 2 3\n")
    with pytest.raises(InputError, match=r"force.raw has shape \(1, 3\)"):
        read(text)
