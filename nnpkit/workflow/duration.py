"""How long a training is: epochs, updates, or seconds."""

from __future__ import annotations

from nnpkit.config.schema import Config
from nnpkit.section import seconds
from nnpkit.training.schedules.random_order import Schedule

__all__ = ["planned", "time_budget"]

_MANY = 10**9


def planned(config: Config, schedule: Schedule, warm: bool) -> tuple[int, int]:
    """Epochs, and updates in them, that a training is going to have; `warm` if it has the weights of another run."""
    training = config.training
    if warm and config.start is not None and config.start.epochs is not None:
        return config.start.epochs, sum(map(schedule.epoch_length, range(config.start.epochs)))
    epochs = training.epochs
    if training.time is not None:
        return epochs, _MANY  # as many as there will be: schedules follow the time
    updates = sum(map(schedule.epoch_length, range(epochs)))
    while epochs > 0 and 0 < updates < training.min_updates:
        updates += schedule.epoch_length(epochs)
        epochs += 1
    return epochs, updates


def time_budget(config: Config, warm: bool) -> float | None:
    """Seconds that a training may take; None if it counts epochs. `warm` if it has the weights of another run."""
    if config.training.time is None or (
        warm and config.start is not None and config.start.epochs is not None
    ):
        return None
    return seconds(config.training.time)
