"""Quality of the time integration: drift of the energy that should be constant."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nnpkit.analysis.averages import statistical_inefficiency

__all__ = ["Drift", "energy_drift"]


class Drift(NamedTuple):
    """Linear trend of an energy."""

    slope: float  # meV/atom/ps
    error: float  # standard error of the slope, meV/atom/ps; NaN for fewer than three samples
    fluctuation: float  # standard deviation about the line, meV/atom


def energy_drift(time: np.ndarray, energy: np.ndarray, n_atoms: int) -> Drift:
    """Slope of the total (or conserved) energy by linear regression, with an error that knows correlation.

    Ordinary least squares; residuals of an MD energy are correlated, so the variance of the slope,
    ``s^2 / sum (t - <t>)^2``, is multiplied by their statistical inefficiency g. A shadow Hamiltonian makes
    the energy of a symplectic integrator oscillate without drift: compare the slope with its error.

    Parameters
    ----------
    time : (T,) array
        ps.
    energy : (T,) array
        Of the whole system, eV.
    n_atoms : int
        Number of atoms.
    """
    if len(time) < 3:
        return Drift(float("nan"), float("nan"), float("nan"))
    t = np.asarray(time, dtype=np.float64) - np.mean(time)
    e = (np.asarray(energy, dtype=np.float64) - energy[0]) * (1000.0 / n_atoms)
    spread = float(t @ t)
    slope = float(t @ e) / spread
    residual = e - e.mean() - slope * t
    variance = float(residual @ residual) / (len(t) - 2)
    error = np.sqrt(variance * statistical_inefficiency(residual) / spread)
    return Drift(slope, float(error), float(np.sqrt(variance)))
