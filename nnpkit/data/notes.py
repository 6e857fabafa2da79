"""What the user should know about how a file was read: gathered while it is read, said once per file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from nnpkit.errors import InputError

__all__ = [
    "DataWarning",
    "choice_needed",
    "collected_notes",
    "gathered_notes",
    "label_sources",
    "note",
    "note_source",
    "refuse_open_choices",
    "say",
]


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


_CHOICES: ContextVar[list[tuple[str, str, str]] | None] = ContextVar("choices", default=None)
_SOURCES: ContextVar[dict[str, dict[str, int]] | None] = ContextVar("label_sources", default=None)


def choice_needed(text: str, hint: str, frame: str) -> None:
    """Say that two names could be meant: refused at the end of `refuse_open_choices`, a note where nothing refuses.

    Parameters
    ----------
    text : str
        What is open, without the full stop.
    hint : str
        What the user writes to settle it.
    frame : str
        Name of the frame.
    """
    if (choices := _CHOICES.get()) is None:
        note(f"{text}; the first is taken", frame)
    else:
        choices.append((text, hint, frame))


@contextmanager
def refuse_open_choices() -> Iterator[None]:
    """At the end of the block the first `choice_needed` is an `InputError`."""
    token = _CHOICES.set([])
    try:
        yield
        choices = _CHOICES.get() or []
    finally:
        _CHOICES.reset(token)
    if choices:
        text, hint, frame = choices[0]
        more = f" (and of {len(choices) - 1} other frames)" if len(choices) > 1 else ""
        raise InputError(f"{text}{more}", where=frame or None, hint=hint)


def note_source(label: str, name: str) -> None:
    """Count that a frame's `label` was taken from what the file calls `name`; see `label_sources`."""
    if (sources := _SOURCES.get()) is not None:
        of_label = sources.setdefault(label, {})
        of_label[name] = of_label.get(name, 0) + 1


@contextmanager
def label_sources() -> Iterator[dict[str, dict[str, int]]]:
    """Within the block the mapping that is given counts, for each label, the names it was taken from."""
    sources: dict[str, dict[str, int]] = {}
    token = _SOURCES.set(sources)
    try:
        yield sources
    finally:
        _SOURCES.reset(token)


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
