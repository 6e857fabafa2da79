"""Prepared structures that are kept without derivatives, in a quarter of their memory and to the last bit.

What takes a search, neighbours and their order, is kept in integers as small as they fit into; vectors between atoms
follow from positions and cells, and centres from how many neighbours each has.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from nnpkit.data.graph import edge_centers, pair_vectors
from nnpkit.measure.prepared_frame import Frame, Sites

__all__ = ["PackedFrame"]


@dataclass
class PackedFrame:
    """A `Frame` of N atoms and E edges without derivatives."""

    rest: Frame  # all but its edges
    sites: Sites
    counts: Tensor  # (N,) edges of each atom
    neighbor: Tensor  # (E,)

    @classmethod
    def of(cls, frame: Frame, sites: Sites, keep: Callable[[Tensor], Tensor]) -> PackedFrame:
        """Pack a `frame` whose atoms are at these `sites`; `keep` copies what stays."""
        none = frame.center.new_zeros(0)
        own = {
            name: None if value is None else keep(value)
            for name in ("types", "described", "forces", "virial")
            for value in (getattr(frame, name),)
        }
        terms = frame.terms
        if terms is not None:
            terms = terms._replace(
                atomic_energy=keep(terms.atomic_energy), forces=keep(terms.forces), virial=keep(terms.virial)
            )
        rest = replace(
            frame, center=none, neighbor=none, edge_vec=frame.edge_vec.new_zeros(0, 3), sites=None, terms=terms, **own
        )  # fmt: skip
        counts = torch.bincount(frame.center, minlength=frame.n_atoms)
        sites = Sites(keep(sites.positions), keep(sites.cell), keep(_small(sites.shifts)))
        return cls(rest, sites, keep(_small(counts)), keep(_small(frame.neighbor)))

    @property
    def n_bytes(self) -> int:
        """Memory that it takes."""
        parts = (*self.sites, self.counts, self.neighbor)
        return self.rest.n_bytes + sum(part.nbytes for part in parts)

    def unpacked(self) -> Frame:
        """The frame, made anew: what it is given later goes with it."""
        counts, neighbor = self.counts.long(), self.neighbor.long()
        center = edge_centers(torch.cat([counts.new_zeros(1), torch.cumsum(counts, 0)]))
        return replace(
            self.rest, center=center, neighbor=neighbor,
            edge_vec=pair_vectors(*self.sites, center, neighbor),
        )  # fmt: skip


def _small(numbers: Tensor) -> Tensor:
    """Whole `numbers` in the smallest type that holds them all."""
    largest = int(numbers.abs().max()) if numbers.numel() else 0
    kind = next(
        k for k in (torch.int8, torch.int16, torch.int32, torch.int64) if largest <= torch.iinfo(k).max
    )
    return numbers.to(kind)
