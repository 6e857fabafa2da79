"""Feed-forward atomic networks, one per element, and their initialisation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

__all__ = ["ACTIVATIONS", "INITIALISATIONS", "AtomicNetwork", "ElementNetworks", "activation_function"]

ACTIVATIONS = {
    "tanh": "t", "linear": "l", "logistic": "s", "softplus": "p", "gaussian": "g", "cosine": "c",
    "relu": "r", "reverse_logistic": "S", "exponential": "e", "harmonic": "h",
}  # fmt: skip
"""Names of activation functions and their letters in RuNNer's ``global_activation_short``."""

INITIALISATIONS = ("xavier", "nguyen_widrow", "modified_xavier")


def activation_function(x: Tensor, name: str) -> Tensor:
    """Apply the activation function called `name` (a key of `ACTIVATIONS`)."""
    if name == "tanh":
        return torch.tanh(x)
    if name == "linear":
        return x
    if name == "logistic":
        return torch.sigmoid(x)
    if name == "softplus":
        return torch.logaddexp(x, torch.zeros_like(x))
    if name == "gaussian":
        return torch.exp(-0.5 * x * x)
    if name == "cosine":
        return torch.cos(x)
    if name == "relu":
        return torch.relu(x)
    if name == "reverse_logistic":
        return 1.0 - torch.sigmoid(x)
    if name == "exponential":
        return torch.exp(-x)
    if name == "harmonic":
        return x * x
    raise ValueError("unknown activation function " + name)


class AtomicNetwork(nn.Module):
    """Feed-forward network from the features of one atom to its energy, ``n_inputs - hidden... - 1``.

    Parameters
    ----------
    n_inputs : int
        Number of features.
    hidden : sequence of int
        Nodes of each hidden layer.
    activations : sequence of str
        One per hidden layer and one for the output node.
    """

    def __init__(self, n_inputs: int, hidden: Sequence[int], activations: Sequence[str]) -> None:
        super().__init__()
        if len(activations) != len(hidden) + 1:
            raise ValueError(f"{len(hidden)} hidden layers need {len(hidden) + 1} activation functions")
        sizes = [n_inputs, *hidden, 1]
        self.n_inputs = n_inputs
        self.layers = nn.ModuleList(nn.Linear(a, b, dtype=torch.float64) for a, b in pairwise(sizes))
        self.activations = list(activations)

    def forward(self, x: Tensor) -> Tensor:
        """Energies (n,) of scaled features (n, n_inputs)."""
        for position, layer in enumerate(self.layers):
            x = activation_function(layer(x), self.activations[position])
        return x.squeeze(1)

    @torch.jit.unused
    def initialise(self, kind: str, generator: torch.Generator) -> None:
        """Draw new weights.

        ``xavier``: uniform in +-sqrt(6 / (fan_in + fan_out)), biases zero (Glorot and Bengio 2010);
        ``modified_xavier``: normal with variance 2 / (fan_in + fan_out), biases from the same distribution as
        proposed for high-dimensional networks by Eckhoff and Behler, J. Chem. Theory Comput. 15, 3793 (2019);
        ``nguyen_widrow``: hidden nodes share the input range evenly (Nguyen and Widrow 1990), output layer
        as in ``xavier``.
        """
        for position, layer in enumerate(self.layers):
            fan_out, fan_in = layer.weight.shape
            uniform = lambda shape: 2.0 * torch.rand(shape, generator=generator, dtype=torch.float64) - 1.0  # noqa: E731
            with torch.no_grad():
                if kind == "modified_xavier":
                    sigma = math.sqrt(2.0 / (fan_in + fan_out))
                    normal = (
                        torch.randn((fan_out, fan_in + 1), generator=generator, dtype=torch.float64) * sigma
                    )
                    layer.weight.copy_(normal[:, :fan_in])
                    layer.bias.copy_(normal[:, fan_in])
                elif kind == "nguyen_widrow" and position < len(self.layers) - 1:
                    beta = 0.7 * fan_out ** (1.0 / fan_in)
                    direction = uniform((fan_out, fan_in))
                    layer.weight.copy_(beta * direction / direction.norm(dim=1, keepdim=True))
                    layer.bias.copy_(beta * uniform((fan_out,)))
                elif kind in ("xavier", "nguyen_widrow"):
                    layer.weight.copy_(uniform((fan_out, fan_in)) * math.sqrt(6.0 / (fan_in + fan_out)))
                    layer.bias.zero_()
                else:
                    raise ValueError(f"unknown initialisation {kind!r}")

    @torch.jit.unused
    def shift_and_stretch(self, mean_before: float, mean_after: float, ratio: float) -> None:
        """Change the linear output node so that outputs y become ``mean_after + ratio (y - mean_before)``.

        The preconditioning of Tokita and Behler, J. Chem. Phys. 159, 121501 (2023), Fig. 7.
        """
        with torch.no_grad():
            self.layers[-1].weight.mul_(ratio)
            self.layers[-1].bias.copy_(mean_after + ratio * (self.layers[-1].bias - mean_before))


class ElementNetworks(nn.Module):
    """One `AtomicNetwork` per element, applied to the atoms of that element."""

    def __init__(self, networks: Sequence[AtomicNetwork]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, features: Tensor, types: Tensor) -> Tensor:
        """Network outputs (n_local,) of scaled features (n_local, D)."""
        output = torch.zeros(types.shape[0], dtype=features.dtype, device=features.device)
        for t, network in enumerate(self.networks):
            mine = torch.nonzero(types == t).squeeze(1)
            inputs = features.index_select(0, mine)[:, : network.n_inputs]
            output = output.index_add(0, mine, network(inputs))
        return output
