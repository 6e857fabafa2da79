"""Residuals and Jacobians against the potential itself, differentiated by brute force."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.utils import parameters_to_vector, vector_to_parameters

sys.path.insert(0, str(Path(__file__).parents[1] / "families"))
from test_acsf import make_model

from nnpkit.data.graph import build_graph
from nnpkit.errors import InputError
from nnpkit.families.prepare import data_statistics, precondition
from nnpkit.measure.frames import FrameStore
from nnpkit.measure.label_choice import Labels
from nnpkit.measure.label_sums import force_samples
from nnpkit.measure.observations import LossWeights, Noise, Observer
from nnpkit.models.potential import Potential
from nnpkit.testing.trial_structures import random_structure


def labelled_structures(seeds=(21, 22, 23)):
    structures = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        structure = random_structure(["H", "O"], 6 + seed % 3, seed=seed)
        structure.energy = -40.0 + float(rng.normal())
        structure.forces = rng.normal(size=structure.positions.shape)
        stress = rng.normal(size=(3, 3))
        structure.stress = 0.5 * (stress + stress.T)
        structures.append(structure)
    return structures


def labels(structures, energy=True, components=None, virial=False):
    return Labels(structures, energy, components, virial)


@pytest.fixture(params=[None, {"H-O": 1.6, "O-O": 2.0, "H-H": 1.5}], ids=["bare", "wall"])
def observer(request):
    model = make_model(wall=request.param)
    return Observer(FrameStore(model, labelled_structures(), 1e9), Noise(), LossWeights(1.0, 2.0, 0.5))


def everything():
    return labels([0, 2], True, [torch.tensor([0, 7, 7, 13]), torch.tensor([2])], True)


def test_energies_alone_need_no_edges(observer):
    structures = labelled_structures()
    store = FrameStore(observer.model, structures[:1], 0.0, energies=structures[1:])
    alone = Observer(store, observer.noise, observer.weights)
    assert [len(store[n].edge_vec) > 0 for n in range(3)] == [True, False, False]
    for index in range(3):
        assert float(store.predict(index).energy) == pytest.approx(
            float(observer.store.predict(index).energy), rel=1e-13
        )
        for found, expected in zip(
            alone.measure(labels([index]))[:3], observer.measure(labels([index]))[:3], strict=True
        ):
            assert torch.allclose(found, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("budget", [1e9, 0.0], ids=["kept", "streamed"])
def test_derivatives_predict_what_the_potential_predicts(observer, budget):
    potential = Potential(observer.model)
    observer.store = FrameStore(observer.model, labelled_structures(), budget)
    assert observer.store.n_kept == (3 if budget else 0)
    for index, structure in enumerate(labelled_structures()):
        expected = potential(build_graph(structure, observer.model.elements, observer.model.cutoff))
        prediction = observer.store.predict(index)
        assert torch.allclose(prediction.energy, expected.energy, rtol=1e-13, atol=0)
        assert torch.allclose(prediction.forces, expected.forces, atol=1e-11)
        assert torch.allclose(prediction.virial, expected.virial, atol=1e-11)


def test_residuals_are_labels_minus_predictions(observer):
    measurement = observer.measure(everything())
    expected = []
    structures = labelled_structures()
    for index, components in ((0, [0, 7, 7, 13]), (2, [2])):
        s, p = structures[index], observer.store.predict(index)
        expected.append([s.energy - float(p.energy)])
        expected.append((s.forces - p.forces.numpy()).reshape(-1)[components])
        virial = s.virial - p.virial[0].numpy()
        expected.append([virial[0, 0], virial[1, 1], virial[2, 2], virial[1, 2], virial[0, 2], virial[0, 1]])
    assert np.allclose(measurement.residual.numpy(), np.concatenate(expected), rtol=1e-11, atol=1e-11)


def test_jacobian_is_the_derivative_of_the_predictions(observer):
    parameters = list(observer.model.networks.parameters())
    weights = parameters_to_vector(parameters).detach().clone()
    jacobian = observer.measure(everything()).jacobian
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        direction = torch.randn(len(weights), generator=generator, dtype=torch.float64)
        values = {}
        for x in (-2e-4, -1e-4, 1e-4, 2e-4):
            vector_to_parameters(weights + x * direction, parameters)
            values[x] = -observer.measure(everything()).residual
        vector_to_parameters(weights, parameters)
        slope = (8 * (values[1e-4] - values[-1e-4]) - (values[2e-4] - values[-2e-4])) / 1.2e-3
        assert torch.allclose(jacobian @ direction, slope, rtol=1e-8, atol=1e-8)


def test_noise_conventions():
    aim = Noise(energy=2e-3, force=0.1, virial=3e-3)
    assert aim.variance("energy", 1, 10) == pytest.approx((2e-2) ** 2)
    assert aim.variance("force", 7, 10) == pytest.approx(0.01)
    assert aim.variance("virial", 6, 10) == pytest.approx((3e-2) ** 2)
    shao = Noise(learning_rate=1e-3, energy_weight=4.0, force_weight=2.0)
    assert shao.variance("energy", 1, 10) == pytest.approx(250.0)
    assert shao.variance("force", 10, 10) == pytest.approx(5000.0)


@pytest.mark.parametrize("component", [25_000, 0], ids=["all at once", "one by one"])
def test_loss_is_the_weighted_mean_square(observer, component, monkeypatch):
    monkeypatch.setattr("nnpkit.measure.observations._COMPONENT", component)
    request = everything()
    structures = labelled_structures()
    energy, force, virial = [], [], []
    for index, components in zip(request.structures, request.components, strict=True):
        s, p = structures[index], observer.store.predict(index)
        n = len(s.symbols)
        energy.append((s.energy - float(p.energy)) / n)
        force += list((s.forces - p.forces.numpy()).reshape(-1)[components.numpy()])
        difference = (s.virial - p.virial[0].numpy()) / n
        virial += [difference[a, b] for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))]
    expected = np.mean(np.square(energy)) + 2.0 * np.mean(np.square(force)) + 0.5 * np.mean(np.square(virial))
    assert float(observer.loss(request).detach()) == pytest.approx(expected, rel=1e-11)


def test_loss_gradient_is_consistent_with_the_jacobian(observer):
    request = labels([1], False, [torch.tensor([1, 4, 9])])
    observer.loss(request).backward()
    gradients = [
        torch.zeros_like(p) if p.grad is None else p.grad for p in observer.model.networks.parameters()
    ]
    gradient = torch.cat([g.reshape(-1) for g in gradients])
    measurement = observer.measure(request)
    expected = -2.0 * 2.0 / 3.0 * measurement.jacobian.T @ measurement.residual
    assert torch.allclose(gradient, expected, rtol=1e-10, atol=1e-12)


def test_streamed_derivatives_equal_kept_ones():
    model = make_model()
    kept = Observer(FrameStore(model, labelled_structures(), 1e9), Noise(), LossWeights())
    streamed = Observer(FrameStore(model, labelled_structures(), 0.0), Noise(), LossWeights())
    assert kept.store.n_kept == 3
    assert streamed.store.n_kept == 0
    for a, b in zip(kept.measure(everything())[:3], streamed.measure(everything())[:3], strict=True):
        assert torch.equal(a, b)


def test_images_of_a_neighbour_are_one_sample():
    """In a cell of two atoms a force component has two samples, however many images are within the cutoff."""
    structure = labelled_structures()[0].replace(
        symbols=["H", "O"], positions=[[0.0, 0.0, 0.0], [0.9, 1.1, 1.3]], cell=np.diag([2.2, 2.4, 2.6]),
        pbc=(True, True, True), forces=np.zeros((2, 3)), stress=None,
    )  # fmt: skip
    model = make_model()
    store = FrameStore(model, [structure], 1e9)
    components = torch.tensor([0, 4])
    samples = force_samples(store[0], store.jacobian(store[0]), components)
    assert len(store[0].edge_vec) > 40
    assert samples.atom.tolist() == [0, 1, 0, 1]
    assert samples.row.tolist() == [0, 0, 1, 1]
    found = Observer(store, Noise(), LossWeights()).measure(labels([0], False, [components]))
    assert found.residual == pytest.approx(
        -store.predict(0).forces.reshape(-1)[components].numpy(), abs=1e-11
    )


def test_a_missing_label_is_named():
    structures = labelled_structures()
    structures[1].forces = None
    observer = Observer(FrameStore(make_model(), structures, 1e9), Noise(), LossWeights())
    with pytest.raises(InputError, match="random#22: the frame has no forces"):
        observer.measure(labels([1], False, [torch.tensor([0])]))


def test_preconditioning_matches_mean_and_spread():
    model = make_model(wall={"H-O": 1.6})
    structures = labelled_structures(range(30, 42))
    model.scaling.set(data_statistics(model.descriptor, model.elements, structures), "minmax", -1.0, 1.0)
    energies = [s.energy for s in structures]
    precondition(model, structures, energies)
    store = FrameStore(model, structures, 1e9)
    predicted = np.array([float(store.predict(i).energy) / len(s.symbols) for i, s in enumerate(structures)])
    target = np.array([s.energy / len(s.symbols) for s in structures])
    constant = predicted - np.array([_network_mean(model, store, i) for i in range(len(structures))])
    assert (predicted - constant).mean() == pytest.approx((target - constant).mean(), abs=1e-12)
    assert (predicted - constant).std() == pytest.approx((target - constant).std(), rel=1e-12)


def test_preconditioning_is_not_stretched_by_a_wrong_energy():
    structures = labelled_structures(range(30, 42))
    energies = [s.energy for s in structures]
    models = [make_model(), make_model()]
    for model, more in zip(models, ((), (energies[0] + 1e4,)), strict=True):
        model.scaling.set(data_statistics(model.descriptor, model.elements, structures), "minmax", -1.0, 1.0)
        precondition(model, [*structures, *structures[: len(more)]], [*energies, *more])
    for right, spoilt in zip(*(model.parameters() for model in models), strict=True):
        assert torch.equal(right, spoilt)


def test_the_origin_of_rows_says_what_they_are():
    structures = labelled_structures()
    observer = Observer(FrameStore(make_model(), structures, 1e9), Noise(), LossWeights())
    origin = observer.measure(labels([1], True, [torch.tensor([0, 4])], True)).origin
    n, model = structures[1].n_atoms, observer.model
    reference = sum(model.reference_energies[model.elements.index(s)] for s in structures[1].symbols)
    force = np.linalg.norm(structures[1].forces[:2], axis=1) / math.sqrt(3.0)
    virial = np.linalg.norm(structures[1].virial) / (3 * n)
    assert origin.kind.tolist() == [0, 1, 1, 2, 2, 2, 2, 2, 2]
    assert origin.unit.tolist() == [n, 1, 1, n, n, n, n, n, n]
    assert origin.size.tolist() == pytest.approx(
        [abs(structures[1].energy - reference) / n, *force, *[virial] * 6]
    )
    assert set(origin.structure.tolist()) == {1}


def _network_mean(model, store, index):
    """Mean network output per atom, eV."""
    frame = store[index]
    return float(model.networks(frame.features, frame.types).detach().mean()) * model.energy_scale


def test_groups_are_signed_means(observer):
    request = labels([0], False, [torch.tensor([3, 1, 8, 7, 4])], False)
    single, grouped = observer.measure(request), observer.measure(request._replace(group=3))
    signs = torch.sign(single.residual)
    for row, members in enumerate(([0, 1, 2], [3, 4])):
        assert float(grouped.residual[row]) == pytest.approx(float(single.residual[members].abs().mean()))
        expected = (signs[members].unsqueeze(1) * single.jacobian[members]).mean(0)
        assert torch.allclose(grouped.jacobian[row], expected, rtol=1e-10, atol=1e-12)
    shares = [2.0 / math.pi + (1.0 - 2.0 / math.pi) / n for n in (3, 2)]  # of means of absolute errors
    assert grouped.noise.tolist() == pytest.approx([share * float(single.noise[0]) for share in shares])
    observer.noise = Noise(learning_rate=0.1, force_weight=4.0)  # by convention the means are the labels
    assert observer.measure(request._replace(group=3)).noise.tolist() == pytest.approx([2 / 0.4] * 2)


def test_division_by_the_number_of_atoms(observer):
    request = labels([0], True, [torch.tensor([3, 1])], True)
    whole = observer.measure(request)
    observer.noise = Noise(divide_by_atoms=True)
    divided, n_atoms = observer.measure(request), observer.store[0].n_atoms
    assert torch.allclose(n_atoms * divided.residual, whole.residual, rtol=1e-14)
    assert torch.allclose(n_atoms * divided.jacobian, whole.jacobian, rtol=1e-14)
    assert torch.allclose(n_atoms**2 * divided.noise, whole.noise, rtol=1e-14)
