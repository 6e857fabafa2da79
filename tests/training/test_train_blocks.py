"""Kalman filters with a covariance in blocks, from the YAML."""

from __future__ import annotations

import io
import os
import shutil
from pathlib import Path

import ase.io
import pytest
from alloy import make_training
from ase.calculators.singlepoint import SinglePointCalculator
from rich.console import Console

from nnpkit.config.config_file import load_config
from nnpkit.deploy.load import load
from nnpkit.errors import InputError
from nnpkit.training.checkpoint import read_checkpoint, write_checkpoint
from nnpkit.workflow import run_steps
from nnpkit.workflow import training_run as run
from nnpkit.workflow.update_makers import covariance_partition


@pytest.fixture
def config(tmp_path: Path) -> Path:
    before = Path.cwd()
    yield make_training(tmp_path)
    os.chdir(before)


def train(config: Path, *overrides: str, console: Console | None = None, **options: bool) -> dict:
    """Train, quietly unless there is a console; the summary."""
    console = console or Console(file=io.StringIO())
    return run.run_training(load_config(config, overrides), console=console, **options)


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
    assert resumed["validation"] == whole["validation"]
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
    assert first["validation"] == second["validation"]


def test_a_covariance_beyond_the_memory_is_refused_before_it_is_made(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_steps, "available_memory", lambda: 60_000)
    with pytest.raises(InputError, match=r"covariance of \d+ weights .*block_size: \d+ would fit"):
        train(config)
    assert not Path("run").exists()


@pytest.mark.parametrize(
    ("optimizer", "expected"),
    [
        (
            "{partition: split, block_size: 0}",
            "block size 0 is no limit, so this is the partition global (GEKF)",
        ),
        (
            "{partition: reorganized, block_size: 1000000}",
            "the block size 1000000 is not less than the number of weights, so this is the partition global (GEKF)",
        ),
        ("{partition: reorganized, block_size: 60}", "weights, block size 60"),
        ("{}", "reorganized (RLEKF): one block of"),
    ],
)
def test_what_became_of_the_blocks_is_said(config: Path, optimizer: str, expected: str) -> None:
    out = io.StringIO()
    train(config, f"training.optimizer={optimizer}", "training.epochs=1", console=Console(file=out))
    assert expected in out.getvalue()


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["training.optimizer.partition=blocks"],
            "training.optimizer.partition is 'blocks'; expected one of global, layer, split, reorganized, packed",
        ),
        (["training.optimizer.block_size=-1"], "training.optimizer.block_size is -1; expected"),
        (["training.optimizer.block_size=2.5"], "training.optimizer.block_size is 2.5; expected"),
        (["training.optimizer.noise.force=-0.1"], "training.optimizer.noise.force is -0.1; expected a number > 0"),
        (["training.optimizer.noise.energy=0"], "training.optimizer.noise.energy is 0; expected a number > 0"),
        (["training.optimizer.process_noise=-1.0"], "training.optimizer.process_noise is -1.0; expected a number"),
        (["training.optimizer.dtype=float16"], "training.optimizer.dtype is 'float16'; expected one of float64"),
        (["training.schedule={kind: groups, group_atoms: 2}"], "uses forces, but no training structure has any"),
        (["training.schedule={kind: pinn}"], "uses forces, but no training structure has any"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused_before_anything_is_written(
    config: Path, overrides: list[str], expected: str
) -> None:
    images = ase.io.read("train.extxyz", ":")
    for atoms in images:
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy())
    ase.io.write("train.extxyz", images)
    with pytest.raises(InputError) as caught:
        train(config, *overrides)
    assert expected in str(caught.value)
    assert not Path("run").exists()


def test_structures_without_forces_take_part_with_their_energies(config: Path) -> None:
    images = ase.io.read("train.extxyz", ":")
    for atoms in images[::2]:
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy())
    ase.io.write("train.extxyz", images)
    groups = "training.schedule={kind: groups, group_atoms: 2, groups: 2, virial: false}"
    summary = train(
        config, groups, "training.epochs=1", "data.validation=train.extxyz", "data.validation_fraction=0"
    )
    assert summary["updates"] == 12 + 2 * 6  # energies, two groups of every second frame


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        ("{partition: layer}", "training.optimizer.partition differs (it was 'split', now it is 'layer')"),
        ("{partition: split, block_size: 30}", "training.optimizer.block_size differs (it was 20, now it is 30)"),
        ("{partition: split, block_size: 20, dtype: float32, forgetting: 0.98}",
         "training.optimizer.dtype differs (it was 'float64'"),
    ],
)  # fmt: skip
def test_a_checkpoint_with_another_partition_is_refused(config: Path, now: str, expected: str) -> None:
    train(config, "training.optimizer={partition: split, block_size: 20}", "training.epochs=1")
    before = {path: path.stat().st_mtime_ns for path in Path("run").rglob("*")}
    with pytest.raises(InputError) as caught:
        train(config, f"training.optimizer={now}", resume=True)
    assert expected in str(caught.value)
    assert {path: path.stat().st_mtime_ns for path in Path("run").rglob("*")} == before


def test_a_checkpoint_whose_covariance_is_not_that_of_its_settings_is_refused(config: Path) -> None:
    optimizer = "training.optimizer={partition: split, block_size: 20}"
    train(config, optimizer, "training.epochs=1", "output=run")
    train(config, "training.optimizer={partition: layer}", "training.epochs=1", "output=other")
    name = "checkpoints/epoch-000001"
    own, foreign = (read_checkpoint(Path(folder, name)) for folder in ("run", "other"))
    own.tensors["update"] = foreign.tensors["update"]
    shutil.rmtree(Path("run", name))
    write_checkpoint(Path("run/checkpoints"), own)
    with pytest.raises(InputError, match=r"covariance is of another partition: \d+ weights in blocks of"):
        train(config, optimizer, "training.epochs=2", resume=True)
