"""The registry: detection, names, units, frames, ASE's formats."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from data_tools import assert_same, emt_copper, water

from nnpkit.data.formats.reading import detect_format, parse_frames, read, write
from nnpkit.data.formats.registered import FORMATS
from nnpkit.data.notes import DataWarning
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.units import BOHR, HARTREE

AENET = """# total energy = -19960.5 eV

CRYSTAL
PRIMVEC
  5.0 0.0 0.0
  0.0 6.0 0.0
  0.0 0.5 7.0
PRIMCOORD
2 1
Ti  0.0 0.0 0.0   0.1 0.0 -0.2
8   1.0 1.0 1.9  -0.1 0.0 0.2
"""

VASPRUN = """<?xml version="1.0" encoding="ISO-8859-1"?>
<modeling>
 <atominfo><array name="atoms"><set><rc><c>Cu</c><c>1</c></rc></set></array></atominfo>
 <kpoints><varray name="kpointlist"><v>0 0 0</v></varray><varray name="weights"><v>1</v></varray></kpoints>
 <structure name="initialpos">
  <crystal><varray name="basis"><v>2 0 0</v><v>0 2 0</v><v>0 0 2</v></varray></crystal>
  <varray name="positions"><v>0 0 0</v></varray>
 </structure>
 <calculation>
  <scstep><energy>
   <i name="e_fr_energy"> -3.60 </i><i name="e_wo_entrp"> -3.70 </i><i name="e_0_energy"> -3.65 </i>
  </energy></scstep>
  <structure>
   <crystal><varray name="basis"><v>2 0 0</v><v>0 2 0</v><v>0 0 2</v></varray></crystal>
   <varray name="positions"><v>0 0 0</v></varray>
  </structure>
  <varray name="forces"><v>0 0 0</v></varray>
  <varray name="stress"><v>1602.1766 0 0</v><v>0 -1602.1766 0</v><v>0 0 0</v></varray>
  <energy><i name="e_fr_energy"> -3.60 </i><i name="e_wo_entrp"> -3.70 </i><i name="e_0_energy"> -3.65 </i></energy>
 </calculation>
</modeling>
"""


def file(folder: Path, text: str, name: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.xyz", "1\n\nH 0 0 0\n", "extxyz"),
        ("a.extxyz", "1\n\nH 0 0 0\n", "extxyz"),
        ("frames", "1\n\nH 0 0 0\n", "extxyz"),
        ("input.data", "begin\n", "runner"),
        ("input.data.Cu2S", "# made by\nbegin\n", "runner"),
        ("training.txt", "\nbegin\natom 0 0 0 H\n", "runner"),
        ("POSCAR", "Cu\n1.0\n", "vasp"),
        ("vasprun.xml", VASPRUN, "vasp-xml"),
        ("OUTCAR", " vasp.6.4.2\n", "vasp-out"),
        ("a.cif", "data_x\n", "cif"),
        ("a.xsf", AENET, "aenet"),
        ("b.xsf", AENET.replace("# total", "# no"), "xsf"),
    ],
)
def test_detection(tmp_path: Path, name: str, text: str, expected: str) -> None:
    assert detect_format(file(tmp_path, text, name)) == expected


def test_what_is_not_recognised(tmp_path: Path) -> None:
    path = file(tmp_path, "Lorem ipsum\n", "letter.docx")
    with pytest.raises(InputError, match=r"format is not recognised; expected extxyz, runner, deepmd, aenet"):
        read(path)
    (tmp_path / "empty folder").mkdir()
    with pytest.raises(InputError, match="not recognised"):
        read(tmp_path / "empty folder")


def test_missing_files_are_named_with_their_neighbours(tmp_path: Path) -> None:
    for name in ("train.xyz.xz", "test.xyz.xz", "notes"):
        (tmp_path / name).touch()
    with pytest.raises(InputError, match=r"trian.xyz.xz: no such file. Did you mean train.xyz.xz or test"):
        read(tmp_path / "trian.xyz.xz")
    with pytest.raises(InputError, match=r"no such file. Did you mean train.xyz.xz"):
        read(tmp_path / "train")
    with pytest.raises(InputError, match=r"Nothing in .* has a similar name"):
        read(tmp_path / "qqqq")
    with pytest.raises(InputError, match="There is no folder"):
        read(tmp_path / "none" / "a.xyz")


@pytest.mark.parametrize("name", ["a.xyz", "input.data", "vasprun.xml", "a.traj", "POSCAR"])
def test_empty_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: the file is empty"):
        read(file(tmp_path, "", name))


def test_names_of_formats(tmp_path: Path) -> None:
    path = file(tmp_path, "1\n\nH 0 0 0\n", "a")
    assert len(read(path, "xyz")) == 1
    with pytest.raises(
        InputError, match=r"unknown format 'extxzy'; expected extxyz, runner.*Did you mean extxyz\?"
    ):
        read(path, "extxzy")
    with pytest.raises(InputError, match="unknown format 'mysql'"):
        read(path, "mysql")
    with pytest.raises(InputError, match="deepmd is a folder"):
        read(path, "deepmd")
    with pytest.raises(InputError, match="extxyz is a file"):
        read(tmp_path, "extxyz")


def test_units_of_files_that_do_not_say(tmp_path: Path) -> None:
    write(tmp_path / "a.xyz", [water()])
    (structure,) = read(tmp_path / "a.xyz", units="bohr-hartree")
    assert structure.energy == pytest.approx(-14.2 * HARTREE, rel=1e-15)
    np.testing.assert_allclose(structure.positions, water().positions * BOHR, rtol=1e-15)
    np.testing.assert_allclose(structure.forces, water().forces * HARTREE / BOHR, rtol=1e-15)
    # the virial is an energy, whatever the length
    np.testing.assert_allclose(structure.virial, water().virial * HARTREE, rtol=1e-14)
    with pytest.raises(InputError, match="unknown units 'furlong'; expected angstrom-ev or bohr-hartree"):
        read(tmp_path / "a.xyz", units="furlong")
    with pytest.raises(InputError, match="units do not apply to vasp-xml"):
        read(file(tmp_path, VASPRUN, "vasprun.xml"), units="bohr-hartree")


@pytest.mark.parametrize(
    ("frames", "expected"),
    [("0:3", [0, 1, 2]), ("::4", [0, 4, 8]), (5, [5]), ("-1", [9]), ("-2:", [8, 9]), (None, list(range(10)))],
)
def test_frames(tmp_path: Path, frames: str | int | None, expected: list[int]) -> None:
    write(tmp_path / "a.xyz", [water(energy=-float(k)) for k in range(10)])
    structures = read(tmp_path / "a.xyz", frames=frames)
    assert [s.energy for s in structures] == [-k for k in expected]
    assert [s.name.rpartition("#")[2] for s in structures] == [str(k) for k in expected]


def test_bad_frames(tmp_path: Path) -> None:
    for frames in ("a:b", "1:2:3:4", "", "1.5"):
        with pytest.raises(InputError, match="is not understood; expected start:stop:step"):
            parse_frames(frames)
    write(tmp_path / "a.xyz", [water()])
    with pytest.raises(InputError, match="frames 3 selects none of 1 frames"):
        read(tmp_path / "a.xyz", frames="3")


def test_frames_can_leave_out_a_bad_one(tmp_path: Path) -> None:
    text = "1\nenergy=nan\nH 0 0 0\n1\nenergy=1\nH 0 0 0\n"
    assert read(file(tmp_path, text, "a.xyz"), frames="1:")[0].energy == 1.0


def test_aenet_xsf(tmp_path: Path) -> None:
    (structure,) = read(file(tmp_path, AENET, "a.xsf"))
    assert structure.symbols == ["Ti", "O"]
    assert structure.energy == -19960.5
    assert structure.pbc.all()
    np.testing.assert_array_equal(structure.cell, [[5, 0, 0], [0, 6, 0], [0, 0.5, 7]])
    np.testing.assert_array_equal(structure.forces, [[0.1, 0, -0.2], [-0.1, 0, 0.2]])
    cluster = "# total energy = 1.0 eV\nATOMS\nH 0 0 0 0 0 1\nH 0 0 0.7 0 0 -1\n"
    file(tmp_path, cluster, "b.xsf")
    both = read(tmp_path)  # a folder of them, by name
    assert [s.n_atoms for s in both] == [2, 2]
    assert not both[1].pbc.any()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (AENET.rsplit("\n", 2)[0], "ends after 1 of 2 lines"),
        (AENET.replace("1.9", "1.9x"), "line 11: .* is not understood"),
        (AENET.replace("-19960.5", "low"), "the total energy 'low' is not a number"),
        (AENET.replace("PRIMCOORD", "COORD"), "neither PRIMCOORD nor ATOMS"),
        (AENET.replace("\n2 1\n", "\ninf 1\n"), "'inf' after PRIMCOORD; expected the number of atoms"),
        (AENET.replace("-0.1 0.0 0.2", "-0.1"), "line 11: 5 columns; expected 7"),
    ],
)
def test_bad_aenet_files(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(file(tmp_path, text, "a.xsf"))


def test_vasprun(tmp_path: Path) -> None:
    """The free energy, which the forces belong to; VASP's kbar with the opposite sign become ASE's stress."""
    with pytest.warns(DataWarning, match="up to 50 meV/atom away, are energy_sigma0"):
        (structure,) = read(file(tmp_path, VASPRUN, "vasprun.xml"))
    assert structure.energy == -3.60
    assert structure.info == {"energy_sigma0": pytest.approx(-3.65)}
    np.testing.assert_allclose(structure.stress, np.diag([-1.0, 1.0, 0.0]), atol=1e-6)
    assert read(tmp_path / "vasprun.xml", keys={"energy": "energy"})[0].energy == pytest.approx(-3.65)


@pytest.mark.parametrize("cut", [0.1, 0.3])
def test_truncated_vasprun(tmp_path: Path, cut: float) -> None:
    path = file(tmp_path, VASPRUN[: int(len(VASPRUN) * cut)], "vasprun.xml")
    with pytest.raises(InputError) as failure:
        read(path)
    assert "\n" not in str(failure.value)
    assert str(path) in str(failure.value)


def test_trajectory_of_ase(tmp_path: Path) -> None:
    frames = emt_copper(n=3, rattle=0.05)
    ase.io.write(tmp_path / "a.traj", [s.to_atoms() for s in frames])
    for frame, back in zip(frames, read(tmp_path / "a.traj"), strict=True):
        assert_same(frame, back)


def test_forces_are_those_without_constraints(tmp_path: Path) -> None:
    from ase.constraints import FixAtoms

    atoms = bulk("Cu", cubic=True)
    atoms.set_constraint(FixAtoms([0]))
    atoms.calc = SinglePointCalculator(atoms, energy=0.0, forces=np.ones((4, 3)))
    assert Structure.from_atoms(atoms).forces[0].tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("name", ["a.traj", "a.json", "POSCAR", "a.cif"])
def test_writing_what_ase_writes(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, emt_copper(n=1))
    assert [p.name for p in tmp_path.iterdir()] == [name]
    (back,) = read(tmp_path / name)
    assert back.volume == pytest.approx(emt_copper(n=1)[0].volume, rel=1e-5)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    for arguments, message in [
        ({"path": "a.xyz", "structures": []}, "no structures to write"),
        ({"path": "a.xsf", "format": "aenet"}, "aenet can be read but not written"),
        ({"path": "a.xyz", "format": "xzy"}, "unknown format"),
        ({"path": "a.docx"}, "not recognised"),
        ({"path": "a.xyz", "units": "bohr-hartree"}, "written in Å and eV only"),
        ({"path": "POSCAR", "structures": [water(), water()]}, "vasp holds one structure, not 2"),
    ]:
        given = {"structures": [water()], **arguments}
        with pytest.raises(InputError, match=message):
            write(tmp_path / given.pop("path"), **given)
    assert list(tmp_path.iterdir()) == []


def test_formats_convert_into_each_other(tmp_path: Path) -> None:
    frames = emt_copper(n=2, rattle=0.1)
    for name in ("a.xyz", "input.data.xz", "deepmd"):
        write(tmp_path / name, frames)
        frames = read(tmp_path / name)
    for frame, original in zip(frames, emt_copper(n=2, rattle=0.1), strict=True):
        assert_same(frame, original, relative=1e-15)


def test_every_format_is_described() -> None:
    for name in FORMATS:
        assert name == name.lower()
        assert FORMATS.get(name).description
