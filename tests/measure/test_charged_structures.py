"""What is measured of potentials with charges, against finite differences of the weights and the slow way."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from nnpkit.errors import InputError
from nnpkit.measure.charged_structures import (
    ChargedFrameStore,
    ChargedGraphStore,
    ChargedObserver,
    ChargeObserver,
)
from nnpkit.measure.fixed_charges import FixedChargeObserver, FixedChargeStore
from nnpkit.measure.label_choice import Labels
from nnpkit.measure.observations import LossWeights, Noise

PATH = Path(__file__).parents[1] / "models" / "test_charged_model.py"
SPEC = importlib.util.spec_from_file_location("charged_models", PATH)
made = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(made)
LABELS = Labels([0, 1], True, [torch.tensor([0, 5, 13]), torch.tensor([2])], False)


def structures():
    found = []
    for periodic, charge in ((True, 0.0), (False, 1.0)):
        s = made.structure(periodic, charge)
        random = np.random.default_rng(3)
        s.energy, s.forces = -14.0, random.normal(size=(6, 3))
        s.charges = random.normal(size=6)
        s.stress = 0.01 * np.eye(3) if periodic else None
        found.append(s)
    return found


@pytest.mark.parametrize("generation", ["third", "fourth", "latent"])
def test_kept_features_give_the_numbers_of_the_potential_itself(generation: str) -> None:
    model = made.make_model(generation)
    model.requires_grad_(True)
    stores = [kind(model, structures(), 1e9) for kind in (ChargedFrameStore, ChargedGraphStore)]
    labels = [LABELS, Labels([0], False, None, True)]
    for one in labels:
        fast, slow = (ChargedObserver(store, Noise(), LossWeights(1.0, 2.0, 0.5)) for store in stores)
        a, b = fast.measure(one), slow.measure(one)
        np.testing.assert_allclose(a.residual, b.residual, atol=1e-9)
        np.testing.assert_allclose(a.jacobian, b.jacobian, atol=1e-8)
        assert float(fast.loss(one)) == pytest.approx(float(slow.loss(one)), rel=1e-10)


@pytest.mark.parametrize(("generation", "kind"), [("fourth", ChargedObserver), ("third", ChargeObserver),
                                                  ("fourth", ChargeObserver)])  # fmt: skip
def test_jacobians_are_derivatives_by_the_weights(generation: str, kind) -> None:
    model = made.make_model(generation)
    model.requires_grad_(True)
    observer = kind(ChargedFrameStore(model, structures(), 1e9), Noise(), LossWeights())
    jacobian, h = observer.measure(LABELS).jacobian, 1e-4
    start = 0
    for parameter in observer.parameters:
        flat, end = parameter.data.view(-1), start + parameter.numel()
        values = []
        for step in (h, -h):
            flat[0] += step
            values.append(observer.measure(LABELS).residual)
            flat[0] -= step
        difference = -(values[0] - values[1]) / (2 * h)
        np.testing.assert_allclose(jacobian[:, start], difference, atol=3e-6, rtol=1e-6)
        start = end


@pytest.mark.parametrize("generation", ["third", "fourth"])
def test_rows_of_charges_in_closed_form_are_those_of_automatic_differentiation(generation: str) -> None:
    model = made.make_model(generation)
    model.requires_grad_(True)
    stores = [kind(model, structures(), 1e9) for kind in (ChargedFrameStore, ChargedGraphStore)]
    fast, slow = (ChargeObserver(store, Noise(), LossWeights()).measure(LABELS) for store in stores)
    np.testing.assert_allclose(fast.residual, slow.residual, atol=1e-12)
    np.testing.assert_allclose(fast.jacobian, slow.jacobian, rtol=1e-9, atol=1e-12)
    assert float(fast.jacobian.abs().max()) > 1e-3


def test_stretched_outputs_make_the_same_charges_and_leave_the_weights_as_they_were() -> None:
    """While charges alone are learnt, a weight counts by what a charge of its element costs."""
    model = made.make_model("fourth")
    model.requires_grad_(True)
    before = [parameter.detach().clone() for parameter in model.charge_parameters()]
    with torch.no_grad():
        model.hardness_root[1] = 20.0
    stores = [kind(model, structures(), 1e9) for kind in (ChargedFrameStore, ChargedGraphStore)]
    observers = [ChargeObserver(store, Noise(), LossWeights()) for store in stores]
    plain = observers[0].measure(LABELS)
    with model.stretched():
        fast, slow = (observer.measure(LABELS) for observer in observers)
        costs = model.own_interactions() + model.hardness.detach()
        network = model.charge_networks[0].networks[1]
        np.testing.assert_allclose(model.stretch, costs)
        np.testing.assert_allclose(
            network.layers[-1].weight.detach() * costs[1], _last(before, 1), rtol=1e-12
        )
    np.testing.assert_allclose(plain.residual, fast.residual, atol=1e-12)
    np.testing.assert_allclose(fast.jacobian, slow.jacobian, rtol=1e-9, atol=1e-10)
    assert float((fast.jacobian - plain.jacobian).abs().max()) > 0.1
    for parameter, value in zip(model.charge_parameters()[:-1], before[:-1], strict=True):
        np.testing.assert_allclose(parameter.detach(), value, rtol=1e-12)


def _last(parameters: list[torch.Tensor], t: int) -> torch.Tensor:
    """Weights of the output of an element among the parameters of networks with one hidden layer."""
    return parameters[4 * t + 2]


def test_charges_alone_are_measured_where_there_are_any() -> None:
    model = made.make_model("third")
    some = structures()
    some[1].charges = None
    observer = ChargeObserver(ChargedFrameStore(model, some, 1e9), Noise(), LossWeights())
    with torch.no_grad():
        predicted = made.predict(model, some[0]).charges[0]
    np.testing.assert_allclose(observer.errors(0), predicted - torch.tensor(some[0].charges), atol=1e-12)
    with pytest.raises(InputError, match="the frame has no charges"):
        observer.errors(1)


@pytest.mark.parametrize("generation", ["third", "fourth"])
@pytest.mark.parametrize("budget", [1e9, 0.0])
def test_fixed_charges_give_the_numbers_of_the_potential_itself(generation: str, budget: float) -> None:
    """The second stage of training, in closed form, against automatic differentiation of everything."""
    model = made.make_model(generation)
    fast = FixedChargeObserver(
        FixedChargeStore(model, structures(), budget), Noise(), LossWeights(1.0, 2.0, 0.5)
    )
    slow = ChargedObserver(ChargedGraphStore(model, structures(), 1e9), Noise(), LossWeights(1.0, 2.0, 0.5))
    for one in (
        LABELS,
        Labels([0], False, None, True),
        Labels([1, 0], True, [torch.arange(18)] * 2, False, 3),
    ):
        a, b = fast.measure(one), slow.measure(one)
        np.testing.assert_allclose(a.residual, b.residual, atol=1e-9)
        np.testing.assert_allclose(a.jacobian, b.jacobian, atol=1e-8)
        assert float(fast.loss(one)) == pytest.approx(float(slow.loss(one)), rel=1e-10)
        if one.group is None:  # as three processes measure them together
            parts = [fast.of_part(rank, 3).measure(one) for rank in range(3)]
            np.testing.assert_allclose(sum(part.residual for part in parts), a.residual, atol=1e-9)
            np.testing.assert_allclose(sum(part.jacobian for part in parts), a.jacobian, atol=1e-9)
            assert all(torch.equal(*pair) for pair in zip(parts[0].origin, a.origin, strict=True))
    for index in (0, 1):
        a, b = fast.store.predict(index), slow.store.predict(index)
        for name in ("energy", "forces", "virial", "charges"):
            np.testing.assert_allclose(getattr(a, name), getattr(b, name).detach(), atol=1e-9)


def test_refined_charges_are_measured_beside_energies() -> None:
    """Rows of charges are those of the observer of charges, behind all others; the filter takes them as they are."""
    model = made.make_model("fourth", trained=True)
    assert all(parameter.requires_grad for parameter in model.parameters())
    some = structures()
    some[1].charges = None
    store = ChargedFrameStore(model, some, 1e9)
    joint, alone = (kind(store, Noise(), LossWeights()) for kind in (ChargedObserver, ChargeObserver))
    found, charges = joint.measure(LABELS), alone.measure(Labels([0], True, None, False))
    assert len(found.residual) == 2 + 4 + 6
    np.testing.assert_allclose(found.residual[-6:], charges.residual, atol=1e-12)
    np.testing.assert_allclose(found.jacobian[-6:], charges.jacobian, atol=1e-10)
    assert found.origin.kind[-6:].tolist() == [-1] * 6
    forces = Labels([0], False, [torch.tensor([3])], False)
    assert len(joint.measure(forces).residual) == 1
    plain = made.make_model("fourth")
    plain.load_state_dict(model.state_dict())
    without = ChargedObserver(ChargedFrameStore(plain, some, 1e9), Noise(), LossWeights())
    expected = float(without.loss(LABELS)) + 25.0 * float(charges.residual.square().mean())
    assert float(joint.loss(LABELS)) == pytest.approx(expected, rel=1e-9)
