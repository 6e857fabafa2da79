"""Derivatives of networks with respect to their weights, in closed form and for many sums at once.

A row of the Kalman filter's Jacobian is the gradient of the energy's derivative along a direction. Automatic
differentiation would go through the network once for every row. But all rows share the network's inputs, so that
its layers are evaluated once, and only tangents and what is made of them are kept row by row.

Layer l of a network computes ``z = W y + b``, ``a = f(z)``, ``y' = dt a + shortcut(y)``; a dot marks the change along
a direction of the inputs. With ``u`` and ``v`` the derivatives of a row's value h with respect to the changes ``y'.``
and to ``y'`` itself, going backwards ::

    p = f'(z) dt u                    q = f''(z) z. dt u + f'(z) dt v
    dh/dW = q y^T + p y.^T            dh/db = q                dh/d dt = u a. + v a
    u <- W^T p + shortcut^T(u)        v <- W^T q + shortcut^T(v)

``u`` and ``p`` are the same for all rows.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nnpkit.models.networks import AtomicNetwork
from nnpkit.models.residual_networks import ResidualLayer, ResidualNetwork

__all__ = ["Tape", "activation_derivatives", "plain"]


def activation_derivatives(name: str, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The activation function called `name`, its first and its second derivative at `z`."""
    if name == "tanh":
        f = torch.tanh(z)
        first = 1.0 - f * f
        return f, first, -2.0 * f * first
    if name == "logistic":
        f = torch.sigmoid(z)
        first = f * (1.0 - f)
        return f, first, first * (1.0 - 2.0 * f)
    if name == "softplus":
        first = torch.sigmoid(z)
        return torch.logaddexp(z, torch.zeros_like(z)), first, first * (1.0 - first)
    if name == "gaussian":
        f = torch.exp(-0.5 * z * z)
        return f, -z * f, (z * z - 1.0) * f
    if name == "linear":
        return z, torch.ones_like(z), torch.zeros_like(z)
    if name == "cosine":
        f, g = torch.cos(z), torch.sin(z)
        return f, -g, -f
    if name == "relu":
        return torch.relu(z), (z > 0.0).to(z), torch.zeros_like(z)
    if name == "reverse_logistic":
        f, first, second = activation_derivatives("logistic", z)
        return 1.0 - f, -first, -second
    if name == "exponential":
        f = torch.exp(-z)
        return f, -f, f
    if name == "harmonic":
        return z * z, 2.0 * z, torch.full_like(z, 2.0)
    raise ValueError("no derivatives of the activation function " + name)


class PlainLayer(NamedTuple):
    """A layer without a shortcut."""

    weight: Tensor
    bias: Tensor
    activation: str
    timestep: None = None
    copies: int = 0


class PlainNetwork(NamedTuple):
    """Layers without shortcuts."""

    layers: list[PlainLayer]


def plain(network: AtomicNetwork) -> PlainNetwork:
    """`network` as a `Tape` takes it."""
    pairs = zip(network.layers, network.activations, strict=True)
    return PlainNetwork([PlainLayer(layer.weight, layer.bias, activation) for layer, activation in pairs])


class _Layer(NamedTuple):
    """A layer at n inputs."""

    layer: ResidualLayer | PlainLayer
    inputs: Tensor  # y (n, n_in)
    activations: Tensor  # a (n, n_out)
    bare: Tensor  # f'(z)
    first: Tensor  # f'(z) dt
    second: Tensor  # f''(z) dt

    def shortcut(self, y: Tensor) -> Tensor | None:
        """What the layer adds to its activations, for `y` (..., n_in)."""
        copies = self.layer.copies
        return None if copies == 0 else y if copies == 1 else torch.cat([y, y], dim=-1)

    def back(self, through: Tensor, beside: Tensor) -> Tensor:
        """Derivative by the inputs: `through` (..., n_out) the matrix and `beside` (..., n_out) it."""
        result = through @ self.layer.weight
        if self.layer.copies == 1:
            result += beside
        elif self.layer.copies == 2:
            n = self.layer.weight.shape[1]
            result += beside[..., :n] + beside[..., n:]
        return result


class Tape:
    """A network evaluated at n inputs, and its derivatives. Nothing here is for autograd.

    Parameters
    ----------
    network : ResidualNetwork or PlainNetwork
        The network as it is now.
    x : Tensor
        Inputs (n, n_inputs).
    """

    def __init__(self, network: ResidualNetwork | PlainNetwork, x: Tensor) -> None:
        self.layers: list[_Layer] = []
        for layer in network.layers:
            a, bare, second = activation_derivatives(
                layer.activation, torch.addmm(layer.bias, x, layer.weight.T)
            )
            y, first = a, bare
            if layer.timestep is not None:
                y, first, second = a * layer.timestep, bare * layer.timestep, second * layer.timestep
            entry = _Layer(layer, x, a, bare, first, second)
            shortcut = entry.shortcut(x)
            self.layers.append(entry)
            x = y if shortcut is None else y + shortcut
        self.outputs = x  # (n, n_out)

    def gradients(self, u: Tensor) -> list[Tensor]:
        """Derivatives of R sums over the n outputs with respect to all weights.

        Parameters
        ----------
        u : Tensor
            Derivatives (R, n, n_out) of each sum with respect to the outputs.

        Returns
        -------
        list of Tensor
            (R, ...) for every parameter, in the order of ``network.parameters()``.
        """
        found: list[list[Tensor]] = []
        for entry in reversed(self.layers):
            p = u * entry.first
            own = [p.transpose(1, 2) @ entry.inputs, p.sum(1)]
            if entry.layer.timestep is not None:
                own.append((u * entry.activations).sum(1))
            found.append(own)
            if entry is not self.layers[0]:
                u = entry.back(p, u)
        return [gradient for own in reversed(found) for gradient in own]

    def backward(self, u: Tensor) -> None:
        """Keep what all directions share: derivatives `u` (n, n_out) of one sum with respect to the outputs.

        Sets `adjoints`, u after each layer, and `slope`, the derivative with respect to the inputs (n, n_inputs).
        """
        self.adjoints: list[Tensor] = []
        for entry in reversed(self.layers):
            self.adjoints.append(u)
            u = entry.back(u * entry.first, u)
        self.adjoints.reverse()
        self.slope = u

    def tangents(self, where: Tensor, x_dot: Tensor) -> Tangents:
        """Changes along directions of the inputs, after `backward`.

        Parameters
        ----------
        where : Tensor
            (A, S) which of the n inputs change in each of A blocks of rows.
        x_dot : Tensor
            Their changes (A, S, X, n_inputs) in each of the X rows of a block.
        """
        return Tangents(self, where, x_dot)


class Tangents:
    """Rows ``h = sum over s of u . y_dot_s`` of a `Tape` and their derivatives.

    Attributes
    ----------
    outputs : Tensor
        Changes (A, S, X, n_out) of the outputs.
    slope : Tensor
        Derivatives (A, S, X, n_inputs) of the rows with respect to the inputs themselves.
    gradients : list of Tensor
        Derivatives (A, X, ...) with respect to every parameter.
    """

    def __init__(self, tape: Tape, where: Tensor, x_dot: Tensor) -> None:
        self.tape, self.where = tape, where
        steps = []
        for entry in tape.layers:
            z_dot = x_dot @ entry.layer.weight.T
            steps.append((x_dot, z_dot))
            shortcut = entry.shortcut(x_dot)
            x_dot = self._at(entry.first) * z_dot
            if shortcut is not None:
                x_dot += shortcut
        self.outputs = x_dot
        v = torch.zeros_like(x_dot)
        found: list[list[Tensor]] = []
        for entry, u, (y_dot, z_dot) in zip(
            reversed(tape.layers), reversed(tape.adjoints), reversed(steps), strict=True
        ):
            first = self._at(entry.first)
            q = self._at(entry.second * u) * z_dot + first * v
            found.append(self._layer_gradients(entry, u, v, q, y_dot, z_dot))
            v = entry.back(q, v)
        self.slope = v
        self.gradients = [gradient for own in reversed(found) for gradient in own]

    def _at(self, shared: Tensor) -> Tensor:
        """What all rows share (n, W) where it is needed, (A, S, 1, W)."""
        return shared[self.where].unsqueeze(2)

    def _layer_gradients(
        self, entry: _Layer, u: Tensor, v: Tensor, q: Tensor, y_dot: Tensor, z_dot: Tensor
    ) -> list[Tensor]:
        a, s, x, n_out = q.shape
        n_in = y_dot.shape[3]
        inputs, p = entry.inputs[self.where], (entry.first * u)[self.where]
        weight = (q.reshape(a, s, x * n_out).transpose(1, 2) @ inputs).view(a, x, n_out, n_in)
        crossed = (p.transpose(1, 2) @ y_dot.reshape(a, s, x * n_in)).view(a, n_out, x, n_in)
        own = [weight + crossed.transpose(1, 2), q.sum(1)]
        if entry.layer.timestep is not None:
            a_dot = self._at(entry.bare) * z_dot
            own.append((self._at(u) * a_dot + v * self._at(entry.activations)).sum(1))
        return own
