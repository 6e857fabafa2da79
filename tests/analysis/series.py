"""Time series whose statistics are known exactly."""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter


def ar1(n: int, phi: float, seed: int) -> np.ndarray:
    """Stationary ``x[t+1] = phi x[t] + noise`` of unit variance, (n,)."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=n) * np.sqrt(1.0 - phi**2)
    noise[0] = random.normal()
    return lfilter([1.0], [1.0, -phi], noise)


def error_of_mean(n: int, phi: float) -> float:
    """Exact standard error of the mean of `n` values of `ar1`."""
    lag = np.arange(1, n)
    return float(np.sqrt((1.0 + 2.0 * ((1.0 - lag / n) * phi**lag).sum()) / n))
