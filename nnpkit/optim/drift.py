"""How much rounding has gathered in a covariance that is stored in single precision, measured as it goes.

P holds variances that differ by many orders of magnitude, and float32 resolves seven. Every time pending rows are
folded into a block of n weights, each entry is rounded by up to ``eps/2 |P_ij|``. Two things are done about it:

- The variances are inflated by the factor ``1 + eps sqrt(n) / 4`` at each fold, about the spectral norm of such
  rounding. Without this P soon has negative eigenvalues, and the filter diverges. It acts like a process noise
  of 1e-6 of each variance.
- A random vector z, with signs by lot and magnitudes like those of the first gradient, is carried along with
  ``p = P z``, to which every update is applied in float64. What the stored P makes of z differs from p by rounding
  alone, and

      sqrt( sum_i z_i^2 (P z - p)_i^2 )

  is the root mean square error of ``h^T P h'`` for vectors h, h' of such magnitudes. Relative to the innovation
  variance ``h^T P h + R`` it is the drift that is reported. From about 0.03 on, training with the stored P was
  worse than with an exact one; beyond `DRIFT_LIMIT` the filter stops with an error.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["DRIFT_LIMIT", "Drift", "inflation"]

DRIFT_LIMIT = 0.05
_FLOOR = 1e-2  # weights without a gradient at first are probed with this fraction of the mean magnitude
_SEED = 1


def inflation(n: int) -> float:
    """Relative amount by which the variances of a block of `n` weights grow at each fold."""
    return 0.25 * math.sqrt(n) * torch.finfo(torch.float32).eps


class Drift:
    """The probe z and ``p = P z``, both (P,) in float64, of a block-diagonal P; `where` is the slice of a block."""

    def __init__(self, n_parameters: int, device: torch.device) -> None:
        self.probe = torch.zeros(n_parameters, dtype=torch.float64, device=device)
        self.image = torch.zeros_like(self.probe)
        self.begun = False

    def begin(self, rows: Tensor, diagonal: Tensor) -> None:
        """Choose the probe by the first `rows` (M, P) of a Jacobian, while P has nothing but its `diagonal`."""
        signs = torch.randint(0, 2, self.probe.shape, generator=torch.Generator().manual_seed(_SEED)) * 2 - 1
        magnitude = rows.square().mean(0).sqrt()
        floor = _FLOOR * magnitude.square().mean().sqrt()
        self.probe.copy_((magnitude + floor) * signs.to(rows))
        self.image.copy_(self.probe * diagonal)
        self.begun = True

    def subtract(self, where: slice, y: Tensor) -> None:
        """``P <- P - y^T y`` in one block, `y` (M, n)."""
        self.image[where] -= y.T @ (y @ self.probe[where])

    def add_to_diagonal(self, where: slice, variance: Tensor | float) -> None:
        """``P <- P + diag(variance)`` in one block."""
        self.image[where] += variance * self.probe[where]

    def multiply(self, factor: float) -> None:
        """``P <- factor P``."""
        self.image *= factor

    def square_error(self, product: Tensor) -> Tensor:
        """Mean square error (0-dim) of ``h^T P h'``, see the module, given the stored P's `product` (P,) with z."""
        return (self.probe * (product - self.image)).square().sum()
