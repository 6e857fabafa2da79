"""Models whose atoms hear of their neighbours' neighbours: several stages, and in between what atoms tell each other.

A stage sees each centre, its neighbours and what the stage before has said of both, its *field*. Whoever evaluates the
model carries fields from one stage to the next: here by the index of the neighbour, in LAMMPS from the owners of atoms
to their ghosts. The derivative by a field goes back the same way, from ghosts to owners. A model knows neither.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nnpkit.data.graph import Graph, edge_vectors
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.descriptor import Descriptor
from nnpkit.models.networks import ElementNetworks
from nnpkit.models.scaling import Scaling
from nnpkit.models.terms import Term

__all__ = ["StagedDescriptor", "StagedModel", "evaluate_stages", "model_features"]


class StagedDescriptor(Descriptor):
    """A description of each atom in stages; the last one gives the features.

    Subclasses implement ``stage(number: int, own (n_local, W), theirs (E, W), edge_vec (E, 3), neighbor_type (E,),
    offsets (n_local + 1,), types (n_local,))`` instead of ``forward``: stage ``number`` gives field ``number``
    (n_local, width) of each centre, the last one its features (n_local, D). `own` and `theirs` are the field before, of
    each centre and of the neighbour at the end of each edge; without columns at the first stage. Like all descriptors
    they may meet edges that are longer than the cutoff, and no atom at all.

    Parameters
    ----------
    cutoff, n_features
        See `Descriptor`; each stage sees so far.
    fields : sequence of (str, int)
        Name and numbers per atom of what each stage but the last gives to the next.
    """

    def __init__(self, cutoff: float, n_features: Sequence[int], fields: Sequence[tuple[str, int]]) -> None:
        super().__init__(cutoff, n_features)
        self.fields = [(str(name), int(width)) for name, width in fields]

    @torch.jit.unused
    def of_graph(self, graph: Graph) -> Tensor:
        """Features (N, D) of all atoms of a graph."""
        edges = (edge_vectors(graph), graph.types[graph.neighbor], graph.offsets, graph.types)
        values = edges[0].new_zeros(len(graph.types), 0)
        for number in range(len(self.fields) + 1):
            values = self.stage(number, values, values[graph.neighbor], *edges)
        return values


class StagedModel(AtomicModel):
    """An `AtomicModel` with a `StagedDescriptor`; its last stage gives atomic energies."""

    def __init__(
        self,
        elements: Sequence[str],
        descriptor: StagedDescriptor,
        scaling: Scaling,
        networks: ElementNetworks,
        terms: Term | None,
        energy_scale: float,
        reference_energies: Sequence[float],
        spec: Mapping[str, Any],
    ) -> None:
        super().__init__(
            elements, descriptor, scaling, networks, terms, energy_scale, reference_energies, spec
        )
        self.fields = list(descriptor.fields)

    @torch.jit.unused
    def forward(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Tensor:
        """Not from edges alone; see `stages`."""
        raise TypeError("the model has stages: evaluate it with Potential")

    def stage(
        self,
        number: int,
        own: Tensor,
        theirs: Tensor,
        edge_vec: Tensor,
        neighbor_type: Tensor,
        offsets: Tensor,
        types: Tensor,
    ) -> Tensor:
        """Field `number` (n_local, width), or of the last stage atomic energies (n_local,) in eV, float64.

        Parameters
        ----------
        own, theirs : Tensor
            The field before: of each centre (n_local, W) and of the neighbour of each edge (E, W).
        edge_vec, neighbor_type, offsets, types : Tensor
            See `AtomicModel.forward`.
        """
        values = self.descriptor.stage(number, own, theirs, edge_vec, neighbor_type, offsets, types)
        if number < len(self.fields):
            return values
        energy = self.energy_of_features(values, types)
        if self.terms is not None:
            energy = energy + self.terms(edge_vec, neighbor_type, offsets, types).to(torch.float64)
        return energy

    def stages(
        self, edge_vec: Tensor, neighbor: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor
    ) -> list[Tensor]:
        """All fields, and at the end atomic energies (n_local,), where all neighbours are among the centres.

        Parameters
        ----------
        neighbor : Tensor
            (E,) int64, which centre the neighbour of each edge is.
        """
        values = [edge_vec.new_zeros((types.shape[0], 0))]
        for number in range(len(self.fields) + 1):
            own = values[-1]
            theirs = own.index_select(0, neighbor)
            values.append(self.stage(number, own, theirs, edge_vec, neighbor_type, offsets, types))
        return values[1:]

    def last_features(
        self,
        own: Tensor,
        theirs: Tensor,
        edge_vec: Tensor,
        neighbor_type: Tensor,
        offsets: Tensor,
        types: Tensor,
    ) -> Tensor:
        """Raw features (n_local, D), which the last stage makes of the field before it."""
        return self.descriptor.stage(len(self.fields), own, theirs, edge_vec, neighbor_type, offsets, types)


def evaluate_stages(
    model: Any, graph: Graph, atoms_per_chunk: int
) -> tuple[dict[str, Tensor], Tensor, Tensor]:
    """Fields, atomic energies (N,) and their derivative by the edge vectors (E, 3), a few centres at a time.

    The fields are computed first, stage by stage, without a record of how. Then each stage, the last one first, is
    evaluated again and differentiated: by the edge vectors, and by the field before, which is the stage before's turn.

    Parameters
    ----------
    model : StagedModel or its scripted form
        To be evaluated.
    """
    edge_vec, neighbor_type = edge_vectors(graph), graph.types[graph.neighbor]
    n_atoms = len(graph.types)
    starts = range(0, n_atoms, atoms_per_chunk)

    def run(number: int, start: int, field: Tensor, vectors: Tensor, theirs: Tensor) -> Tensor:
        """A stage for the centres from `start` on."""
        stop = min(start + atoms_per_chunk, n_atoms)
        first, last = int(graph.offsets[start]), int(graph.offsets[stop])
        offsets = graph.offsets[start : stop + 1] - first
        values: Tensor = model.stage(
            number, field, theirs, vectors, neighbor_type[first:last], offsets, graph.types[start:stop]
        )
        return values

    def parts(start: int, field: Tensor) -> tuple[slice, slice, list[Tensor]]:
        """Centres and edges from `start` on, and of them own field, edge vectors and field of the neighbours."""
        atoms = slice(start, min(start + atoms_per_chunk, n_atoms))
        edges = slice(int(graph.offsets[atoms.start]), int(graph.offsets[atoms.stop]))
        return atoms, edges, [field[atoms], edge_vec[edges], field[graph.neighbor[edges]]]

    fields = [edge_vec.new_zeros(n_atoms, 0)]
    with torch.no_grad():
        for number, (_, width) in enumerate(model.fields):
            own = [run(number, start, *parts(start, fields[-1])[2]) for start in starts]
            fields.append(torch.cat([edge_vec.new_zeros(0, width), *own]))
    energies, gradient = edge_vec.new_zeros(n_atoms), torch.zeros_like(edge_vec)
    weights = torch.ones_like(energies)
    for number in range(len(model.fields), -1, -1):
        field, by_field = fields[number], torch.zeros_like(fields[number])
        for start in starts:
            atoms, edges, inputs = parts(start, field)
            with torch.enable_grad():
                leaves = [part.detach().requires_grad_(True) for part in inputs]
                values = run(number, start, *leaves)
                slopes = torch.autograd.grad(values, leaves, weights[atoms], materialize_grads=True)
            if number == len(model.fields):
                energies[atoms] = values.detach()
            gradient[edges] += slopes[1]
            by_field[atoms] += slopes[0]
            by_field.index_add_(0, graph.neighbor[edges], slopes[2])
        weights = by_field
    names = [name for name, _ in model.fields]
    return dict(zip(names, fields[1:], strict=True)), energies, gradient


def model_features(model: Any, graph: Graph) -> Tensor:
    """Raw features (N, D) of all atoms of a graph, of an `AtomicModel` or its scripted form."""
    edges = (edge_vectors(graph), graph.types[graph.neighbor], graph.offsets, graph.types)
    if not getattr(model, "fields", ()):
        features: Tensor = model.features(*edges)
        return features
    own = model.stages(edges[0], graph.neighbor, *edges[1:])[-2]
    features = model.last_features(own, own[graph.neighbor], *edges)
    return features
