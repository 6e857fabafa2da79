"""Adam with the small number of its TensorFlow implementation."""

from __future__ import annotations

import math

import torch

__all__ = ["Adam"]


class Adam(torch.optim.Adam):
    """Adam (Kingma and Ba 2017) as algorithm 1 of Shao et al. (2021).

    The step is ``lr * m_hat / (sqrt(v_hat) + eps_t)`` with ``eps_t = eps / sqrt(1 - beta2^t)``, that is with
    the constant `eps` beside the second moment before its bias correction, where torch has a constant eps_t.
    """

    def __init__(
        self, params, lr: float = 1e-4, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-7
    ) -> None:
        super().__init__(params, lr=lr, betas=betas, eps=eps)
        self._constant = eps

    def step(self, closure=None):
        """One step; see the class."""
        for group in self.param_groups:
            state = self.state.get(group["params"][0])
            t = 1 + (int(state["step"]) if state else 0)
            group["eps"] = self._constant / math.sqrt(1.0 - group["betas"][1] ** t)
        return super().step(closure)
