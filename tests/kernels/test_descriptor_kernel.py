"""Symmetry functions from the kernels are those of PyTorch, with all derivatives that a training needs."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from alloy import make_training
from rich.console import Console
from test_acsf import FUNCTIONS

from nnpkit.config.config_file import load_config
from nnpkit.data.graph import build_graph, edge_vectors
from nnpkit.deploy.load import load
from nnpkit.errors import InputError
from nnpkit.families.acsf.compiled import CompiledAcsf
from nnpkit.families.acsf.symmetry_functions import Acsf, SymmetryFunction
from nnpkit.families.chebyshev.expansion import Chebyshev
from nnpkit.kernels.acsf_operators import DescriptorKernel
from nnpkit.kernels.native import ISAS, NoKernelError
from nnpkit.measure.label_sums import force_samples, virial_samples
from nnpkit.measure.prepared_frame import Frame
from nnpkit.models.cutoff import CUTOFF_KINDS
from nnpkit.models.descriptor import EdgeJacobian
from nnpkit.testing.trial_structures import random_structure
from nnpkit.workflow.training_run import run_training

Arguments = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]
ACCURACY = 1e-12  # relative to the largest
HO = Acsf(["H", "O"], FUNCTIONS, "cosine")
WITHOUT = "/nowhere/libnnpkit_ops.so"


def unusable(isa: str) -> str:
    try:
        CompiledAcsf(HO, isa)
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


def arguments(elements: Sequence[str], cutoff: float, n_atoms: int = 9, seed: int = 3) -> Arguments:
    """Edges of a random structure, some of them longer than the cutoff."""
    graph = build_graph(random_structure(list(elements), n_atoms, seed), list(elements), cutoff + 0.7)
    return edge_vectors(graph), graph.types[graph.neighbor], graph.offsets, graph.types


def near(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.shape == expected.shape
    largest = expected.abs().max().item() if expected.numel() else 0.0
    torch.testing.assert_close(found, expected, rtol=0.0, atol=ACCURACY * max(1.0, largest))


def check(descriptor: Acsf, args: Arguments, isa: str) -> None:
    """Features, Jacobian, and the products of a vector with it from both sides."""
    compiled = CompiledAcsf(descriptor, isa)
    expected, jacobian = descriptor.jacobian(*args)
    near(compiled(*args), descriptor(*args))
    features, found = compiled.jacobian(*args)
    near(features, expected)
    assert torch.equal(features, compiled(*args))
    near(found.values, jacobian.values)
    assert torch.equal(found.center, jacobian.center)
    generator = torch.Generator().manual_seed(5)
    cotangent = torch.randn(expected.shape, generator=generator, dtype=torch.float64)
    near(compiled.vjp(cotangent, *args), torch.einsum("ed,edx->ex", cotangent[found.center], jacobian.values))
    tangent = torch.randn(args[0].shape, generator=generator, dtype=torch.float64)
    change = torch.ops.nnpkit.symmetry_functions_jvp(tangent, *args, compiled.spec, compiled.isa)
    along = torch.einsum("edx,ex->ed", jacobian.values, tangent)
    near(change, torch.zeros_like(expected).index_add(0, found.center, along))
    check_changes(compiled, expected, found, args, generator)


def check_changes(
    compiled: CompiledAcsf,
    features: torch.Tensor,
    jacobian: EdgeJacobian,
    args: Arguments,
    generator: torch.Generator,
) -> None:
    """What labels are made of, and the features beside it, are what follows from the derivatives of all edges."""
    edge_vec, neighbor_type, offsets, types = args
    n = len(types)
    # any atom of the right element may be at the end of an edge
    ends = [torch.nonzero(types == t).squeeze(1) for t in neighbor_type.tolist()]
    if any(len(own) == 0 for own in ends):
        return
    draws = torch.randint(1 << 30, (len(ends),), generator=generator).tolist()
    neighbor = torch.tensor(
        [int(own[k % len(own)]) for own, k in zip(ends, draws, strict=True)], dtype=torch.int64
    )
    factor = torch.rand(
        (int(types.max()) + 1 if n else 1, features.shape[1]), generator=generator, dtype=torch.float64
    )
    factor = torch.cat([factor, factor])
    scaled = jacobian.values * factor[types[jacobian.center]].unsqueeze(2)
    components = torch.randint(3 * n, (7,), generator=generator) if n else neighbor[:0]
    frame = Frame(
        "", types, jacobian.center, neighbor, edge_vec, features, scaled, None, 0.0, None, None, None, slice(None)
    )  # fmt: skip
    for some in (components, components[:0]):
        for with_virial in (True, False):
            found = compiled.changes(edge_vec, neighbor, offsets, types, some, with_virial, factor)
            near(found.features, features)
            assert (found.virial is None) == (not with_virial)
            if found.virial is not None:
                near(found.virial.reshape(-1, features.shape[1]), virial_samples(frame, scaled).direction)
            wanted = force_samples(frame, scaled, some)
            assert torch.equal(found.atom, wanted.atom)
            assert torch.equal(found.row, wanted.row)
            near(found.change, wanted.direction)


def test_changes_of_atoms_that_are_not_there_are_refused(isa: str) -> None:
    compiled, (edge_vec, _, offsets, types) = CompiledAcsf(HO, isa), arguments("HO", HO.cutoff)
    neighbor, factor = (
        torch.zeros(len(edge_vec), dtype=torch.int64),
        torch.ones(2, max(HO.n_features), dtype=torch.float64),
    )
    for component in (-1, 3 * len(types)):
        with pytest.raises(ValueError, match="a component of no atom"):
            compiled.changes(edge_vec, neighbor, offsets, types, torch.tensor([component]), False, factor)
    with pytest.raises((ValueError, IndexError, RuntimeError)):
        compiled.changes(edge_vec, neighbor + len(types), offsets, types, torch.tensor([0]), False, factor)


@pytest.mark.parametrize("kind", CUTOFF_KINDS)
def test_cutoff_functions(kind: str, isa: str) -> None:
    args = arguments("HO", HO.cutoff)
    check(Acsf(["H", "O"], FUNCTIONS, kind), args, isa)
    if kind == "cosine" or kind.startswith("poly"):
        check(Acsf(["H", "O"], FUNCTIONS, kind, 0.35), args, isa)


@pytest.mark.parametrize("elements", [["Cu"], ["H", "O"], ["Au", "Cu", "O"]], ids=len)
def test_elements_and_every_kind_of_function(elements: list[str], isa: str) -> None:
    """All pairs of neighbours, exponents that are sums of others, all powers; one element has fewer functions."""
    functions = [SymmetryFunction("G2", e, (o,), 3.2, eta=0.5, shift=0.4) for e in elements for o in elements]
    functions += [
        SymmetryFunction(kind, e, (a, b), cutoff, eta=eta, shift=shift, zeta=zeta, lam=lam)
        for e in elements[: max(1, len(elements) - 1)]
        for n, a in enumerate(elements)
        for b in elements[n:]
        for kind, cutoff, shift in (("G3", 3.4, 0.0), ("G3", 3.4, 0.6), ("G9", 2.9, 0.0), ("G9", 3.4, 0.3))
        for eta, zeta in ((0.01, 1.0), (0.03, 2.0), (0.07, 4.0), (0.2, 3.0), (0.013, 16.0), (0.2, 1.5))
        for lam in (1.0, -1.0)
    ]
    check(Acsf(elements, functions, "tanh3"), arguments(elements, 3.4), isa)


def test_no_atoms_no_edges_and_edges_beyond_the_cutoff(isa: str) -> None:
    edge_vec, neighbor_type, offsets, types = arguments("HO", HO.cutoff)
    none, n = torch.zeros(0, dtype=torch.int64), int(offsets[1])
    for args in (
        (edge_vec[:0], none, torch.zeros(1, dtype=torch.int64), none),
        (edge_vec[:0], none, torch.zeros(3, dtype=torch.int64), types[:2]),
        (edge_vec[:n], neighbor_type[:n], torch.tensor([0, n, n]), types[:2]),
        (edge_vec[:1] * 50.0, neighbor_type[:1], torch.tensor([0, 0, 1]), types[:2]),
    ):
        check(HO, args, isa)


def test_pytorch_has_the_same_product_with_the_jacobian() -> None:
    args = arguments("HO", HO.cutoff)
    features, jacobian = HO.jacobian(*args)
    cotangent = torch.linspace(-1.0, 1.0, features.numel(), dtype=torch.float64).view_as(features)
    expected = torch.einsum("ed,edx->ex", cotangent[jacobian.center], jacobian.values)
    near(HO.vjp(cotangent, *args), expected)
    near(HO.vjp(cotangent.requires_grad_(True), *args).detach(), expected)


def force_loss(descriptor: torch.nn.Module, args: Arguments, weights: torch.Tensor) -> torch.Tensor:
    """A loss of the gradient by the edges of a network with these weights."""
    vectors = args[0].clone().requires_grad_(True)
    energy = torch.tanh(descriptor(vectors, *args[1:]) @ weights).sum()
    (gradient,) = torch.autograd.grad(energy, vectors, create_graph=True)
    return (gradient - 0.1).square().sum()


def test_gradients_of_forces_by_weights_equal_those_of_pytorch() -> None:
    args = arguments("HO", HO.cutoff)
    weights = torch.linspace(-1.0, 1.0, max(HO.n_features) * 4, dtype=torch.float64).view(-1, 4)
    weights.requires_grad_(True)
    found, expected = (
        torch.autograd.grad(force_loss(d, args, weights), weights)[0] for d in (CompiledAcsf(HO), HO)
    )
    near(found, expected)


def test_products_with_the_jacobian_pass_gradcheck() -> None:
    compiled, args = CompiledAcsf(HO), arguments("HO", HO.cutoff, 4)
    vectors = args[0].clone().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda v: compiled(v, *args[1:]), vectors, fast_mode=True)
    cotangent = torch.ones(len(args[3]), max(HO.n_features), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(
        lambda c: compiled.vjp(c, *args).square(), cotangent, fast_mode=True, check_fwd_over_rev=False
    )


def test_second_derivatives_by_the_edges_are_refused_in_words() -> None:
    compiled, args = CompiledAcsf(HO), arguments("HO", HO.cutoff)
    vectors = args[0].clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(compiled(vectors, *args[1:]).square().sum(), vectors, create_graph=True)
    with pytest.raises(NotImplementedError, match="no second derivatives by the edge vectors"):
        torch.autograd.grad(gradient.sum(), vectors)
    direct = torch.ops.nnpkit.symmetry_functions_vjp(
        compiled(*args), vectors, *args[1:], compiled.spec, compiled.isa
    )
    assert torch.autograd.grad(direct.sum(), vectors)[0].isnan().all()


def test_opcheck() -> None:
    compiled, args = CompiledAcsf(HO), arguments("HO", HO.cutoff, 5)
    ops, place = torch.ops.nnpkit, (compiled.spec, compiled.isa)
    vectors = args[0].clone().requires_grad_(True)
    torch.library.opcheck(ops.symmetry_functions, (vectors, *args[1:], *place))
    cotangent = torch.randn_like(compiled(*args)).requires_grad_(True)
    torch.library.opcheck(ops.symmetry_functions_vjp, (cotangent, *args, *place))
    tangent = torch.randn_like(args[0]).requires_grad_(True)
    torch.library.opcheck(ops.symmetry_functions_jvp, (tangent, *args, *place))


def test_equal_bits_from_every_thread_and_for_every_block() -> None:
    compiled, args = CompiledAcsf(HO), arguments("HO", HO.cutoff)
    whole, jacobian = compiled.jacobian(*args)
    with ThreadPoolExecutor(4) as pool:
        assert all(
            torch.equal(found, whole) for found in pool.map(lambda _: compiled.jacobian(*args)[0], range(40))
        )
    edge_vec, neighbor_type, offsets, types = args
    for i in range(len(types)):
        a, b = int(offsets[i]), int(offsets[i + 1])
        one = (edge_vec[a:b], neighbor_type[a:b], offsets[i : i + 2] - a, types[i : i + 1])
        assert torch.equal(compiled.jacobian(*one)[1].values, jacobian.values[a:b])


def test_arguments_that_make_no_sense_are_refused() -> None:
    compiled = CompiledAcsf(HO)
    edge_vec, neighbor_type, offsets, types = arguments("HO", HO.cutoff)
    for args, words in (
        ((edge_vec, neighbor_type + 5, offsets, types), "unknown type"),
        ((edge_vec, neighbor_type, offsets, types - 1), "unknown type"),
        ((edge_vec, neighbor_type, offsets + 1, types), "offsets"),
        ((edge_vec, neighbor_type, offsets.flip(0), types), "offsets"),
        ((edge_vec.float(), neighbor_type, offsets, types), "edge_vec"),
        ((edge_vec[:, :2], neighbor_type, offsets, types), "edge_vec"),
        ((edge_vec, neighbor_type[1:], offsets, types), "neighbor_type"),
        ((edge_vec, neighbor_type, offsets, types[1:]), "offsets"),
    ):
        with pytest.raises(ValueError, match=words):
            compiled(*args)
    with pytest.raises(ValueError, match="cotangent"):
        compiled.vjp(
            compiled(edge_vec, neighbor_type, offsets, types)[1:], edge_vec, neighbor_type, offsets, types
        )
    with pytest.raises(NoKernelError, match="soft"):
        DescriptorKernel(json.dumps({**HO.spec, "cutoff_kind": "soft"}))
    with pytest.raises(ValueError, match="does not know"):
        DescriptorKernel(json.dumps({**HO.spec, "elements": ["H"]}))


def test_kernels_are_taken_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = HO.fast()
    assert isinstance(fast, CompiledAcsf)
    assert HO.engine() == f"Symmetry functions: kernels, {fast.isa}"
    chebyshev = Chebyshev(["H"], 3, 4.0, 2, 3.0, "cosine", {"H": 1.0})
    assert chebyshev.fast() is chebyshev
    assert chebyshev.engine() == ""
    monkeypatch.setenv("NNPKIT_ISA", "abacus")
    with pytest.raises(InputError, match="NNPKIT_ISA=abacus"):
        HO.fast()
    monkeypatch.setenv("NNPKIT_OPS_LIBRARY", WITHOUT)
    assert HO.fast() is HO
    assert "nnpkit build" in HO.engine()


@pytest.fixture
def config(tmp_path: Path) -> Iterator[Path]:
    before = Path.cwd()
    yield make_training(tmp_path)
    os.chdir(before)


@pytest.mark.parametrize("optimizer", ["ekf", "adam"])
@pytest.mark.parametrize("derivatives", ["kept", "streamed"])
def test_training_does_not_depend_on_who_computes(
    config: Path, optimizer: str, derivatives: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    states = []
    for output, engine in (("a", "kernels"), ("b", "PyTorch")):
        settings = [f"output={output}", "training.epochs=2", f"training.feature_derivatives={derivatives}"]
        if optimizer == "adam":
            settings.append("training.optimizer={kind: adam, learning_rate: 0.01}")
        said = io.StringIO()
        run_training(load_config(config, settings), console=Console(file=said, width=200))
        assert f"Symmetry functions: {engine}" in said.getvalue()
        states.append(load(Path(output, "model.pt")).module.state_dict())
        monkeypatch.setenv("NNPKIT_OPS_LIBRARY", WITHOUT)
    tolerance = 1e-6 if optimizer == "ekf" else 1e-8  # the filter amplifies rounding
    for name, values in states[0].items():
        torch.testing.assert_close(values, states[1][name], rtol=tolerance, atol=tolerance)
