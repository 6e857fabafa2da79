"""What is found of one property: numbers with units and errors, curves, figures, notes; or why there is nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from ase.calculators.calculator import CalculatorError

from nnpkit.errors import NnpkitError

__all__ = ["Result", "attempt"]


@dataclass
class Result:
    """Numbers of one property."""

    values: dict[str, tuple[float, str]] = field(default_factory=dict)  # by name: value and unit
    errors: dict[str, float] = field(default_factory=dict)  # standard errors, where there are some
    curves: dict[str, Any] = field(default_factory=dict)  # plain lists, for JSON
    figures: list[tuple[str, bytes]] = field(default_factory=list)  # caption and PNG
    notes: list[str] = field(default_factory=list)
    failed: str = ""  # why there are no numbers

    def plain(self) -> dict[str, Any]:
        """Everything but the figures, for JSON."""
        content: dict[str, Any] = {
            name: {"value": value, "unit": unit} for name, (value, unit) in self.values.items()
        }
        for name, error in self.errors.items():
            content[name]["error"] = error
        more = (("curves", self.curves), ("notes", self.notes), ("failed", self.failed))
        return content | {k: v for k, v in more if v}


def attempt(action: Callable[[], Result]) -> Result:
    """What an action finds, or why it does not: what has been computed before shall not be lost with it."""
    try:
        return action()
    except (NnpkitError, CalculatorError, RuntimeError) as error:
        return Result(
            failed=str(error) if isinstance(error, NnpkitError) else f"{type(error).__name__}: {error}"
        )
