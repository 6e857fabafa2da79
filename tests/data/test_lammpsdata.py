"""LAMMPS data files as start and as data: elements, masses, units, and the files that `nnpkit md` writes itself."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.lammps import convert
from typer.testing import CliRunner

from nnpkit.cli.main import app
from nnpkit.cli.model_argument import read_start
from nnpkit.data.formats.reading import detect_format, read, write
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.md.box import data_text

HEAD = "{first}\n\n3 atoms\n2 atom types\n\n0.0 9.0 xlo xhi\n0.0 8.0 ylo yhi\n0.0 7.0 zlo zhi\n0.5 0.0 0.0 xy xz yz\n"
MASSES = "\nMasses\n\n1 15.9994\n2 1.008\n"
ATOMS = "\nAtoms # atomic\n\n2 2 1.0 0.0 0.0\n1 1 0.0 0.0 0.5 0 0 1\n3 2 0.0 1.0 0.0\n"
FULL = "\nAtoms # full\n\n1 1 1 -0.8 0.0 0.0 0.5\n2 1 2 0.4 1.0 0.0 0.0\n3 1 2 0.4 0.0 1.0 0.0\n"


def file(tmp_path, *parts: str, first: str = "made by hand", name: str = "start.data"):
    path = tmp_path / name
    path.write_text(HEAD.format(first=first) + "".join(parts))
    return path


@pytest.mark.parametrize(
    "parts",
    [
        (MASSES, ATOMS),
        (MASSES, FULL),
        ("\nAtom Type Labels\n\n1 O\n2 H\n", ATOMS),
        ("\nAtom Type Labels\n\n1 O\n2 H\n", "\nMasses\n\nO 15.9994\nH 1.008\n", ATOMS),
        ("\nMasses\n\n1 50.0 # O\n2 1.0 # H\n", ATOMS),
    ],
)
@pytest.mark.parametrize("name", ["start.data", "start.lmp", "anything"])
def test_elements_and_geometry(tmp_path, parts, name) -> None:
    path = file(tmp_path, *parts, name=name)
    assert detect_format(path) == "lammps-data"
    structure = read(path)[0]
    assert structure.symbols == ["O", "H", "H"]
    np.testing.assert_allclose(structure.cell, [[9, 0, 0], [0.5, 8, 0], [0, 0, 7]])
    wrapped = structure.positions - np.round(structure.positions / 7.0) * 7.0 * [0, 0, 1]
    np.testing.assert_allclose(wrapped, [[0, 0, 0.5], [1, 0, 0], [0, 1, 0]], atol=1e-12)
    assert structure.pbc.all()


def test_heavy_hydrogen_and_its_mass(tmp_path) -> None:
    structure = read(file(tmp_path, MASSES.replace("1.008", "2.014"), ATOMS))[0]
    assert structure.symbols == ["O", "H", "H"]
    assert structure.arrays["masses"].tolist() == [15.9994, 2.014, 2.014]


def test_units(tmp_path) -> None:
    """Lengths and velocities are those of the units that the file states, or the user."""
    velocities = "\nVelocities\n\n1 0 0 0\n2 1 0 0\n3 0 0 0\n"
    stated = read(file(tmp_path, MASSES, ATOMS, velocities, first="LAMMPS data file, units = real"))[0]
    assert stated.arrays["velocities"][1, 0] == pytest.approx(1.0)  # Å/fs
    metal = read(file(tmp_path, MASSES, ATOMS, velocities))[0]
    assert metal.arrays["velocities"][1, 0] == pytest.approx(1e-3)
    bohr = read(file(tmp_path, MASSES, ATOMS), units="electron")[0]
    assert bohr.cell[0, 0] == pytest.approx(convert(9.0, "distance", "electron", "ASE"))


@pytest.mark.parametrize(
    ("parts", "options", "words"),
    [
        ((ATOMS,), {}, "element of atom type 1 is unknown.*--species"),
        (("\nMasses\n\n1 1000.0\n2 1.0\n", ATOMS), {}, "element of atom type 1 is unknown"),
        ((ATOMS,), {"species": ["O"]}, "expected 2 elements"),
        ((ATOMS,), {"species": ["O", "Q"]}, "expected 2 elements"),
        ((MASSES, ATOMS), {"units": "lj"}, "units 'lj'"),
        ((MASSES, ATOMS.replace("1.0 0.0 0.0", "1.0 0.0")), {}, "ASE cannot read it"),
    ],
)
def test_what_is_refused(tmp_path, parts, options, words) -> None:
    with pytest.raises(InputError, match=words):
        read(file(tmp_path, *parts), "lammps-data", **options)


def test_species_name_the_types(tmp_path) -> None:
    path = file(tmp_path, ATOMS)
    assert read_start(str(path), species=["O", "H"]).symbols == ["O", "H", "H"]
    result = CliRunner().invoke(app, ["convert", str(path), str(tmp_path / "a.xyz"), "--species", "S H"])
    assert result.exit_code == 0, result.stderr
    assert read(tmp_path / "a.xyz")[0].symbols == ["S", "H", "H"]
    with pytest.raises(InputError, match="species do not apply"):
        read(tmp_path / "a.xyz", species=["O"])


def test_our_own_data_files_are_read_back(tmp_path) -> None:
    atoms = bulk("NaCl", "rocksalt", a=5.6).repeat(2)
    atoms.rattle(0.1, seed=1)
    given = Structure.from_atoms(atoms)
    (tmp_path / "structure.data").write_text(data_text(given, ["Cl", "Na"]))
    found = read(tmp_path / "structure.data")[0]
    assert found.symbols == given.symbols
    np.testing.assert_allclose(
        found.to_atoms().get_all_distances(mic=True), atoms.get_all_distances(mic=True)
    )


def test_what_is_written_has_elements(tmp_path) -> None:
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    write(tmp_path / "out.lmp", [Structure.from_atoms(atoms)], "lammps-data")
    assert sorted(read(tmp_path / "out.lmp")[0].symbols) == sorted(atoms.symbols)


@pytest.mark.parametrize("name", ["start.vasp", "POSCAR", "POSCAR_1", "CONTCAR"])
def test_poscar_files_of_any_name(tmp_path, name) -> None:
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    atoms.write(tmp_path / name, format="vasp")
    assert read_start(str(tmp_path / name)).symbols == list(atoms.symbols)
