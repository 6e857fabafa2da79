"""The training loop."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import torch
from rich.console import Console
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.potential import Prediction
from nnpkit.training.budget import Budget, some_structures
from nnpkit.training.checkpoint import Checkpoint, prune_checkpoints, write_checkpoint
from nnpkit.training.health import EpochReport, kinds_of_labels
from nnpkit.training.metrics import ErrorSums
from nnpkit.training.progress import Progress, StopRequest, stop_on_signals
from nnpkit.training.run import LearningCurve, MetricsFile, RunFolder, TensorBoard
from nnpkit.training.schedules import Labels, Schedule
from nnpkit.training.state import RunState, TrainerSettings
from nnpkit.training.updates import Update
from nnpkit.units import stress_from_virial

__all__ = [
    "Predicts",
    "RunState",
    "Split",
    "Trainer",
    "TrainerSettings",
    "deciding",
    "errors_of",
    "monitored",
]


NO_FORCE = 1e-5
"""eV/Å, root mean square: labels below are zeros with the rounding of whatever computed them."""


_SECONDS_BETWEEN_MODELS = 60.0


class Predicts(Protocol):
    """Structures prepared for training."""

    def predict(self, index: int) -> Prediction:
        """Prediction of the model, as it is now, for one structure."""
        ...


@runtime_checkable
class Learns(Protocol):
    """A schedule that follows the errors of the training structures."""

    def learn(self, errors: Mapping[str, Any]) -> None:
        """Take notice of the errors at the end of an epoch."""
        ...


class Split(NamedTuple):
    """A set of structures and the same structures prepared for training."""

    structures: list[Structure]
    store: Predicts


class Trainer:
    """Trains a model until an epoch, a lack of improvement or a signal ends it.

    Parameters
    ----------
    model : AtomicModel
        The model that `update` changes.
    update : Update
        Turns labels into new weights.
    schedule : Schedule
        Says which labels come next.
    splits : dict
        ``train`` and, if there is one, ``validation``, which then chooses the best epoch.
    settings : TrainerSettings
        When to evaluate, save and stop.
    folder : RunFolder
        Where everything is written.
    identity : mapping
        JSON-able; put into every checkpoint so that it can be recognised (configuration, data).
    console : Console
        For the learning curve and the progress bar.
    score : callable, optional
        What makes one epoch better than another, less being better, from the model and the errors of all splits; by
        default the monitored error, see `monitored`.
    publish : callable, optional
        Called with the best weights so far, after an epoch and no more than once a minute.
    clock : callable, optional
        Seconds since any moment, by default those of the machine.
    """

    def __init__(
        self,
        model: AtomicModel,
        update: Update,
        schedule: Schedule,
        splits: Mapping[str, Split],
        settings: TrainerSettings,
        folder: RunFolder,
        identity: Mapping[str, Any],
        console: Console,
        score: Callable[[AtomicModel, Mapping[str, Mapping[str, Any]]], float] | None = None,
        publish: Callable[[Mapping[str, Tensor]], None] | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.model, self.update, self.schedule, self.score = model, update, schedule, score
        self.splits, self.settings, self.folder = splits, settings, folder
        self.identity, self.console = identity, console
        self.publish, self.clock, self.published = publish, clock or time.monotonic, False
        self.budget = None if settings.time is None else Budget(settings.time, self.clock)
        self.state = RunState(warm=settings.warm)
        self.best: dict[str, Tensor] = {}
        self.interrupted: tuple[dict[str, dict[str, Any]], dict[str, Tensor]] | None = None
        self.judge = "validation" if "validation" in splits else "train"
        self.deciding = deciding(splits[self.judge].structures)
        self.initial = _weights(model)  # distances of the weights count from them

    def fit(self) -> str:
        """Train; what ended it: ``epochs``, ``early stopping`` or the name of a signal.

        After a signal, `interrupted` has the errors and the weights of the last update if they are better than those of
        the best epoch. No checkpoint knows of it: a run that goes on is the same as one that was not interrupted.
        """
        state, settings = self.state, self.settings
        resumed = bool(self.best)
        last_epoch = state.epoch if resumed else None
        self.curve = LearningCurve(self.folder.path / "lcurve.txt", list(self.splits), last_epoch)
        self.metrics = MetricsFile(self.folder.path / "metrics.jsonl", last_epoch)
        self.board = TensorBoard(self.folder.path / "tensorboard", state.epoch + 1 if resumed else 0)
        self.console.print(self.curve.names, highlight=False, soft_wrap=True)
        with stop_on_signals() as stop, self._progress() as bar:
            self.started = self.clock() - state.seconds
            self.looked = self.clock()
            if self.budget is not None:
                self.budget.start(state.seconds)
            if not resumed:
                self._evaluate(EpochReport({}))
                if settings.warm:
                    state.best_error = state.reference_error = math.inf
            while not self._done() and not self._waited_enough():
                report = self._epoch(bar, stop)
                if stop:
                    break
                bar.tell(report.short)
                for warning in report.warnings:
                    self.console.print(f"Warning: {warning}", style="yellow", highlight=False, soft_wrap=True)
                due = self._due(settings.evaluate_every)
                if not due:
                    self._record(report, {})
                improved = due and self._evaluate(report)
                if improved or self._due(settings.checkpoint_every) or self._waited_enough():
                    self._save(0)
                self._publish()
            if stop:
                self._judge_the_last()
        self.board.close()
        if not stop:
            self._evaluate_everything()
        if self._waited_enough():
            return "early stopping"
        return str(stop.name) if not self._done() else "epochs" if self.budget is None else "time"

    def _progress(self) -> Progress:
        """What shows how far the training is: its updates, or the seconds of its budget."""
        if self.budget is not None:
            return Progress("seconds", round(self.budget.seconds), self.console, int(self.state.seconds))
        total = sum(map(self.schedule.epoch_length, range(self.settings.epochs)))
        return Progress("updates", total, self.console, self.state.updates)

    def _done(self) -> bool:
        return self.state.epoch >= self.settings.epochs if self.budget is None else self.budget.over

    def _labels(self) -> Iterator[Labels]:
        """Labels of an epoch, or of the part of the budget that stands for one."""
        return self.schedule.epoch() if self.budget is None else self.budget.labels(self.schedule)

    def _publish(self) -> None:
        """Give away the best weights if that was not done yet and not within the last minute."""
        now = self.clock()
        if self.publish is None or self.published or now - self.looked < _SECONDS_BETWEEN_MODELS:
            return
        self.publish(self.best)
        self.published, self.looked = True, now

    def _errors(self, name: str) -> dict[str, Any]:
        """Errors of a set, of some of its structures if a large set has to be evaluated often."""
        split = self.splits[name]
        return errors_of(split) if self.budget is None else errors_of(split, _evaluated(split))

    def _evaluate_everything(self) -> None:
        """Errors of the best epoch on whole sets, if they are those of parts of them."""
        whole = all(len(_evaluated(split)) == len(split.structures) for split in self.splits.values())
        if self.budget is None or whole or not self.best:
            return
        now = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        self.model.load_state_dict(self.best)
        self.state.errors = {name: errors_of(split) for name, split in self.splits.items()}
        self.model.load_state_dict(now)

    def _epoch(self, bar: Progress, stop: StopRequest) -> EpochReport:
        """One epoch of updates, or what is left of it; what the updates say of it."""
        self.update.begin_epoch(self.state.epoch)
        reports: dict[str, list[float]] = {}
        for labels in self._labels():
            if self.budget is not None:
                self.update.follow(self.budget.fraction)
            for name, value in self.update.apply(labels).items():
                reports.setdefault(name, []).append(value)
            self.state.updates += 1
            kind = "+".join(kinds_of_labels(labels))
            self.state.updates_by_kind[kind] = self.state.updates_by_kind.get(kind, 0) + 1
            if self.budget is None:
                bar.advance()
            else:
                bar.advance_to(int(self.budget.used))
            if stop:
                self._save(int(self.schedule.state_dict()["position"]))
                break
        else:
            self.state.epoch += 1
        return self.update.end_epoch(reports)

    def _due(self, every: int) -> bool:
        return self.state.epoch % every == 0 or self._done()

    def _waited_enough(self) -> bool:
        return self.settings.patience is not None and self.state.waited >= self.settings.patience

    def _record(self, report: EpochReport, errors: Mapping[str, Mapping[str, Any]]) -> None:
        """What the updates say of the epoch, and the errors as far as they are known, into the files."""
        state = self.state
        state.seconds = self.clock() - self.started
        weights = {"distance": float((_weights(self.model) - self.initial).norm())}
        self.metrics.add(
            state.epoch, state.updates, state.seconds, updates_by_kind=dict(state.updates_by_kind),
            update=report.numbers, weights=weights, **errors,
        )  # fmt: skip
        numbers = {f"{key}/{name}": errors[name][key] for name in errors for key in LearningCurve.ERRORS}
        updates = {f"update/{name}": value for name, value in report.numbers.items()}
        self.board.add(state.epoch, {**numbers, **updates})

    def _evaluate(self, report: EpochReport) -> bool:
        """Errors of all splits into the files, with the report; whether this is the best epoch so far.

        Raises
        ------
        InputError
            If the errors are not finite any more.
        """
        state = self.state
        began = self.clock()
        errors = {name: self._errors(name) for name in self.splits}
        if self.budget is not None:
            self.budget.evaluation_took(self.clock() - began)
        if isinstance(self.schedule, Learns):
            self.schedule.learn(errors["train"])
        self._record(report, errors)
        line = self.curve.add(state.epoch, state.updates, state.seconds, errors)
        self.console.print(line, highlight=False, soft_wrap=True)
        error = self._error(errors)
        if not math.isfinite(error):
            raise InputError(
                f"the training diverged in epoch {state.epoch}: the errors are not finite", where=str(self.folder.path),
                hint="lower the learning rate or raise the observation noise",
            )  # fmt: skip
        if error < state.reference_error * (1.0 - self.settings.min_delta):
            state.reference_error, state.waited = error, 0
        else:
            state.waited += 1
        if error >= state.best_error:
            return False
        state.best_error, state.best_epoch, state.errors = error, state.epoch, errors
        self.best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        self.published = False
        return True

    def _error(self, errors: Mapping[str, Mapping[str, Any]]) -> float:
        """What makes one epoch better than another."""
        if self.score is not None:
            return self.score(self.model, errors)
        return monitored(errors[self.judge], self.settings.monitor, self.deciding)

    def _judge_the_last(self) -> None:
        """Keep the weights of an interrupted training if they are better than those of its best epoch."""
        order = sorted(self.splits, key=lambda name: name != self.judge) if self.score is None else []
        errors = {name: errors_of(self.splits[name]) for name in order[:1] or self.splits}
        if self._error(errors) < self.state.best_error:
            errors = {n: errors.get(n) or errors_of(split) for n, split in self.splits.items()}
            self.interrupted = errors, {n: t.detach().clone() for n, t in self.model.state_dict().items()}

    def _save(self, step: int) -> None:
        """Write a checkpoint, after `step` updates of the current epoch if not 0, and remove old ones."""
        self.state.seconds = self.clock() - self.started
        tensors = {
            "model": self.model.state_dict(),
            "best": self.best,
            "update": self.update.state_dict(),
            "schedule": self.schedule.state_dict(),
            "initial": {"weights": self.initial},
        }
        state = {
            "epoch": self.state.epoch, "step": step, "spec": self.model.spec,
            "progress": self.state.to_json(), "threads": torch.get_num_threads(), **self.identity,
        }  # fmt: skip
        write_checkpoint(self.folder.checkpoints, Checkpoint(tensors, state))
        prune_checkpoints(self.folder.checkpoints, self.settings.keep, self.state.best_epoch)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put model, update, schedule and progress into the state of `checkpoint`."""
        self.model.load_state_dict(checkpoint.tensors["model"])
        self.update.load_state_dict(checkpoint.tensors["update"])
        self.schedule.load_state_dict(checkpoint.tensors["schedule"])
        self.best = {name: tensor.clone() for name, tensor in checkpoint.tensors["best"].items()}
        self.initial = checkpoint.tensors.get("initial", {}).get("weights", self.initial)
        self.state = RunState.from_json(checkpoint.state["progress"])


def _weights(model: AtomicModel) -> Tensor:
    """All trainable weights (P,)."""
    return parameters_to_vector(model.parameters()).detach().clone()


def _evaluated(split: Split) -> list[int]:
    """Structures of a set that are evaluated after a part of a budget."""
    return some_structures([structure.n_atoms for structure in split.structures])


def errors_of(split: Split, which: Sequence[int] | None = None) -> dict[str, Any]:
    """Summary (keys of `nnpkit.training.metrics.METRICS`) of the errors of the model now, of all or `which`."""
    sums = ErrorSums()
    for index in range(len(split.structures)) if which is None else which:
        structure = split.structures[index]
        prediction = split.store.predict(index)
        stress = None
        if structure.stress is not None:
            stress = stress_from_virial(prediction.virial[0].numpy(), structure.volume)
        sums.add(structure, float(prediction.energy), prediction.forces.numpy(), stress)
    return sums.summary()


def deciding(structures: Sequence[Structure]) -> set[str]:
    """Which errors may choose the best epoch: ``energy_rmse``, ``force_rmse``.

    Those of labels that the structures have. Forces that are zero by symmetry, as in a volume scan of a crystal, do not
    count: any potential gets them right up to rounding, and the noise of that must not choose.
    """
    forces = [s.forces for s in structures if s.forces is not None]
    size = math.sqrt(sum(float((f**2).sum()) for f in forces) / max(1, sum(f.size for f in forces)))
    found = {"energy_rmse"} if any(s.energy is not None for s in structures) else set()
    return found | ({"force_rmse"} if size > NO_FORCE else set())


def monitored(errors: Mapping[str, Any], monitor: str, counting: Collection[str] | None = None) -> float:
    """The number that makes one epoch better than another.

    ``energy_rmse``, ``force_rmse``, or ``energy_force``: their geometric mean, for which halving either error
    is worth the same whatever their units. A kind of label that the data lack, or that is not in `counting` (see
    `deciding`), does not count; without any the result is not a number.
    """
    names = ("energy_rmse", "force_rmse") if monitor == "energy_force" else (monitor,)
    counted = [n for n in names if errors[n] is not None and (counting is None or n in counting)]
    values = [float(errors[name]) for name in counted]
    return math.prod(values) ** (1.0 / len(values)) if values else math.nan
