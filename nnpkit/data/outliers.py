"""Which numbers are out of the ordinary."""

from __future__ import annotations

import numpy as np

__all__ = ["inliers"]

_OUTLYING = 20.0
_FEW = 0.2


def inliers(errors: np.ndarray) -> np.ndarray:
    """Mask (S,) of absolute `errors` (S,) that are not beyond 20 times their median; all, if those are not few.

    More than a fifth are no outliers but another kind of data.
    """
    kept = errors <= _OUTLYING * np.median(errors)
    return kept if np.count_nonzero(~kept) <= _FEW * len(errors) else np.ones(len(errors), dtype=bool)
