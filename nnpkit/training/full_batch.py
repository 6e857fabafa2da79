"""Updates that see all labels at once: the schedule and the update of L-BFGS.

The loss is that of a batch of all structures, but it and its gradient are summed up structure by structure, so the
memory is that of one structure.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from nnpkit.measure.contract import Measures
from nnpkit.measure.label_choice import Available, Labels
from nnpkit.measure.observations import LossWeights
from nnpkit.optim.lbfgs import Lbfgs
from nnpkit.parallel import ALONE, Ranks
from nnpkit.training.health import EpochReport, average
from nnpkit.training.ridge import Ridge
from nnpkit.training.schedules.random_order import EpochSchedule
from nnpkit.training.updates import restore_observer, with_observer

__all__ = ["FullBatchUpdate", "FullSchedule"]


class FullSchedule:
    """The same labels at every update: those asked for of all structures.

    Parameters
    ----------
    available : sequence of Available
        Labels of each structure. A structure takes part with those it has of the kinds asked for.
    seed : int
        Decides which force components are used, if not all.
    energy, virial : bool
        Use energies, virials.
    forces : int, float or None
        Force components of each structure, drawn once without repetition; a float is that part of them; None: all,
        0: none.
    steps_per_epoch : int
        Updates that count as an epoch.

    Raises
    ------
    InputError
        If no structure has any of the labels asked for.
    """

    def __init__(
        self,
        available: Sequence[Available],
        seed: int,
        energy: bool = True,
        forces: int | float | None = None,
        virial: bool = False,
        steps_per_epoch: int = 10,
    ) -> None:
        once = EpochSchedule(available, seed, 1, energy, forces, virial)
        parts = sorted(once.epoch(), key=lambda part: part.structures)
        nothing = torch.zeros(0, dtype=torch.int64)
        self.labels = Labels(
            [part.structures[0] for part in parts],
            energy,
            [nothing if part.components is None else part.components[0] for part in parts],
            virial,
        )
        self.steps, self.position = steps_per_epoch, 0

    def epoch_length(self, epoch: int = 0) -> int:
        """Number of updates in an epoch."""
        return self.steps

    def epoch(self) -> Iterator[Labels]:
        """All labels, once for each update that is left of the epoch."""
        while self.position < self.steps:
            self.position += 1
            yield self.labels
        self.position = 0

    def coming(self, n: int) -> list[int]:
        """None: every update uses all structures."""
        return []

    def state_dict(self) -> dict[str, Tensor]:
        """Updates of the epoch that have been handed out."""
        return {"position": torch.tensor(self.position)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from `state_dict`."""
        self.position = int(state["position"])


class FullBatchUpdate:
    """Every `apply` is one iteration of L-BFGS on the weighted squared errors of all its labels.

    Parameters
    ----------
    optimizer : Lbfgs
        Finds the next weights.
    observer : Measures
        Gives the loss of one structure.
    available : sequence of Available
        Labels of each structure.
    ridge : Ridge, optional
        Adds its penalty to the loss.
    ranks : Ranks
        Processes that share the structures; loss and gradient are added up.
    """

    def __init__(
        self,
        optimizer: Lbfgs,
        observer: Measures,
        available: Sequence[Available],
        ridge: Ridge | None = None,
        ranks: Ranks = ALONE,
    ) -> None:
        self.optimizer, self.observer, self.available, self.ridge = optimizer, observer, available, ridge
        self.ranks = ranks
        self.parameters = observer.parameters

    def begin_epoch(self, epoch: int) -> None:
        """Nothing depends on the epoch."""

    def follow(self, fraction: float) -> None:
        """Nothing depends on the budget."""

    def apply(self, labels: Labels) -> dict[str, float]:
        """Search along the direction of L-BFGS, move the weights."""
        parts = self._parts(labels)
        weights = parameters_to_vector(self.parameters).detach()

        def evaluate(trial: Tensor) -> tuple[float, Tensor]:
            vector_to_parameters(trial, self.parameters)
            return self._loss(parts)

        weights, report = self.optimizer.step(weights, evaluate)
        vector_to_parameters(weights, self.parameters)
        return report._asdict()

    def retreat(self, state: Mapping[str, Tensor] | None) -> None:
        """Go back to `state`, or to the beginning without one."""
        self.optimizer.steps, self.optimizer.changes = [], []
        if state is not None:
            self.load_state_dict(state)

    def end_epoch(self, reports: Mapping[str, Sequence[float]]) -> EpochReport:
        """Loss and gradient after the last update, mean step, passes over the data in all."""
        if not reports:
            return EpochReport({})
        numbers = {
            "loss": reports["loss"][-1], "gradient": reports["gradient"][-1],
            "step": average(reports)["step"], "evaluations": sum(reports["evaluations"]),
        }  # fmt: skip
        return EpochReport(numbers, "loss {loss:.4e}, gradient {gradient:.1e}".format_map(numbers))

    def _parts(self, labels: Labels) -> list[tuple[Labels, LossWeights]]:
        """The labels that this process evaluates in parts, and the weights of each in the whole loss.

        A part is of structures with the same kinds of labels, as many as the observer evaluates at once.
        """
        kinds: dict[tuple[bool, bool, bool], list[tuple[int, Tensor]]] = {}
        for index, own in zip(labels.structures, labels.components or [], strict=True):
            has = self.available[index]
            kind = (labels.energy and has.energy, len(own) > 0, labels.virial and has.virial)
            if any(kind):
                kinds.setdefault(kind, []).append((index, own))
        parts = [
            Labels(
                [index for index, _ in batch],
                kind[0],
                [own for _, own in batch] if kind[1] else None,
                kind[2],
            )
            for kind, members in kinds.items()
            for batch in self._batches(members[self.ranks.rank :: self.ranks.size], kind)
        ]
        totals = [max(1, number) for number in _totals(kinds)]
        energies = [len(part.structures) * part.energy for part in parts]
        virials = [len(part.structures) * part.virial for part in parts]
        counts = [sum(len(own) for own in part.components or ()) for part in parts]
        c = self.observer.weights
        weights = [
            replace(
                c,
                energy=c.energy * e / totals[0],
                force=c.force * f / totals[1],
                virial=c.virial * v / totals[2],
            )
            for e, f, v in zip(energies, counts, virials, strict=True)
        ]
        return list(zip(parts, weights, strict=True))

    def _batches(
        self, members: list[tuple[int, Tensor]], kind: tuple[bool, bool, bool]
    ) -> Iterator[list[tuple[int, Tensor]]]:
        """Structures of a kind as many at a time as the observer evaluates at once."""
        _, forces, virial = kind
        if forces or virial:
            atoms, most = [self.available[index].n_atoms for index, _ in members], self.observer.atoms_at_once
        else:
            atoms, most = [1] * len(members), self.observer.energies_at_once
        batch: list[tuple[int, Tensor]] = []
        size = 0
        for member, n in zip(members, atoms, strict=True):
            if batch and size + n > most:
                yield batch
                batch, size = [], 0
            batch.append(member)
            size += n
        if batch:
            yield batch

    def _loss(self, parts: Sequence[tuple[Labels, LossWeights]]) -> tuple[float, Tensor]:
        """Loss of all labels and its gradient (P,) with respect to the weights, as they are now; the same on all ranks.

        `parts` are those of this rank.
        """
        total, whole = 0.0, self.observer.weights
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)
        for part, own in parts:
            self.observer.weights = own
            loss = self.observer.loss(part)
            loss.backward()
            total += float(loss.detach())
        self.observer.weights = whole
        if self.ridge is not None and self.ranks.leads:
            penalty = self.ridge.penalty()
            penalty.backward()
            total += float(penalty.detach())
        gradients = [p.new_zeros(p.shape) if p.grad is None else p.grad for p in self.parameters]
        gradient = parameters_to_vector(gradients).to(torch.float64)
        if self.ranks.size > 1:
            summed = self.ranks.add(torch.cat([gradient.new_tensor([total]), gradient]))
            total, gradient = float(summed[0]), summed[1:]
        return total, gradient

    def state_dict(self) -> Mapping[str, Tensor]:
        """History of the optimizer, loss and gradient at the present weights."""
        return with_observer(self.optimizer.state_dict(), self.observer)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore `state_dict`."""
        self.optimizer.load_state_dict(restore_observer(self.observer, state))


def _totals(kinds: Mapping[tuple[bool, bool, bool], Sequence[tuple[int, Tensor]]]) -> tuple[int, int, int]:
    """Numbers of energies, force components and virials of all structures."""
    return (
        sum(energy * len(members) for (energy, _, _), members in kinds.items()),
        sum(len(own) for (_, forces, _), members in kinds.items() if forces for _, own in members),
        sum(virial * len(members) for (_, _, virial), members in kinds.items()),
    )
