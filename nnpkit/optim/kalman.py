"""The global extended Kalman filter for network weights.

State: weights w and their covariance P. One measurement of M labels with residual ``xi = y - y_hat(w)``, Jacobian
``H = d y_hat/d w`` and noise covariance R updates both (Singhal and Wu 1988; Shao et al., J. Chem. Phys. 155,
204108 (2021), Algorithm 2, whose J is ``d xi/d w = -H`` up to the sign convention of the residual)::

    A = (H P H^T + R)^-1
    K = P H^T A
    w <- w + K xi
    P <- (I - K H) P / lambda + Q

with P(0) = p0 I. Shao et al. use R = I/eta, Q = 0, lambda = 1; a process noise Q = q I that decays from epoch to
epoch and a learning rate that grows are those of Singraber et al., J. Chem. Theory Comput. 15, 3075 (2019),
eqs. 15-20; the forgetting factor ``lambda <- nu lambda + 1 - nu`` is that of Hu et al. (RLEKF, AAAI 2023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from nnpkit.errors import InputError

__all__ = ["KalmanOptimizer", "KalmanReport", "KalmanSettings", "Measurement"]


class Measurement(NamedTuple):
    """M labels at once, as the optimizer sees them."""

    residual: Tensor  # (M,) label minus prediction
    jacobian: Tensor  # (M, P) d prediction / d weights
    noise: Tensor  # (M,) variance of the observation noise


class KalmanReport(NamedTuple):
    """How one update went."""

    innovation: float  # residual^T A residual / M: 1 where P and R describe the errors
    step: float  # Euclidean norm of the change of the weights
    forgetting: float


@dataclass(frozen=True)
class KalmanSettings:
    """Constants of the filter; the defaults are algorithm 2 of Shao et al. (2021).

    Attributes
    ----------
    initial_covariance : float
        P(0) = initial_covariance * I.
    process_noise, process_noise_decay, process_noise_minimum : float
        Q = q I with ``q = max(minimum, q0 exp(-decay * epoch))``, none if q0 is 0.
    noise_decay, noise_minimum : float
        The observation noise is multiplied by ``max(noise_minimum, exp(-noise_decay * epoch))``.
    forgetting, forgetting_rate : float
        lambda(0) and nu of ``lambda <- nu lambda + 1 - nu``.
    """

    initial_covariance: float = 1.0
    process_noise: float = 0.0
    process_noise_decay: float = 2.302
    process_noise_minimum: float = 0.0
    noise_decay: float = 0.0
    noise_minimum: float = 1.0
    forgetting: float = 1.0
    forgetting_rate: float = 0.9987


class KalmanOptimizer:
    """Extended Kalman filter with one covariance matrix for all weights, in float64.

    Parameters
    ----------
    n_parameters : int
        Number of weights; the covariance takes ``8 * n_parameters**2`` bytes.
    settings : KalmanSettings
        Constants of the filter.
    """

    def __init__(self, n_parameters: int, settings: KalmanSettings) -> None:
        self.settings = settings
        self.covariance = torch.eye(n_parameters, dtype=torch.float64) * settings.initial_covariance
        self.forgetting = torch.tensor(settings.forgetting, dtype=torch.float64)
        self.begin_epoch(0)

    def begin_epoch(self, epoch: int) -> None:
        """Set the process noise and the noise factor of `epoch` (counted from 0)."""
        s = self.settings
        decayed = s.process_noise * math.exp(-s.process_noise_decay * epoch)
        self.process_noise = max(s.process_noise_minimum, decayed) if s.process_noise > 0.0 else 0.0
        self.noise_factor = max(s.noise_minimum, math.exp(-s.noise_decay * epoch))

    @torch.no_grad()
    def step(self, measurement: Measurement) -> tuple[Tensor, KalmanReport]:
        """Change of the weights (P,) that `measurement` asks for, and a report; the covariance is updated.

        Raises
        ------
        InputError
            If the innovation covariance is not positive definite or something is not finite.
        """
        residual, jacobian, noise = measurement
        covariance_jacobian = self.covariance @ jacobian.T  # P H^T  (P, M)
        innovation_covariance = jacobian @ covariance_jacobian  # H P H^T (M, M)
        innovation_covariance.diagonal().add_(noise * self.noise_factor)
        factor, failed = torch.linalg.cholesky_ex(innovation_covariance)
        if int(failed) != 0 or not bool(torch.isfinite(residual).all()):
            raise InputError(
                "the Kalman filter lost its way: the innovation covariance is not positive definite",
                where="training.optimizer",
                hint="raise the observation noise (noise.energy, noise.force) or lower initial_covariance",
            )
        # With A = (L L^T)^-1 and Y = L^-1 H P: K xi = Y^T L^-1 xi and K H P = Y^T Y, symmetric by construction.
        whitened = torch.linalg.solve_triangular(factor, covariance_jacobian.T, upper=False)  # Y (M, P)
        score = torch.linalg.solve_triangular(factor, residual.unsqueeze(1), upper=False)  # L^-1 xi (M, 1)
        change = (whitened.T @ score).squeeze(1)
        self.covariance.addmm_(whitened.T, whitened, alpha=-1.0)
        if self.settings.forgetting < 1.0:
            self.covariance.div_(self.forgetting)
            nu = self.settings.forgetting_rate
            self.forgetting.mul_(nu).add_(1.0 - nu)
        if self.process_noise > 0.0:
            self.covariance.diagonal().add_(self.process_noise)
        report = KalmanReport(float(score.square().mean()), float(change.norm()), float(self.forgetting))
        return change, report

    def health(self) -> dict[str, float]:
        """Trace and extreme diagonal entries of P."""
        diagonal = self.covariance.diagonal()
        return {
            "trace": float(diagonal.sum()), "smallest": float(diagonal.min()), "largest": float(diagonal.max())
        }  # fmt: skip

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that the next step depends on, exactly."""
        return {"covariance": self.covariance, "forgetting": self.forgetting}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict`; InputError if it belongs to another number of weights."""
        if state["covariance"].shape != self.covariance.shape:
            raise InputError(
                f"the checkpoint's covariance is for {len(state['covariance'])} weights", where="training.optimizer",
                expected=f"{len(self.covariance)}", hint="resume with the model that wrote the checkpoint",
            )  # fmt: skip
        self.covariance.copy_(state["covariance"])
        self.forgetting.copy_(state["forgetting"])
