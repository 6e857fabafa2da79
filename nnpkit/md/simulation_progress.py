"""Progress of a simulation: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from typing import Any

__all__ = ["SimulationProgress"]

_LINES = 10


class SimulationProgress:
    """Context manager to be called with every thermo row.

    Parameters
    ----------
    steps : int
        Of the whole run.
    relax : bool
        Whether a minimisation of unknown length comes before it.
    timestep : float, optional
        fs; then the speed is shown in ns per day.
    """

    def __init__(self, steps: int, relax: bool = False, timestep: float | None = None) -> None:
        self.steps, self.timestep = steps, timestep
        self._first = 0
        self._relaxing = relax
        self._bar: Any = None
        self._task: Any = None
        self._begin = 0.0
        self._next_line = 0.0
        self._last = -1

    def __enter__(self) -> SimulationProgress:
        self._begin = time.monotonic()
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

            self._bar = Progress(
                TextColumn("{task.completed}/{task.total} steps"), BarColumn(), TimeElapsedColumn(),
                TextColumn("ETA"), TimeRemainingColumn(), TextColumn("{task.description}"),
                console=Console(stderr=True),
            )  # fmt: skip
            self._bar.start()
            self._task = self._bar.add_task("starting LAMMPS", total=self.steps)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, row: Mapping[str, float]) -> None:
        step, state = int(row["step"]), _state(row)
        if step <= self._last or self._last < 0:  # the dynamics begins
            self._relaxing = self._relaxing and self._last < 0
            self._begin, self._first = time.monotonic(), step
        self._last = step
        if self._relaxing:
            if self._bar is not None:
                self._bar.update(self._task, description=f"relaxing, E {row['potential_energy_eV']:.4f} eV")
        elif self._bar is not None:
            self._bar.update(self._task, completed=step, description=f"{state}{self._speed(step)}")
        elif step >= self._next_line:
            elapsed, done = time.monotonic() - self._begin, step - self._first
            eta = f"  ETA {_clock(elapsed * (self.steps - step) / done)}" if done else ""
            print(f"step {step}/{self.steps}  {state}{self._speed(step)}{eta}", file=sys.stderr, flush=True)
            self._next_line = (
                min(step + self.steps / _LINES, self.steps) if step < self.steps else float("inf")
            )

    def _speed(self, step: int) -> str:
        elapsed = time.monotonic() - self._begin
        if self.timestep is None or step <= self._first or elapsed <= 0.0:
            return ""
        return f"  {(step - self._first) * self.timestep * 1e-6 * 86400.0 / elapsed:.3g} ns/day"


def _state(row: Mapping[str, float]) -> str:
    parts = [f"E {row['potential_energy_eV']:.4f} eV"]
    if "temperature_K" in row:
        parts = [f"T {row['temperature_K']:.0f} K", f"density {row['density_g_cm3']:.4f} g/cm³"]
    return "  ".join(parts)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
