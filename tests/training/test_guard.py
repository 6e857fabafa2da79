"""Trainings that lose their way are taken back, and never end with less than nothing."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from alloy import make_training
from rich.console import Console
from typer.testing import CliRunner

from nnpkit.cli.main import app
from nnpkit.config.config_file import load_config
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import load
from nnpkit.deploy.targets.committee_file import export_committee
from nnpkit.errors import DivergedError
from nnpkit.measure.metrics import ErrorSums
from nnpkit.training.guard import RETREATS, Guard
from nnpkit.training.model_errors import FEW_ENERGIES, judged, monitored
from nnpkit.training.updates import KalmanUpdate
from nnpkit.workflow.run_report import read_run
from nnpkit.workflow.training_run import run_training


@pytest.fixture
def config(tmp_path: Path) -> Path:
    before = Path.cwd()
    yield make_training(tmp_path)
    os.chdir(before)


def train(config: Path, *overrides: str) -> tuple[dict[str, Any], str]:
    """The summary, and what was printed."""
    text = io.StringIO()
    return run_training(
        load_config(config, overrides), console=Console(file=text, width=200)
    ), text.getvalue()


def disturbed(monkeypatch: pytest.MonkeyPatch, disturb: Any, at: int) -> None:
    """Have `disturb` called with the update after it has been applied so many times."""
    original, count = KalmanUpdate.apply, [0]

    def apply(self: KalmanUpdate, labels: Any) -> dict[str, float]:
        count[0] += 1
        if count[0] == at:
            disturb(self)
        return original(self, labels)

    monkeypatch.setattr(KalmanUpdate, "apply", apply)


def throw(update: KalmanUpdate) -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in update.parameters:
            parameter.add_(1e4 * torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype))


def lose(update: KalmanUpdate) -> None:
    raise DivergedError("the Kalman filter lost its way: the covariance is none any more")


@pytest.mark.parametrize("disturb", [throw, lose])
def test_a_training_that_lost_its_way_is_taken_back(config, monkeypatch, disturb):
    undisturbed, _ = train(config, "training.epochs=8")
    disturbed(monkeypatch, disturb, at=20)
    summary, text = train(config, "training.epochs=8", "output=other")
    assert summary["retreats"] >= 1
    assert "with more caution" in text
    assert summary["train"]["force_rmse"] < 2.0 * undisturbed["train"]["force_rmse"]


def test_a_training_that_loses_its_way_again_and_again_uses_all_its_time(config, monkeypatch):
    undisturbed, _ = train(config, "training.epochs=8")
    original, count = KalmanUpdate.apply, [0]
    often = undisturbed["updates"] // 8 - 2

    def apply(self: KalmanUpdate, labels: Any) -> dict[str, float]:
        count[0] += 1
        if count[0] % often == 0:
            lose(self)
        return original(self, labels)

    monkeypatch.setattr(KalmanUpdate, "apply", apply)
    epochs = RETREATS + 4
    summary, _ = train(config, f"training.epochs={epochs}", "output=other")
    assert (summary["ended"], summary["epochs"]) == ("epochs", epochs)
    assert summary["retreats"] > RETREATS
    forces = np.concatenate([structure.forces.ravel() for structure in run_structures()])
    assert summary["train"]["force_rmse"] < 0.7 * float(np.sqrt(np.mean(forces**2)))


def test_a_training_that_cannot_be_saved_ends_with_the_energies_of_the_elements(config):
    wild = "training.optimizer={kind: adam, learning_rate: 1e200, gradient_clip: null}"
    summary, _ = train(config, wild, "training.epochs=40")
    assert summary["ended"] == "lost its way"
    assert summary["retreats"] == RETREATS
    model = load(Path("run"))
    structure = next(iter(run_structures()))
    rms = float(np.sqrt(np.mean(structure.forces**2)))
    error = float(np.sqrt(np.mean((model.predict(structure).forces - structure.forces) ** 2)))
    assert error <= 1.01 * rms


def test_a_potential_that_learnt_nothing_says_so_wherever_it_is_used(config):
    unlearnt = ["training.optimizer={kind: adam, learning_rate: 1e-12}", "model.precondition=false"]
    summary, text = train(config, *unlearnt, "training.epochs=1")
    assert "nothing was learnt" in text
    assert (summary["silenced"], summary["exported"]) == (True, "nothing")
    words = "this potential has learnt nothing: its networks say zero"
    assert [words in note for note in load(Path("run")).notes] == [True]
    assert words in CliRunner().invoke(app, ["evaluate", "run", "train.extxyz"]).stderr
    assert any(words[1:] in note for note in read_run("run").notes)
    silent = load(Path("run"))
    export_committee([silent.atomic_model()] * 2, [silent.metadata] * 2, Path("two.pt"))
    assert "member 0, 1 of the committee has learnt nothing" in load(Path("two.pt")).notes[0]
    learnt, _ = train(config, "training.epochs=8", "output=other")
    assert (learnt["silenced"], learnt["exported"], load(Path("other")).notes) == (False, "best epoch", [])


def test_a_potential_of_nothing_is_not_said_to_have_random_weights(config):
    worse = ["training.optimizer={kind: adam, learning_rate: 10.0}", "model.precondition=false"]
    summary, text = train(config, *worse, "training.epochs=1")
    assert (summary["silenced"], summary["best_epoch"]) == (True, 0)
    assert "nothing was learnt" in text
    assert (
        "model.pt has the energies of the elements alone, because no epoch was better on validation" in text
    )


def run_structures():
    from nnpkit.data.formats.reading import read

    return read("train.extxyz")


def test_the_guard_remembers_in_a_checkpoint():
    guard = Guard({"energy_rmse": 0.1, "force_rmse": 1.0})
    for _ in range(23):
        assert guard.update_is_wild({"residual_force": 50.0}) is None
    again = Guard({"energy_rmse": 0.1, "force_rmse": 1.0})
    again.load_state_dict(guard.state_dict())
    assert "force labels" in str(again.update_is_wild({"residual_force": 50.0}))
    assert "finite" in str(again.update_is_wild({"residual_force": float("nan")}))


def test_errors_of_the_size_of_the_labels_are_no_divergence():
    guard = Guard({"energy_rmse": 0.1, "force_rmse": 1.0})
    assert all(
        guard.update_is_wild({"residual_force": 3.0, "residual_energy": 0.3}) is None for _ in range(99)
    )
    assert guard.epoch_is_wild(3.0, 0.5, 1.0) is not None
    assert guard.epoch_is_wild(1.5, 0.5, 1.0) is None
    assert guard.epoch_is_wild(float("nan"), 0.5, 1.0) is not None


def test_the_error_of_one_energy_does_not_choose_the_epoch_by_chance():
    crossing = {"train": {"energy_rmse": 5e-3}, "validation": {"energy_rmse": 1e-9, "force_rmse": 0.1}}
    settled = {"train": {"energy_rmse": 1e-3}, "validation": {"energy_rmse": 2e-3, "force_rmse": 0.09}}
    one = [monitored(judged(errors, "validation", 1), "energy_force") for errors in (crossing, settled)]
    part = 1 / FEW_ENERGIES
    energies = [((1 - part) * 5e-3**2) ** 0.5, ((1 - part) * 1e-3**2 + part * 2e-3**2) ** 0.5]
    assert one == pytest.approx([(energies[0] * 0.1) ** 0.5, (energies[1] * 0.09) ** 0.5])
    assert one[1] < one[0]
    assert judged(crossing, "validation", FEW_ENERGIES) == crossing["validation"]
    assert judged({"train": settled["train"]}, "train", 1) == settled["train"]


def frame(error: float) -> Structure:
    """Of two atoms, whose energy per atom and forces are off by so much."""
    return Structure(
        ["Cu"] * 2, np.eye(3)[:2], np.eye(3), np.zeros(3, dtype=bool), 2 * error, np.full((2, 3), error)
    )


def test_the_structure_that_is_predicted_worst_does_not_choose_the_epoch():
    early, late = ErrorSums(), ErrorSums()
    for k in range(40):
        early.add(frame(2.0 if k == 7 else 3.0), 0.0, np.zeros((2, 3)))
        late.add(frame(90.0 if k in (7, 8) else 1.0), 0.0, np.zeros((2, 3)))
    errors = [{"validation": {**sums.summary(), **sums.of_most()}} for sums in (early, late)]
    whole = [monitored(own["validation"], "energy_force") for own in errors]
    most = [monitored(judged(own, "validation", FEW_ENERGIES), "energy_force") for own in errors]
    energies = [((37 * 9 + 4) / 38) ** 0.5, 1.0]
    forces = [own["validation"]["force_rmse"] for own in errors]
    assert most == pytest.approx([(e * f) ** 0.5 for e, f in zip(energies, forces, strict=True)])
    assert whole[1] / whole[0] > 2.0 * most[1] / most[0]


def test_less_than_twenty_structures_and_errors_without_end_leave_none_out():
    few, endless = ErrorSums(), ErrorSums()
    for k in range(19):
        few.add(frame(1.0 + k), 0.0, np.zeros((2, 3)))
    for k in range(40):
        endless.add(frame(float("inf") if k == 3 else 1.0), 0.0, np.zeros((2, 3)))
    assert few.of_most() == endless.of_most() == {}
    assert judged({"validation": few.summary()}, "validation", FEW_ENERGIES) == few.summary()


def test_few_validation_energies_do_not_choose_the_best_epoch_alone(config):
    summary, _ = train(config, "training.epochs=12", "data.validation_fraction=0.1")  # one of twelve
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    errors = [monitored(judged(line, "validation", 1), "energy_force") for line in lines]
    alone = [monitored(line["validation"], "energy_force") for line in lines]
    assert summary["best_epoch"] == errors.index(min(errors)) != alone.index(min(alone))
