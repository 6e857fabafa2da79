"""What the atoms of a structure see within a cutoff: nothing, images of themselves only, or other atoms."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nnpkit.data.distances import close_pairs
from nnpkit.data.structure import Structure

__all__ = ["Surroundings", "surroundings"]


class Surroundings(NamedTuple):
    """Atoms without any neighbour, and whether all atoms see nothing but their own images."""

    lonely: list[int]
    own_images_only: bool


def surroundings(structure: Structure, cutoff: float) -> Surroundings:
    """Neighbours within `cutoff` (Å), images included.

    A cell smaller than the sphere of the cutoff is no fault, since images are atoms too. An atom whose
    neighbours are all images of itself stays at rest whatever the potential: their pulls cancel in pairs.
    """
    pairs = close_pairs(structure, cutoff)
    seen = np.zeros(structure.n_atoms, dtype=bool)
    seen[pairs.first] = seen[pairs.second] = True
    own_only = bool(seen.all()) and bool((pairs.first == pairs.second).all())
    return Surroundings(np.flatnonzero(~seen).tolist(), own_only)
