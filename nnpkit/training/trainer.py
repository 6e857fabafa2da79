"""The training loop."""

from __future__ import annotations

import hashlib
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from rich.console import Console
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from nnpkit.errors import DivergedError, InputError
from nnpkit.measure.ahead import PreparesAhead
from nnpkit.measure.contract import Predicts
from nnpkit.measure.label_choice import Labels
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.parallel import ALONE, Ranks
from nnpkit.progress import Progress, StopRequest, stop_on_signals
from nnpkit.training.budget import (
    EVALUATED_ATOMS,
    EVERY_EPOCH,
    JUDGED_ATOMS,
    Budget,
    some_structures,
    thinned,
)
from nnpkit.training.checkpoint import (
    Checkpoint,
    checkpoint_of_epoch,
    prune_checkpoints,
    read_checkpoint,
    write_checkpoint,
)
from nnpkit.training.guard import RETREATS, Guard, errors_of_nothing, silence, without_learning
from nnpkit.training.health import EpochReport, kinds_of_labels
from nnpkit.training.model_errors import (
    FEW_ENERGIES,
    Split,
    count_energies,
    deciding,
    errors_of,
    judged,
    monitored,
)
from nnpkit.training.run_folder import LearningCurve, MetricsFile, RunFolder, TensorBoard
from nnpkit.training.schedules.random_order import Schedule
from nnpkit.training.state import RunState, TrainerSettings
from nnpkit.training.updates import Update

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


_SECONDS_BETWEEN_MODELS = 60.0


@runtime_checkable
class Learns(Protocol):
    """A schedule that follows the errors of the training structures."""

    def learn(self, errors: Mapping[str, Any]) -> None:
        """Take notice of the errors at the end of an epoch."""
        ...


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
    ranks : Ranks
        The processes that train together, of which `folder` writes in the first one alone.
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
        ranks: Ranks = ALONE,
    ) -> None:
        self.ranks, self.ended_by, self.warned = ranks, "", set[str]()
        self.model, self.update, self.schedule, self.score = model, update, schedule, score
        self.splits, self.settings, self.folder = splits, settings, folder
        self.identity, self.console = identity, console
        self.publish, self.clock, self.published = publish, clock or self._time, False
        self.budget = None if settings.time is None else Budget(settings.time, self.clock)
        self.judge = "validation" if "validation" in splits else "train"
        most = dict.fromkeys(splits, EVERY_EPOCH)
        if self.budget is not None:
            most = dict.fromkeys(splits, EVALUATED_ATOMS) | {"validation": JUDGED_ATOMS}
        self.evaluated = {name: _evaluated(split, most[name]) for name, split in splits.items()}
        self.state = RunState(warm=settings.warm)
        self.best: dict[str, Tensor] = {}
        self.interrupted: tuple[dict[str, dict[str, Any]], dict[str, Tensor]] | None = None
        self.afforded = False  # whether evaluations have been adapted to the budget
        self.silenced = False  # whether `best` are networks that say zero, see `_prefer_nothing`
        self.deciding = deciding(splits[self.judge].structures)
        self.n_energies = count_energies(splits[self.judge].structures, self.evaluated[self.judge])
        nothing = {n: errors_of_nothing(model, splits[n].structures) for n in {"train", self.judge}}
        self.guard = Guard(nothing["train"])
        self.nothing = math.inf
        if score is None and self.deciding:
            self.deciding, self.nothing = without_learning(
                judged(nothing, self.judge, self.n_energies), settings.monitor, self.deciding
            )
        self.initial = _weights(model)  # distances of the weights count from them

    def fit(self) -> str:
        """Train; what ended it: ``epochs``, ``early stopping`` or the name of a signal.

        After a signal, `interrupted` has the errors and the weights of the last update if they are better than those of
        the best epoch. No checkpoint knows of it: a run that goes on is the same as one that was not interrupted.
        """
        stores = [split.store for split in self.splits.values() if isinstance(split.store, PreparesAhead)]
        if self.settings.ahead:
            for store in stores:
                store.ahead.start()
        try:
            return self._fit()
        finally:
            for store in stores:
                store.ahead.stop()

    def _fit(self) -> str:
        state, settings = self.state, self.settings
        resumed = bool(self.best)
        last_epoch = state.epoch if resumed else None
        path, writes = self.folder.path, self.folder.writes
        self.curve = LearningCurve(path / "lcurve.txt", list(self.splits), last_epoch, writes)
        self.metrics = MetricsFile(path / "metrics.jsonl", last_epoch, writes)
        self.board = TensorBoard(path / "tensorboard", state.epoch + 1 if resumed else 0, writes)
        for name, some in self.evaluated.items():
            total = len(self.splits[name].structures)
            if self.budget is None and len(some) < total:
                words = f"{len(some)} of {total} {name} structures are evaluated after epochs, all at the end"
                self.console.print(f"  {words}", highlight=False, soft_wrap=True)
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
            while not self._done() and not self._waited_enough() and not self._lost():
                report = self._epoch(bar, stop)
                if self.ended_by or self._lost():
                    break
                bar.tell(report.short)
                self._warn(report.warnings)
                due = self._due(settings.evaluate_every)
                if not due:
                    self._record(report, {})
                improved = due and self._evaluate(report)
                if improved or self._due(settings.checkpoint_every) or self._waited_enough():
                    self._save(0)
                self._publish()
            if self.ended_by:
                self._judge_the_last()
        self.board.close()
        if not self.ended_by:
            self._evaluate_everything()
        self._prefer_nothing()
        if self._lost():
            return "lost its way"
        if self._waited_enough():
            return "early stopping"
        if not self._done():
            return self.ended_by
        return "epochs" if self.budget is None else "time"

    def _warn(self, warnings: Sequence[str]) -> None:
        """Say each warning once, whatever its numbers: an epoch later it is no news."""
        for warning in warnings:
            kind = re.sub(r"\d[\d.e+-]*", "", warning)
            if kind not in self.warned:
                text = f"Warning: {warning}; not said again for later epochs"
                self.console.print(text, style="yellow", highlight=False, soft_wrap=True)
            self.warned.add(kind)

    def _time(self) -> float:
        """Seconds; those of the first rank, so that all do the same."""
        if self.ranks.size == 1:
            return time.monotonic()
        return float(
            self.ranks.add(torch.tensor(time.monotonic() if self.ranks.leads else 0.0, dtype=torch.float64))
        )

    def _is_stopped(self, stop: StopRequest) -> bool:
        """Whether a signal has asked any of the ranks to stop."""
        if self.ranks.any(bool(stop)):
            self.ended_by = next(name for name in self.ranks.collect(str(stop.name or "")) if name)
        return bool(self.ended_by)

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
        return errors_of(self.splits[name], self.evaluated[name], self.ranks)

    def _evaluate_everything(self) -> None:
        """Errors of the best epoch on whole sets, if they are those of parts of them."""
        whole = all(len(self.evaluated[name]) == len(split.structures) for name, split in self.splits.items())
        if whole or not self.best:
            return
        now = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        self.model.load_state_dict(self.best)
        self.state.errors = {name: errors_of(split, ranks=self.ranks) for name, split in self.splits.items()}
        self.model.load_state_dict(now)

    def _epoch(self, bar: Progress, stop: StopRequest) -> EpochReport:
        """One epoch of updates, or what is left of it; what the updates say of it."""
        self.update.begin_epoch(self.state.epoch)
        reports: dict[str, list[float]] = {}
        for labels in self._labels():
            if self.budget is not None:
                self.update.follow(self.budget.fraction)
            self._expect(labels)
            for name, value in self._update(labels).items():
                reports.setdefault(name, []).append(value)
            if self._lost():
                break
            self.state.updates += 1
            kind = "+".join(kinds_of_labels(labels))
            self.state.updates_by_kind[kind] = self.state.updates_by_kind.get(kind, 0) + 1
            if self.budget is None:
                bar.advance()
            else:
                bar.advance_to(int(self.budget.used))
            if self._is_stopped(stop):
                self._save(int(self.schedule.state_dict()["position"]))
                break
        else:
            self.state.epoch += 1
        return self.update.end_epoch(reports)

    def _expect(self, labels: Labels) -> None:
        """Say to the store which structures an update uses, and which ones the next."""
        store, n = self.splits["train"].store, len(labels.structures)
        if isinstance(store, PreparesAhead):
            store.ahead.expect(labels.structures, self.schedule.coming(max(2, n)))

    def _update(self, labels: Labels) -> dict[str, float]:
        """One update, taken back if it has lost the way; what it says of itself."""
        try:
            numbers = self.update.apply(labels)
            wild = self.guard.update_is_wild(numbers)
        except DivergedError as error:
            numbers, wild = {}, error.what
        if wild is not None:
            self._retreat(wild)
        return numbers

    def _retreat(self, why: str) -> None:
        """Go back to the weights of the best epoch, and to the state that the optimizer had with them if it is kept."""
        state = self.state
        state.retreats += 1
        state.in_a_row += 1
        kept = checkpoint_of_epoch(self.folder.checkpoints, state.best_epoch)
        self.model.load_state_dict(self.best)
        self.update.retreat(None if kept is None else read_checkpoint(kept).tensors["update"])
        self.guard.forget()
        self.console.print(
            f"Warning: after {state.updates} updates {why}: back to epoch {state.best_epoch}, with more caution",
            style="yellow", highlight=False, soft_wrap=True,
        )  # fmt: skip

    def _lost(self) -> bool:
        return self.state.in_a_row >= RETREATS

    def _prefer_nothing(self) -> None:
        """Let the networks be silent if the best epoch is worse than the energies of the elements alone.

        No checkpoint knows of it: a run that goes on does so with what it has learnt.
        """
        error = self.state.best_error if self.interrupted is None else self._error(self.interrupted[0])
        if self.score is not None or self.state.updates == 0 or not error > self.nothing:
            return
        self.model.load_state_dict(self.best)
        silence(self.model, self.splits["train"].structures)
        errors = {name: errors_of(split, ranks=self.ranks) for name, split in self.splits.items()}
        if self._error(errors) < error:
            self.interrupted, self.silenced = None, True
            self.best = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
            self.state.errors = errors
            self.console.print(
                "Warning: nothing was learnt that is better than the energies of the elements: the potential is these",
                style="yellow", highlight=False, soft_wrap=True,
            )  # fmt: skip

    def _due(self, every: int) -> bool:
        return self.state.epoch % every == 0 or self._done()

    def _waited_enough(self) -> bool:
        return self.settings.patience is not None and self.state.waited >= self.settings.patience

    def _record(self, report: EpochReport, errors: Mapping[str, Mapping[str, Any]]) -> None:
        """What the updates say of the epoch, and the errors as far as they are known, into the files."""
        state = self.state
        state.seconds = self.clock() - self.started
        self._require_same_weights()
        weights = {"distance": float((_weights(self.model) - self.initial).norm())}
        self.metrics.add(
            state.epoch, state.updates, state.seconds, updates_by_kind=dict(state.updates_by_kind),
            update=report.numbers, weights=weights, **errors,
        )  # fmt: skip
        numbers = {f"{key}/{name}": errors[name][key] for name in errors for key in LearningCurve.ERRORS}
        updates = {f"update/{name}": value for name, value in report.numbers.items()}
        self.board.add(state.epoch, {**numbers, **updates})

    def _require_same_weights(self) -> None:
        """Refuse to go on if the ranks have come apart."""
        if self.ranks.size > 1:
            hashes = self.ranks.collect(hashlib.sha256(_weights(self.model).numpy().tobytes()).hexdigest())
            if len(set(hashes)) > 1:
                raise InputError(
                    f"the weights of the {self.ranks.size} processes are not the same any more after "
                    f"{self.state.updates} updates", where=str(self.folder.path),
                    hint="continue from the last checkpoint with --resume, and report this",
                )  # fmt: skip

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
            self._afford(self.clock() - began)
        if isinstance(self.schedule, Learns):
            self.schedule.learn(errors["train"])
        self._record(report, errors)
        line = self.curve.add(state.epoch, state.updates, state.seconds, errors)
        self.console.print(line, highlight=False, soft_wrap=True)
        error = self._error(errors)
        if self.best and (wild := self.guard.epoch_is_wild(error, state.best_error, self.nothing)):
            state.waited += 1
            self._retreat(wild)
            return False
        state.in_a_row = 0
        if not math.isfinite(error):
            raise InputError(
                "the errors of the untrained potential are not finite", where=str(self.folder.path),
                hint="look at the labels and at the shortest distances of the structures",
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

    def _afford(self, evaluation: float) -> None:
        """Adapt the parts of the budget to what an `evaluation` takes, at first how many structures it is of, too."""
        assert self.budget is not None
        share, before = self.budget.affordable(evaluation), self.evaluated["train"]
        if not self.afforded and self.judge != "train" and share < 1.0:
            self.evaluated["train"] = thinned(before, share)
            words = f"{len(self.evaluated['train'])} of {len(before)} training structures are evaluated from now on"
            self.console.print(
                f"  evaluating takes {evaluation:.1f} s: {words}, all at the end", soft_wrap=True
            )
            evaluation *= share
        self.afforded = True
        self.budget.evaluation_took(evaluation)

    def _error(self, errors: Mapping[str, Mapping[str, Any]]) -> float:
        """What makes one epoch better than another."""
        if self.score is not None:
            return self.score(self.model, errors)
        found = judged(errors, self.judge, self.n_energies)
        return monitored(found, self.settings.monitor, self.deciding)

    def _judge_the_last(self) -> None:
        """Keep the weights of an interrupted training if they are better than those of its best epoch."""
        alone = self.score is None and not 0 < self.n_energies < FEW_ENERGIES
        names = [self.judge] if alone else list(self.splits)
        errors = {name: errors_of(self.splits[name], ranks=self.ranks) for name in names}
        if self._error(errors) < self.state.best_error:
            errors = {n: errors.get(n) or errors_of(s, ranks=self.ranks) for n, s in self.splits.items()}
            self.interrupted = errors, {n: t.detach().clone() for n, t in self.model.state_dict().items()}

    def _save(self, step: int) -> None:
        """Write a checkpoint, after `step` updates of the current epoch if not 0, and remove old ones."""
        self.state.seconds = self.clock() - self.started
        tensors: dict[str, Mapping[str, Tensor]] = {
            "model": self.model.state_dict(),
            "best": self.best,
            "update": self.update.state_dict(),
            "schedule": self.schedule.state_dict(),
            "initial": {"weights": self.initial},
            "guard": self.guard.state_dict(),
        }
        state = {
            "epoch": self.state.epoch, "step": step, "spec": self.model.spec,
            "progress": self.state.to_json(), "threads": torch.get_num_threads(), **self.identity,
        }  # fmt: skip
        write_checkpoint(self.folder.checkpoints, Checkpoint(tensors, state), self.ranks)
        if self.folder.writes:
            prune_checkpoints(self.folder.checkpoints, self.settings.keep, self.state.best_epoch)
        self.ranks.barrier()

    def restore(self, checkpoint: Checkpoint) -> None:
        """Put model, update, schedule and progress into the state of `checkpoint`."""
        self.model.load_state_dict(checkpoint.tensors["model"])
        self.update.load_state_dict(checkpoint.tensors["update"])
        self.schedule.load_state_dict(dict(checkpoint.tensors["schedule"]))
        self.best = {name: tensor.clone() for name, tensor in checkpoint.tensors["best"].items()}
        self.initial = checkpoint.tensors.get("initial", {}).get("weights", self.initial)
        self.guard.load_state_dict(checkpoint.tensors.get("guard", {}))
        self.state = RunState.from_json(checkpoint.state["progress"])


def _weights(model: AtomicModel) -> Tensor:
    """All trainable weights (P,)."""
    return parameters_to_vector(model.parameters()).detach().clone()


def _evaluated(split: Split, most: int) -> list[int]:
    """Structures of a set that are evaluated after an epoch, which have no more than `most` atoms together."""
    return some_structures([structure.n_atoms for structure in split.structures], most)
