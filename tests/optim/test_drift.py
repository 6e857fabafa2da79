"""A covariance in single precision: kept positive by a noise floor, and measured."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nnpkit.errors import InputError
from nnpkit.optim import covariance as covariance_module
from nnpkit.optim import kalman
from nnpkit.optim.drift import NOISE_FLOOR, WINDOW
from nnpkit.optim.kalman import KalmanOptimizer, KalmanSettings, Measurement

N = 60
TRUTH = torch.linspace(-1.0, 1.0, N, dtype=torch.float64)


def narrow_rows(n_steps: int, n_directions: int = 8) -> torch.Tensor:
    """Gradients that nearly lie in a space of few directions, as those of potentials do."""
    rng = np.random.default_rng(0)
    directions = rng.normal(size=(n_directions, N)) * rng.uniform(0.1, 2.0, size=N)
    rows = rng.normal(size=(n_steps, n_directions)) @ directions + 0.05 * rng.normal(size=(n_steps, N))
    return torch.as_tensor(rows)


def run(dtype: str, noise: float, n_steps: int = 600) -> tuple[torch.Tensor, KalmanOptimizer]:
    optimizer = KalmanOptimizer(N, KalmanSettings(dtype=dtype))
    weights = torch.zeros(N, dtype=torch.float64)
    for row in narrow_rows(n_steps):
        residual = (row @ (TRUTH - weights))[None]
        change, _ = optimizer.step(Measurement(residual, row[None], torch.full_like(residual, noise)))
        weights += change
    return weights, optimizer


@pytest.mark.parametrize(("noise", "tolerance"), [(1.0, 3e-3), (1e-3, 3e-4), (1e-6, 3e-6)])
def test_single_precision_reaches_the_same_weights(noise, tolerance):
    """With variances that fall to 1e-11 of what they were; exact to rounding, small noise or none to speak of."""
    double, _ = run("float64", noise)
    single, optimizer = run("float32", noise)
    assert torch.allclose(single, double, rtol=0, atol=tolerance)
    assert torch.linalg.eigvalsh(optimizer.covariance.dense()).min() > 0.0
    assert 0.0 < optimizer.health()["drift"] < 1e-3


def test_without_the_noise_floor_the_filter_is_lost_and_says_what_to_do(monkeypatch):
    monkeypatch.setattr(covariance_module, "NOISE_FLOOR", 0.0)
    with pytest.raises(InputError, match=r"positive definite.*keep the covariance in float64"):
        run("float32", 1e-6)


def test_noise_floor_is_relative_to_the_variances():
    optimizer = KalmanOptimizer(N, KalmanSettings(dtype="float32", initial_covariance=5.0))
    row = narrow_rows(1)
    expected = NOISE_FLOOR * 5.0 * float(row.square().sum())
    assert optimizer.covariance.rounding(row).tolist() == pytest.approx([expected], rel=1e-6)
    assert KalmanOptimizer(N, KalmanSettings()).covariance.rounding(row).tolist() == [0.0]


def test_drift_is_the_error_of_the_innovation_variance():
    _, optimizer = run("float32", 1.0, WINDOW + 1)  # a window has just begun
    (lazy,) = optimizer.covariance.lazy_blocks
    error = 1e-4 * torch.randn(N, N, generator=torch.Generator().manual_seed(0))
    error = error + error.T
    lazy.matrix.matrix.add_(error)
    # Root mean square of h^T E h' over vectors with the magnitudes of the probe, for independent entries of E.
    squares = narrow_rows(WINDOW + 1)[-1].square().float()
    expected = math.sqrt(float(squares @ error.square() @ squares))
    row = narrow_rows(1)
    assert float(optimizer.covariance.square_error(row, seed=1)) ** 0.5 == pytest.approx(expected, rel=0.3)
    assert float(optimizer.covariance.square_error(row, seed=2)) ** 0.5 < 1e-3 * expected  # a new window


def test_the_guard_stops_the_filter_with_the_setting_to_change(monkeypatch):
    _, optimizer = run("float32", 1.0, WINDOW)
    monkeypatch.setattr(kalman, "DRIFT_LIMIT", 1e-9)
    row = narrow_rows(1)
    with pytest.raises(
        InputError, match=r"128 updates before update 129 rounding changed.*covariance in float64"
    ):
        optimizer.step(Measurement(row[0, :1], row, torch.ones(1, dtype=torch.float64)))


def test_single_precision_takes_half_the_memory():
    single, double = (KalmanOptimizer(N, KalmanSettings(dtype=dtype)) for dtype in ("float32", "float64"))
    assert 2 * single.covariance.n_bytes == double.covariance.n_bytes
    assert "drift" not in double.health()
