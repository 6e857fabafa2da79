"""`training.force_training`: what is learnt of forces, by every optimizer and model, and what is refused."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from alloy import make_training
from ase.calculators.singlepoint import SinglePointCalculator
from rich.console import Console

from nnpkit.config.config_file import load_config
from nnpkit.errors import InputError
from nnpkit.workflow.assemble import connect, load_data, make_schedule, make_splits
from nnpkit.workflow.new_model import make_model
from nnpkit.workflow.training_run import run_training

TAYLOR = "training.force_training={kind: taylor, multiple: 3, displacement: {Cu: 0.02, Au: 0.03}}"
DEEP = (
    "model={kind: deep_potential, descriptor: {cutoff: 4.0, embedding: [4, 8], axis_neurons: 2}, "
    "network: {hidden: [6]}}"
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    before = Path.cwd()
    yield make_training(tmp_path)
    os.chdir(before)


def train(config: Path, *overrides: str, **options: Any) -> dict[str, Any]:
    return run_training(load_config(config, overrides), console=Console(file=io.StringIO()), **options)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["training.optimizer={kind: adam, learning_rate: 0.01, gradient_clip: null}"],
        ["training.optimizer={kind: lbfgs}"],
        ["training.schedule={kind: pinn, steps_per_epoch: 36}"],
        [DEEP],
        ["committee={members: 2, resample: bootstrap}"],
    ],
    ids=["ekf", "adam", "lbfgs", "pinn", "deep_potential", "committee"],
)
def test_taylor(config: Path, overrides: list[str]) -> None:
    summary = train(config, TAYLOR, "training.epochs=1", *overrides)
    report = json.loads(Path("run/data.json").read_text())
    assert any("27 displaced copies of 9 structures" in line for line in report["descriptor"]["report"])
    if "members" not in summary:
        assert summary["train"]["n_structures"] == 9
        assert summary["updates"] == (10 if "lbfgs" in str(overrides) else 36)
        assert summary["train"]["energy_rmse"] < 0.2


def test_taylor_teaches_forces_that_energies_do_not(config: Path) -> None:
    common = ["training.epochs=5", "training.evaluate_every=5", "data.validation_fraction=0.0"]
    taylor = train(config, TAYLOR, "training.force_training.multiple=6", "output=a", *common)
    none = train(config, "training.force_training=none", "output=b", *common)
    assert taylor["train"]["force_rmse"] < 0.9 * none["train"]["force_rmse"]


def test_resumed_taylor_training_is_the_same(config: Path) -> None:
    whole = train(config, TAYLOR, "training.epochs=2", "output=whole")
    train(config, TAYLOR, "training.epochs=1")
    assert train(config, TAYLOR, "training.epochs=2", resume=True) | {"seconds": 0} == whole | {"seconds": 0}


def schedule_of(config: Path, *overrides: str) -> Any:
    """Schedule, connected to the store of the untrained potential."""
    settings = load_config(config, overrides)
    data = load_data(settings)
    model, _ = make_model(settings, data)
    schedule = make_schedule(settings, data.learnt)
    store = make_splits(model, data.splits, 0)["train"].store
    connect(schedule, store)
    return schedule, store, data


def test_a_random_subset_is_drawn_anew(config: Path) -> None:
    schedule, _, _ = schedule_of(config, "training.force_training={kind: subset, fraction: 0.25}")
    epochs = [
        {labels.structures[0]: labels.components[0].tolist() for labels in schedule.epoch()} for _ in "ab"
    ]
    assert epochs[0] != epochs[1]
    assert all(len(components) == 3 for components in epochs[0].values())


def test_a_subset_by_error_has_the_largest_errors(config: Path) -> None:
    schedule, store, data = schedule_of(
        config, "training.force_training={kind: subset, fraction: 0.25, select: error}"
    )
    for labels in schedule.epoch():
        (index,), (components,) = labels.structures, labels.components
        errors = np.abs(store.predict(index).forces.numpy() - data.train[index].forces).reshape(-1)
        assert sorted(components.tolist()) == sorted(np.argsort(errors)[-3:].tolist())


def test_a_subset_by_error_resumes_as_if_uninterrupted(config: Path) -> None:
    subset = "training.force_training={kind: subset, select: error}"
    whole = train(config, subset, "training.epochs=2", "output=whole")
    train(config, subset, "training.epochs=1")
    assert train(config, subset, "training.epochs=2", resume=True) | {"seconds": 0} == whole | {"seconds": 0}


def test_streamed_derivatives_give_the_same_potential(config: Path) -> None:
    kept = train(config, "output=kept", "training.epochs=1")
    streamed = train(config, "output=streamed", "training.epochs=1", "training.feature_derivatives=streamed")
    assert streamed["validation"] == pytest.approx(kept["validation"], rel=1e-7)


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["training.force_training={kind: taylor, displacement: 1.2}"], "but the shortest such distance is"),
        (["training.force_training=taylor", "data.train=energies.extxyz"], "no training structure has both energy"),
        (["training.force_training={kind: taylor, min_force: 1e3}"], "no training structure has a force of 1000"),
        (["training.force_training={kind: taylor, displacement: {Cu: 0.01}}"], "no displacement of Au"),
        (["training.force_training=tailor"], "training.force_training.kind is 'tailor'"),
        (["training.force_training={kind: subset, fraction: 0.0}"], "fraction is 0.0; expected a number > 0"),
        (["training.force_training={multiple: 3}"], "belongs to training.force_training.kind: taylor"),
        (["training.force_training=taylor", "training.schedule={kind: groups}"], "groups is of forces"),
        (["training.force_training=subset", "training.schedule={kind: pinn}"], "chooses its own forces"),
        (["training.force_training=none", "training.schedule.energy=false"], "does not use energies"),
    ],
)  # fmt: skip
def test_bad_settings(config: Path, overrides: list[str], expected: str) -> None:
    images = ase.io.read("train.extxyz", ":")
    for atoms in images:
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy())
    ase.io.write("energies.extxyz", images)
    with pytest.raises(InputError) as raised:
        train(config, *overrides)
    assert expected in str(raised.value)
    assert not Path("run").exists()
