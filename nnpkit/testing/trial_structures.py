"""Structures and differences that the suites of this package are about."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from nnpkit.data.structure import Structure

__all__ = ["central_difference", "random_structure"]

_TRICLINIC = np.array([[5.1, 0.0, 0.0], [1.1, 4.9, 0.0], [-0.7, 0.9, 5.3]])


def random_structure(
    elements: list[str],
    n_atoms: int,
    seed: int,
    periodic: bool | tuple[bool, ...] = True,
    shortest: float = 1.1,
) -> Structure:
    """Atoms at random in a triclinic cell, no pair closer than `shortest` (Å)."""
    rng = np.random.default_rng(seed)
    positions: list[np.ndarray] = []
    while len(positions) < n_atoms:
        trial = rng.uniform(0, 1, 3) @ _TRICLINIC
        images = [trial + np.array(s) @ _TRICLINIC for s in np.ndindex(3, 3, 3)]
        images = [image - np.ones(3) @ _TRICLINIC for image in images]
        if all(np.linalg.norm(image - p) > shortest for image in images for p in positions):
            positions.append(trial)
    symbols = [elements[i % len(elements)] for i in range(n_atoms)]
    return Structure(
        symbols, np.array(positions), _TRICLINIC, np.broadcast_to(periodic, 3), name=f"random#{seed}"
    )


def central_difference(function: Callable[[float], float], step: float) -> float:
    """Fourth-order central difference of ``function(x)`` at 0."""
    return (8.0 * (function(step) - function(-step)) - (function(2.0 * step) - function(-2.0 * step))) / (
        12.0 * step
    )
