"""Shortest distances of structures, per pair of elements and against covalent radii."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nnpkit.data.structure import Structure

__all__ = ["ClosePairs", "ShortestDistance", "close_pairs", "pair_name", "shortest_distances"]

_CUTOFFS = (4.0, 8.0)  # Å; pairs of elements not met within the first are looked for within the second


class ClosePairs(NamedTuple):
    """Pairs of atoms closer than a cutoff, each once; `vector` points from `first` to `second`, Å."""

    first: np.ndarray  # (P,) int64
    second: np.ndarray  # (P,) int64
    vector: np.ndarray  # (P, 3)
    distance: np.ndarray  # (P,)


class ShortestDistance(NamedTuple):
    """The shortest distance of a pair of elements (Å) and the structure that has it."""

    distance: float
    structure: str


def close_pairs(structure: Structure, cutoff: float) -> ClosePairs:
    """Pairs of atoms, periodic images included, closer than `cutoff` (Å)."""
    from vesin import NeighborList

    first, second, vector, distance = NeighborList(cutoff=cutoff, full_list=False).compute(
        points=structure.positions, box=structure.cell, periodic=structure.pbc, quantities="ijDd"
    )
    return ClosePairs(first.astype(np.int64), second.astype(np.int64), vector, distance)


def pair_name(first: str, second: str) -> str:
    """Name of a pair of elements, ``H-O``, in alphabetical order."""
    return "-".join(sorted((first, second)))


def shortest_distances(structures: Sequence[Structure]) -> dict[str, ShortestDistance]:
    """Shortest distance of every pair of elements that comes closer than 8 Å, by name of the pair."""
    shortest: dict[str, ShortestDistance] = {}
    for cutoff in _CUTOFFS:
        known = frozenset(shortest)
        for structure in structures:
            if _pairs_of(structure) - known:
                _update(shortest, structure, cutoff)
    return dict(sorted(shortest.items()))


def _pairs_of(structure: Structure) -> set[str]:
    """Pairs of elements a structure must have: of two atoms at least, or of an atom and its images."""
    counts = structure.composition
    return {pair_name(a, b) for a in counts for b in counts if a != b or counts[a] > 1 or structure.pbc.any()}


def _update(shortest: dict[str, ShortestDistance], structure: Structure, cutoff: float) -> None:
    pairs = close_pairs(structure, cutoff)
    elements, types = np.unique(structure.symbols, return_inverse=True)
    a, b = types[pairs.first], types[pairs.second]
    code = np.minimum(a, b) * len(elements) + np.maximum(a, b)
    minimum = np.full(len(elements) ** 2, np.inf)
    np.minimum.at(minimum, code, pairs.distance)
    for k in np.flatnonzero(np.isfinite(minimum)):
        name = pair_name(str(elements[k // len(elements)]), str(elements[k % len(elements)]))
        if name not in shortest or minimum[k] < shortest[name].distance:
            shortest[name] = ShortestDistance(float(minimum[k]), structure.name)
