"""Adam against the formulas of Shao et al. (2021), algorithm 1, written out."""

from __future__ import annotations

import numpy as np
import torch

from nnpkit.optim.adam import Adam


def test_adam_follows_algorithm_1():
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(50, 4)) * 10.0 ** rng.integers(-8, 1, size=(50, 1))
    parameter = torch.nn.Parameter(torch.ones(4, dtype=torch.float64))
    optimizer = Adam([parameter], lr=1e-2)
    w, m, v = np.ones(4), np.zeros(4), np.zeros(4)
    for t, gradient in enumerate(gradients, start=1):
        parameter.grad = torch.as_tensor(gradient)
        optimizer.step()
        m = 0.9 * m + 0.1 * gradient
        v = 0.999 * v + 0.001 * gradient**2
        epsilon = 1e-7 / np.sqrt(1.0 - 0.999**t)
        w = w - 1e-2 * (m / (1.0 - 0.9**t)) / (np.sqrt(v / (1.0 - 0.999**t)) + epsilon)
        assert np.allclose(parameter.detach().numpy(), w, rtol=1e-12, atol=1e-14)
