"""Cutoffs that see two shells of neighbours in the data at hand."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median

import numpy as np

from nnpkit.data.distances import close_pairs
from nnpkit.data.structure import Structure
from nnpkit.families.cluster_expansion.settings import ExpansionDescriptor

__all__ = ["cutoffs_for", "nearest_distance"]

_LEAST, _LARGEST = 5.0, 8.0
_STRUCTURES = 50
"""So many, evenly taken, are enough for a median."""


def cutoffs_for(settings: ExpansionDescriptor, structures: Sequence[Structure]) -> tuple[float, float]:
    """Radial and angular cutoff, Å: those of the settings where given, else what nearest neighbours ask for.

    Twice the distance of nearest neighbours holds the second shell of every common lattice (1.15 times the first
    distance in bcc, 1.41 in fcc, 1.63 in diamond) where functions are not yet near zero; for angles, which cost most,
    1.8 times. The default of 5 Å is enough up to 2.5 Å: with 6 Å instead, silicon had larger errors on validation
    structures. Hydrogen is part of what it is bound to: molecules of water are as far apart as their oxygen.
    """
    radial, angular = settings.radial_cutoff, settings.angular_cutoff
    found = nearest_distance(structures) or 0.0 if None in (radial, angular) else 0.0
    radial = radial or max(_LEAST, round(min(_LARGEST, 2.0 * found), 2))
    return radial, angular or max(_LEAST, round(min(radial, 1.8 * found), 2))


def nearest_distance(structures: Sequence[Structure]) -> float | None:
    """Median over structures of the mean distance of an atom to its nearest neighbour, Å; None without neighbours.

    Hydrogen is left out where there is anything else.
    """
    heavy = any(set(structure.symbols) != {"H"} for structure in structures)
    means = []
    for structure in structures[:: max(1, len(structures) // _STRUCTURES)]:
        counted = np.array([not heavy or symbol != "H" for symbol in structure.symbols])
        pairs = close_pairs(structure, _LARGEST)
        both = counted[pairs.first] & counted[pairs.second]
        pairs = pairs._replace(
            first=pairs.first[both], second=pairs.second[both], distance=pairs.distance[both]
        )
        nearest = np.full(structure.n_atoms, np.inf)
        np.minimum.at(nearest, pairs.first, pairs.distance)
        np.minimum.at(nearest, pairs.second, pairs.distance)
        if np.isfinite(nearest).any():
            means.append(float(nearest[np.isfinite(nearest)].mean()))
    return median(means) if means else None
