"""The fixed radial functions that trained coefficients mix, and what the coefficients begin with."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nnpkit.models.cutoff import cutoff_function

__all__ = [
    "orthonormal_combinations",
    "radial_functions",
    "radial_functions_and_slopes",
    "spread_over_elements",
]

_GRID = 4096


def radial_functions(r: Tensor, count: int, cutoff: float, cutoff_kind: str) -> Tensor:
    """Functions (E, count) ``f_k = (T_k(x) + 1) / 2 fc(r)`` with ``x = 2 (r / cutoff - 1)^2 - 1`` at `r` (E,), Å.

    Fan et al., Phys. Rev. B 104, 104309 (2021), eqs. 8-10; they are zero from the cutoff on.
    """
    inside = torch.clamp(r / cutoff, max=1.0)
    x = 2.0 * (inside - 1.0) * (inside - 1.0) - 1.0
    values = [torch.ones_like(x), x]
    for order in range(2, count):
        values.append(2.0 * x * values[order - 1] - values[order - 2])
    polynomials = torch.stack(values[:count], dim=1)
    return 0.5 * (polynomials + 1.0) * cutoff_function(r, cutoff, cutoff_kind).unsqueeze(1)


def radial_functions_and_slopes(
    r: Tensor, count: int, cutoff: float, cutoff_kind: str
) -> tuple[Tensor, Tensor]:
    """`radial_functions` (E, count) and their derivatives, 1/Å; nothing here is for autograd."""
    with torch.enable_grad():
        distance = r.detach().requires_grad_(True)
        envelope = cutoff_function(distance, cutoff, cutoff_kind)
        (bend,) = torch.autograd.grad(envelope.sum(), distance)
    envelope = 0.5 * envelope.detach()
    inside = torch.clamp(r / cutoff, max=1.0)
    x = 2.0 * (inside - 1.0) * (inside - 1.0) - 1.0
    values, slopes = r.new_empty((count + 1, len(r))), r.new_empty((count + 1, len(r)))  # of T_k
    values[0], values[1], slopes[0], slopes[1] = 1.0, x, 0.0, 1.0
    for k in range(2, count):
        values[k] = 2.0 * x * values[k - 1] - values[k - 2]
        slopes[k] = 2.0 * (values[k - 1] + x * slopes[k - 1]) - slopes[k - 2]
    values, slopes = values[:count] + 1.0, slopes[:count]
    inner = envelope * (inside - 1.0) * (4.0 / cutoff)
    return (values * envelope).T, (slopes * inner + values * (0.5 * bend)).T


def orthonormal_combinations(count: int, cutoff_kind: str) -> Tensor:
    """Coefficients (count, count): row q mixes f_0 ... f_q to a function that is orthonormal to those before it.

    The measure is that of evenly distributed neighbours, ``3 r^2 dr / cutoff^3``. The functions are the smoother the
    smaller q is, and the weights of a filter that multiply them all have the same meaning.
    """
    r = (torch.arange(_GRID, dtype=torch.float64) + 0.5) / _GRID
    root = r * math.sqrt(3.0 / _GRID)
    _, upper = torch.linalg.qr(radial_functions(r, count, 1.0, cutoff_kind) * root.unsqueeze(1))
    upper = upper * torch.sign(torch.diagonal(upper)).unsqueeze(1)
    return torch.linalg.solve_triangular(
        upper, torch.eye(count, dtype=torch.float64), upper=True
    ).T.contiguous()


def spread_over_elements(n_elements: int, channels: int, count: int) -> Tensor:
    """First coefficients (n_elements, n_elements, channels, count) of centre, neighbour, channel and function.

    Channel by channel one function and one pattern of signs of the neighbours' elements, so that no two channels are
    alike: the smooth functions first, each with all patterns. Patterns are those of the discrete cosine transform.
    """
    coefficients = torch.zeros((n_elements, n_elements, channels, count), dtype=torch.float64)
    for channel in range(channels):
        function, pattern = (channel // n_elements) % count, channel % n_elements
        for neighbor in range(n_elements):
            sign = math.cos(math.pi * pattern * (neighbor + 0.5) / n_elements)
            coefficients[:, neighbor, channel, function] = sign if pattern == 0 else math.sqrt(2.0) * sign
    return coefficients
