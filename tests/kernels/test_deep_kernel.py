"""The kernel of Deep Potentials computes what PyTorch computes, on every instruction set, for every option."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnpkit.data.graph import edge_centers
from nnpkit.deploy.metadata import model_metadata
from nnpkit.errors import InputError
from nnpkit.families.deep_potential.embedding import EnvironmentStatistics
from nnpkit.families.deep_potential.tabulation import hermite, interpolate, tabulation
from nnpkit.families.factory import build_model, initialise
from nnpkit.kernels.native import ISAS, Kernel, NoKernelError
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.cutoff import CUTOFF_KINDS
from nnpkit.models.networks import ACTIVATIONS
from nnpkit.models.residual_networks import ResidualNetwork
from nnpkit.models.scaling import FeatureStatistics

ELEMENTS = ["H", "O"]
Arguments = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]


@cache
def unusable(isa: str) -> str:
    """Why nothing can be computed with these instructions here; empty if it can."""
    try:
        kernel_of(make_model(), isa=isa)
    except (NoKernelError, ValueError) as reason:
        return str(reason)
    return ""


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> str:
    if unusable(request.param):
        pytest.skip(unusable(request.param))
    return request.param


@pytest.fixture(autouse=True)
def _kernels() -> None:
    if unusable("portable"):
        pytest.skip(unusable("portable"))


def make_model(
    *,
    embedding: tuple[int, ...] = (3, 6, 11),
    axis: int = 4,
    hidden: tuple[int, ...] = (9, 9, 18),
    activation: str = "tanh",
    cutoff_kind: str = "poly2",
    one_side: bool = True,
    timestep: bool = True,
    wall: bool = False,
    scaled: bool = False,
    seed: int = 5,
) -> AtomicModel:
    """A potential with random weights; O has another fitting network than H."""
    network = {"hidden": list(hidden), "activation": activation, "timestep": timestep}
    model = build_model(
        {
            "kind": "deep_potential", "elements": ELEMENTS, "energy_scale": 1.3,
            "descriptor": {
                "cutoff": 3.7, "smooth_from": 1.0, "cutoff_kind": cutoff_kind, "embedding": list(embedding),
                "axis_neurons": axis, "activation": activation, "timestep": timestep, "one_side": one_side,
            },
            "networks": {"H": network, "O": {**network, "hidden": list(hidden[:1])}},
            "reference_energies": {"H": -3.0, "O": -11.0},
            "wall": {"H-O": 1.6, "O-O": 2.2, "H-H": 4.1} if wall else {},
        }
    )  # fmt: skip
    initialise(model, "xavier", seed)
    model.descriptor.set(
        EnvironmentStatistics(
            torch.tensor([0.21, 0.17]),
            torch.tensor([[0.15, 0.12], [0.2, 0.1]]),
            torch.tensor([[7.0, 4.0], [8.3, 3.1]]),
        )
    )
    if scaled:
        shape = (2, model.descriptor.n_features[0])
        random = torch.rand((4, *shape), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        low, high = -0.1 * random[0], 0.1 + random[1]
        model.scaling.set(
            FeatureStatistics(low, high, 0.5 * random[2], random[3]), "minmax_center", -1.0, 1.0
        )
    return model.requires_grad_(False)


def environments(n_atoms: int, n_neighbors: int = 30, seed: int = 0, closest: float = 0.9) -> Arguments:
    """Atoms with random neighbours, some beyond the cutoff; the first atom has none."""
    random = np.random.default_rng(seed)
    counts = random.integers(0, n_neighbors, n_atoms)
    counts[:1] = 0
    direction = random.normal(size=(counts.sum(), 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    edge_vec = direction * random.uniform(closest, 4.3, (len(direction), 1))
    return (
        torch.tensor(edge_vec), torch.tensor(random.integers(0, 2, len(edge_vec))),
        torch.tensor(np.concatenate([[0], np.cumsum(counts)])), torch.tensor(random.integers(0, 2, n_atoms)),
    )  # fmt: skip


def kernel_of(
    *models: AtomicModel, precision: str = "float64", isa: str | None = None, **metadata: Any
) -> Kernel:
    """A kernel for a potential or a committee; `metadata` replace what a file would say."""
    return Kernel(
        [
            (
                json.dumps({**model_metadata(model), **metadata}),
                {name: value.numpy() for name, value in model.state_dict().items()},
            )
            for model in models
        ],
        precision,
        isa,
    )


def expected(model: AtomicModel, arguments: Arguments) -> tuple[np.ndarray, np.ndarray]:
    """Energies and gradients by PyTorch."""
    edge_vec = arguments[0].clone().requires_grad_(True)
    energy = model(edge_vec, *arguments[1:])
    if len(edge_vec) == 0:
        return energy.detach().numpy(), np.zeros((0, 3))
    (gradient,) = torch.autograd.grad(energy.sum(), edge_vec)
    return energy.detach().numpy(), gradient.numpy()


def assert_same(kernel: Kernel, model: AtomicModel, arguments: Arguments, tolerance: float) -> None:
    """To `tolerance` times the largest energy or gradient, if that is above one."""
    found = kernel.evaluate(*(a.numpy() for a in arguments))
    energy, gradient = expected(model, arguments)
    for a, b in ((found.atomic_energy, energy), (found.gradient, gradient)):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * max(1.0, np.abs(b).max(initial=0.0)))


@pytest.mark.parametrize(
    ("one_side", "scaled"), [(True, False), (False, True)], ids=["by neighbour", "by pair, scaled"]
)
@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"embedding": (25, 50, 100), "axis": 16, "hidden": (40, 40, 40)},
        {"embedding": (5,), "axis": 5, "hidden": (25, 50)},  # features are the input of a residual layer
        {"embedding": (2, 4, 8), "axis": 1, "hidden": (16, 7)},
        {"embedding": (17,), "axis": 3, "hidden": ()},
    ],
    ids=["small", "large", "residual", "doubled", "no hidden layer"],
)
def test_energies_and_gradients(isa, sizes, one_side, scaled):
    model = make_model(one_side=one_side, scaled=scaled, wall=scaled, **sizes)
    arguments = environments(60)
    assert_same(kernel_of(model, isa=isa), model, arguments, 1e-10)
    assert_same(kernel_of(model, precision="mixed", isa=isa), model, arguments, 1e-5)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(isa, activation):
    model = make_model(activation=activation, embedding=(6,), hidden=(9,))
    for parameter in model.parameters():
        parameter.mul_(0.2)  # some of them grow beyond all bounds
    assert_same(kernel_of(model, isa=isa), model, environments(30), 1e-9)
    assert_same(kernel_of(model, precision="float32", isa=isa), model, environments(30), 2e-5)


@pytest.mark.parametrize("kind", CUTOFF_KINDS)
def test_cutoff_functions(isa, kind):
    model = make_model(cutoff_kind=kind, timestep=False)
    assert_same(kernel_of(model, isa=isa), model, environments(30), 1e-9)


@pytest.mark.parametrize("n_atoms", [0, 1, 7, 97, 250])
def test_any_number_of_atoms(isa, n_atoms):
    model = make_model()
    assert_same(kernel_of(model, isa=isa), model, environments(n_atoms, 12, seed=n_atoms), 1e-9)


def test_no_neighbours_within_the_cutoff(isa):
    model = make_model(wall=True)
    edge_vec, *others = environments(5)
    edge_vec = 4.2 * edge_vec / edge_vec.norm(dim=1, keepdim=True)
    assert_same(kernel_of(model, isa=isa), model, (edge_vec, *others), 1e-12)


def test_every_element_may_be_missing(isa):
    model, (edge_vec, neighbor_type, offsets, types) = make_model(), environments(20)
    for center, neighbor in np.ndindex(2, 2):
        one = (edge_vec, torch.full_like(neighbor_type, neighbor), offsets, torch.full_like(types, center))
        assert_same(kernel_of(model, isa=isa), model, one, 1e-9)


def test_results_are_the_same_bits_every_time(isa):
    kernel = kernel_of(make_model(), isa=isa)
    arguments = [a.numpy() for a in environments(120)]
    first = kernel.evaluate(*arguments)
    kernel.evaluate(*(a.numpy() for a in environments(70, seed=1)))  # leaves something else in the buffers
    second = kernel.evaluate(*arguments)
    assert np.array_equal(first.atomic_energy, second.atomic_energy)
    assert np.array_equal(first.gradient, second.gradient)


@pytest.mark.parametrize("intervals", [0, None], ids=["no table", "a coarse one"])
def test_beyond_the_table_the_network_itself_is_evaluated(isa, intervals):
    model = make_model(one_side=False)
    grids = tabulation(model.descriptor, ELEMENTS, {"H-H": 3.0, "H-O": 3.1, "O-O": 3.2}, 1e-12)
    if intervals is not None:
        grids["networks"] = [{**grid, "intervals": intervals} for grid in grids["networks"]]
    arguments = environments(40, closest=0.3)
    assert_same(kernel_of(model, isa=isa, tabulation=grids), model, arguments, 1e-10)
    assert_same(kernel_of(model, precision="mixed", isa=isa, tabulation=grids), model, arguments, 1e-5)


@pytest.mark.parametrize("tolerance", [1e-4, 1e-7, 1e-10])
def test_tolerance(tolerance):
    model = make_model(embedding=(25, 50, 100), axis=16)
    grids = tabulation(model.descriptor, ELEMENTS, {"H-H": 0.9, "H-O": 0.9, "O-O": 0.9}, tolerance)
    assert 1e-3 * tolerance < grids["bound"] <= tolerance
    assert_same(kernel_of(model, tabulation=grids), model, environments(60), 100.0 * tolerance)


@given(
    seed=st.integers(0, 10_000),
    tolerance=st.sampled_from([1e-3, 1e-6, 1e-9]),
    activation=st.sampled_from(["tanh", "logistic", "softplus", "gaussian"]),
    widths=st.lists(st.integers(1, 12), min_size=1, max_size=3),
    timestep=st.booleans(),
    gain=st.floats(0.3, 3.0),
)
@settings(max_examples=20, deadline=None)
def test_tables_keep_their_bound(seed, tolerance, activation, widths, timestep, gain):
    model = make_model(embedding=tuple(widths), axis=1)
    network = ResidualNetwork(1, widths, activation, timestep).requires_grad_(False)
    network.initialise("deepmd", torch.Generator().manual_seed(seed))
    for layer in network.layers:
        layer.weight.mul_(gain)
    model.descriptor.embeddings[0] = network
    grids = tabulation(model.descriptor, ELEMENTS, None, tolerance)["networks"]
    start, spacing, intervals, bound = grids[0].values()
    assert intervals > 0
    assert bound <= tolerance
    place = torch.rand(2000, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64)
    x = (start + spacing * intervals * place).requires_grad_(True)
    value, slope = interpolate(hermite(network, start, spacing, intervals), start, spacing, x.detach())
    exact = network(x.unsqueeze(1))
    slopes = torch.stack(
        [torch.autograd.grad(exact[:, m].sum(), x, retain_graph=True)[0] for m in range(widths[-1])], 1
    )
    for found, wanted in ((value, exact), (slope, slopes)):
        assert float((found - wanted).detach().abs().max()) <= 1.02 * bound * float(
            wanted.detach().abs().max()
        )


def test_a_network_with_kinks_is_not_tabulated():
    model = make_model(activation="relu")
    grids = tabulation(model.descriptor, ELEMENTS, None, 1e-10)
    assert all(grid["intervals"] == 0 for grid in grids["networks"])
    with pytest.raises(InputError, match="cannot be tabulated"):
        tabulation(model.descriptor, ELEMENTS, None, 1e-10, insist=True)


@pytest.mark.parametrize("tolerance", [0.0, 1e-15, 1.0, float("nan")])
def test_tolerances_without_sense(tolerance):
    with pytest.raises(InputError, match="of tables"):
        tabulation(make_model().descriptor, ELEMENTS, None, tolerance)


@pytest.mark.parametrize("precision", ["float64", "mixed"])
@pytest.mark.parametrize("same_data", [True, False], ids=["one environment", "each its own"])
def test_committee(isa, precision, same_data):
    models = [make_model(seed=seed, embedding=(4, 8 + seed), wall=seed == 2) for seed in range(3)]
    if not same_data:
        models[1].descriptor.mean.add_(0.01)
    kernel = kernel_of(*models, precision=precision, isa=isa)
    arguments = environments(110)
    numbers = [a.numpy() for a in arguments]
    energies, gradients = zip(*(expected(m, arguments) for m in models), strict=True)
    tolerance = 1e-9 if precision == "float64" else 2e-4
    members = kernel.evaluate(*numbers, members=True)
    np.testing.assert_allclose(members.atomic_energy, np.stack(energies, -1), rtol=0, atol=tolerance)
    np.testing.assert_allclose(members.gradient, np.stack(gradients, -1), rtol=0, atol=tolerance)
    mean = kernel.evaluate(*numbers)
    np.testing.assert_allclose(mean.atomic_energy, np.mean(energies, 0), rtol=0, atol=tolerance)
    np.testing.assert_allclose(mean.gradient, np.mean(gradients, 0), rtol=0, atol=tolerance)


def test_extrapolation_is_counted(isa):
    models = [make_model(seed=seed) for seed in (1, 2)]
    arguments, numbers = environments(100), [a.numpy() for a in environments(100)]
    features = [m.features(*arguments).numpy() for m in models]
    random, types = np.random.default_rng(3), arguments[3].numpy()
    n_features = features[0].shape[1]
    low, high = (np.sort(random.normal(size=(2, 2, n_features)), axis=0) * 0.05 for _ in range(2))
    inputs = []
    for index, model in enumerate(models):
        minimum, maximum = low[index] - 0.05, high[index] + 0.05
        ranges = {e: {"min": minimum[t].tolist(), "max": maximum[t].tolist()} for t, e in enumerate(ELEMENTS)}
        inputs.append((json.dumps({**model_metadata(model), "feature_ranges": ranges}), model))
    kernel = Kernel(
        [(text, {k: v.numpy() for k, v in m.state_dict().items()}) for text, m in inputs], isa=isa
    )
    assert kernel.n_functions == 2 * n_features
    found = kernel.evaluate(*numbers, n_elements=2)
    outside = np.hstack(
        [
            (f < (low[index] - 0.05)[types]) | (f > (high[index] + 0.05)[types])
            for index, f in enumerate(features)
        ]
    )
    assert 0 < outside.sum() < outside.size
    assert np.array_equal(found.atom_extrapolations, outside.sum(1))
    assert np.array_equal(
        found.function_extrapolations, [outside[types == t].sum(0) for t in range(len(ELEMENTS))]
    )


def test_forces_add_up_to_nothing_and_follow_rotations(isa):
    """The kernel alone, without the model: energies of rotated environments are equal."""
    kernel, arguments = kernel_of(make_model(), isa=isa), [a.numpy() for a in environments(50)]
    rotation = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))[0]
    before, after = kernel.evaluate(*arguments), kernel.evaluate(arguments[0] @ rotation, *arguments[1:])
    np.testing.assert_allclose(after.atomic_energy, before.atomic_energy, atol=1e-12)
    np.testing.assert_allclose(after.gradient, before.gradient @ rotation, atol=1e-12)
    torques = np.zeros((50, 3))
    np.add.at(torques, edge_centers(torch.tensor(arguments[2])), np.cross(arguments[0], before.gradient))
    np.testing.assert_allclose(torques, 0.0, atol=1e-12)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda m, t: t.pop("descriptor.mean"), "no tensor descriptor.mean"),
        (lambda m, t: t.update({"descriptor.std": np.ones((3, 2))}), "size of descriptor.std"),
        (lambda m, t: t.update({"networks.networks.1.output.weight": np.ones(2)}), "size of networks"),
        (lambda m, t: m["spec"]["descriptor"].update(axis_neurons=12), "axis_neurons 12"),
        (lambda m, t: m["spec"]["descriptor"].update(embedding=[0]), "a layer of width 0"),
        (lambda m, t: m["spec"]["descriptor"].update(activation="gelu"), "activation function 'gelu'"),
        (lambda m, t: m["spec"]["descriptor"].update(cutoff=-1.0), "cutoff"),
        (lambda m, t: m["spec"]["networks"].pop("O"), "O"),
        (lambda m, t: m["tabulation"]["networks"].pop(), "another number of networks"),
        (lambda m, t: m["tabulation"]["networks"][0].update(intervals=-1), "a table without sense"),
        (lambda m, t: m["tabulation"]["networks"][0].update(intervals=10**9), "a table without sense"),
        (lambda m, t: m["tabulation"]["networks"][0].update(spacing=0.0), "a table without sense"),
        (lambda m, t: m.update(elements=[]), "no elements"),
    ],
)
def test_damaged_models_are_refused(damage, message):
    model = make_model()
    metadata = json.loads(json.dumps(model_metadata(model)))
    tensors = {name: value.numpy() for name, value in model.state_dict().items()}
    damage(metadata, tensors)
    with pytest.raises(ValueError, match=message):
        Kernel([(json.dumps(metadata), tensors)])


def test_a_file_without_grids_is_left_to_torchscript():
    with pytest.raises(NoKernelError, match="export the model again"):
        kernel_of(make_model(), tabulation=None)
