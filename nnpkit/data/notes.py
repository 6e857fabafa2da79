"""What the user should know about how a file was read: gathered while it is read, said once per file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["DataWarning", "gathered_notes", "note"]


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
        where = about[0] if len(about) == 1 else path
        more = f" ({len(about)} frames, first #{about[0].rpartition('#')[2]})" if len(about) > 1 else ""
        warnings.warn(f"{where}: {text}{more}", DataWarning, stacklevel=4)
