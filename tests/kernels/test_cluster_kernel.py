"""The kernel of cluster expansions computes what PyTorch computes, on every instruction set, for every option."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from ase.build import bulk
from test_acsf_kernel import (
    ENERGY,
    GRADIENT,
    arguments,
    check,
    evaluate,
    kernel_of,
    outside_of,
    reference,
    unusable,
)  # fmt: skip
from test_cluster_expansion import SETTINGS, make_model

from nnpkit.data.graph import build_graph, edge_vectors
from nnpkit.data.structure import Structure
from nnpkit.deploy.metadata import model_metadata
from nnpkit.families.cluster_expansion.radial import radial_functions
from nnpkit.families.factory import initialise
from nnpkit.kernels.native import ISAS, Kernel, NoKernelError
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.testing.trial_structures import random_structure


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> str:
    if unusable(request.param):
        pytest.skip(unusable(request.param))
    return request.param


@pytest.fixture(autouse=True)
def _kernels() -> None:
    if unusable("portable"):
        pytest.skip(unusable("portable"))


def crowded(model: AtomicModel, n_atoms: int = 24) -> tuple[torch.Tensor, ...]:
    """Edges of atoms with more than a vector of neighbours, some beyond the cutoff."""
    graph = build_graph(random_structure(model.elements, n_atoms, 5), model.elements, model.cutoff + 0.5)
    return edge_vectors(graph), graph.types[graph.neighbor], graph.offsets, graph.types


@cache
def prepared(settings: str) -> tuple[AtomicModel, tuple[torch.Tensor, ...], tuple[np.ndarray, np.ndarray]]:
    """A model, given in JSON, its arguments and what PyTorch makes of them, for all instruction sets."""
    model = make_model(**json.loads(settings))
    args = crowded(model)
    return model, args, reference(model, args)


def compare(isa: str, **settings: object) -> None:
    model, args, (energy, gradient) = prepared(json.dumps(settings))
    found = evaluate(kernel_of(model, isa=isa), args)
    assert np.abs(found.atomic_energy - energy).max() <= ENERGY * np.abs(energy).max()
    assert np.abs(found.gradient - gradient).max() <= GRADIENT * np.abs(gradient).max(initial=1.0)


@pytest.mark.parametrize("kind", ["cosine", "poly2", "poly3"])
def test_cutoff_functions(kind: str, isa: str) -> None:
    compare(isa, cutoff_kind=kind, wall={"H-O": 1.6})


@pytest.mark.parametrize(
    ("elements", "cutoffs"), [(["Cu"], (4.2, 3.1)), (["H", "O"], (3.1, 4.2)), (list("CHNOS"), (3.5, 3.5))]
)
def test_elements_and_which_cutoff_is_longer(
    elements: list[str], cutoffs: tuple[float, float], isa: str
) -> None:
    compare(isa, elements=elements, radial_cutoff=cutoffs[0], angular_cutoff=cutoffs[1])


@pytest.mark.parametrize("elements", [["Cu"], ["H", "O"]])
@pytest.mark.parametrize(
    ("radial", "angular"),
    [((1, 1), (1, 1)), ((2, 3), (3, 2)), ((9, 7), (8, 8)), ((5, 20), (20, 17)), ((17, 4), (6, 10))],
)
def test_numbers_of_channels_and_functions(
    elements: list[str], radial: tuple[int, int], angular: tuple[int, int], isa: str
) -> None:
    """Both ways to the channels: moments first, where functions are fewer, or the functions mixed first."""
    compare(
        isa, elements=elements, radial_channels=radial[0], radial_basis=radial[1], angular_channels=angular[0],
        angular_basis=angular[1], invariants=[[1, 1], [2, 2, 2]],
    )  # fmt: skip


@pytest.mark.parametrize(
    "lists",
    [
        [[1, 1]], [[2, 2]], [[3, 3], [1, 1]], [[4, 4], [2, 2, 2], [1, 1, 1, 1]], [[5, 5], [1, 1, 2, 2]],
        [[2, 2, 4], [1, 3, 4], [3, 3, 6], [2, 2, 2, 2], [1, 2, 3, 4]],
    ],
)  # fmt: skip
def test_invariants(lists: list[list[int]], isa: str) -> None:
    compare(isa, invariants=lists)


def test_form_of_nep(isa: str) -> None:
    lists = [[1, 1], [2, 2], [2, 2, 2], [1, 1, 1, 1]]
    compare(isa, elements=["Cu"], wall={"Cu-Cu": 2.2}, kind="nep", invariants=lists)


def test_atoms_without_neighbours_and_no_atoms(isa: str) -> None:
    model = make_model()
    kernel = kernel_of(model, isa=isa)
    args = arguments(model)
    none, two = torch.zeros(0, dtype=torch.int64), torch.tensor([0, 1])
    check(model, kernel, (args[0][:0], none, torch.zeros(3, dtype=torch.int64), two))
    empty = evaluate(kernel, (args[0][:0], none, torch.zeros(1, dtype=torch.int64), none))
    assert empty.atomic_energy.size == 0
    for n in (1, 2, int(args[2][1])):  # some neighbours, then an atom without
        types = torch.stack([args[3][0], two[1]])
        check(model, kernel, (args[0][:n], args[1][:n], torch.tensor([0, n, n]), types))


def test_neighbours_on_the_axes(isa: str) -> None:
    """Where sines and cosines of the azimuth mean nothing."""
    model = make_model(["Cu"])
    vectors = torch.tensor([[0, 0, 2.1], [0, 0, -1.9], [1.7, 0, 0], [0, -2.2, 0]], dtype=torch.float64)
    args = (vectors, torch.zeros(4, dtype=torch.int64), torch.tensor([0, 4]), torch.tensor([0]))
    check(model, kernel_of(model, isa=isa), args)


def test_equal_input_gives_equal_bits(isa: str) -> None:
    model = make_model()
    kernel, args = kernel_of(model, isa=isa), crowded(model)
    first, again = evaluate(kernel, args), evaluate(kernel_of(model, isa=isa), args)
    assert np.array_equal(first.gradient, again.gradient)
    edge_vec, neighbor_type, offsets, types = args
    for i in range(0, len(types), 7):  # and nothing depends on the atoms before
        a, b = int(offsets[i]), int(offsets[i + 1])
        one = (edge_vec[a:b], neighbor_type[a:b], offsets[i : i + 2] - a, types[i : i + 1])
        assert np.array_equal(evaluate(kernel, one).gradient, first.gradient[a:b])


@pytest.mark.parametrize("precision", ["mixed", "float32"])
def test_single_precision_is_close(precision: str, isa: str) -> None:
    model = make_model(wall={"H-O": 1.6})
    check(model, kernel_of(model, precision=precision, isa=isa), crowded(model), 1e-5, 1e-4)


def test_single_precision_where_channels_are_large_at_distances_without_neighbours(isa: str) -> None:
    """As trained ones are: of the published functions they are differences of terms a thousand times as large."""
    model = make_model(
        ["Cu"], radial_basis=8, angular_basis=8, radial_cutoff=4.0, angular_cutoff=4.0, wall={"Cu-Cu": 4.0}
    )
    d = model.descriptor
    r = torch.linspace(2.2, 4.0, 200, dtype=torch.float64)
    functions = radial_functions(r, 8, 4.0, d.cutoff_kind) @ d.angular_combinations.T
    bent = torch.cos(torch.arange(d.angular_channels + d.radial_channels)[:, None] + 2.0 * r)
    wanted = bent * functions[:, :1].T
    weights = torch.linalg.lstsq(functions, wanted.T).solution.T
    assert float((weights.abs() @ functions.abs().T).max() / wanted.abs().max()) > 30.0
    with torch.no_grad():
        d.angular_weights[:] = weights[: d.angular_channels]
        d.radial_weights[:] = weights[d.angular_channels :]
    crystal = Structure.from_atoms(bulk("Cu", cubic=True) * (2, 2, 2), "crystal")
    crystal = replace(crystal, positions=crystal.positions + 0.05 * np.sin(np.arange(96.0)).reshape(-1, 3))
    graph = build_graph(crystal, ["Cu"], model.cutoff)
    args = edge_vectors(graph), graph.types[graph.neighbor], graph.offsets, graph.types
    check(model, kernel_of(model, precision="mixed", isa=isa), args, 2e-6, 2e-6)


def committee(n: int) -> list[AtomicModel]:
    """Members with radial functions and networks of their own; of three, one has another descriptor and a wall."""
    models = [make_model() for _ in range(n)]
    if n == 3:
        models[1] = make_model(wall={"H-O": 1.5}, angular_channels=5, invariants=SETTINGS["invariants"][:4])
        models[2] = make_model(angular_cutoff=2.4, radial_basis=7)
    for index, model in enumerate(models):
        initialise(model, "xavier", 100 + index)
        with torch.no_grad():
            model.descriptor.angular_weights *= 1.0 + 0.1 * index
            model.descriptor.radial_weights += 0.1 * index
    return models


@pytest.mark.parametrize("n", [3, 9])
@pytest.mark.parametrize("precision", ["float64", "mixed"])
def test_members_of_a_committee(n: int, precision: str, isa: str) -> None:
    models = committee(n)
    kernel = kernel_of(*models, precision=precision, isa=isa)
    args = arguments(models[0])
    energies, gradients = (np.stack(a, -1) for a in zip(*(reference(m, args) for m in models), strict=True))
    exact = precision == "float64"
    found, mean = evaluate(kernel, args, members=True), evaluate(kernel, args)
    for have, want, tolerance in (
        (found.atomic_energy, energies, ENERGY if exact else 1e-5),
        (found.gradient, gradients, GRADIENT if exact else 1e-4),
        (mean.atomic_energy, energies.mean(-1), ENERGY if exact else 1e-5),
        (mean.gradient, gradients.mean(-1), GRADIENT if exact else 1e-4),
    ):
        assert np.abs(have - want).max() <= tolerance * np.abs(want).max()


def test_features_outside_their_range_are_counted(isa: str) -> None:
    models = committee(2)
    args = arguments(models[0], 12, seed=8)
    found = evaluate(kernel_of(*models, isa=isa), args, n_elements=2)
    types, counted = args[3].numpy(), []
    for model in models:  # features are trained: those of the members stand side by side
        features = model.features(*args).detach().numpy()
        counted.append(outside_of(model, features, types))
    outside = np.hstack(counted)
    assert outside.any()
    assert found.atom_extrapolations.tolist() == outside.sum(1).tolist()
    assert found.function_extrapolations.tolist() == [outside[types == t].sum(0).tolist() for t in range(2)]


@pytest.mark.parametrize("members", [False, True])
def test_members_drawn_around_the_first_have_its_features(members: bool, isa: str) -> None:
    """Their networks are drawn; features are counted once, as many as the file has ranges for."""
    models = [make_model() for _ in range(4)]
    for index, model in enumerate(models[1:]):
        model.load_state_dict(models[0].state_dict())
        with torch.no_grad():
            for weight in model.networks.parameters():
                weight *= 1.01 + 0.01 * index
    args = arguments(models[0], 12, seed=8)
    kernel = kernel_of(*models, isa=isa, drawn=True)
    alone = evaluate(kernel_of(models[0], isa=isa), args, n_elements=2)
    found = evaluate(kernel, args, n_elements=2, members=members)
    assert alone.atom_extrapolations.any()
    assert found.function_extrapolations.tolist() == alone.function_extrapolations.tolist()
    assert found.atom_extrapolations.tolist() == alone.atom_extrapolations.tolist()
    energy = found.atomic_energy[:, 0] if members else found.atomic_energy
    np.testing.assert_allclose(energy, alone.atomic_energy, rtol=1e-12)


def test_damaged_models_are_refused_in_words() -> None:
    model = make_model()
    metadata = model_metadata(model)
    tensors = {k: v.detach().numpy() for k, v in model.state_dict().items()}
    terms = tensors["descriptor.polynomials.terms"]

    def refused(
        words: str, problem: type[Exception] = ValueError, descriptor: object = None, **others: object
    ) -> None:
        spec = {**metadata["spec"], "descriptor": {**metadata["spec"]["descriptor"], **(descriptor or {})}}
        with pytest.raises(problem, match=words):
            Kernel([(json.dumps({**metadata, "spec": spec}), {**tensors, **others})])

    def changed(row: int, column: int, value: float) -> dict[str, np.ndarray]:
        table = terms.copy()
        table[row, column] = value
        return {"descriptor.polynomials.terms": table}

    refused("soft", NoKernelError, {"cutoff_kind": "soft"})
    refused("radial cutoff", descriptor={"radial_cutoff": -1.0})
    refused("angular_channels", descriptor={"angular_channels": 0})
    refused("wrong shape", descriptor={"angular_channels": 3})
    refused("wrong shape", **{"descriptor.polynomials.terms": terms[:, :5]})
    refused("no invariant", **changed(0, 0, 99))
    refused("high degree", **changed(0, 2, 1e9))
    refused("two factors", **changed(0, 3, -1))
    refused("several degrees", **changed(0, 4, 1))
    refused("without terms", **{"descriptor.polynomials.terms": terms[terms[:, 0] > 0]})


def test_a_model_file_names_the_kernel(tmp_path) -> None:
    """What ASE and `compute nnpkit` load: the file's own table, checked against its self-test."""
    from nnpkit.deploy.fused import fused_potential
    from nnpkit.deploy.load import load
    from nnpkit.deploy.targets.torchscript import export_model

    for kind in ("cluster_expansion", "nep"):
        model = make_model(kind=kind)
        export_model(model, tmp_path / "model.pt")
        potential = fused_potential(load(tmp_path / "model.pt"))
        args = arguments(model)
        energy, gradient = potential.energy_and_gradient(*args)
        expected, slope = reference(model, args)
        assert np.allclose(energy, expected, rtol=1e-12)
        assert np.allclose(gradient, slope, atol=1e-10)
