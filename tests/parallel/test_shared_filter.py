"""A Kalman filter and a training on two processes are those of one, up to rounding."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from rank_tools import together

from nnpkit.measure.label_choice import Labels
from nnpkit.measure.sharing import measure_together, shares_of
from nnpkit.optim import covariance
from nnpkit.optim.kalman import KalmanOptimizer, KalmanSettings, Measurement
from nnpkit.optim.measurement import Origin
from nnpkit.optim.partition import Layer, make_partition
from nnpkit.optim.slab import Slab, slab_bounds
from nnpkit.parallel import ALONE, Together
from nnpkit.training.ridge import Ridge

N = 13
LAYERS = [Layer("a", 7), Layer("b", 4), Layer("c", 2)]


def partition(kind: str) -> Any:
    return make_partition(kind, LAYERS)


class LinearObserver:
    """Labels of structures that are linear in the weights: rows of fixed matrices."""

    n_parameters = N

    def __init__(self) -> None:
        random = np.random.default_rng(0)
        self.rows = torch.tensor(
            random.normal(size=(6, 30, N))
        )  # of each structure: energy, 23 forces, 6 virials
        self.values = torch.tensor(random.normal(size=(6, 30)))
        self.weights = torch.zeros(N, dtype=torch.float64)

    def of_part(self, rank: int, size: int) -> None:
        """Nobody knows of what its labels are sums."""

    def measure(self, labels: Labels) -> Measurement:
        parts = []
        for position, index in enumerate(labels.structures):
            rows = [0] if labels.energy else []
            if labels.components is not None:
                rows += [1 + int(c) for c in labels.components[position]]
            rows += list(range(24, 30)) if labels.virial else []
            jacobian = self.rows[index, rows]
            residual = self.values[index, rows] - jacobian @ self.weights
            parts.append(
                Measurement(
                    residual, jacobian, torch.full((len(rows),), 0.1, dtype=torch.float64),
                    Origin.of("force", len(rows), 1.0, residual.abs(), index),
                )
            )  # fmt: skip
        return Measurement.joined(parts)


def filtered(
    ranks: Any, kind: str, dtype: str = "float64", updates: int = 40, reduction: str = "none"
) -> dict[str, Any]:
    """Weights and the like after some updates that begin in turn with one and with several structures."""
    observer = LinearObserver()
    settings = KalmanSettings(
        forgetting=0.9,
        lazy_rank=7,
        dtype=dtype,
        process_noise=1e-4,
        reduction=reduction,
        covariance_limit=1.0 if dtype == "float64" else None,
    )
    optimizer = KalmanOptimizer(partition(kind), settings, ranks=ranks)
    active = torch.ones(N, dtype=torch.bool)
    active[3] = False
    optimizer.freeze(active)
    columns, own = optimizer.shared.columns, ranks.rank
    parameters = [torch.zeros(3, 4, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)]
    ridge = Ridge(0.1, parameters, 3)
    for step in range(updates):
        structures = [step % 6] if step % 2 else [0, 1, 2, 3, 4]
        components = [torch.arange(3 + step % 5) for _ in structures]
        labels = Labels(structures, step % 3 > 0, components, step % 4 == 0)
        if ranks.size == 1:
            measurement = observer.measure(labels)
        else:
            measurement = measure_together(observer, labels, ranks, columns)
        measurement = ridge.observed(measurement, 1.0, columns[own])
        change, report = optimizer.step(measurement)
        observer.weights = observer.weights + change
    state = optimizer.state_dict()
    return {
        "weights": observer.weights.tolist(),
        "report": list(report),
        "health": optimizer.health(),
        "blocks": len(optimizer.shared.owned),
        "state": {name: tensor.tolist() for name, tensor in state.items()},
        "bytes": optimizer.covariance.n_bytes,
    }


@pytest.mark.parametrize(
    ("kind", "dtype", "spread"),
    [
        ("layer", "float64", False), ("layer", "float32", False), ("global", "float64", False),
        ("global", "float64", True), ("global", "float32", True),
    ],
)  # fmt: skip
def test_two_processes_filter_like_one(
    kind: str, dtype: str, spread: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if spread:  # a single block by its rows
        monkeypatch.setattr(covariance, "SMALLEST", 10)
    whole = filtered(ALONE, kind, dtype)
    first, second = together(lambda ranks: filtered(ranks, kind, dtype))
    tolerance = 1e-10 if dtype == "float64" else 1e-3
    assert first["weights"] == second["weights"]
    assert first["weights"] == pytest.approx(whole["weights"], rel=tolerance, abs=tolerance)
    assert whole["weights"][3] == first["weights"][3] == 0.0
    assert first["report"] == pytest.approx(whole["report"], rel=tolerance)
    assert first["health"] == second["health"]
    assert first["health"]["trace"] == pytest.approx(whole["health"]["trace"], rel=tolerance)
    if kind == "layer":
        assert (first["blocks"], second["blocks"]) == (1, 2)
        assert first["bytes"] + second["bytes"] <= 1.3 * whole["bytes"]
    else:  # one block for two processes: each keeps it, or some of its rows
        assert (first["blocks"], second["blocks"]) == (1, 1)
        assert (max(first["bytes"], second["bytes"]) < whole["bytes"]) == spread
    both = merged(first["state"], second["state"])
    assert both.keys() == whole["state"].keys()
    for name, value in whole["state"].items():
        if dtype == "float64":
            assert np.allclose(both[name], value, rtol=1e-9, atol=1e-10), name


@pytest.mark.parametrize("kind", ["layer", "global"])
def test_two_processes_average_batches_like_one(kind: str) -> None:
    """The structures of a batch are spread over the processes."""
    whole = filtered(ALONE, kind, reduction="batch_mean")
    first, second = together(lambda ranks: filtered(ranks, kind, reduction="batch_mean"))
    assert first["weights"] == second["weights"]
    assert first["weights"] == pytest.approx(whole["weights"], rel=1e-9, abs=1e-10)
    assert whole["weights"] != filtered(ALONE, kind)["weights"]


def merged(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    """The state that two processes have together; rows of a triangle follow those of the first process."""
    both = dict(first)
    for name, value in second.items():
        piece, _, key = name.partition("/")
        assert not key or name not in first, "a piece is of one process"
        whole = f"{piece.split('-row-')[0]}/{key}"
        if key and whole in first:
            both[whole] = both[whole] + value
        else:
            both[name] = value
    return both


def resumed(ranks: Any, state: dict[str, Any] | None, kind: str = "layer") -> dict[str, Any]:
    """Continue a filter from the state of one process."""
    settings = KalmanSettings(forgetting=0.98, lazy_rank=7)
    optimizer = KalmanOptimizer(partition(kind), settings, ranks=ranks)
    if state is not None:
        optimizer.load_state_dict(
            {name: torch.tensor(value, dtype=_dtype(name)) for name, value in state.items()}
        )
    random = np.random.default_rng(7)
    for _ in range(11):
        rows = torch.tensor(random.normal(size=(3, N)))
        change, _ = optimizer.step(Measurement(rows.sum(1), rows, torch.full((3,), 0.5, dtype=torch.float64)))
    new = optimizer.state_dict()
    return {"change": change.tolist(), "state": {name: tensor.tolist() for name, tensor in new.items()}}


def _dtype(name: str) -> torch.dtype:
    return torch.int64 if name in ("blocks", "updates") else torch.float64


@pytest.mark.parametrize("kind", ["layer", "global"])
def test_a_state_goes_from_one_number_of_processes_to_another(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(covariance, "SMALLEST", 10)
    begun = resumed(ALONE, None, kind)
    expected = resumed(ALONE, begun["state"], kind)
    first, second = together(lambda ranks: resumed(ranks, begun["state"], kind))
    assert first["change"] == second["change"] == pytest.approx(expected["change"], rel=1e-10)
    both = first["state"] | second["state"]
    for name, value in expected["state"].items():
        assert np.allclose(merged(first["state"], second["state"])[name], value, rtol=1e-10, atol=1e-12), name
    again = resumed(ALONE, both, kind)
    assert again["change"] == pytest.approx(resumed(ALONE, expected["state"], kind)["change"], rel=1e-9)
    unchanged = merged(*together(lambda ranks: _loaded(ranks, begun["state"], kind)))
    for name, value in begun["state"].items():
        assert unchanged[name] == value, name
    one, two = together(lambda ranks: resumed(ranks, both, kind))  # the pieces of two processes, read by two
    assert one["change"] == two["change"] == pytest.approx(again["change"], rel=1e-10)


def _loaded(ranks: Together, state: dict[str, Any], kind: str) -> dict[str, Any]:
    """A state that was read and written again."""
    optimizer = KalmanOptimizer(partition(kind), KalmanSettings(forgetting=0.98, lazy_rank=7), ranks=ranks)
    optimizer.load_state_dict(
        {name: torch.tensor(value, dtype=_dtype(name)) for name, value in state.items()}
    )
    return {name: tensor.tolist() for name, tensor in optimizer.state_dict().items()}


@pytest.mark.parametrize("n_structures", [1, 3, 8])
@pytest.mark.parametrize("size", [2, 3])
@pytest.mark.parametrize("group", [None, 2])
def test_shares_are_all_labels_once(n_structures: int, size: int, group: int | None) -> None:
    components = [torch.arange(5) + 10 * k for k in range(n_structures)]
    labels = Labels(list(range(n_structures)), True, components, True, group)
    seen: dict[str, list[Any]] = {"energy": [], "virial": [], "forces": []}
    for share in shares_of(labels, size):
        if share is None:
            continue
        seen["energy"] += share.structures if share.energy else []
        seen["virial"] += share.structures if share.virial else []
        for own in share.components or []:
            assert group is None or int(own[0]) % 10 % group == 0 if len(own) else True
            seen["forces"] += own.tolist()
    assert seen["energy"] == seen["virial"] == labels.structures
    assert sorted(seen["forces"]) == sorted(c for own in components for c in own.tolist())


@pytest.mark.parametrize(("size", "given", "expected"), [
    (2, 100, [90, 10]), (2, 300, [190, 110]), (4, 100, [33, 33, 34, 0]), (2, 20, [20, 0]),
])  # fmt: skip
def test_who_has_the_virials_has_fewer_forces(size: int, given: int, expected: list[int]) -> None:
    components = torch.linspace(0, 299, given).round().to(torch.int64)  # of 100 atoms
    shares = shares_of(Labels([0], True, [components], True), size)
    assert [len(share.components[0]) if share.components else 0 for share in shares] == expected
    without = shares_of(Labels([0], True, [components], False), size)
    assert [len(share.components[0]) for share in without] == [given // size] * size


def fails_on_one(ranks: Together) -> str:
    """A covariance that is spoilt on one rank only."""
    from nnpkit.errors import DivergedError

    optimizer = KalmanOptimizer(partition("layer"), KalmanSettings(lazy_rank=1), ranks=ranks)
    if ranks.rank == 1:
        optimizer.covariance.lazy_blocks[0].matrix.diagonal().fill_(-1.0)
    row = torch.ones(1, N, dtype=torch.float64)
    try:
        optimizer.step(Measurement(row[:, 0], row, torch.full((1,), 1e6, dtype=torch.float64)))
    except DivergedError as error:
        return str(error)
    return ""


def test_all_fail_where_one_fails() -> None:
    first, second = together(fails_on_one)
    assert "lost its way" in first
    assert "not positive definite" in second


def in_slabs(ranks: Any) -> list[list[float]]:
    """Products, updates, a cleared row, another scale and the diagonal of a shared matrix."""
    random = np.random.default_rng(1)
    matrix = Slab(150, torch.float64, ranks)
    given = torch.tensor(random.normal(size=(150, 150)))
    matrix.assign(given + given.T)
    matrix.rank_update(torch.tensor(random.normal(size=(3, 150))), -0.5, 1.5)
    matrix.diagonal().add_(1.0)
    matrix.clear(20)
    matrix.scale(torch.linspace(0.5, 2.0, 150, dtype=torch.float64))
    return [
        *matrix.product(torch.tensor(random.normal(size=(2, 150))), 2.0).tolist(),
        *matrix.dense().tolist(),
    ]


def test_a_matrix_in_slabs_is_the_matrix() -> None:
    random = np.random.default_rng(1)
    given = random.normal(size=(150, 150))
    rows = random.normal(size=(3, 150))
    whole = 1.5 * (given + given.T) - 0.5 * rows.T @ rows + np.eye(150)
    whole[20] = whole[:, 20] = 0.0
    whole *= np.linspace(0.5, 2.0, 150) * np.linspace(0.5, 2.0, 150)[:, None]
    expected = np.vstack([2.0 * random.normal(size=(2, 150)) @ whole, whole])
    assert np.allclose(in_slabs(ALONE), expected, rtol=1e-12, atol=1e-12)
    first, second = together(in_slabs)
    assert first == second
    assert np.allclose(first, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 3, 8])
def test_slabs_are_of_one_size(size: int) -> None:
    bounds = slab_bounds(5120, size)
    assert bounds[0] == 0
    assert bounds[-1] == 5120
    numbers = [(b - a) * b for a, b in pairwise(bounds)]
    assert max(numbers) < 1.02 * min(numbers)
    assert max(numbers) <= 5120**2 * (1.0, 1.0, 0.39, 0.25)[min(size, 3)]
