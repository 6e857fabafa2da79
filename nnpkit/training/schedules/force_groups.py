"""The order of updates of the reorganized layer-wise Kalman filter (RLEKF)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from nnpkit.measure.label_choice import Available, Labels
from nnpkit.training.schedules.random_order import BatchedSchedule, require_labels
from nnpkit.training.schedules.sampling import Sampler

__all__ = ["GroupSchedule"]


class GroupSchedule(BatchedSchedule):
    """Every structure once per epoch: the forces of some groups of its atoms, and its energy.

    Hu et al. (AAAI 2023, algorithm 1) update once with the energy and then with each of four groups of six atoms,
    the force components of a group being reduced to one observation. Updates with forces shift the energies of all
    structures alike, by many times their error; an update with an energy after them takes that back.

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
    group_atoms : int
        Atoms of a group, drawn anew every epoch without repetition; all of a structure that has fewer.
    groups : int or None
        Groups of a structure, as far as its atoms suffice; None: all of its atoms. The last group may be smaller.
    reduce : bool
        Whether the components of a group become one observation, see
        `nnpkit.measure.observations.signed_weights`.
    joint_from : int or None
        First epoch, counted from 0, in which all labels of a batch are one update; None: each kind of label and each
        group is its own update in every epoch.
    energy_first : bool
        Whether the update with the energy comes before those with forces, as published, or after them.
    sampler : Sampler, optional
        How often structures come; all once by default.

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
        virial: bool = False,
        group_atoms: int = 6,
        groups: int | None = 4,
        reduce: bool = True,
        joint_from: int | None = None,
        energy_first: bool = False,
        sampler: Sampler | None = None,
    ) -> None:
        used = [Available(a.energy and energy, a.components, a.virial and virial) for a in available]
        super().__init__(used, seed, batch_size, sampler)
        self.group_atoms, self.groups = group_atoms, groups
        self.reduce_to = 3 * group_atoms if reduce else None
        self.joint_from, self.energy_first = joint_from, energy_first
        require_labels(available, energy=energy, forces=True, virial=virial)

    def epoch_length(self, epoch: int = 0) -> int:
        """Number of updates in `epoch`, counted from 0."""
        return sum(self._n_updates(batch, self._joint(epoch)) for batch in self._planned_batches())

    def _joint(self, epoch: int) -> bool:
        return self.joint_from is not None and epoch >= self.joint_from

    def _n_updates(self, batch: list[int], joint: bool) -> int:
        energy, n_groups, virial = self._kind(batch[0])
        return 1 if joint else energy + n_groups + virial

    def _kind(self, index: int) -> tuple[int, ...]:
        used = self.used[index]
        enough = -(-used.components // (3 * self.group_atoms))
        return used.energy, enough if self.groups is None else min(self.groups, enough), used.virial

    def _draw_groups(self, index: int) -> list[Tensor]:
        """Force components of each group of atoms of a structure."""
        if self.used[index].components == 0:
            return []
        atoms = torch.randperm(self.used[index].components // 3, generator=self.generator)
        groups = atoms.split(self.group_atoms)[: self.groups]
        return [(3 * group.unsqueeze(1) + torch.arange(3)).reshape(-1) for group in groups]

    def _updates(self, batch: list[int]) -> Iterator[Labels]:
        energy, n_groups, virial = self._kind(batch[0])
        groups = [self._draw_groups(index) for index in batch]
        if self._joint(self.n_epochs):
            components = [torch.cat(own) for own in groups] if n_groups else None
            yield Labels(batch, bool(energy), components, bool(virial), self.reduce_to)
            return
        if energy and self.energy_first:
            yield Labels(batch, True, None, False)
        for group in zip(*groups, strict=True):
            yield Labels(batch, False, list(group), False, self.reduce_to)
        if virial:
            yield Labels(batch, False, None, True)
        if energy and not self.energy_first:
            yield Labels(batch, True, None, False)
