"""Training with the Chebyshev descriptor: every optimizer learns, and bad settings are said."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from alloy import make_training
from rich.console import Console

from nnpkit.config.config_file import load_config
from nnpkit.deploy.load import load
from nnpkit.errors import InputError
from nnpkit.workflow.training_run import run_training

CHEBYSHEV = "model={kind: chebyshev, descriptor: {radial_order: 6, angular_order: 2}, network: {hidden: [4]}}"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    before = Path.cwd()
    yield make_training(tmp_path)
    os.chdir(before)


@pytest.mark.parametrize(
    "optimizer",
    ["{kind: ekf}", "{kind: adam, learning_rate: 0.01, gradient_clip: null}", "{kind: lbfgs, history: 9}"],
)
def test_learns(config: Path, optimizer: str) -> None:
    overrides = [CHEBYSHEV, f"training.optimizer={optimizer}", "training.epochs=3"]
    summary = run_training(load_config(config, overrides), console=Console(file=io.StringIO()))
    first = float(Path("run/lcurve.txt").read_text().splitlines()[2].split()[5])
    assert summary["train"]["force_rmse"] < 0.9 * first
    model = load("run/model.pt")
    assert model.metadata["spec"]["descriptor"]["weights"] == {"Cu": -1.0, "Au": 1.0}
    assert [len(r["min"]) for r in model.metadata["feature_ranges"].values()] == [20, 20]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("model.descriptor.species_weights={Cu: 1.0}", "no weight for Au"),
        ("model.descriptor.species_weights={Xy: 1.0}", "'Xy' is no chemical element"),
        ("model.descriptor.zetas=[1.0]", "belongs to another kind of model; valid here: radial_order"),
        ("model.descriptor={radial_order: -1, angular_order: -1}", "nothing is described"),
    ],
)
def test_bad_settings(config: Path, setting: str, expected: str) -> None:
    with pytest.raises(InputError) as raised:
        run_training(load_config(config, [CHEBYSHEV, setting]), console=Console(file=io.StringIO()))
    assert expected in str(raised.value)
