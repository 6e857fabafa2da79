"""Behler-Parrinello models: the inherited physics, and the symmetry functions against their definition."""

from __future__ import annotations

import pytest
import torch

from nnpkit.data.graph import build_graph, edge_centers
from nnpkit.families.acsf.symmetry_functions import Acsf, SymmetryFunction, integer_power
from nnpkit.families.factory import build_model, count_parameters, initialise
from nnpkit.kernels.reference import symmetry_function
from nnpkit.models.cutoff import CUTOFF_KINDS, cutoff_function
from nnpkit.models.potential import Potential, forces_from_edges
from nnpkit.models.scaling import feature_statistics
from nnpkit.testing.model_suite import AtomicModelSuite, model_inputs
from nnpkit.testing.trial_structures import random_structure

FUNCTIONS = [
    SymmetryFunction("G2", "H", ("O",), 3.6, eta=0.4, shift=0.9),
    SymmetryFunction("G2", "H", ("O",), 3.1, eta=1.4),
    SymmetryFunction("G3", "H", ("O", "H"), 3.6, eta=0.05, zeta=4.0, lam=-1.0),
    SymmetryFunction("G3", "H", ("H", "O"), 3.6, eta=0.05, zeta=1.0, lam=1.0),
    SymmetryFunction("G2", "H", ("H",), 3.6, eta=0.02),
    SymmetryFunction("G9", "H", ("O", "O"), 3.3, eta=0.01, shift=0.2, zeta=3.5, lam=1.0),
    SymmetryFunction("G2", "O", ("H",), 3.6, eta=0.3),
    SymmetryFunction("G3", "O", ("H", "H"), 3.6, eta=0.1, shift=0.3, zeta=16.0, lam=1.0),
    SymmetryFunction("G3", "O", ("H", "H"), 3.2, eta=0.1, zeta=2.0, lam=-1.0),
    SymmetryFunction("G9", "O", ("H", "O"), 3.6, eta=0.2, zeta=1.0, lam=-1.0),
]


def make_model(cutoff_kind: str = "poly2", wall: dict[str, float] | None = None, activation: str = "tanh"):
    """A small H-O model with every kind of function, scaled on random structures, weights from a fixed seed."""
    networks = {
        "H": {"hidden": [6, 5], "activations": [activation, activation, "linear"]},
        "O": {"hidden": [7], "activations": [activation, "linear"]},
    }
    model = build_model(
        {
            "kind": "acsf", "elements": ["H", "O"], "cutoff_kind": cutoff_kind, "cutoff_inner": 0.0,
            "functions": [f.to_dict() for f in FUNCTIONS], "networks": networks, "energy_scale": 1.7,
            "reference_energies": {"H": -3.0, "O": -11.0}, "wall": wall or {},
        }
    )  # fmt: skip
    initialise(model, "modified_xavier", seed=11)
    graph = build_graph(random_structure(["H", "O"], 10, seed=1), ["H", "O"], model.cutoff)
    with torch.no_grad():
        statistics = feature_statistics(model.features(*model_inputs(graph)), graph.types, 2)
    model.scaling.set(statistics, "minmax", -1.0, 1.0)
    return model


class TestAcsf(AtomicModelSuite):
    @pytest.fixture
    def model(self):
        return make_model()


class TestAcsfWithWall(AtomicModelSuite):
    @pytest.fixture
    def model(self):
        return make_model("tanh3", wall={"H-O": 1.6, "O-O": 2.2, "H-H": 1.5}, activation="softplus")


@pytest.mark.parametrize("kind", CUTOFF_KINDS)
def test_symmetry_functions_equal_their_definition(kind):
    structure = random_structure(["H", "O"], 8, seed=2)
    graph = build_graph(structure, ["H", "O"], 3.6)
    edge_vec, neighbor_type, offsets, types = model_inputs(graph)
    features = Acsf(["H", "O"], FUNCTIONS, kind)(edge_vec, neighbor_type, offsets, types)
    for i, symbol in enumerate(structure.symbols):
        own = slice(int(offsets[i]), int(offsets[i + 1]))
        elements = ["HO"[t] for t in neighbor_type[own].tolist()]
        mine = [f for f in FUNCTIONS if f.center == symbol]
        for column, f in enumerate(mine):
            expected = symmetry_function(
                f.kind, edge_vec[own], elements, f.neighbors,
                lambda r, f=f: cutoff_function(r, f.cutoff, kind),
                eta=f.eta, shift=f.shift, zeta=f.zeta, lam=f.lam,
            )  # fmt: skip
            assert float(features[i, column]) == pytest.approx(float(expected), rel=1e-12, abs=1e-14)
        assert (features[i, len(mine) :] == 0.0).all()


def test_jacobian_equals_automatic_differentiation():
    graph = build_graph(random_structure(["H", "O"], 8, seed=2), ["H", "O"], 4.0)
    edge_vec, neighbor_type, offsets, types = model_inputs(graph)
    descriptor = Acsf(["H", "O"], FUNCTIONS, "cosine")
    features, jacobian = descriptor.jacobian(edge_vec, neighbor_type, offsets, types)
    vectors = edge_vec.clone().requires_grad_(True)
    expected = descriptor(vectors, neighbor_type, offsets, types)
    assert torch.allclose(features, expected, rtol=1e-14, atol=1e-14)
    for column in range(expected.shape[1]):
        (gradient,) = torch.autograd.grad(expected[:, column].sum(), vectors, retain_graph=True)
        assert torch.allclose(jacobian.values[:, column], gradient, rtol=1e-11, atol=1e-13)
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


@pytest.mark.parametrize("exponent", [1.0, 2.0, 3.0, 4.0, 7.0, 16.0, 3.5])
def test_integer_power(exponent):
    x = torch.linspace(0.0, 2.0, 21, dtype=torch.float64)
    assert torch.allclose(integer_power(x, exponent), x**exponent, rtol=1e-14, atol=0)


@pytest.mark.parametrize("kind", CUTOFF_KINDS)
def test_cutoff_functions_vanish_smoothly(kind):
    r = torch.tensor([0.5, 2.999999, 3.0, 3.1], dtype=torch.float64, requires_grad=True)
    value = cutoff_function(r, 3.0, kind)
    assert value[2] == 0.0
    assert value[3] == 0.0
    if kind != "hard":
        (slope,) = torch.autograd.grad(value.sum(), r)
        assert value[1] < 1e-5
        assert abs(slope[1]) < 1e-3
        assert slope[3] == 0.0


@pytest.mark.parametrize("kind", ["cosine", "poly1", "poly2", "poly3", "poly4"])
def test_inner_cutoff(kind):
    r = torch.tensor([0.1, 1.49, 1.51], dtype=torch.float64)
    value = cutoff_function(r, 3.0, kind, inner=0.5)
    assert value[0] == 1.0
    assert value[1] == 1.0
    assert 0.99 < value[2] < 1.0


def test_parameters_are_counted():
    # H: 6 features-6-5-1, O: 4 features-7-1
    assert count_parameters(make_model()) == (6 * 6 + 6) + (6 * 5 + 5) + (5 + 1) + (4 * 7 + 7) + (7 + 1)


def test_same_seed_same_weights():
    first, second = make_model(), make_model()
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
