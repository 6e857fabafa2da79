"""What evaluates any model on graphs: from edges, for whole structures where there are charges, sums, committees."""

from __future__ import annotations

from torch import Tensor, nn

from nnpkit.data.graph import Graph
from nnpkit.models.charged_model import ChargedModel
from nnpkit.models.charged_potential import ChargedPotential
from nnpkit.models.committee_potential import ChargedCommittee, CommitteePotential
from nnpkit.models.potential import Potential, Prediction
from nnpkit.models.sum_model import SumModel, has_charges

__all__ = ["SumPotential", "potential_of"]


def potential_of(model: nn.Module) -> Potential:
    """What evaluates `model` on graphs."""
    if isinstance(model, SumModel) and has_charges(model.spec):
        return SumPotential(model)
    if isinstance(model, ChargedCommittee):
        return CommitteePotential(model, [potential_of(member) for member in model.members])
    return ChargedPotential(model) if isinstance(model, ChargedModel) else Potential(model)


class SumPotential(Potential):
    """A `SumModel` with charges on graphs: the sum of what its parts say."""

    model: SumModel

    def __init__(self, model: SumModel) -> None:
        super().__init__(model)
        self.correction, self.baseline = potential_of(model.correction), potential_of(model.baseline)

    def forward(self, graph: Graph, create_graph: bool = False) -> Prediction:
        """Prediction for all structures of `graph`; see `Potential.forward`."""
        return _sum(
            self.correction(graph, create_graph), self.baseline(self._translated(graph), create_graph)
        )

    def predict(self, graph: Graph, atoms_per_chunk: int = 128) -> Prediction:
        """The same, a few centres at a time."""
        other = self.baseline.predict(self._translated(graph), atoms_per_chunk)
        return _sum(self.correction.predict(graph, atoms_per_chunk), other)

    def _translated(self, graph: Graph) -> Graph:
        """The graph with the types of the baseline."""
        types: Tensor = self.model.types
        return graph._replace(types=types[graph.types])


def _sum(own: Prediction, other: Prediction) -> Prediction:
    return Prediction(
        own.energy + other.energy,
        own.atomic_energy + other.atomic_energy,
        own.forces + other.forces,
        own.virial + other.virial,
        own.charges if other.charges is None else other.charges,
    )
