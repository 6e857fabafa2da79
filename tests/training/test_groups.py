"""Groups of frames: what names them, their errors, how often and how heavily they count."""

from __future__ import annotations

import io
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from alloy import CONFIG, write_alloy
from rich.console import Console
from typer.testing import CliRunner

from nnpkit.cli.main import app
from nnpkit.config.config_file import load_config
from nnpkit.data.formats.reading import read, write
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import load
from nnpkit.errors import InputError
from nnpkit.measure.label_choice import Available, LabelErrors, Labels
from nnpkit.measure.metrics import ErrorSums
from nnpkit.training.schedules.adaptive import AdaptiveSchedule, Selection
from nnpkit.training.schedules.force_groups import GroupSchedule
from nnpkit.training.schedules.random_order import EpochSchedule, PinnSchedule
from nnpkit.training.schedules.sampling import MOST_REPEATS, Sampler, balanced_numbers
from nnpkit.training.updates import KalmanUpdate
from nnpkit.workflow.assemble import load_data, make_splits, make_update
from nnpkit.workflow.cross_validation import run_folds
from nnpkit.workflow.new_model import make_model
from nnpkit.workflow.run_report import report_of_run
from nnpkit.workflow.training_run import run_training

BASIC = CONFIG.replace("test_fraction: 0.0", "test_fraction: 0.25").replace("epochs: 4", "epochs: 2")


def frame(name: str = "a.xyz#0", **info: Any) -> Structure:
    return Structure(["Cu"], np.zeros((1, 3)), energy=1.0, name=name, info=info)


def named(key: str, values: str) -> list[Structure]:
    return [frame(f"a.xyz#{k}", **{key: value}) for k, value in enumerate(values)]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """The current folder, with 16 frames, three of them surfaces, and a YAML."""
    before = Path.cwd()
    os.chdir(tmp_path)
    write_alloy(Path("all.extxyz"), 16, gold=(1, 2))
    kinds = ["surface" if k in (2, 7, 11) else "bulk" for k in range(16)]
    write(
        "train.extxyz",
        [s.replace(info={"config_type": k}) for s, k in zip(read("all.extxyz"), kinds, strict=True)],
    )
    Path("train.yaml").write_text(BASIC)
    yield tmp_path
    os.chdir(before)


def train(*overrides: str, **options: Any) -> tuple[dict[str, Any], str]:
    """The summary and what was printed."""
    console = Console(file=(output := io.StringIO()), width=160)
    return run_training(load_config("train.yaml", overrides), console=console, **options), output.getvalue()


# Errors of groups


def test_errors_of_a_group_are_those_of_its_structures() -> None:
    structures = named("group", "aab")
    sums = ErrorSums()
    for s, off in zip(structures, (1.0, 2.0, 5.0), strict=True):
        sums.add(s, 1.0 + off, np.zeros((1, 3)), group=s.info["group"])
    other = ErrorSums()
    other.add(structures[2], 1.0, np.zeros((1, 3)), group="b")
    sums.merge(other)
    found = sums.summary()
    assert found["n_structures"] == 4
    assert found["groups"]["a"]["energy_rmse"] == pytest.approx(np.sqrt(2.5))
    assert found["groups"]["b"]["energy_rmse"] == pytest.approx(np.sqrt(12.5))
    assert found["groups"]["b"]["n_structures"] == 2


def test_a_training_tells_the_errors_of_groups_everywhere(folder: Path) -> None:
    """In the summary, in what is printed, in metrics.jsonl, in the report, and as `evaluate` has them."""
    summary, said = train("data.split=sequential", "data.test_fraction=0.4", "data.validation_fraction=0.1")
    assert set(summary["train"]["groups"]) == {"bulk", "surface"}
    assert "groups of training structures by config_type: bulk 6, surface 2" in said.replace("\n", " ")
    assert "Errors by group, test structures" in said
    assert "no validation structure is of the group surface" in said
    test = [s for s in read("train.extxyz")[-6:] if s.info["config_type"] == "surface"]
    sums, model = ErrorSums(), load("run")
    for s in test:
        predicted = model.predict(s)
        sums.add(s, predicted.energy, predicted.forces, predicted.stress)
    assert summary["test"]["groups"]["surface"] == pytest.approx(sums.summary())
    lines = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["train"]["groups"]["surface"]["n_structures"] == 2
    write("test.extxyz", read("train.extxyz")[-6:])
    result = CliRunner().invoke(app, ["evaluate", "run", "test.extxyz", "--json", "errors.json"])
    assert "Errors by group" in result.stdout
    found = json.loads(Path("errors.json").read_text())
    assert found["groups"]["surface"] == pytest.approx(sums.summary())
    _, data = report_of_run("run")
    assert data.errors["test"].groups["surface"].force_rmse == pytest.approx(sums.summary()["force_rmse"])
    assert "Errors by group" in Path("run/report.html").read_text()


def test_a_rare_group_is_named_before_the_training(folder: Path) -> None:
    """One frame of 24 is less than 5 %; a training that does something about it needs no advice."""
    frames = [s.replace(info={"config_type": "bulk"}) for s in read("all.extxyz")]
    more = [s.replace(positions=s.positions + 0.01 * k) for k in range(2) for s in frames]
    write("rare.extxyz", [*more[:23], frames[0].replace(info={"config_type": "gas"}, energy=1.0)])
    changes = [
        "data.train=rare.extxyz",
        "data.validation_fraction=0",
        "data.test_fraction=0",
        "data.suspicious=ignore",
    ]
    words = "the group gas is less than 5 % of the training structures: training.sampling=balanced"
    said = {
        extra: load_data(load_config("train.yaml", [*changes, *extra])).notes
        for extra in ((), ("training.sampling=balanced",))
    }
    assert [any(words in line for line in notes) for notes in said.values()] == [True, False]


def test_without_groups_nothing_is_said_of_them(folder: Path) -> None:
    summary, said = train("data.groups=none")
    assert "groups" not in summary["train"]
    assert "group" not in said
    result = CliRunner().invoke(app, ["evaluate", "run", "train.extxyz", "--groups", "none"])
    assert "group" not in result.stdout
    result = CliRunner().invoke(app, ["evaluate", "run", "train.extxyz", "--groups", "knid"])
    assert result.exit_code == 1
    assert "config_type" in result.stderr


def test_committees_and_folds_know_groups(folder: Path) -> None:
    summary, said = train("committee={members: 2}", "output=committee")
    assert set(summary["validation"]["groups"]) <= {"bulk", "surface"}
    assert "Errors by group" in said
    member = json.loads(Path("committee/member-00/summary.json").read_text())
    assert "bulk" in member["train"]["groups"]
    console = Console(file=(output := io.StringIO()), width=160)
    folds = run_folds(load_config("train.yaml", ["output=folds"]), 3, console=console)
    known = [fold["groups"]["bulk"]["force_rmse"] for fold in folds["folds"]]
    assert folds["groups"]["bulk"]["mean"]["force_rmse"] == pytest.approx(np.mean(known))
    assert folds["groups"]["surface"]["mean"]["n_structures"] == 3
    assert "Errors by group, mean of 3 folds" in output.getvalue()


# How often groups come


def test_balanced_numbers_are_square_roots_up_to_ten_times() -> None:
    assert balanced_numbers([900, 100]) == pytest.approx([750.0, 250.0])
    assert balanced_numbers([990, 10]) == pytest.approx([1000 - 91.35, 91.35], rel=1e-3)
    numbers = balanced_numbers([10_000, 1])
    assert numbers == pytest.approx([10_001 - MOST_REPEATS, MOST_REPEATS])
    assert balanced_numbers([4, 4]) == [4.0, 4.0]


GROUPS = ["bulk"] * 90 + ["surface"] * 8 + ["gas"] * 2


def available(energy_only: int = 0) -> list[Available]:
    return [Available(True, 0 if k < energy_only else 6, False, "", 2) for k in range(len(GROUPS))]


def schedules(sampler: Sampler | None, energy_only: int = 0) -> dict[str, Any]:
    judge = type("Judge", (), {"errors": lambda self, index: LabelErrors(1.0, torch.ones(6))})()
    some = available(energy_only)
    found: dict[str, Any] = {
        "epoch": EpochSchedule(some, 3, 4, sampler=sampler),
        "groups": GroupSchedule(some, 3, group_atoms=1, sampler=sampler),
        "pinn": PinnSchedule(some, 3, sampler=sampler),
        "adaptive": AdaptiveSchedule(some, 3, Selection(0.1), Selection(0.1), 0.5, sampler=sampler),
    }  # fmt: skip
    found["adaptive"].judge = judge
    return found


def drawn(epoch: list[Labels]) -> Counter[int]:
    return Counter(index for labels in epoch for index in labels.structures)


@pytest.mark.parametrize("kind", ["epoch", "groups", "pinn", "adaptive"])
def test_rare_groups_come_more_often_in_as_many_updates(kind: str) -> None:
    """Shares go by square roots: 9.5, 2.8 and 1.4 of 13.7 instead of 90, 8 and 2 of a hundred."""
    plain, balanced = schedules(None)[kind], schedules(Sampler(GROUPS))[kind]
    epochs = [list(balanced.epoch()) for _ in range(30)]
    assert balanced.epoch_length() == plain.epoch_length()
    if kind in ("epoch", "groups"):
        assert {len(epoch) for epoch in epochs} == {plain.epoch_length()}
    seen: Counter[int] = sum(map(drawn, epochs), Counter())
    whole = sum(seen.values())
    share = {name: sum(n for k, n in seen.items() if GROUPS[k] == name) / whole for name in set(GROUPS)}
    assert share == pytest.approx({"bulk": 0.693, "surface": 0.207, "gas": 0.103}, abs=0.03)
    assert all(seen[k] for k in range(len(GROUPS))) or kind == "pinn"


@pytest.mark.parametrize("kind", ["epoch", "groups"])
def test_structures_with_other_labels_stay_in_every_epoch(kind: str) -> None:
    """Else the number of updates, and what is learnt at all, would be a matter of luck."""
    schedule = schedules(Sampler(GROUPS), energy_only=1)[kind]
    for _ in range(3):
        epoch = list(schedule.epoch())
        assert len(epoch) == schedule.epoch_length()
        assert drawn(epoch)[0] >= 1


def test_the_only_structure_of_its_kind_is_in_every_epoch() -> None:
    """Of a large group among many, where it is due in less than every second epoch."""
    groups = ["bulk"] * 1000 + [f"cluster {k // 100}" for k in range(1000)]
    strata = Sampler(groups).strata(range(2000), [k == 0 for k in range(2000)])
    numbers = {members[0]: number for members, number in strata}
    assert numbers[0] == 1
    assert sum(numbers.values()) == 2000
    assert numbers[1] == pytest.approx(480, abs=2)


@pytest.mark.parametrize("kind", ["epoch", "groups", "pinn", "adaptive"])
def test_an_epoch_goes_on_where_it_was(kind: str) -> None:
    def words(epoch: list[Labels]) -> list[str]:
        return [str(labels) for labels in epoch]

    whole = schedules(Sampler(GROUPS))[kind]
    list(whole.epoch())
    running = whole.epoch()
    for _ in range(7):
        next(running)
    state = {name: value.clone() for name, value in whole.state_dict().items()}
    other = schedules(Sampler(GROUPS))[kind]
    other.load_state_dict(state)
    assert words(list(other.epoch())) == words(list(running))


def test_without_a_sampler_every_structure_comes_once() -> None:
    assert set(drawn(list(schedules(None)["epoch"].epoch())).values()) == {1}


# How heavily groups count


def update_of(optimizer: str, deep: bool, weights: str, *more: str) -> tuple[Any, Any]:
    """Update, and the labels of all structures, of a training of the files in the current folder."""
    descriptor = "{cutoff: 4.0, embedding: [4], axis_neurons: 2}"
    model = f"model={{kind: deep_potential, descriptor: {descriptor}, network: {{hidden: [4, 4]}}}}"
    changes = [f"training.optimizer={{kind: {optimizer}}}", f"training.group_weights={weights}"]
    settings = load_config(
        "train.yaml",
        [*changes, *more, *([model] if deep else []), "data.validation_fraction=0", "data.test_fraction=0"],
    )
    data = load_data(settings)
    network, _ = make_model(settings, data)
    store = make_splits(network, data.splits, 1e9)["train"].store
    n = len(data.train)
    labels = Labels(list(range(n)), True, [torch.arange(12)] * n, True)
    return make_update(settings, store, 1, data.groups), labels


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_weight_multiplies_the_squared_errors_of_its_group(
    folder: Path, optimizer: str, deep: bool
) -> None:
    """The loss of all is the sum of those of the groups, each with its weight."""
    totals = {}
    for words in ("{bulk: 1}", "{bulk: 3}", "{surface: 5}", "{bulk: 3, surface: 5}"):
        update, labels = update_of(optimizer, deep, words)
        if optimizer == "lbfgs":
            totals[words] = update._loss(update._parts(labels))[0]
        else:
            totals[words] = float(update.observer.loss(labels))
    bulk, surface = (totals[w] - totals["{bulk: 1}"] for w in ("{bulk: 3}", "{surface: 5}"))
    assert bulk / 2.0 + surface / 4.0 == pytest.approx(totals["{bulk: 1}"], rel=1e-9)
    assert totals["{bulk: 3, surface: 5}"] == pytest.approx(1.5 * bulk + 1.25 * surface, rel=1e-9)


def test_a_kalman_filter_believes_a_group_by_its_weight(folder: Path) -> None:
    one, four = (update_of("ekf", False, words)[0] for words in ("{bulk: 1}", "{surface: 4}"))
    assert sorted(set(four.optimizer.weights.tolist())) == [1.0, 4.0]
    assert one.optimizer.weights.tolist() == [1.0] * 16
    assert set(four.optimizer.robust.names) == {"bulk", "surface"}


@pytest.mark.parametrize("optimizer", ["adam", "ekf"])
def test_a_frame_counts_by_its_own_weight_times_that_of_its_group(folder: Path, optimizer: str) -> None:
    frames = read("train.extxyz")
    weights = [1.0, 2.0, 3.0, 0.5] + [1.0] * 12
    write(
        "train.extxyz",
        [f.replace(info={**f.info, "weight": w}) for f, w in zip(frames, weights, strict=True)],
    )
    groups_only = update_of(optimizer, False, "{surface: 4}")[0]
    update = update_of(optimizer, False, "{surface: 4}", "training.frame_weights=weight")[0]
    expected = [1.0, 2.0, 12.0, 0.5, 1.0, 1.0, 1.0, 4.0, 1.0, 1.0, 1.0, 4.0, 1.0, 1.0, 1.0, 1.0]
    if optimizer == "ekf":
        assert update.optimizer.weights.tolist() == expected
        return
    ones = [Labels([k], True, [torch.arange(12)], True) for k in range(16)]
    ratios = [
        float(update.observer.loss(one).detach() / groups_only.observer.loss(one).detach()) for one in ones
    ]
    assert ratios == pytest.approx(weights, rel=1e-12)


def test_weights_of_frames_without_effect_are_told(folder: Path) -> None:
    frames = read("train.extxyz")
    write("train.extxyz", [f.replace(info={**f.info, "weight": 1.0 + (k < 3)}) for k, f in enumerate(frames)])
    words = "16 training structures have a weight, which has no effect: training.frame_weights=weight"
    no_sets = ["data.validation_fraction=0", "data.test_fraction=0"]
    assert any(words in note for note in load_data(load_config("train.yaml", no_sets)).notes)
    heard = load_data(load_config("train.yaml", [*no_sets, "training.frame_weights=weight"])).notes
    assert not any("no effect" in note for note in heard)


def test_a_weight_of_nothing_is_refused(folder: Path) -> None:
    frames = read("train.extxyz")
    write("train.extxyz", [f.replace(info={**f.info, "weight": 0.0}) for f in frames])
    with pytest.raises(InputError, match=r"train.extxyz#\d+: weight is 0.0; expected a number above 0"):
        train("training.frame_weights=weight")
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            "training.group_weights={surfaces: 2.0}",
            r"'surfaces'.*names of groups by config_type: bulk, surface",
        ),
        (
            "training={group_weights: {bulk: 2.0}, optimizer: {preset: rlekf}}",
            "reduction: signed_sum makes one number",
        ),
        ("training={sampling: balanced, optimizer: {kind: lbfgs}}", "sampling: balanced has no effect"),
    ],
)
def test_what_has_no_effect_is_refused(folder: Path, change: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        train(change)
    assert not Path("run").exists()


def test_one_group_cannot_be_balanced(folder: Path) -> None:
    bulk = [s for s in read("train.extxyz") if s.info["config_type"] == "bulk"]
    write("bulk.extxyz", bulk)
    with pytest.raises(InputError, match="sampling: balanced has no effect: there are no groups"):
        train("data.train=bulk.extxyz", "training.sampling=balanced")
    write("test.extxyz", read("train.extxyz"))
    with pytest.raises(InputError, match="all training structures are of the group bulk"):
        train(
            "data.train=bulk.extxyz",
            "data.test=test.extxyz",
            "data.test_fraction=0.1",
            "training.sampling=balanced",
        )


def test_a_balanced_training_goes_on_as_if_it_had_not_been_interrupted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the middle of its second epoch; group estimates of the noise and draws are in the checkpoint."""
    settings = ["training.sampling=balanced", "training.epochs=4", "training.group_weights={surface: 2}"]
    train(*settings, "output=whole")
    apply, count = KalmanUpdate.apply, iter(range(10_000))

    def stopping(self: KalmanUpdate, labels: Labels) -> dict[str, float]:
        if next(count) == 12:
            os.kill(os.getpid(), signal.SIGTERM)
        return apply(self, labels)

    monkeypatch.setattr(KalmanUpdate, "apply", stopping)
    summary, _ = train(*settings, "output=parts")
    assert summary["ended"] == "SIGTERM"
    monkeypatch.undo()
    train(*settings, "output=parts", resume=True)
    states = [
        sorted(Path(run, "checkpoints").rglob("state.safetensors"))[-1].read_bytes()
        for run in ("whole", "parts")
    ]
    assert states[0] == states[1]
