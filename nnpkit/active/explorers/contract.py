"""What active learning asks of an explorer: something that makes new structures with a committee that is watched."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nnpkit.data.structure import Structure
from nnpkit.deploy.load import LoadedModel

__all__ = ["Explored", "Explorer"]


class Explored(NamedTuple):
    """What a run has seen."""

    frames: list[Structure]  # collected, without labels; ``info["step"]``
    history: np.ndarray  # (T, 2): steps and their largest force disagreement, eV/Å
    extrapolations: np.ndarray  # (T,): features outside their ranges; empty if nobody counted
    ended: str  # how the run ended, in words


class Explorer(ABC):
    """An engine of ``exploration``; the same `job` and start give the same frames."""

    def prepare(self, folder: Path, start: Structure, job: Mapping[str, Any], own: str | None) -> None:  # noqa: B027
        """Write what the run needs beside ``job.json`` and ``start.xyz``.

        Parameters
        ----------
        own : str, optional
            Text of ``exploration.input``; only ``lammps`` has such.
        """

    @abstractmethod
    def run(self, folder: Path, start: Structure, model: LoadedModel, job: Mapping[str, Any]) -> Explored:
        """Run; `job` has conditions, seed, bounds of the disagreement and intervals as in ``job.json``."""
