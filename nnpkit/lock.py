"""Locks that the kernel drops when their holder ends, however it ends.

POSIX record locks and not ``flock``: a forked child does not inherit them, so that a helper process that
outlives a killed driver does not keep its lock. They also work between the nodes of a cluster where the file
system does.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from types import TracebackType

from nnpkit.errors import InputError

__all__ = ["FolderLock"]

_HELD: set[str] = set()  # a record lock does not keep its own process out; this does


class FolderLock:
    """Exclusive lock on a file that says who holds it.

    Parameters
    ----------
    path : path
        The file; made if there is none, never removed.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._descriptor: int | None = None
        self._name = ""

    def acquire(self, blocking: bool = False) -> bool:
        """Take the lock; False if another holds it and `blocking` is not set."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._name = str(self.path.resolve())
        if self._name in _HELD:
            return False
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | (0 if blocking else fcntl.LOCK_NB))
        except OSError as error:
            os.close(descriptor)
            if isinstance(error, BlockingIOError | PermissionError):
                return False
            raise
        self._descriptor = descriptor
        _HELD.add(self._name)
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        }
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, (json.dumps(holder) + "\n").encode(), 0)
        return True

    def release(self) -> None:
        """Give the lock back."""
        if self._descriptor is not None:
            os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None
            _HELD.discard(self._name)

    def holder(self) -> dict[str, object] | None:
        """Who holds the lock (pid, host, since); None if nobody does."""
        if str(self.path.resolve()) in _HELD:  # opening and closing the file would drop our own lock
            return {"pid": os.getpid(), "host": socket.gethostname()}
        try:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return self._read()
        finally:
            os.close(descriptor)
        return None

    def _read(self) -> dict[str, object]:
        try:
            return dict(json.loads(self.path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return {}

    def require(self, what: str, hint: str) -> None:
        """Take the lock or raise an `InputError` that names the holder."""
        if not self.acquire():
            who = self._read()
            by = f" by process {who['pid']} on {who['host']} since {who['since']}" if "pid" in who else ""
            raise InputError(f"{what}{by}", where=str(self.path.parent), hint=hint)

    def __enter__(self) -> FolderLock:
        self.acquire(blocking=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
