"""Structures prepared for training a Deep Potential: moments of the neighbours instead of the neighbours.

The embedding networks G are functions of one number, the first component x of a neighbour's row R_j (4 numbers).
On the interval that the data cover they are, to any accuracy asked for, Chebyshev series

    G(x) = sum_k T_k(x) C_k        C = (linear map) of G at K Chebyshev nodes

so the sums over neighbours of `nnpkit.families.deep_potential.embedding` are

    sum_j G(R_j0) (x) R_j = sum_k C_k (x) X_k         X_k = sum_j T_k(R_j0) R_j

with moments X that no training changes. They, and their derivatives with respect to positions, take the place of
the neighbours: an update evaluates the networks at K nodes instead of at every edge, and K of a few dozen gives
ten digits. The size of the last coefficients tells when the networks need more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from nnpkit.data.graph import build_graph, edge_centers, edge_vectors, type_indices
from nnpkit.data.structure import Structure
from nnpkit.families.deep_potential.embedding import DeepDescriptor
from nnpkit.measure.directions import ranges
from nnpkit.measure.divided import Divided, Part, incoming_of, silent
from nnpkit.measure.frames import structure_terms
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.cutoff import cutoff_function
from nnpkit.models.neighbor_sums import neighbor_slots, side_by_side
from nnpkit.models.potential import Prediction

__all__ = [
    "Chebyshev", "Edges", "MomentFrame", "Moments", "argument_intervals", "prepare_frame",
    "with_moments",
]  # fmt: skip


class Chebyshev:
    """Chebyshev polynomials T_0 ... T_(n-1) on an interval of its own for each of several networks.

    Parameters
    ----------
    n : int
        Number of polynomials and of nodes.
    low, high : Tensor
        Ends of the intervals (n_networks,).
    """

    def __init__(self, n: int, low: Tensor, high: Tensor) -> None:
        self.n, self.low, self.high = n, low, high
        angles = (torch.arange(n, dtype=torch.float64) + 0.5) * (math.pi / n)
        orders = torch.arange(n, dtype=torch.float64)
        self.nodes = 0.5 * (low + high).unsqueeze(1) + 0.5 * (high - low).unsqueeze(1) * torch.cos(angles)
        self.to_coefficients = torch.cos(orders.unsqueeze(1) * angles) * (2.0 / n)  # (order, node)
        self.to_coefficients[0] *= 0.5

    def evaluate(self, x: Tensor, network: Tensor) -> tuple[Tensor, Tensor]:
        """Polynomials (E, n) and their derivatives with respect to `x` (E,) for the `network` (E,) of each.

        By ``T_(m+j) = 2 T_m T_j - T_(m-j)``, doubling m.
        """
        low, high = self.low.index_select(0, network), self.high.index_select(0, network)
        t = ((2.0 * x - (low + high)) / (high - low)).unsqueeze(1)
        values, slopes = t.new_empty((len(x), self.n)), t.new_empty((len(x), self.n))
        values[:, 0], values[:, 1:2], slopes[:, 0], slopes[:, 1] = 1.0, t, 0.0, 1.0
        m = 1
        while m < self.n - 1:
            new = min(m, self.n - 1 - m)
            top, top_slope = values[:, m : m + 1], slopes[:, m : m + 1]
            v, d = values[:, 1 : new + 1], slopes[:, 1 : new + 1]
            before = slice(m - new, m)
            values[:, m + 1 : m + 1 + new] = 2.0 * top * v - values[:, before].flip(1)
            slopes[:, m + 1 : m + 1 + new] = 2.0 * (top_slope * v + top * d) - slopes[:, before].flip(1)
            m += new
        return values, slopes * (2.0 / (high - low)).unsqueeze(1)


class Edges(NamedTuple):
    """Edges of a structure and how their rows R (4 components) change with their vectors."""

    center: Tensor  # (E,) ascending
    neighbor: Tensor  # (E,)
    network: Tensor  # (E,) which embedding network
    rows: Tensor  # (E, 4)
    unit: Tensor  # (E, 3) direction
    length: Tensor  # (E,) Å
    slope: Tensor  # (E,) dR_0/dr
    ratio: Tensor  # (E,) R_a = ratio * vector_a for a = 1, 2, 3
    bend: Tensor  # (E,) r d ratio/dr

    @property
    def vectors(self) -> Tensor:
        """Edge vectors (E, 3), Å."""
        return self.unit * self.length.unsqueeze(1)

    def select(self, edges: Tensor) -> Edges:
        """Some of the edges, in the order of `edges`."""
        return Edges(*(part.index_select(0, edges) for part in self))

    def row_change(self, change: Tensor) -> Tensor:
        """Change (E, 4) of the rows for a small `change` (E, 3) of the vectors."""
        along = (self.unit * change).sum(1, keepdim=True)
        angular = self.ratio.unsqueeze(1) * change + (self.bend.unsqueeze(1) * along) * self.unit
        return torch.cat([self.slope.unsqueeze(1) * along, angular], dim=1)

    def vector_gradient(self, gradient: Tensor) -> Tensor:
        """Gradient (E, 3) with respect to the vectors, from that with respect to the rows (E, 4)."""
        angular = gradient[:, 1:]
        along = self.slope * gradient[:, 0] + self.bend * (self.unit * angular).sum(1)
        return along.unsqueeze(1) * self.unit + self.ratio.unsqueeze(1) * angular


@dataclass
class MomentFrame(Divided):
    """One structure as the observations see it; its N atoms are sorted by element. Labels in eV and Å."""

    name: str
    place: Tensor  # (N,) where each atom of the structure stands in the sorted order
    counts: list[int]  # atoms of each element
    edges: Edges
    first: Tensor  # (N + 1,) outgoing edges of each atom
    incoming: Tensor  # (E,) edges ordered by their neighbour ...
    first_incoming: Tensor  # (N + 1,) ... and where those of each neighbour start
    basis: Chebyshev
    moments: Tensor  # (N, 4, T K), divided by the expected number of neighbours, absent ones included
    reference: float  # reference energies, eV
    terms: Prediction | None
    energy: float | None
    forces: Tensor | None  # (N, 3)
    virial: Tensor | None  # (3, 3)

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.place)

    def offsets(self) -> Tensor:
        """See `Divided`."""
        return self.first

    def of_part(self, part: Part) -> MomentFrame:
        """See `Divided`; centres are counted from the first of these atoms on. Not for `edges_of`."""
        edges = Edges(*(values[part.edges] for values in self.edges))
        bounds = torch.tensor([0, *self.counts]).cumsum(0).clamp(part.atoms.start, part.atoms.stop)
        incoming, first_incoming = incoming_of(edges.neighbor, self.n_atoms)
        some = replace(
            self, edges=edges._replace(center=edges.center - part.atoms.start), counts=bounds.diff().tolist(),
            first=self.first.clamp(part.edges.start, part.edges.stop) - part.edges.start,
            incoming=incoming, first_incoming=first_incoming, moments=self.moments[part.atoms],
        )  # fmt: skip
        return some if part.is_first else silent(some)

    def edges_of(self, atoms: Tensor) -> tuple[Tensor, Tensor]:
        """Edges that begin at one of `atoms`, and other edges that end at one; both ascending."""
        atoms = torch.unique(atoms)
        outgoing = ranges(self.first[atoms], self.first[atoms + 1])
        incoming = self.incoming[ranges(self.first_incoming[atoms], self.first_incoming[atoms + 1])]
        others = incoming[~torch.isin(self.edges.center[incoming], atoms)]
        return outgoing, others.sort().values

    @property
    def n_bytes(self) -> int:
        """Memory that it takes."""
        return sum(
            t.nbytes for t in (*self.edges, self.moments, self.first, self.incoming, self.first_incoming)
        )


class Moments:
    """Moments of a set of edges and how they change.

    Parameters
    ----------
    edges : Edges
        Sorted by centre.
    n_atoms, n_types : int
        N and T.
    basis : Chebyshev
        K polynomials for every embedding network.
    """

    def __init__(self, edges: Edges, n_atoms: int, n_types: int, basis: Chebyshev) -> None:
        self.edges, self.n_atoms, self.basis = edges, n_atoms, basis
        self.centers, center = torch.unique_consecutive(edges.center, return_inverse=True)
        self.blocks = []  # for neighbours of each element: edges, their slots, rows and polynomials side by side
        for t in range(n_types):
            mine = torch.nonzero(edges.network % n_types == t).squeeze(1)
            slot, room = neighbor_slots(center[mine], len(self.centers))
            rows = edges.rows[mine]
            values, slopes = self.basis.evaluate(rows[:, 0], edges.network[mine])
            parts = [side_by_side(x, slot, len(self.centers), room) for x in (rows, values, slopes)]
            self.blocks.append((mine, slot, room, *parts))

    def _spread(self, parts: list[Tensor]) -> Tensor:
        """Blocks (n_centers, 4, K) of each element as (N, 4, T K)."""
        found = torch.cat(parts, dim=2)
        if len(self.centers) == self.n_atoms:
            return found
        return found.new_zeros((self.n_atoms, *found.shape[1:])).index_copy(0, self.centers, found)

    def sums(self) -> Tensor:
        """Moments ``sum_j R_j (x) T_k(R_j0)`` (N, 4, T K)."""
        return self._spread([torch.bmm(rows.transpose(1, 2), values) for *_, rows, values, _ in self.blocks])

    def change(self, row_change: Tensor) -> Tensor:
        """Change (N, 4, T K) of the moments when the rows change by `row_change` (E, 4)."""
        parts = []
        for mine, slot, room, rows, values, slopes in self.blocks:
            change = side_by_side(row_change[mine], slot, len(self.centers), room)
            parts.append(
                torch.bmm(change.transpose(1, 2), values)
                + torch.bmm(rows.transpose(1, 2), slopes * change[:, :, :1])
            )
        return self._spread(parts)

    def row_gradient(self, gradient: Tensor) -> Tensor:
        """Gradient (E, 4) with respect to the rows, from that with respect to the moments (N, 4, T K)."""
        if len(self.centers) < self.n_atoms:
            gradient = gradient[self.centers]
        result = torch.zeros_like(self.edges.rows)
        for part, (mine, slot, room, rows, values, slopes) in zip(
            gradient.split(self.basis.n, dim=2), self.blocks, strict=True
        ):
            direct = torch.bmm(values, part.transpose(1, 2))
            direct[:, :, 0] += (torch.bmm(slopes, part.transpose(1, 2)) * rows).sum(2)
            result[mine] = direct.view(len(self.centers) * room, 4)[slot]
        return result


@torch.no_grad()
def argument_intervals(model: AtomicModel, structures: Sequence[Structure]) -> tuple[Tensor, Tensor]:
    """Smallest and largest argument (n_networks,) of each embedding network in `structures`."""
    d: DeepDescriptor = model.descriptor
    largest = torch.zeros(d.n_types * d.n_types, dtype=torch.float64)  # of s(r), for centre and neighbour
    for structure in structures:
        graph = build_graph(structure, model.elements, d.cutoff)
        r = edge_vectors(graph).norm(dim=1)
        s = cutoff_function(r, d.cutoff, d.cutoff_kind, d.inner) / r
        pair = graph.types[edge_centers(graph.offsets)] * d.n_types + graph.types[graph.neighbor]
        largest.scatter_reduce_(0, pair, s, "amax")
    high = (largest.view(d.n_types, d.n_types) - d.mean.unsqueeze(1)) / d.std[:, :1]
    low = d.absent_rows().unsqueeze(1).expand_as(high)
    low, high = (low.amin(0), high.amax(0)) if d.one_side else (low.reshape(-1), high.reshape(-1))
    margin = 1e-6 + 1e-6 * (high - low)  # pairs without edges have an interval too
    return low - margin, high + margin


@torch.no_grad()
def prepare_frame(model: AtomicModel, basis: Chebyshev, structure: Structure) -> MomentFrame:
    """What a training needs of `structure`."""
    d: DeepDescriptor = model.descriptor
    types = torch.as_tensor(type_indices(structure.symbols, model.elements, structure.name))
    order = torch.argsort(types, stable=True)
    ordered = Structure(
        [structure.symbols[i] for i in order], structure.positions[order.numpy()], structure.cell, structure.pbc,
        name=structure.name,
    )  # fmt: skip
    graph = build_graph(ordered, model.elements, d.cutoff)
    types, center = graph.types, edge_centers(graph.offsets)
    edges = _edges(d, types, graph.neighbor, center, edge_vectors(graph))
    incoming, first_incoming = incoming_of(graph.neighbor, len(types))
    terms = structure_terms(model.terms, ordered, model.elements)
    return MomentFrame(
        name=structure.name,
        place=torch.argsort(order),
        counts=torch.bincount(types, minlength=d.n_types).tolist(),
        edges=edges,
        first=graph.offsets,
        incoming=incoming,
        first_incoming=first_incoming,
        basis=basis,
        moments=_all_moments(d, basis, edges, types),
        reference=sum(model.reference_energies[t] for t in types.tolist()),
        terms=terms,
        energy=structure.energy,
        forces=None if structure.forces is None else torch.as_tensor(structure.forces)[order],
        virial=None if structure.stress is None else torch.as_tensor(structure.virial),
    )


@torch.no_grad()
def with_moments(model: AtomicModel, basis: Chebyshev, frame: MomentFrame) -> MomentFrame:
    """The same structure with moments in another basis."""
    types = torch.repeat_interleave(torch.arange(len(frame.counts)), torch.tensor(frame.counts))
    return replace(frame, basis=basis, moments=_all_moments(model.descriptor, basis, frame.edges, types))


def _edges(d: DeepDescriptor, types: Tensor, neighbor: Tensor, center: Tensor, vectors: Tensor) -> Edges:
    center_type, length = types[center], vectors.norm(dim=1)
    with torch.enable_grad():
        r = length.clone().requires_grad_(True)
        s = cutoff_function(r, d.cutoff, d.cutoff_kind, d.inner) / r
        (slope,) = torch.autograd.grad(s.sum(), r)
    std = d.std[center_type]
    ratio = s.detach() / (length * std[:, 1])
    return Edges(
        center=center,
        neighbor=neighbor,
        network=d.network_index(center_type, types[neighbor]),
        rows=d.environment(vectors, center_type),
        unit=vectors / length.unsqueeze(1),
        length=length,
        slope=slope / std[:, 0],
        ratio=ratio,
        bend=slope / std[:, 1] - ratio,
    )


def _all_moments(d: DeepDescriptor, basis: Chebyshev, edges: Edges, types: Tensor) -> Tensor:
    """Moments (N, 4, T K) with the absent neighbours, divided by the expected number of neighbours."""
    n = len(types)
    total = Moments(edges, n, d.n_types, basis).sums()
    absent = d.absent_rows()[types]
    for t in range(d.n_types):
        kind = torch.full((n,), t, dtype=torch.int64)
        present = torch.bincount(edges.center[edges.network % d.n_types == t], minlength=n)
        values, _ = basis.evaluate(absent, d.network_index(types, kind))
        missing = (d.expected[types, t] - present) * absent
        total[:, 0, t * basis.n : (t + 1) * basis.n] += missing.unsqueeze(1) * values
    return total / d.normalisation()[types][:, None, None]
