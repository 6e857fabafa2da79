"""What families and terms may look at when they make a new model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from nnpkit.data.structure import Structure

__all__ = ["TrainingData"]


class TrainingData(Protocol):
    """What a new model may look at."""

    elements: list[str]

    @property
    def train(self) -> Sequence[Structure]:
        """Training structures."""
        ...

    @property
    def min_distance(self) -> dict[str, float]:
        """Shortest distance, Å, of every pair of elements in them."""
        ...
