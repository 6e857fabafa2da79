"""Prepared structures whose labels are sums over atoms, so that several processes measure one of them together.

An energy is a sum over atoms, and so are its derivatives by positions, by a strain and by the weights. A process that
knows the edges of some of the atoms finds the part that these add to every label; the parts of all processes add up to
the whole. What a label is compared with, and what is not a sum, belongs to the part of the first process.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

if TYPE_CHECKING:
    from typing_extensions import Self  # that of typing is of Python 3.11

__all__ = ["Divided", "Part", "Parts", "incoming_of", "observer_of_part", "silent"]


class Part(NamedTuple):
    """Some consecutive atoms of a structure, and their edges, which are consecutive too."""

    atoms: slice
    edges: slice
    is_first: bool  # which is compared with labels


class Divided(ABC):
    """A structure of N atoms in some order, whose E edges are sorted by their centre."""

    @abstractmethod
    def offsets(self) -> Tensor:
        """Where the edges of each atom begin, and E: (N + 1,)."""

    @abstractmethod
    def of_part(self, part: Part) -> Self:
        """The structure with these edges and sums over these atoms only."""

    def part(self, rank: int, size: int) -> Self:
        """What process `rank` of `size` measures: as many atoms as have about one part in `size` of all edges."""
        known = self.__dict__.get("_part")
        if known is None or known[0] != (rank, size):
            known = (rank, size), self.of_part(self._cut(rank, size))
            self.__dict__["_part"] = known
        found: Self = known[1]
        return found

    def _cut(self, rank: int, size: int) -> Part:
        offsets = self.offsets()
        work = offsets + torch.arange(len(offsets))  # an atom without neighbours takes time too
        total = int(work[-1])
        wanted = torch.tensor([total * k // size for k in (rank, rank + 1)])
        first, stop = torch.searchsorted(work, wanted).tolist()
        edges = slice(int(offsets[first]), int(offsets[stop]))
        return Part(slice(first, stop), edges, rank == 0)


class Parts:
    """The structures of a store, of each the part of one process; everything else is that of the store."""

    def __init__(self, store: Any, rank: int, size: int) -> None:
        self._store, self._rank, self._size = store, rank, size

    def __getitem__(self, index: int) -> Any:
        return self._store[index].part(self._rank, self._size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def observer_of_part(observer: Any, rank: int, size: int) -> Any:
    """An `observer` that measures what one process adds to every label, if it does nothing but add up atoms."""
    other = copy.copy(observer)
    other.store = Parts(observer.store, rank, size)
    return other


def silent(frame: Any) -> Any:
    """The same with nothing to compare with: labels, reference energies and what no training changes are zero."""
    labels = {name: getattr(frame, name) for name in ("energy", "forces", "virial")}
    zeros = {name: None if label is None else 0.0 * label for name, label in labels.items()}
    return replace(frame, terms=None, reference=0.0, **zeros)


def incoming_of(neighbor: Tensor, n_atoms: int) -> tuple[Tensor, Tensor]:
    """Edges ordered by their `neighbor` (E,), and (N + 1,) where those of each of `n_atoms` neighbours start."""
    into = torch.bincount(neighbor, minlength=n_atoms)
    return torch.argsort(neighbor, stable=True), torch.cat([into.new_zeros(1), torch.cumsum(into, 0)])
