"""`nnpkit train` on two processes: as on one, one voice, one folder, and an end for all when one is gone."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from ase.build import bulk
from ase.calculators.emt import EMT
from rank_tools import free_port, together
from rich.console import Console

from nnpkit.cli.main import app
from nnpkit.config.config_file import load_config
from nnpkit.data.formats.reading import write
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.parallel import ALONE, RankLostError, Ranks
from nnpkit.training import checkpoint
from nnpkit.training.checkpoint import latest_checkpoint, read_checkpoint
from nnpkit.training.run_folder import RunFolder
from nnpkit.training.trainer import Trainer
from nnpkit.workflow import member_processes, ranks_of_training
from nnpkit.workflow.ranks_of_training import require_one_folder, require_same
from nnpkit.workflow.training_run import run_training

CONFIG: dict[str, Any] = {
    "seed": 5,
    "data": {"train": "train.extxyz", "validation_fraction": 0.25, "test_fraction": 0.0},
    "model": {
        "descriptor": {"cutoff": 4.0, "angular_cutoff": 3.0, "zetas": [1], "radial": 2},
        "network": {"hidden": [3]},
    },
    "training": {
        "epochs": 3,
        "threads": 1,
        "optimizer": {"kind": "ekf", "partition": "layer"},
        "ridge": 0.01,
    },
}
LBFGS = "training.optimizer={kind: lbfgs}"
ADAM = "training.optimizer={kind: adam, learning_rate: 0.01}"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Small cells of copper and a YAML, in the current folder."""
    random, found = np.random.default_rng(3), []
    for k in range(9):
        atoms = bulk("Cu", cubic=True)
        atoms.positions += random.normal(scale=0.1, size=(4, 3))
        atoms.calc = EMT()
        for quantity in ("energy", "forces", "stress"):
            atoms.calc.get_property(quantity, atoms)
        found.append(Structure.from_atoms(atoms, f"train.extxyz#{k}").replace(info={}, arrays={}))
    before = Path.cwd()
    os.chdir(tmp_path)
    write("train.extxyz", found)
    Path("train.yaml").write_text(yaml.safe_dump(CONFIG))
    yield tmp_path
    os.chdir(before)


def train(ranks: Ranks, *overrides: str, resume: bool = False) -> dict[str, Any]:
    """A training as one of the ranks; what ended it and what was printed."""
    console = Console(file=io.StringIO(), width=200)
    summary = run_training(load_config("train.yaml", overrides), resume=resume, console=console, ranks=ranks)
    return {"ended": summary["ended"], "output": console.file.getvalue()}


@pytest.mark.parametrize(
    "more", [(), (ADAM, "training.ridge=0", "training.schedule={batch_size: 3}"), (LBFGS,)]
)
def test_two_processes_train_like_one_and_one_goes_on(folder: Path, more: tuple[str, ...]) -> None:
    train(ALONE, "output=one", *more)
    first, second = together(lambda ranks: train(ranks, "output=two", *more))
    assert first["ended"] == second["ended"] == "epochs", (first, second)
    assert "Ended (epochs) after 3 epochs" in first["output"]
    assert second["output"] == "", "only the first process speaks"
    one, two = (json.loads(Path(name, "summary.json").read_text()) for name in ("one", "two"))
    assert one["updates"] == two["updates"]
    for part in ("train", "validation"):
        for key in ("energy_rmse", "force_rmse"):
            assert two[part][key] == pytest.approx(one[part][key], rel=1e-8)
    a, b = (read_checkpoint(latest_checkpoint(name)).tensors for name in ("one", "two"))
    for group in ("model", "update"):
        assert a[group].keys() == b[group].keys()
        for name, tensor in a[group].items():
            assert np.allclose(b[group][name], tensor, rtol=1e-7, atol=1e-10), name
    again = train(ALONE, "output=two", "training.epochs=4", *more, resume=True)
    assert "continued from" in again["output"]
    assert json.loads(Path("two/summary.json").read_text())["epochs"] == 4


def _at_the_first_epoch(rank: int, number: int) -> None:
    """Let a rank send itself a signal when it records its first epoch."""
    real = Trainer._record

    def record(self: Trainer, *arguments: Any) -> None:
        if self.ranks.rank == rank and self.state.epoch == 1:
            os.kill(os.getpid(), number)
        real(self, *arguments)

    Trainer._record = record  # in a process of its own


def killed(ranks: Ranks) -> dict[str, Any]:
    _at_the_first_epoch(1, signal.SIGKILL)
    return train(ranks, "training.epochs=50")


def test_a_process_that_is_killed_ends_the_other(folder: Path) -> None:
    began = time.monotonic()
    (error,) = together(killed, expected=1)
    assert time.monotonic() - began < 180.0
    assert isinstance(error, RankLostError)
    assert "another process of this training has ended" in str(error)
    again = together(lambda ranks: train(ranks, "training.epochs=2", resume=True))
    assert [found["ended"] for found in again] == ["epochs", "epochs"]


def killed_while_it_writes(ranks: Ranks) -> dict[str, Any]:
    """The second process is gone in the middle of the second checkpoint, when the first one has written its part."""
    real, written = checkpoint.write_pieces, []

    def write(folder: Path, groups: Any) -> Any:
        written.append(folder)
        if len(written) == 2 and ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(folder, groups)

    checkpoint.write_pieces = write  # in a process of its own
    return train(ranks)


def test_a_checkpoint_whose_writer_is_killed_is_none_and_the_one_before_goes_on_bit_by_bit(
    folder: Path,
) -> None:
    together(lambda ranks: train(ranks, "output=whole"))
    (error,) = together(killed_while_it_writes, expected=1)
    assert isinstance(error, RankLostError)
    assert [path.name for path in Path("run/checkpoints").iterdir()] == ["epoch-000001"]
    left = Path("run/checkpoints/.epoch-000002.0a1b2c3d.part")  # of a first process that was killed as well
    left.mkdir()
    (left / "update.block-00000.safetensors").write_bytes(b"half")
    first, _ = together(lambda ranks: train(ranks, resume=True))
    assert "continued from run/checkpoints/epoch-000001" in first["output"]
    assert not left.exists()
    a, b = (latest_checkpoint(name) for name in ("whole", "run"))
    names = sorted(path.name for path in a.iterdir())
    assert names[0] == "state.json"
    assert len([name for name in names if name.startswith("update.block-")]) == 2
    for name in names[1:]:
        assert (a / name).read_bytes() == (b / name).read_bytes(), name


def test_a_damaged_block_is_named_by_the_process_that_needs_it(folder: Path) -> None:
    together(lambda ranks: train(ranks, "training.epochs=1"))
    file = Path("run/checkpoints/epoch-000001/update.block-00001.safetensors")
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)
    errors = [
        found for found in together(lambda ranks: train(ranks, resume=True)) if isinstance(found, InputError)
    ]
    assert any("update.block-00001.safetensors is not the file that was written" in str(e) for e in errors)


def differs(ranks: Ranks) -> list[str]:
    """What is said if the second process differs in one thing."""
    said, second = [], ranks.rank == 1
    for what in ("version", "data", "last", "nothing"):
        ranks_of_training.__version__ = "other" if what == "version" and second else "same"
        identity = {"data": {"train": "b" if what == "data" and second else "a"}, "config": {}}
        last = None if what == "last" and second else Path("run/checkpoints/epoch-000003")
        try:
            require_same(identity, last, ranks)
            said.append("")
        except InputError as error:
            said.append(str(error))
    return said


def test_processes_that_see_other_files_or_versions_are_refused_by_name() -> None:
    first, second = together(differs)
    assert first == second
    words = "process 1 of 2 has other {} than process 0"
    for said, what in zip(first, ("version of nnpkit", "data", "checkpoints"), strict=False):
        assert words.format(what) in said
    assert first[3] == ""


def drifts_apart(ranks: Ranks) -> dict[str, Any]:
    """A weight of the second process changes behind its back."""
    real = Trainer._record

    def record(self: Trainer, *arguments: Any) -> None:
        if ranks.rank == 1 and self.state.epoch == 1:
            next(iter(self.model.parameters())).data.view(-1)[0] += 1e-15
        real(self, *arguments)

    Trainer._record = record  # in a process of its own
    return train(ranks)


def test_processes_whose_weights_come_apart_do_not_go_on(folder: Path) -> None:
    for error in together(drifts_apart):
        assert isinstance(error, InputError)
        assert "the weights of the 2 processes are not the same any more" in str(error)


def sees_its_own_folder(ranks: Ranks) -> str:
    require_one_folder(RunFolder(f"node-{min(1, ranks.rank)}/run"), ranks)
    return ""


def test_processes_that_do_not_see_one_folder_are_refused(folder: Path) -> None:
    Path("node-0/run").mkdir(parents=True)
    first, second = together(sees_its_own_folder)
    assert isinstance(first, InputError)
    assert "process 1 of 2 does not see the folder of the run" in str(first)
    assert "process 1 of 2 does not see the folder of the run" in str(second)
    Path("node-1/run").mkdir(parents=True)
    assert together(sees_its_own_folder) == ["", ""]


def terminated(ranks: Ranks) -> dict[str, Any]:
    _at_the_first_epoch(1, signal.SIGUSR1)
    return train(ranks, "training.epochs=50")


def test_a_signal_to_any_process_ends_all_after_a_checkpoint(folder: Path) -> None:
    found = together(terminated)
    assert [one["ended"] for one in found] == ["SIGUSR1", "SIGUSR1"]
    last = read_checkpoint(latest_checkpoint("run"))
    assert (last.state["epoch"], last.state["step"]) == (1, 1)
    whole = train(ALONE, "output=whole")
    assert whole["ended"] == "epochs"
    together(lambda ranks: train(ranks, resume=True))
    a, b = (read_checkpoint(latest_checkpoint(name)).tensors["model"] for name in ("whole", "run"))
    for name, tensor in a.items():
        assert np.allclose(b[name], tensor, rtol=1e-7, atol=1e-10), name


def unlike(ranks: Ranks) -> dict[str, Any]:
    return train(ranks, f"seed={5 + ranks.rank}")


def test_what_processes_cannot_do_is_refused_by_all(folder: Path) -> None:
    for function, words in (
        (unlike, "process 1 of 2 has other data than process 0"),
        (
            lambda ranks: train(ranks, "committee={members: 4, resample: posterior}"),
            "committee: 2 processes cannot share this training",
        ),
    ):
        first, second = together(function)
        assert isinstance(first, InputError)
        assert words in str(first)
        assert str(first) == str(second)


COMMITTEE = ("committee={members: 2, processes: 1}", "training.epochs=1")


def test_members_are_trained_by_all_processes_as_by_one(folder: Path) -> None:
    first, second = together(lambda ranks: train(ranks, "output=two", *COMMITTEE))
    assert "committee of 2" in first["output"]
    assert second["output"] == ""
    train(ALONE, "output=one", *COMMITTEE)
    for member in range(2):
        a, b = (read_checkpoint(latest_checkpoint(f"{name}/member-0{member}")) for name in ("one", "two"))
        for name, tensor in a.tensors["model"].items():
            assert torch.equal(b.tensors["model"][name], tensor), (member, name)
    one, two = (json.loads(Path(name, "summary.json").read_text()) for name in ("one", "two"))
    assert one["validation"] == two["validation"]


def interrupted_committee(ranks: Ranks) -> dict[str, Any]:
    """The second process gets SIGUSR1 when both members have written a checkpoint."""
    real, sent = member_processes.wait, []

    def wait(sentinels: Any, timeout: float) -> Any:
        begun = all(latest_checkpoint(f"run/member-0{m}") for m in range(2))
        if ranks.rank == 1 and begun and not sent:
            sent.append(1)
            os.kill(os.getpid(), signal.SIGUSR1)
        return real(sentinels, timeout)

    member_processes.wait = wait  # in a process of its own
    return train(ranks, "committee={members: 2, processes: 1}", "training.epochs=500")


def test_a_signal_to_one_process_ends_members_of_all_after_checkpoints(folder: Path) -> None:
    assert [found["ended"] for found in together(interrupted_committee)] == ["SIGUSR1", "SIGUSR1"]
    for member in ("member-00", "member-01"):
        assert latest_checkpoint(f"run/{member}") is not None
        assert not Path("run", member, "error.txt").exists()


def _program(rank: int, port: int, config: str) -> None:
    """`nnpkit train` as one of two processes of torchrun, its output in files."""
    os.environ.update(WORLD_SIZE="2", RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    for descriptor, name in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{name}.{rank}", os.O_WRONLY | os.O_CREAT), descriptor)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    app(["train", config])


def test_the_program_says_with_one_voice_what_one_process_sees(folder: Path) -> None:
    other = CONFIG | {"data": CONFIG["data"] | {"train": "missing.extxyz"}}
    Path("other.yaml").write_text(yaml.safe_dump(other))
    context, port = multiprocessing.get_context("fork"), free_port()
    configs = enumerate(("train.yaml", "other.yaml"))
    processes = [context.Process(target=_program, args=(rank, port, config)) for rank, config in configs]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=200)
    assert [process.exitcode for process in processes] == [1, 1]
    errors = Path("err.0").read_text()
    assert errors.count("nnpkit: error:") == 1
    assert "rank 1: " in errors
    assert "there is no missing.extxyz" in errors
    assert Path("err.1").read_text() == ""
