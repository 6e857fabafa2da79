"""The filter against independent linear algebra: for a linear model it must be (weighted) ridge regression."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnpkit.errors import DivergedError, InputError
from nnpkit.optim.kalman import KalmanOptimizer, KalmanSettings, Measurement


def linear_problem(n_labels: int, n_weights: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    design = rng.normal(size=(n_labels, n_weights))
    labels = design @ rng.normal(size=n_weights) + 0.1 * rng.normal(size=n_labels)
    noise = rng.uniform(0.1, 2.0, size=n_labels)
    return design, labels, noise


def run_filter(design, labels, noise, settings: KalmanSettings, group: int = 1):
    optimizer = KalmanOptimizer(design.shape[1], settings)
    weights = torch.zeros(design.shape[1], dtype=torch.float64)
    for start in range(0, len(labels), group):
        rows = slice(start, start + group)
        jacobian = torch.as_tensor(design[rows])
        residual = torch.as_tensor(labels[rows]) - jacobian @ weights
        change, _ = optimizer.step(Measurement(residual, jacobian, torch.as_tensor(noise[rows])))
        weights += change
    return weights.numpy(), optimizer


@pytest.mark.parametrize(
    ("settings", "named", "unnamed"),
    [
        (KalmanSettings(), "noise.energy and noise.force (or lower learning_rate)", "noise_growth"),
        (KalmanSettings(observation_noise="blocks"), "noise_growth above 0", "noise.energy"),
        (KalmanSettings(dtype="float32"), "keep the covariance in float64", "noise_growth"),
    ],
)
def test_a_lost_filter_names_settings_that_it_has(settings: KalmanSettings, named: str, unnamed: str) -> None:
    """Where R is the number of blocks there is no noise.energy to raise."""
    rows = torch.ones(2, 3, dtype=torch.float64)
    optimizer = KalmanOptimizer(3, settings)
    with pytest.raises(DivergedError, match="not finite") as caught:
        optimizer.step(Measurement(rows[:, 0] * torch.nan, rows, rows[:, 0]))
    assert named in str(caught.value)
    assert unnamed not in str(caught.value)


@pytest.mark.parametrize("group", [1, 4, 30])
def test_linear_model_gives_ridge_regression(group):
    design, labels, noise = linear_problem(30, 7)
    weights, optimizer = run_filter(design, labels, noise, KalmanSettings(initial_covariance=3.0), group)
    information = design.T @ (design / noise[:, None]) + np.eye(7) / 3.0
    expected = np.linalg.solve(information, design.T @ (labels / noise))
    assert np.allclose(weights, expected, rtol=1e-12, atol=1e-13)
    assert np.allclose(
        optimizer.covariance.dense().numpy(), np.linalg.inv(information), rtol=1e-12, atol=1e-14
    )


def test_forgetting_gives_exponentially_weighted_ridge_regression():
    design, labels, noise = linear_problem(25, 5, seed=1)
    rate = 0.93
    settings = KalmanSettings(initial_covariance=2.0, forgetting=rate, forgetting_rate=1.0)
    weights, optimizer = run_filter(design, labels, noise, settings)
    age = len(labels) - np.arange(len(labels))  # each label, and the prior, is discounted once per later step
    weight = rate**age / noise
    information = design.T @ (design * weight[:, None]) + np.eye(5) / 2.0 * rate ** len(labels)
    expected = np.linalg.solve(information, design.T @ (labels * weight))
    assert np.allclose(weights, expected, rtol=1e-11, atol=1e-12)
    assert np.allclose(
        optimizer.covariance.dense().numpy(), np.linalg.inv(information), rtol=1e-11, atol=1e-13
    )


def test_process_noise_and_schedules():
    settings = KalmanSettings(
        process_noise=0.1,
        process_noise_decay=1.0,
        process_noise_minimum=0.02,
        noise_decay=0.5,
        noise_minimum=0.3,
    )
    optimizer = KalmanOptimizer(2, settings)
    optimizer.begin_epoch(1)
    assert optimizer.process_noise == pytest.approx(0.1 * np.exp(-1.0))
    assert optimizer.noise_factor == pytest.approx(np.exp(-0.5))
    optimizer.begin_epoch(9)
    assert optimizer.process_noise == 0.02
    assert optimizer.noise_factor == 0.3
    jacobian = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    optimizer.step(
        Measurement(torch.ones(1, dtype=torch.float64), jacobian, torch.ones(1, dtype=torch.float64))
    )
    expected = torch.diag(torch.tensor([1.0 - 1.0 / 1.3 + 0.02, 1.02], dtype=torch.float64))
    assert torch.allclose(optimizer.covariance.dense(), expected, rtol=1e-14)


def test_forgetting_factor_follows_its_recursion():
    optimizer = KalmanOptimizer(1, KalmanSettings(forgetting=0.98, forgetting_rate=0.9987))
    one = torch.ones(1, 1, dtype=torch.float64)
    expected = 0.98
    for _ in range(5):
        optimizer.step(Measurement(one[0], one, one[0]))
        expected = 0.9987 * expected + 1.0 - 0.9987
    assert float(optimizer.forgetting) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize(("length", "rate", "first"), [(100, 1 / 500, 0.02), (10000, 1 / 2000, 0.0075)])
def test_a_filter_without_a_rate_forgets_for_a_fifth_of_its_training(length, rate, first):
    optimizer = KalmanOptimizer(1, KalmanSettings(forgetting=0.98, forgetting_rate=None), length=length)
    one = torch.ones(1, 1, dtype=torch.float64)
    expected = 0.02
    for _ in range(5):
        optimizer.step(Measurement(one[0], one, one[0]))
        expected = min(expected * (1.0 - rate), first)
    assert 1.0 - float(optimizer.forgetting) == pytest.approx(expected, rel=1e-12)


def test_a_filter_with_a_budget_of_time_learns_how_long_its_training_is():
    optimizer = KalmanOptimizer(1, KalmanSettings(forgetting=0.98, forgetting_rate=None), length=10**9)
    one = torch.ones(1, 1, dtype=torch.float64)
    optimizer.follow(0.0001)
    optimizer.step(Measurement(one[0], one, one[0]))
    assert 1.0 - float(optimizer.forgetting) == pytest.approx(0.02 * (1.0 - 1.0 / 500.0), rel=1e-12)
    optimizer.updates = 599
    optimizer.follow(0.06)  # so 10000 in all
    optimizer.step(Measurement(one[0], one, one[0]))
    assert 1.0 - float(optimizer.forgetting) == pytest.approx(0.0075, rel=1e-12)


def test_covariance_stays_symmetric_and_positive_over_many_steps():
    rng = np.random.default_rng(2)
    optimizer = KalmanOptimizer(20, KalmanSettings(initial_covariance=100.0))
    for _ in range(2000):
        jacobian = torch.as_tensor(rng.normal(size=(3, 20)))
        noise = torch.full((3,), 0.01, dtype=torch.float64)
        optimizer.step(Measurement(torch.as_tensor(rng.normal(size=3)), jacobian, noise))
    covariance = optimizer.covariance.dense()
    assert torch.equal(covariance, covariance.T)
    assert torch.linalg.eigvalsh(covariance).min() > 0.0


def test_innovation_is_one_when_the_noise_is_right():
    rng = np.random.default_rng(3)
    truth = rng.normal(size=6)
    optimizer = KalmanOptimizer(6, KalmanSettings(initial_covariance=1.0))
    weights, scores = np.zeros(6), []
    for _ in range(400):
        jacobian = rng.normal(size=(5, 6))
        labels = jacobian @ truth + 0.2 * rng.normal(size=5)
        noise = torch.full((5,), 0.04, dtype=torch.float64)
        measurement = Measurement(
            torch.as_tensor(labels - jacobian @ weights), torch.as_tensor(jacobian), noise
        )
        change, report = optimizer.step(measurement)
        weights += change.numpy()
        scores.append(report.innovation)
    assert np.mean(scores) == pytest.approx(1.0, abs=0.1)


def test_state_round_trip_continues_identically():
    design, labels, noise = linear_problem(20, 6, seed=4)
    settings = KalmanSettings(forgetting=0.98)
    _, whole = run_filter(design, labels, noise, settings)
    _, first = run_filter(design[:10], labels[:10], noise[:10], settings)
    second = KalmanOptimizer(6, settings)
    second.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
    for row in range(10, 20):
        measurement = Measurement(
            torch.as_tensor(labels[row : row + 1]),
            torch.as_tensor(design[row : row + 1]),
            torch.as_tensor(noise[row : row + 1]),
        )
        second.step(measurement)
    assert torch.equal(second.covariance.dense(), whole.covariance.dense())
    assert torch.equal(second.forgetting, whole.forgetting)


def test_lost_positive_definiteness_is_said_with_the_setting_to_change():
    optimizer = KalmanOptimizer(2, KalmanSettings())
    jacobian = torch.ones(1, 2, dtype=torch.float64)
    with pytest.raises(InputError, match="aise the observation noise"):
        optimizer.step(
            Measurement(
                torch.ones(1, dtype=torch.float64), jacobian, torch.full((1,), -5.0, dtype=torch.float64)
            )
        )


def test_covariance_of_another_model_is_refused():
    with pytest.raises(InputError, match="weights"):
        KalmanOptimizer(3, KalmanSettings()).load_state_dict(
            KalmanOptimizer(4, KalmanSettings()).state_dict()
        )


@pytest.mark.parametrize("group", [31, 32, 33, 60])
def test_measurements_with_more_labels_than_lazy_updates(group):
    design, labels, noise = linear_problem(120, 40, seed=6)
    weights, _ = run_filter(design, labels, noise, KalmanSettings(initial_covariance=3.0), group)
    information = design.T @ (design / noise[:, None]) + np.eye(40) / 3.0
    assert np.allclose(
        weights, np.linalg.solve(information, design.T @ (labels / noise)), rtol=1e-10, atol=1e-11
    )
