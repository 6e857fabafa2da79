"""Training of Deep Potentials: moments against the potential itself, Jacobians against finite differences."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

sys.path.insert(0, str(Path(__file__).parents[1] / "families"))
from test_deep_potential import ELEMENTS, make_model

from nnpkit.data.graph import build_graph
from nnpkit.errors import InputError
from nnpkit.families.deep_potential.moments import Chebyshev
from nnpkit.families.deep_potential.observer import MomentObserver
from nnpkit.families.deep_potential.prepared import MomentStore, Resolution
from nnpkit.measure.label_choice import Labels
from nnpkit.measure.observations import LossWeights, Noise
from nnpkit.models.potential import Potential
from nnpkit.testing.trial_structures import random_structure

WALL = {"H-O": 1.6, "O-O": 2.0, "H-H": 1.5}
MODELS = {
    "one side": {},
    "pairs, wall": {"one_side": False, "timestep": True, "wall": WALL},
    "open": {"activation": "softplus"},
}


def labelled_structures(seeds=(21, 22, 23), periodic=True):
    structures = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        structure = random_structure(ELEMENTS, 6 + seed % 3, seed=seed, periodic=periodic)
        structure.symbols = [ELEMENTS[k] for k in rng.integers(0, 2, len(structure.symbols))]
        structure.energy = -40.0 + float(rng.normal())
        structure.forces = rng.normal(size=structure.positions.shape)
        stress = rng.normal(size=(3, 3))
        structure.stress = 0.5 * (stress + stress.T)
        structures.append(structure)
    return structures


def labels(structures, energy=True, components=None, virial=False):
    return Labels(structures, energy, components, virial)


def everything():
    return labels([0, 2], True, [torch.tensor([0, 7, 7, 13]), torch.tensor([2])], True)


def make_store(model, structures, budget=1e9, n_moments=96):
    resolution = Resolution(model, structures)
    resolution.set(n_moments)
    return MomentStore(resolution, structures, budget)


def make_observer(kind="one side"):
    structures = labelled_structures(periodic=kind != "open")
    if kind == "open":
        for structure in structures:
            structure.stress = None
    store = make_store(make_model(**MODELS[kind]), structures)
    return MomentObserver(store, Noise(), LossWeights(1.0, 2.0, 0.5))


@pytest.fixture(params=["one side", "pairs, wall"])
def observer(request):
    return make_observer(request.param)


@pytest.mark.parametrize("kind", MODELS)
def test_moments_predict_what_the_potential_predicts(kind):
    observer = make_observer(kind)
    potential = Potential(observer.model)
    for index, structure in enumerate(observer.store.structures):
        expected = potential(build_graph(structure, ELEMENTS, observer.model.cutoff))
        prediction = observer.store.predict(index)
        assert torch.allclose(prediction.energy, expected.energy, rtol=1e-13, atol=0)
        assert torch.allclose(prediction.forces, expected.forces, atol=1e-10)
        assert torch.allclose(prediction.virial, expected.virial, atol=1e-10)


def test_residuals_are_labels_minus_predictions(observer):
    measurement = observer.measure(everything())
    expected = []
    structures = observer.store.structures
    for index, components in ((0, [0, 7, 7, 13]), (2, [2])):
        s, p = structures[index], observer.store.predict(index)
        expected.append([s.energy - float(p.energy)])
        expected.append((s.forces - p.forces.numpy()).reshape(-1)[components])
        virial = s.virial - p.virial[0].numpy()
        expected.append([virial[0, 0], virial[1, 1], virial[2, 2], virial[1, 2], virial[0, 2], virial[0, 1]])
    assert np.allclose(measurement.residual.numpy(), np.concatenate(expected), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("size", [None, 3])
def test_jacobian_is_the_derivative_of_the_predictions(observer, size):
    request = everything()._replace(group=size)
    weights = parameters_to_vector(observer.parameters).detach().clone()
    jacobian = observer.measure(request).jacobian
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        direction = torch.randn(len(weights), generator=generator, dtype=torch.float64)
        values = {}
        for x in (-2e-4, -1e-4, 1e-4, 2e-4):
            vector_to_parameters(weights + x * direction, observer.parameters)
            values[x] = -observer.measure(request).residual
        vector_to_parameters(weights, observer.parameters)
        slope = (8 * (values[1e-4] - values[-1e-4]) - (values[2e-4] - values[-2e-4])) / 1.2e-3
        assert torch.allclose(jacobian @ direction, slope, rtol=1e-8, atol=1e-8)


def test_groups_are_signed_means(observer):
    request = labels([1], False, [torch.tensor([3, 1, 8, 10, 4])])
    single = observer.measure(request)
    grouped = observer.measure(request._replace(group=3))
    signs = torch.sign(single.residual)
    for row, members in enumerate(([0, 1, 2], [3, 4])):
        assert float(grouped.residual[row]) == pytest.approx(
            float(single.residual[members].abs().mean()), rel=1e-12
        )
        expected = (signs[members].unsqueeze(1) * single.jacobian[members]).mean(0)
        assert torch.allclose(grouped.jacobian[row], expected, rtol=1e-10, atol=1e-12)
    assert grouped.residual.shape == (2,)
    shares = [2.0 / math.pi + (1.0 - 2.0 / math.pi) / n for n in (3, 2)]  # of means of absolute errors
    assert grouped.noise.tolist() == pytest.approx([share * float(single.noise[0]) for share in shares])


def test_loss_is_the_weighted_mean_square(observer):
    request = everything()
    energy, force, virial = [], [], []
    for index, components in zip(request.structures, request.components, strict=True):
        s, p = observer.store.structures[index], observer.store.predict(index)
        n = len(s.symbols)
        energy.append((s.energy - float(p.energy)) / n)
        force += list((s.forces - p.forces.numpy()).reshape(-1)[components.numpy()])
        difference = (s.virial - p.virial[0].numpy()) / n
        virial += [difference[a, b] for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))]
    expected = np.mean(np.square(energy)) + 2.0 * np.mean(np.square(force)) + 0.5 * np.mean(np.square(virial))
    assert float(observer.loss(request).detach()) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("count", [2, 21])
def test_loss_gradient_is_the_derivative_of_the_loss(observer, count):
    request = labels([1, 0], True, [torch.arange(count), torch.arange(5)], True)
    for parameter in observer.parameters:
        parameter.grad = None
    observer.loss(request).backward()
    gradient = torch.cat(
        [(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in observer.parameters]
    )
    weights = parameters_to_vector(observer.parameters).detach().clone()
    generator = torch.Generator().manual_seed(2)
    for _ in range(3):
        direction = torch.randn(len(weights), generator=generator, dtype=torch.float64)
        values = {}
        for x in (-2e-4, -1e-4, 1e-4, 2e-4):
            vector_to_parameters(weights + x * direction, observer.parameters)
            values[x] = float(observer.loss(request).detach())
        vector_to_parameters(weights, observer.parameters)
        slope = (8 * (values[1e-4] - values[-1e-4]) - (values[2e-4] - values[-2e-4])) / 1.2e-3
        assert float(gradient @ direction) == pytest.approx(slope, rel=1e-8, abs=1e-8)


def test_streamed_structures_equal_kept_ones():
    kept = make_observer()
    streamed = MomentObserver(
        make_store(kept.model, labelled_structures(), budget=0.0), kept.noise, kept.weights
    )
    assert kept.store.n_kept == 3
    assert kept.store.kept_bytes > 0
    assert streamed.store.n_kept == 0
    for a, b in zip(kept.measure(everything())[:3], streamed.measure(everything())[:3], strict=True):
        assert torch.equal(a, b)


def test_a_missing_label_is_named():
    observer = make_observer()
    observer.store.structures[1].forces = None
    store = make_store(observer.model, observer.store.structures)
    observer = MomentObserver(store, Noise(), LossWeights())
    with pytest.raises(InputError, match="random#22: the frame has no forces"):
        observer.measure(labels([1], False, [torch.tensor([0])]))


def test_more_moments_when_the_networks_need_them():
    model = make_model()
    structures = labelled_structures()
    first = make_store(model, structures, n_moments=24)
    second = MomentStore(first.resolution, structures[1:], first.kept_bytes)  # hardly room for more
    observer = MomentObserver(first, Noise(), LossWeights())
    observer.measure(labels([0]))
    enough = first.resolution.basis.n
    with torch.no_grad():
        for network in model.descriptor.embeddings:
            for layer in network.layers:
                layer.weight.mul_(3.0)
    state = observer.state_dict()
    assert torch.equal(observer.measure(labels([1])).residual, observer.measure(labels([1])).residual)
    assert first.resolution.basis.n > enough
    for index in (0, 1):
        exact = Potential(model)(build_graph(structures[index + 1], ELEMENTS, model.cutoff))
        for prediction in (first.predict(index + 1), second.predict(index)):
            assert torch.allclose(prediction.forces, exact.forces, atol=3e-4)
    assert first.n_kept == 3
    sizes = [first[index].n_bytes for index in range(3)]
    assert first.kept_bytes == sum(sizes)
    assert second.kept_bytes <= second.memory_budget
    observer.load_state_dict(state)
    assert first.resolution.basis.n == enough


@pytest.mark.parametrize("n", [2, 3, 4, 5, 16, 47])
def test_chebyshev_polynomials(n):
    low, high = torch.tensor([-1.0, 0.5], dtype=torch.float64), torch.tensor([3.0, 0.9], dtype=torch.float64)
    basis = Chebyshev(n, low, high)
    x = torch.tensor([-1.0, 0.3, 2.999, 0.5, 0.71, 0.9], dtype=torch.float64)
    network = torch.tensor([0, 0, 0, 1, 1, 1])
    values, slopes = basis.evaluate(x, network)
    t = ((2.0 * x - (low + high)[network]) / (high - low)[network]).numpy()
    for k in range(n):
        series = np.polynomial.Chebyshev.basis(k)
        assert np.allclose(values[:, k], series(t), rtol=0, atol=1e-13)
        expected = series.deriv()(t) * 2.0 / (high - low)[network].numpy()
        assert np.allclose(slopes[:, k], expected, rtol=1e-11, atol=1e-11)
    coefficients = basis.to_coefficients @ torch.exp(-basis.nodes[0])
    assert np.allclose(
        coefficients, np.polynomial.Chebyshev.interpolate(lambda t: np.exp(-(1.0 + 2.0 * t)), n - 1).coef
    )


def test_an_element_that_the_structures_lack():
    structures = [random_structure(["H"], 5, seed=k) for k in (1, 2)]
    for structure in structures:
        structure.energy, structure.forces = -1.0, np.zeros((5, 3))
    model = make_model(one_side=False)
    observer = MomentObserver(make_store(model, structures), Noise(), LossWeights())
    measurement = observer.measure(labels([0, 1], True, [torch.arange(3), torch.arange(15)]))
    assert measurement.jacobian.shape == (20, observer.n_parameters)
    oxygen = parameters_to_vector(model.networks.networks[1].parameters())
    assert measurement.jacobian[:, -len(oxygen) :].abs().max() == 0.0
    expected = Potential(model)(build_graph(structures[0], ELEMENTS, model.cutoff))
    assert torch.allclose(observer.store.predict(0).forces, expected.forces, atol=1e-11)
