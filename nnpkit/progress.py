"""Progress of long work: a bar with the remaining time on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

__all__ = ["Progress", "StopRequest", "clock_time", "remember_warning", "stop_on_signals"]

_SECONDS_BETWEEN_LINES = 60.0


class Progress:
    """Counts steps of some work and shows how far it is.

    Parameters
    ----------
    title : str
        What is being done.
    total : int
        Number of steps.
    console : Console
        Where to show it; anything but a terminal gets plain lines, at most one a minute.
    done : int
        Steps done before.
    """

    def __init__(self, title: str, total: int, console: Console, done: int = 0) -> None:
        self.title, self.total, self.console = title, total, console
        self.done, self.first, self.note = done, done, ""
        self.started = self.printed = time.monotonic()
        self.bar = (
            RichProgress(
                TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
                console=console, transient=True,
            )
            if console.is_terminal
            else None
        )  # fmt: skip

    def __enter__(self) -> Progress:
        if self.bar is not None:
            self.bar.start()
            self.task = self.bar.add_task(self.title, total=self.total, completed=self.done, note="")
        return self

    def __exit__(self, *_: object) -> None:
        if self.bar is not None:
            self.bar.stop()

    def tell(self, note: str) -> None:
        """Show `note` beside the progress from now on."""
        self.note = note
        if self.bar is not None:
            self.bar.update(self.task, note=note)

    def advance(self) -> None:
        """Count one step."""
        self.advance_to(self.done + 1)

    def advance_to(self, done: int) -> None:
        """Count the steps up to `done`."""
        self.done = done
        if self.bar is not None:
            self.bar.update(self.task, completed=done)
        elif time.monotonic() - self.printed > _SECONDS_BETWEEN_LINES:
            self.printed = time.monotonic()
            pace = (self.printed - self.started) / max(1, self.done - self.first)
            left = clock_time(pace * (self.total - self.done))
            note = f"; {self.note}" if self.note else ""
            self.console.print(
                f"{self.title}: {self.done} of {self.total}, {left} left{note}", highlight=False
            )


def clock_time(seconds: float) -> str:
    """Seconds as hours, minutes and seconds: 0:03:20."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"


class StopRequest:
    """Whether a signal has asked to stop, and which."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def name(self) -> str | None:
        """Name of the signal."""
        return None if self.signal is None else signal.Signals(self.signal).name


class _Warned:
    """Whether SIGUSR1 has come while nothing could be stopped yet."""

    def __init__(self) -> None:
        self.has_come = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle the signal."""
        self.has_come = True


@contextmanager
def remember_warning() -> Iterator[None]:
    """Within this context SIGUSR1 ends nothing; a `stop_on_signals` that begins later takes it as its own.

    Schedulers send it some time before they end a job. Preparations cannot be continued, so that a job would prepare
    for ever if it ended there; what comes after them can.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGUSR1, _Warned())
    try:
        yield
    finally:
        signal.signal(signal.SIGUSR1, previous)


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Turn the first SIGINT, SIGTERM or SIGUSR1 into a request to stop at the next good moment.

    A second one acts as it would without this.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous: dict[int, Any] = {}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def note(number: int, _: FrameType | None) -> None:
        request.signal = number
        restore()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        previous[number] = signal.signal(number, note)
    warned = previous[signal.SIGUSR1]
    if isinstance(warned, _Warned) and warned.has_come:
        note(signal.SIGUSR1, None)
    try:
        yield request
    finally:
        restore()
