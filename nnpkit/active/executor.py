"""Where tasks run: on this machine, or on a cluster through Parsl.

A task is a folder (`nnpkit.active.task`); what is sent around is its path. So a lost worker, a scheduler that does
not answer or a killed driver lose nothing: whether a task is done is written in its folder, and a task that is not
done is sent again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from nnpkit.active.task import outcome, start_watcher
from nnpkit.errors import InputError, NnpkitError
from nnpkit.lock import FolderLock
from nnpkit.md.queue_script import environment_line

__all__ = ["Execution", "Executor", "ExecutorError", "StoppedError", "usable_cores"]

_PATIENCE = 5  # a task whose result stays unknown so often ends the loop with a message
_BACKOFF = 2.0  # s, doubled every time


class ExecutorError(NnpkitError):
    """Tasks cannot be run."""


class StoppedError(NnpkitError):
    """Somebody asked to stop."""


def usable_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Execution:
    """How tasks are run.

    Attributes
    ----------
    executor : {'local', 'slurm', 'pbs'}
        This machine, or blocks of a scheduler.
    cores : int or None
        Tasks at a time on this machine, or on each node; None for all cores.
    options : mapping
        Of Parsl's provider: ``partition``, ``account``, ``walltime``, ``nodes_per_block``, ``max_blocks``,
        ``scheduler_options``, ``worker_init``, ...
    launcher : {'single', 'srun', 'mpiexec'}
        How the workers of a block are started on its nodes.
    """

    executor: str = "local"
    cores: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    launcher: str = "single"

    @property
    def slots(self) -> int:
        """Tasks at a time on one node."""
        return self.cores or usable_cores()


class Executor:
    """Runs tasks until their outcome is known.

    Parameters
    ----------
    execution : Execution
        How.
    folder : path
        For Parsl's own files.
    stop : callable, optional
        Asked often; if it is true, running tasks are asked to end and `StoppedError` is raised.
    """

    def __init__(self, execution: Execution, folder: Path, stop: Callable[[], bool] | None = None) -> None:
        self.execution, self.folder, self.stop = execution, folder, stop or (lambda: False)
        self._kernel: Any = None
        self._app: Any = None

    def _start(self) -> None:
        if self._kernel is not None:
            return
        try:
            from parsl.app.app import python_app
            from parsl.config import Config
            from parsl.dataflow.dflow import DataFlowKernel
        except ImportError:
            raise InputError(
                "active learning runs its tasks with Parsl, which is not installed",
                hint="install it with `pip install nnpkit[active]`",
            ) from None
        config = Config(
            executors=[self._make_executor()], run_dir=str(self.folder / "parsl"), usage_tracking=0,
            strategy="none" if self.execution.executor == "local" else "simple", initialize_logging=False,
            strategy_period=1,
        )  # fmt: skip
        self._kernel = DataFlowKernel(config)
        self._app = python_app(start_watcher, data_flow_kernel=self._kernel, executors=["nnpkit"])

    def _make_executor(self) -> Any:
        execution = self.execution
        if execution.executor == "local":
            from parsl.executors import ThreadPoolExecutor

            return ThreadPoolExecutor(label="nnpkit", max_threads=execution.slots)
        from parsl.executors import HighThroughputExecutor

        return HighThroughputExecutor(
            label="nnpkit", max_workers_per_node=execution.slots, provider=_provider(execution),
            working_dir=str(self.folder / "parsl"), encrypted=False, heartbeat_period=10, heartbeat_threshold=60,
        )  # fmt: skip

    def run(
        self, folders: Iterable[Path], done: Callable[[Path, dict[str, Any]], None] | None = None
    ) -> None:
        """Run tasks until each has an outcome; `done` is called with folder and outcome of each, as they come.

        Raises
        ------
        StoppedError
            If asked to stop.
        ExecutorError
            If tasks come back again and again without an outcome: the scheduler or its nodes do not work.
        """
        waiting = [folder for folder in dict.fromkeys(folders)]
        for folder in list(waiting):
            if result := outcome(folder):
                waiting.remove(folder)
                if done:
                    done(folder, result)
        tries: dict[Path, int] = dict.fromkeys(waiting, 0)
        futures: dict[Future[int], Path] = {}
        while waiting or futures:
            if self.stop():
                self._ask_to_stop(futures.values())
                raise StoppedError("asked to stop")
            for folder in waiting:
                futures[self._submit(folder)] = folder
            waiting = []
            finished, _ = wait(futures, timeout=0.2, return_when=FIRST_COMPLETED)
            for future in finished:
                folder = futures.pop(future)
                if result := outcome(folder):
                    if done:
                        done(folder, result)
                    continue
                waiting.append(folder)  # unknown is not failed
                tries[folder] += 1
                self._after_unknown(folder, future, tries[folder])

    def _submit(self, folder: Path) -> Future[int]:
        for tries in range(1, _PATIENCE + 1):
            try:
                self._start()
                break
            except subprocess.TimeoutExpired as error:
                if tries == _PATIENCE:
                    raise ExecutorError(f"the scheduler does not answer: {error}") from None
                self._pause(tries)
        future: Future[int] = self._app(str(folder))
        return future

    def _after_unknown(self, folder: Path, future: Future[int], tries: int) -> None:
        """Wait before a task is sent again, with a new kernel if the old one has given up."""
        error = future.exception()
        if self.stop():
            raise StoppedError("asked to stop")
        if tries >= _PATIENCE:
            words = " ".join(str(error).split())[:300] if error else "it was stopped, or its worker died"
            raise ExecutorError(
                f"{folder}: no outcome after {tries} tries ({words}). Look at watcher.log and log there; then "
                "`nnpkit active resume` goes on"
            )
        if error is not None:  # the executor is bad (sbatch failed) or lost: begin with a new one
            self.close()
        self._pause(tries)

    def _pause(self, tries: int) -> None:
        """Wait before the next of some tries, longer every time, unless asked to stop."""
        deadline = time.monotonic() + _BACKOFF * 2 ** (tries - 1)
        while time.monotonic() < deadline:
            if self.stop():
                raise StoppedError("asked to stop")
            time.sleep(0.1)

    def _ask_to_stop(self, folders: Iterable[Path]) -> None:
        """Have the running tasks of this machine end at the next good moment, and wait for that."""
        if self.execution.executor != "local":
            return
        self._cancel_waiting()
        locks = [FolderLock(folder / "lock") for folder in folders]
        for lock in locks:
            holder = lock.holder()
            if holder is not None and "pid" in holder:
                with suppress(ProcessLookupError):
                    os.kill(int(str(holder["pid"])), signal.SIGTERM)
        deadline = time.monotonic() + 60.0
        while time.monotonic() < deadline and any(lock.holder() is not None for lock in locks):
            time.sleep(0.1)

    def _cancel_waiting(self) -> None:
        """Forget the tasks that no thread has begun; Parsl's own futures cannot be cancelled."""
        for executor in self._kernel.executors.values() if self._kernel is not None else ():
            if (pool := getattr(executor, "executor", None)) is not None:
                pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """End Parsl; tasks that run on this machine go on."""
        if self.execution.executor == "local":
            self._cancel_waiting()
        kernel, self._kernel = self._kernel, None
        if kernel is not None:
            kernel.cleanup()

    def __enter__(self) -> Executor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _provider(execution: Execution) -> Any:
    """Parsl's provider of blocks."""
    from parsl.launchers import MpiExecLauncher, SingleNodeLauncher, SrunLauncher
    from parsl.providers import PBSProProvider, SlurmProvider

    launchers = {"single": SingleNodeLauncher, "srun": SrunLauncher, "mpiexec": MpiExecLauncher}
    providers = {"slurm": SlurmProvider, "pbs": PBSProProvider}
    options = {
        "init_blocks": 1,
        "min_blocks": 0,
        "max_blocks": 1,
        "walltime": "01:00:00",
        **execution.options,
    }
    options["worker_init"] = "\n".join(filter(None, [environment_line(), options.get("worker_init", "")]))
    try:
        return providers[execution.executor](launcher=launchers[execution.launcher](), **options)
    except TypeError as error:
        raise InputError(
            f"Parsl's provider does not take these options ({error})", where="execution.options",
            hint="they are those of parsl.providers.SlurmProvider or PBSProProvider",
        ) from None  # fmt: skip
