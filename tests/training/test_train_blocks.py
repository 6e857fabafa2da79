"""Kalman filters with a covariance in blocks, from the YAML."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from alloy import make_training
from rich.console import Console

from nnpkit.config import run
from nnpkit.config.assemble import covariance_partition
from nnpkit.config.load import load_config
from nnpkit.deploy.load import load
from nnpkit.errors import InputError


@pytest.fixture
def config(tmp_path: Path) -> Path:
    before = Path.cwd()
    yield make_training(tmp_path)
    os.chdir(before)


def train(config: Path, *overrides: str, **options: bool) -> dict:
    """Train quietly; the summary."""
    return run.run_training(load_config(config, overrides), console=Console(file=io.StringIO()), **options)


@pytest.mark.parametrize(
    "optimizer",
    [
        "{kind: ekf, partition: layer}",
        "{kind: ekf, partition: split, block_size: 20}",
        "{kind: ekf, partition: reorganized, block_size: 60, dtype: float32}",
    ],
)
def test_blocks_train_and_resume(config: Path, optimizer: str) -> None:
    setting = f"training.optimizer={optimizer}"
    whole = train(config, setting, "output=whole")
    train(config, setting, "output=parts", "training.epochs=2")
    resumed = train(config, setting, "output=parts", resume=True)
    assert resumed["train"] == whole["train"]
    assert resumed["test"] == whole["test"]
    assert whole["train"]["force_rmse"] < 0.5
    model = load("whole").atomic_model()
    partition = covariance_partition(load_config(config, [setting]).training.optimizer, model)
    assert partition.n_parameters == whole["n_parameters"]
    assert len(partition.blocks) > 1


def test_one_reorganized_block_is_the_global_filter(config: Path) -> None:
    first = train(config, "output=a")
    second = train(
        config, "training.optimizer={kind: ekf, partition: reorganized, block_size: 0}", "output=b"
    )
    assert first["test"] == second["test"]


def test_a_covariance_beyond_the_memory_is_refused_before_it_is_made(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "available_memory", lambda: 60_000)
    with pytest.raises(InputError, match=r"covariance of \d+ weights .*block_size: \d+ would fit"):
        train(config)
    assert not Path("run").exists()
