"""Ridge regression: large weights cost something (Tokita and Behler, J. Chem. Phys. 159, 121501 (2023), sec. III)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from nnpkit.optim.kalman import Measurement

__all__ = ["Ridge", "automatic_strength"]

_SHARE, _MOST, _LEAST = 0.1, 0.1, 0.01


_AT_ONCE = 8
"""Weights that one Kalman update is told to be zero."""


def automatic_strength(n_weights: int, n_labels: int) -> float:
    """Strength of the ridge of a Kalman filter for so many weights and labels (energies, force and stress components).

    ``0.1 n_weights / n_labels``, at most 0.1: in units of the noise of the labels it weighs most where few structures
    determine many weights. None where it would be less than 0.01, which costs more than it gives.
    """
    strength = _SHARE * n_weights / max(1, n_labels)
    return 0.0 if strength < _LEAST else min(_MOST, strength)


class Ridge:
    """The term ``strength * |w|^2`` in what every update minimises, w being the weights without the biases.

    For a gradient optimizer it is added to the loss. A Kalman update minimises squared residuals in units of their
    variance; there the term is a prior, in the form of more observations at every update: that some weights, drawn
    anew each time, are zero, with a variance that makes it the term on average.

    Parameters
    ----------
    strength : float
        Per squared weight.
    parameters : sequence of Tensor
        Of the networks, in the order of the columns of the Jacobian; vectors are biases and not concerned.
    seed : int
        Of the draws.
    """

    def __init__(self, strength: float, parameters: Sequence[Tensor], seed: int) -> None:
        self.strength, self.parameters = strength, list(parameters)
        self.concerned = torch.cat([torch.full((p.numel(),), p.ndim > 1) for p in self.parameters])
        self.generator = torch.Generator().manual_seed(seed)

    def penalty(self) -> Tensor:
        """The term (0-dim), differentiable."""
        squares = [p.square().sum() for p in self.parameters if p.ndim > 1]
        return self.strength * torch.stack(squares).sum()

    def observed(
        self, measurement: Measurement, inflation: float = 1.0, columns: Tensor | slice = slice(None)
    ) -> Measurement:
        """The measurement with observations of some weights more; its noise is going to be multiplied by `inflation`.

        One by one: a row that sums over all weights would push the least known ones about to make up for the others.
        `columns` are the weights that the Jacobian of the measurement is of, if not all.
        """
        concerned = torch.nonzero(self.concerned).squeeze(1)
        drawn = concerned[torch.randperm(len(concerned), generator=self.generator)[:_AT_ONCE]]
        weights = torch.cat([p.detach().reshape(-1) for p in self.parameters]).to(measurement.residual)
        rows = measurement.jacobian.new_zeros(len(drawn), len(weights))
        rows[torch.arange(len(drawn)), drawn] = 1.0
        variance = inflation * len(drawn) / (len(concerned) * self.strength)
        return Measurement(
            torch.cat([measurement.residual, -weights[drawn]]),
            torch.cat([measurement.jacobian, rows[:, columns]]),
            torch.cat([measurement.noise, measurement.noise.new_full((len(drawn),), variance)]),
            None if measurement.origin is None else measurement.origin.and_no_labels(len(drawn)),
        )

    def state_dict(self) -> dict[str, Tensor]:
        """State of the generator."""
        return {"generator": self.generator.get_state()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from `state_dict`."""
        self.generator.set_state(state["generator"])
