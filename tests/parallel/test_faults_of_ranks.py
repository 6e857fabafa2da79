"""What goes wrong on clusters: too many processes, one that is killed within an update, two trainings on one folder."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rank_tools import together
from test_training_on_ranks import folder, train  # noqa: F401

from nnpkit.errors import InputError
from nnpkit.optim.covariance import Covariance
from nnpkit.parallel import ALONE, RankLostError, Ranks
from nnpkit.training.checkpoint import latest_checkpoint, read_checkpoint

GLOBAL = "training.optimizer={kind: ekf, partition: global}"


@pytest.mark.parametrize("more", [(GLOBAL,), ()], ids=["one block", "fewer blocks than processes"])
def test_more_processes_than_blocks_atoms_and_frames(
    folder: Path,  # noqa: F811
    more: tuple[str, ...],
) -> None:
    text = Path("train.extxyz").read_text().splitlines(keepends=True)
    Path("train.extxyz").write_text("".join(text[: 3 * 6]))  # three frames of four atoms; one validates
    train(ALONE, "output=one", *more)
    found = together(lambda ranks: train(ranks, "output=five", *more), size=5)
    assert [one["ended"] for one in found] == ["epochs"] * 5, found
    a, b = (read_checkpoint(latest_checkpoint(name)).tensors["model"] for name in ("one", "five"))
    for name, tensor in a.items():
        assert np.allclose(b[name], tensor, rtol=1e-7, atol=1e-10), name


def killed_within_an_update(ranks: Ranks) -> dict[str, Any]:
    """The second process is gone when it has measured and is about to change its covariance."""
    real, calls = Covariance.subtract, []

    def subtract(self: Covariance, *arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 12 and ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        real(self, *arguments)

    Covariance.subtract = subtract  # in a process of its own
    return train(ranks)


def test_a_process_that_is_killed_within_an_update_ends_the_other_and_the_run_goes_on(
    folder: Path,  # noqa: F811
) -> None:
    began = time.monotonic()
    (error,) = together(killed_within_an_update, expected=1)
    assert time.monotonic() - began < 120.0
    assert isinstance(error, RankLostError)
    assert read_checkpoint(latest_checkpoint("run")).state["epoch"] == 1  # seven updates each
    together(lambda ranks: train(ranks, resume=True))
    together(lambda ranks: train(ranks, "output=whole"))
    a, b = (read_checkpoint(latest_checkpoint(name)).tensors["model"] for name in ("whole", "run"))
    assert all(bool((a[name] == b[name]).all()) for name in a)


HOLD = """
import sys, time
from nnpkit.lock import FolderLock
print(FolderLock("run/.lock").acquire(), flush=True)
time.sleep(100)
"""


def test_a_second_training_on_a_folder_is_refused_by_all_its_processes(folder: Path) -> None:  # noqa: F811
    Path("run").mkdir()
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        first, *rest = together(refused, size=2, expected=1)
        assert rest == []
        assert f"another training is under way here, by process {other.pid}" in first
        assert [path.name for path in Path("run").iterdir()] == [".lock"]
        other.kill()
    assert [one["ended"] for one in together(train)] == ["epochs", "epochs"]


def refused(ranks: Ranks) -> str:
    """As the program does: the first process says what is wrong, and all end."""
    try:
        train(ranks)
    except InputError as error:
        if not ranks.leads:
            ranks.leave(str(error), 1)
        return str(error)
    return "not refused"
