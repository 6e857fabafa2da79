"""When a training evaluates, saves and stops, and how far it is."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["RunState", "TrainerSettings"]


@dataclass(frozen=True)
class TrainerSettings:
    """When to evaluate, save and stop.

    Attributes
    ----------
    epochs, evaluate_every, checkpoint_every : int
        In epochs.
    time : float or None
        Seconds to train, instead of `epochs`; see `nnpkit.training.budget`.
    keep : int
        Checkpoints that are kept beside that of the best epoch.
    monitor : str
        Error that decides which epoch is the best; see `monitored`.
    patience : int or None
        Evaluations without improvement after which training stops; None never does.
    min_delta : float
        Relative improvement that counts as one.
    warm : bool
        The weights at the beginning are those of another training: they are not the best epoch if there is any
        other, because they know nothing of the new data.
    ahead : bool
        Prepare structures that are not kept in a thread of its own before they are used.
    """

    epochs: int = 30
    evaluate_every: int = 1
    checkpoint_every: int = 1
    keep: int = 3
    monitor: str = "energy_force"
    patience: int | None = None
    min_delta: float = 0.0
    warm: bool = False
    time: float | None = None
    ahead: bool = False


@dataclass
class RunState:
    """How far a run is; part of every checkpoint."""

    epoch: int = 0  # epochs done
    updates: int = 0
    updates_by_kind: dict[str, int] = field(default_factory=dict)  # energy, force, energy+force, ...
    retreats: int = 0  # times that the training was taken back, see `nnpkit.training.guard`
    in_a_row: int = 0  # those since the last epoch that was not taken back
    seconds: float = 0.0
    best_epoch: int | None = None
    best_error: float = math.inf
    reference_error: float = math.inf  # last improvement that counted as one
    waited: int = 0  # evaluations since then
    errors: dict[str, dict[str, Any]] = field(default_factory=dict)  # of the best epoch
    warm: bool = False  # whether the weights at the beginning were those of another training

    def to_json(self) -> dict[str, Any]:
        """JSON-able values; infinite ones as None."""
        values = asdict(self)
        return {k: None if isinstance(v, float) and math.isinf(v) else v for k, v in values.items()}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RunState:
        """The inverse of `to_json`."""
        known: dict[str, Any] = {
            k: math.inf if v is None and k.endswith("_error") else v for k, v in values.items()
        }
        return cls(**known)
