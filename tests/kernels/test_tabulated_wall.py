"""The repulsion with a table for each pair: its formula, its end, and the kernels on processor and GPU."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from nep_by_hand import repulsion
from small_models import cluster, small_model

from nnpkit.data.graph import build_graph, edge_vectors
from nnpkit.deploy.metadata import model_metadata
from nnpkit.kernels.native import ISAS, Kernel, NoKernelError
from nnpkit.models.short_range import make_wall, wall_ends
from nnpkit.models.tabulated_zbl import UNIVERSAL_SCREENING, TabulatedZbl, nep_wall

OWN = [0.7, 1.7, 0.4, 2.1, 0.3, 0.8, 0.2, 0.5, 0.1, 0.1]
WALL = {"O-H": OWN, "H-H": [0.5, 1.9, *UNIVERSAL_SCREENING]}  # and none between oxygens
HAND = {
    "elements": ["O", "H"],
    "cutoffs": (6.0, 6.0),
    "zbl": (0.0, 0.0),
    "pairs": [[0.0] * 10, OWN, WALL["H-H"]],
}


def energies(wall: torch.nn.Module, r: list[float], neighbor: int) -> torch.Tensor:
    """Of a hydrogen with one neighbour at each distance."""
    n = len(r)
    vectors = torch.tensor([[d, 0.0, 0.0] for d in r], dtype=torch.float64)
    types = torch.ones(n, dtype=torch.int64)
    return wall(vectors, torch.full((n,), neighbor), torch.arange(n + 1), types)


@pytest.mark.parametrize("neighbor", [0, 1])
def test_each_edge_has_half_the_repulsion_of_its_pair(neighbor: int) -> None:
    distances = [0.3, 0.69, 0.9, 1.5, 1.69, 1.89, 2.5]
    wall = TabulatedZbl(["O", "H"], WALL)
    expected = [0.5 * repulsion(HAND, d, 1, neighbor) for d in distances]
    np.testing.assert_allclose(energies(wall, distances, neighbor), expected, rtol=1e-13)
    assert expected[0] > 1.0
    assert expected[-1] == 0.0
    oxygens = wall(
        torch.tensor([[0.5, 0.0, 0.0]]).double(), torch.tensor([0]), torch.tensor([0, 1]), torch.tensor([0])
    )
    assert float(oxygens) == 0.0


def test_a_distance_becomes_the_universal_repulsion_from_half_of_it_on() -> None:
    wall = make_wall(["O", "H"], nep_wall({"O-H": 1.6}))
    hand = {**HAND, "zbl": (0.8, 1.6)}
    expected = [0.5 * repulsion(hand, d, 1, 0) for d in (0.5, 1.0, 1.5)]
    np.testing.assert_allclose(energies(wall, [0.5, 1.0, 1.5], 0), expected, rtol=1e-13)
    assert wall.cutoff == 1.6
    assert wall_ends(nep_wall({"O-H": 1.6})) == wall_ends({"O-H": 1.6}) == {"O-H": 1.6}


def test_walls_are_of_one_kind() -> None:
    assert make_wall(["O", "H"], {}) is None
    with pytest.raises(ValueError, match="some pairs are distances"):
        make_wall(["O", "H"], {"O-H": 1.0, "H-H": OWN})


@pytest.fixture(params=[*ISAS, "cuda"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param != "cuda":
        return request.param
    from cuda_library import cuda_library

    monkeypatch.setenv("NNPKIT_CUDA_LIBRARY", str(cuda_library()))
    return "cuda:0"


def kernel(model, isa: str) -> Kernel:
    tensors = {k: v.detach().double().numpy() for k, v in model.state_dict().items() if v.is_floating_point()}
    try:
        return Kernel([(json.dumps(model_metadata(model)), tensors)], "float64", isa)
    except NoKernelError as reason:
        pytest.skip(str(reason))


def test_the_kernels_compute_it(place: str) -> None:
    model = small_model(wall=WALL)
    graph = build_graph(cluster(12), model.elements, model.cutoff)
    vectors = edge_vectors(graph).requires_grad_(True)
    arguments = vectors, graph.types[graph.neighbor], graph.offsets, graph.types
    energy = model(*arguments)
    (gradient,) = torch.autograd.grad(energy.sum(), vectors)
    found = kernel(model, place).evaluate(*(a.detach().numpy() for a in arguments))
    np.testing.assert_allclose(found.atomic_energy, energy.detach(), rtol=1e-12)
    np.testing.assert_allclose(found.gradient, gradient, atol=1e-10)
    without = small_model()(*arguments)
    assert float((energy - without).max().detach()) > 0.1


STEEP = [0.9, 1.9, *(x * (1.0 if k % 2 else 0.3) for k, x in enumerate(UNIVERSAL_SCREENING))]


@pytest.mark.parametrize("row", [OWN, STEEP, [0.0, 1.7, *OWN[2:]], [0.8, 1.6, *UNIVERSAL_SCREENING]])
def test_the_curves_of_the_kernels_agree_everywhere(place: str, row: list[float]) -> None:
    """Kernels on processors have polynomials in the place of exponentials: in all their pieces, and where they meet."""
    model = small_model(wall={"H-H": row})
    inner, outer = row[:2]
    ends = [0.5 * inner, 0.35 * outer, inner, outer]
    distances = np.unique(
        [*np.linspace(0.1, outer + 0.1, 701), *(end + d for end in ends for d in (-1e-9, 0.0, 1e-9))]
    )
    distances = distances[distances > 0.05]
    n = len(distances)
    vectors = torch.tensor(np.stack([distances, 0 * distances, 0 * distances], 1)).requires_grad_()
    types = torch.ones(n, dtype=torch.int64)
    wall = model.terms(vectors, types, torch.arange(n + 1), types)
    (slope,) = torch.autograd.grad(wall.sum(), vectors)
    arguments = vectors.detach().numpy(), types.numpy(), np.arange(n + 1), types.numpy()
    found, bare = (kernel(m, place).evaluate(*arguments) for m in (model, small_model()))
    np.testing.assert_allclose(
        found.atomic_energy - bare.atomic_energy, wall.detach(), rtol=1e-11, atol=1e-12
    )
    np.testing.assert_allclose(found.gradient - bare.gradient, slope, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize(
    ("wall", "what"),
    [({"O-H": OWN[:9]}, "no ten numbers"), ({"O-H": OWN, "H-H": 1.0}, "some pairs are distances"),
     ({"O-H": [0.0] * 10}, "ends nowhere")],
)  # fmt: skip
def test_the_kernel_refuses_a_table_that_is_none(wall: dict, what: str) -> None:
    model = small_model()
    metadata = model_metadata(model)
    metadata["spec"] = {**metadata["spec"], "wall": wall}
    tensors = {k: v.detach().double().numpy() for k, v in model.state_dict().items() if v.is_floating_point()}
    kernel(model, "portable")
    with pytest.raises((ValueError, NoKernelError), match=what):
        Kernel([(json.dumps(metadata), tensors)], "float64", "portable")
