"""A term of pairs for models of any family, complete in this file.

Another package would offer it by an entry point. It reaches farther than the networks do, so that what a training
subtracts is not what their neighbours alone could tell.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from nnpkit.data.graph import edge_centers
from nnpkit.families.term_contract import TermKind
from nnpkit.models.cutoff import cutoff_function
from nnpkit.models.terms import Term
from nnpkit.section import Positive, Section


class TailSettings(Section):
    """An attraction of pairs."""

    strength: Positive = Field(30.0, description="Of a pair, eV A^6.")
    cutoff: Positive = Field(6.0, description="Where it ends, A.")


class Tail(Term):
    """``E_ij = -strength m_i m_j / (r^6 + 50 A^6) fc(r)``, half of it for each edge; m_t = 1 + t / 2."""

    def __init__(self, strength: float, cutoff: float, n_elements: int) -> None:
        super().__init__(cutoff)
        self.strength = strength
        self.register_buffer("factor", 1.0 + 0.5 * torch.arange(n_elements, dtype=torch.float64))

    def forward(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Tensor:
        center = edge_centers(offsets)
        r = torch.linalg.vector_norm(edge_vec, dim=1)
        pair = self.factor[types.index_select(0, center)] * self.factor[neighbor_type]
        energy = -0.5 * self.strength * pair / (r.pow(6) + 50.0)
        energy = energy * cutoff_function(r / self.cutoff, 1.0, "poly2", 0.5)
        zeros = torch.zeros(types.shape[0], dtype=edge_vec.dtype, device=edge_vec.device)
        return zeros.index_add(0, center, energy)


class TailKind(TermKind):
    kind = "tail"
    settings = TailSettings

    def describe(self, settings, data):
        return settings.model_dump()

    def make(self, description, elements):
        return Tail(**description, n_elements=len(elements))


TAIL = TailKind()
