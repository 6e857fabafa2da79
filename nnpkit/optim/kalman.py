"""The extended Kalman filter for network weights: one class for the whole family.

State: weights w (kept by the caller) and their covariance P, of independent blocks P_l
(`nnpkit.optim.partition`). One measurement of M labels with residual ``xi = y - y_hat(w)``, Jacobian
``H = d y_hat/d w`` of columns H_l, and noise covariance R updates both::

    A   = (sum_l H_l P_l H_l^T + R)^-1              (M, M)
    K_l = P_l H_l^T A
    w_l <- w_l + K_l xi
    P_l <- (P_l - K_l H_l P_l) / lambda + Q
    lambda <- nu lambda + 1 - nu

with ``P(0) = p0 I``. Published members of the family are settings of it:

- Algorithm 2 of Shao et al., J. Chem. Phys. 155, 204108 (2021): one block, R = I/eta, lambda = 1, Q = 0; their J is
  ``d xi/d w = -H`` up to the sign convention of the residual. `KalmanSettings.shao`.
- Algorithm 2 of Hu et al. (RLEKF, AAAI 2023): blocks, labels reduced to one number, ``R = L lambda`` with L the
  number of blocks. `KalmanSettings.rlekf`. Their theory (eq. 5) divides P by lambda before the measurement
  and has ``R = L``; that is the same update, with the division at the other end of the step.
- FEKF of Hu et al. (PPoPP 2024): labels of the structures of a batch are averaged, and ``w <- w + sqrt(B) K xi`` with B
  structures (`reduction`, `batch_exponent`).
- A process noise Q = q I that decays from epoch to epoch and a noise that shrinks (a learning rate that grows):
  Singraber et al., J. Chem. Theory Comput. 15, 3075 (2019), eqs. 15-20; in general Singhal and Wu (1988).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from nnpkit.errors import DivergedError, InputError
from nnpkit.optim import blas
from nnpkit.optim.covariance import Covariance
from nnpkit.optim.covariance_memory import require_memory
from nnpkit.optim.drift import DRIFT_LIMIT, WINDOW
from nnpkit.optim.kalman_settings import WHERE, KalmanSettings
from nnpkit.optim.late_tensors import joined
from nnpkit.optim.measurement import Measurement, batch_mean, signed_mean, signed_sum
from nnpkit.optim.partition import Layer, Partition, make_partition
from nnpkit.optim.robust import RobustNoise
from nnpkit.optim.shared_blocks import SharedBlocks
from nnpkit.parallel import ALONE, Ranks

__all__ = ["KalmanOptimizer", "KalmanReport", "KalmanSettings", "Measurement", "signed_mean"]

_ROBUST = "robust."
_SETTLED = 6.0  # rate at which a filter that forgets becomes one that does not, per budget
_SHORTEST, _MOST = 500.0, 750.0  # see `KalmanSettings.forgetting_rate`
_CAUTIOUS = 16.0  # largest factor on the noise after retreats
_SMALLER, _SMALLEST = 16.0, 4096.0  # what P(0) is divided by for each restart, and at most
_KNOWN = 0.02  # part of a budget after which the number of updates that it buys can be told


class KalmanReport(NamedTuple):
    """How one update went."""

    innovation: float  # xi^T A xi / M: 1 on average where P and R describe the errors
    step: float  # Euclidean norm of the change of the weights
    gain: float  # Frobenius norm of K
    forgetting: float  # lambda of the next update
    noise_share: float  # of R in the diagonal of H P H^T + R; what is left comes from the uncertain weights


class _Solution(NamedTuple):
    """What an update comes to; the covariance is the new one already."""

    change: Tensor  # (P,) of the weights
    innovation: Tensor  # xi^T A xi / M
    gain_square: Tensor  # |K|^2


def _lost(what: str, settings: KalmanSettings) -> DivergedError:
    """The error of a filter that cannot go on, with the settings that these have."""
    noise = "raise noise.energy and noise.force (or lower learning_rate)"
    if settings.observation_noise == "blocks":
        noise = "set noise_growth above 0"
    single = ", or keep the covariance in float64" if settings.dtype == "float32" else ""
    return DivergedError(
        f"the Kalman filter lost its way: {what}", where=WHERE,
        hint=f"lower initial_covariance, {noise}, or set forgetting closer to 1{single}",
    )  # fmt: skip


class KalmanOptimizer:
    """Extended Kalman filter; the formulas are in the module.

    Parameters
    ----------
    partition : Partition or int
        Blocks of the covariance; a number of weights means one block for all of them.
    settings : KalmanSettings
        Constants and conventions.
    device : str or torch.device
        Where the covariance lives; measurements may come from anywhere.
    ranks : Ranks
        Processes that share the blocks, and which of them this is, see `nnpkit.optim.shared_blocks`.
    available : int, optional
        Bytes that the covariance may take; by default that is not checked.
    length : int
        Updates that the training is going to have, for a forgetting that follows it.
    robust : RobustNoise, optional
        Lets the noise follow the errors and damps outliers, where the origin of labels is known.
    weights : Tensor, optional
        Of structures (S,): what the variance of the noise of their labels is divided by, whatever it follows.

    Raises
    ------
    InputError
        If the covariance would need more than `available`, before it is allocated.
    """

    def __init__(
        self,
        partition: Partition | int,
        settings: KalmanSettings,
        *,
        device: str | torch.device = "cpu",
        ranks: Ranks | None = None,
        available: int | None = None,
        length: int = 0,
        robust: RobustNoise | None = None,
        weights: Tensor | None = None,
    ) -> None:
        if isinstance(partition, int):
            partition = make_partition("global", [Layer("all weights", partition)])
        self.partition, self.settings, self.ranks = partition, settings, ranks or ALONE
        self.robust, self.weights, self.length = robust, weights, length
        self.shared = SharedBlocks(partition, self.ranks)
        self.active: Tensor | None = None  # (P,) False of weights that are known
        owned = self.shared.owned
        triangles = torch.device(device).type == "cpu"
        if available is not None:
            require_memory(
                partition, available, settings.dtype, settings.lazy_rank, triangles=triangles, owned=owned
            )
        if triangles:
            blas.follow_torch()
        self.covariance = Covariance(
            self.shared.mine, settings.initial_covariance, dtype=settings.dtype, lazy_rank=settings.lazy_rank,
            device=device, spread=self.shared.spread_over,
        )  # fmt: skip
        self.forgetting = torch.tensor(settings.forgetting, dtype=torch.float64)
        self.updates = 0
        self.prior = settings.initial_covariance  # variance of a weight of which nothing is known
        self.fraction: float | None = None  # of a budget of time that is used
        self.caution = 1.0  # factor on the observation noise, see `retreat`
        self._returned: int | None = None  # updates of the state that the last retreat went back to
        # In single precision: drift at the end of the last window, innovation variance at the beginning of this one.
        self.drift, self._variance = 0.0, math.inf
        self.begin_epoch(0)

    def freeze(self, active: Tensor) -> None:
        """Take weights for known whose `active` (P,) is False; see `Covariance.freeze`."""
        self.active = None if bool(active.all()) else active
        self.covariance.freeze(self.shared.narrow(active))

    @property
    def n_active_blocks(self) -> int:
        """Number of blocks, of all processes, with a weight that is not known."""
        blocks = self.partition.blocks
        if self.active is None:
            return len(blocks)
        return sum(bool(self.active[block.start : block.stop].any()) for block in blocks)

    def retreat(self, state: Mapping[str, Tensor] | None) -> None:
        """Go back to an earlier `state` or, without one, to the beginning, and believe everything less from now on.

        A state that has led astray twice is not trusted a third time: all but what is known of the noise begins anew,
        with a covariance that says nothing of what the weights have learnt together, and is smaller each time.
        """
        caution, updates, prior, forgetting = self.caution, self.updates, self.prior, float(self.forgetting)
        returned = 0 if state is None else int(state["updates"])
        again = returned == self._returned
        if state is None:
            self.forgetting.fill_(self.settings.forgetting)
            if self.robust is not None:
                self.robust.restart()
        else:
            self.load_state_dict(state)
        if state is None or again:
            first = self.settings.initial_covariance
            self.prior = max(min(prior, first) / (_SMALLER if again else 1.0), first / _SMALLEST)
            self.covariance.restart()
            self.covariance.multiply(self.prior / first)
            self.drift, self._variance = 0.0, math.inf
        self.caution, self.updates = min(_CAUTIOUS, 4.0 * max(caution, self.caution)), updates
        self.forgetting.copy_(self.forgetting.clamp(min=forgetting) if again else self.forgetting).add_(
            1.0
        ).div_(2.0)
        self._returned = returned

    def begin_epoch(self, epoch: int) -> None:
        """Set the process noise and the noise factor of `epoch` (counted from 0)."""
        s = self.settings
        decayed = s.process_noise * math.exp(-s.process_noise_decay * epoch)
        self.process_noise = max(s.process_noise_minimum, decayed) if s.process_noise > 0.0 else 0.0
        self.noise_factor = max(s.noise_minimum, math.exp(-s.noise_decay * epoch))

    def follow(self, fraction: float) -> None:
        """Let noise and forgetting settle with the `fraction` (0 to 1) of its budget that a training has used."""
        self.fraction = fraction

    @torch.no_grad()
    def step(self, measurement: Measurement) -> tuple[Tensor, KalmanReport]:
        """Change of the weights (P,) that `measurement` asks for, and a report; the covariance is updated.

        Raises
        ------
        InputError
            If a noise is negative, the innovation covariance is not positive definite, something is not finite, or
            rounding has spoilt a covariance in single precision.
        """
        longer = 1.0
        if self.settings.reduction == "batch_mean":
            measurement, n_structures = batch_mean(measurement)
            longer = n_structures**self.settings.batch_exponent
        elif self.settings.reduction != "none":
            reduce = signed_sum if self.settings.reduction == "signed_sum" else signed_mean
            measurement = reduce(measurement)
        home = measurement.jacobian.device
        with blas.undisturbed() if self.covariance.device.type == "cpu" else contextlib.nullcontext():
            change, report = self._update(measurement)
        if longer == 1.0:
            return change.to(home), report
        return longer * change.to(home), report._replace(step=longer * report.step, gain=longer * report.gain)

    def _update(self, measurement: Measurement) -> tuple[Tensor, KalmanReport]:
        """The formulas of the module, in their order."""
        variance = self._noise(measurement.noise.to(torch.float64))
        residual, jacobian, variance = (
            tensor.to(self.covariance.device, torch.float64) for tensor in (*measurement[:2], variance)
        )
        if jacobian.shape[1] == self.partition.n_parameters:
            jacobian = self.shared.narrow(jacobian)
        # H P, and from it the innovation covariance H P H^T + R = sum_l H_l P_l H_l^T + R = F F^T = A^-1
        predicted = self.covariance.product(jacobian)
        own = predicted @ jacobian.T
        own.diagonal().add_(self.covariance.rounding(jacobian))
        innovation_covariance = self.shared.add(own)
        if self.robust is not None and measurement.origin is not None:
            expected = innovation_covariance.diagonal().cpu()
            factor = self.robust.uncertainty(residual.cpu(), expected, variance.cpu(), measurement.origin)
            if factor > 1.0:  # P <- factor P
                self.covariance.multiply(factor)
                self.prior *= factor
                predicted, innovation_covariance = factor * predicted, factor * innovation_covariance
                expected = factor * expected
            variance = self.robust.observed(residual.cpu(), expected, variance.cpu(), measurement.origin).to(
                residual
            )
        if self.weights is not None and measurement.origin is not None:
            structure = measurement.origin.structure
            weight = torch.where(structure >= 0, self.weights[structure.clamp(min=0)], 1.0)
            variance = variance / weight.to(variance)
        forget = self._forget_observed if self.settings.forget == "observed" else self._forget_all
        solution = forget(predicted, innovation_covariance, variance, residual)
        if self.settings.forgetting < 1.0:
            self._forget_less()
        self.covariance.add_to_diagonal(self.process_noise)
        self.updates += 1
        total = innovation_covariance.diagonal() + variance
        if self.covariance.drift is not None and self.updates % WINDOW == 1:
            self._measure_drift(jacobian[:1], float(total[0]))
        numbers = torch.stack([
            solution.innovation, solution.change.norm(), solution.gain_square.sqrt(), (variance / total).mean()
        ])  # fmt: skip
        innovation, step, gain, share = numbers.tolist()  # one transfer from a GPU
        return solution.change, KalmanReport(innovation, step, gain, float(self.forgetting), share)

    def _forget_less(self) -> None:
        """``lambda <- nu lambda + 1 - nu``, and at least as close to one as the used part of a budget asks for."""
        most, nu = 1.0 - self.settings.forgetting, self.settings.forgetting_rate
        least = 0.0 if self.fraction is None else 1.0 - most * math.exp(-_SETTLED * self.fraction)
        if nu is None:
            length: float = self.length
            if self.fraction is not None:
                length = (self.updates + 1) / self.fraction if self.fraction >= _KNOWN else 0
            nu = 1.0 - 1.0 / max(_SHORTEST, length / 5.0)
            least = max(least, 1.0 - most * min(1.0, _MOST * (1.0 - nu)))
        self.forgetting.mul_(nu).add_(1.0 - nu).clamp_(min=least)

    def _forget_all(
        self, predicted: Tensor, explained: Tensor, variance: Tensor, residual: Tensor
    ) -> _Solution:
        """The update with H P (M, P), H P H^T (M, M) and R (M,), all of P being divided by lambda afterwards."""
        innovation_covariance = explained.clone()
        innovation_covariance.diagonal().add_(variance)
        factor = self._factor(innovation_covariance, residual)
        # With Y = F^-1 H P: K = Y^T F^-1, so that K xi = Y^T (F^-1 xi), and K H P = Y^T Y, symmetric by construction.
        whitened = torch.linalg.solve_triangular(factor, predicted, upper=False)
        score = torch.linalg.solve_triangular(factor, residual[:, None], upper=False)[
            :, 0
        ]  # xi^T A xi = |score|^2
        inverse = torch.linalg.solve_triangular(factor, torch.eye(len(factor)).to(factor), upper=False)
        gain_square = ((whitened @ whitened.T) @ inverse * inverse).sum()  # |K|^2 = |Y^T F^-1|^2
        # P <- (P - K H P) / lambda + Q
        change, gain_square = self._conclude(whitened, score @ whitened, gain_square)
        if self.settings.forgetting < 1.0:
            factor, limit = 1.0 / float(self.forgetting), self.settings.covariance_limit
            if limit is None:
                self.covariance.multiply(factor)
            else:
                self.covariance.inflate(factor, limit * self.prior)
        return _Solution(change, score.square().mean(), gain_square)

    def _forget_observed(
        self, predicted: Tensor, explained: Tensor, variance: Tensor, residual: Tensor
    ) -> _Solution:
        """The same, but lambda divides P only in the directions that are observed, and never makes it larger.

        With ``R^-1/2 H P H^T R^-1/2 = V diag(g) V^T`` and ``D = V^T R^-1/2 H P`` the directions are independent.
        """
        if not bool(torch.isfinite(residual).all() & torch.isfinite(explained).all()):
            raise _lost("a residual or a gradient is not finite", self.settings)
        forgetting, root = float(self.forgetting), variance.clamp(min=1e-300).rsqrt()
        g, vectors = torch.linalg.eigh(explained * root[:, None] * root)
        g = g.clamp(min=1e-300)
        directions = vectors.T @ (predicted * root[:, None])
        score = vectors.T @ (residual * root)
        to_weights = (vectors / (g + forgetting)).T * root  # K = D^T diag(1 / (g + lambda)) V^T R^-1/2
        gain_square = ((directions @ directions.T) * (to_weights @ to_weights.T)).sum()
        gained = (g - (1.0 - forgetting)).clamp(min=0.0) / (g * (g + forgetting))
        change, gain_square = self._conclude(
            directions * gained.sqrt()[:, None], (score / (g + forgetting)) @ directions, gain_square
        )
        return _Solution(change, (score.square() / (g + 1.0)).mean(), gain_square)

    def _conclude(self, y: Tensor, own: Tensor, square: Tensor) -> tuple[Tensor, Tensor]:
        """``P <- P - y^T y``; change (P,) of all weights and squared gain, from those of the own ones.

        All processes fail if one does, and learn that together with the rest.
        """
        failure = None
        try:
            self.covariance.subtract(y)
        except DivergedError as error:
            failure = error
        change, square, failed = self.shared.conclude(own, square, failure is not None)
        if failed:
            raise failure or _lost(
                "a covariance of another process is not positive definite any more", self.settings
            )
        return change, square

    def _noise(self, given: Tensor) -> Tensor:
        """Diagonal (M,) of R."""
        if self.settings.observation_noise == "blocks":
            given = torch.full_like(given, self.n_active_blocks * float(self.forgetting))
        elif bool((given < 0.0).any()):
            raise InputError(
                f"the observation noise has a variance of {float(given.min()):.3g}", where=WHERE,
                hint="raise the observation noise (noise.energy, noise.force) above zero",
            )  # fmt: skip
        grown = min(self.settings.noise_maximum, 1.0 + self.settings.noise_growth * self.updates)
        if self.fraction is not None and self.settings.noise_growth > 0.0:
            grown = self.settings.noise_maximum**self.fraction
        return given * (self.noise_factor * grown * self.caution)

    def _factor(self, innovation_covariance: Tensor, residual: Tensor) -> Tensor:
        """Lower triangular F with ``F F^T = innovation_covariance``."""
        factor, failed = torch.linalg.cholesky_ex(innovation_covariance)
        finite = torch.isfinite(residual).all() & torch.isfinite(innovation_covariance).all()
        if not bool(finite & (failed == 0)):  # one transfer from a GPU
            what = "the innovation covariance is not positive definite"
            raise _lost(what if finite else "a residual or a gradient is not finite", self.settings)
        return factor

    def _measure_drift(self, row: Tensor, variance: float) -> None:
        """End a window of updates and begin one with the `row` (1, P) of a Jacobian and its innovation variance."""
        square = float(self.shared.add(self.covariance.square_error(row, seed=self.updates)))
        self.drift, self._variance = math.sqrt(square) / self._variance, variance
        if not self.drift < DRIFT_LIMIT:
            raise DivergedError(
                f"the covariance has lost its precision: in the {WINDOW} updates before update {self.updates} rounding "
                f"changed the innovation variance by {100 * self.drift:.0f} %",
                where=WHERE,
                hint="keep the covariance in float64; a run can be resumed so from its last checkpoint",
            )

    def health(self) -> dict[str, float]:
        """Trace and extreme diagonal entries of P (of weights that are not frozen), forgetting, drift in float32."""
        diagonal = self.shared.spread(self.covariance.diagonal())
        if self.active is not None:
            diagonal = diagonal[self.active]
        health = {
            "trace": float(diagonal.sum()),
            "smallest": float(diagonal.min()),
            "largest": float(diagonal.max()),
            "forgetting": float(self.forgetting),
        }
        return health | ({"drift": self.drift} if self.settings.dtype == "float32" else {})

    def state_dict(self) -> Mapping[str, Tensor]:
        """Everything that the next step depends on, exactly; blocks are copied when they are asked for.

        Processes that share the covariance call this together, and each has the pieces that it keeps.
        """
        small = {
            "forgetting": self.forgetting,
            "updates": torch.tensor(self.updates),
            "caution": torch.tensor(self.caution, dtype=torch.float64),
            "prior": torch.tensor(self.prior, dtype=torch.float64),
            **{_ROBUST + n: v for n, v in ({} if self.robust is None else self.robust.state_dict()).items()},
            "drift": torch.tensor([self.drift, self._variance], dtype=torch.float64),
        }
        return joined(self.shared.state_dict(self.covariance), small)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore `state_dict`; InputError if it belongs to another partition or number of weights."""
        self.shared.load_state_dict(self.covariance, state)
        self.active = state.get("active")
        self.forgetting.copy_(state["forgetting"])
        self.updates = int(state["updates"])
        self.caution = float(state.get("caution", 1.0))
        self.prior = float(state.get("prior", self.settings.initial_covariance))
        own = {n.removeprefix(_ROBUST): state[n] for n in state if n.startswith(_ROBUST)}
        if self.robust is not None and own:
            self.robust.load_state_dict(own)
        self.drift, self._variance = state["drift"].tolist()
