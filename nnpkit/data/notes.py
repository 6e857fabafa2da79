"""What the user should know about how a file was read: gathered while it is read, said once per file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["DataWarning", "collected_notes", "gathered_notes", "note", "say"]


class DataWarning(UserWarning):
    """Something in a file was left out, converted or assumed."""


_GATHERED: ContextVar[dict[str, list[str]] | None] = ContextVar("gathered_notes", default=None)


def note(text: str, frame: str = "") -> None:
    """Say something about a frame: at the end of `gathered_notes`, or at once where nothing gathers.

    Parameters
    ----------
    text : str
        One sentence without the full stop; frames with the same text are named together.
    frame : str
        Name of the frame or file.
    """
    gathered = _GATHERED.get()
    if gathered is None:
        warnings.warn(f"{frame}: {text}" if frame else text, DataWarning, stacklevel=3)
    else:
        gathered.setdefault(text, []).append(frame)


@contextmanager
def gathered_notes(path: str) -> Iterator[None]:
    """Within the block notes wait; then each is one `DataWarning` that counts the frames of `path` it is about."""
    if _GATHERED.get() is not None:  # the outer block speaks
        yield
        return
    token = _GATHERED.set({})
    try:
        yield
        gathered = _GATHERED.get() or {}
    finally:
        _GATHERED.reset(token)
    for text, frames in gathered.items():
        about = sorted({frame for frame in frames if "#" in frame}, key=frames.index)
        say(path, text, len(about), about[0] if about else "", 4)


def say(path: str, text: str, n_frames: int, first: str, stacklevel: int = 2) -> None:
    """Say something about some frames of a file, of which `first` is the name of one.

    Parameters
    ----------
    stacklevel : int
        Of the warning, counted from the caller.
    """
    where = first if n_frames == 1 else path
    more = f" ({n_frames} frames, first #{first.rpartition('#')[2]})" if n_frames > 1 else ""
    warnings.warn(f"{where}: {text}{more}", DataWarning, stacklevel=stacklevel + 1)


@contextmanager
def collected_notes() -> Iterator[dict[str, list[str]]]:
    """Within the block notes are collected and not said: by text the names of frames or files."""
    notes: dict[str, list[str]] = {}
    token = _GATHERED.set(notes)
    try:
        yield notes
    finally:
        _GATHERED.reset(token)
