"""Running other programs from a worker, such that they end when the worker ends."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from nnpkit.errors import InputError

__all__ = ["end_group", "end_with_parent", "python", "run_program"]

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Have the kernel kill this process when its parent ends (Linux); for ``preexec_fn``."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def python(module: str, *arguments: str | Path) -> list[str]:
    """Command that runs a module of this package with this Python."""
    return [sys.executable, "-m", module, *map(str, arguments)]


def run_program(
    command: Sequence[str], folder: Path, log: str, environment: Mapping[str, str] | None = None
) -> int:
    """Run `command` in `folder` with its output in the file `log` there; the exit code.

    Raises
    ------
    InputError
        If there is no such program.
    """
    with open(folder / log, "ab") as stream:
        try:
            process = subprocess.Popen(
                list(command), cwd=folder, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT,
                env={**os.environ, **(environment or {})}, preexec_fn=end_with_parent,
            )  # fmt: skip
        except (FileNotFoundError, PermissionError) as error:
            raise InputError(
                f"cannot run {command[0]} ({error.strerror})", hint="is it installed and on the PATH?"
            ) from None
        return process.wait()


def end_group(process: subprocess.Popen[bytes], patience: float = 0.0) -> None:
    """End a process that leads a group and the whole group with it, first politely if there is `patience` (s)."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)  # more than once: a child between fork and exec loses it
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(2.0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
