"""Which part of a cell is crystal and which is melt."""

from __future__ import annotations

from itertools import product

import numpy as np

from nnpkit.data.structure import Structure

__all__ = ["CrystalOrder"]

_IN_SLAB = 40  # atoms
_SLABS = (4, 20)
_SHORTEST = 1.5  # Å, wave that tells crystal from melt


class CrystalOrder:
    """Slabs across `axis`: in those of a crystal, atoms of its most frequent element lie on planes along the axis.

    Parameters
    ----------
    crystal : Structure
        In a cell with right angles, not displaced.
    axis : int
        Along which crystal and melt follow each other.
    """

    def __init__(self, crystal: Structure, axis: int) -> None:
        self.axis = axis
        names, counts = np.unique(crystal.symbols, return_counts=True)
        self.mine = np.array(crystal.symbols) == names[np.argmax(counts)]
        self.slabs = max(_SLABS[0], min(_SLABS[1], int(self.mine.sum()) // _IN_SLAB))
        edges = np.diag(crystal.cell)
        across = [k for k in range(3) if k != axis]
        scaled = self._scaled(crystal)
        found = []
        for pair in product(*(range(int(edges[k] / _SHORTEST) + 1) for k in across)):
            wave = np.zeros(3)
            wave[across] = pair
            length = float(np.linalg.norm(wave / edges))
            if 0.0 < length < 1.0 / _SHORTEST:
                # Of all atoms together: in slabs of one plane each, waves are strong whose planes cancel, and atoms
                # that vibrate change slabs.
                strength = abs(np.exp(2j * np.pi * scaled @ wave).mean())
                found.append((round(float(strength), 2), -length, tuple(wave)))
        self.wave = np.array(max(found)[2])  # of the strongest the longest, which vibrations blur least
        self.learn(crystal)

    def _scaled(self, structure: Structure) -> np.ndarray:
        """Fractional positions (M, 3) of the atoms that count."""
        return np.asarray(np.linalg.solve(structure.cell.T, structure.positions[self.mine].T).T)

    def _amplitudes(self, structure: Structure) -> np.ndarray:
        """Of each slab, from 1 where all atoms are on planes to about one over the root of their number."""
        scaled = self._scaled(structure)
        slab = np.minimum((scaled[:, self.axis] % 1.0 * self.slabs).astype(int), self.slabs - 1)
        phase = np.exp(2j * np.pi * scaled @ self.wave)
        counts = np.maximum(1, np.bincount(slab, minlength=self.slabs))
        real, imaginary = (np.bincount(slab, part, self.slabs) / counts for part in (phase.real, phase.imag))
        return np.hypot(real, imaginary)

    def learn(self, crystal: Structure) -> None:
        """Take the order of a crystal that vibrates for that of all of it."""
        self.whole = float(np.median(self._amplitudes(crystal)))

    def share(self, structure: Structure) -> float:
        """Part of the slabs that are crystal: they have more than half of its order."""
        return float((self._amplitudes(structure) > 0.5 * self.whole).mean())
