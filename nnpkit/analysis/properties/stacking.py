"""Stacking faults of face-centred cubic crystals: what it costs to slide half of the crystal along [11-2]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nnpkit.analysis.properties.defects import J_PER_M2, optimise, require_element
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

__all__ = ["StackingFault", "require_fcc", "stacking_fault"]

_TOLERANCE = 0.02  # of a length


@dataclass
class StackingFault:
    """Energies of a (111) plane of an fcc crystal along the path of a partial dislocation."""

    displacements: np.ndarray  # (K,) of the Burgers vector of a partial, a/sqrt(6): 0 to 1
    energies: np.ndarray  # (K,) mJ/m², atoms relaxed along the normal
    unrelaxed: np.ndarray  # (K,) mJ/m²
    unstable: float  # the highest between, mJ/m²
    intrinsic: float  # at 1: the intrinsic stacking fault, mJ/m²
    n_atoms: int  # of the cell


def require_fcc(structure: Structure) -> float:
    """The lattice constant of a face-centred cubic crystal, Å.

    Raises
    ------
    InputError
        If it is none: an atom has other neighbours than twelve at one distance and six at √2 of it.
    """
    from ase.neighborlist import neighbor_list

    require_element(structure, "stacking fault")
    atoms = structure.to_atoms()
    nearest = (np.sqrt(2.0) * structure.volume / structure.n_atoms) ** (1.0 / 3.0)
    centers, distances = neighbor_list("id", atoms, 1.65 * nearest)
    shells = np.array([1.0, np.sqrt(2.0)])
    for atom in range(len(atoms)):
        seen = distances[centers == atom] / nearest
        counts = [int(np.sum(np.abs(seen - shell) < _TOLERANCE)) for shell in shells]
        if counts != [12, 6] or len(seen) != 18:
            raise InputError(
                "a stacking fault here is one of an fcc crystal, and this is another", where=structure.name,
                expected="twelve neighbours of every atom at one distance, six at 1.414 of it, none up to 1.65",
                hint="leave stacking out of --what",
            )  # fmt: skip
    return float(np.sqrt(2.0) * nearest)


def stacking_fault(
    structure: Structure, calculator: Any, layers: int = 12, points: int = 11
) -> StackingFault:
    """Energies of a crystal cut along (111) whose upper half has slid along [11-2] by up to a partial's Burgers vector.

    The cell of `layers` planes is sheared from above, so that it has one fault and no surface. Atoms relax along the
    normal of the plane and the cell keeps its height.

    Parameters
    ----------
    structure : Structure
        Face-centred cubic, at rest.
    calculator : ase.calculators.calculator.Calculator
        Of forces.
    layers : int
        A multiple of three.
    points : int
        Displacements, 0 and 1 among them.

    Raises
    ------
    InputError
        If the crystal is not fcc, or does not come to rest.
    """
    from ase.build import bulk, make_supercell
    from ase.constraints import FixedLine

    a = require_fcc(structure)
    # rows: two vectors in the plane (111), and the one of three planes
    primitive = bulk(structure.symbols[0], "fcc", a=a)
    hexagonal = make_supercell(primitive, [[-1, 1, 0], [0, -1, 1], [1, 1, 1]])
    perfect = hexagonal.repeat((1, 1, max(1, layers // 3)))
    perfect.rotate(perfect.cell[2], "z", rotate_cell=True)
    perfect.rotate(perfect.cell[0], "x", rotate_cell=True)
    area = float(np.linalg.norm(np.cross(perfect.cell[0], perfect.cell[1])))
    partial = _partial(perfect, a)
    energies, first = [], []
    shares = np.linspace(0.0, 1.0, points)
    for share in shares:
        atoms = perfect.copy()
        cell = atoms.cell.array.copy()
        cell[2] += share * partial
        atoms.set_cell(cell, scale_atoms=False)
        atoms.set_constraint([FixedLine(k, (0.0, 0.0, 1.0)) for k in range(len(atoms))])
        atoms.calc = calculator
        first.append(float(atoms.get_potential_energy()))
        energies.append(optimise(atoms, f"{structure.name}, stacking fault at {share:g}"))
    scale = J_PER_M2 * 1e3 / area
    found, before = ((np.array(e) - e[0]) * scale for e in (energies, first))
    return StackingFault(shares, found, before, float(found.max()), float(found[-1]), len(perfect))


def _partial(perfect: Any, a: float) -> np.ndarray:
    """Burgers vector of the partial dislocation that puts the plane above the cell's top where the third one is.

    Planes are stacked ABC from below; the sliding part is the next cell, which begins with A upon C. It has to become
    B, the shift of the second plane; a shift by the opposite vector would put atoms upon each other.
    """
    heights = perfect.positions[:, 2] - perfect.positions[:, 2].min()
    spacing = a / np.sqrt(3.0)
    first = perfect.positions[int(np.argmin(heights))]
    second = perfect.positions[int(np.argmin(np.abs(heights - spacing)))]
    shift = second - first
    shift[2] = 0.0
    choices = [shift + np.array([i, j]) @ perfect.cell.array[:2] for i in (-1, 0, 1) for j in (-1, 0, 1)]
    return np.asarray(min(choices, key=lambda v: float(np.linalg.norm(v))))
