"""Loss weights and learning rate that change together, as users of DeePMD-kit know them."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from nnpkit.measure.observations import LossWeights, Prefactors
from nnpkit.training.updates import GradientUpdate


def test_prefactors_follow_the_learning_rate():
    prefactors = Prefactors((0.02, 1.0), (1000.0, 1.0), (0.1, 0.3))
    assert prefactors.at(1.0) == LossWeights(0.02, 1000.0, pytest.approx(0.1), "square")
    middle = prefactors.at(0.25)
    assert middle.energy == pytest.approx(1.0 * 0.75 + 0.02 * 0.25)
    assert middle.force == pytest.approx(1.0 * 0.75 + 1000.0 * 0.25)
    assert prefactors.at(0.0) == LossWeights(1.0, 1.0, 0.3, "square")


@pytest.mark.parametrize(("per_atom", "divisor"), [(True, 9.0), ("square", 3.0), (False, 1.0)])
def test_errors_per_atom(per_atom, divisor):
    assert LossWeights(per_atom=per_atom).divisor(9) == divisor


class Parabola:
    """Observer of one weight whose loss is its weighted square."""

    def __init__(self):
        self.parameters = [torch.nn.Parameter(torch.tensor([1.0], dtype=torch.float64))]
        self.weights = LossWeights()
        self.seen = []

    def loss(self, labels):
        self.seen.append(self.weights)
        return self.weights.force * self.parameters[0].square().sum()

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        assert not state


def test_updates_use_the_weights_of_their_learning_rate():
    observer = Parabola()
    optimizer = torch.optim.SGD(observer.parameters, lr=0.1)
    prefactors = Prefactors(force=(10.0, 1.0))
    update = GradientUpdate(optimizer, observer, None, 0.5, 2, prefactors)
    rates = [update.apply(SimpleNamespace())["learning_rate"] for _ in range(5)]
    ratios = [1.0, 1.0, 0.5, 0.5, 0.25]
    assert rates == pytest.approx([0.1 * ratio for ratio in ratios])
    assert observer.seen == [prefactors.at(ratio) for ratio in ratios]
    resumed = GradientUpdate(torch.optim.SGD(observer.parameters, lr=0.1), observer, None, 0.5, 2, prefactors)
    resumed.load_state_dict(update.state_dict())
    assert resumed.apply(SimpleNamespace())["learning_rate"] == pytest.approx(0.1 * 0.25)
    assert math.isclose(observer.seen[-1].force, 1.0 + 9.0 * 0.25)
