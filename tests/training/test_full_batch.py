"""L-BFGS on all labels: the loss summed up by structure, the schedule, training and exact resumption."""

from __future__ import annotations

import io
import itertools
import os
import signal
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import torch
from alloy import make_training
from ase.calculators.singlepoint import SinglePointCalculator
from rich.console import Console

from nnpkit.config.config_file import load_config
from nnpkit.errors import InputError
from nnpkit.measure.label_choice import Available, Labels
from nnpkit.training.full_batch import FullBatchUpdate, FullSchedule
from nnpkit.workflow.assemble import load_data, make_schedule, make_splits, make_update
from nnpkit.workflow.new_model import make_model
from nnpkit.workflow.training_run import run_training

LBFGS = "training.optimizer={kind: lbfgs}"
QUICK = "training.schedule={kind: full, steps_per_epoch: 3, virial: true}"
ACSF: list[str] = []
DEEP = [
    "model={kind: deep_potential, descriptor: {cutoff: 5.0, smooth_from: 2.0, embedding: [4, 8], axis_neurons: 3},"
    " network: {hidden: [6, 6]}}"
]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    before = Path.cwd()
    yield make_training(tmp_path)
    os.chdir(before)


def train(config: Path, *overrides: str, **options: Any) -> dict[str, Any]:
    """Train quietly; the summary."""
    return run_training(load_config(config, overrides), console=Console(file=io.StringIO()), **options)


def forget(*kinds: str) -> None:
    """Take labels from some frames of the training set."""
    images = ase.io.read("train.extxyz", ":")
    for n, atoms in enumerate(images):
        results = dict(atoms.calc.results)
        if n % 3 == 0:
            results = {name: value for name, value in results.items() if name not in kinds}
        atoms.calc = SinglePointCalculator(atoms, **results)
    ase.io.write("train.extxyz", images)


@pytest.mark.parametrize("model", [ACSF, DEEP], ids=["acsf", "deep"])
def test_sum_over_structures_is_the_loss_of_the_batch(config, model):
    settings = load_config(config, [LBFGS, QUICK, "training.weights={energy: 3.0, virial: 0.1}", *model])
    data = load_data(settings)
    network, _ = make_model(settings, data)
    store = make_splits(network, data.splits, 1e9)["train"].store
    update = make_update(settings, store, 1)
    assert isinstance(update, FullBatchUpdate)
    (labels,) = {id(labels): labels for labels in make_schedule(settings, data.train).epoch()}.values()
    value, gradient = update._loss(update._parts(labels))
    loss = update.observer.loss(labels)
    torch.testing.assert_close(value, float(loss.detach()), rtol=1e-12, atol=0.0)
    expected = torch.autograd.grad(loss, update.parameters, allow_unused=True, materialize_grads=True)
    expected = torch.cat([part.reshape(-1) for part in expected])
    torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-12)


def test_energies_alone_may_be_evaluated_together(config, monkeypatch):
    settings = load_config(config, [LBFGS, QUICK, "training.force_training=none"])
    data = load_data(settings)
    network, _ = make_model(settings, data)
    store = make_splits(network, data.splits, 1e9)["train"].store
    update = make_update(settings, store, 1)
    labels = Labels(
        list(range(len(data.train))), True, [torch.zeros(0, dtype=torch.int64)] * len(data.train), False
    )
    together = update._parts(labels)
    monkeypatch.setattr(type(update.observer), "energies_at_once", 3)
    in_threes = update._parts(labels)
    assert len(together) == 1 < len(in_threes)
    losses = [float(update.observer.loss(Labels([n], True, None, False)).detach()) for n in labels.structures]
    expected = np.mean(losses)
    (value, gradient), (again, gradient_again) = map(update._loss, (together, in_threes))
    assert value == pytest.approx(expected, rel=1e-12)
    assert again == pytest.approx(expected, rel=1e-12)
    torch.testing.assert_close(gradient, gradient_again, rtol=1e-9, atol=1e-13)


def test_structures_take_part_with_the_labels_they_have(config):
    forget("forces", "energy")
    summary = train(config, LBFGS, QUICK, "training.epochs=2", "data.validation_fraction=0.4")
    assert np.isfinite(summary["train"]["force_rmse"])


def test_schedule_gives_the_same_labels_again():
    available = [Available(True, 12, False), Available(False, 6, False), Available(True, 0, False)]
    schedule = FullSchedule(available, seed=1, forces=4, steps_per_epoch=3)
    first, *others = list(schedule.epoch())
    assert len(others) == 2
    assert all(labels is first for labels in others)
    assert first.structures == [0, 1, 2]
    assert [len(c) for c in first.components] == [4, 4, 0]
    again = next(FullSchedule(available, seed=1, forces=4).epoch())
    assert all(torch.equal(a, b) for a, b in zip(first.components, again.components, strict=True))
    schedule.load_state_dict({"position": torch.tensor(2)})
    assert len(list(schedule.epoch())) == 1
    with pytest.raises(InputError, match="no training structure has any"):
        FullSchedule(available, seed=1, virial=True)


@pytest.mark.parametrize("model", [ACSF, DEEP], ids=["acsf", "deep"])
def test_the_loss_falls_at_every_update(config, model, monkeypatch):
    losses = []
    original = FullBatchUpdate.apply

    def apply(self, labels):
        report = original(self, labels)
        losses.append(report["loss"])
        return report

    monkeypatch.setattr(FullBatchUpdate, "apply", apply)
    train(config, LBFGS, *model, "training.epochs=3")
    assert len(losses) == 30
    assert all(after <= before for before, after in itertools.pairwise(losses))
    lines = [line.split() for line in Path("run/lcurve.txt").read_text().splitlines() if line[0] != "#"]
    assert float(lines[-1][5]) < 0.3 * float(lines[0][5])


@pytest.mark.parametrize("model", [ACSF, DEEP], ids=["acsf", "deep"])
def test_resume_is_exact(config, model):
    common = [LBFGS, QUICK, *model, "training.epochs=3"]
    train(config, *common, "output=whole")
    train(config, *common, "output=parts", "training.epochs=1")
    train(config, *common, "output=parts", resume=True)
    for name in ("epoch-000002", "epoch-000003"):
        whole, parts = (Path(run, "checkpoints", name, "state.safetensors") for run in ("whole", "parts"))
        assert whole.read_bytes() == parts.read_bytes()


def test_resume_in_the_middle_of_an_epoch_is_exact(config, monkeypatch):
    train(config, LBFGS, QUICK, "output=whole")
    original, calls = FullBatchUpdate.apply, []

    def apply(self, labels):
        calls.append(1)
        if len(calls) == 5:
            signal.raise_signal(signal.SIGINT)
        return original(self, labels)

    with monkeypatch.context() as patch:
        patch.setattr(FullBatchUpdate, "apply", apply)
        assert train(config, LBFGS, QUICK, "output=parts")["ended"] == "SIGINT"
    assert Path("parts/checkpoints/epoch-000001-step-000002").is_dir()
    train(config, LBFGS, QUICK, "output=parts", resume=True)
    whole, parts = (Path(r, "checkpoints/epoch-000004/state.safetensors") for r in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([LBFGS, "training.schedule={kind: epoch, batch_size: 4}"], "lbfgs needs the same labels at every update"),
        ([LBFGS, "training.schedule.kind=pinn"], "lbfgs needs the same labels at every update"),
        (["training.schedule.kind=full"], "a schedule of kind full is for lbfgs"),
        ([LBFGS, "training.schedule.batch_size=3"], "training.schedule.batch_size"),
        ([LBFGS, "training.schedule={energy: false, forces: 0}"], "nothing to learn from"),
        ([LBFGS, "training.optimizer.history=0"], "training.optimizer.history is 0"),
        ([LBFGS, "training.optimizer.learning_rate=0.1"], "unknown key training.optimizer.learning_rate"),
    ],
)  # fmt: skip
def test_settings_that_do_not_go_together(config, overrides, expected):
    with pytest.raises(InputError) as caught:
        train(config, *overrides)
    assert expected in str(caught.value)
    assert not Path("run").exists()
