"""The kernel of symmetry function models computes what PyTorch computes, on every instruction set, for every option."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
import torch
from test_acsf import FUNCTIONS, make_model

from nnpkit.data.graph import build_graph, edge_vectors
from nnpkit.deploy.metadata import RANGE_MARGIN, model_metadata
from nnpkit.families.acsf.symmetry_functions import SymmetryFunction
from nnpkit.families.factory import build_model, initialise
from nnpkit.kernels.native import ISAS, Evaluation, Kernel, NoKernelError
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.cutoff import CUTOFF_KINDS
from nnpkit.models.networks import ACTIVATIONS
from nnpkit.testing.trial_structures import random_structure

Arguments = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
ENERGY, GRADIENT = 1e-12, 1e-11  # relative to the largest


def kernel_of(
    *models: AtomicModel, precision: str = "float64", isa: str | None = None, drawn: bool = False
) -> Kernel:
    marks = [{"drawn": True} if drawn and index > 0 else {} for index in range(len(models))]
    members = [
        (json.dumps(model_metadata(m) | mark), {k: v.detach().numpy() for k, v in m.state_dict().items()})
        for m, mark in zip(models, marks, strict=True)
    ]
    return Kernel(members, precision, isa)


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


def arguments(model: AtomicModel, n_atoms: int = 9, seed: int = 3, skin: float = 0.7) -> Arguments:
    """Edges of a random structure, some of them longer than the cutoff of the model."""
    graph = build_graph(random_structure(model.elements, n_atoms, seed), model.elements, model.cutoff + skin)
    return edge_vectors(graph), graph.types[graph.neighbor], graph.offsets, graph.types


def reference(model: AtomicModel, args: Arguments) -> tuple[np.ndarray, np.ndarray]:
    edge_vec = args[0].clone().requires_grad_(True)
    energy = model(edge_vec, *args[1:])
    (gradient,) = torch.autograd.grad(energy.sum(), edge_vec, allow_unused=True)
    return energy.detach().numpy(), (torch.zeros_like(edge_vec) if gradient is None else gradient).numpy()


def outside_of(model: AtomicModel, features: np.ndarray, types: np.ndarray) -> np.ndarray:
    """Which features (n_atoms, functions) a file of the model calls outside of the range of its training data."""
    low, high = (bound.numpy()[types] for bound in (model.scaling.minimum, model.scaling.maximum))
    margin = RANGE_MARGIN * (high - low)
    return (features < low - margin) | (features > high + margin)


def evaluate(kernel: Kernel, args: Arguments, **options: object) -> Evaluation:
    return kernel.evaluate(*(a.numpy() for a in args), **options)


def check(
    model: AtomicModel, kernel: Kernel, args: Arguments, energy: float = ENERGY, gradient: float = GRADIENT
) -> None:
    expected, slope = reference(model, args)
    found = evaluate(kernel, args)
    assert np.abs(found.atomic_energy - expected).max(initial=0.0) <= energy * np.abs(expected).max(initial=1)
    assert np.abs(found.gradient - slope).max(initial=0.0) <= gradient * np.abs(slope).max(initial=1.0)


@pytest.mark.parametrize("kind", CUTOFF_KINDS)
def test_cutoff_functions(kind: str, isa: str) -> None:
    model = make_model(kind, {"H-O": 1.6, "O-O": 2.2})
    check(model, kernel_of(model, isa=isa), arguments(model))


@pytest.mark.parametrize("kind", [k for k in CUTOFF_KINDS if k == "cosine" or k.startswith("poly")])
def test_inner_cutoff(kind: str, isa: str) -> None:
    spec = {**make_model(kind).spec, "cutoff_inner": 0.35}
    model = build_model(spec)
    initialise(model, "xavier", 2)
    check(model, kernel_of(model, isa=isa), arguments(model))


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation_functions(activation: str, isa: str) -> None:
    model = make_model(activation=activation)
    check(model, kernel_of(model, isa=isa), arguments(model))


def angular_model(functions: Sequence[SymmetryFunction], elements: Sequence[str] = ("H", "O")) -> AtomicModel:
    """`functions` and one radial function for each element, with a network of several vectors' width."""
    radial = [SymmetryFunction("G2", e, (e,), 3.2, eta=0.5) for e in elements]
    network = {"hidden": [37, 5], "activations": ["tanh", "logistic", "linear"]}
    model = build_model(
        {
            "kind": "acsf", "elements": list(elements), "cutoff_kind": "tanh3", "cutoff_inner": 0.0,
            "functions": [f.to_dict() for f in [*radial, *functions]], "networks": dict.fromkeys(elements, network),
            "energy_scale": 0.8, "reference_energies": dict.fromkeys(elements, -2.0), "wall": {},
        }
    )  # fmt: skip
    initialise(model, "xavier", 4)
    return model


@pytest.mark.parametrize("kind", ["G3", "G9"])
@pytest.mark.parametrize("shift", [0.0, 0.6])
def test_angular_functions(kind: str, shift: float, isa: str) -> None:
    """Exponents that are sums of others, every power of the angle, and more functions than one group takes."""
    functions = [
        SymmetryFunction(kind, "H", ("H", "O"), 3.4, eta=eta, shift=shift, zeta=zeta, lam=lam)
        for eta in (0.01, 0.03, 0.07, 0.2, 0.013)
        for zeta in (1.0, 2.0, 3.0, 4.0, 8.0, 16.0, 1.5)
        for lam in (1.0, -1.0)
    ]
    model = angular_model(functions)
    check(model, kernel_of(model, isa=isa), arguments(model))


def test_cutoffs_of_all_lengths(isa: str) -> None:
    functions = [
        SymmetryFunction(kind, "O", pair, cutoff, eta=0.1, zeta=2.0, lam=1.0)
        for kind in ("G3", "G9")
        for pair in (("H", "H"), ("H", "O"), ("O", "O"))
        for cutoff in (1.3, 2.2, 3.0)
    ]
    model = angular_model(functions)
    check(model, kernel_of(model, isa=isa), arguments(model))


def test_many_elements(isa: str) -> None:
    elements = ["C", "Cl", "Cu", "H", "N", "Na", "O", "S"]
    functions = [
        SymmetryFunction("G3", a, (b, c), 3.5, eta=0.05, zeta=1.0, lam=-1.0)
        for a in elements
        for b in elements[:3]
        for c in elements
    ]
    model = angular_model(functions, elements)
    check(model, kernel_of(model, isa=isa), arguments(model, 16))


def test_atoms_without_neighbours_and_no_atoms(isa: str) -> None:
    model = make_model()
    kernel = kernel_of(model, isa=isa)
    args = arguments(model)
    none, two = torch.zeros(0, dtype=torch.int64), torch.tensor([0, 1])
    lonely = (args[0][:0], none, torch.zeros(3, dtype=torch.int64), two)
    check(model, kernel, lonely)
    assert (
        evaluate(kernel, (args[0][:0], none, torch.zeros(1, dtype=torch.int64), none)).atomic_energy.size == 0
    )
    n = int(args[2][1])  # the first atom, then one without neighbours
    check(
        model, kernel, (args[0][:n], args[1][:n], torch.tensor([0, n, n]), torch.stack([args[3][0], two[1]]))
    )


def test_pairs_only(isa: str) -> None:
    """One and two neighbours, where vectors are almost empty."""
    model = make_model()
    kernel = kernel_of(model, isa=isa)
    vectors = torch.tensor([[1.1, 0.2, 0.0], [0.0, -0.3, 1.4], [1.1, 0.2, 0.1]], dtype=torch.float64)
    for n in (1, 2, 3):
        args = (vectors[:n], torch.tensor([0, 1, 1])[:n], torch.tensor([0, n]), torch.tensor([1]))
        check(model, kernel, args)


def test_equal_input_gives_equal_bits(isa: str) -> None:
    model = make_model()
    args = arguments(model)
    first, again = (evaluate(kernel_of(model, isa=isa), args) for _ in range(2))
    assert np.array_equal(first.atomic_energy, again.atomic_energy)
    assert np.array_equal(first.gradient, again.gradient)


def test_blocks_of_atoms_do_not_matter() -> None:
    model = make_model()
    kernel = kernel_of(model)
    edge_vec, neighbor_type, offsets, types = arguments(model)
    whole = evaluate(kernel, (edge_vec, neighbor_type, offsets, types))
    for i in range(len(types)):
        a, b = int(offsets[i]), int(offsets[i + 1])
        one = (edge_vec[a:b], neighbor_type[a:b], offsets[i : i + 2] - a, types[i : i + 1])
        found = evaluate(kernel, one)
        assert found.atomic_energy[0] == whole.atomic_energy[i]
        assert np.array_equal(found.gradient, whole.gradient[a:b])


@pytest.mark.parametrize("precision", ["mixed", "float32"])
def test_single_precision_is_close(precision: str, isa: str) -> None:
    model = make_model("tanh3", {"H-O": 1.6})
    check(model, kernel_of(model, precision=precision, isa=isa), arguments(model), 1e-5, 1e-4)


def committee(n: int, **changes: object) -> list[AtomicModel]:
    models = [make_model("tanh3") for _ in range(n)]
    for index, model in enumerate(models):
        initialise(model, "xavier", 100 + index)
        model.scaling.shift.mul_(1.0 + 0.01 * index)
    return models


@pytest.mark.parametrize("n", [2, 3, 8, 11])
@pytest.mark.parametrize("precision", ["float64", "mixed"])
def test_members_of_a_committee(n: int, precision: str, isa: str) -> None:
    models = committee(n)
    if n == 3:  # another network, another descriptor, and a wall of two members
        spec, wall = models[0].spec, {"wall": {"H-O": 1.5}}
        models[1] = build_model({**spec, **wall, "networks": dict.fromkeys("HO", spec["networks"]["O"])})
        models[2] = build_model({**spec, **wall, "functions": spec["functions"][1:]})
        for model in models[1:]:
            initialise(model, "xavier", 5)
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


def _both(found: Evaluation) -> tuple[np.ndarray, np.ndarray]:
    return found.atomic_energy, found.gradient


@pytest.mark.parametrize("precision", ["float64", "mixed"])
def test_members_drawn_around_the_first(precision: str, isa: str) -> None:
    """The first is the mean, by itself and of the rows; the others keep their deviations but for what that takes."""
    models = committee(5)
    kernel = kernel_of(*models, precision=precision, isa=isa, drawn=True)
    args = arguments(models[0])
    tolerance = 1e-11 if precision == "float64" else 1e-4
    found, mean = evaluate(kernel, args, members=True), evaluate(kernel, args)
    of_members = zip(*(reference(m, args) for m in models), strict=True)
    for have, alone, parts in zip(_both(found), _both(mean), of_members, strict=True):
        want = np.stack(parts, -1)
        want[..., 1:] -= (want[..., 1:] - want[..., :1]).mean(-1, keepdims=True)
        scale = np.abs(np.stack(parts)).max()
        assert np.abs(alone - parts[0]).max() <= tolerance * scale
        assert np.abs(have - want).max() <= tolerance * scale
        assert np.abs(have.mean(-1) - have[..., 0]).max() <= 1e-13 * scale


def test_features_outside_their_range_are_counted(isa: str) -> None:
    model = make_model()
    args = arguments(model, 12, seed=8)
    found = evaluate(kernel_of(model, isa=isa), args, n_elements=2)
    features, types = model.features(*args).numpy(), args[3].numpy()
    outside = outside_of(model, features, types)
    assert outside.any()
    assert found.atom_extrapolations.tolist() == outside.sum(1).tolist()
    expected = np.stack([outside[types == t].sum(0) for t in range(2)])
    assert found.function_extrapolations.tolist() == expected.tolist()


def test_other_models_are_refused_in_words() -> None:
    model = make_model()
    metadata = model_metadata(model)
    tensors = {k: v.detach().numpy() for k, v in model.state_dict().items()}

    def refused(
        change: dict[str, object], problem: type[Exception], words: str, **others: np.ndarray
    ) -> None:
        text = json.dumps({**metadata, **change})
        with pytest.raises(problem, match=words):
            Kernel([(text, {**tensors, **others})])

    spec = metadata["spec"]
    refused({"kind": "alchemy"}, NoKernelError, "alchemy")
    refused({"spec": {**spec, "cutoff_kind": "soft"}}, NoKernelError, "soft")
    refused({"spec": {**spec, "functions": []}}, ValueError, "wrong shape")
    refused({}, ValueError, "scaling.shift", **{"scaling.shift": np.zeros(3)})
    refused({"spec": {**spec, "elements": ["H"]}}, ValueError, "contradict")
    with pytest.raises(ValueError, match="JSON"):
        Kernel([("{", tensors)])
    with pytest.raises(ValueError, match="precision"):
        Kernel([(json.dumps(metadata), tensors)], "float16")


def test_arguments_that_make_no_sense_are_refused() -> None:
    model = make_model()
    kernel = kernel_of(model)
    edge_vec, neighbor_type, offsets, types = (a.numpy() for a in arguments(model))
    with pytest.raises(ValueError, match="unknown type"):
        kernel.evaluate(edge_vec, neighbor_type + 5, offsets, types)
    with pytest.raises(ValueError, match="unknown type"):
        kernel.evaluate(edge_vec, neighbor_type, offsets, types - 1)
    with pytest.raises(ValueError, match="offsets"):
        kernel.evaluate(edge_vec, neighbor_type, offsets + 1, types)


def test_every_kind_of_function_is_in_the_small_model() -> None:
    assert {f.kind for f in FUNCTIONS} == {"G2", "G3", "G9"}
