"""The adaptive schedule: thresholds, repeated selection, groups, and that it resumes at any update."""

from __future__ import annotations

import io
import json
import os
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from alloy import make_training
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from nnpkit.config.config_file import load_config
from nnpkit.errors import InputError
from nnpkit.measure.label_choice import Available, LabelErrors
from nnpkit.training.schedules.adaptive import AdaptiveSchedule, Selection
from nnpkit.workflow.training_run import run_training

SIX = [Available(n != 4, 0 if n == 5 else 6, False) for n in range(6)]
ONE = Selection(1.0)
ADAPTIVE = (
    "training.schedule={kind: adaptive, force_fraction: 0.5, trials: 4, force_group: 3, repeat_energy: true}"
)


class Table:
    """Errors that are known: structure n has n in its energy, and n + c/10 in component c."""

    def __init__(self) -> None:
        self.asked = 0

    def errors(self, index: int) -> LabelErrors:
        self.asked += 1
        return LabelErrors(float(index), index + torch.arange(6) / 10.0)


def make(energy=ONE, force=ONE, seed=1, **options: Any) -> AdaptiveSchedule:
    schedule = AdaptiveSchedule(SIX, seed, energy, force, **options)
    schedule.judge = Table()
    schedule.learn({"energy_rmse": 2.5, "force_rmse": 2.05})
    return schedule


def points(updates) -> list[tuple[int, int]]:
    """Labels of the updates, one by one."""
    found = []
    for labels in updates:
        assert labels.energy == (labels.components is None)
        for place, index in enumerate(labels.structures):
            components = [-1] if labels.energy else labels.components[place].tolist()
            found += [(index, c) for c in components]
    return found


def test_only_errors_above_the_threshold_make_updates() -> None:
    updates = list(make().epoch())
    assert all(len(points([labels])) == 1 for labels in updates)
    expected = {(n, -1) for n in (3, 5)} | {(n, c) for n in range(5) for c in range(6) if n + c / 10 > 2.05}
    assert len(updates) == len(expected)
    assert set(points(updates)) == expected


def test_thresholds_are_multiples_of_the_last_errors() -> None:
    schedule = make(Selection(2.0), Selection(1.0), force_fraction=0.5)
    schedule.learn({"energy_rmse": 2.4, "force_rmse": None})
    found = points(schedule.epoch())
    assert {p for p in found if p[1] < 0} == {(5, -1)}
    assert len([p for p in found if p[1] >= 0]) == 15 - sum(p == (0, 0) for p in schedule._points())


def test_after_some_trials_the_worst_is_used() -> None:
    schedule = make(None, Selection(100.0), trials=4)
    found = points(schedule.epoch())
    looked_at = make(None, Selection(100.0))._points()
    lots = [looked_at[k : k + 4] for k in range(0, len(looked_at) - 3, 4)]
    assert found == [max(lot, key=lambda p: p[0] + p[1] / 10) for lot in lots]


def test_groups_gather_labels_of_several_structures() -> None:
    updates = list(make(Selection(0.0, 2), Selection(0.0, 7)).epoch())
    assert sorted(len(points([u])) for u in updates if u.energy) == [2, 2]  # structure 0 has no error
    sizes = [len(points([u])) for u in updates if not u.energy]
    assert sizes == [7, 7, 7, 7, 1]  # all components but one have an error, the last group is what is left
    assert any(len(u.structures) > 1 for u in updates if not u.energy)


def test_one_prediction_serves_until_the_next_update() -> None:
    schedule = make(Selection(1e9), Selection(1e9))
    assert list(schedule.epoch()) == []
    assert schedule.judge.asked == 6


def test_the_energy_is_looked_at_again_after_the_forces() -> None:
    seen = make(Selection(0.0), Selection(0.0), repeat_energy=True)._points()
    for n in range(6):
        own = [c for index, c in seen if index == n]
        assert own[-1] == own[0] == -1 if n < 4 else own.count(-1) == (n == 5)


@settings(deadline=None, max_examples=30)
@given(steps=st.integers(0, 40), trials=st.sampled_from([None, 3]))
def test_state_says_exactly_what_comes_next(steps: int, trials: int | None) -> None:
    options = {
        "energy": Selection(1.0, 2),
        "force": Selection(1.0, 4),
        "trials": trials,
        "repeat_energy": True,
    }
    whole = make(**options)
    everything = [points([labels]) for _ in range(9) for labels in whole.epoch()]
    schedule, done = make(**options), 0
    while done < steps:
        for _ in islice(schedule.epoch(), steps - done):
            done += 1
    resumed = make(seed=9, **options)
    resumed.load_state_dict({name: tensor.clone() for name, tensor in schedule.state_dict().items()})
    rest = [points([labels]) for _ in range(3) for labels in resumed.epoch()]
    assert rest[:12] == everything[steps : steps + 12]
    assert len(everything) <= 9 * whole.epoch_length()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    before = Path.cwd()
    yield make_training(tmp_path)
    os.chdir(before)


def train(config: Path, *overrides: str, **options: Any) -> dict[str, Any]:
    return run_training(load_config(config, overrides), console=Console(file=io.StringIO()), **options)


def test_training_counts_updates_by_kind_and_resumes(config: Path) -> None:
    whole = train(config, ADAPTIVE, "training.epochs=3", "output=whole")
    lines = [json.loads(line) for line in Path("whole/metrics.jsonl").read_text().splitlines()]
    counts = [line["updates_by_kind"] for line in lines]
    assert counts[0] == {}
    assert set(counts[-1]) == {"energy", "force"}
    assert [sum(c.values()) for c in counts] == [line["updates"] for line in lines]
    assert whole["validation"]["force_rmse"] < 0.6 * lines[0]["validation"]["force_rmse"]
    train(config, ADAPTIVE, "training.epochs=1")
    assert train(config, ADAPTIVE, "training.epochs=3", resume=True) | {"seconds": 0} == whole | {
        "seconds": 0
    }


def test_energies_alone(config: Path) -> None:
    train(config, ADAPTIVE, "training.force_training=taylor", "training.epochs=1")
    last = json.loads(Path("run/metrics.jsonl").read_text().splitlines()[-1])
    assert set(last["updates_by_kind"]) == {"energy"}


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("energy_threshold: null, force_threshold: null", "nothing to learn from"),
        ("force_fraction: 0.0", "force_fraction is 0.0; expected a number > 0"),
        ("force_threshold: -1.0", "force_threshold is -1.0; expected a number ≥ 0"),
    ],
)
def test_bad_settings(config: Path, schedule: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        load_config(config, [f"training.schedule={{kind: adaptive, {schedule}}}"])
