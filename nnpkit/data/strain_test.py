"""The sign and unit of stresses, from pairs of structures that differ by a strain.

Between two structures of the same atoms, with cells ``h' = h (1 + e)`` and almost the same fractional
coordinates, the energies must differ by

    E' - E = (V s : e + V' s' : e')/2  -  sum_i (F_i + F'_i)/2 . u_i  + O(e³),   e' = 1 - h'^-1 h

where ``u`` is the displacement that the strain does not explain.  This is the definition of the stress (ASE's
sign) with the trapezoidal rule, and holds for no other sign, unit or factor.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
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
    work, difference, names = [], [], []
    for first, second in _similar_pairs(group):
        terms = _terms(first, second)
        if terms is not None:
            work.append(terms[0])
            difference.append(terms[1])
            names.append((first.name, second.name))
            if len(work) == _MAX_PAIRS:
                break
    if not work:
        return None
    x, y = np.array(work), np.array(difference)
    xx, xy, yy = x @ x, x @ y, y @ y
    if xx <= 0.0 or yy <= 0.0:
        return None
    return StrainTest(float(xy / xx), float(xy / np.sqrt(xx * yy)), len(x), names[int(np.argmax(np.abs(x)))])


def _similar_pairs(group: Sequence[Structure]) -> Iterator[tuple[Structure, Structure]]:
    """Pairs with nearly the same fractional coordinates, nearest first."""
    lengths = np.mean([np.linalg.norm(s.cell, axis=1) for s in group], axis=0)
    fractional = np.array([_fractional(s) for s in group])
    angle = 2.0 * np.pi * fractional
    # chord on a circle of circumference |a|: a distance that does not see whole lattice vectors
    circle = np.concatenate([np.cos(angle), np.sin(angle)], axis=2) * np.tile(lengths, 2) / (2.0 * np.pi)
    points = circle.reshape(len(group), -1)
    squares = np.einsum("ij,ij->i", points, points)
    distance = np.add.outer(squares, squares) - 2.0 * points @ points.T
    first, second = np.nonzero(np.triu(distance < group[0].n_atoms * _MAX_DISPLACEMENT**2, k=1))
    for k in np.argsort(distance[first, second], kind="stable"):
        yield group[first[k]], group[second[k]]


def _terms(first: Structure, second: Structure) -> tuple[float, float] | None:
    """Work of the stress, and energy difference less work of the forces, in eV; None if not comparable."""
    change = second.cell - first.cell
    strain, back = np.linalg.solve(first.cell, change), np.linalg.solve(second.cell, change)
    size = np.abs((strain + strain.T) / 2).max()
    if not _STRAIN[0] < size < _STRAIN[1] or np.abs(strain - strain.T).max() > _STRAIN[1]:
        return None
    if first.virial is None or second.virial is None or first.energy is None or second.energy is None:
        return None
    work = -float(np.vdot(first.virial, strain) + np.vdot(second.virial, back)) / 2
    force_work = 0.0
    if first.forces is not None and second.forces is not None:
        fractional = _fractional(second) - _fractional(first)
        displacement = (fractional - np.round(fractional)) @ (first.cell + second.cell) / 2
        force_work = float(np.vdot(first.forces + second.forces, displacement) / 2)
    return work, second.energy - first.energy + force_work


def _fractional(structure: Structure) -> np.ndarray:
    return np.linalg.solve(structure.cell.T, structure.positions.T).T
