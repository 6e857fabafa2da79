"""`nnpkit train` of a Deep Potential: from the YAML to model.pt, with both optimizers, resumed exactly."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alloy import make_training
from rich.console import Console

from nnpkit.config.config_file import load_config
from nnpkit.data.formats.reading import read
from nnpkit.deploy.load import load
from nnpkit.errors import InputError
from nnpkit.workflow.training_run import run_training

CONFIG = """\
seed: 5
output: run
data:
  train: train.extxyz
  test_fraction: 0.25
model:
  kind: deep_potential
  descriptor: {cutoff: 5.0, smooth_from: 2.0, embedding: [4, 8], axis_neurons: 3}
  network: {hidden: [6, 6]}
training:
  epochs: 3
  threads: 1
"""
ADAM = "training.optimizer={kind: adam, learning_rate: 0.005, gradient_clip: null}"
EKF = "training.optimizer={kind: ekf, process_noise: 0.0, initial_covariance: 0.01}"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    before = Path.cwd()
    yield make_training(tmp_path, CONFIG)
    os.chdir(before)


def train(config: Path, *overrides: str, **options: Any) -> dict[str, Any]:
    """Train quietly; the summary."""
    return run_training(load_config(config, overrides), console=Console(file=io.StringIO()), **options)


def test_train_export_and_load(config):
    summary = train(config, EKF, "training.epochs=5", "seed=1")
    report = json.loads(Path("run/data.json").read_text())
    assert any("neighbours on average" in line for line in report["descriptor"]["report"])
    lines = [line.split() for line in Path("run/lcurve.txt").read_text().splitlines() if line[0] != "#"]
    assert float(lines[-1][5]) < 0.5 * float(lines[0][5])  # force error of the training set
    model = load("run")
    assert model.metadata["kind"] == "deep_potential"
    ranges = model.metadata["feature_ranges"]
    assert set(ranges) == {"Cu", "Au"}
    assert np.all(np.array(ranges["Cu"]["max"]) >= np.array(ranges["Cu"]["min"]))
    structures = read("train.extxyz")
    test = [structures[int(name.rsplit("#", 1)[1])] for name in report["split"]["test"]]
    errors = np.concatenate([(model.predict(s).forces - s.forces).ravel() for s in test])
    # the file computes exactly what the training reported
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(summary["test"]["force_rmse"], rel=1e-6)


@pytest.mark.parametrize("optimizer", [ADAM, EKF], ids=["adam", "ekf"])
def test_resume_is_exact(config, optimizer):
    train(config, optimizer, "output=whole")
    train(config, optimizer, "output=parts", "training.epochs=1")
    train(config, optimizer, "output=parts", resume=True)
    for name in ("epoch-000002", "epoch-000003"):
        whole, parts = (Path(run, "checkpoints", name, "state.safetensors") for run in ("whole", "parts"))
        assert whole.read_bytes() == parts.read_bytes()


def test_adam_lowers_the_errors(config):
    alone = "training.schedule={kind: epoch, virial: false}"
    train(config, ADAM, alone, "training.epochs=10", "model.descriptor.type_one_side=false")
    lines = [line.split() for line in Path("run/lcurve.txt").read_text().splitlines() if line[0] != "#"]
    assert float(lines[-1][5]) < 0.8 * float(lines[0][5])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.descriptor.smooth_from=6.0", "smooth_from (6) is not below cutoff (5)"),
        (
            "model.descriptor.axis_neurons=9",
            "axis_neurons (9) is more than the last layer of embedding has (8)",
        ),
        ("model.descriptor.activation=relu", "model.descriptor.activation is 'relu'"),
        ("model.descriptor.sel=[10, 10]", "unknown key model.descriptor.sel"),
        ("model.kind=deepmd", "model.kind is 'deepmd'"),
        ("model.network.per_element={Xx: {hidden: [3]}}", "'Xx' is no chemical element"),
    ],
)
def test_wrong_settings_are_named(config, override, message):
    with pytest.raises(InputError) as caught:
        train(config, override)
    assert message in str(caught.value)
    assert not Path("run").exists()


def test_adam_as_users_of_deepmd_know_it(config):
    adam = (
        "{kind: adam, learning_rate: 0.02, final_learning_rate: 1.0e-3, gradient_clip: null, prefactors: {}}"
    )
    train(config, f"training.optimizer={adam}", "training.epochs=20", "training.evaluate_every=20")
    lines = [line.split() for line in Path("run/lcurve.txt").read_text().splitlines() if line[0] != "#"]
    assert float(lines[-1][5]) < 0.5 * float(lines[0][5])
    assert "prefactors" in Path("run/config.yaml").read_text()
