"""What keeps a potential from learning the data by heart: ridge, cross-validation, another measure of the best."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from alloy import make_training
from rich.console import Console
from typer.testing import CliRunner

sys.path.insert(0, str(Path(__file__).parents[1] / "families"))
from test_acsf import make_model
from test_observations import everything, labelled_structures

from nnpkit.cli.main import app
from nnpkit.config.config_file import load_config, write_config
from nnpkit.errors import InputError
from nnpkit.measure.frames import FrameStore
from nnpkit.measure.label_choice import Labels
from nnpkit.measure.observations import LossWeights, Noise, Observer
from nnpkit.optim.kalman import KalmanOptimizer, KalmanSettings, Measurement
from nnpkit.training.checkpoint import latest_checkpoint, read_checkpoint
from nnpkit.training.ridge import Ridge
from nnpkit.training.updates import GradientUpdate, KalmanUpdate
from nnpkit.workflow import cross_validation
from nnpkit.workflow.training_run import run_training


@pytest.fixture
def config(tmp_path: Path) -> Path:
    before = Path.cwd()
    yield make_training(tmp_path)
    os.chdir(before)


def train(config: Path, *overrides: str, **options: Any) -> dict[str, Any]:
    return run_training(load_config(config, overrides), console=Console(file=io.StringIO()), **options)


def squared_weights(run: str) -> float:
    """Sum over the weight matrices of the last epoch."""
    tensors = read_checkpoint(latest_checkpoint(Path(run))).tensors["model"]
    return float(sum(t.square().sum() for name, t in tensors.items() if "network" in name and t.ndim > 1))


@pytest.mark.parametrize(
    ("optimizer", "ridge"), [("{kind: adam, learning_rate: 0.02}", 1.0), ("{kind: lbfgs}", 0.01)]
)
def test_weights_become_smaller(config: Path, optimizer: str, ridge: float) -> None:
    common = [f"training.optimizer={optimizer}", "training.epochs=2", "model.network.hidden=[6]"]
    train(config, *common, "output=a")
    train(config, *common, f"training.ridge={ridge}", "output=b")
    assert squared_weights("b") < 0.9 * squared_weights("a")


def test_resumed_ridge_is_the_same(config: Path) -> None:
    settings = ["training.ridge=0.001", "training.epochs=2"]
    whole = train(config, *settings, "output=whole")
    train(config, *settings, "training.epochs=1")
    assert train(config, *settings, resume=True) | {"seconds": 0} == whole | {"seconds": 0}


def test_gradient_optimizers_see_the_derivative_of_the_penalty() -> None:
    model = make_model()
    observer = Observer(FrameStore(model, labelled_structures(), 1e9), Noise(), LossWeights())
    before = [p.detach().clone() for p in observer.parameters]
    changes = []
    for ridge in (None, Ridge(0.3, observer.parameters, 1)):
        for parameter, value in zip(observer.parameters, before, strict=True):
            parameter.data.copy_(value)
        GradientUpdate(
            torch.optim.SGD(observer.parameters, lr=1.0), observer, None, 1.0, 1, None, ridge
        ).apply(everything())
        changes.append([p.detach() - value for p, value in zip(observer.parameters, before, strict=True)])
    for plain, damped, value in zip(*changes, before, strict=True):
        expected = -0.6 * value if value.ndim > 1 else torch.zeros_like(value)
        torch.testing.assert_close(damped - plain, expected, rtol=0, atol=1e-9)


def test_the_observations_are_the_penalty_on_average() -> None:
    parameters = list(make_model().networks.parameters())
    ridge, flat = Ridge(0.05, parameters, 3), torch.cat([p.detach().reshape(-1) for p in parameters])
    empty = Measurement(*(torch.zeros(shape, dtype=torch.float64) for shape in ((0,), (0, len(flat)), (0,))))
    terms, draws = [], 4000
    for _ in range(draws):
        residual, jacobian, noise, _ = ridge.observed(empty)
        torch.testing.assert_close(residual, -jacobian @ flat, rtol=1e-12, atol=0)
        terms.append(float((residual**2 / noise).sum()))
    assert np.mean(terms) == pytest.approx(
        float(ridge.penalty().detach()), rel=5 * np.std(terms) / np.mean(terms) / draws**0.5
    )


class Line:
    """Measures a linear function of 12 weights and 2 biases at random points, with noise."""

    def __init__(self) -> None:
        self.parameters = [torch.zeros(3, 4, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)]
        self.random = np.random.default_rng(3)
        self.rows: list[np.ndarray] = []
        self.labels: list[float] = []

    def measure(self, labels: Any) -> Measurement:
        row = self.random.normal(size=14) * ([1.0] * 6 + [0.1] * 8)
        self.rows.append(row)
        self.labels.append(float(row.sum() + self.random.normal()))
        residual = torch.tensor([self.labels[-1]]) - torch.tensor(row) @ torch.cat(
            [p.reshape(-1) for p in self.parameters]
        )
        return Measurement(residual, torch.tensor(row[None]), torch.ones(1, dtype=torch.float64))


def test_a_kalman_filter_with_ridge_finds_what_ridge_regression_finds() -> None:
    line, strength, updates = Line(), 0.3, 3000
    update = KalmanUpdate(KalmanOptimizer(14, KalmanSettings()), line, Ridge(strength, line.parameters, 7))
    for _ in range(updates):
        update.apply(Labels([0], True, None, False))
    rows, prior = np.array(line.rows), np.diag([updates * strength] * 12 + [0.0] * 2) + np.eye(14)
    expected = np.linalg.solve(rows.T @ rows + prior, rows.T @ np.array(line.labels))
    found = torch.cat([p.reshape(-1) for p in line.parameters]).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.03)  # weights are drawn
    assert np.abs(expected[6:12]).max() < 0.1 < np.abs(found[12:]).min()  # small weights, free biases
    assert np.abs(expected[:6] - 1.0).min() > 0.15


def test_cross_validation(config: Path) -> None:
    arguments = ["train", str(config), "training.epochs=1", "--folds", "3"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    found = json.loads(Path("run/folds.json").read_text())
    errors = [json.loads(Path(f"run/fold-{n}/summary.json").read_text())["test"] for n in range(3)]
    assert found["folds"] == errors
    assert found["mean"]["force_rmse"] == pytest.approx(np.mean([e["force_rmse"] for e in errors]))
    assert found["std"]["energy_rmse"] == pytest.approx(np.std([e["energy_rmse"] for e in errors], ddof=1))
    assert "force RMSE, eV/Å over 3 folds" in result.output
    sets = [json.loads(Path(f"run/fold-{n}/data.json").read_text())["split"] for n in range(3)]
    tested = [name for own in sets for name in own["test"]]
    assert sorted(tested) == sorted(f"{config.parent}/train.extxyz#{k}" for k in range(12))
    for own in sets:
        assert [len(own[name]) for name in ("train", "validation", "test")] == [5, 3, 4]
        assert len({name for part in own.values() for name in part}) == 12
    assert len({e["force_rmse"] for e in errors}) == 3
    before = Path("run/fold-1/model.pt").stat().st_mtime_ns
    again = CliRunner().invoke(app, [*arguments, "--resume"])
    assert again.exit_code == 0, again.output
    single = train(config, "training.epochs=1", "data.folds=3", "data.fold=1", "output=single")
    assert single["test"] == errors[1]
    assert before


def test_folds_say_that_no_fraction_is_tested(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The fraction is of another way to choose a test set; the runs' own settings do not name it either."""
    seen = []
    monkeypatch.setattr(
        cross_validation, "run_training", lambda own, **_: seen.append(own) or {"ended": "SIGINT"}
    )
    console = Console(record=True, width=200)
    cross_validation.run_folds(load_config(config, ["data.test_fraction=0.3"]), 3, console=console)
    assert "data.test_fraction=0.3 is not used: every structure is tested once" in console.export_text()
    write_config(seen[0], "fold.yaml")
    assert load_config("fold.yaml").data.test_fraction == 0.0


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["data.folds=3", "data.fold=3"], "there is no fold 3 of 3"),
        (["data.fold=1"], "there is no fold 1 of none"),
        (["data.folds=3", "data.test=train.extxyz"], "leave test out, or folds"),
        (["training.ridge=1.0", "training.optimizer.observation_noise=blocks"], "it needs observation_noise: given"),
    ],
)  # fmt: skip
def test_bad_settings(config: Path, overrides: list[str], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        load_config(config, overrides)


def test_another_measure_may_choose_the_best_epoch(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nnpkit.workflow import training_run as run

    class Backwards(run.Trainer):
        """The later the better."""

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, score=lambda model, errors: -self.state.epoch, **named)

    monkeypatch.setattr(run, "Trainer", Backwards)
    assert train(config, "training.epochs=2", "training.optimizer={kind: adam}")["best_epoch"] == 2


def test_frozen_weights_are_not_drawn() -> None:
    """The term of a ridge is of the active weights, and its draws are of them alone."""
    line, strength = Line(), 0.3
    update = KalmanUpdate(KalmanOptimizer(14, KalmanSettings()), line, Ridge(strength, line.parameters, 7))
    active = torch.ones(14, dtype=torch.bool)
    active[:9] = False  # three weights and both biases are left
    update.freeze(active)
    empty = Measurement(*(torch.zeros(shape, dtype=torch.float64) for shape in ((0,), (0, 14), (0,))))
    _, jacobian, noise, _ = update.ridge.observed(empty)
    assert sorted(jacobian.argmax(1).tolist()) == [9, 10, 11]
    assert noise.tolist() == pytest.approx([1.0 / strength] * 3)  # all are drawn: each has the whole term
