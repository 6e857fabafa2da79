"""Averages of correlated time series with honest errors, and where equilibrium begins."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Average", "block_average", "equilibration", "settled", "statistical_inefficiency"]

_CANDIDATES = 60
_MIN_BLOCKS = 4
_MIN_INDEPENDENT = 10.0  # values in an average with an error bar
_DRIFT = 3.0  # standard errors between the halves of a series that still drifts
_DISCARDED = 0.6  # of the series: what begins that late was cut off by the search, not by equilibrium


class Average(NamedTuple):
    """Mean of a time series and its standard error."""

    mean: float
    error: float  # NaN if there are too few values to tell
    block: int  # length of the blocks taken as independent, in samples
    reliable: bool  # False: the series is too short for its correlation, the error is a lower bound


def block_average(series: np.ndarray) -> Average:
    """Mean and standard error of a correlated series by blocking.

    Neighbours are averaged pairwise again and again; the naive error of the mean of the blocks grows to a
    plateau when they become independent (Flyvbjerg and Petersen, J. Chem. Phys. 91, 461 (1989)).
    The level taken is the first with ``B^3 > 2 n (error_B / error_1)^4`` for blocks of B of the n values,
    where bias and noise of the estimate balance (Wolff, Comput. Phys. Commun. 156, 143 (2004); Lee et al.,
    Phys. Rev. E 83, 066706 (2011)).

    Parameters
    ----------
    series : (T,) array
        Equally spaced values.
    """
    blocks = np.asarray(series, dtype=np.float64)
    n = len(blocks)
    mean = float(blocks.mean()) if n else float("nan")
    if n < 2:
        return Average(mean, float("nan"), 1, False)
    errors: list[float] = []
    while len(blocks) >= _MIN_BLOCKS or not errors:
        errors.append(float(np.std(blocks, ddof=1) / np.sqrt(len(blocks))))
        even = len(blocks) // 2 * 2
        blocks = blocks[:even].reshape(-1, 2).mean(axis=1)
    if errors[0] <= 1e-14 * abs(mean):  # rounding of a constant
        return Average(mean, 0.0, 1, True)
    for level, error in enumerate(errors):
        if 8.0**level > 2.0 * n * (error / errors[0]) ** 4:
            return Average(mean, error, 2**level, True)
    level = int(np.argmax(errors))
    return Average(mean, errors[level], 2**level, False)


def settled(series: np.ndarray, start: int = 0) -> str | None:
    """Why the average from `start` on is not one of equilibrium; None if nothing speaks against it.

    It has settled if

    1. equilibrium begins before 0.6 of the series, by `start` and by the rule of `equilibration`,
    2. what is averaged holds 10 independent values at least: its length over its `statistical_inefficiency`,
    3. the error has a plateau under blocking (`block_average`), and
    4. the means of its two halves differ by less than 3 of their combined standard errors.

    A slow drift makes all values depend on each other, so that the second rule finds it where the fourth, whose
    errors grow with the drift, does not.

    Parameters
    ----------
    series : (T,) array
        Equally spaced values of the whole run.
    start : int
        Index where the average begins.
    """
    values = np.asarray(series, dtype=np.float64)[start:]
    n = len(values)
    if n < 2 * _MIN_BLOCKS:
        return f"{n} values are too few"
    if np.ptp(values) <= 1e-12 * max(1.0, float(np.abs(values).max())):
        return None
    if max(start, equilibration(series)) > _DISCARDED * len(series):
        return "it still changes at the end"
    independent = n / statistical_inefficiency(values)
    halves = [block_average(half) for half in np.array_split(values, 2)]
    difference = abs(halves[0].mean - halves[1].mean)
    if difference > _DRIFT * float(np.hypot(halves[0].error, halves[1].error)):
        return "its halves differ: it still drifts"
    if independent < _MIN_INDEPENDENT:
        return f"the run holds {independent:.1f} independent values"
    return None if block_average(values).reliable else "the run is short for its correlation"


def statistical_inefficiency(series: np.ndarray) -> float:
    """Number of values g >= 1 that count as one independent value.

    ``g = 1 + 2 sum_t (1 - t/n) C(t)``, summed until the normalised autocorrelation C first falls to zero
    (Chodera et al., J. Chem. Theory Comput. 3, 26 (2007)). A constant series gives 1.
    """
    values = np.asarray(series, dtype=np.float64)
    n = len(values)
    values = values - values.mean() if n else values
    variance = float(values @ values)
    if n < 3 or variance == 0.0:
        return 1.0
    spectrum = np.fft.rfft(values, 2 * n)
    overlap = np.fft.irfft(spectrum * spectrum.conj(), 2 * n)[:n] / variance  # (1 - t/n) C(t)
    crossing = np.flatnonzero(overlap[1:] <= 0.0)
    last = int(crossing[0]) + 1 if len(crossing) else n
    return max(1.0, 1.0 + 2.0 * float(overlap[1:last].sum()))


def equilibration(series: np.ndarray) -> int:
    """Index from which the series is best averaged: the start that leaves most independent values.

    Chodera, J. Chem. Theory Comput. 12, 1799 (2016): maximise ``(n - start) / g`` over the start, here among
    60 starts within the first two thirds.
    """
    n = len(series)
    starts = np.unique(np.linspace(0, 2 * n // 3, _CANDIDATES).astype(int)) if n >= 6 else np.zeros(1, int)
    counts = [(n - start) / statistical_inefficiency(series[start:]) for start in starts]
    return int(starts[int(np.argmax(counts))])
