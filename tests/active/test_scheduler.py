"""A scheduler that misbehaves: programs on the PATH that stand for those of Slurm, and no Slurm."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from nnpkit.active import executor as module
from nnpkit.active.executor import Execution, Executor, ExecutorError
from nnpkit.active.task import outcome, prepare_task

PROGRAMS = {
    "sacct": "exit 1",
    "sbatch": """\
        echo x >> $HERE/sbatch
        [ $(wc -l < $HERE/sbatch) -le $SBATCH_FAILS ] && { echo 'Socket timed out on send/recv' >&2; exit 1; }
        setsid sh "$1" > $HERE/job.log 2>&1 < /dev/null &
        echo $! >> $HERE/jobs
        echo Submitted batch job $!""",
    "squeue": """\
        echo x >> $HERE/squeue
        [ $(wc -l < $HERE/squeue) -le $SQUEUE_HANGS ] && { sleep 20; exit 1; }
        for job in $(cat $HERE/jobs); do kill -0 $job 2> $HERE/gone && echo $job R; done
        exit 0""",
    "scancel": "for job; do kill -9 -- -$job; done",
}


@pytest.fixture
def scheduler(tmp_path, monkeypatch):
    """Put the programs on the PATH; kill what they left running."""
    monkeypatch.setattr(module, "_BACKOFF", 0.05)
    monkeypatch.setattr(module, "_PATIENCE", 2)
    for name, text in PROGRAMS.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\nHERE={tmp_path}\n{text}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("SBATCH_FAILS", "0")
    monkeypatch.setenv("SQUEUE_HANGS", "0")
    yield tmp_path
    for job in (tmp_path / "jobs").read_text().split() if (tmp_path / "jobs").exists() else ():
        try:
            os.killpg(int(job), signal.SIGKILL)
        except ProcessLookupError:
            continue


def task(folder: Path) -> Path:
    prepare_task(folder, ["sh", "-c", "echo done >> times; sleep 2"])
    return folder


def execution() -> Execution:
    return Execution("slurm", 2, {"partition": "test", "walltime": "00:05:00", "cmd_timeout": 1})


def test_tasks_end_although_sbatch_fails_and_squeue_hangs_for_a_while(scheduler, monkeypatch) -> None:
    """Unknown is not failed: what runs goes on, and is run once."""
    monkeypatch.setenv("SBATCH_FAILS", "1")
    monkeypatch.setenv("SQUEUE_HANGS", "2")
    monkeypatch.setattr("parsl.providers.SlurmProvider.status_polling_interval", 0.5)
    folders = [task(scheduler / "tasks" / str(k)) for k in range(3)]
    with Executor(execution(), scheduler) as executor:
        executor.run(folders)
    assert [(outcome(folder) or {})["code"] for folder in folders] == [0] * 3
    assert [(folder / "times").read_text() for folder in folders] == ["done\n"] * 3
    assert len((scheduler / "sbatch").read_text().split()) == 2
    assert (scheduler / "squeue").exists()


def test_an_sbatch_that_always_fails_is_named(scheduler, monkeypatch) -> None:
    monkeypatch.setenv("SBATCH_FAILS", "1000")
    folder = task(scheduler / "task")
    with Executor(execution(), scheduler) as executor, pytest.raises(ExecutorError, match="Socket timed out"):
        executor.run([folder])
    assert outcome(folder) is None


def test_a_scheduler_that_hangs_is_asked_again(scheduler, monkeypatch) -> None:
    """Parsl asks `sacct` before anything else."""
    (scheduler / "bin" / "sacct").write_text(f"#!/bin/sh\necho x >> {scheduler}/sacct\nsleep 20\n")
    folder = task(scheduler / "task")
    with Executor(execution(), scheduler) as executor, pytest.raises(ExecutorError, match="does not answer"):
        executor.run([folder])
    assert len((scheduler / "sacct").read_text().split()) == module._PATIENCE
