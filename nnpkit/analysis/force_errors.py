"""Errors of the direction and the magnitude of forces.

Cooper et al., npj Comput. Mater. 6, 54 (2020), Figs. 3 and 5: small forces have large errors in their direction, and a
mean over components hides that.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

__all__ = ["ErrorMap", "direction_errors", "error_map", "magnitude_errors"]


class ErrorMap(NamedTuple):
    """Relative frequency of errors in the direction, by the magnitude of the reference force."""

    force: np.ndarray  # (A + 1,) edges, eV/Å
    angle: np.ndarray  # (B + 1,) edges, degrees
    frequency: np.ndarray  # (A, B), the sum is 1 with all atoms in the map


def direction_errors(predicted: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Angles (N,) in degrees between predicted and reference forces (N, 3); NaN where one of them vanishes."""
    lengths = np.linalg.norm(predicted, axis=1) * np.linalg.norm(label, axis=1)
    # of the half angle: exact for small angles too, where the cosine is not
    a = predicted * np.linalg.norm(label, axis=1)[:, None]
    b = label * np.linalg.norm(predicted, axis=1)[:, None]
    angle = 2.0 * np.arctan2(np.linalg.norm(a - b, axis=1), np.linalg.norm(a + b, axis=1))
    return np.where(lengths > 0.0, np.degrees(angle), np.nan)


def magnitude_errors(predicted: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Predicted minus reference magnitude (N,) of forces (N, 3), eV/Å."""
    return np.linalg.norm(predicted, axis=1) - np.linalg.norm(label, axis=1)


def error_map(
    predicted: np.ndarray, label: np.ndarray, bins: tuple[int, int] = (60, 60), largest: float | None = None
) -> tuple[ErrorMap, dict[str, Any]]:
    """Map of direction errors over force magnitudes, and its summary.

    Parameters
    ----------
    predicted, label : (N, 3) arrays
        eV/Å; rows with NaN are left out.
    bins : (int, int)
        Of magnitude and angle.
    largest : float, optional
        eV/Å, end of the magnitudes; by default their 99.5 % quantile.

    Returns
    -------
    map : ErrorMap
        Frequencies.
    summary : dict
        ``n_atoms``, ``force_mae`` (per component, as in the paper's panels), ``magnitude_mae``, ``magnitude_rmse``
        (eV/Å), ``direction_median``, ``direction_mean`` and, for the atoms with more than the median reference
        force, ``direction_median_large`` (degrees).
    """
    known = np.isfinite(predicted).all(axis=1) & np.isfinite(label).all(axis=1)
    predicted, label = predicted[known], label[known]
    size, angle = np.linalg.norm(label, axis=1), direction_errors(predicted, label)
    defined = np.isfinite(angle)
    if largest is None:
        largest = float(np.quantile(size, 0.995)) if len(size) else 1.0
    edges = np.linspace(0.0, largest or 1.0, bins[0] + 1), np.linspace(0.0, 180.0, bins[1] + 1)
    counts = np.histogram2d(size[defined], angle[defined], bins=edges)[0]
    magnitude = magnitude_errors(predicted, label)
    large = defined & (size >= np.median(size)) if len(size) else defined
    summary = {
        "n_atoms": len(size), "force_mae": _mean(np.abs(predicted - label)), "magnitude_mae": _mean(np.abs(magnitude)),
        "magnitude_rmse": float(np.sqrt(np.mean(magnitude**2))) if len(size) else None,
        "direction_mean": _mean(angle[defined]), "direction_median": _median(angle[defined]),
        "direction_median_large": _median(angle[large]),
    }  # fmt: skip
    return ErrorMap(*edges, counts / max(1, int(defined.sum()))), summary


def _mean(values: np.ndarray) -> float | None:
    return float(values.mean()) if values.size else None


def _median(values: np.ndarray) -> float | None:
    return float(np.median(values)) if values.size else None
