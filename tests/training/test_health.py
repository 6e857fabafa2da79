"""What a training says of itself: reports of the updates, metrics.jsonl, TensorBoard, progress, warnings."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from alloy import make_training
from rich.console import Console

from nnpkit.config.config_file import load_config
from nnpkit.measure.label_choice import Labels
from nnpkit.measure.observations import Noise
from nnpkit.optim.kalman import KalmanOptimizer, KalmanSettings, Measurement
from nnpkit.progress import Progress
from nnpkit.training.health import innovation_warnings, kalman_health, kinds_of_labels
from nnpkit.training.trainer import Trainer
from nnpkit.workflow.training_run import run_training


@pytest.fixture
def config(tmp_path: Path) -> Path:
    before = Path.cwd()
    yield make_training(tmp_path)
    os.chdir(before)


def train(config: Path, *overrides: str, **options: Any) -> str:
    """Train; what was printed."""
    out = io.StringIO()
    run_training(load_config(config, overrides), console=Console(file=out, width=200), **options)
    return out.getvalue()


def metrics(run: str = "run") -> list[dict[str, Any]]:
    """Content of ``metrics.jsonl``."""
    return [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]


def test_kinds_of_labels():
    none, some = torch.zeros(0, dtype=torch.int64), torch.arange(3)
    assert kinds_of_labels(Labels([0], True, None, False)) == ["energy"]
    assert kinds_of_labels(Labels([0, 1], False, [none, some], False)) == ["force"]
    assert kinds_of_labels(Labels([0, 1], True, [none, none], True)) == ["energy", "virial"]


def test_health_of_a_filter():
    optimizer = KalmanOptimizer(20, KalmanSettings(initial_covariance=4.0))
    rows = torch.randn(2, 20, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    one = torch.ones(2, dtype=torch.float64)
    reports = [optimizer.step(Measurement(one, rows, one))[1] for _ in range(3)]
    columns = {name: [getattr(report, name) for report in reports] for name in reports[0]._fields}
    health = kalman_health(optimizer, Noise(), columns, epoch=1)
    diagonal = optimizer.covariance.dense().diagonal()
    assert health.numbers["trace"] == pytest.approx(float(diagonal.sum()))
    assert health.numbers["smallest"] == pytest.approx(float(diagonal.min()))
    assert health.numbers["largest"] == pytest.approx(float(diagonal.max()))
    assert health.numbers["gain"] == pytest.approx(sum(columns["gain"]) / 3)
    assert health.numbers["forgetting"] == 1.0
    assert "drift" not in health.numbers
    assert not health.warnings


def test_every_epoch_has_a_line(config):
    every = ["training.evaluate_every=2", "training.checkpoint.every=2"]
    train(config, *every, "training.epochs=5", "training.optimizer={kind: ekf, forgetting: 1.0}")
    lines = metrics()
    assert [line["epoch"] for line in lines] == list(range(6))
    assert [("validation" in line) for line in lines] == [True, False, True, False, True, True]
    assert lines[0]["update"] == {}
    expected = {"innovation", "noise_share", "step", "gain", "forgetting", "trace", "smallest", "largest"}
    expected |= {"residual_energy", "residual_force", "residual_virial"}
    assert all(set(line["update"]) == expected for line in lines[1:])  # updates have energies and forces
    assert all(line["update"]["smallest"] > 0.0 for line in lines[1:])
    assert lines[-1]["update"]["trace"] < lines[1]["update"]["trace"]
    last = Path("run/lcurve.txt").read_text().splitlines()[-1].split()
    assert lines[-1]["validation"]["force_rmse"] == pytest.approx(float(last[6]), rel=1e-5)


def test_kinds_of_updates_are_told_apart(config):
    optimizer = "training.optimizer={kind: ekf, dtype: float32, forgetting: 0.99}"
    train(config, optimizer, "training.schedule={kind: pinn, force_labels: 4, steps_per_epoch: 30}")
    update = metrics()[-1]["update"]
    assert {"innovation_energy", "innovation_force", "noise_share_force", "drift"} <= set(update)
    assert 0.0 < update["noise_share_energy"] < 1.0
    assert 0.99 < update["forgetting"] < 1.0


@pytest.mark.parametrize(
    ("optimizer", "keys"),
    [
        ("{kind: adam}", {"loss", "gradient", "learning_rate"}),
        ("{kind: lbfgs}", {"loss", "gradient", "step", "evaluations"}),
    ],
)
def test_other_optimizers_report_too(config, optimizer, keys):
    train(config, f"training.optimizer={optimizer}", "training.epochs=1")
    assert set(metrics()[-1]["update"]) == keys


def test_a_resumed_run_has_the_same_lines(config):
    train(config, "output=whole")
    train(config, "output=parts", "training.epochs=2")
    with open("parts/metrics.jsonl", "a") as stream:
        stream.write('{"epoch": 3, "updates": 27, "seconds": 1.0, "update": {}}\n')
    train(config, "output=parts", resume=True)
    whole, parts = ([line | {"seconds": 0} for line in metrics(run)] for run in ("whole", "parts"))
    assert parts == whole


def test_tensorboard_has_it(config):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train(config, "training.epochs=2")
    events = EventAccumulator("run/tensorboard")
    events.Reload()
    names = {"update/trace", "update/smallest", "update/largest", "update/innovation", "update/gain"}
    assert names <= set(events.Tags()["scalars"])
    (first, second) = [event.value for event in events.Scalars("update/trace")]
    assert second == pytest.approx(metrics()[-1]["update"]["trace"], rel=1e-6)
    assert first > second


def test_an_innovation_far_off_is_warned_of(config):
    text = train(config, "training.optimizer={robust: false, noise: {energy: 1.0e-7, force: 1.0e-5}}")
    assert "Warning: the innovation was" in text
    assert "raise noise.energy and noise.force or process_noise (training.optimizer)" in text


def test_a_warning_is_said_once_whatever_its_numbers() -> None:
    said = io.StringIO()
    trainer = SimpleNamespace(warned=set(), console=Console(file=said, width=200))
    for warnings in (["the innovation was 12.5"], ["the innovation was 3e+01"], ["the noise is too small"]):
        Trainer._warn(trainer, warnings)
    assert [line.split(";")[0] for line in said.getvalue().splitlines()] == [
        "Warning: the innovation was 12.5", "Warning: the noise is too small"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "values", "share", "noise", "epoch", "expected"),
    [
        ("_force", [400.0] * 5, 0.9, Noise(), 0, "raise noise.force (0.05; 1 would explain it) or process_noise"),
        ("_force", [400.0] * 5, 0.1, Noise(), 0, "raise noise.force (0.05) or process_noise"),
        ("_energy", [2.5e-3] * 5, 0.9, Noise(), 1, "lower noise.energy (0.001; 5e-05 would explain it)"),
        ("_energy", [2.5e-3] * 5, 0.1, Noise(), 1, "lower initial_covariance or process_noise"),
        ("_energy", [2.5e-3] * 5, 0.9, Noise(), 0, None),  # normal in the first epoch
        ("_energy", [2.5e-3] * 5, 0.9, None, 3, None),  # R is a convention
        ("_virial", [400.0] * 5, 0.9, None, 3, "raise the observation noise (a lower learning_rate; noise_growth"),
        ("_force", [1e9, 1.0, 1.0], 0.9, Noise(), 1, None),  # one outlier
        ("", [400.0] * 5, 0.9, Noise(), 1, "raise noise.energy and noise.force"),
        ("", [], 0.9, Noise(), 1, None),
    ],
)  # fmt: skip
def test_advice(kind, values, share, noise, epoch, expected):
    reports = {f"innovation{kind}": values, f"noise_share{kind}": [share] * len(values)}
    warnings = innovation_warnings(reports, noise, epoch)
    assert len(warnings) == (expected is not None)
    assert expected is None or expected in warnings[0]


def test_progress_shows_a_short_form(monkeypatch):
    monkeypatch.setattr("nnpkit.progress._SECONDS_BETWEEN_LINES", -1.0)
    out = io.StringIO()
    with Progress("updates", 10, Console(file=out, width=200)) as bar:
        bar.advance()
        bar.tell("P 1.0e-06 to 9.0e-01, |K| 2.0e-03, innovation 0.9")
        bar.advance()
    first, second = out.getvalue().splitlines()
    assert ";" not in first
    assert second.endswith("left; P 1.0e-06 to 9.0e-01, |K| 2.0e-03, innovation 0.9")
    out = io.StringIO()
    with Progress("updates", 10, Console(file=out, width=200, force_terminal=True)) as bar:
        bar.tell("innovation 0.9")
        bar.bar.refresh()
    assert "innovation 0.9" in out.getvalue()


def test_short_form_of_the_filter(config, monkeypatch):
    told = []
    monkeypatch.setattr(Progress, "tell", lambda self, note: told.append(note))
    train(config, "training.epochs=2")
    assert len(told) == 2
    assert all(word in told[-1] for word in ("P ", " to ", "|K| ", "innovation "))


def test_a_noise_that_has_not_come_down_yet_is_no_reason_to_lower_what_is_aimed_at() -> None:
    noise, small = Noise(0.001, 0.1, 0.01), {"innovation_force": [1e-4], "noise_share_force": [0.9]}
    assert innovation_warnings(small, noise, epoch=3)
    assert not innovation_warnings(small, noise, epoch=3, settled=False)
    assert innovation_warnings({"innovation_force": [1e4]}, noise, epoch=3, settled=False)
