"""Self-interstitials of a crystal of one element: an atom in a hole, or two that share a place."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nnpkit.analysis.properties.defects import optimise, require_element, supercell
from nnpkit.data.structure import Structure

__all__ = ["Interstitial", "holes", "interstitials"]

DUMBBELLS = ((1, 0, 0), (1, 1, 0), (1, 1, 1))
"""Directions in the axes of the cell along which two atoms share a place."""
_SAME = 1e-3  # Å, by which the neighbours of two holes of one kind may differ
_SHELL = 12  # neighbours that tell kinds of holes apart
_CROWDED = 0.45  # of the nearest distance; holes are not nearer than that to an atom
_APART = 0.8  # of the nearest distance, between the atoms of a dumbbell


@dataclass
class Interstitial:
    """One atom more in a crystal at constant volume, all relaxed."""

    kind: str  # "hole at 0.5 0.5 0.5" or "dumbbell 100"
    energy: float  # of formation, eV
    unrelaxed: float  # the same before atoms move, eV
    moved: float  # Å, the farthest that an atom went
    n_atoms: int  # of the perfect supercell


def holes(structure: Structure) -> list[np.ndarray]:
    """Where an atom has room: corners of Voronoi cells, one of each kind by its distances to atoms, the widest first.

    Parameters
    ----------
    structure : Structure
        Periodic in three directions.

    Returns
    -------
    list of (3,) array
        Fractional coordinates.
    """
    from scipy.spatial import Voronoi, cKDTree

    shifts = np.stack(np.meshgrid(*[[-2, -1, 0, 1, 2]] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    atoms = (structure.positions[None] + (shifts @ structure.cell)[:, None]).reshape(-1, 3)
    tree = cKDTree(atoms)
    nearest = float(tree.query(structure.positions, k=2)[0][:, 1].min())
    fractional = np.linalg.solve(structure.cell.T, Voronoi(atoms).vertices.T).T
    corners = fractional[np.all((fractional > -1e-6) & (fractional < 1.0 - 1e-6), axis=1)]
    distances = tree.query(corners @ structure.cell, k=min(_SHELL, len(atoms)))[0]
    found: list[np.ndarray] = []
    known: list[np.ndarray] = []
    for k in np.argsort(-distances[:, 0], kind="stable"):
        crowded = distances[k, 0] < _CROWDED * nearest
        if crowded or any(np.abs(distances[k] - other).max() < _SAME for other in known):
            continue
        found.append(corners[k] % 1.0)
        known.append(distances[k])
    return found


def interstitials(structure: Structure, calculator: Any, extent: float = 10.0) -> list[Interstitial]:
    """Formation energies of interstitials in a crystal of one element, the most stable first.

    ``E(N + 1) - (N + 1)/N E(N)``, at constant volume, the atoms relaxed. An interstitial that is not stable relaxes
    into another one, whose energy it then has.

    Parameters
    ----------
    structure : Structure
        At rest.
    calculator : ase.calculators.calculator.Calculator
        Of forces.
    extent : float
        Å; the supercell is at least that wide.

    Raises
    ------
    InputError
        If there are several elements, or an interstitial does not come to rest.
    """
    require_element(structure, "interstitial")
    perfect = supercell(structure, extent)
    perfect.calc = calculator
    whole, number = float(perfect.get_potential_energy()), len(perfect)
    left = whole * (number + 1) / number
    spacing = float(np.sort(perfect.get_distances(0, range(1, number), mic=True))[0])
    starts = [
        (f"hole at {' '.join(f'{abs(x):.3g}' for x in np.round(at, 4) % 1.0)}", at @ structure.cell)
        for at in holes(structure)
    ]
    starts += [(f"dumbbell {''.join(map(str, way))}", np.array(way)) for way in DUMBBELLS]
    found = []
    for kind, where in starts:
        atoms = perfect.copy()
        if kind.startswith("dumbbell"):
            along = where @ structure.cell
            step = along / np.linalg.norm(along) * _APART * spacing / 2.0
            atoms.append(atoms[0].symbol)
            atoms.positions[-1] = atoms.positions[0] + step
            atoms.positions[0] -= step
        else:
            atoms.append(atoms[0].symbol)
            atoms.positions[-1] = where
        atoms.calc = calculator
        first, before = float(atoms.get_potential_energy()) - left, atoms.positions.copy()
        last = optimise(atoms, f"{structure.name}, {kind}") - left
        moved = float(np.linalg.norm(atoms.positions - before, axis=1).max())
        found.append(Interstitial(kind, last, first, moved, number))
    return sorted(found, key=lambda one: one.energy)
