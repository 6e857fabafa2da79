"""Full neighbour lists, by vesin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from vesin import NeighborList

from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

__all__ = ["NeighborPairs", "neighbor_pairs"]

_FARTHEST = 1e8  # Å, where double precision still tells 1e-8 Å apart


class NeighborPairs(NamedTuple):
    """Every ordered pair (i, j, image) with 0 < distance < cutoff, sorted by centre i.

    The vector of a pair is ``positions[neighbor] + shift @ cell - positions[center]``.
    """

    center: np.ndarray  # (E,) int64
    neighbor: np.ndarray  # (E,) int64
    shift: np.ndarray  # (E, 3) int64, in lattice vectors


def neighbor_pairs(structure: Structure, cutoff: float) -> NeighborPairs:
    """Neighbour pairs of a structure within `cutoff` (Å), any boundary conditions.

    Raises
    ------
    InputError
        If the cutoff is not positive, a number is not finite or a position so far away that distances lose their
        digits, a periodic cell has no volume, or two atoms coincide.
    """
    if not cutoff > 0.0:
        raise InputError(f"cutoff {cutoff} Å", where=structure.name, expected="a positive length")
    _require_near(structure)
    periodic = np.asarray(structure.pbc, dtype=bool)
    if periodic.all() and abs(np.linalg.det(structure.cell)) < 1e-8:
        raise InputError(
            "the periodic cell has no volume",
            where=structure.name,
            hint="check the lattice lines of this frame",
        )
    center, neighbor, shift, distance = NeighborList(cutoff=float(cutoff), full_list=True).compute(
        points=np.ascontiguousarray(structure.positions, dtype=np.float64),
        box=np.ascontiguousarray(structure.cell, dtype=np.float64),
        periodic=periodic,
        quantities="ijSd",
    )
    if distance.size and distance.min() < 1e-6:
        e = int(distance.argmin())
        raise InputError(
            f"atoms {center[e]} and {neighbor[e]} are at the same place", where=structure.name,
            hint="remove the duplicate atom",
        )  # fmt: skip
    columns = [np.asarray(column, dtype=np.int64) for column in (center, neighbor, *shift.T)]
    order = _order(columns)
    return NeighborPairs(columns[0][order], columns[1][order], np.asarray(shift, dtype=np.int64)[order])


def _require_near(structure: Structure) -> None:
    """Refuse coordinates that no distance can be computed from: a run that has exploded, a cell of another program."""
    if not np.isfinite(structure.cell).all():
        raise InputError(
            f"the cell has a component that is {structure.cell[~np.isfinite(structure.cell)][0]}",
            where=structure.name, expected="finite numbers",
        )  # fmt: skip
    near = np.abs(structure.positions) <= _FARTHEST  # false for what is no number, too
    if not near.all():
        atom, axis = np.argwhere(~near)[0]
        raise InputError(
            f"atom {atom} is at {'xyz'[axis]} = {structure.positions[atom, axis]:g} Å", where=structure.name,
            expected=f"finite coordinates within {_FARTHEST:g} Å",
            hint="if a simulation has led there, it is not stable: look at the frames before",
        )  # fmt: skip


def _order(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Order of different rows of integers by the first of the `columns`, then the second, and so on.

    One number for each row is sorted in a quarter of the time of several keys, if it fits into 63 bits.
    """
    lowest = [int(column.min(initial=0)) for column in columns]
    sizes = [int(column.max(initial=0)) - low + 1 for column, low in zip(columns, lowest, strict=True)]
    if math.prod(sizes) >= 1 << 63:
        return np.lexsort(columns[::-1])
    number = np.zeros(len(columns[0]), dtype=np.int64)
    for column, low, size in zip(columns, lowest, sizes, strict=True):
        number = number * size + (column - low)
    return np.argsort(number)
