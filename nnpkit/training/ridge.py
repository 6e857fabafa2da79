"""Ridge regression: large weights cost something (Tokita and Behler, J. Chem. Phys. 159, 121501 (2023), sec. III)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nnpkit.optim.kalman import Measurement

__all__ = ["Ridge"]


class Ridge:
    """The term ``strength * |w|^2`` in what every update minimises, w being the weights without the biases.

    For a gradient optimizer it is added to the loss. A Kalman update minimises squared residuals in units of their
    variance; there the term is a prior, in the form of one more observation at every update: that the sum of all
    weights with random signs is zero, with the variance ``1 / strength``, which is the term on average.

    Parameters
    ----------
    strength : float
        Per squared weight.
    parameters : sequence of Tensor
        Of the networks, in the order of the columns of the Jacobian; vectors are biases and not concerned.
    seed : int
        Of the signs.
    """

    def __init__(self, strength: float, parameters: Sequence[Tensor], seed: int) -> None:
        self.strength, self.parameters = strength, list(parameters)
        self.concerned = torch.cat([torch.full((p.numel(),), p.ndim > 1) for p in self.parameters])
        self.generator = torch.Generator().manual_seed(seed)

    def penalty(self) -> Tensor:
        """The term (0-dim), differentiable."""
        squares = [p.square().sum() for p in self.parameters if p.ndim > 1]
        return self.strength * torch.stack(squares).sum()

    def observed(self, measurement: Measurement) -> Measurement:
        """The measurement with one observation more."""
        signs = torch.randint(2, self.concerned.shape, generator=self.generator) * 2 - 1
        row = (signs * self.concerned).to(measurement.jacobian.dtype)
        weights = torch.cat([p.detach().reshape(-1) for p in self.parameters]).to(row.dtype)
        variance = measurement.noise.new_tensor([1.0 / self.strength])
        return Measurement(
            torch.cat([measurement.residual, -(row @ weights).reshape(1)]),
            torch.cat([measurement.jacobian, row.unsqueeze(0)]),
            torch.cat([measurement.noise, variance]),
        )

    def state_dict(self) -> dict[str, Tensor]:
        """State of the generator."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from `state_dict`."""
        self.generator.set_state(state["generator"])
