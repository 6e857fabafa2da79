"""The sign, the unit and an offset of stresses, from pairs of structures that differ by a strain.

Between two structures of the same atoms, with cells ``h' = h (1 + e)`` and almost the same fractional
coordinates, the energies must differ by

    E' - E = (V s : e + V' s' : e')/2  -  sum_i (F_i + F'_i)/2 . u_i  + O(e³),   e' = 1 - h'^-1 h

where ``u`` is the displacement that the strain does not explain.  This is the definition of the stress (ASE's
sign) with the trapezoidal rule, and holds for no other sign, unit or factor.

Where it holds but for a pressure that is the same in all structures, the difference grows with the volume. That is the
Pulay stress of a basis that is too small for stresses: plane waves whose number follows the volume in the energies and
is fixed in the stress (Francis and Payne, J. Phys.: Condens. Matter 2, 4395 (1990)). No potential can have both.

What the trapezoidal rule leaves out, ``-D³E/12`` along the way, grows with the volume too: crystals stiffen under
compression, and shaken atoms push. But it is larger by the square of strain and displacement, so that with the change
``v`` of the volume the difference is fitted by ``v (a + b |e|² + c |u|²)``, and only ``a`` is the pressure. Structures
that are all shaken alike do not tell ``a`` from ``c``, and say so by the error of ``a``.
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
_SURE = 3.0  # standard errors
_BOND = 2.5  # Å, over which a displacement counts as a strain
_NEGLIGIBLE = 0.005  # strain below which labels' own noise is most of what is left


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
        """Whether these stresses lack a constant pressure that the energies have: a large one, well above its error."""
        sound = self.conclusive and self.n_pairs >= _MANY_PAIRS and _SOUND[0] < self.slope < _SOUND[1]
        return sound and abs(self.offset) - _SURE * self.offset_error > _LARGE_OFFSET

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
    terms = [_terms(first, second) for first, second in pairs]
    work, difference = np.array([(one.work, one.difference) for one in terms]).T
    squares, product = float(work @ work), float(work @ difference)
    if squares <= 0.0 or not difference.any():
        return None
    first, second = pairs[int(np.abs(work).argmax())]
    correlation = product / np.sqrt(squares * float(difference @ difference))
    names = (first.name, second.name)
    n_structures = len({id(structure) for pair in pairs for structure in pair})
    offset = _offset(terms, n_structures)
    return StrainTest(product / squares, float(correlation), len(pairs), names, *offset)


def _offset(terms: Sequence[_Terms], n_structures: int) -> tuple[float, float]:
    """Pressure that the work lacks and its standard error, eV/Å³, of pairs among so many structures.

    Many pairs of few structures repeat themselves: the error is that of as many pairs as there are structures.
    """
    work, difference, dilation, strain, displacement = np.array(terms).T
    rest = difference - work
    moving = displacement.max() > 1e-6 * _MAX_DISPLACEMENT**2
    growth = [strain / strain.max()] + ([displacement / displacement.max()] if moving else [])
    columns = np.stack([dilation, *(dilation * factor for factor in growth)], axis=1)
    # what neither term explains grows with the third power of the distance between two structures
    weight = (strain + displacement / _BOND**2 + _NEGLIGIBLE**2) ** -1.5
    columns, rest = columns * weight[:, None], rest * weight
    if min(len(rest), n_structures) <= columns.shape[1] or np.linalg.matrix_rank(columns) < columns.shape[1]:
        return 0.0, 0.0
    fitted = np.linalg.lstsq(columns, rest, rcond=None)[0]
    scatter = rest - columns @ fitted
    variance = float(scatter @ scatter) / (len(rest) - columns.shape[1]) * max(1.0, len(rest) / n_structures)
    return float(fitted[0]), float(np.sqrt(variance * np.linalg.inv(columns.T @ columns)[0, 0]))


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


class _Terms(NamedTuple):
    """What two structures differ by."""

    work: float  # of the stress, eV
    difference: float  # of the energies less the work of the forces, eV
    dilation: float  # change of the volume, Å³
    strain: float  # sum of the squares of its components
    displacement: float  # mean over atoms of its square, Å²


def _terms(first: Structure, second: Structure) -> _Terms:
    assert first.virial is not None
    assert second.virial is not None
    change = second.cell - first.cell
    strain, back = np.linalg.solve(first.cell, change), np.linalg.solve(second.cell, change)
    work = -float(np.vdot(first.virial, strain) + np.vdot(second.virial, back)) / 2
    difference = (second.energy or 0.0) - (first.energy or 0.0)
    fractional = _fractional(second) - _fractional(first)
    displacement = (fractional - np.round(fractional)) @ (first.cell + second.cell) / 2
    if first.forces is not None and second.forces is not None:
        difference += float(np.vdot(first.forces + second.forces, displacement) / 2)
    dilation = (first.volume * float(np.trace(strain)) + second.volume * float(np.trace(back))) / 2
    symmetric = (strain + strain.T) / 2
    moved = float(np.vdot(displacement, displacement)) / first.n_atoms
    return _Terms(work, difference, dilation, float(np.vdot(symmetric, symmetric)), moved)


def _fractional(structure: Structure) -> np.ndarray:
    return np.linalg.solve(structure.cell.T, structure.positions.T).T
