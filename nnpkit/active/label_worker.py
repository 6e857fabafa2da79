"""The process that computes labels: ``python -m nnpkit.active.label_worker FOLDER``.

FOLDER holds ``job.json`` and ``structures.xyz``. Every finished label is a file of its own at once; what exists is
skipped, and a lock per label keeps two workers from computing the same one. The file ``beat`` in FOLDER names
what is being computed: whoever watches this process (`nnpkit.active.task`) knows from it whether a structure takes
too long. If it ends the process for that, or sees it die, it adds the reason as a second line; the next worker
finds it there and counts an attempt. A worker that ended unseen (the machine went down) counts as nothing.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnpkit.active.label_files import LabelFiles
from nnpkit.active.labellers.reference_calculation import (
    CalculationError,
    Limits,
    ReferenceCalculator,
    compute_label,
)
from nnpkit.active.labellers.registered import make_reference
from nnpkit.active.task import DIED, STOPPED
from nnpkit.data.dataset import structure_sha256
from nnpkit.data.formats.reading import read
from nnpkit.data.structure import Structure
from nnpkit.files import atomic_write

__all__ = ["label_all", "main"]

_DEATHS = 4  # a structure on which so many workers died is put aside


def main(folder: Path) -> int:
    """Label the structures of a job; the exit code."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    files = LabelFiles(job["root"])
    reference = make_reference(job["reference"])
    structures = read(folder / "structures.xyz", "extxyz")
    stop = Path(job["stop"]) if job.get("stop") else None
    return label_all(
        reference, structures, files, job["settings"], folder, Limits(**job["limits"]), job["retries"], stop
    )


def label_all(
    reference: ReferenceCalculator,
    structures: Sequence[Structure],
    files: LabelFiles,
    settings: str,
    folder: Path,
    limits: Limits,
    retries: Sequence[Mapping[str, Any]],
    stop: Path | None = None,
) -> int:
    """Label structures one after the other; 0, or `STOPPED` if the file `stop` appeared.

    Parameters
    ----------
    reference : ReferenceCalculator
        Computes.
    structures : sequence of Structure
        What to label.
    files : LabelFiles
        Where labels and failures go.
    settings : str
        Hash of the settings.
    folder : path
        Of this worker.
    limits : Limits
        What a label must satisfy.
    retries : sequence of mapping
        Changed settings of the second attempt, the third, ...
    stop : path, optional
        A file whose existence asks to stop.
    """
    attempts = _Attempts(folder)
    for structure in structures:
        if stop is not None and stop.exists():
            return STOPPED
        key = structure_sha256(structure, labels=False)
        with files.lock(settings, key):
            if files.has(settings, key) or files.failure(settings, key) is not None:
                continue
            _label_one(reference, structure, key, files, settings, folder, limits, retries, attempts)
    return 0


def _label_one(
    reference: ReferenceCalculator,
    structure: Structure,
    key: str,
    files: LabelFiles,
    settings: str,
    folder: Path,
    limits: Limits,
    retries: Sequence[Mapping[str, Any]],
    attempts: _Attempts,
) -> None:
    """Try until there is a label or all attempts are used up."""
    plans = [{}, *retries]
    work = folder / "work"
    while (number := attempts.failures(key)) < len(plans) and attempts.deaths(key) < _DEATHS:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        attempts.begin(key)
        try:
            label = compute_label(reference, structure, work, limits, plans[number])
        except CalculationError as error:
            attempts.failed(key, str(error), plans[number])
            continue
        label.info.update(
            {"label_attempts": number + 1, "label_host": socket.gethostname(), "settings": settings}
        )
        _account(files, settings, key)
        files.write(settings, key, label)
        attempts.end(key)
        break
    else:
        history = attempts.history(key)
        reason = history[-1]["reason"] if history else "the process computing it died again and again"
        files.fail(
            settings, key, structure, {"reason": reason, "attempts": len(history), "history": history}, work
        )
        attempts.end(key)
    shutil.rmtree(work, ignore_errors=True)


def _account(files: LabelFiles, settings: str, key: str) -> None:
    """Note that a label was computed, before it is written: the list shows what was computed twice."""
    line = f"{key} {settings} {os.getpid()} {time.time():.3f}\n".encode()
    descriptor = os.open(files.folder / "computed.log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


class _Attempts:
    """What was tried for each structure of a job, kept in files so that the next worker knows."""

    def __init__(self, folder: Path) -> None:
        self.beat, self.path = folder / "beat", folder / "attempts.json"
        try:
            self.known: dict[str, list[dict[str, Any]]] = json.loads(self.path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            self.known = {}
        self._look_back()

    def _look_back(self) -> None:
        """Count what a worker before this one was at when it ended."""
        try:
            key, _, reason = self.beat.read_text(encoding="utf-8").partition("\n")
        except OSError:
            return
        if key and reason == DIED:
            self.known.setdefault(key, []).append({"died": True, "reason": reason})
            self._save()
        elif key and reason:
            self.failed(key, reason, {})
        self.end(key)

    def begin(self, key: str) -> None:
        """Say that the work on a structure begins now."""
        self.beat.write_text(key, encoding="utf-8")

    def end(self, key: str) -> None:
        """Say that it is over."""
        self.beat.write_text("", encoding="utf-8")

    def failed(self, key: str, reason: str, changes: Mapping[str, Any]) -> None:
        """Count a failed attempt."""
        self.known.setdefault(key, []).append({"reason": reason, "changes": dict(changes)})
        self._save()
        self.end(key)

    def _save(self) -> None:
        with atomic_write(self.path) as stream:
            json.dump(self.known, stream, indent=1)

    def history(self, key: str) -> list[dict[str, Any]]:
        """Attempts that gave no label."""
        return self.known.get(key, [])

    def failures(self, key: str) -> int:
        """Number of attempts that failed."""
        return sum(not entry.get("died") for entry in self.history(key))

    def deaths(self, key: str) -> int:
        """Number of attempts whose process died."""
        return sum(bool(entry.get("died")) for entry in self.history(key))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
