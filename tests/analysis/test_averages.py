"""Errors of correlated averages against the exact ones of an autoregressive process."""

from __future__ import annotations

import numpy as np
import pytest
from series import ar1, error_of_mean

from nnpkit.analysis.averages import block_average, equilibration, settled, statistical_inefficiency


@pytest.mark.parametrize("phi", [0.0, 0.6, 0.95])
def test_the_error_of_blocking_is_the_scatter_of_the_mean(phi: float) -> None:
    n = 4096
    averages = [block_average(ar1(n, phi, seed)) for seed in range(200)]
    exact = error_of_mean(n, phi)
    np.testing.assert_allclose(np.mean([a.error for a in averages]), exact, rtol=0.1)
    scores = np.array([a.mean / a.error for a in averages])
    assert 0.85 < scores.std() < 1.25
    assert np.mean([a.reliable for a in averages]) > 0.95


def test_a_series_shorter_than_its_memory_says_so() -> None:
    assert not block_average(np.linspace(0.0, 1.0, 100)).reliable
    naive = np.std(np.linspace(0.0, 1.0, 100)) / 10
    assert block_average(np.linspace(0.0, 1.0, 100)).error > 3 * naive


def test_few_or_equal_values() -> None:
    assert block_average(np.full(50, 2.5)) == (2.5, 0.0, 1, True)
    one = block_average(np.array([3.0]))
    assert one.mean == 3.0
    assert np.isnan(one.error)
    assert np.isnan(block_average(np.zeros(0)).mean)
    assert block_average(np.array([1.0, 2.0, 3.0])).error == pytest.approx(1 / np.sqrt(3))


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_statistical_inefficiency(phi: float) -> None:
    g = np.mean([statistical_inefficiency(ar1(20000, phi, seed)) for seed in range(20)])
    np.testing.assert_allclose(g, (1 + phi) / (1 - phi), rtol=0.1)
    assert statistical_inefficiency(np.ones(10)) == 1.0


def test_equilibration_finds_the_end_of_a_relaxation() -> None:
    found = []
    for seed in range(20):
        series = ar1(2000, 0.5, seed)
        series[:400] += np.linspace(20.0, 0.0, 400)
        found.append(equilibration(series))
    assert 300 < np.median(found) < 480
    assert equilibration(ar1(2000, 0.5, 1)) < 500
    assert equilibration(np.ones(3)) == 0


@pytest.mark.parametrize("phi", [0.0, 0.6, 0.95])
def test_a_long_stationary_series_has_settled(phi: float) -> None:
    """All but few: the four rules together are wrong in less than one of ten."""
    assert sum(settled(ar1(4096, phi, seed)) is None for seed in range(50)) >= 45


@pytest.mark.parametrize("phi", [0.0, 0.6, 0.95])
def test_a_series_that_drifts_has_not_settled(phi: float) -> None:
    """A rise by four standard deviations along the run, as of a density in a run that is too short."""
    drift = np.linspace(0.0, 4.0, 2000)
    assert all(settled(ar1(2000, phi, seed) + drift) is not None for seed in range(20))


def test_a_late_jump_has_not_settled() -> None:
    series = ar1(1000, 0.5, 3)
    series[750:] += 15.0
    assert settled(series, 750) == "it still changes at the end"


def test_a_run_of_few_correlation_times_has_not_settled() -> None:
    found = [settled(ar1(300, 0.99, seed)) for seed in range(20)]
    assert sum(reason is not None for reason in found) >= 19
    assert settled(np.ones(3)) is not None
    assert settled(np.full(100, 0.3) + 1e-17) is None  # a constant, as the density at constant volume


def test_rounding_is_no_error() -> None:
    series = np.full(50, 0.1) * np.linspace(1.0, 1.0 + 1e-16, 50)
    assert block_average(series).error == 0.0
