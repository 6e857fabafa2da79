"""How far atoms feel each other: is a cutoff large enough?

Two tests of Tokita and Behler, J. Chem. Phys. 159, 121501 (2023), section IV B, on any ASE calculator, the reference
method first of all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

__all__ = ["Freezing", "HessianDecay", "freezing", "hessian_decay"]


class Freezing(NamedTuple):
    """Noise of the force on atoms whose surroundings within a radius are frozen."""

    radius: np.ndarray  # (R,) Å
    force_std: np.ndarray  # (R,) eV/Å, root mean square over the centres
    moved: np.ndarray  # (R,) atoms outside the sphere, mean over the centres
    centers: list[int]


class HessianDecay(NamedTuple):
    """Strength of the interaction of atoms with every other one."""

    distance: np.ndarray  # (K,) Å, ascending, nearest images
    strength: np.ndarray  # (K,) eV/Å², Frobenius norm of d F_i / d x_j
    remaining: (
        np.ndarray
    )  # (K,) share of the squared strength of a centre beyond this distance, mean over centres
    centers: list[int]


def freezing(
    structure: Structure,
    calculator: Any,
    radii: Sequence[float],
    centers: Sequence[int] | None = None,
    *,
    displacement: float = 0.1,
    samples: int = 8,
    seed: int = 1,
) -> Freezing:
    """Spread of the force on an atom when everything farther than a radius moves at random.

    What remains for a radius is noise to a potential with that cutoff: it cannot see what causes it.

    Parameters
    ----------
    structure : Structure
        Large enough to have atoms beyond the radii.
    calculator : ase.calculators.calculator.Calculator
        Of forces.
    radii : sequence of float
        Å.
    centers : sequence of int, optional
        Atoms looked at; by default the first of each element.
    displacement : float
        Å, standard deviation of every component.
    samples : int
        Displaced copies for each radius and centre, at least 2.
    seed : int
        Of the displacements.

    Raises
    ------
    InputError
        If there are no centres or a radius is beyond every atom.
    """
    centers = _centers(structure, centers)
    random = np.random.default_rng(seed)
    spread, moved = np.zeros((len(radii), len(centers))), np.zeros((len(radii), len(centers)))
    for k, center in enumerate(centers):
        distance = _distances(structure, center)
        for r, radius in enumerate(radii):
            outside = distance > radius
            if not outside.any():
                raise InputError(
                    f"no atom is farther than {radius:g} Å from atom {center}", where=structure.name,
                    expected="a larger structure or a smaller radius",
                )  # fmt: skip
            forces = []
            for _ in range(max(2, samples)):
                shift = random.normal(scale=displacement, size=(structure.n_atoms, 3)) * outside[:, None]
                forces.append(_forces(structure, calculator, structure.positions + shift)[center])
            spread[r, k] = np.sqrt(np.var(forces, axis=0, ddof=1).sum())
            moved[r, k] = outside.sum()
    return Freezing(
        np.asarray(radii, dtype=np.float64), np.sqrt((spread**2).mean(axis=1)), moved.mean(axis=1), centers
    )


def hessian_decay(
    structure: Structure, calculator: Any, centers: Sequence[int] | None = None, step: float = 0.01
) -> HessianDecay:
    """Blocks of the Hessian that belong to some atoms, by the distance of the other atom.

    Unlike forces they do not vanish by symmetry in a crystal. Moving the centre and looking at all forces gives
    ``d F_j / d x_i``, the transpose of ``d F_i / d x_j``, so a centre takes six evaluations.

    Parameters
    ----------
    structure : Structure
        In a periodic one, an atom stands for all of its images: make the cell wider than twice the cutoff.
    calculator : ase.calculators.calculator.Calculator
        Of forces.
    centers : sequence of int, optional
        Atoms looked at; by default the first of each element.
    step : float
        Å, of the central differences.

    Raises
    ------
    InputError
        If there are no centres.
    """
    centers = _centers(structure, centers)
    distances, strengths, tails = [], [], []
    for center in centers:
        block = np.zeros((structure.n_atoms, 3, 3))
        for axis in range(3):
            sides = []
            for sign in (1.0, -1.0):
                positions = structure.positions.copy()
                positions[center, axis] += sign * step
                sides.append(_forces(structure, calculator, positions))
            block[:, :, axis] = (sides[0] - sides[1]) / (2.0 * step)
        others = np.arange(structure.n_atoms) != center
        distance = _distances(structure, center)[others]
        strength = np.linalg.norm(block, axis=(1, 2))[others]
        distances.append(distance)
        strengths.append(strength)
        order = np.argsort(distance)
        square = strength[order] ** 2
        beyond = np.concatenate([square[::-1].cumsum()[::-1][1:], [0.0]]) / max(square.sum(), 1e-300)
        tails.append((distance[order], beyond))
    distance, strength = np.concatenate(distances), np.concatenate(strengths)
    order = np.argsort(distance)
    places = [np.searchsorted(d, distance[order] + 1e-9, side="right") - 1 for d, _ in tails]
    shares = [np.where(p >= 0, b[np.maximum(p, 0)], 1.0) for p, (_, b) in zip(places, tails, strict=True)]
    return HessianDecay(distance[order], strength[order], np.mean(shares, axis=0), centers)


def _centers(structure: Structure, centers: Sequence[int] | None) -> list[int]:
    chosen = (
        [structure.symbols.index(e) for e in dict.fromkeys(structure.symbols)]
        if centers is None
        else list(centers)
    )
    if not chosen or not all(0 <= c < structure.n_atoms for c in chosen):
        raise InputError(
            f"centres {chosen}", where=structure.name, expected=f"atoms from 0 to {structure.n_atoms - 1}"
        )
    return chosen


def _distances(structure: Structure, center: int) -> np.ndarray:
    """Distance (N,) of every atom's nearest image from atom `center`."""
    from ase.geometry import get_distances

    _, distance = get_distances(
        structure.positions[center], structure.positions, cell=structure.cell, pbc=structure.pbc
    )
    return np.asarray(distance[0])


def _forces(structure: Structure, calculator: Any, positions: np.ndarray) -> np.ndarray:
    from ase import Atoms

    atoms = Atoms(structure.symbols, positions, cell=structure.cell, pbc=structure.pbc)
    atoms.calc = calculator
    return np.asarray(atoms.get_forces())
