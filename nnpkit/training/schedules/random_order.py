"""Which labels each update uses, in which order.

All randomness comes from one generator per schedule, so that a run can be repeated and resumed: its state at
the beginning of the epoch and the number of updates made since then say exactly what comes next.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol

import torch
from torch import Tensor

from nnpkit.errors import InputError
from nnpkit.measure.label_choice import Available, Judge, Labels
from nnpkit.training.schedules.sampling import Sampler, draw

__all__ = [
    "BatchedSchedule",
    "EpochSchedule",
    "PinnSchedule",
    "Schedule",
    "require_labels",
]


class Schedule(Protocol):
    """Order of the labels of a training run."""

    def epoch_length(self, epoch: int = 0) -> int:
        """Number of updates in `epoch`, counted from 0."""
        ...

    def epoch(self) -> Iterator[Labels]:
        """Labels of the updates of the next epoch, or of the rest of it after `load_state_dict`."""
        ...

    def coming(self, n: int) -> list[int]:
        """Structures of the next `n` that the epoch uses, as far as that is decided; nothing changes."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Where the schedule stands: all that later labels depend on."""
        ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from `state_dict`."""
        ...


class _SeededSchedule(ABC):
    """Generator, position in the epoch, and their state."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.epoch_start = self.generator.get_state()
        self.n_epochs = 0  # that have been handed out
        self.position = 0  # updates of the present epoch that have been handed out

    @abstractmethod
    def _draw_epoch(self) -> Iterator[Labels]:
        """Labels of a whole epoch."""

    def epoch(self) -> Iterator[Labels]:
        """Labels of the updates of the next epoch, or of the rest of it after `load_state_dict`."""
        done = self.position
        self.generator.set_state(self.epoch_start)
        for position, labels in enumerate(self._draw_epoch(), start=1):
            if position > done:
                self.position = position
                yield labels
        self.epoch_start = self.generator.get_state()
        self.n_epochs += 1
        self.position = 0

    def coming(self, n: int) -> list[int]:
        """See `Schedule`; what is drawn anew for every update is not decided before."""
        return []

    def state_dict(self) -> dict[str, Tensor]:
        """State of the generator at the beginning of the epoch, the epoch, and the number of updates since."""
        return {
            "generator": self.epoch_start,
            "epoch": torch.tensor(self.n_epochs),
            "position": torch.tensor(self.position),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from `state_dict`."""
        self.epoch_start = state["generator"].clone()
        self.n_epochs, self.position = int(state["epoch"]), int(state["position"])


class PinnSchedule(_SeededSchedule):
    """At every update the energy or `force_labels` random force components of one random structure.

    Shao et al., Phys. Chem. Chem. Phys. 2021, section II A and Fig. 1b.

    Parameters
    ----------
    available : sequence of Available
        Labels of each structure.
    seed : int
        Of the generator.
    energy_probability : float
        Probability that an update uses an energy.
    force_labels : int
        Force components, drawn without repetition, of an update that uses forces; all of a structure that has
        fewer.
    steps_per_epoch : int or None
        Updates that count as an epoch; None: as many as there are structures.
    sampler : Sampler, optional
        How probable structures are; all the same by default.

    Raises
    ------
    InputError
        If no structure has the labels asked for.
    """

    def __init__(
        self,
        available: Sequence[Available],
        seed: int,
        energy_probability: float = 0.5,
        force_labels: int = 10,
        steps_per_epoch: int | None = None,
        sampler: Sampler | None = None,
    ) -> None:
        super().__init__(seed)
        self.sampler = sampler
        self.components = [a.components for a in available]
        self.with_energy = [n for n, a in enumerate(available) if a.energy]
        self.with_forces = [n for n, a in enumerate(available) if a.components > 0]
        self.energy_probability, self.force_labels = energy_probability, force_labels
        self.steps = steps_per_epoch or len(available)
        if energy_probability > 0.0 and not self.with_energy:
            raise _nothing("energies", "training.schedule.energy_probability")
        if energy_probability < 1.0 and not self.with_forces:
            raise _nothing(
                "forces", "training.schedule.energy_probability", "set it to 1 to train on energies"
            )

    def epoch_length(self, epoch: int = 0) -> int:
        """Number of updates in an epoch."""
        return self.steps

    def _draw_epoch(self) -> Iterator[Labels]:
        for _ in range(self.steps):
            use_energy = float(torch.rand((), generator=self.generator)) < self.energy_probability
            candidates = self.with_energy if use_energy else self.with_forces
            index = self._one_of(candidates)
            if use_energy:
                yield Labels([index], True, None, False)
            else:
                some = _some(self.components[index], self.force_labels, self.generator)
                yield Labels([index], False, [some], False)

    def _one_of(self, candidates: list[int]) -> int:
        if self.sampler is None:
            return candidates[int(torch.randint(len(candidates), (), generator=self.generator))]
        chosen = torch.multinomial(self.sampler.weights(candidates), 1, generator=self.generator)
        return candidates[int(chosen)]


class BatchedSchedule(_SeededSchedule):
    """Every structure once per epoch, in random order, in batches of structures with the same kinds of labels.

    With a `sampler` those of some groups come several times and as many of others not at all. Subclasses say which
    updates a batch makes. `used` holds the labels that each structure takes part with.
    """

    def __init__(
        self, used: Sequence[Available], seed: int, batch_size: int, sampler: Sampler | None = None
    ) -> None:
        super().__init__(seed)
        self.sampler = sampler
        self.used, self.batch_size = list(used), batch_size
        self.indices = [n for n, u in enumerate(self.used) if u.energy or u.components or u.virial]
        self._drawn: list[int] = []  # structures of the epoch in their order ...
        self._passed = 0  # ... and how many of them have found their batch

    @abstractmethod
    def _updates(self, batch: list[int]) -> Iterator[Labels]:
        """Labels of the updates with a batch of structures."""

    def _kind(self, index: int) -> tuple[int, ...]:
        """Kinds of labels (energy, forces, virial) of a structure; only structures of a kind share a batch."""
        used = self.used[index]
        return used.energy, used.components > 0, used.virial

    def _batches(self, indices: Iterable[int]) -> Iterator[list[int]]:
        """Batches of structures of a kind, whenever one is complete; incomplete ones last."""
        batches: dict[tuple[int, ...], list[int]] = {}
        for index in indices:
            batch = batches.setdefault(self._kind(index), [])
            batch.append(index)
            if len(batch) == self.batch_size:
                yield batches.pop(self._kind(index))
        yield from batches.values()

    def _draw_epoch(self) -> Iterator[Labels]:
        if self.sampler is None:
            order = torch.randperm(len(self.indices), generator=self.generator).tolist()
            drawn = [self.indices[position] for position in order]
        else:
            drawn = draw(self._strata(), self.generator)
        for batch in self._batches(self._passing(drawn)):
            yield from self._updates(batch)

    def _passing(self, drawn: list[int]) -> Iterator[int]:
        self._drawn = drawn
        for self._passed, index in enumerate(drawn, start=1):
            yield index

    def coming(self, n: int) -> list[int]:
        """See `Schedule`."""
        return self._drawn[self._passed : self._passed + n]

    def _strata(self) -> list[tuple[list[int], int]]:
        """Structures that an epoch treats alike, and how many of them it has."""
        if self.sampler is None:
            return [([index], 1) for index in self.indices]
        return self.sampler.strata(self.indices, [self._kind(index) for index in self.indices])

    def _planned_batches(self) -> Iterator[list[int]]:
        """Batches like those of an epoch, of structures that stand for others of their kind."""
        return self._batches(members[0] for members, number in self._strata() for _ in range(number))


class EpochSchedule(BatchedSchedule):
    """Every structure once per epoch, each batch of structures being one update.

    Parameters
    ----------
    available : sequence of Available
        Labels of each structure. A structure takes part with those it has of the kinds asked for.
    seed : int
        Of the generator.
    batch_size : int
        Structures per update.
    energy, virial : bool
        Use energies, virials.
    forces : int, float or None
        Force components of each structure, drawn anew every epoch without repetition; a float is that part of them;
        None: all, 0: none.
    largest : bool
        Take the components with the largest errors instead, as the `judge` sees them just before the update.
    sampler : Sampler, optional
        How often structures come; all once by default.

    Attributes
    ----------
    judge : Judge or None
        To be set before the first epoch if `largest`.

    Raises
    ------
    InputError
        If no structure has any of the labels asked for.
    """

    def __init__(
        self,
        available: Sequence[Available],
        seed: int,
        batch_size: int = 1,
        energy: bool = True,
        forces: int | float | None = None,
        virial: bool = False,
        largest: bool = False,
        sampler: Sampler | None = None,
    ) -> None:
        used = [
            Available(a.energy and energy, 0 if forces == 0 else a.components, a.virial and virial)
            for a in available
        ]
        super().__init__(used, seed, batch_size, sampler)
        self.forces, self.largest = forces, largest
        self.judge: Judge | None = None
        require_labels(available, energy=energy, forces=forces != 0, virial=virial)

    def epoch_length(self, epoch: int = 0) -> int:
        """Number of updates in an epoch."""
        return sum(1 for _ in self._planned_batches())

    def _updates(self, batch: list[int]) -> Iterator[Labels]:
        energy, forces, virial = self._kind(batch[0])
        components = [self._components(index) for index in batch] if forces else None
        yield Labels(batch, bool(energy), components, bool(virial))

    def _components(self, index: int) -> Tensor:
        total, wanted = self.used[index].components, self.forces
        if isinstance(wanted, float):
            wanted = max(1, round(wanted * total))
        if not self.largest or wanted is None:
            return _some(total, wanted, self.generator)
        assert self.judge is not None
        return torch.topk(self.judge.errors(index).forces, min(wanted, total)).indices.sort().values


def require_labels(available: Sequence[Available], *, energy: bool, forces: bool, virial: bool) -> None:
    """Refuse a schedule that uses a kind of label which no structure has."""
    for kind, key, name, off, wanted in (
        ("energy", "energy", "energies", "false", energy),
        ("components", "forces", "forces", "0", forces),
        ("virial", "virial", "stresses", "false", virial),
    ):
        if wanted and not any(getattr(a, kind) for a in available):
            raise _nothing(name, f"training.schedule.{key}", f"set it to {off}")


def _some(total: int, wanted: int | None, generator: torch.Generator) -> Tensor:
    """Indices below `total`: all, or `wanted` random ones in ascending order."""
    if wanted is None or wanted >= total:
        return torch.arange(total)
    return torch.randperm(total, generator=generator)[:wanted].sort().values


def _nothing(labels: str, where: str, hint: str | None = None) -> InputError:
    return InputError(
        f"the schedule uses {labels}, but no training structure has any", where=where, hint=hint
    )
