"""Structure of liquids: density and radial distribution functions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

__all__ = ["GRAMS_PER_CM3", "RadialDistribution", "default_range", "density", "radial_distribution"]

GRAMS_PER_CM3 = 1.66053906660
"""g/cm³ per amu/Å³ (CODATA 2018)."""

_LARGEST_RANGE = 10.0  # Å


@dataclass(frozen=True)
class RadialDistribution:
    """Radial distribution functions of every pair of elements.

    Parameters
    ----------
    r : (B,) float64
        Centres of the bins, Å.
    g : dict of (a, b) with a <= b to (B,) float64
        1 for an ideal gas.
    coordination : dict of (a, b) to (B,) float64
        Mean number of b atoms around an a atom, from 0 to the outer edge of the bin.
    n_frames : int
        Frames averaged over.
    """

    r: np.ndarray
    g: dict[tuple[str, str], np.ndarray]
    coordination: dict[tuple[str, str], np.ndarray]
    n_frames: int


def density(structure: Structure) -> float:
    """Mass density of a periodic structure, g/cm³, with standard atomic masses."""
    from ase.data import atomic_masses, atomic_numbers

    mass = sum(atomic_masses[atomic_numbers[symbol]] for symbol in structure.symbols)
    return GRAMS_PER_CM3 * float(mass) / structure.volume


def default_range(structure: Structure) -> float:
    """Half of the thinnest extent of the cell, at most 10 Å: as far as a pair is not its own image."""
    thickness = 1.0 / np.linalg.norm(np.linalg.inv(structure.cell), axis=0)
    return float(min(_LARGEST_RANGE, thickness.min() / 2))


def radial_distribution(
    frames: Iterable[Structure], r_max: float | None = None, bin_width: float = 0.02
) -> RadialDistribution:
    """Radial distribution functions averaged over the frames of one system, whose cell may change.

    ``g_ab(r) = < V n_ab(r) / (N_ab v(r)) >`` with n_ab the ordered pairs within the shell of volume v, and
    N_ab = N_a N_b, or N_a (N_a - 1) for equal elements: exactly 1 for independent, uniform atoms in a cell of
    any size. All periodic images within `r_max` count, an atom's own images do not.

    Parameters
    ----------
    frames : iterable of Structure
        Same atoms in the same order, periodic in three dimensions.
    r_max : float, optional
        Å; default `default_range` of the first frame.
    bin_width : float
        Å; reduced to fit `r_max` a whole number of times.

    Raises
    ------
    InputError
        If there is no frame, a frame is not periodic, or the atoms change.
    """
    sums: _Sums | None = None
    for frame in frames:
        if not (frame.pbc.all() and frame.volume > 0.0):
            raise InputError(
                "a radial distribution function needs three periodic directions", where=frame.name or None
            )
        if sums is None:
            sums = _Sums(frame.symbols, default_range(frame) if r_max is None else r_max, bin_width)
        sums.add(frame)
    if sums is None:
        raise InputError("no frames for a radial distribution function")
    return sums.result()


class _Sums:
    """Running sums over frames of pair counts, as they are and times the volume."""

    def __init__(self, symbols: list[str], r_max: float, bin_width: float) -> None:
        from vesin import NeighborList

        self.symbols = symbols
        self.elements = sorted(set(symbols))
        kinds = len(self.elements)
        self.pairs = list(combinations_with_replacement(range(kinds), 2))
        self.kind = np.searchsorted(self.elements, symbols)
        self.pair_index = np.zeros((kinds, kinds), dtype=np.int64)
        for p, (a, b) in enumerate(self.pairs):
            self.pair_index[a, b] = self.pair_index[b, a] = p
        self.r_max, self.bins = r_max, max(1, int(np.ceil(r_max / bin_width)))
        self.neighbors = NeighborList(cutoff=float(r_max), full_list=False)
        self.counts = np.zeros((len(self.pairs), self.bins))
        self.weighted = np.zeros_like(self.counts)
        self.frames = 0

    def add(self, frame: Structure) -> None:
        if frame.symbols != self.symbols:
            raise InputError("the atoms are not those of the first frame", where=frame.name or None)
        i, j, distance = self.neighbors.compute(
            points=frame.positions, box=frame.cell, periodic=True, quantities="ijd", copy=False
        )
        others = i != j
        i, j, distance = i[others], j[others], distance[others]
        shell = np.minimum((distance * (self.bins / self.r_max)).astype(np.int64), self.bins - 1)
        index = self.pair_index[self.kind[i], self.kind[j]] * self.bins + shell
        counts = np.bincount(index, minlength=self.counts.size).reshape(self.counts.shape)
        self.counts += counts
        self.weighted += counts * frame.volume
        self.frames += 1

    def result(self) -> RadialDistribution:
        edges = np.linspace(0.0, self.r_max, self.bins + 1)
        shells = 4.0 / 3.0 * np.pi * np.diff(edges**3)
        number = np.bincount(self.kind)
        g, coordination = {}, {}
        for p, (a, b) in enumerate(self.pairs):
            # each pair was met once: as a-b for unlike atoms, once for two ordered pairs of like ones
            ordered = number[a] * number[b] if a != b else number[a] * (number[a] - 1) / 2
            first, second = self.elements[a], self.elements[b]
            g[first, second] = self.weighted[p] / (max(ordered, 1) * self.frames * shells)
            met = np.cumsum(self.counts[p]) / self.frames
            coordination[first, second] = met * (2.0 if a == b else 1.0) / number[a]
            coordination[second, first] = met * (2.0 if a == b else 1.0) / number[b]
        return RadialDistribution((edges[1:] + edges[:-1]) / 2, g, coordination, self.frames)
