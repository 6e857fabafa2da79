"""The sign, the unit and an offset of stresses, from pairs of structures that differ by a strain.

Between two structures of the same atoms, with cells ``h' = h (1 + e)`` and almost the same fractional
coordinates, the energies must differ by

    E' - E = (V s : e + V' s' : e')/2  -  sum_i (F_i + F'_i)/2 . u_i  + O(e³),   e' = 1 - h'^-1 h

where ``u`` is the displacement that the strain does not explain.  This is the definition of the stress (ASE's
sign) with the trapezoidal rule, and holds for no other sign, unit or factor.

Where it holds but for a pressure that is the same in all structures, the difference grows with the volume. That is the
Pulay stress of a basis that is too small for stresses: plane waves whose number follows the volume in the energies and
is fixed in the stress (Francis and Payne, J. Phys.: Condens. Matter 2, 4395 (1990)). No potential can have both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nnpkit.data.structure import Structure
from nnpkit.units import EV_PER_A3_IN_GPA

__all__ = ["StrainTest", "strain_tests"]

_MAX_DISPLACEMENT = 0.15  # Å, root mean square over atoms
_STRAIN = (2e-4, 0.06)  # smallest and largest component of a strain that is used
_MAX_GROUP = 1500  # structures of the same atoms that are compared with each other
_MAX_PAIRS = 300
_MIN_PAIRS = 3
_MANY_PAIRS = 10  # from which on an offset is believed
_SOUND = (0.5, 2.0)  # slopes that are neither another sign nor another unit
_LARGE_OFFSET = 0.5 / EV_PER_A3_IN_GPA  # eV/Å³: half a gigapascal


class StrainTest(NamedTuple):
    """Energy differences against work of the stress for structures of the same atoms."""

    slope: float  # of E' - E + force work against stress work; 1 if all is right
    correlation: float
    n_pairs: int
    structures: tuple[str, str]  # the pair with the largest work
    offset: float = (
        0.0  # eV/Å³, what all stresses lack of the derivative of the energies: it adds to their diagonal
    )
    offset_error: float = 0.0  # eV/Å³, its standard error

    @property
    def contradicts(self) -> bool:
        """Whether a constant pressure, that energies know nothing of, is most of what is wrong with these stresses."""
        sound = self.conclusive and self.n_pairs >= _MANY_PAIRS and _SOUND[0] < self.slope < _SOUND[1]
        explains = (
            self.offset**2 > 3.0 * (self.n_pairs - 1) * self.offset_error**2
        )  # three quarters of the variance
        return sound and explains and abs(self.offset) > _LARGE_OFFSET

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
    work, difference, dilation = np.array([_terms(first, second) for first, second in pairs]).T
    squares, product = float(work @ work), float(work @ difference)
    if squares <= 0.0 or not difference.any():
        return None
    first, second = pairs[int(np.abs(work).argmax())]
    correlation = product / np.sqrt(squares * float(difference @ difference))
    names = (first.name, second.name)
    return StrainTest(
        product / squares, float(correlation), len(pairs), names, *_offset(difference - work, dilation)
    )


def _offset(rest: np.ndarray, dilation: np.ndarray) -> tuple[float, float]:
    """Least squares factor of the `dilation` (n,) in the `rest` (n,) of the energy differences; its standard error."""
    squares = float(dilation @ dilation)
    if squares <= 0.0 or len(rest) < _MIN_PAIRS:
        return 0.0, 0.0
    factor = float(rest @ dilation) / squares
    scatter = rest - factor * dilation
    return factor, float(np.sqrt(scatter @ scatter / (len(rest) - 1) / squares))


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


def _terms(first: Structure, second: Structure) -> tuple[float, float, float]:
    """Work of the stress, energy difference less work of the forces, eV, and change of the volume, Å³."""
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
    dilation = (first.volume * float(np.trace(strain)) + second.volume * float(np.trace(back))) / 2
    return work, difference, dilation


def _fractional(structure: Structure) -> np.ndarray:
    return np.linalg.solve(structure.cell.T, structure.positions.T).T
