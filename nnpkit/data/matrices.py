"""Symmetric 3x3 matrices, in the forms in which files write them."""

from __future__ import annotations

from typing import Any

import numpy as np

from nnpkit.errors import InputError

__all__ = ["symmetric_matrix"]


def symmetric_matrix(value: Any, label: str = "matrix", name: str = "") -> np.ndarray:
    """Symmetric (3, 3) matrix from a matrix, its 9 entries or 6 in Voigt order (xx yy zz yz xz xy).

    Raises
    ------
    InputError
        If `value` has another shape or is not made of numbers.
    """
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        array = np.empty(0)
    if array.shape == (6,):
        return array[[[0, 5, 4], [5, 1, 3], [4, 3, 2]]]
    if array.size != 9:
        raise InputError(
            f"the {label} is not a 3x3 matrix", where=name or None, expected="3x3, 9 or 6 (Voigt) numbers"
        )
    array = array.reshape(3, 3)
    return (array + array.T) / 2
