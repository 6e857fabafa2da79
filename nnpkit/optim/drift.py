"""A covariance in single precision: what rounding does to it, how it is kept harmless, and how it is measured.

P holds variances that differ by many orders of magnitude, and float32 resolves seven. Where a gradient h lies in
directions that are well determined already, ``h^T P h`` is a small difference of large numbers, wrong by up to about
``eps h^T diag(P) h``, and the update built on it makes P indefinite; the filter then diverges. Two things are done:

- No observation is believed beyond rounding: to the variance of its noise is added ``NOISE_FLOOR * h^T diag(P) h``,
  with ``NOISE_FLOOR = 64 eps = 8e-6``. On networks of 1500 weights, with the settings of Hu et al., with
  physical target accuracies and with R far too small, P then stayed positive definite and training was as good as in
  float64; with 16 eps nearly so, and without it the filter was lost after one to two thousand steps.
- What rounding does nevertheless is measured. A random vector z, with signs by lot and the magnitudes of a gradient,
  is carried along with ``p = P z``, to which the updates are applied in float64. After `WINDOW` updates,
  what the stored P makes of z differs from p by rounding alone, and

      sqrt( sum_i z_i^2 (P z - p)_i^2 )

  is the root mean square error of ``h^T P h'`` for vectors of such magnitudes. Relative to the innovation variance
  ``h^T P h + R`` it is the drift that is reported; beyond `DRIFT_LIMIT` the filter stops with an error. Then a new z
  is drawn: errors of the past do not add up, because the filter works with the P that it has.
"""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["DRIFT_LIMIT", "NOISE_FLOOR", "WINDOW", "Drift"]

NOISE_FLOOR = 64.0 * torch.finfo(torch.float32).eps
WINDOW = 128
DRIFT_LIMIT = 0.05
"""Runs that were as good as in float64 had drifts up to 0.007."""


class Drift:
    """The probe z and ``p = P z``, both (P,) in float64, of a block-diagonal P; `where` is the slice of a block.

    Until the first `begin` both are zero.
    """

    def __init__(self, n_parameters: int, device: torch.device) -> None:
        self.probe = torch.zeros(n_parameters, dtype=torch.float64, device=device)
        self.image = torch.zeros_like(self.probe)

    def begin(self, row: Tensor, seed: int) -> Tensor:
        """Choose a probe by a `row` (1, P) of a Jacobian, and return it as one; `image` is to be set next."""
        signs = torch.randint(0, 2, row.shape, generator=torch.Generator().manual_seed(seed)) * 2 - 1
        probe = row.abs() * signs.to(row)
        self.probe.copy_(probe[0])
        return probe

    def subtract(self, where: slice, y: Tensor) -> None:
        """``P <- P - y^T y`` in one block, `y` (M, n)."""
        self.image[where] -= y.T @ (y @ self.probe[where])

    def add_to_diagonal(self, variance: float, active: Tensor | None = None) -> None:
        """``P <- P + variance I``, of weights that are `active` (P,)."""
        self.image.add_(self.probe if active is None else self.probe * active, alpha=variance)

    def multiply(self, factor: float) -> None:
        """``P <- factor P``."""
        self.image *= factor

    def square_error(self, product: Tensor) -> Tensor:
        """Mean square error (0-dim) of ``h^T P h'``, see the module, given the stored P's `product` (P,) with z."""
        return (self.probe * (product - self.image)).square().sum()
