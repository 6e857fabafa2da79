"""Structures prepared for training a cluster expansion: moments of the neighbours instead of the neighbours.

The trained coefficients enter linearly. With the fixed combinations h_q of the radial functions ::

    A_nlm = sum_tq w_tnq X_tqlm           X_tqlm = sum over neighbours j of element t of h_q(r_j) Y_lm(u_j)

moments X that no training changes, and radial ones without Y. Energies need nothing else; rows of the Jacobian that
belong to forces need the edges that move.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from nnpkit.data.graph import build_graph, edge_centers, edge_vectors, type_indices
from nnpkit.data.structure import Structure
from nnpkit.families.cluster_expansion.expansion_descriptor import ClusterExpansion
from nnpkit.families.cluster_expansion.harmonics import harmonics, harmonics_gradient
from nnpkit.families.cluster_expansion.radial import radial_functions_and_slopes
from nnpkit.measure.divided import Divided, Part, incoming_of, silent
from nnpkit.measure.frames import structure_terms
from nnpkit.measure.label_sums import VIRIAL_COMPONENTS
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.neighbor_sums import neighbor_slots, side_by_side, sum_over_neighbors
from nnpkit.models.potential import Prediction

__all__ = [
    "EdgeFunctions",
    "ExpansionEdges",
    "ExpansionFrame",
    "Moments",
    "StrainedMoments",
    "edge_functions",
    "prepare_expansion_frame",
]


class ExpansionEdges(NamedTuple):
    """Edges of a structure up to the larger cutoff."""

    center: Tensor  # (E,) ascending
    neighbor: Tensor  # (E,)
    element: Tensor  # (E,) of the neighbour
    vectors: Tensor  # (E, 3) Å

    def select(self, edges: Tensor) -> ExpansionEdges:
        """Some of the edges, in the order of `edges`."""
        return ExpansionEdges(*(part.index_select(0, edges) for part in self))


class EdgeFunctions(NamedTuple):
    """What the moments sum, edge by edge, and its derivatives; angular parts of the E' edges that are short enough."""

    length: Tensor  # (E,) Å
    unit: Tensor  # (E, 3)
    radial: Tensor  # (E, Kr) h_q
    radial_slope: Tensor  # (E, Kr) dh_q/dr
    near: Tensor  # (E',) edges within the angular cutoff, ascending
    angular: Tensor  # (E', Ka)
    angular_slope: Tensor  # (E', Ka)
    harmonics: Tensor  # (E', L)
    harmonics_slope: Tensor  # (L, 3, E') dY by the components of the direction

    def changes(self, change: Tensor) -> tuple[Tensor, Tensor]:
        """Changes of distances (E, X) and harmonics (E', X, L) for `change` (E, 3, X) of the vectors."""
        along = (self.unit.unsqueeze(1) @ change).squeeze(1)
        near, unit = self.near, self.unit[self.near].unsqueeze(2)
        # of the direction: what is left of the change across it, by the distance
        across = (change[near] - unit * along[near].unsqueeze(1)) / self.length[near][:, None, None]
        by_component = across.permute(1, 2, 0).contiguous()  # (3, X, E')
        y = self.harmonics_slope.unsqueeze(2)  # (L, 3, 1, E')
        turned = y[:, 0] * by_component[0] + y[:, 1] * by_component[1] + y[:, 2] * by_component[2]
        return along, turned.permute(2, 1, 0).contiguous()


class StrainedMoments(NamedTuple):
    """Changes of the moments of all atoms under the strains of the six components of the virial."""

    radial: Tensor  # (N, 6, T Kr)
    angular: Tensor  # (N, 6, L, T Ka)


class Moments(NamedTuple):
    """What PyTorch needs beside the edges."""

    incoming: Tensor  # (E,) edges ordered by their neighbour ...
    first_incoming: Tensor  # (N + 1,) ... and where those of each neighbour start
    radial: Tensor  # (N, T Kr)
    angular: Tensor  # (N, L, T Ka)
    strained: StrainedMoments | None  # of a structure with a stress


@dataclass
class ExpansionFrame(Divided):
    """One structure as the observations see it; its N atoms are sorted by element. Labels in eV and Å."""

    name: str
    place: Tensor  # (N,) where each atom of the structure stands in the sorted order
    counts: list[int]  # atoms of each of the T elements
    edges: ExpansionEdges
    first: Tensor  # (N + 1,) outgoing edges of each atom
    moments: Moments | None  # None: the kernels need none
    reference: float  # reference energies, eV
    terms: Prediction | None
    energy: float | None
    forces: Tensor | None  # (N, 3)
    virial: Tensor | None  # (3, 3)
    counted: slice  # atoms over which sums are taken

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.place)

    def offsets(self) -> Tensor:
        """See `Divided`."""
        return self.first

    def of_part(self, part: Part) -> ExpansionFrame:
        """See `Divided`; for the kernels, which need no moments."""
        some = replace(
            self, edges=ExpansionEdges(*(values[part.edges] for values in self.edges)), moments=None,
            first=self.first.clamp(part.edges.start, part.edges.stop) - part.edges.start, counted=part.atoms,
        )  # fmt: skip
        return some if part.is_first else silent(some)

    @property
    def n_bytes(self) -> int:
        """Memory that it takes."""
        parts = [*self.edges, self.first]
        if self.moments is not None:
            parts += [*self.moments[:4], *(self.moments.strained or ())]
        return sum(part.nbytes for part in parts)

    @cached_property
    def types(self) -> Tensor:
        """Element (N,) of each atom over which sums are taken, -1 of others."""
        types = torch.repeat_interleave(torch.arange(len(self.counts)), torch.tensor(self.counts))
        if self.counted == slice(None):
            return types
        counted = torch.full_like(types, -1)
        counted[self.counted] = types[self.counted]
        return counted

    @property
    def incoming(self) -> Tensor:
        """Edges (E,) ordered by their neighbour."""
        assert self.moments is not None
        return self.moments.incoming

    @property
    def first_incoming(self) -> Tensor:
        """Where those of each neighbour start, (N + 1,)."""
        assert self.moments is not None
        return self.moments.first_incoming


@torch.no_grad()
def edge_functions(d: ClusterExpansion, vectors: Tensor) -> EdgeFunctions:
    """Functions of edges with `vectors` (E, 3)."""
    r = vectors.norm(dim=1)
    unit = vectors / r.unsqueeze(1)
    near = torch.nonzero(r < d.angular_cutoff).squeeze(1)
    radial, radial_slope = radial_functions_and_slopes(r, d.radial_basis, d.radial_cutoff, d.cutoff_kind)
    angular, angular_slope = radial_functions_and_slopes(
        r[near], d.angular_basis, d.angular_cutoff, d.cutoff_kind
    )
    return EdgeFunctions(
        length=r,
        unit=unit,
        radial=radial @ d.radial_combinations.T,
        radial_slope=radial_slope @ d.radial_combinations.T,
        near=near,
        angular=angular @ d.angular_combinations.T,
        angular_slope=angular_slope @ d.angular_combinations.T,
        harmonics=harmonics(unit[near], d.l_max),
        harmonics_slope=harmonics_gradient(unit[near], d.l_max),
    )


@torch.no_grad()
def prepare_expansion_frame(
    model: AtomicModel, structure: Structure, with_moments: bool = True
) -> ExpansionFrame:
    """What a training needs of `structure`; the kernels make moments themselves."""
    d: ClusterExpansion = model.descriptor
    types = torch.as_tensor(type_indices(structure.symbols, model.elements, structure.name))
    order = torch.argsort(types, stable=True)
    ordered = Structure(
        [structure.symbols[i] for i in order], structure.positions[order.numpy()], structure.cell, structure.pbc,
        name=structure.name,
    )  # fmt: skip
    graph = build_graph(ordered, model.elements, d.cutoff)
    center = edge_centers(graph.offsets)
    edges = ExpansionEdges(center, graph.neighbor, graph.types[graph.neighbor], edge_vectors(graph))
    reaching = (graph, center, edges.vectors) if model.cutoff == d.cutoff else None
    return ExpansionFrame(
        name=structure.name,
        place=torch.argsort(order),
        counts=torch.bincount(graph.types, minlength=d.n_types).tolist(),
        edges=edges,
        first=graph.offsets,
        moments=_all_moments(d, edges, len(types), structure.stress is not None) if with_moments else None,
        reference=sum(model.reference_energies[t] for t in types.tolist()),
        terms=structure_terms(model.terms, ordered, model.elements, reaching),
        energy=structure.energy,
        forces=None if structure.forces is None else torch.as_tensor(structure.forces)[order],
        virial=None if structure.stress is None else torch.as_tensor(structure.virial),
        counted=slice(None),
    )


def _all_moments(d: ClusterExpansion, edges: ExpansionEdges, n: int, strained: bool) -> Moments:
    """Moments of `n` atoms, with their changes under strain if asked for."""
    incoming, first_incoming = incoming_of(edges.neighbor, n)
    functions = edge_functions(d, edges.vectors)
    radial, angular = _moments(d, edges, functions, n)
    return Moments(
        incoming=incoming,
        first_incoming=first_incoming,
        radial=radial,
        angular=angular,
        strained=_strained(d, edges, functions, n) if strained else None,
    )


def _elements(element: Tensor, n_types: int) -> list[Tensor]:
    """Edges to neighbours of each element."""
    return [torch.nonzero(element == t).squeeze(1) for t in range(n_types)]


def _moments(
    d: ClusterExpansion, edges: ExpansionEdges, found: EdgeFunctions, n: int
) -> tuple[Tensor, Tensor]:
    """Radial (N, T Kr) and angular (N, L, T Ka) moments of `n` atoms."""
    near = edges.select(found.near)
    angular = [
        sum_over_neighbors(found.harmonics[mine], found.angular[mine], near.center[mine], n)
        for mine in _elements(near.element, d.n_types)
    ]
    return _radial_sums(d, edges, found.radial, n), torch.cat(angular, dim=2)


def _radial_sums(d: ClusterExpansion, edges: ExpansionEdges, values: Tensor, n: int) -> Tensor:
    """Sums (N, T K) of `values` (E, K) over the neighbours of each element."""
    place = edges.center * d.n_types + edges.element
    sums = values.new_zeros((n * d.n_types, values.shape[1])).index_add(0, place, values)
    return sums.view(n, d.n_types * values.shape[1])


def _strained(d: ClusterExpansion, edges: ExpansionEdges, found: EdgeFunctions, n: int) -> StrainedMoments:
    """Changes of the moments, one component of the virial after the other."""
    change = torch.zeros((len(edges.center), 3, len(VIRIAL_COMPONENTS)), dtype=torch.float64)
    for x, (a, b) in enumerate(VIRIAL_COMPONENTS):  # as of `nnpkit.measure.directions.strains`
        change[:, b, x] -= 0.5 * edges.vectors[:, a]
        change[:, a, x] -= 0.5 * edges.vectors[:, b]
    along, turned = found.changes(change)  # (E, 6), (E', 6, L)
    stretched = (along.unsqueeze(2) * found.radial_slope.unsqueeze(1)).flatten(1)
    shape = (n, d.n_types, along.shape[1], d.radial_basis)
    radial = _radial_sums(d, edges, stretched, n).view(shape).transpose(1, 2).flatten(2)
    stretched = along[found.near].unsqueeze(2) * found.harmonics.unsqueeze(1)
    left = torch.stack([stretched, turned], dim=1).flatten(1)
    right = torch.stack([found.angular_slope, found.angular], dim=1).flatten(1)
    parts, near = [], edges.select(found.near)
    for mine in _elements(near.element, d.n_types):
        slot, room = neighbor_slots(near.center[mine], n)
        a = side_by_side(left[mine], slot, n, room).view(n, room * 2, left.shape[1] // 2)
        b = side_by_side(right[mine], slot, n, room).view(n, room * 2, d.angular_basis)
        shape = (n, along.shape[1], turned.shape[2], d.angular_basis)
        parts.append((a.transpose(1, 2) @ b).view(shape))
    return StrainedMoments(radial, torch.cat(parts, dim=3))
