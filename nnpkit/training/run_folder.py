"""The folder of a run: what lies in it, and how it is written."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nnpkit.errors import InputError
from nnpkit.files import atomic_write
from nnpkit.lock import FolderLock
from nnpkit.training.checkpoint import CHECKPOINTS, latest_checkpoint, remove_unfinished

__all__ = ["LearningCurve", "MetricsFile", "RunFolder", "TensorBoard"]

_CONTENT = (
    "baseline.pt", "config.yaml", "data.json", "lcurve.txt", "metrics.jsonl", "model.pt", "report.html", "report.json",
    "summary.json",
)  # fmt: skip
_FOLDERS = (CHECKPOINTS, "tensorboard")


class RunFolder:
    """Folder of one training run.

    It holds ``config.yaml``, ``data.json``, ``checkpoints/``, ``lcurve.txt``, ``metrics.jsonl``, ``tensorboard/``,
    ``model.pt`` and ``summary.json``.

    Parameters
    ----------
    path : path
        The folder; it need not exist yet.
    writes : bool
        Whether this process writes into it. Of several that train together one does, and keeps others out.
    """

    def __init__(self, path: str | Path, writes: bool = True) -> None:
        self.path, self.writes = Path(path), writes
        self.checkpoints = self.path / CHECKPOINTS

    def require_free(self, resume: bool, overwrite: bool) -> Path | None:
        """Checkpoint to resume from, None to start anew; nothing is changed yet.

        Raises
        ------
        InputError
            If there is an earlier run and neither `resume` nor `overwrite` says what to do with it.
        """
        if self.path.exists() and not self.path.is_dir():
            raise InputError("is a file", where=str(self.path), expected="a folder for the run (output)")
        last = latest_checkpoint(self.path)
        if resume and not overwrite:
            return last
        if not overwrite and (last is not None or (self.path / "model.pt").exists()):
            raise InputError(
                "there is a run in this folder already", where=str(self.path),
                hint="continue it with --resume, replace it with --overwrite, or name another folder: output=...",
            )  # fmt: skip
        return None

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Keep other trainings out of the folder; the lock goes with the process, however it ends.

        Raises
        ------
        InputError
            If another process trains in this folder.
        """
        if not self.writes:
            yield
            return
        lock = FolderLock(self.path / ".lock")
        with suppress(OSError):  # some cluster file systems have no locks: trained there without
            lock.require("another training is under way here,", "wait for it, or name another: output=...")
        try:
            remove_unfinished(self.checkpoints)
            yield
        finally:
            lock.release()

    def clear(self) -> None:
        """Remove what an earlier run left, and only that."""
        if not self.writes:
            return
        for name in _CONTENT:
            (self.path / name).unlink(missing_ok=True)
        for name in _FOLDERS:
            shutil.rmtree(self.path / name, ignore_errors=True)
        self.path.mkdir(parents=True, exist_ok=True)

    def write_json(self, name: str, content: Mapping[str, Any]) -> None:
        """Write `content` to the file called `name`."""
        if not self.writes:
            return
        with atomic_write(self.path / name) as stream:
            json.dump(content, stream, indent=2, allow_nan=False)
            stream.write("\n")


class LearningCurve:
    """``lcurve.txt``: one line of aligned numbers per evaluated epoch, readable by ``numpy.loadtxt``.

    Parameters
    ----------
    path : path
        The file.
    splits : list of str
        Names of the sets of structures.
    last_epoch : int or None
        Keep the lines of an earlier part of the run up to this epoch; None starts a new file.
    writes : bool
        Whether there is a file at all.
    """

    ERRORS = ("energy_rmse", "force_rmse", "stress_rmse")

    def __init__(
        self, path: Path, splits: list[str], last_epoch: int | None = None, writes: bool = True
    ) -> None:
        self.path, self.splits, self.writes = path, splits, writes
        columns = [f"{error[:-5]}_{split}" for error in self.ERRORS for split in splits]
        self.width = max(14, *(len(name) + 2 for name in columns))
        self.names = "# epoch   updates   seconds" + "".join(f"{name:>{self.width}s}" for name in columns)
        head = [
            "# root mean squared errors: energy eV/atom, force eV/Å per component, stress GPa",
            self.names,
        ]
        if not writes:
            return
        lines = [] if last_epoch is None else _lines_until(path, last_epoch)
        with atomic_write(path) as stream:
            stream.write("\n".join([*head, *lines]) + "\n")

    def add(self, epoch: int, updates: int, seconds: float, errors: Mapping[str, Mapping[str, Any]]) -> str:
        """Append the errors of an epoch; the line that was written."""
        values = [errors[split][error] for error in self.ERRORS for split in self.splits]
        line = f"{epoch:7d} {updates:9d} {seconds:9.1f}" + "".join(
            f"{float('nan') if value is None else value:{self.width}.6e}" for value in values
        )
        if self.writes:
            with open(self.path, "a", encoding="utf-8") as stream:
                stream.write(line + "\n")
        return line


def _lines_until(path: Path, last_epoch: int) -> list[str]:
    """Lines of a learning curve up to and including `last_epoch`."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [x for x in lines if x.split()[:1] and x.split()[0].isdigit() and int(x.split()[0]) <= last_epoch]


class MetricsFile:
    """``metrics.jsonl``: one JSON object per epoch with everything that is known about it.

    Parameters
    ----------
    path : path
        The file.
    last_epoch : int or None
        Keep the lines of an earlier part of the run up to this epoch; None starts a new file.
    writes : bool
        Whether there is a file at all.
    """

    def __init__(self, path: Path, last_epoch: int | None = None, writes: bool = True) -> None:
        self.path, self.writes = path, writes
        if not writes:
            return
        lines: list[str] = []
        if last_epoch is not None and path.exists():
            lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        with atomic_write(path) as stream:
            stream.writelines(line for line in lines if json.loads(line)["epoch"] <= (last_epoch or 0))

    def add(self, epoch: int, updates: int, seconds: float, **parts: Mapping[str, Any]) -> None:
        """Append an epoch; numbers that are not finite become null."""
        if not self.writes:
            return
        content = {name: {k: _finite(v) for k, v in part.items()} for name, part in parts.items()}
        line = {"epoch": epoch, "updates": updates, "seconds": round(seconds, 3), **content}
        with open(self.path, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(line, allow_nan=False) + "\n")


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


class TensorBoard:
    """Numbers for TensorBoard below ``tensorboard/``, if it is installed and this process writes."""

    def __init__(self, folder: Path, first_epoch: int, writes: bool = True) -> None:
        self.writer = None
        if not writes:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            pass
        else:
            self.writer = SummaryWriter(str(folder), purge_step=first_epoch)

    def add(self, epoch: int, numbers: Mapping[str, float | None]) -> None:
        """Record numbers of an epoch by name."""
        if self.writer is not None:
            for name, value in numbers.items():
                if value is not None:
                    self.writer.add_scalar(name, value, epoch)

    def close(self) -> None:
        """Write what is still to be written."""
        if self.writer is not None:
            self.writer.close()
