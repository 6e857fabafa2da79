"""The Chebyshev descriptor: the inherited physics, and the coefficients against their definition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.polynomial import chebyshev as series

from nnpkit.data.graph import build_graph, edge_centers
from nnpkit.families.chebyshev.expansion import Chebyshev, species_weights
from nnpkit.families.factory import build_model, initialise
from nnpkit.models.potential import Potential, forces_from_edges
from nnpkit.models.scaling import feature_statistics
from nnpkit.testing.model_suite import AtomicModelSuite, model_inputs
from nnpkit.testing.trial_structures import random_structure

SETTINGS = {
    "radial_order": 7, "radial_cutoff": 3.6, "angular_order": 4, "angular_cutoff": 2.9, "cutoff_kind": "cosine",
}  # fmt: skip


def make_model(elements=("H", "O"), wall=None, **changes):
    """A small model with a Chebyshev descriptor, scaled on random structures, weights from a fixed seed."""
    elements = list(elements)
    networks = {e: {"hidden": [6, 5], "activations": ["tanh", "tanh", "linear"]} for e in elements}
    model = build_model(
        {
            "kind": "chebyshev", "elements": elements, "networks": networks, "energy_scale": 1.7,
            "descriptor": {**SETTINGS, "weights": species_weights(elements), **changes},
            "reference_energies": {e: -3.0 - t for t, e in enumerate(elements)}, "wall": wall or {},
        }
    )  # fmt: skip
    initialise(model, "modified_xavier", seed=11)
    graph = build_graph(random_structure(elements, 10, seed=1), elements, model.cutoff)
    with torch.no_grad():
        statistics = feature_statistics(model.features(*model_inputs(graph)), graph.types, len(elements))
    model.scaling.set(statistics, "minmax", -1.0, 1.0)
    return model


class TestChebyshev(AtomicModelSuite):
    @pytest.fixture
    def model(self):  # finite differences across a cutoff need a second derivative there
        return make_model(cutoff_kind="poly2")


class TestChebyshevOfOneElement(AtomicModelSuite):
    @pytest.fixture
    def model(self):
        return make_model(["Cu"], {"Cu-Cu": 2.2}, cutoff_kind="poly2", angular_order=2, angular_cutoff=3.6)


def by_definition(vectors: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Coefficients of one atom from the vectors to its neighbours, numpy's polynomials and nothing else."""

    def envelope(r, cutoff):
        return 0.5 * (np.cos(np.pi * r / cutoff) + 1.0) if r < cutoff else 0.0

    n, m = SETTINGS["radial_order"] + 1, SETTINGS["angular_order"] + 1
    r_c, a_c = SETTINGS["radial_cutoff"], SETTINGS["angular_cutoff"]
    radial, angular = np.zeros((2, n)), np.zeros((2, m))
    for j, (a, w) in enumerate(zip(vectors, weights, strict=True)):
        r = np.linalg.norm(a)
        terms = [envelope(r, r_c) * series.chebval(2 * r / r_c - 1, np.eye(n)[i]) for i in range(n)]
        radial += np.outer([1.0, w], terms)
        for b, v in zip(vectors[:j], weights[:j], strict=True):
            cosine = a @ b / (r * np.linalg.norm(b))
            both = envelope(r, a_c) * envelope(np.linalg.norm(b), a_c)
            terms = [both * series.chebval(cosine, np.eye(m)[i]) for i in range(m)]
            angular += np.outer([1.0, w * v], terms)
    return np.concatenate([radial[0], angular[0], radial[1], angular[1]])


def test_coefficients_equal_their_definition():
    elements = ["H", "O", "Cu"]
    descriptor = Chebyshev(elements, **SETTINGS, weights={"H": -1.0, "O": 0.3, "Cu": 2.0})
    graph = build_graph(random_structure(elements, 9, seed=2), elements, 4.0)
    edge_vec, neighbor_type, offsets, types = model_inputs(graph)
    features = descriptor(edge_vec, neighbor_type, offsets, types)
    weights = np.array([-1.0, 0.3, 2.0])[neighbor_type.numpy()]
    for i in range(len(types)):
        own = slice(int(offsets[i]), int(offsets[i + 1]))
        expected = by_definition(edge_vec[own].numpy(), weights[own])
        np.testing.assert_allclose(features[i].numpy(), expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("orders", [(7, 4), (7, -1), (-1, 4), (0, 0), (1, 1)])
def test_jacobian_equals_automatic_differentiation(orders):
    settings = {**SETTINGS, "radial_order": orders[0], "angular_order": orders[1]}
    descriptor = Chebyshev(["H", "O"], **settings, weights=species_weights(["H", "O"]))
    assert descriptor.cutoff == (3.6 if orders[0] >= 0 else 2.9)
    graph = build_graph(random_structure(["H", "O"], 8, seed=2), ["H", "O"], 4.0)
    edge_vec, neighbor_type, offsets, types = model_inputs(graph)
    features, jacobian = descriptor.jacobian(edge_vec, neighbor_type, offsets, types)
    vectors = edge_vec.clone().requires_grad_(True)
    expected = descriptor(vectors, neighbor_type, offsets, types)
    assert features.shape == (8, 2 * (sum(orders) + 2))
    assert torch.allclose(features, expected, rtol=1e-13, atol=1e-13)
    for column in range(expected.shape[1]):
        (gradient,) = torch.autograd.grad(expected[:, column].sum(), vectors, retain_graph=True)
        assert torch.allclose(jacobian.values[:, column], gradient, rtol=1e-11, atol=1e-12)
    assert torch.equal(jacobian.center, edge_centers(offsets))


def test_forces_from_the_jacobian_equal_those_of_the_potential():
    model = make_model()
    graph = build_graph(random_structure(["H", "O"], 9, seed=5), ["H", "O"], model.cutoff)
    features, jacobian = model.descriptor.jacobian(*model_inputs(graph))
    features = features.detach().requires_grad_(True)
    (slope,) = torch.autograd.grad(model.energy_of_features(features, graph.types).sum(), features)
    edge_gradient = torch.einsum("ed,edx->ex", slope[jacobian.center], jacobian.values)
    forces = forces_from_edges(edge_gradient, jacobian.center, graph.neighbor, len(graph.types))
    assert torch.allclose(forces, Potential(model)(graph).forces, atol=1e-12)


def test_species_weights_are_those_of_aenet():
    assert species_weights(["Ti", "O"]) == {"Ti": -1.0, "O": 1.0}
    assert species_weights(["Li", "Ti", "O"]) == {"Li": -1.0, "Ti": 0.0, "O": 1.0}
    assert list(species_weights(["Li", "Mo", "Ni", "Ti", "O"]).values()) == [-2.0, -1.0, 0.0, 1.0, 2.0]


def test_the_published_settings_have_48_features():
    descriptor = Chebyshev(["O", "H"], 18, 6.5, 4, 3.0, "cosine", species_weights(["O", "H"]))
    assert descriptor.n_features == [48, 48]
    assert descriptor.cutoff == 6.5
