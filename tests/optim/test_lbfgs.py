"""L-BFGS against the dense formulas, against scipy, and on functions whose minimum is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, rosen, rosen_der
from torch import Tensor

from nnpkit.optim import lbfgs
from nnpkit.optim.lbfgs import Lbfgs


def rosenbrock(scale: float = 1.0):
    """Rosenbrock's function and a list of the points where it was evaluated."""
    seen: list[np.ndarray] = []

    def evaluate(x: Tensor) -> tuple[float, Tensor]:
        seen.append(x.numpy().copy())
        return scale * rosen(x.numpy()), torch.from_numpy(scale * rosen_der(x.numpy()))

    return evaluate, seen


def run(optimizer: Lbfgs, x: Tensor, evaluate, n: int) -> tuple[Tensor, list[lbfgs.LbfgsReport]]:
    """Iterate `n` times."""
    reports = []
    for _ in range(n):
        x, report = optimizer.step(x, evaluate)
        reports.append(report)
    return x, reports


def test_direction_is_that_of_the_dense_formula():
    random = torch.Generator().manual_seed(1)
    n, m = 9, 4
    root = torch.randn(n, n, generator=random, dtype=torch.float64)
    curvature = root @ root.T + torch.eye(n)
    optimizer = Lbfgs(history=m)
    for _ in range(6):
        s = torch.randn(n, generator=random, dtype=torch.float64)
        optimizer._remember(s, curvature @ s)
    assert len(optimizer.steps) == m
    s, y = optimizer.steps[-1], optimizer.changes[-1]
    inverse = torch.eye(n, dtype=torch.float64) * (s @ y) / (y @ y)
    for s, y in zip(optimizer.steps, optimizer.changes, strict=True):  # eq. 6.17 of Nocedal and Wright
        rho = 1.0 / (s @ y)
        left = torch.eye(n, dtype=torch.float64) - rho * torch.outer(s, y)
        inverse = left @ inverse @ left.T + rho * torch.outer(s, s)
    gradient = torch.randn(n, generator=random, dtype=torch.float64)
    torch.testing.assert_close(optimizer._direction(gradient), -inverse @ gradient, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e9])
def test_rosenbrock_in_any_unit(scale):
    evaluate, seen = rosenbrock(scale)
    start = torch.full((10,), -1.2, dtype=torch.float64)
    x, _ = run(Lbfgs(history=10), start, evaluate, 120)
    np.testing.assert_allclose(x.numpy(), 1.0, atol=1e-7)
    peer = minimize(
        rosen, start.numpy(), jac=rosen_der, method="L-BFGS-B", options={"maxcor": 10, "ftol": 1e-15}
    )
    needed = next(k for k, point in enumerate(seen) if rosen(point) < 1e-8)
    assert needed < 1.5 * peer.nfev


def test_every_step_satisfies_the_strong_wolfe_conditions():
    evaluate, _ = rosenbrock()
    optimizer, x = Lbfgs(), torch.linspace(-2.0, 2.0, 6, dtype=torch.float64)
    for _ in range(25):
        new, report = optimizer.step(x, evaluate)
        (before, g), (after, h) = evaluate(x), evaluate(new)
        step = new - x
        assert report.loss == after
        assert after <= before + 1e-4 * float(g @ step) + 1e-15 * abs(before)
        assert abs(float(h @ step)) <= 0.9 * abs(float(g @ step))
        x = new


def test_no_evaluation_is_made_twice():
    evaluate, seen = rosenbrock()
    _, reports = run(Lbfgs(), torch.full((4,), -0.7, dtype=torch.float64), evaluate, 20)
    assert sum(report.evaluations for report in reports) == len(seen) == len({x.tobytes() for x in seen})


def test_a_minimum_is_recognised_and_kept():
    def parabola(x: Tensor) -> tuple[float, Tensor]:
        return float(1.0 + (x - 3.0).square().sum()), 2.0 * (x - 3.0)

    optimizer = Lbfgs()
    x, reports = run(optimizer, torch.zeros(5, dtype=torch.float64), parabola, 30)
    np.testing.assert_allclose(x.numpy(), 3.0, atol=1e-7)
    assert optimizer.finished
    assert (reports[-1].step, reports[-1].evaluations) == (0.0, 0)


def test_a_cliff_is_stepped_back_from():
    def walled(x: Tensor) -> tuple[float, Tensor]:
        if float(x[0]) > 1.5:
            return float("nan"), torch.full_like(x, float("nan"))
        return float((x - 1.4).square().sum()), 2.0 * (x - 1.4)

    x, _ = run(Lbfgs(), torch.full((3,), -9.0, dtype=torch.float64), walled, 30)
    np.testing.assert_allclose(x.numpy(), 1.4, atol=1e-7)


@pytest.mark.parametrize("stop", [0, 1, 7])
def test_state_is_exact(stop):
    evaluate, _ = rosenbrock()
    start = torch.full((6,), -1.1, dtype=torch.float64)
    whole, _ = run(Lbfgs(history=3), start, evaluate, 15)
    first = Lbfgs(history=3)
    x, _ = run(first, start, evaluate, stop)
    second = Lbfgs(history=3)
    second.load_state_dict({name: tensor.clone() for name, tensor in first.state_dict().items()})
    resumed, _ = run(second, x, evaluate, 15 - stop)
    assert torch.equal(resumed, whole)
