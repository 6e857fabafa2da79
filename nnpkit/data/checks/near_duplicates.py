"""Structures that are nearly the same but have energies that the difference cannot explain.

Sorted distances find them: if no atom moves by more than d, the k-th shortest distance of a structure changes
by 2 d at most, whatever the order, the place and the orientation of its atoms. Some of these distances are the
coordinates of a k-d tree, so that the work grows hardly faster than the number of structures.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from nnpkit.data.distances import close_pairs
from nnpkit.data.structure import Structure

__all__ = ["NearContradiction", "near_contradictions"]

_NEAR = 0.01  # Å; largest displacement that is looked at
_RANGE = 4.0  # Å; distances up to this, all shorter than it count
_COMPARED = 8.0  # Å; the same for the comparison in detail
_RANKS = 12  # distances per structure that go into the tree
_CANDIDATES = 8  # nearest structures that are compared in detail
_LARGE_FORCE = 3.0  # eV/Å on every atom along its displacement: what may explain a difference without forces
_TOLERANCE = 5e-3  # eV/atom; noise of energies that is no contradiction


class NearContradiction(NamedTuple):
    """Two structures, how far apart (Å), their difference of energy and its unexplained part (eV/atom)."""

    first: str
    second: str
    displacement: float
    energy: float
    excess: float


def near_contradictions(structures: Sequence[Structure]) -> Iterator[NearContradiction]:
    """Pairs of structures of the same composition, charge and spin within 0.01 Å that contradict each other.

    What the displacement explains is, with forces and the same order of atoms, ``-(F + F')/2 . (r' - r)``, and
    otherwise 3 eV/Å on every atom; 5 meV/atom beyond it are a contradiction.
    """
    groups: dict[tuple, list[Structure]] = {}
    for s in structures:
        if s.energy is not None and s.n_atoms > 1:
            state = (s.total_charge or 0.0, s.multiplicity, tuple(s.pbc.tolist()))
            groups.setdefault((tuple(sorted(s.composition.items())), state), []).append(s)
    for group in groups.values():
        if len(group) > 1:
            yield from _within(group)


def _within(group: Sequence[Structure]) -> Iterator[NearContradiction]:
    from scipy.spatial import cKDTree

    points = np.array([_fingerprint(s) for s in group])
    tree = cKDTree(points)
    n_near = min(_CANDIDATES + 1, len(group))
    _, near = tree.query(points, k=n_near, p=np.inf, distance_upper_bound=2.0 * _NEAR)
    for k, neighbours in enumerate(np.atleast_2d(near)):
        for other in sorted(int(j) for j in neighbours if k < j < len(group)):
            if (found := _compare(group[k], group[other])) is not None:
                yield found


def _fingerprint(structure: Structure) -> np.ndarray:
    """Some of the sorted distances and the lengths and diagonals of the cell, Å."""
    distances = np.sort(close_pairs(structure, _RANGE).distance)
    ranks = np.unique(np.geomspace(1, 6 * structure.n_atoms, _RANKS).astype(int)) - 1
    padded = np.full(6 * structure.n_atoms, _RANGE)
    padded[: len(distances)] = distances[: len(padded)]
    cell = structure.cell[structure.pbc]
    sums = [cell[i] + cell[j] for i in range(len(cell)) for j in range(i)]
    return np.array([*padded[ranks], *np.linalg.norm([*cell, *sums, [0, 0, 0]], axis=1)])


def _compare(a: Structure, b: Structure) -> NearContradiction | None:
    energy = abs(float(b.energy or 0.0) - float(a.energy or 0.0)) / a.n_atoms
    if energy <= _TOLERANCE:
        return None
    moves = _moves(a, b)
    if moves is not None:
        displacement = float(np.linalg.norm(moves, axis=1).max())
        if displacement <= _NEAR and a.forces is not None and b.forces is not None:
            work = -0.5 * float(np.sum((a.forces + b.forces) * moves))
            excess = abs(float(b.energy or 0.0) - float(a.energy or 0.0) - work) / a.n_atoms
        else:
            excess = energy - _LARGE_FORCE * float(np.linalg.norm(moves, axis=1).mean())
    if moves is None or displacement > _NEAR:
        if (difference := _distances_differ(a, b)) is None:
            return None
        displacement = difference
        excess = energy - _LARGE_FORCE * difference
    return NearContradiction(a.name, b.name, displacement, energy, excess) if excess > _TOLERANCE else None


def _moves(a: Structure, b: Structure) -> np.ndarray | None:
    """Displacements (N, 3) from `a` to `b`, without a common one; None if the order or the cell differs."""
    if a.symbols != b.symbols or np.abs(a.cell - b.cell).max() > 1e-3:
        return None
    moves = b.positions - a.positions
    if a.pbc.any():
        periodic = np.where(a.pbc[:, None], a.cell, 0.0)
        inverse = np.linalg.pinv(periodic)
        moves = moves - moves[0]  # wrapped together before the mean is taken off
        moves = moves - np.round(moves @ inverse) @ periodic
    return moves - moves.mean(axis=0)


def _distances_differ(a: Structure, b: Structure) -> float | None:
    """Largest difference of sorted distances per pair of elements; None if it is more than that of a displacement."""
    cells = [np.sort(np.linalg.norm(s.cell, axis=1)) for s in (a, b)]
    largest = float(np.abs(cells[0] - cells[1]).max())
    if largest > 2.0 * _NEAR:
        return None
    lists = []
    for structure in (a, b):
        pairs = close_pairs(structure, _COMPARED)
        symbols = np.array(structure.symbols)
        first, second = symbols[pairs.first], symbols[pairs.second]
        names = np.where(first < second, np.char.add(first, second), np.char.add(second, first))
        lists.append({str(n): np.sort(pairs.distance[names == n]) for n in np.unique(names)})
    for name in lists[0].keys() | lists[1].keys():
        x, y = (np.asarray(of.get(name, [])) for of in lists)
        n = max(len(x), len(y))
        x, y = (np.concatenate([z, np.full(n - len(z), _COMPARED)]) for z in (x, y))
        largest = max(largest, float(np.abs(x - y).max(initial=0.0)))
    return largest if largest <= 2.0 * _NEAR else None
