"""A training that may take so many seconds, instead of so many epochs.

The budget is divided into parts, about fifty, which take the place of epochs: after each of them the errors are
evaluated. A part is longer where evaluating takes longer than a tenth of it, up to a fifth of the budget, and fewer
training structures are evaluated where that is not enough, so that the budget goes into updates.
Parts end when their time is over, wherever in the data the schedule is then; the next one goes on from there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnpkit.measure.label_choice import Labels
    from nnpkit.training.schedules.random_order import Schedule

__all__ = [
    "EVALUATED_ATOMS",
    "EVERY_EPOCH",
    "JUDGED_ATOMS",
    "PARTS",
    "Budget",
    "part_seconds",
    "some_structures",
    "thinned",
]

PARTS = 50
_FEWEST_PARTS = 5
EVALUATED_ATOMS = 10_000
"""Atoms of a set that are evaluated after a part; everything is at the end."""
JUDGED_ATOMS = 40_000
"""The same of the validation set, which chooses the best epoch: half of that of Li-Si-C chose badly."""
EVERY_EPOCH = 200_000
"""Atoms of a set that are evaluated after an epoch of a training without a budget; everything is at the end."""
_EVALUATING = 0.1  # of a part


class Budget:
    """Seconds that a training may take, and where it is.

    Parameters
    ----------
    seconds : float
        The whole of it.
    clock : callable
        Seconds since any moment.
    """

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self.clock = seconds, clock
        self.part = seconds / PARTS
        self._running: Iterator[Labels] | None = None
        self.start(0.0)

    def start(self, used: float) -> None:
        """Count from now on, after `used` seconds in earlier processes."""
        self._zero = self.clock() - used

    @property
    def used(self) -> float:
        """Seconds used, those of earlier processes included."""
        return self.clock() - self._zero

    @property
    def fraction(self) -> float:
        """Part of the budget that is used, 0 to 1."""
        return min(1.0, self.used / self.seconds)

    @property
    def over(self) -> bool:
        """Whether nothing is left."""
        return self.used >= self.seconds

    def evaluation_took(self, seconds: float) -> None:
        """Make parts so long that evaluating after them is a tenth, unless there would be less than five."""
        self.part = part_seconds(self.seconds, seconds)

    def affordable(self, seconds: float) -> float:
        """Share, up to 1, of an evaluation of so many `seconds` that is a tenth of the longest part."""
        tenth = _EVALUATING / (1.0 - _EVALUATING) * self.seconds / _FEWEST_PARTS
        return min(1.0, tenth / max(seconds, 1e-9))

    def labels(self, schedule: Schedule) -> Iterator[Labels]:
        """Labels of `schedule` for one part, over the ends of its epochs; at least those of one update."""
        end = self.used + self.part
        while True:
            if self._running is None:
                self._running = schedule.epoch()
            labels = next(self._running, None)
            if labels is None:
                self._running = None
                continue
            yield labels
            if self.over or self.used >= end:
                return


def part_seconds(budget: float, evaluation: float) -> float:
    """Seconds of a part of a `budget` if an evaluation takes `evaluation` seconds."""
    wanted = evaluation * (1.0 - _EVALUATING) / _EVALUATING
    return min(max(budget / PARTS, wanted), budget / _FEWEST_PARTS)


def some_structures(atoms: list[int], most: int = EVALUATED_ATOMS) -> list[int]:
    """Indices of structures with so many `atoms`, spread over all of them, which have no more than `most` together."""
    every = max(1, -(-sum(atoms) // most))
    return list(range(0, len(atoms), every))


def thinned(indices: list[int], share: float) -> list[int]:
    """About that `share` of `indices`, spread over all of them, and twenty at least."""
    wanted = max(20, round(share * len(indices)))
    return indices[:: max(1, -(-len(indices) // wanted))]
