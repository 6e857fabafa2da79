"""Members of a committee in processes of their own, some at a time on every node that takes part."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait
from typing import Any, Protocol

from rich.console import Console

from nnpkit.errors import InputError
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.parallel import ALONE, Ranks
from nnpkit.threads import allowed_processors
from nnpkit.training.model_errors import Split
from nnpkit.training.run_folder import RunFolder

__all__ = ["MemberJob", "own_processors", "processes_at_once", "train_members"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class MemberJob(Protocol):
    """What one process trains."""

    number: int
    folder: RunFolder

    def train(self, base: AtomicModel, shared: Mapping[str, Split], budget: int) -> None:
        """Train in this process and leave it with an exit code."""
        ...


def _cores(ranks: Ranks) -> tuple[int, int]:
    """Cores that this rank may use, and how many ranks may use the same."""
    cores = (
        sorted(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else list(range(os.cpu_count() or 1))
    )
    places = ranks.collect([socket.gethostname(), cores])
    return len(cores), places.count(places[ranks.rank])


def own_processors(ranks: Ranks) -> int:
    """Processors that this rank has for itself, at least one."""
    n_cores, beside = _cores(ranks)
    return max(1, min(n_cores, allowed_processors()) // beside)


def processes_at_once(given: int | None, memory: Mapping[str, int], ranks: Ranks = ALONE) -> int:
    """Members that this rank trains at a time: `given`, or as many as it has cores, if their covariances fit.

    Ranks that may use the same cores of a node share them; the budget is that of this rank.
    """
    n_cores, beside = _cores(ranks)
    room = given or max(1, n_cores // beside)
    if memory["covariance"]:
        free = memory["covariance"] // beside + 2 * memory["budget"]
        room = max(1, min(room, free // memory["covariance"]))
    return room


def train_members(
    jobs: Sequence[MemberJob],
    base: AtomicModel,
    shared: Mapping[str, Split],
    budget: int,
    room: int,
    console: Console,
    ranks: Ranks = ALONE,
) -> str:
    """Train the members of this rank, `room` at a time, until those of all ranks are done; a signal that ended it.

    Raises
    ------
    InputError
        If one of them failed.
    """
    waiting, context = list(jobs), multiprocessing.get_context("fork")
    running: dict[Any, tuple[Any, MemberJob]] = {}
    stopped: list[int] = []

    def stop(number: int, _: object) -> None:
        stopped.append(number)
        for process, _job in running.values():
            if process.pid is not None:
                os.kill(process.pid, signal.SIGTERM)

    previous = {number: signal.signal(number, stop) for number in _SIGNALS}
    try:
        while ranks.any(bool(running) or (bool(waiting) and not stopped)):
            while waiting and len(running) < room and not stopped:
                job = waiting.pop(0)
                process = context.Process(target=_begin, args=(job, base, shared, budget // room))
                process.start()
                running[process.sentinel] = (process, job)
            for sentinel in wait(list(running), timeout=0.5) if running else ():
                process, job = running.pop(sentinel)
                process.join()
                _report(job, process.exitcode, bool(stopped), console)
            elsewhere = max(ranks.collect(stopped[0] if stopped else 0))
            if elsewhere and not stopped:
                stop(elsewhere, None)
    finally:
        for process, _job in running.values():
            process.kill()
        for number, handler in previous.items():
            signal.signal(number, handler)
    return signal.Signals(stopped[0]).name if stopped else ""


def _begin(job: MemberJob, base: AtomicModel, shared: Mapping[str, Split], budget: int) -> None:
    """Train, with the signals of a process of its own: the handlers of the parent stop all members."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    job.train(base, shared, budget)


def _report(job: MemberJob, code: int | None, stopped: bool, console: Console) -> None:
    """Say how a member ended.

    Raises
    ------
    InputError
        If it failed.
    """
    failure = job.folder.path / "error.txt"
    if code == 0:
        console.print(f"member {job.number}: {job.folder.path / 'model.pt'}", highlight=False, soft_wrap=True)
    elif failure.exists():
        raise InputError(f"member {job.number}: {failure.read_text(encoding='utf-8').rstrip('.')}")
    elif not stopped:
        raise InputError(
            f"the process of member {job.number} ended with code {code}", where=str(job.folder.path),
            hint="look at train.log there; continue with --resume",
        )  # fmt: skip
