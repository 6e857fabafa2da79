"""Deep Potential models: the inherited physics, and the descriptor against its definition."""

from __future__ import annotations

import pytest
import torch

from nnpkit.data.graph import build_graph
from nnpkit.families.deep_potential.embedding import EnvironmentStatistics
from nnpkit.families.deep_potential.environment import environment_statistics
from nnpkit.families.factory import build_model, count_parameters, initialise
from nnpkit.kernels.reference import deep_potential_descriptor, residual_network
from nnpkit.models.cutoff import cutoff_function
from nnpkit.models.potential import Potential
from nnpkit.models.residual_networks import FittingNetwork, ResidualNetwork
from nnpkit.testing.model_suite import AtomicModelSuite, model_inputs
from nnpkit.testing.trial_structures import random_structure

ELEMENTS = ["H", "O"]


def make_model(
    one_side: bool = True,
    timestep: bool = False,
    cutoff_kind: str = "poly2",
    activation: str = "tanh",
    wall: dict[str, float] | None = None,
    embedding: tuple[int, ...] = (3, 6, 6),
    seed: int = 11,
):
    """A small H-O model with plausible statistics of the environment and weights from a fixed seed."""
    network = {"hidden": [7, 7, 14], "activation": activation, "timestep": timestep}
    model = build_model(
        {
            "kind": "deep_potential", "elements": ELEMENTS, "energy_scale": 1.3,
            "descriptor": {
                "cutoff": 3.7, "smooth_from": 1.0, "cutoff_kind": cutoff_kind, "embedding": list(embedding),
                "axis_neurons": 4, "activation": activation, "timestep": timestep, "one_side": one_side,
            },
            "networks": {"H": network, "O": {**network, "hidden": [5]}},
            "reference_energies": {"H": -3.0, "O": -11.0}, "wall": wall or {},
        }
    )  # fmt: skip
    initialise(model, "deepmd", seed)
    model.descriptor.set(
        EnvironmentStatistics(
            torch.tensor([0.21, 0.17]),
            torch.tensor([[0.15, 0.12], [0.2, 0.1]]),
            torch.tensor([[7.0, 4.0], [8.3, 3.1]]),
        )
    )
    return model


class TestDeepPotential(AtomicModelSuite):
    @pytest.fixture
    def model(self):
        return make_model()


class TestDeepPotentialOfPairsWithEverything(AtomicModelSuite):
    @pytest.fixture
    def model(self):
        walls = {"H-O": 1.6, "O-O": 2.2, "H-H": 1.5}
        return make_model(False, True, "poly3", "softplus", walls)


def layers_of(network: ResidualNetwork):
    return [(layer.weight, layer.bias, layer.timestep) for layer in network.layers]


@pytest.mark.parametrize("one_side", [True, False])
@pytest.mark.parametrize("cutoff_kind", ["poly2", "cosine", "hard"])
def test_descriptor_equals_its_definition(one_side, cutoff_kind):
    model = make_model(one_side, timestep=True, cutoff_kind=cutoff_kind)
    descriptor, sel = model.descriptor, [9, 12]
    descriptor.expected.copy_(torch.tensor([sel, sel]))
    structure = random_structure(ELEMENTS, 8, seed=2)
    edge_vec, neighbor_type, offsets, types = model_inputs(build_graph(structure, ELEMENTS, 3.7))
    features = model.features(edge_vec, neighbor_type, offsets, types)
    for i, c in enumerate(types.tolist()):
        own = slice(int(offsets[i]), int(offsets[i + 1]))
        used = descriptor.embeddings if one_side else descriptor.embeddings[2 * c : 2 * c + 2]
        expected = deep_potential_descriptor(
            edge_vec[own], neighbor_type[own].tolist(),
            [lambda x, net=net: residual_network(x, layers_of(net), torch.tanh) for net in used],
            lambda r: cutoff_function(r, 3.7, cutoff_kind, 1.0 / 3.7),
            mean=float(descriptor.mean[c]), std=tuple(descriptor.std[c].tolist()), sel=sel, axis_neurons=4,
        )  # fmt: skip
        assert torch.allclose(features[i].view(6, 4), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("hidden", [[5], [5, 5, 10, 10], [3, 6, 4, 8]])
@pytest.mark.parametrize("timestep", [True, False])
def test_residual_layers_equal_their_definition(hidden, timestep):
    network = FittingNetwork(6, hidden, "tanh", timestep)
    network.initialise("deepmd", torch.Generator().manual_seed(4))
    x = torch.randn(7, 6, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    last = torch.stack([residual_network(row, layers_of(network.hidden), torch.tanh) for row in x])
    expected = last @ network.output.weight[0] + network.output.bias
    assert torch.allclose(network(x), expected, rtol=1e-13, atol=1e-14)
    steps = [layer.timestep is not None for layer in network.hidden.layers]
    sizes = [6, *hidden]
    assert steps == [timestep and b in (a, 2 * a) for a, b in zip(sizes, hidden, strict=False)]


def test_more_neighbors_than_expected_continue_the_formula():
    model = make_model()
    structure = random_structure(ELEMENTS, 10, seed=6)
    graph = build_graph(structure, ELEMENTS, model.cutoff)
    counts = graph.offsets.diff()
    assert counts.max() > model.descriptor.expected.sum(1).max()
    energies = []
    for shift in (-1e-7, 0.0, 1e-7):  # of the neighbour numbers: the energy depends smoothly on them
        model.descriptor.expected.add_(shift)
        energies.append(float(Potential(model)(graph).energy))
        model.descriptor.expected.sub_(shift)
    assert energies[0] - energies[1] == pytest.approx(energies[1] - energies[2], rel=1e-5)


def test_environment_statistics_are_those_of_the_rows():
    structures = [random_structure(ELEMENTS, n, seed=n) for n in (6, 8)]
    model = make_model()
    statistics = environment_statistics(model.descriptor, ELEMENTS, structures)
    model.descriptor.set(statistics)
    rows, counts = {0: [], 1: []}, {0: [], 1: []}
    for structure in structures:
        edge_vec, neighbor_type, offsets, types = model_inputs(build_graph(structure, ELEMENTS, model.cutoff))
        for i, c in enumerate(types.tolist()):
            own = slice(int(offsets[i]), int(offsets[i + 1]))
            rows[c].append(model.descriptor.environment(edge_vec[own], types[i].expand(own.stop - own.start)))
            counts[c].append(torch.bincount(neighbor_type[own], minlength=2).double())
    for c in (0, 1):
        standardised = torch.cat(rows[c])
        assert float(standardised[:, 0].mean()) == pytest.approx(0.0, abs=1e-13)
        assert float(standardised[:, 0].square().mean()) == pytest.approx(1.0)
        assert float(standardised[:, 1:].square().mean()) == pytest.approx(1.0)
        assert torch.allclose(statistics.expected[c], torch.stack(counts[c]).mean(0))


def test_an_element_without_neighbors_has_harmless_statistics():
    lonely = random_structure(["H", "H"], 5, seed=1, periodic=False)
    statistics = environment_statistics(make_model().descriptor, ELEMENTS, [lonely])
    assert all(bool(torch.isfinite(t).all()) for t in statistics)
    assert (statistics.std >= 0.01).all()


def test_parameters_are_counted():
    # embedding 1-3-6-6 per element; H: 24-7-7-14-1, O: 24-5-1, timesteps beside the shortcuts of H
    embedding = (3 + 3) + (18 + 6) + (36 + 6)
    hydrogen = (24 * 7 + 7) + (49 + 7) + (98 + 14) + 15
    oxygen = (24 * 5 + 5) + 6
    assert count_parameters(make_model()) == 2 * embedding + hydrogen + oxygen
    assert count_parameters(make_model(False)) == 4 * embedding + hydrogen + oxygen
    assert count_parameters(make_model(timestep=True)) == 2 * (embedding + 6 + 6) + hydrogen + oxygen + 7 + 14


def test_same_seed_same_weights():
    for a, b in zip(make_model().parameters(), make_model().parameters(), strict=True):
        assert torch.equal(a, b)
