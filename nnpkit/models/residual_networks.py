"""Networks of residual layers: the embedding and fitting networks of the Deep Potential."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from nnpkit.models.networks import activation_function

__all__ = ["RESIDUAL_INITIALISATIONS", "FittingNetwork", "ResidualLayer", "ResidualNetwork"]

RESIDUAL_INITIALISATIONS = ("deepmd", "xavier")


class ResidualLayer(nn.Module):
    """``y = dt * f(W x + b) + shortcut(x)``.

    The shortcut is x where the layer keeps the width, (x, x) where it doubles it, and nothing otherwise; the
    timestep dt, one number per node, exists only beside a shortcut (Zhang et al., NeurIPS 2018).

    Parameters
    ----------
    n_in, n_out : int
        Widths.
    activation : str
        Key of `nnpkit.models.networks.ACTIVATIONS`.
    timestep : bool
        Whether there is a trainable dt.
    """

    def __init__(self, n_in: int, n_out: int, activation: str, timestep: bool) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros((n_out, n_in), dtype=torch.float64))
        self.bias = nn.Parameter(torch.zeros(n_out, dtype=torch.float64))
        self.activation = activation
        self.copies = {n_in: 1, 2 * n_in: 2}.get(n_out, 0)
        ones = nn.Parameter(torch.ones(n_out, dtype=torch.float64))
        self.register_parameter("timestep", ones if timestep and self.copies > 0 else None)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (n, n_out) of inputs (n, n_in)."""
        y = activation_function(nn.functional.linear(x, self.weight, self.bias), self.activation)
        timestep = self.timestep
        if timestep is not None:
            y = y * timestep
        if self.copies == 1:
            y = y + x
        elif self.copies == 2:
            y = y + torch.cat([x, x], dim=1)
        return y


class ResidualNetwork(nn.Module):
    """Residual layers of the given widths, one after the other.

    Parameters
    ----------
    n_inputs : int
        Width of the input.
    widths : sequence of int
        Width of each layer.
    activation, timestep
        Of every layer; see `ResidualLayer`.
    """

    def __init__(self, n_inputs: int, widths: Sequence[int], activation: str, timestep: bool) -> None:
        super().__init__()
        sizes = [n_inputs, *widths]
        self.n_inputs = n_inputs
        self.layers = nn.ModuleList(ResidualLayer(a, b, activation, timestep) for a, b in pairwise(sizes))

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (n, widths[-1]) of inputs (n, n_inputs)."""
        for layer in self.layers:
            x = layer(x)
        return x

    @torch.jit.unused
    def initialise(self, kind: str, generator: torch.Generator) -> None:
        """Draw new weights.

        ``deepmd``: weights normal with variance 1 / (fan_in + fan_out), biases standard normal, timesteps
        normal with mean 0.1 and standard deviation 0.001, as DeePMD-kit does; ``xavier``: weights uniform in
        +-sqrt(6 / (fan_in + fan_out)), biases zero, timesteps 0.1.
        """
        for layer in self.layers:
            _initialise_linear(layer.weight, layer.bias, kind, generator)
            if layer.timestep is not None:
                with torch.no_grad():
                    noise = torch.randn(len(layer.timestep), generator=generator, dtype=torch.float64)
                    layer.timestep.copy_(0.1 + (1e-3 * noise if kind == "deepmd" else 0.0 * noise))


class FittingNetwork(nn.Module):
    """Residual layers and a linear output node: from the descriptor of one atom to its energy.

    Parameters
    ----------
    n_inputs : int
        Number of features.
    hidden : sequence of int
        Width of each hidden layer.
    activation, timestep
        Of the hidden layers; see `ResidualLayer`.
    """

    def __init__(self, n_inputs: int, hidden: Sequence[int], activation: str, timestep: bool) -> None:
        super().__init__()
        self.n_inputs = n_inputs
        self.hidden = ResidualNetwork(n_inputs, hidden, activation, timestep)
        self.output = nn.Linear([n_inputs, *hidden][-1], 1, dtype=torch.float64)

    def forward(self, x: Tensor) -> Tensor:
        """Energies (n,) of features (n, n_inputs)."""
        return self.output(self.hidden(x)).squeeze(1)

    @torch.jit.unused
    def initialise(self, kind: str, generator: torch.Generator) -> None:
        """Draw new weights; see `ResidualNetwork.initialise`."""
        self.hidden.initialise(kind, generator)
        _initialise_linear(self.output.weight, self.output.bias, kind, generator)

    @torch.jit.unused
    def shift_and_stretch(self, mean_before: float, mean_after: float, ratio: float) -> None:
        """Change the output node so that outputs y become ``mean_after + ratio (y - mean_before)``."""
        with torch.no_grad():
            self.output.weight.mul_(ratio)
            self.output.bias.copy_(mean_after + ratio * (self.output.bias - mean_before))


@torch.no_grad()
def _initialise_linear(weight: Tensor, bias: Tensor, kind: str, generator: torch.Generator) -> None:
    """Draw weight (fan_out, fan_in) and bias; see `ResidualNetwork.initialise`."""
    n = sum(weight.shape)
    if kind == "deepmd":
        weight.copy_(torch.randn(weight.shape, generator=generator, dtype=torch.float64) / math.sqrt(n))
        bias.copy_(torch.randn(bias.shape, generator=generator, dtype=torch.float64))
    elif kind == "xavier":
        uniform = 2.0 * torch.rand(weight.shape, generator=generator, dtype=torch.float64) - 1.0
        weight.copy_(uniform * math.sqrt(6.0 / n))
        bias.zero_()
    else:
        raise ValueError(f"unknown initialisation {kind!r}")
