"""Cutoff functions fc(r; r_c), smooth to zero at r_c and zero beyond."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["CUTOFF_KINDS", "cutoff_function"]

CUTOFF_KINDS = (
    "hard",
    "cosine",
    "tanh3",
    "tanh3_normalized",
    "exponential",
    "poly1",
    "poly2",
    "poly3",
    "poly4",
)
"""Names in the order of the RuNNer/n2p2 keyword ``cutoff_type`` (0, 1, 2, ... 8)."""


def cutoff_function(r: Tensor, cutoff: float, kind: str, inner: float = 0.0) -> Tensor:
    """Value of the cutoff function for distances `r` (any shape, Å).

    Parameters
    ----------
    cutoff : float
        Radius r_c beyond which the function is zero.
    kind : str
        With ``x = (r - r_inner) / (r_c - r_inner)``, ``r_inner = inner * cutoff`` and 1 below r_inner:

        * ``cosine``: ``(1 + cos(pi x)) / 2`` (Behler, J. Chem. Phys. 134, 074106 (2011), eq. 4)
        * ``poly1`` .. ``poly4``: the polynomials of degree 3, 5, 7, 9 whose first 1, 2, 3, 4 derivatives
          vanish at both ends (Singraber et al., J. Chem. Theory Comput. 15, 1827 (2019))

        and without an inner radius:

        * ``tanh3``: ``tanh(1 - r/r_c)^3`` (Shao et al., J. Chem. Phys. 155, 204108 (2021), supplement, eq. 3);
          ``tanh3_normalized`` is 1 at r = 0
        * ``exponential``: ``exp(1 - 1 / (1 - (r/r_c)^2))``
        * ``hard``: 1
    inner : float
        Fraction of the cutoff below which ``cosine`` and the polynomials are 1.
    """
    inside = r < cutoff
    if kind == "tanh3" or kind == "tanh3_normalized":
        t = torch.tanh(1.0 - torch.clamp(r / cutoff, max=1.0))
        value = t * t * t
        if kind == "tanh3_normalized":
            value = value / math.pow(math.tanh(1.0), 3)
        return torch.where(inside, value, torch.zeros_like(value))
    if kind == "exponential":
        y = r / cutoff
        safe = torch.where(inside, y * y, torch.zeros_like(y))
        return torch.where(inside, torch.exp(1.0 - 1.0 / (1.0 - safe)), torch.zeros_like(y))
    if kind == "hard":
        return torch.where(inside, torch.ones_like(r), torch.zeros_like(r))
    x = torch.clamp((r - inner * cutoff) / (cutoff - inner * cutoff), min=0.0, max=1.0)
    if kind == "cosine":
        value = 0.5 * (torch.cos(math.pi * x) + 1.0)
    elif kind == "poly1":
        value = (2.0 * x - 3.0) * x * x + 1.0
    elif kind == "poly2":
        value = ((15.0 - 6.0 * x) * x - 10.0) * x * x * x + 1.0
    elif kind == "poly3":
        x2 = x * x
        value = (((20.0 * x - 70.0) * x + 84.0) * x - 35.0) * x2 * x2 + 1.0
    elif kind == "poly4":
        x2 = x * x
        value = ((((315.0 - 70.0 * x) * x - 540.0) * x + 420.0) * x - 126.0) * x2 * x2 * x + 1.0
    else:
        raise ValueError("unknown cutoff function " + kind)
    return torch.where(inside, value, torch.zeros_like(value))
