"""``input.data`` of RuNNer and n2p2."""

from __future__ import annotations

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from data_tools import assert_same, real_data, structures, water
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnpkit.data.formats.reading import read, write
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.units import BOHR, HARTREE

FRAME = """begin
comment made by hand
comment second line
lattice 10.0 0.0 0.0
lattice 1.0 10.0 0.0
lattice 0.0 0.0 10.0
atom 0.0 0.0 0.0 H 0.25 0.0 0.1 0.0 0.0
atom 0.0 0.0 1.4 H -0.25 0.0 -0.1 0.0 0.0
energy -1.1
charge 0.5
end
"""


def file(folder: Path, text: str, name: str = "input.data") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_units_are_bohr_and_hartree_unless_told_otherwise(tmp_path: Path) -> None:
    path = file(tmp_path, FRAME)
    (atomic,), (other,) = read(path), read(path, units="angstrom-ev")
    np.testing.assert_array_equal(other.cell, [[10, 0, 0], [1, 10, 0], [0, 0, 10]])
    np.testing.assert_allclose(atomic.positions, other.positions * BOHR, rtol=1e-15)
    np.testing.assert_allclose(atomic.cell, other.cell * BOHR, rtol=1e-15)
    np.testing.assert_allclose(atomic.forces, other.forces * HARTREE / BOHR, rtol=1e-15)
    assert atomic.energy == pytest.approx(-1.1 * HARTREE, rel=1e-15)
    assert (other.energy, other.total_charge) == (-1.1, 0.5)
    for structure in (atomic, other):
        np.testing.assert_array_equal(structure.charges, [0.25, -0.25])
        assert structure.info == {"comment": "made by hand\nsecond line"}
        assert structure.name == f"{path}#0"


def test_cluster_without_charges(tmp_path: Path) -> None:
    text = "".join(line + "\n" for line in FRAME.splitlines() if not line.startswith(("lattice", "comment")))
    (structure,) = read(file(tmp_path, text.replace("0.25", "0.0")))
    assert structure.labels == ("energy", "forces")
    assert not structure.pbc.any()
    assert structure.volume == 0.0


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(structures(), min_size=1, max_size=3), st.sampled_from(["angstrom-ev", "bohr-hartree"]))
def test_round_trip(tmp_path: Path, frames: list[Structure], units: str) -> None:
    path = tmp_path / "input.data"
    write(path, frames, units=units)
    for frame, back in zip(frames, read(path, units=units), strict=True):
        assert_same(frame, back, relative=0.0 if units == "angstrom-ev" else 1e-15)


def test_own_comment_only_where_the_format_has_no_place(tmp_path: Path) -> None:
    plain = water().replace(stress=None, total_charge=0.0)
    write(tmp_path / "input.data", [plain])
    assert "nnpkit" not in (tmp_path / "input.data").read_text()
    write(tmp_path / "input.data", [plain.replace(forces=None)])
    (line,) = [x for x in (tmp_path / "input.data").read_text().splitlines() if "nnpkit" in x]
    assert json.loads(line.removeprefix("comment nnpkit ")) == {"labels": ["energy", "total_charge"]}


def test_same_as_ase(tmp_path: Path) -> None:
    """ASE's own reader, with its slightly older constants."""
    path = file(tmp_path, FRAME)
    atoms = ase.io.read(path, format="runnerdata")
    (structure,) = read(path)
    np.testing.assert_allclose(structure.positions, atoms.positions, rtol=1e-8)
    np.testing.assert_allclose(structure.cell, atoms.cell.array, rtol=1e-8)
    np.testing.assert_allclose(structure.forces, atoms.get_forces(), rtol=1e-7)
    assert structure.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-7)


def test_named_columns_of_runner_2(tmp_path: Path) -> None:
    text = "begin position(3) element force(3) charge\natom 0 0 0 He 1 2 3 0.5\nenergy -2\nend\n"
    (structure,) = read(file(tmp_path, text), units="angstrom-ev")
    np.testing.assert_array_equal(structure.forces, [[1, 2, 3]])
    np.testing.assert_array_equal(structure.charges, [0.5])
    assert structure.total_charge is None


def test_compressed_and_several(tmp_path: Path) -> None:
    write(tmp_path / "input.data.xz", [water(), water(energy=-13.0)])
    assert [s.energy for s in read(tmp_path / "input.data.xz", units="bohr-hartree")] == pytest.approx(
        [-14.2, -13.0]
    )
    assert len(read(tmp_path)) == 2  # the folder stands for it


def test_real_frames() -> None:
    """n2p2's own example frames against the copies that were converted independently."""
    frames = read(real_data("oracles", "n2p2_H2O_RPBE-D3", "frames_input.data"))
    converted = {s.energy: s for s in read(real_data("n2p2_examples", "H2O_RPBE-D3_20.xyz.xz"))}
    for frame in frames:
        same = converted[min(converted, key=lambda energy: abs(energy - frame.energy))]
        np.testing.assert_allclose(frame.positions, same.positions, atol=6e-9)
        np.testing.assert_allclose(frame.forces, same.forces, atol=6e-9)
        np.testing.assert_allclose(frame.cell, same.cell, rtol=1e-14)
        assert frame.energy == pytest.approx(same.energy, rel=1e-14)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (FRAME.replace("end\n", ""), r"line 10 \(frame 0\)|begins at line 1; expected end"),
        (FRAME + "begin\natom 0 0 0 H\n", "line 13: the file ends within the frame that begins at line 12"),
        (FRAME.replace("end", "begin"), r"line 11 \(frame 0\): begin within the frame that begins at line 1"),
        (FRAME.replace("begin", "start"), "line 1 .*: found 'start' outside a frame; expected begin"),
        (
            FRAME.replace("energy", "enrgy"),
            r"line 9 \(frame 0\): unknown keyword 'enrgy'; expected atom, lattice",
        ),
        (FRAME.replace("-1.1", "low"), "line 9 .*: 'low' is not a number"),
        (FRAME.replace("-1.1", "nan"), "#0: energy is nan"),
        (FRAME.replace("1.4", "1.4a"), "line 8: '1.4a' is not a number"),
        (FRAME.replace(" -0.1 0.0 0.0", " -0.1"), "line 8: 7 columns; expected 9 as on the other atom lines"),
        (FRAME.replace("atom 0.0 0.0 0.0 H", "atom 0.0 0.0"), "line 7: .*"),
        (FRAME.replace("lattice 1.0 10.0 0.0\n", ""), "2 lattice lines; expected three or none"),
        (FRAME.replace("lattice 1.0 10.0 0.0", "lattice 20.0 0.0 0.0"), "the cell is degenerate"),
        ("begin\nenergy 1\nend\n", "the frame has no atoms"),
        (FRAME.replace(" H ", " Hh "), "'Hh' .atom 0. is no chemical element"),
        (FRAME.replace("comment made by hand", "comment nnpkit {"), "nnpkit's comment line is damaged"),
        (FRAME.replace("begin", "begin position[3]"), "the column 'position.3.' is not understood"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    path = file(tmp_path, text)
    with pytest.raises(InputError, match=message) as failure:
        read(path, "runner")
    assert "\n" not in str(failure.value)
    assert str(path) in str(failure.value)
