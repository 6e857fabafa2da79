"""Trajectories in lists of structures: which frames follow one another closely."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnpkit.data.structure import Structure

__all__ = ["LARGEST_STEP", "LARGEST_STRAIN", "SMALLEST_STEP", "file_of", "trajectories"]

LARGEST_STEP = 0.1
"""Å, root mean square over the atoms: farther apart, two frames tell different things.

Copper at 300 K needs about 30 fs for this way, hydrogen 4 fs; it is half of what two independent frames of a crystal
at room temperature differ by."""
SMALLEST_STEP = 1e-4
"""Å: the atoms of a trajectory move; those of a volume scan or an elastic deformation only follow the cell."""
LARGEST_STRAIN = 0.005
"""Largest component of the strain between the cells: a barostat needs many steps for this, a volume scan one."""


def file_of(structure: Structure) -> str:
    """The file a structure was read from: its name is ``file#frame``."""
    return structure.name.rpartition("#")[0]


def trajectories(structures: Sequence[Structure]) -> list[list[int]]:
    """Indices of the structures of each trajectory, in order; structures that belong to none are not listed.

    A frame continues the one before it if both are of one file, have the same elements in the same order, the same
    periodic directions and cells that differ by a strain of at most `LARGEST_STRAIN`, and the atoms have moved by more
    than `SMALLEST_STEP` and at most `LARGEST_STEP` (root mean square, minimum image, relative to the cell). Frames that
    are farther apart, such as snapshots every picosecond, are taken for independent.
    """
    found: list[list[int]] = []
    for index in range(1, len(structures)):
        if not _continues(structures[index - 1], structures[index]):
            continue
        if found and found[-1][-1] == index - 1:
            found[-1].append(index)
        else:
            found.append([index - 1, index])
    return found


def _continues(before: Structure, after: Structure) -> bool:
    """Whether `after` is the next frame of the trajectory that `before` is of."""
    if (
        file_of(before) != file_of(after)
        or before.symbols != after.symbols
        or (before.pbc != after.pbc).any()
    ):
        return False
    old, new = _full_cell(before), _full_cell(after)
    if np.abs(np.linalg.solve(old, new) - np.eye(3)).max() > LARGEST_STRAIN:
        return False
    moved = np.linalg.solve(new.T, after.positions.T).T - np.linalg.solve(old.T, before.positions.T).T
    moved -= np.where(after.pbc, np.round(moved), 0.0)
    return SMALLEST_STEP < float(np.sqrt(np.sum((moved @ new) ** 2) / after.n_atoms)) <= LARGEST_STEP


def _full_cell(structure: Structure) -> np.ndarray:
    """(3, 3) cell with vectors of length one along directions that are not periodic."""
    from ase.geometry import complete_cell

    return np.asarray(complete_cell(np.where(structure.pbc[:, None], structure.cell, 0.0)))
