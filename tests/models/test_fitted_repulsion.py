"""The repulsion whose strength is fitted to forces."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnpkit.data.distances import shortest_distances
from nnpkit.data.graph import build_graph, edge_vectors
from nnpkit.data.structure import Structure
from nnpkit.models import fitted_repulsion
from nnpkit.models.fitted_charges import point_charges
from nnpkit.models.fitted_repulsion import fit_repulsion, is_fitted
from nnpkit.models.short_range import make_wall
from nnpkit.models.tabulated_zbl import UNIVERSAL_SCREENING, nep_wall

ELEMENTS = ["Cu", "Si"]
FACTORS = {"Cu-Cu": 0.3, "Cu-Si": 0.8, "Si-Si": 1.7}


def row(factor: float, end: float) -> list[float]:
    return [0.5 * end, end, *(x * (1.0 if k % 2 else factor) for k, x in enumerate(UNIVERSAL_SCREENING))]


@pytest.fixture
def structures() -> list[Structure]:
    """Crystals with thermal displacements whose forces are repulsions of known strength."""
    rng = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3, indexing="ij"), -1).reshape(-1, 3) * 2.6
    bare = [
        Structure(
            list(rng.choice(ELEMENTS, 27)), grid + rng.normal(0.0, 0.2, grid.shape), 7.8 * np.eye(3),
            np.ones(3, dtype=bool), energy=0.0, name=f"frame {k}",
        )
        for k in range(12)
    ]  # fmt: skip
    shortest = {pair: d.distance for pair, d in shortest_distances(bare).items()}
    wall = make_wall(ELEMENTS, {p: row(f, 2.1 * shortest[p]) for p, f in FACTORS.items()})
    assert wall is not None
    return [frame.replace(forces=forces_of(wall, frame)) for frame in bare]


def forces_of(wall: torch.nn.Module, frame: Structure) -> np.ndarray:
    graph = build_graph(frame, ELEMENTS, wall.cutoff)
    vectors = edge_vectors(graph).requires_grad_()
    energy = wall(vectors, graph.types[graph.neighbor], graph.offsets, graph.types).sum()
    (gradient,) = torch.autograd.grad(energy, vectors)
    center = torch.repeat_interleave(torch.arange(frame.n_atoms), graph.offsets.diff())
    forces = torch.zeros((frame.n_atoms, 3), dtype=torch.float64)
    forces.index_add_(0, center, gradient)
    forces.index_add_(0, graph.neighbor, -gradient)
    return forces.numpy()


def fitted(structures: list[Structure], longest: float = 5.0):
    shortest = {p: d.distance for p, d in shortest_distances(structures).items()}
    return fit_repulsion(structures, ELEMENTS, shortest, longest)


def test_none_reaches_farther_than_it_may(structures: list[Structure]) -> None:
    found = fitted(structures, 3.0)
    assert found is not None
    assert max(row[1] for row in found.rows.values()) == 3.0


def test_the_strength_of_every_pair_is_found(structures: list[Structure]) -> None:
    found = fitted(structures)
    assert found is not None
    assert found.left < 1e-9
    shortest = shortest_distances(structures)
    for pair, factor in FACTORS.items():
        np.testing.assert_allclose(found.rows[pair], row(factor, 2.1 * shortest[pair].distance), rtol=1e-4)
    assert is_fitted(found.rows)


def test_pairs_that_do_not_touch_have_none() -> None:
    """In a rock salt only neighbours do, whatever keeps ions of the same sign apart."""
    rng = np.random.default_rng(4)
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1).reshape(-1, 3)
    symbols = [ELEMENTS[k % 2] for k in grid.sum(1)]
    bare = [
        Structure(
            symbols, 2.1 * grid + rng.normal(0.0, 0.05, grid.shape), 8.4 * np.eye(3), np.ones(3, dtype=bool),
            energy=0.0, name=f"frame {k}",
        )
        for k in range(4)
    ]  # fmt: skip
    wall = make_wall(ELEMENTS, {p: row(f, 4.2) for p, f in FACTORS.items()})
    assert wall is not None
    found = fitted([frame.replace(forces=forces_of(wall, frame)) for frame in bare])
    assert found is not None
    shortest = {p: d.distance for p, d in shortest_distances(bare).items()}
    assert found.rows["Cu-Si"][1] == pytest.approx(2.1 * shortest["Cu-Si"])
    for pair in ("Cu-Cu", "Si-Si"):
        assert found.rows[pair] == nep_wall({pair: shortest[pair]})[pair]


def rock_salt(charge: float, noise: float = 0.0) -> list[Structure]:
    """Displaced ions with forces of the repulsion, of point charges and of nothing."""
    rng = np.random.default_rng(4)
    grid = np.stack(np.meshgrid(*[np.arange(4)] * 3, indexing="ij"), -1).reshape(-1, 3)
    symbols = [ELEMENTS[k % 2] for k in grid.sum(1)]
    wall = make_wall(ELEMENTS, {"Cu-Si": row(0.8, 4.2)})
    assert wall is not None
    made = []
    for k in range(4):
        frame = Structure(
            symbols, 2.1 * grid + rng.normal(0.0, 0.1, grid.shape), 8.4 * np.eye(3), np.ones(3, dtype=bool),
            energy=0.0, name=f"frame {k}",
        )  # fmt: skip
        charges = np.where(np.array(symbols) == "Cu", charge, -charge)
        slope = point_charges(frame).slope.numpy()
        forces = forces_of(wall, frame) - charges[:, None] * np.einsum("ijk,j->ik", slope, charges)
        made.append(frame.replace(forces=forces + noise * rng.normal(size=forces.shape)))
    return made


def test_what_charges_would_take_is_known() -> None:
    ions, atoms = fitted(rock_salt(1.0)), fitted(rock_salt(0.0, noise=1.0))
    assert ions is not None
    assert atoms is not None
    assert ions.left > 0.02
    assert ions.electrostatic > 0.8
    assert atoms.left > 0.02
    assert atoms.electrostatic < 0.1
    assert ions.charges is None  # they are none of the model's


def test_nobody_asks_of_so_many_elements_that_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitted_repulsion, "_MOST_ELEMENTS", 1)
    found = fitted(rock_salt(1.0))
    assert found is not None
    assert found.electrostatic == 0.0


def test_of_many_pairs_the_frequent_ones_are_fitted(
    structures: list[Structure], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time of a fit goes with the third power of the pairs, of which a hundred elements have 5050."""
    monkeypatch.setattr(fitted_repulsion, "_MOST_PAIRS", 2)
    found = fitted(structures)
    assert found is not None
    shortest = {p: d.distance for p, d in shortest_distances(structures).items()}
    (left_out,) = (pair for pair in FACTORS if found.rows[pair] == nep_wall({pair: shortest[pair]})[pair])
    assert left_out != "Cu-Si"  # half of all pairs
    assert all(
        found.rows[pair][1] == pytest.approx(2.1 * shortest[pair]) for pair in FACTORS if pair != left_out
    )


def test_nobody_asks_what_would_take_nothing(structures: list[Structure]) -> None:
    found = fitted(structures)
    assert found is not None
    assert found.electrostatic == 0.0
    wire = [frame.replace(pbc=np.array([True, False, False])) for frame in rock_salt(1.0)]
    found = fitted(wire)  # whose electrostatics nobody can say
    assert found is not None
    assert found.electrostatic == 0.0


def test_wrong_labels_do_not_decide(structures: list[Structure]) -> None:
    spoilt = [*structures]
    spoilt[4] = spoilt[4].replace(forces=1e3 * np.random.default_rng(0).normal(size=(27, 3)))
    found = fitted(spoilt)
    assert found is not None
    for pair, factor in FACTORS.items():
        assert found.rows[pair][2] / UNIVERSAL_SCREENING[0] == pytest.approx(factor, rel=0.1)


def test_pairs_that_attract_have_the_universal_repulsion_where_the_data_end(
    structures: list[Structure],
) -> None:
    pulled = [frame.replace(forces=-np.asarray(frame.forces)) for frame in structures]
    found = fitted(pulled)
    shortest = {pair: d.distance for pair, d in shortest_distances(structures).items()}
    assert found is not None
    assert found.rows == nep_wall(shortest)
    assert found.left == pytest.approx(1.0, abs=0.3)
    assert not is_fitted(found.rows)
    assert not is_fitted({"Cu-Cu": 1.9})


@pytest.mark.parametrize("forces", [None, np.zeros((27, 3))])
def test_without_forces_there_is_nothing_to_fit(
    structures: list[Structure], forces: np.ndarray | None
) -> None:
    assert fitted([frame.replace(forces=forces) for frame in structures]) is None
