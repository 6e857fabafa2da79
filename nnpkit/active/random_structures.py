"""Random structures with minimum distances: a first data set for a substance that nobody has simulated yet."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from ase.data import atomic_numbers, covalent_radii

from nnpkit.data.distances import close_pairs
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

__all__ = ["random_structures"]

_CELLS = 25
_TRIES = 200  # places tried for an atom before the cell is given up


def random_structures(
    composition: Mapping[str, int],
    number: int,
    volume: tuple[float, float],
    distance: float,
    seed: int,
) -> list[Structure]:
    """Periodic cells of random shape with atoms at random places, none closer than allowed.

    Parameters
    ----------
    composition : mapping
        Atoms of each element.
    number : int
        Structures.
    volume : tuple of float
        Range of the volume per atom, Å³.
    distance : float
        Smallest distance of two atoms, periodic images included, in units of the sum of their covalent radii.
    seed : int
        The same seed gives the same structures.

    Raises
    ------
    InputError
        If the atoms do not fit.
    """
    if unknown := [e for e in composition if e not in atomic_numbers]:
        raise InputError(f"{unknown[0]!r} is no chemical element", where="random.composition")
    return [
        _one(composition, volume, distance, np.random.default_rng([seed, k]), f"random#{k}")
        for k in range(number)
    ]


def _one(
    composition: Mapping[str, int],
    volume: tuple[float, float],
    distance: float,
    random: np.random.Generator,
    name: str,
) -> Structure:
    """One structure: a cell, then atom after atom where there is room."""
    symbols = [e for e, n in composition.items() for _ in range(n)]
    radii = np.array([covalent_radii[atomic_numbers[s]] for s in symbols])
    for _ in range(_CELLS):
        shape = np.diag(random.uniform(0.8, 1.25, 3)) + np.tril(random.uniform(-0.3, 0.3, (3, 3)), -1)
        cell = shape * (len(symbols) * random.uniform(*volume) / np.linalg.det(shape)) ** (1 / 3)
        order = random.permutation(len(symbols))
        placed: list[int] = []
        positions = np.zeros((len(symbols), 3))
        for atom in order:
            for _ in range(_TRIES):
                positions[atom] = random.random(3) @ cell
                here = [*placed, atom]
                trial = Structure([symbols[i] for i in here], positions[here], cell, np.ones(3, bool))
                pairs = close_pairs(trial, 2.0 * distance * radii.max())
                allowed = distance * (radii[here][pairs.first] + radii[here][pairs.second])
                if not (pairs.distance < allowed).any():
                    placed.append(atom)
                    break
            else:
                break
        if len(placed) == len(symbols):
            return Structure(symbols, positions, cell, np.ones(3, bool), name=name)
    raise InputError(
        "the atoms do not fit into the cell", where="random", expected="a larger volume or a smaller distance"
    )
