"""Rules by which a number that came out here agrees with a paper, or does not.

A claim names its rule and gives it numbers, the paper's and ours; words and verdict follow from these alone. None among
our numbers stands for something that did not happen: a target that was never reached, a run that failed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

__all__ = ["RULES", "Judgement", "judge"]

Numbers = Sequence[float | None]


class Judgement(NamedTuple):
    """What a rule says, and what follows from it; None: cannot tell."""

    words: str
    agrees: bool | None


def within_factor(here: Numbers, paper: float, factor: float, at_least: bool = False) -> Judgement:
    """Every one of `here` is the paper's number within a factor; `at_least` says that they are lower bounds."""
    words = f"within a factor {factor:g} of {paper:g}"
    if not here:
        return Judgement(words, None)
    if any(value is None or value <= 0.0 for value in here):
        return Judgement(words, False)
    numbers = np.array(here, dtype=float)
    if at_least:
        return Judgement(words, False if (numbers > paper * factor).all() else None)
    return Judgement(words, bool(((numbers >= paper / factor) & (numbers <= paper * factor)).all()))


def within_interval(
    here: Numbers, low: float | None = None, high: float | None = None, unit: str = ""
) -> Judgement:
    """Every one of `here` lies in an interval, of which one end may be open."""
    unit = f" {unit}" if unit else ""
    if low is None:
        words = f"at most {high:g}{unit}"
    else:
        words = f"at least {low:g}{unit}" if high is None else f"between {low:g} and {high:g}{unit}"
    if not here:
        return Judgement(words, None)
    if any(value is None for value in here):
        return Judgement(words, False)
    numbers = np.array(here, dtype=float)
    lower, upper = -np.inf if low is None else low, np.inf if high is None else high
    return Judgement(words, bool(((numbers >= lower) & (numbers <= upper)).all()))


def close(here: Numbers, paper: Sequence[float], tolerance: float) -> Judgement:
    """Every one of `here` is the paper's number of the same place within a tolerance."""
    words = f"each within {tolerance:g}"
    if not here:
        return Judgement(words, None)
    if len(here) != len(paper) or any(value is None for value in here):
        return Judgement(words, False)
    difference = np.abs(np.array(here, dtype=float) - np.array(paper, dtype=float))
    return Judgement(words, bool((difference <= tolerance).all()))


def ordering(lower: Numbers, higher: Numbers, least: int = 1) -> Judgement:
    """What should be lower is so in every pair, of which there have to be `least`. None counts as infinite."""
    pairs = [
        (np.inf if a is None else a, np.inf if b is None else b) for a, b in zip(lower, higher, strict=True)
    ]
    words = "the first is lower" + (f", in all {len(pairs)} pairs" if len(pairs) > 1 else "")
    if len(pairs) < max(1, least):
        return Judgement(f"the first is lower in all of at least {least} runs (here {len(pairs)})", None)
    return Judgement(words, all(a < b for a, b in pairs))


def monotonic(here: Numbers, falls: bool) -> Judgement:
    """Every number is lower (or higher) than the one before."""
    words = f"each {'lower' if falls else 'higher'} than the one before"
    if len(here) < 2:
        return Judgement(words, None)
    if any(value is None for value in here):
        return Judgement(words, False)
    steps = np.diff(np.array(here, dtype=float))
    return Judgement(words, bool((steps < 0.0).all() if falls else (steps > 0.0).all()))


def smaller_spread(narrow: Numbers, wide: Numbers, level: float = 0.05) -> Judgement:
    """The variance of `narrow` is smaller than that of `wide` by an F test; no if it is larger; else cannot tell."""
    words = f"F test of the variances, p < {level:g}"
    a = np.array([value for value in narrow if value is not None], dtype=float)
    b = np.array([value for value in wide if value is not None], dtype=float)
    if len(a) < 3 or len(b) < 3:
        return Judgement(words + ", of at least 3 runs each", None)
    ratio = b.var(ddof=1) / a.var(ddof=1)
    if stats.f.sf(ratio, len(b) - 1, len(a) - 1) < level:
        return Judgement(words, True)
    return Judgement(words, False if ratio < 1.0 else None)


def cannot_tell(reason: str) -> Judgement:
    """What was run does not decide."""
    return Judgement(reason, None)


RULES: dict[str, Callable[..., Judgement]] = {
    rule.__name__: rule
    for rule in (
        within_factor, within_interval, close, ordering, monotonic, smaller_spread, cannot_tell,
    )
}  # fmt: skip


def judge(rule: str, numbers: dict[str, Any]) -> Judgement:
    """Words and verdict of a rule for its numbers."""
    return RULES[rule](**numbers)
