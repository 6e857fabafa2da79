"""Forces of charges that atoms have by their element or by their labels, beside which a repulsion is fitted.

What two ions do to each other is attraction and repulsion. A repulsion that is fitted to forces without the charges is
too weak by what charges attract; and latent charges that begin at zero change no force, so that nothing tells them in
which direction to go. The energy of charges ``1/2 q^T A q`` gives the force ``-q_i sum_j q_j dA_ij/dr_i``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from ase.data import atomic_numbers

from nnpkit.data.structure import Structure
from nnpkit.models.electrostatics import Interaction, coulomb_interaction, lattice_sum

__all__ = ["ChargeFit", "fit_charges", "labelled_forces", "point_charges", "product_forces", "usual_charges"]

Interactions = Callable[[Structure], Interaction]
_STARTS = 4
_NOBLE = (0, 2, 10, 18, 36, 54, 86, 118)


class ChargeFit(NamedTuple):
    """Charges of elements and factors of other columns, and the squares that they leave."""

    charges: np.ndarray  # (T,) e, adding up to zero
    factors: np.ndarray
    left: float


def labelled_forces(structures: Sequence[Structure], interactions: Interactions) -> np.ndarray:
    """(3 N,) eV/Å: forces of the charges that the structures are labelled with, which stay as they are.

    An atom without a label has the mean charge of its element.
    """
    sums: dict[str, list[float]] = {}
    for structure in structures:
        labels = [] if structure.charges is None else structure.charges.tolist()
        for symbol, charge in zip(structure.symbols, labels, strict=bool(labels)):
            sums.setdefault(symbol, []).append(float(charge))
    means = {symbol: float(np.mean(found)) for symbol, found in sums.items()}
    parts = [np.zeros(0)]
    for structure in structures:
        usual = np.array([means.get(symbol, 0.0) for symbol in structure.symbols])
        charges = usual if structure.charges is None else np.asarray(structure.charges, dtype=np.float64)
        slope = interactions(structure).slope.numpy()
        parts.append((-charges[:, None] * np.einsum("ijk,j->ik", slope, charges)).reshape(-1))
    return np.concatenate(parts)


def point_charges(structure: Structure) -> Interaction:
    """Interactions of point charges; the structure is periodic in all directions or in none."""
    where, cell = torch.as_tensor(structure.positions), torch.as_tensor(structure.cell)
    pbc = (bool(structure.pbc[0]), bool(structure.pbc[1]), bool(structure.pbc[2]))
    lattice = lattice_sum(where, cell, pbc, name=structure.name)
    return coulomb_interaction(where, cell, where.new_zeros(len(where)), lattice)


def product_forces(
    structures: Sequence[Structure], elements: Sequence[str], interactions: Interactions
) -> np.ndarray:
    """(3 N, T, T) eV/Å: by the products of the charges of two elements, which are shifted to be neutral together."""
    parts = [np.zeros((0, len(elements), len(elements)))]
    for structure in structures:
        own = np.array([[symbol == e for e in elements] for symbol in structure.symbols], dtype=np.float64)
        own -= own.mean(0)
        slope = interactions(structure).slope.numpy()
        felt = np.einsum("ijk,jb->ikb", slope, own)
        parts.append((-own[:, None, :, None] * felt[:, :, None, :]).reshape(-1, *parts[0].shape[1:]))
    return np.concatenate(parts)


def usual_charges(elements: Sequence[str], charges: np.ndarray, symbols: Sequence[str]) -> dict[str, float]:
    """Charges of elements whose sum over the atoms `symbols` is zero, with the signs that they usually have.

    Energies do not know the sign of all charges together: atoms whose shells lack little are negative.
    """
    counts = np.array([list(symbols).count(element) for element in elements], dtype=np.float64)
    shifted = charges - counts @ charges / counts.sum()
    filled = np.array([_filled(atomic_numbers[element]) for element in elements])
    against = (counts * shifted) @ filled > 0.0
    return dict(zip(elements, (-shifted if against else shifted).tolist(), strict=True))


def _filled(number: int) -> float:
    """How far the electrons of an atom are from one noble gas to the next, from 0 to 1."""
    below, above = max(n for n in _NOBLE if n < number), min(n for n in _NOBLE if n >= number)
    return (number - below) / (above - below)


def fit_charges(
    gram: np.ndarray, target: np.ndarray, square: float, n_elements: int, seed: int = 0
) -> ChargeFit:
    """Charges c and factors f, not below zero, that leave the least of ``|y - C f - sum_ab P_ab c_a c_b|^2``.

    Parameters
    ----------
    gram : np.ndarray
        Products of all columns with each other, those of C before those of P.
    target : np.ndarray
        Their products with y.
    square : float
        Of y.
    n_elements : int
        T; there are T squared columns of P.
    """
    from scipy.optimize import minimize, nnls

    n = len(target) - n_elements**2
    factor = np.linalg.cholesky(gram[:n, :n])

    def factors(products: np.ndarray) -> np.ndarray:
        rest = target[:n] - gram[:n, n:] @ products
        return np.asarray(nnls(factor.T, np.linalg.solve(factor, rest))[0])

    def left(charges: np.ndarray) -> float:
        products = np.outer(charges, charges).reshape(-1)
        x = np.concatenate([factors(products), products])
        return float(square - 2.0 * target @ x + x @ gram @ x)

    scale = max(square, 1e-300)
    random, best = (
        np.random.default_rng(seed),
        ChargeFit(np.zeros(n_elements), factors(np.zeros(n_elements**2)), 0.0),
    )
    best = best._replace(left=left(best.charges))
    for _ in range(_STARTS if n_elements > 1 else 0):
        start = random.normal(size=n_elements)
        found = minimize(lambda c: left(c) / scale, start - start.mean(), method="BFGS")
        charges = found.x - found.x.mean()
        if (value := left(charges)) < best.left:
            best = ChargeFit(charges, factors(np.outer(charges, charges).reshape(-1)), value)
    return best
