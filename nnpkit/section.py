"""What all sections of the configuration have in common."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from nnpkit.errors import InputError

__all__ = [
    "Duration",
    "Fraction",
    "NonNegative",
    "PathList",
    "Positive",
    "PositiveInt",
    "Section",
    "default_kind",
    "given_seconds",
    "refuse_unused",
    "seconds",
]


class Section(BaseModel):
    """A mapping of the YAML: unknown keys are errors, values are not converted from other types."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def _as_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


def default_kind(kind: str) -> BeforeValidator:
    """Let a section without ``kind`` be of the default kind."""

    def add_kind(value: Any) -> Any:
        return {"kind": kind, **value} if isinstance(value, dict) else value

    return BeforeValidator(add_kind)


def refuse_unused(settings: Iterable[tuple[bool, bool, str, str]]) -> None:
    """Refuse settings that would have no effect.

    Parameters
    ----------
    settings : iterable of tuple
        Whether it is not the default, whether it has no effect, its name, why not.

    Raises
    ------
    ValueError
        Naming the first of them.
    """
    for changed, without_effect, name, reason in settings:
        if changed and without_effect:
            raise ValueError(f"{name} has no effect: {reason}")


_SECONDS = {"s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def _in_seconds(value: Any) -> Any:
    """Seconds of a time such as ``90s``, ``10min``, ``1.5h``; a bare number is not one."""
    found = (
        re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(s|min|h|d)\s*", value) if isinstance(value, str) else None
    )
    if found is None:
        raise ValueError("expected a number with a unit, such as 90s, 10min or 1.5h")
    if float(found[1]) == 0.0:
        raise ValueError("expected more than no time")
    return value.strip()


def seconds(time: str) -> float:
    """Seconds of a `Duration`."""
    number = time.rstrip("smindh ")
    return float(number) * _SECONDS[time[len(number) :].strip()]


def given_seconds(time: str, where: str) -> float:
    """Seconds of a time that is no setting; `where` it was given.

    Raises
    ------
    InputError
        If it is none.
    """
    try:
        return seconds(_in_seconds(time))
    except ValueError as problem:
        raise InputError(f"{time!r} is no time", where=where, expected=str(problem)[9:]) from None


Duration = Annotated[str, BeforeValidator(_in_seconds)]
Positive = Annotated[float, Field(gt=0.0)]
NonNegative = Annotated[float, Field(ge=0.0)]
Fraction = Annotated[float, Field(ge=0.0, lt=1.0)]
PositiveInt = Annotated[int, Field(ge=1)]
PathList = Annotated[
    list[str], Field(min_length=1), BeforeValidator(_as_list, json_schema_input_type=list[str] | str)
]
"""One path or a list of them."""
