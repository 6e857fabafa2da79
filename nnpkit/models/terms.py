"""What a model adds to its networks: functions of the edges of an atom that no training changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from nnpkit.errors import InputError

__all__ = ["SumOfTerms", "Term", "require_no_terms"]


def require_no_terms(spec: Mapping[str, Any], what: str, where: str) -> None:
    """Refuse to write a model as `what`, which cannot express its terms.

    Raises
    ------
    InputError
        If it has some beside a repulsion.
    """
    if terms := ", ".join(spec.get("terms") or {}):
        raise InputError(
            f"{what} cannot express what this model has beside its networks ({terms})", where=where,
            expected="a potential without model.terms",
        )  # fmt: skip


class Term(nn.Module):
    """A part of the energy without trained weights, such as a repulsion or the dispersion of pairs.

    Forces and virial are its derivatives by the edge vectors, as of the networks. A training subtracts it from the
    labels once for each structure; networks learn the rest. It is exported with the model, so it has to be TorchScript.

    Parameters
    ----------
    cutoff : float
        Radius, Å, beyond which no neighbour matters. It may be larger than that of the networks.
    """

    def __init__(self, cutoff: float) -> None:
        super().__init__()
        self.cutoff = float(cutoff)

    def forward(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Tensor:
        """Energy (n_local,) of each centre, eV; see `nnpkit.models.atomic_model.AtomicModel.forward`.

        Edges that are longer than the cutoff contribute nothing, and there may be no atom at all. Of a pair half the
        energy belongs to each edge, since both atoms have one.
        """
        raise NotImplementedError


class SumOfTerms(Term):
    """All terms of a model: the repulsion that kernels know, and others.

    Parameters
    ----------
    repulsion : Term or None
        See `nnpkit.models.short_range.make_wall`.
    others : sequence of Term
        At least one.
    """

    def __init__(self, repulsion: Term | None, others: Sequence[Term]) -> None:
        parts = [*others] if repulsion is None else [repulsion, *others]
        super().__init__(max(part.cutoff for part in parts))
        self.repulsion = repulsion
        self.others = nn.ModuleList(others)

    def forward(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Tensor:
        """Energy (n_local,) of each centre, eV."""
        energy = self.of_others(edge_vec, neighbor_type, offsets, types)
        if self.repulsion is not None:
            energy = energy + self.repulsion(edge_vec, neighbor_type, offsets, types)
        return energy

    @torch.jit.export
    def of_others(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Tensor:
        """What kernels do not know of: the energy (n_local,) without the repulsion, eV."""
        energy = torch.zeros(types.shape[0], dtype=edge_vec.dtype, device=edge_vec.device)
        for term in self.others:
            energy = energy + term(edge_vec, neighbor_type, offsets, types)
        return energy
