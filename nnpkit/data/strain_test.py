"""The sign and unit of stresses, from pairs of structures that differ by a strain.

Between two structures of the same atoms, with cells ``h' = h (1 + e)`` and almost the same fractional
coordinates, the energies must differ by

    E' - E = (V s : e + V' s' : e')/2  -  sum_i (F_i + F'_i)/2 . u_i  + O(e³),   e' = 1 - h'^-1 h

where ``u`` is the displacement that the strain does not explain.  This is the definition of the stress (ASE's
sign) with the trapezoidal rule, and holds for no other sign, unit or factor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nnpkit.data.structure import Structure

__all__ = ["StrainTest", "strain_tests"]

_MAX_DISPLACEMENT = 0.15  # Å, root mean square over atoms
_STRAIN = (2e-4, 0.06)  # smallest and largest component of a strain that is used
_MAX_GROUP = 1500  # structures of the same atoms that are compared with each other
_MAX_PAIRS = 300
_MIN_PAIRS = 3


class StrainTest(NamedTuple):
    """Energy differences against work of the stress for structures of the same atoms."""

    slope: float  # of E' - E + force work against stress work; 1 if all is right
    correlation: float
    n_pairs: int
    structures: tuple[str, str]  # the pair with the largest work

    @property
    def conclusive(self) -> bool:
        """Whether the differences are related to the work at all."""
        return self.n_pairs >= _MIN_PAIRS and abs(self.correlation) > 0.7


def strain_tests(structures: Sequence[Structure]) -> list[StrainTest]:
    """One test for every group of structures with energy, stress and the same atoms that has such pairs."""
    groups: dict[tuple, list[Structure]] = {}
    for structure in structures:
        if structure.energy is not None and structure.stress is not None and structure.pbc.all():
            groups.setdefault(tuple(structure.symbols), []).append(structure)
    tests = []
    for group in groups.values():
        if len(group) > 1:
            chosen = [group[k] for k in np.unique(np.linspace(0, len(group) - 1, _MAX_GROUP).astype(int))]
            if test := _test(chosen):
                tests.append(test)
    return tests


def _test(group: Sequence[Structure]) -> StrainTest | None:
    pairs = _similar_pairs(group)
    if not pairs:
        return None
    work, difference = np.array([_terms(first, second) for first, second in pairs]).T
    squares, product = float(work @ work), float(work @ difference)
    if squares <= 0.0 or not difference.any():
        return None
    first, second = pairs[int(np.abs(work).argmax())]
    correlation = product / np.sqrt(squares * float(difference @ difference))
    return StrainTest(product / squares, float(correlation), len(pairs), (first.name, second.name))


def _similar_pairs(group: Sequence[Structure]) -> list[tuple[Structure, Structure]]:
    """Pairs of nearly the same fractional coordinates and cells that differ by a strain, nearest first."""
    cells = np.array([structure.cell for structure in group])
    lengths = np.linalg.norm(cells, axis=2).mean(axis=0)
    angle = 2.0 * np.pi * np.array([_fractional(structure) for structure in group])
    # chord on a circle of circumference |a|: a distance that does not see whole lattice vectors
    circle = np.concatenate([np.cos(angle), np.sin(angle)], axis=2) * np.tile(lengths, 2) / (2.0 * np.pi)
    points = circle.reshape(len(group), -1)
    squares = np.einsum("ij,ij->i", points, points)
    distance = np.add.outer(squares, squares) - 2.0 * points @ points.T
    near = np.triu(distance < group[0].n_atoms * _MAX_DISPLACEMENT**2, k=1)
    for row in np.flatnonzero(near.any(axis=1)):
        near[row, near[row]] = _strained(cells[row], cells[near[row]])
    first, second = np.nonzero(near)
    nearest = np.argsort(distance[first, second], kind="stable")[:_MAX_PAIRS]
    return [(group[first[k]], group[second[k]]) for k in nearest]


def _strained(cell: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of the other cells (M, 3, 3) come from this one by a strain of the size that is used."""
    strain = np.linalg.inv(cell) @ others - np.eye(3)
    transposed = strain.transpose(0, 2, 1)
    size = np.abs(strain + transposed).max(axis=(1, 2)) / 2
    rotation = np.abs(strain - transposed).max(axis=(1, 2))
    return (size > _STRAIN[0]) & (size < _STRAIN[1]) & (rotation < _STRAIN[1])


def _terms(first: Structure, second: Structure) -> tuple[float, float]:
    """Work of the stress, and energy difference less work of the forces, eV."""
    assert first.virial is not None
    assert second.virial is not None
    change = second.cell - first.cell
    strain, back = np.linalg.solve(first.cell, change), np.linalg.solve(second.cell, change)
    work = -float(np.vdot(first.virial, strain) + np.vdot(second.virial, back)) / 2
    difference = (second.energy or 0.0) - (first.energy or 0.0)
    if first.forces is not None and second.forces is not None:
        fractional = _fractional(second) - _fractional(first)
        displacement = (fractional - np.round(fractional)) @ (first.cell + second.cell) / 2
        difference += float(np.vdot(first.forces + second.forces, displacement) / 2)
    return work, difference


def _fractional(structure: Structure) -> np.ndarray:
    return np.linalg.solve(structure.cell.T, structure.positions.T).T
