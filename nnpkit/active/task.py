"""A task: a command in a folder, watched by a process of its own: ``python -m nnpkit.active.task FOLDER``.

The watcher survives the driver. It holds the lock of the folder, so that a second watcher waits and then finds
the work done; ``done.json`` appears when the command has ended for good. A task without it is unknown, not failed:
whoever wants the result runs it again.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnpkit.active.programs import end_group, end_with_parent, python
from nnpkit.files import atomic_write
from nnpkit.lock import FolderLock

__all__ = ["DIED", "STOPPED", "outcome", "prepare_task", "run_task", "start_watcher"]

STOPPED = 75
"""Exit code (EX_TEMPFAIL) of a task that was asked to stop and can go on later."""
DIED = "the process computing it died"
_DEATHS = (
    5  # so often a command may be killed from outside before the task failed; with a beat ten times that
)
_POLL = 0.05  # s


def prepare_task(
    folder: Path,
    command: Sequence[str],
    *,
    walltime: float | None = None,
    beat: float | None = None,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Write ``task.json``.

    Parameters
    ----------
    folder : path
        Of the task.
    command : sequence of str
        What to run there.
    walltime : float, optional
        Seconds after which the task has failed.
    beat : float, optional
        Seconds that the file ``beat`` may name the same thing before the command is ended and started again; what
        took too long is noted in the file.
    environment : mapping, optional
        Variables added to those of the watcher.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "command": list(command),
        "walltime": walltime,
        "beat": beat,
        "environment": dict(environment or {}),
    }
    with atomic_write(folder / "task.json") as stream:
        json.dump(content, stream, indent=1)


def outcome(folder: Path) -> dict[str, Any] | None:
    """How a task ended (``code``, ``seconds``, ``reason``, ...), None while that is unknown."""
    try:
        return dict(json.loads((folder / "done.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def start_watcher(folder: str) -> int:
    """Run a task through a watcher of its own that survives this process; exit code of the watcher."""
    with open(Path(folder) / "watcher.log", "ab") as log:
        watcher = subprocess.Popen(
            python("nnpkit.active.task", folder), stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip
        return watcher.wait()


def run_task(folder: Path) -> int:
    """Run the task in `folder` unless it is done; 0, or `STOPPED`."""
    with FolderLock(folder / "lock"):
        if outcome(folder) is not None:
            return 0
        task = json.loads((folder / "task.json").read_text(encoding="utf-8"))
        began, cpu = time.monotonic(), _children_cpu()
        code, reason = _Watch(folder, task).run()
        if code == STOPPED:
            return STOPPED
        content = {
            "code": code, "reason": reason, "seconds": round(time.monotonic() - began, 3),
            "cpu_seconds": round(_children_cpu() - cpu, 3), "host": socket.gethostname(), "time": time.time(),
        }  # fmt: skip
        with atomic_write(folder / "done.json") as stream:
            json.dump(content, stream, indent=1)
    return 0


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class _Watch:
    """Runs a command until it has ended for good."""

    def __init__(self, folder: Path, task: Mapping[str, Any]) -> None:
        self.folder, self.task = folder, task
        self.deadline = None if task["walltime"] is None else time.monotonic() + task["walltime"]
        self.stopping = False

    def _stop(self, *_: object) -> None:
        self.stopping = True

    def run(self) -> tuple[int, str]:
        """Exit code of the command and, if it is not 0, the reason; SIGTERM and SIGINT stop it meanwhile."""
        previous = {number: signal.signal(number, self._stop) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            return self._run()
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _run(self) -> tuple[int, str]:
        deaths, limit = 0, _DEATHS * (10 if self.task["beat"] is not None else 1)
        while True:
            code, reason = self._once()
            if self.stopping or code == STOPPED:
                return STOPPED, "stopped"
            if reason == "again":
                continue
            if code < 0 and deaths < limit:  # killed from outside: start again, it finds what is done
                deaths += 1
                continue
            return code, reason or ("" if code == 0 else self._last_words(code))

    def _once(self) -> tuple[int, str]:
        """Start the command once; exit code and why it was ended, ``again`` if it is to be started again."""
        beat = self.folder / "beat"
        seen, since = "", time.monotonic()
        with open(self.folder / "log", "ab") as log:
            process = subprocess.Popen(
                self.task["command"], cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log,
                stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=end_with_parent,
                env={**os.environ, **self.task["environment"]},
            )  # fmt: skip
        pause = 0.002
        while process.poll() is None:
            time.sleep(pause)
            pause = min(_POLL, 2 * pause)
            now = time.monotonic()
            if self.stopping:
                end_group(process, patience=30.0)
                beat.unlink(missing_ok=True)
                return STOPPED, "stopped"
            if self.deadline is not None and now > self.deadline:
                end_group(process)
                return 124, f"not finished after its walltime of {self.task['walltime']:g} s"
            if self.task["beat"] is not None and beat.exists():
                named = f"{beat.read_text(encoding='utf-8')}@{beat.stat().st_mtime_ns}"
                if named != seen:
                    seen, since = named, now
                elif not named.startswith("@") and now - since > self.task["beat"]:
                    end_group(process)
                    key = named.split("\n")[0].split("@")[0]
                    beat.write_text(f"{key}\nnot finished after {self.task['beat']:g} s", encoding="utf-8")
                    return 124, "again"
        if (
            process.returncode < 0
            and beat.exists()
            and (key := beat.read_text(encoding="utf-8").partition("\n")[0])
        ):
            beat.write_text(f"{key}\n{DIED}", encoding="utf-8")
        return process.returncode, ""

    def _last_words(self, code: int) -> str:
        text = (self.folder / "log").read_text(encoding="utf-8", errors="replace")
        said = [line.strip() for line in text.splitlines() if line.strip()]
        killed = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
        return killed + (f": {said[-1][:300]}" if said else "")


if __name__ == "__main__":
    sys.exit(run_task(Path(sys.argv[1]).absolute()))
