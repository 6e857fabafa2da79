"""Updates with what is not yet right: the adaptive selection of RuNNer and n2p2.

Tokita and Behler, J. Chem. Phys. 159, 121501 (2023), section III and Box 5; repeated selection as in Singraber et al.,
J. Chem. Theory Comput. 15, 3075 (2019).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from nnpkit.measure.label_choice import Available, Judge, LabelErrors, Labels
from nnpkit.training.schedules.random_order import require_labels
from nnpkit.training.schedules.sampling import Sampler, draw

__all__ = ["AdaptiveSchedule", "Selection"]

_ENERGY, _FORCE = 0, 1


class Selection(NamedTuple):
    """Which labels of a kind make updates.

    Attributes
    ----------
    threshold : float
        In units of the error (RMSE) of this kind over all training structures at the end of the previous epoch.
    group : int
        Selected labels of an update.
    """

    threshold: float
    group: int = 1


class _Lot:
    """Labels of one kind that are selected for the next update, and what was passed over since the last one."""

    def __init__(self, rule: Selection) -> None:
        self.rule = rule
        self.chosen: list[tuple[int, int]] = []  # structure, component (-1: energy)
        self.passed = 0
        self.worst: tuple[int, int] = (-1, -1)
        self.worst_error = 0.0

    def offer(self, point: tuple[int, int], error: float, limit: float, trials: int | None) -> None:
        """Choose `point` if its `error` is above `limit`, or the worst one when `trials` were passed over."""
        if error > limit:
            self.take(point)
            return
        if self.passed == 0 or error > self.worst_error:
            self.worst, self.worst_error = point, error
        self.passed += 1
        if trials is not None and self.passed >= trials:
            self.take(self.worst)

    def take(self, point: tuple[int, int]) -> None:
        if point not in self.chosen:
            self.chosen.append(point)
        self.passed, self.worst_error = 0, 0.0

    def full(self) -> bool:
        return len(self.chosen) >= self.rule.group

    def empty(self) -> list[tuple[int, int]]:
        chosen, self.chosen = self.chosen, []
        return chosen

    def state(self) -> Tensor:
        rows = [(self.passed, 0), self.worst, *self.chosen]
        error = torch.tensor([[self.worst_error, 0.0]], dtype=torch.float64)
        return torch.cat([error, torch.tensor(rows, dtype=torch.float64)])

    def restore(self, state: Tensor) -> None:
        self.worst_error = float(state[0, 0])
        (passed, _), worst, *chosen = [(int(a), int(b)) for a, b in state[1:].tolist()]
        self.passed, self.worst, self.chosen = passed, worst, chosen


class AdaptiveSchedule:
    """Structure by structure, the labels whose errors are large at that moment.

    In every epoch the structures come in a new random order. Of each the energy is looked at, and then a part of the
    force components, one by one, with the weights as they are after the last update. A label whose error exceeds its
    threshold is selected, the others are passed over.

    Parameters
    ----------
    available : sequence of Available
        Labels of each structure.
    seed : int
        Of the generator.
    energy, force : Selection or None
        Rules for energies (errors in eV/atom) and force components (eV/Å); None: these labels are not used.
    force_fraction : float
        Part of the force components that are looked at, drawn anew in every epoch.
    trials : int or None
        After so many labels that were passed over, the one of them with the largest error is selected.
    repeat_energy : bool
        Look at the energy of a structure once more after its forces.
    sampler : Sampler, optional
        How often structures are looked at; all once by default.

    Attributes
    ----------
    judge : Judge or None
        Tells errors; to be set before the first epoch.

    Raises
    ------
    InputError
        If no structure has the labels asked for.
    """

    def __init__(
        self,
        available: Sequence[Available],
        seed: int,
        energy: Selection | None,
        force: Selection | None,
        force_fraction: float = 1.0,
        trials: int | None = None,
        repeat_energy: bool = False,
        sampler: Sampler | None = None,
    ) -> None:
        require_labels(available, energy=energy is not None, forces=force is not None, virial=False)
        self.available = list(available)
        self.strata = [([index], 1) for index in range(len(self.available))]
        if sampler is not None:
            kinds = [(a.energy, a.components) for a in self.available]
            self.strata = sampler.strata(range(len(kinds)), kinds)
        self.balanced = sampler is not None
        self.lots = {k: _Lot(rule) for k, rule in ((_ENERGY, energy), (_FORCE, force)) if rule is not None}
        self.force_fraction, self.trials, self.repeat_energy = force_fraction, trials, repeat_energy
        self.generator = torch.Generator().manual_seed(seed)
        self.epoch_start = self.generator.get_state()
        self.position = self.cursor = 0  # updates handed out, labels looked at
        self.rmse = [0.0, 0.0]
        self.judge: Judge | None = None
        self._seen: tuple[int, LabelErrors] | None = None

    def learn(self, errors: Mapping[str, Any]) -> None:
        """Set the errors to which the thresholds refer: a summary of all training structures."""
        self.rmse = [float(errors[name] or 0.0) for name in ("energy_rmse", "force_rmse")]

    def epoch_length(self, epoch: int = 0) -> int:
        """Number of updates in an epoch if everything is selected: at most so many are made."""
        total = 0
        for kind, lot in self.lots.items():
            counts = [number * self._count(self.available[own[0]], kind) for own, number in self.strata]
            total += -(-sum(counts) // lot.rule.group)
        return total

    def _count(self, has: Available, kind: int) -> int:
        if kind == _ENERGY:
            return int(has.energy) * (
                2 if self.repeat_energy and has.components and _FORCE in self.lots else 1
            )
        return max(1, round(self.force_fraction * has.components)) if has.components else 0

    def _points(self) -> list[tuple[int, int]]:
        """Everything that is looked at in an epoch, in its order: structure and component, -1 for the energy."""
        points: list[tuple[int, int]] = []
        order = (
            draw(self.strata, self.generator)
            if self.balanced
            else torch.randperm(len(self.available), generator=self.generator).tolist()
        )
        for index in order:
            has = self.available[index]
            components: list[int] = []
            if _FORCE in self.lots and has.components:
                some = torch.randperm(has.components, generator=self.generator)
                components = some[: self._count(has, _FORCE)].tolist()
            energy = [(index, -1)] if _ENERGY in self.lots and has.energy else []
            points += [*energy, *((index, c) for c in components)]
            points += energy if self.repeat_energy and components else []
        return points

    def epoch(self) -> Iterator[Labels]:
        """Labels of the updates of the next epoch, or of the rest of it after `load_state_dict`."""
        self.generator.set_state(self.epoch_start)
        points = self._points()
        while self.cursor < len(points):
            point = points[self.cursor]
            self.cursor += 1
            kind = _ENERGY if point[1] < 0 else _FORCE
            lot = self.lots[kind]
            lot.offer(point, self._error(point), lot.rule.threshold * self.rmse[kind], self.trials)
            if lot.full():
                yield self._update(kind)
        for kind, lot in self.lots.items():
            if lot.chosen:
                yield self._update(kind)
        self.epoch_start = self.generator.get_state()
        self.position = self.cursor = 0

    def _error(self, point: tuple[int, int]) -> float:
        """Error of a label with the weights as they are now; one prediction serves until the next update."""
        index, component = point
        if self._seen is None or self._seen[0] != index:
            assert self.judge is not None
            self._seen = (index, self.judge.errors(index))
        errors = self._seen[1]
        return errors.energy if component < 0 else float(errors.forces[component])

    def _update(self, kind: int) -> Labels:
        """The update with what has been selected of a kind."""
        self.position += 1
        self._seen = None
        own: dict[int, list[int]] = {}
        for index, component in self.lots[kind].empty():
            own.setdefault(index, []).append(component)
        if kind == _ENERGY:
            return Labels(list(own), True, None, False)
        return Labels(list(own), False, [torch.tensor(sorted(c)) for c in own.values()], False)

    def coming(self, n: int) -> list[int]:
        """None: errors that are not known yet decide."""
        return []

    def state_dict(self) -> dict[str, Tensor]:
        """Where the epoch stands: its first random numbers, labels looked at, what is selected, thresholds."""
        lots = {f"lot_{kind}": lot.state() for kind, lot in self.lots.items()}
        return {
            "generator": self.epoch_start,
            "position": torch.tensor(self.position),
            "cursor": torch.tensor(self.cursor),
            "rmse": torch.tensor(self.rmse, dtype=torch.float64),
            **lots,
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from `state_dict`."""
        self.epoch_start = state["generator"].clone()
        self.position, self.cursor = int(state["position"]), int(state["cursor"])
        self.rmse = state["rmse"].tolist()
        for kind, lot in self.lots.items():
            lot.restore(state[f"lot_{kind}"])
        self._seen = None
