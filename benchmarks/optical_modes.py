"""LO-TO splitting of NaCl with phonopy, and how far two ions feel each other: what a cutoff cannot give.

    python benchmarks/latent_charges.py --epochs 3 --folder FOLDER
    python benchmarks/optical_modes.py FOLDER             # needs phonopy: pip install nnpkit[report]

Of the potentials that `latent_charges.py` has left in a folder and of its reference, which has charges of +1 and -1:
frequencies (THz) of longitudinal and transverse optical modes along [100] at 1/8, 1/4 and 1/2 of the way to the zone
boundary, from phonopy's dynamical matrix of a supercell of 8 x 1 x 1 cubic cells, whose wave vectors these are; and at
the zone centre by phonopy's non-analytic correction of a 2 x 2 x 2 supercell, with effective charges from the dipole of
an ion that is displaced (no field but that of ions acts, so that the dielectric constant is 1). Without charges there
is nothing to correct and no splitting. Beside them a pair of ions in vacuum: the force between them at 8, 16 and 32 Å
times the square of the distance, in units of that of the reference, 1 everywhere. The last line is ``RESULT {json}``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.data import atomic_masses, atomic_numbers
from latent_charges import LATTICE, Forces, reference
from phonopy import Phonopy
from phonopy.structure.atoms import PhonopyAtoms

import nnpkit
from nnpkit.deploy.load import LoadedModel
from nnpkit.models.short_range import COULOMB

STEP = 0.01  # Å
WAVES = (0.125, 0.25, 0.5)
DISTANCES = (8.0, 16.0, 32.0)  # Å


def supercell(forces: Forces, repeat: tuple[int, int, int]) -> Phonopy:
    """Force constants of rock salt in a supercell of cubic cells."""
    cubic = bulk("NaCl", "rocksalt", a=LATTICE, cubic=True)
    unit = PhonopyAtoms(
        symbols=cubic.get_chemical_symbols(), cell=cubic.cell.array, scaled_positions=cubic.get_scaled_positions(),
        masses=[atomic_masses[atomic_numbers[e]] for e in cubic.get_chemical_symbols()],
    )  # fmt: skip
    phonon = Phonopy(unit, np.diag(repeat), primitive_matrix="F", log_level=0)
    phonon.generate_displacements(distance=STEP)
    phonon.forces = [
        forces(Atoms(one.symbols, cell=one.cell, scaled_positions=one.scaled_positions, pbc=True))
        for one in phonon.supercells_with_displacements
    ]
    phonon.produce_force_constants()
    return phonon


def optical(phonon: Phonopy, part: float, toward: np.ndarray | None = None) -> tuple[float, float]:
    """LO and TO, THz, at `part` of the way along [100] to the zone boundary; at 0 as from the direction `toward`."""
    cell = phonon.primitive.cell
    wave = cell @ np.array([part / LATTICE, 0.0, 0.0])
    phonon.run_qpoints([wave], with_eigenvectors=True, nac_q_direction=toward)
    found = phonon.get_qpoints_dict()
    along = (np.abs(found["eigenvectors"][0].reshape(-1, 3, 6)[:, 0, :]) ** 2).sum(0) > 0.5
    frequencies = found["frequencies"][0]
    return float(frequencies[along].max()), float(frequencies[~along].max())


def effective_charge(model: LoadedModel | None) -> float:
    """Change (e) of the dipole with the place of a sodium ion, the charges of all others following it."""
    if model is None:
        return 1.0
    atoms = bulk("NaCl", "rocksalt", a=LATTICE, cubic=True).repeat(2)
    found, charges = [], np.array(model.predict(atoms).charges)
    for sign in (1.0, -1.0):
        moved = atoms.copy()
        moved.positions[0, 0] += sign * STEP
        found.append(np.array(model.predict(moved).charges))
    apart = np.array(atoms.get_distances(0, np.arange(len(atoms)), mic=True, vector=True))[:, 0]
    inside = np.abs(apart) < LATTICE - 1e-6  # half of the cell away is on both sides
    change = (found[0] - found[1]) / (2.0 * STEP)
    return float(charges[0] + (apart * change)[inside].sum())


def tail(forces: Forces) -> list[float]:
    """Attraction of Na and Cl in vacuum times the square of their distance, relative to charges of +1 and -1."""
    found = []
    for distance in DISTANCES:
        atoms = Atoms("NaCl", [[0.0, 0.0, 0.0], [distance, 0.0, 0.0]])
        found.append(float(forces(atoms)[0, 0] * distance**2 / COULOMB))
    return found


def measured(forces: Forces, model: LoadedModel | None, charged: bool) -> dict[str, object]:
    """All numbers of one potential."""
    long, cube = supercell(forces, (8, 1, 1)), supercell(forces, (2, 2, 2))
    result: dict[str, object] = {}
    for part in WAVES:
        result[f"LO, TO at {part:g}"] = [round(value, 3) for value in optical(long, part)]
    toward = None
    if charged:
        born = effective_charge(model)
        result["effective charge"] = round(born, 4)
        signs = [born if symbol == "Na" else -born for symbol in cube.primitive.symbols]
        cube.nac_params = {
            "born": np.array([sign * np.eye(3) for sign in signs]), "dielectric": np.eye(3), "factor": COULOMB,
        }  # fmt: skip
        toward = cube.primitive.cell @ np.array([1.0, 0.0, 0.0])
    result["LO, TO at 0"] = [round(value, 3) for value in optical(cube, 0.0, toward)]
    if model is not None:
        result["tail"] = [round(value, 12) for value in tail(forces)]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="of `latent_charges.py --folder`")
    folder = parser.parse_args().folder
    result = {}
    with tempfile.TemporaryDirectory() as scratch:
        result["reference"] = measured(reference(Path(scratch)), None, charged=True)
    print("reference", result["reference"], flush=True)
    for run in sorted(path.parent for path in folder.glob("*/model.pt")):
        model = nnpkit.load(str(run))

        def forces(atoms: Atoms, model: LoadedModel = model) -> np.ndarray:
            return np.array(model.predict(atoms).forces)

        charged = model.predict(bulk("NaCl", "rocksalt", a=LATTICE)).charges is not None
        result[run.name] = measured(forces, model, charged)
        print(run.name, result[run.name], flush=True)
    print("RESULT", json.dumps(result))


if __name__ == "__main__":
    main()
