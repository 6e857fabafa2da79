"""How properties of a structure are computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    """How properties are computed.

    Attributes
    ----------
    pressure_max : float
        GPa, of the compression.
    surfaces : sequence of str
        Their indices.
    extent : float
        Å; supercells of vacancies, interstitials and phonons are at least that wide.
    temperatures : sequence of float
        K, rising, of thermal expansion.
    """

    pressure_max: float = 50.0
    surfaces: Sequence[str] = ("111", "100", "110")
    extent: float = 10.0
    temperatures: Sequence[float] = (200.0, 400.0, 600.0)
