"""One update's worth of labels -> new weights: by a Kalman filter or along a gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_, parameters_to_vector, vector_to_parameters

from nnpkit.errors import DivergedError
from nnpkit.measure.observations import Prefactors
from nnpkit.measure.sharing import measure_together, shares_of
from nnpkit.optim.kalman import KalmanOptimizer
from nnpkit.optim.late_tensors import joined, only
from nnpkit.optim.measurement import KINDS, Measurement
from nnpkit.parallel import ALONE, Ranks
from nnpkit.training.health import EpochReport, average, kalman_health, kinds_of_labels
from nnpkit.training.ridge import Ridge

if TYPE_CHECKING:
    from nnpkit.measure.label_choice import Labels

from nnpkit.measure.contract import Measures

__all__ = ["RIDGE", "GradientUpdate", "KalmanUpdate", "Update", "restore_observer", "with_observer"]

RIDGE = "ridge."
"""Prefix of what belongs to a ridge in the state of an update."""


class Update(Protocol):
    """What varies between optimizers."""

    def begin_epoch(self, epoch: int) -> None:
        """Prepare for `epoch`, counted from 0."""
        ...

    def follow(self, fraction: float) -> None:
        """Let schedules of the optimizer follow the `fraction` (0 to 1) of its budget that a training has used."""
        ...

    def apply(self, labels: Labels) -> dict[str, float]:
        """Change the weights once; return numbers worth logging."""
        ...

    def end_epoch(self, reports: Mapping[str, Sequence[float]]) -> EpochReport:
        """How the epoch went, given what its updates returned."""
        ...

    def retreat(self, state: Mapping[str, Tensor] | None) -> None:
        """Go back to an earlier `state`, or to the beginning without one, and be more careful from now on."""
        ...

    def state_dict(self) -> Mapping[str, Tensor]:
        """Tensors by name: all that later updates depend on, see `nnpkit.optim.late_tensors`."""
        ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore `state_dict`."""
        ...


class KalmanUpdate:
    """Every `apply` is one Kalman step with all its labels, and that of `ridge` if given, as one vector observation."""

    def __init__(self, optimizer: KalmanOptimizer, observer: Measures, ridge: Ridge | None = None) -> None:
        self.optimizer, self.observer, self.ridge = optimizer, observer, ridge
        self.parameters = observer.parameters
        self.epoch = 0

    def begin_epoch(self, epoch: int) -> None:
        """Set the epoch's process noise and noise factor."""
        self.epoch = epoch
        self.optimizer.begin_epoch(epoch)

    def follow(self, fraction: float) -> None:
        """Let noise and forgetting of the filter follow the budget."""
        self.optimizer.follow(fraction)

    def apply(self, labels: Labels) -> dict[str, float]:
        """Measure, filter, move the weights."""
        filter_ = self.optimizer
        alone = filter_.ranks.size == 1
        columns = filter_.shared.columns
        measurement = (
            self.observer.measure(labels)
            if alone
            else measure_together(self.observer, labels, filter_.ranks, columns)
        )
        if self.ridge is not None:
            robust, origin = self.optimizer.robust, measurement.origin
            growth = 1.0
            if robust is not None and origin is not None:
                growth = robust.inflation(measurement.noise, origin)
            measurement = self.ridge.observed(measurement, growth, columns[filter_.ranks.rank])
        change, report = filter_.step(measurement)
        vector_to_parameters(parameters_to_vector(self.parameters).detach() + change, self.parameters)
        kinds = kinds_of_labels(labels)
        own = {}
        if len(kinds) == 1:
            own = {f"{name}_{kinds[0]}": getattr(report, name) for name in ("innovation", "noise_share")}
        return {**report._asdict(), **own, **_typical_residuals(measurement)}

    def retreat(self, state: Mapping[str, Tensor] | None) -> None:
        """Go back to `state`, or to the beginning without one, and believe all labels less from now on."""
        rest = None if state is None else self._restored(state)
        self.optimizer.retreat(rest)

    def freeze(self, active: Tensor) -> None:
        """Leave weights as they are whose `active` (P,) is False, and count them as known."""
        self.optimizer.freeze(active)
        if self.ridge is not None:
            self.ridge.concerned &= active

    @property
    def record(self) -> Tensor | None:
        """How often the labels of each structure were outliers, see `nnpkit.optim.robust.RobustNoise`."""
        return None if self.optimizer.robust is None else self.optimizer.robust.record

    def end_epoch(self, reports: Mapping[str, Sequence[float]]) -> EpochReport:
        """Health of the filter."""
        return kalman_health(self.optimizer, self.observer.noise, reports, self.epoch)

    def state_dict(self) -> Mapping[str, Tensor]:
        """State of the filter, and of the draws of the ridge."""
        own = {} if self.ridge is None else self.ridge.state_dict()
        draws = {RIDGE + name: value for name, value in own.items()}
        return with_observer(joined(self.optimizer.state_dict(), draws), self.observer)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore the filter."""
        self.optimizer.load_state_dict(self._restored(state))

    def _restored(self, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Restore observer and ridge; what is left is the state of the filter."""
        rest = restore_observer(self.observer, state)
        own = {name.removeprefix(RIDGE): rest[name] for name in rest if name.startswith(RIDGE)}
        if self.ridge is not None and own:
            self.ridge.load_state_dict(own)
        return only(rest, lambda name: not name.startswith(RIDGE))


class GradientUpdate:
    """One step of a `torch.optim.Optimizer` on the L2 loss, with clipping and step-wise learning rate decay.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Holds the parameters of the observer's networks in one group.
    observer : Measures
        Gives the loss.
    clip : float or None
        Gradients longer than this are scaled back to it.
    decay, decay_steps : float, int
        The learning rate is multiplied by `decay` every `decay_steps` updates.
    prefactors : Prefactors, optional
        Weights of the loss that follow the learning rate, instead of the observer's own.
    ridge : Ridge, optional
        Adds its penalty to the loss.
    last_ratio : float
        Last learning rate over the first one, for a training that has a budget of time.
    ranks : Ranks
        Processes that share the labels of each update; their gradients are added up.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        observer: Measures,
        clip: float | None,
        decay: float,
        decay_steps: int,
        prefactors: Prefactors | None = None,
        ridge: Ridge | None = None,
        last_ratio: float = 0.01,
        ranks: Ranks = ALONE,
    ) -> None:
        self.ranks = ranks
        self.optimizer, self.observer, self.clip, self.ridge = optimizer, observer, clip, ridge
        self.decay, self.decay_steps, self.prefactors = decay, decay_steps, prefactors
        self.parameters = observer.parameters
        self.learning_rate = optimizer.param_groups[0]["lr"]
        self.last_ratio = last_ratio
        self.followed: float | None = None
        self.updates = 0
        self.caution = 1.0  # factor on the learning rate, see `retreat`

    def begin_epoch(self, epoch: int) -> None:
        """Nothing depends on the epoch."""

    def follow(self, fraction: float) -> None:
        """Let the learning rate decay so that its last ratio to the first one is reached at the end of the budget."""
        self.followed = fraction

    def apply(self, labels: Labels) -> dict[str, float]:
        """Compute the gradient, clip it, step."""
        group = self.optimizer.param_groups[0]
        ratio = self.decay ** (self.updates // self.decay_steps)
        if self.followed is not None:
            ratio = self.last_ratio**self.followed
        group["lr"] = self.learning_rate * ratio * self.caution
        if self.prefactors is not None:
            self.observer.weights = self.prefactors.at(ratio)
        self.optimizer.zero_grad(set_to_none=True)
        loss = self._loss(labels)
        if self.ranks.size == 1 and not bool(torch.isfinite(loss)):
            raise _not_finite()
        if loss.requires_grad:
            loss.backward()
        for (
            parameter
        ) in self.parameters:  # forces do not depend on the last bias: its gradient is zero, not absent
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        loss = self._added(loss)
        norm = clip_grad_norm_(self.parameters, self.clip if self.clip is not None else float("inf"))
        self.optimizer.step()
        self.updates += 1
        return {"loss": float(loss.detach()), "gradient": float(norm), "learning_rate": group["lr"]}

    def _loss(self, labels: Labels) -> Tensor:
        """The loss (0-dim), or the part of it that this process computes: parts add up to the whole.

        The loss of a share is a mean over fewer labels; so its weights are those of the whole times the part of the
        labels of each kind that it has.
        """
        if self.ranks.size == 1:
            loss = self.observer.loss(labels)
            return loss if self.ridge is None else loss + self.ridge.penalty()
        share, whole = shares_of(labels, self.ranks.size)[self.ranks.rank], self.observer.weights
        loss = torch.zeros((), dtype=torch.float64)
        if share is not None:
            all_, own = _numbers(labels), _numbers(share)
            parts = {kind: getattr(whole, kind) * own[kind] / max(1, all_[kind]) for kind in KINDS}
            self.observer.weights = replace(whole, **parts)
            try:
                loss = self.observer.loss(share)
            finally:
                self.observer.weights = whole
        return loss + self.ridge.penalty() if self.ridge is not None and self.ranks.leads else loss

    def _added(self, loss: Tensor) -> Tensor:
        """The whole loss, after gradients have been added up over the processes, in one call."""
        if self.ranks.size == 1:
            return loss
        gradients = [parameter.grad.reshape(-1) for parameter in self.parameters]
        total = self.ranks.add(torch.cat([loss.detach().reshape(1).to(gradients[0]), *gradients]))
        for parameter, own in zip(self.parameters, total[1:].split([len(g) for g in gradients]), strict=True):
            parameter.grad = own.view_as(parameter).clone()
        if not bool(torch.isfinite(total[0])):
            raise _not_finite()
        return total[0]

    def retreat(self, state: Mapping[str, Tensor] | None) -> None:
        """Go back to `state`, or to the beginning without one, and take smaller steps from now on."""
        updates, caution = self.updates, self.caution
        self.optimizer.state.clear()
        if state is not None:
            self.load_state_dict(state)
        self.updates, self.caution = updates, min(caution, self.caution) / 4.0

    def end_epoch(self, reports: Mapping[str, Sequence[float]]) -> EpochReport:
        """Means over the epoch."""
        means = average(reports)
        words = "loss {loss:.2e}, learning rate {learning_rate:.1e}".format_map(means) if means else ""
        return EpochReport(means, words)

    def state_dict(self) -> Mapping[str, Tensor]:
        """Moments and counters of the optimizer, position of the decay."""
        own = {
            "updates": torch.tensor(self.updates),
            "caution": torch.tensor(self.caution, dtype=torch.float64),
        }
        for index, moments in self.optimizer.state_dict()["state"].items():
            for name, value in moments.items():
                own[f"{index}.{name}"] = torch.as_tensor(value)
        return with_observer(own, self.observer)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore `state_dict`, tensor by tensor: torch's own loader casts to the parameters' type."""
        self.updates, self.caution = int(state["updates"]), float(state.get("caution", 1.0))
        for key, value in restore_observer(self.observer, state).items():
            if key not in ("updates", "caution"):
                index, name = key.split(".", 1)
                self.optimizer.state[self.parameters[int(index)]][name] = value.clone()


def _not_finite() -> DivergedError:
    return DivergedError("the loss is not finite", where="training.optimizer", hint="lower the learning rate")


def _numbers(labels: Labels) -> dict[str, int]:
    """How many labels of each kind there are."""
    n = len(labels.structures)
    forces = sum(len(components) for components in labels.components or [])
    return {"energy": n * labels.energy, "force": forces, "virial": n * labels.virial}


_OBSERVER = "observer."


def _typical_residuals(measurement: Measurement) -> dict[str, float]:
    """Median absolute residual of each kind of label that the measurement has, per atom where it counts atoms."""
    residual, _, _, origin = measurement
    if origin is None:
        return {}
    size = (residual / origin.unit).abs()
    parts = {name: size[origin.kind == kind] for kind, name in enumerate(KINDS)}
    return {f"residual_{name}": float(part.median()) for name, part in parts.items() if len(part)}


def with_observer(state: Mapping[str, Tensor], observer: Measures) -> Mapping[str, Tensor]:
    """`state` of an optimizer together with that of the observer."""
    return joined(state, {_OBSERVER + name: value for name, value in observer.state_dict().items()})


def restore_observer(observer: Measures, state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Restore the observer from its part of `state`; the rest."""
    own = {name.removeprefix(_OBSERVER): state[name] for name in state if name.startswith(_OBSERVER)}
    observer.load_state_dict(own)
    return only(state, lambda name: not name.startswith(_OBSERVER))
