"""One structure as the observations of a fixed descriptor see it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from nnpkit.measure.divided import Divided, Part, incoming_of, silent
from nnpkit.models.potential import Prediction

__all__ = ["Frame", "Sites"]


class Sites(NamedTuple):
    """Where the atoms of a structure are, and which of their images are neighbours."""

    positions: Tensor  # (N, 3) Å
    cell: Tensor  # (3, 3) Å, lattice vectors as rows
    shifts: Tensor  # (E, 3) periodic image of the neighbour in lattice vectors


@dataclass
class Frame(Divided):
    """One structure as the observations see it. N atoms, E edges, D features; labels in eV and Å.

    A structure of which only the energy is wanted has no edges here.
    """

    name: str
    types: Tensor  # (N,)
    center: Tensor  # (E,)
    neighbor: Tensor  # (E,)
    edge_vec: Tensor  # (E, 3)
    described: Tensor | None  # (N, D) scaled features; None: computed when they are asked for
    jacobian: Tensor | None  # (E, D, 3) of scaled features; None: not kept
    terms: Prediction | None  # constant part of the prediction (B = 1)
    reference: float  # reference energies, eV
    energy: float | None
    forces: Tensor | None  # (N, 3)
    virial: Tensor | None  # (3, 3)
    counted: slice  # atoms over which sums are taken
    sites: Sites | None = field(default=None, kw_only=True)  # what edges follow from, until they are packed
    computed: Tensor | None = field(default=None, kw_only=True)  # derivatives for the present use
    describe: Callable[[Frame], Tensor] | None = field(default=None, kw_only=True)  # who computes features

    @property
    def features(self) -> Tensor:
        """Scaled features (N, D), of a part of a structure those of its atoms."""
        if self.described is None:
            assert self.describe is not None
            self.described = self.describe(self)
        return self.described

    @cached_property
    def incoming(self) -> tuple[Tensor, Tensor]:
        """Edges (E,) ordered by their neighbour, and where those of each neighbour start (N + 1,)."""
        return incoming_of(self.neighbor, self.n_atoms)

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.types)

    @property
    def counted_types(self) -> Tensor:
        """Element (N,) of each atom over which sums are taken, -1 of others."""
        if self.counted == slice(None):
            return self.types
        counted = torch.full_like(self.types, -1)
        counted[self.counted] = self.types[self.counted]
        return counted

    def offsets(self) -> Tensor:
        """See `Divided`."""
        counts = torch.bincount(self.center, minlength=self.n_atoms)
        return torch.cat([counts.new_zeros(1), torch.cumsum(counts, 0)])

    def of_part(self, part: Part) -> Frame:
        """See `Divided`; only small arrays are copied."""
        some = replace(
            self, center=self.center[part.edges], neighbor=self.neighbor[part.edges],
            edge_vec=self.edge_vec[part.edges], counted=part.atoms,
            jacobian=None if self.jacobian is None else self.jacobian[part.edges],
            computed=None if self.computed is None else self.computed[part.edges],
        )  # fmt: skip
        return some if part.is_first else silent(some)

    @property
    def n_bytes(self) -> int:
        """Memory of features, edges and labels, without derivatives."""
        terms = () if self.terms is None else (self.terms.atomic_energy, self.terms.forces)
        parts = (self.types, self.center, self.neighbor, self.edge_vec, self.described, self.forces, *terms)
        return sum(part.nbytes for part in parts if part is not None)
