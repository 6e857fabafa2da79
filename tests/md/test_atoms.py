"""Masses and fixed atoms of the start: taken over into LAMMPS, or refused."""

from __future__ import annotations

import re

import numpy as np
import pytest
from argon import SMOOTH, crystal, needs_lammps, structure
from ase import Atoms
from ase.constraints import FixAtoms, FixBondLength, FixCartesian

from nnpkit.analysis.simulation import report
from nnpkit.cli.model_argument import read_start
from nnpkit.data.formats.reading import read, write
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.md.atoms import atom_types, fixed_atoms
from nnpkit.md.lammps import input_files
from nnpkit.md.lammps_run import lammps_command, prepare_folder, run_lammps
from nnpkit.md.simulation_settings import Simulation


def heavy_and_light() -> Structure:
    """HDO: two masses of one element."""
    positions = [[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]
    atoms = Atoms("OHH", positions, cell=np.eye(3) * 9, pbc=True)
    atoms.set_masses([15.999, 2.014, 1.008])
    return Structure.from_atoms(atoms, "hdo#0")


def test_each_mass_is_a_type() -> None:
    types, numbers = atom_types(heavy_and_light())
    assert types == [("H", 1.008), ("H", 2.014), ("O", 15.999)]
    assert numbers.tolist() == [3, 2, 1]
    files = input_files(Simulation(ensemble="nve"), heavy_and_light())
    assert re.search(r"pair_coeff +\* \* model.pt H H O\n", files["in.lammps"])
    assert "3 atom types" in files["structure.data"]
    assert "1 1.008000  # H\n2 2.014000  # H\n3 15.999000  # O" in files["structure.data"]
    assert "element H H O" in files["in.lammps"]


def test_masses_that_are_none_are_refused() -> None:
    for masses in ([1.0, -1.0, 1.0], [np.nan, 1.0, 1.0]):
        with pytest.raises(InputError, match="masses are not positive"):
            atom_types(heavy_and_light().replace(arrays={"masses": np.array(masses)}))


@pytest.mark.parametrize("name", ["start.xyz", "start.traj"])
def test_files_and_replicas_keep_masses_and_fixed_atoms(tmp_path, name) -> None:
    atoms = heavy_and_light().to_atoms()
    atoms.set_constraint(FixAtoms([0]))
    if name.endswith(".traj"):
        atoms.write(tmp_path / name)
    else:
        write(tmp_path / name, [Structure.from_atoms(atoms)])
    start = read_start(str(tmp_path / name), (2, 1, 1))
    assert start.arrays["masses"].tolist() == [15.999, 2.014, 1.008] * 2
    assert fixed_atoms(start).tolist() == [True, False, False] * 2


@pytest.mark.parametrize(
    ("constraint", "words"),
    [
        (FixBondLength(0, 1), "constraints [(]FixBondLength[s]?[)] that are not taken over"),
        (FixCartesian(0, mask=(True, False, False)), "atom 0 is fixed along some directions only"),
    ],
)
def test_other_constraints_are_refused(constraint, words) -> None:
    atoms = heavy_and_light().to_atoms()
    atoms.set_constraint(constraint)
    with pytest.raises(InputError, match=words):
        fixed_atoms(Structure.from_atoms(atoms, "hdo#0"))


def test_fixed_atoms_and_a_changing_cell_are_refused() -> None:
    start = heavy_and_light()
    start.arrays["move_mask"] = np.array([True, False, True])
    with pytest.raises(InputError, match="cannot be fixed where the cell changes"):
        input_files(Simulation(ensemble="npt"), start)
    start.arrays["move_mask"] = np.zeros(3, dtype=bool)
    with pytest.raises(InputError, match="all atoms are fixed"):
        input_files(Simulation(ensemble="nve"), start)


def argon_with_fixed_layer() -> Structure:
    start = structure(crystal(3, 0.02))
    start.arrays["move_mask"] = start.positions[:, 2] > 4.0
    start.arrays["masses"] = np.where(start.positions[:, 0] > 8.0, 80.0, 39.948)
    return start


@pytest.mark.parametrize("ensemble", ["nve", "nvt", "minimize"])
def test_fixed_atoms_stay_and_the_temperature_is_that_of_the_others(tmp_path, ensemble) -> None:
    needs_lammps()
    start = argon_with_fixed_layer()
    fixed = fixed_atoms(start)
    settings = Simulation(
        ensemble=ensemble,
        temperature=30.0,
        steps=200,
        timestep=2.0,
        every=1,
        dump_every=50,
        relax=ensemble == "nvt",
    )
    prepare_folder(tmp_path, input_files(settings, start, SMOOTH))
    reader = run_lammps(tmp_path, lammps_command(1))
    summary = report(tmp_path, settings, start, reader)
    frames = read(tmp_path / "trajectory.lammpstrj")
    moved = np.abs(frames[-1].positions - frames[0].positions).max(axis=1)
    assert moved[fixed].max() == 0.0
    assert moved[~fixed].min() > 0.0
    assert not reader.warnings
    if ensemble != "minimize":
        thermo = reader.thermo()
        freedom = 3 * int((~fixed).sum())
        expected = 2.0 * thermo["kinetic_energy_eV"] / (freedom * 8.617343e-5)  # LAMMPS' constant
        np.testing.assert_allclose(thermo["temperature_K"], expected, rtol=1e-6)
        assert thermo["temperature_K"][0] == pytest.approx(30.0)
        assert np.ptp(thermo["conserved_energy_eV"]) < 1e-3 * thermo["kinetic_energy_eV"].max()
        assert summary["energy_drift"] is not None
