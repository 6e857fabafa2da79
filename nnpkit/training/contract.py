"""What the program asks of an optimizer: its settings in the YAML, and the update of a training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from nnpkit.measure.contract import Measures, Predicts
from nnpkit.measure.label_choice import Available
from nnpkit.measure.observations import Noise
from nnpkit.parallel import ALONE, Ranks
from nnpkit.section import Section
from nnpkit.training.ridge import Ridge
from nnpkit.training.updates import Update

__all__ = ["OptimizerKind", "UpdateTask"]


@dataclass(frozen=True)
class UpdateTask:
    """What an update is made for.

    Attributes
    ----------
    settings : Section
        The section ``training.optimizer``.
    weights : Section
        The section ``training.weights``.
    store : Predicts
        The prepared training structures, with the model.
    available : sequence of Available
        Which labels they have.
    n_updates : int
        Length of the training.
    observe : callable
        What measures the labels, of the `Noise` that a Kalman filter takes them to have.
    ridge : callable
        The ridge that the training has, of what measures its labels; None without.
    groups : sequence of str or None
        Names of the groups of the structures, where there are any.
    group_weights : list of float or None
        Weight of each structure by its group, where that is not one; the observer knows it.
    ranks : Ranks
        The processes that train together.
    device : str
        Where a covariance is kept.
    """

    settings: Any
    weights: Any
    store: Predicts
    available: Sequence[Available]
    n_updates: int
    observe: Callable[[Noise], Measures]
    ridge: Callable[[Measures], Ridge | None]
    groups: Sequence[str] | None = None
    group_weights: Sequence[float] | None = None
    ranks: Ranks = ALONE
    device: str = "cpu"


class OptimizerKind(ABC):
    """An optimizer; `settings` is the section ``training.optimizer``, with its ``kind``."""

    settings: ClassVar[type[Section]]
    parallel: ClassVar[bool] = False
    """Whether its update divides its work among `UpdateTask.ranks`."""

    @abstractmethod
    def update(self, task: UpdateTask) -> Update:
        """What turns the labels of each update into new weights."""
