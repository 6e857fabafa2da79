"""Closed forms of networks' derivatives against automatic differentiation."""

from __future__ import annotations

import pytest
import torch

from nnpkit.measure.closed_form import Tape, activation_derivatives, plain
from nnpkit.models.networks import ACTIVATIONS, AtomicNetwork, activation_function
from nnpkit.models.residual_networks import ResidualNetwork

SMOOTH = ["tanh", "logistic", "softplus", "gaussian"]
ALL = sorted(ACTIVATIONS)


def make_network(activation: str, timestep: bool) -> ResidualNetwork:
    network = ResidualNetwork(
        3, [6, 6, 4, 5], activation, timestep
    )  # doubled, kept, and two without shortcut
    network.initialise("deepmd", torch.Generator().manual_seed(3))
    return network


@pytest.mark.parametrize("name", ALL)
def test_derivatives_of_activations(name):
    z = torch.linspace(-3.0, 3.0, 40, dtype=torch.float64, requires_grad=True)
    expected = [activation_function(z, name)]
    for _ in range(2):
        constant = not expected[-1].requires_grad
        expected.append(
            torch.zeros_like(z)
            if constant
            else torch.autograd.grad(expected[-1].sum() + 0.0 * z.sum(), z, create_graph=True)[0]
        )
    for found, value in zip(activation_derivatives(name, z), expected, strict=True):
        assert torch.allclose(found, value, rtol=1e-13, atol=1e-14)


def test_other_activations_are_refused():
    with pytest.raises(ValueError, match="no derivatives of the activation function step"):
        activation_derivatives("step", torch.zeros(1))


@pytest.mark.parametrize("timestep", [False, True])
@pytest.mark.parametrize("activation", SMOOTH)
def test_gradients_of_sums(activation, timestep):
    network = make_network(activation, timestep)
    x, u = torch.randn(7, 3, dtype=torch.float64), torch.randn(2, 7, 5, dtype=torch.float64)
    with torch.no_grad():
        tape = Tape(network, x)
        found = tape.gradients(u)
    assert torch.allclose(tape.outputs, network(x), rtol=1e-13, atol=0)
    for row in range(2):
        expected = torch.autograd.grad((network(x) * u[row]).sum(), list(network.parameters()))
        for gradient, value in zip(found, expected, strict=True):
            assert torch.allclose(gradient[row], value, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("timestep", [False, True])
@pytest.mark.parametrize("activation", SMOOTH)
def test_gradients_of_directional_derivatives(activation, timestep):
    network = make_network(activation, timestep)
    x = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    u = torch.randn(7, 5, dtype=torch.float64)
    where = torch.tensor([[0, 3, 3, 6], [5, 2, 1, 0]])
    x_dot = torch.randn(2, 4, 3, 3, dtype=torch.float64)  # (A, S, X, n_inputs)
    with torch.no_grad():
        tape = Tape(network, x.detach())
        tape.backward(u)
        tangents = tape.tangents(where, x_dot)
    (slope,) = torch.autograd.grad((network(x) * u).sum(), x, create_graph=True)
    assert torch.allclose(tape.slope, slope, rtol=1e-11, atol=1e-12)
    for a in range(2):
        for k in range(3):
            h = (slope[where[a]] * x_dot[a, :, k]).sum()
            assert float((tangents.outputs[a, :, k] * u[where[a]]).sum()) == pytest.approx(
                float(h), rel=1e-11
            )
            parameters = list(network.parameters())
            *expected, by_x = torch.autograd.grad(h, [*parameters, x], retain_graph=True)
            for gradient, value in zip(tangents.gradients, expected, strict=True):
                assert torch.allclose(gradient[a, k], value, rtol=1e-10, atol=1e-11)
            own = torch.zeros_like(x).index_add(0, where[a], tangents.slope[a, :, k])
            assert torch.allclose(own, by_x, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("activation", ALL)
def test_directional_derivatives_of_an_atomic_network(activation):
    network = AtomicNetwork(3, [5, 4], [activation, activation, "linear"])
    network.initialise("modified_xavier", torch.Generator().manual_seed(2))
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    where = torch.tensor([[0, 3, 5], [2, 1, 0]])
    direction = torch.randn(2, 3, 3, dtype=torch.float64)
    direction[1, 2] = 0.0  # as rows with fewer atoms are filled up
    with torch.no_grad():
        tape = Tape(plain(network), x.detach())
        tape.backward(torch.ones(6, 1, dtype=torch.float64))
        tangents = tape.tangents(where, direction.unsqueeze(2))
    (slope,) = torch.autograd.grad(network(x).sum(), x, create_graph=True)
    values = (slope[where] * direction).sum((1, 2))
    assert torch.allclose(tangents.outputs.sum((1, 2, 3)), values, rtol=1e-12, atol=1e-13)
    for row in range(2):
        expected = torch.autograd.grad(
            values[row], list(network.parameters()), retain_graph=True, allow_unused=True
        )
        for gradient, value in zip(tangents.gradients, expected, strict=True):
            wanted = torch.zeros_like(gradient[row, 0]) if value is None else value
            assert torch.allclose(gradient[row, 0], wanted, rtol=1e-10, atol=1e-12)
