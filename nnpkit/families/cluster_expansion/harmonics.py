"""Real spherical harmonics as polynomials of the components of a unit vector.

Orthonormal on the sphere and without the Condon-Shortley phase. The components of each l stand in the order
``m = 0, cos 1, sin 1, cos 2, sin 2, ...``, l by l, beginning with l = 1: component m of l has the index
`component_index`. Up to l = 4 these are 24 numbers, in the order of GPUMD's NEP.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["component_index", "harmonics", "harmonics_gradient"]


def component_index(degree: int, component: int) -> int:
    """Index of the component (0, 1, ..., 2 l for m = 0, cos 1, sin 1, ...) of the harmonics of a degree l >= 1."""
    return degree * degree - 1 + component


def _norm(degree: int, order: int) -> float:
    """Factor that makes the harmonic of `degree` and `order` orthonormal, 1 / sqrt(4 pi) in it."""
    value = (2.0 * degree + 1.0) / (4.0 * math.pi)
    for factor in range(degree - order + 1, degree + order + 1):
        value /= float(factor)
    return math.sqrt(value if order == 0 else 2.0 * value)


def _legendre(z: Tensor, order: int, l_max: int) -> list[Tensor]:
    """Derivatives ``d^m P_l / dz^m`` of Legendre polynomials, m = `order`, for l = m ... l_max."""
    start = 1.0
    for factor in range(order):
        start *= 2.0 * factor + 1.0
    values = [torch.full_like(z, start)]
    if l_max > order:
        values.append((2.0 * order + 1.0) * z * values[0])
    for degree in range(order + 2, l_max + 1):
        above = (2.0 * degree - 1.0) * z * values[-1] - (degree + order - 1.0) * values[-2]
        values.append(above / float(degree - order))
    return values


def harmonics(unit: Tensor, l_max: int) -> Tensor:
    """Harmonics (E, (l_max + 1)^2 - 1) of the directions `unit` (E, 3), l = 1 ... l_max."""
    x, y, z = unit[:, 0], unit[:, 1], unit[:, 2]
    columns = [torch.empty(0) for _ in range((l_max + 1) * (l_max + 1) - 1)]
    cosine, sine = torch.ones_like(x), torch.zeros_like(x)  # of m phi, times sin(theta)^m
    for order in range(l_max + 1):
        polynomials = _legendre(z, order, l_max)
        for degree in range(max(order, 1), l_max + 1):
            value = polynomials[degree - order] * _norm(degree, order)
            first = component_index(degree, max(2 * order - 1, 0))
            columns[first] = value * cosine
            if order > 0:
                columns[first + 1] = value * sine
        cosine, sine = x * cosine - y * sine, x * sine + y * cosine
    return torch.stack(columns, dim=1)


def harmonics_gradient(unit: Tensor, l_max: int) -> Tensor:
    """Derivatives ((l_max + 1)^2 - 1, 3, E) of the harmonics by the components of `unit` (E, 3).

    They are those of the polynomials; along changes of a direction, which are tangential, those of the harmonics.
    """
    x, y, z = unit[:, 0].contiguous(), unit[:, 1].contiguous(), unit[:, 2].contiguous()
    result = unit.new_zeros(((l_max + 1) * (l_max + 1) - 1, 3, unit.shape[0]))
    cosine, sine = torch.ones_like(x), torch.zeros_like(x)
    below_cosine, below_sine = torch.zeros_like(x), torch.zeros_like(x)  # of (m - 1) phi
    polynomials = [_legendre(z, order, max(l_max, order)) for order in range(l_max + 2)]
    for order in range(l_max + 1):
        values, slopes = polynomials[order], polynomials[order + 1]
        for degree in range(max(order, 1), l_max + 1):
            norm = _norm(degree, order)
            value = (order * norm) * values[degree - order]
            first = component_index(degree, max(2 * order - 1, 0))
            if order > 0:
                torch.mul(value, below_cosine, out=result[first, 0])
                torch.mul(value, below_sine, out=result[first, 1]).neg_()
                torch.mul(value, below_sine, out=result[first + 1, 0])
                torch.mul(value, below_cosine, out=result[first + 1, 1])
            if degree > order:
                slope = norm * slopes[degree - order - 1]
                torch.mul(slope, cosine, out=result[first, 2])
                if order > 0:
                    torch.mul(slope, sine, out=result[first + 1, 2])
        below_cosine, below_sine = cosine, sine
        cosine, sine = x * cosine - y * sine, x * sine + y * cosine
    return result
