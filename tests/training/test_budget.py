"""Trainings that have a time instead of a number of epochs, by a clock that only moves when it is asked."""

from __future__ import annotations

import io
import itertools
import json
import os
from pathlib import Path

import pytest
import torch
from alloy import make_training
from rich.console import Console

from nnpkit.config.config_file import load_config
from nnpkit.deploy.load import load
from nnpkit.errors import InputError
from nnpkit.measure.label_choice import Available
from nnpkit.section import seconds
from nnpkit.training.budget import (
    EVALUATED_ATOMS,
    JUDGED_ATOMS,
    Budget,
    part_seconds,
    some_structures,
    thinned,
)
from nnpkit.training.checkpoint import latest_checkpoint
from nnpkit.training.schedules.random_order import EpochSchedule
from nnpkit.training.updates import GradientUpdate, KalmanUpdate
from nnpkit.workflow.plan import plan_training
from nnpkit.workflow.training_run import run_training


class Clock:
    """Moves on by `tick` whenever it is looked at."""

    def __init__(self, tick: float) -> None:
        self.now, self.tick = 1000.0, tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


@pytest.fixture
def config(tmp_path, monkeypatch):
    before = Path.cwd()
    monkeypatch.setattr("nnpkit.training.trainer.time.monotonic", Clock(0.1))
    yield make_training(tmp_path, CONFIG)
    os.chdir(before)


CONFIG = """\
seed: 5
output: run
data: {train: train.extxyz, validation_fraction: 0.25}
model:
  descriptor: {cutoff: 6.0, angular_cutoff: 5.0, zetas: [1, 4], radial: 3}
  network: {hidden: [4]}
training: {threads: 1}
"""


def train(config, *overrides, **options):
    console = Console(file=io.StringIO(), width=200)
    return run_training(load_config(config, overrides), console=console, **options)


def seen(monkeypatch, kind, look):
    """What `look` finds after every update."""
    found = []
    original = kind.apply

    def apply(self, labels):
        report = original(self, labels)
        found.append(look(self))
        return report

    monkeypatch.setattr(kind, "apply", apply)
    return found


def schedule(n=7):
    return EpochSchedule([Available(True, 12, False, n_atoms=4) for _ in range(n)], seed=1, forces=3)


def test_parts_go_over_the_ends_of_epochs_and_miss_nothing():
    clock = Clock(1.0)
    budget = Budget(1000.0, clock)
    budget.part = 11.0
    known, found = schedule(), []
    for _ in range(6):
        found += [labels.structures[0] for labels in budget.labels(known)]
    epochs = [set(found[i : i + 7]) for i in range(0, len(found) - 6, 7)]
    assert len(epochs) > 2
    assert all(epoch == set(range(7)) for epoch in epochs)


def test_a_part_has_an_update_however_late_it_is():
    budget = Budget(10.0, Clock(100.0))
    assert len(list(budget.labels(schedule()))) == 1
    assert budget.over
    assert budget.fraction == 1.0


@pytest.mark.parametrize(
    ("evaluation", "part"), [(0.01, 12.0), (2.0, 18.0), (1e4, 120.0)], ids=["fiftieth", "tenth", "fifth"]
)
def test_evaluations_take_a_tenth_unless_parts_become_few(evaluation, part):
    assert part_seconds(600.0, evaluation) == pytest.approx(part)


def test_a_part_of_a_large_set_is_spread_over_it():
    assert some_structures([10] * 20, 1000) == list(range(20))
    assert some_structures([10] * 20, 50) == [0, 4, 8, 12, 16]
    assert some_structures([500], 50) == [0]


def test_what_is_evaluated_is_what_can_be_afforded():
    budget = Budget(90.0, Clock(0.1))
    assert budget.affordable(1.0) == 1.0
    assert budget.affordable(8.0) == pytest.approx(0.25)
    assert thinned(list(range(0, 800, 2)), 0.25) == list(range(0, 800, 8))
    assert thinned(list(range(40)), 1e-3) == list(range(0, 40, 2))
    assert thinned([3, 5], 1e-3) == [3, 5]


def test_fewer_training_structures_are_evaluated_where_that_takes_long(config, monkeypatch):
    monkeypatch.setattr("nnpkit.training.trainer.time.monotonic", Clock(3.0))
    monkeypatch.setattr("nnpkit.training.trainer.thinned", lambda indices, share: indices[:2])
    output = io.StringIO()
    summary = run_training(
        load_config(config, ["training.time=90s"]), console=Console(file=output, width=200)
    )
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [line["train"]["n_structures"] for line in lines][:3] == [8, 2, 2]
    assert {line["validation"]["n_structures"] for line in lines} == {3}
    assert summary["train"]["n_structures"] == 8
    assert "evaluating takes 3.0 s: 2 of 8 training structures are evaluated from now on" in output.getvalue()


def test_times_have_units():
    assert [seconds(t) for t in ("90s", "10min", "1.5h", "2 d")] == [90.0, 600.0, 5400.0, 172800.0]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["training.time=10"], "a number with a unit"),
        (["training.time=0s"], "more than no time"),
        (["training.time=5 minutes"], "a number with a unit"),
        (["training.time=10min", "training.epochs=3"], "epochs has no effect: there is a time"),
        (["training.time=10min", "training.min_updates=3"], "min_updates has no effect: there is a time"),
    ],
)
def test_what_is_no_time_is_refused(config, overrides, message):
    with pytest.raises(InputError, match=message):
        load_config(config, overrides)


def test_a_training_ends_with_its_time_and_the_filter_settles_with_it(config, monkeypatch):
    forgetting = seen(monkeypatch, KalmanUpdate, lambda update: float(update.optimizer.forgetting))
    summary = train(config, "training.time=60s")
    assert summary["ended"] == "time"
    assert 60.0 <= summary["seconds"] < 66.0
    assert summary["updates"] == len(forgetting) > 20
    assert forgetting[0] < 0.984
    assert forgetting[-1] > 0.9999
    assert forgetting == sorted(forgetting)
    assert 5 <= summary["epochs"] <= 50


def test_growing_noise_is_largest_at_the_end_of_the_time(config, monkeypatch):
    def grown(update):
        given = torch.ones(1, dtype=torch.float64)
        return float(update.optimizer._noise(given))

    noise = seen(monkeypatch, KalmanUpdate, grown)
    train(config, "training.time=60s", "training.optimizer={noise_growth: 0.01, noise_maximum: 50.0}")
    assert noise[0] < 1.3
    assert noise[-1] == pytest.approx(50.0, rel=0.2)


@pytest.mark.parametrize(("last", "ratio"), [("null", 0.01), ("5.0e-5", 0.05)])
def test_the_learning_rate_of_adam_reaches_its_last_value(config, monkeypatch, last, ratio):
    rates = seen(monkeypatch, GradientUpdate, lambda update: update.optimizer.param_groups[0]["lr"])
    train(
        config,
        "training.time=60s",
        f"training.optimizer={{kind: adam, learning_rate: 0.001, final_learning_rate: {last}}}",
    )
    assert rates[0] == pytest.approx(0.001, rel=0.15)
    assert rates[-1] == pytest.approx(0.001 * ratio, rel=0.25)
    assert rates == sorted(rates, reverse=True)


def test_the_seconds_go_on_where_a_run_stopped(config):
    first = train(config, "training.time=40s")
    more = train(config, "training.time=80s", resume=True)
    assert more["updates"] > 1.5 * first["updates"]
    assert 80.0 <= more["seconds"] < 86.0
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(more["epochs"] + 1))
    assert all(a["seconds"] < b["seconds"] for a, b in itertools.pairwise(lines))
    assert train(config, "training.time=80s", resume=True)["updates"] == more["updates"]


def test_the_best_potential_so_far_is_on_the_disk_during_the_training(config, monkeypatch):
    def elements(_):
        return load("run").elements if Path("run/model.pt").exists() else None

    monkeypatch.setattr("nnpkit.training.trainer.time.monotonic", Clock(20.0))
    found = seen(monkeypatch, KalmanUpdate, elements)
    train(config, "training.time=1h")
    assert found[0] is None
    assert found[-1] == ["Cu", "Au"]


def test_large_sets_are_evaluated_in_part_and_as_a_whole_at_the_end(config, monkeypatch):
    counts = []
    monkeypatch.setattr(
        "nnpkit.training.trainer.some_structures",
        lambda atoms, most: counts.append((len(atoms), most)) or [0],
    )
    summary = train(config, "training.time=30s")
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert {line["train"]["n_structures"] for line in lines} == {1}
    assert counts == [(8, EVALUATED_ATOMS), (3, JUDGED_ATOMS)]
    assert EVALUATED_ATOMS < JUDGED_ATOMS
    assert summary["train"]["n_structures"] == 8
    assert summary["validation"]["n_structures"] == 3


@pytest.mark.parametrize(
    "settings",
    [
        ["training.time=10min"],
        ["training.epochs=4"],
        ["training.epochs=4", "training.min_updates=50"],
    ],
)
def test_a_plan_says_what_the_time_buys_and_writes_nothing(config, settings):
    console = Console(file=(output := io.StringIO()), width=200)
    before = sorted(p.name for p in Path().iterdir())
    plan = plan_training(load_config(config, settings), console)
    assert sorted(p.name for p in Path().iterdir()) == before
    assert plan["features"] == {"Cu": 18, "Au": 18}
    assert plan["updates_per_pass"] == 8
    assert plan["n_parameters"] == 162
    assert set(plan["ranks"]) == {2, 4, 8}
    one_block = 162 * 163 * 8 + 32 * 162 * 8
    assert plan["ranks"][2]["gigabytes"] == round(
        one_block / 1e9, 4
    )  # fewer blocks than processes: each has it
    assert plan["ranks"][8]["seconds_per_update"] <= plan["ranks"][2]["seconds_per_update"]
    assert "on several processes" in output.getvalue()
    if settings[0] == "training.epochs=4":
        assert plan["updates"] == (32 if len(settings) == 1 else 56)
        assert plan["passes"] == plan["updates"] / 8
    else:
        assert plan["seconds"] == 600.0
        assert 0 < plan["updates"] <= 600.0 * plan["updates_per_second"]
    assert "Nothing was written" in output.getvalue()


def test_a_plan_of_as_many_updates_as_are_tried(config, monkeypatch):
    monkeypatch.setattr("nnpkit.workflow.plan._TRIALS", 8)  # the updates of a pass over these data
    assert plan_training(load_config(config), Console(file=io.StringIO()))["updates_per_pass"] == 8


def test_a_run_goes_on_with_as_many_threads_as_before(config, monkeypatch):
    told = []
    train(config, "training.epochs=1", "training.threads=1")
    state = json.loads((latest_checkpoint(Path("run")) / "state.json").read_text())
    assert state["threads"] == 1
    monkeypatch.setattr("nnpkit.workflow.training_run.torch.set_num_threads", told.append)
    train(config, "training.epochs=2", "training.threads=null", resume=True)
    assert told[0] == 1
