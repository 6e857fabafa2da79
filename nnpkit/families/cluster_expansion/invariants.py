"""Rotational invariants of three to five bodies as polynomials of the expansion coefficients of a density.

With the coefficients A_lm of a density on the sphere, ``rho_l(u) = sum_m A_lm Y_lm(u)``, a list of degrees
``l_1 ... l_d`` stands for the invariant ::

    B = integral over all directions u of rho_l1(u) ... rho_ld(u)

a polynomial of degree d in A, hence a function of d neighbours and the centre. For d = 2 that is the power spectrum
``sum_m A_lm^2``; for d = 3 the A are coupled by Gaunt coefficients, for d = 4 by products of two of them summed over
what is in between (Drautz, Phys. Rev. B 99, 014104 (2019)). Two lists have the factors that NEP gives them (Fan et
al., J. Chem. Phys. 157, 114801 (2022), eqs. 13 and 14): 222 is coupled by Wigner's 3-j symbols, 1111 is
``7/15 (sum_m A_1m^2)^2``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from nnpkit.families.cluster_expansion.harmonics import component_index, harmonics

__all__ = ["Term", "invariant_terms", "vanishes"]

_NEGLIGIBLE = 1e-12
_FACTORS = {  # from Gaunt coefficients to the conventions of NEP
    (2, 2, 2): -math.sqrt(4.0 * math.pi / 125.0) * math.sqrt(35.0 / 2.0),
    (1, 1, 1, 1): (7.0 / 15.0) * (20.0 * math.pi / 9.0),
}


class Term(NamedTuple):
    """One monomial: a coefficient and the indices of the A_lm that are multiplied, ascending, repeated for powers."""

    coefficient: float
    indices: tuple[int, ...]


@lru_cache(maxsize=256)
def _terms(degrees: tuple[int, ...]) -> tuple[Term, ...]:
    order = sum(degrees)
    # Gauss-Legendre in cos(theta) and equidistant angles integrate polynomials of this order exactly.
    z, weight = np.polynomial.legendre.leggauss(order // 2 + 1)
    angle = 2.0 * math.pi * np.arange(order + 1) / (order + 1)
    sine = np.sqrt(1.0 - z * z)
    points = np.stack(
        [np.outer(sine, np.cos(angle)), np.outer(sine, np.sin(angle)), np.outer(z, np.ones_like(angle))],
        axis=-1,
    ).reshape(-1, 3)
    weights = np.repeat(weight, len(angle)) * (2.0 * math.pi / len(angle))
    values = harmonics(torch.as_tensor(points), max(degrees)).numpy()
    factor = _FACTORS.get(degrees, 1.0)
    found: dict[tuple[int, ...], float] = {}
    for components in itertools.product(*(range(2 * degree + 1) for degree in degrees)):
        indices = tuple(component_index(degree, m) for degree, m in zip(degrees, components, strict=True))
        integral = float(weights @ np.prod(values[:, indices], axis=1)) * factor
        key = tuple(sorted(indices))
        found[key] = found.get(key, 0.0) + integral
    return tuple(Term(value, key) for key, value in sorted(found.items()) if abs(value) > _NEGLIGIBLE)


def invariant_terms(lists: Sequence[Sequence[int]]) -> list[list[Term]]:
    """Terms of the invariant of each list of degrees; the coefficients of all channels are the same.

    Parameters
    ----------
    lists : sequence of sequences of int
        Two to four degrees l >= 1 each, in any order.

    Returns
    -------
    list of list of Term
        Indices are those of `nnpkit.families.cluster_expansion.harmonics.harmonics`.
    """
    return [list(_terms(tuple(sorted(degrees)))) for degrees in lists]


def vanishes(degrees: Sequence[int]) -> bool:
    """Whether the invariant is zero whatever the neighbours: an odd sum, or one degree above the sum of the others."""
    return (
        sum(degrees) % 2 == 1
        or 2 * max(degrees) > sum(degrees)
        or (len(degrees) == 2 and len(set(degrees)) == 2)
    )
