"""Energy drift and its error."""

from __future__ import annotations

import numpy as np
from series import ar1

from nnpkit.analysis.dynamics import energy_drift


def test_an_exact_line() -> None:
    time = np.linspace(2.0, 12.0, 101)
    drift = energy_drift(time, -1000.0 + 0.03 * time, n_atoms=10)
    np.testing.assert_allclose(drift.slope, 3.0, rtol=1e-9)  # meV/atom/ps
    assert drift.error < 1e-8


def test_the_error_knows_correlation() -> None:
    time, slope = np.linspace(0.0, 10.0, 4000), 0.02
    drifts = [energy_drift(time, (slope * time + ar1(4000, 0.97, seed)) * 0.192, 192) for seed in range(200)]
    scores = np.array([(d.slope - slope) / d.error for d in drifts])
    assert 0.85 < scores.std() < 1.2
    assert abs(scores.mean()) < 0.25
    np.testing.assert_allclose(np.mean([d.fluctuation for d in drifts]), 1.0, rtol=0.05)


def test_too_few_samples() -> None:
    assert np.isnan(energy_drift(np.arange(2.0), np.zeros(2), 1).slope)
