"""Scripts for the queue of a cluster."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from nnpkit.errors import InputError

__all__ = ["clock", "environment_line", "queue_script", "seconds_of"]

_RESERVED = 300  # s before the end of the job, for the last files; a tenth of a short job
_OURS = ("ntasks", "array", "chdir")


def environment_line() -> str:
    """Line of a shell script that finds, on any node, the programs beside the running Python."""
    return f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH"


def seconds_of(text: str, where: str = "--time-limit") -> int:
    """Seconds of ``HH:MM:SS``, ``MM:SS`` or Slurm's ``D-HH:MM:SS``.

    Raises
    ------
    InputError
        If it is anything else, or no time at all.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d\d)", text)
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups()) if match else (0, 0, 0, 0)
    total = ((24 * days + hours) * 60 + minutes) * 60 + seconds
    if not total or seconds > 59:
        raise InputError(f"time {text!r}", where=where, expected="HH:MM:SS, as 23:30:00")
    return total


def clock(seconds: int) -> str:
    """``HH:MM:SS`` of seconds."""
    minutes, rest = divmod(seconds, 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}"


def queue_script(folder: Path, options: Sequence[str], ranks: int, replicas: int = 1) -> str:
    """A script for Slurm that begins the simulation in `folder` or goes on with it.

    Parameters
    ----------
    folder : path
        Prepared by ``nnpkit md``; with replicas, the folder that holds theirs, 1, 2, ...
    options : sequence of str
        Of sbatch, as ``partition=long`` and ``time=24:00:00``. The run ends early enough for its last files.
    ranks, replicas : int
        MPI processes of each simulation, and simulations, which become an array of jobs.

    Raises
    ------
    InputError
        If an option is none, or one that follows from the simulation.
    """
    folder = folder.absolute()
    asked: dict[str, str] = {"job-name": re.sub(r"[^\w.-]", "_", folder.name), "output": "job-%j.log"}
    for option in options:
        match = re.fullmatch(r"([a-z][a-z-]*)=([^\n\r]+)", option)
        if not match or match[1] in _OURS:
            raise InputError(
                f"option {option!r}", where="--slurm", expected="KEY=VALUE of sbatch, as time=24:00:00",
                hint=f"{', '.join(_OURS)} follow from the simulation",
            )  # fmt: skip
        asked[match[1]] = match[2].strip()
    limit = ""
    if "time" in asked:
        seconds = seconds_of(asked["time"], "--slurm time")
        limit = f" --time-limit {clock(seconds - min(_RESERVED, seconds // 10))}"
    asked |= {"ntasks": str(ranks)} | ({"array": f"1-{replicas}"} if replicas > 1 else {})
    place = shlex.quote(str(folder)) + ("/$SLURM_ARRAY_TASK_ID" if replicas > 1 else "")
    return "\n".join([
        "#!/bin/bash",
        *(f"#SBATCH --{key}={value}" for key, value in asked.items()),
        "# `sbatch job.sh` as often as it takes: each job goes on where the last one stopped.",
        "set -e",
        environment_line(),
        f"cd {place}",
        f"exec nnpkit md --continue -o . --ranks {ranks}{limit}",
        "",
    ])  # fmt: skip
