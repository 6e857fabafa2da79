"""Committees of potentials with charges, whose members are evaluated one by one: each has charges of its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnpkit.data.graph import Graph
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.potential import Potential, Prediction

__all__ = ["ChargedCommittee", "CommitteePotential", "mean_prediction"]


class ChargedCommittee(nn.Module):
    """The members of a committee that have charges.

    Parameters
    ----------
    members : sequence of AtomicModel
        With the same elements, each with charges or a sum that has them.
    describing : sequence of int
        Members whose features side by side are those of the committee.
    """

    def __init__(self, members: Sequence[AtomicModel], describing: Sequence[int]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        self.describing = list(describing)
        self.elements = list(members[0].elements)

    def features(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Tensor:
        """Raw descriptor values (n_local, D) of the members that describe the atoms, side by side."""
        edges = (edge_vec, neighbor_type, offsets, types)
        return torch.cat([self.members[m].features(*edges) for m in self.describing], dim=1)


class CommitteePotential(Potential):
    """A `ChargedCommittee` on graphs: the mean of its members, in energy, forces, virial and charges.

    Parameters
    ----------
    model : ChargedCommittee
        What is evaluated.
    potentials : sequence of Potential
        Of its members.
    """

    def __init__(self, model: ChargedCommittee, potentials: Sequence[Potential]) -> None:
        nn.Module.__init__(self)
        self.model = model
        self.potentials = nn.ModuleList(potentials)

    def forward(self, graph: Graph, create_graph: bool = False) -> Prediction:
        """Mean of the members for all structures of `graph`; see `Potential.forward`."""
        return mean_prediction([potential(graph, create_graph) for potential in self.potentials])

    def predict(self, graph: Graph, atoms_per_chunk: int = 128) -> Prediction:
        """The same, a few centres at a time."""
        return mean_prediction(self.each(graph, atoms_per_chunk))

    def each(self, graph: Graph, atoms_per_chunk: int = 128) -> list[Prediction]:
        """What every member says, a few centres at a time."""
        return [potential.predict(graph, atoms_per_chunk) for potential in self.potentials]


def mean_prediction(each: Sequence[Prediction]) -> Prediction:
    """Mean of what the members of a committee say; charges are the mean too, where members have the same channels."""

    def mean(name: str) -> Tensor:
        return torch.stack([getattr(one, name) for one in each]).mean(0)

    return Prediction(*(mean(name) for name in ("energy", "atomic_energy", "forces", "virial", "charges")))
