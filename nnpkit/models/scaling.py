"""Scaling of features to the range that networks like, stored with the model."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["SCALING_KINDS", "FeatureStatistics", "Scaling", "feature_statistics"]

SCALING_KINDS = ("none", "minmax", "center", "minmax_center", "sigma")
_OF_ITSELF, _OF_LARGEST = 1e-8, 1e-10
"""Variation, relative to the size of a feature and to the largest one of the element, that rounding may be all of."""


class FeatureStatistics(NamedTuple):
    """Minimum, maximum, mean and standard deviation of raw features, each (n_types, D)."""

    minimum: Tensor
    maximum: Tensor
    mean: Tensor
    sigma: Tensor


def feature_statistics(features: Tensor, types: Tensor, n_types: int) -> FeatureStatistics:
    """Statistics over atoms of `features` (N, D) for each element; zeros for an element without atoms."""
    rows = []
    for t in range(n_types):
        mine = features[types == t]
        if len(mine) == 0:
            mine = features.new_zeros(1, features.shape[1])
        rows.append((mine.amin(0), mine.amax(0), mine.mean(0), mine.std(0, correction=0)))
    return FeatureStatistics(*(torch.stack(column) for column in zip(*rows, strict=True)))


class Scaling(nn.Module):
    """Affine map of each element's features: ``scaled = (raw - shift) * factor + lower``.

    The kinds are n2p2's: ``minmax`` maps [min, max] to [lower, upper]; ``center`` subtracts the mean;
    ``minmax_center`` subtracts the mean and divides by the range; ``sigma`` subtracts the mean and divides by
    the standard deviation, both times (upper - lower).
    """

    def __init__(self, n_types: int, n_features: int) -> None:
        super().__init__()
        shape = (n_types, n_features)
        self.register_buffer("shift", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("factor", torch.ones(shape, dtype=torch.float64))
        self.register_buffer("lower", torch.zeros((), dtype=torch.float64))
        self.register_buffer("minimum", torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("maximum", torch.zeros(shape, dtype=torch.float64))

    def forward(self, features: Tensor, types: Tensor) -> Tensor:
        """Scaled features (n_local, D)."""
        shift, factor = self.shift.index_select(0, types), self.factor.index_select(0, types)
        return (features - shift) * factor + self.lower

    @torch.jit.unused
    def set(
        self, statistics: FeatureStatistics, kind: str, lower: float, upper: float, exact: bool = False
    ) -> None:
        """Define the map from the statistics of the training data; a constant feature maps to `lower`.

        Constant are, too, those that vary by rounding alone, as many invariants do in crystals whose symmetry makes
        them zero: divided by that, two ways of adding up the same neighbours would give different energies. With
        ``exact`` only what does not vary at all is constant, for the statistics of another program.
        """
        zero = torch.zeros_like(statistics.mean)
        width = statistics.maximum - statistics.minimum
        shift, divisor = {
            "none": (zero, torch.ones_like(zero)),
            "minmax": (statistics.minimum, width / (upper - lower)),
            "center": (statistics.mean, torch.ones_like(zero)),
            "minmax_center": (statistics.mean, width / (upper - lower)),
            "sigma": (statistics.mean, statistics.sigma / (upper - lower)),
        }[kind]
        self.shift.copy_(shift)
        least = zero if exact or kind in ("none", "center") else _rounding(statistics, divisor)
        self.factor.copy_(torch.where(divisor > least, 1.0 / divisor, zero))
        self.lower.fill_(0.0 if kind in ("none", "center") else lower)
        self.observe(statistics)

    @torch.jit.unused
    def observe(self, statistics: FeatureStatistics) -> None:
        """Keep the ranges of the features and leave the map as it is: those of a trained descriptor have changed."""
        self.minimum.copy_(statistics.minimum)
        self.maximum.copy_(statistics.maximum)


def _rounding(statistics: FeatureStatistics, divisor: Tensor) -> Tensor:
    """What `divisor` (n_types, D) has to exceed."""
    size = torch.maximum(statistics.minimum.abs(), statistics.maximum.abs())
    return torch.maximum(_OF_ITSELF * size, _OF_LARGEST * divisor.amax(1, keepdim=True))
