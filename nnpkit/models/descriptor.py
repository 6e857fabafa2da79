"""What every descriptor is, and the triplets that angular ones sum over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from nnpkit.data.graph import Graph, edge_vectors
from nnpkit.kernels.acsf_operators import FeatureChanges

__all__ = ["ChangesAlong", "Descriptor", "EdgeJacobian", "triplets"]


class EdgeJacobian(NamedTuple):
    """Derivative of the features of every edge's centre with respect to that edge's vector."""

    values: Tensor  # (E, D, 3) 1/Å: d features[center[e]] / d edge_vec[e]
    center: Tensor  # (E,) int64


class Descriptor(nn.Module):
    """A strictly local, rotation and permutation invariant description of each atom's neighbourhood.

    Subclasses implement ``forward(edge_vec (E, 3), neighbor_type (E,), offsets (n_local + 1,), types (n_local,))
    -> features (n_local, D)``; edges are sorted by centre, edges longer than the cutoff contribute nothing,
    ``n_local`` may be 0. D is the largest number of features of any element, shorter sets are padded with
    zeros. A descriptor without trainable parameters also implements ``jacobian(the same) -> (features,
    EdgeJacobian)``.

    Attributes
    ----------
    cutoff : float
        No neighbour beyond this distance (Å) matters.
    n_features : list of int
        Number of features of each element.
    fields : sequence of (str, int)
        What atoms tell each other in between; nothing unless it is a `nnpkit.models.stages.StagedDescriptor`.
    """

    fields = ()  # type: Sequence[tuple[str, int]]  # no annotation, which TorchScript would read

    def __init__(self, cutoff: float, n_features: Sequence[int]) -> None:
        super().__init__()
        self.cutoff = float(cutoff)
        self.n_features = list(n_features)

    def fast(self) -> Descriptor:
        """The same features by the fastest means that are there: itself, unless a family has compiled kernels."""
        return self

    def engine(self) -> str:
        """Who computes the features of `fast`, in words; empty where there is nothing to choose."""
        return ""

    @torch.jit.unused
    def of_graph(self, graph: Graph) -> Tensor:
        """Features (N, D) of all atoms of a graph."""
        features: Tensor = self(edge_vectors(graph), graph.types[graph.neighbor], graph.offsets, graph.types)
        return features

    @torch.jit.unused
    def derivatives(
        self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor
    ) -> EdgeJacobian:
        """What `jacobian` gives beside the features."""
        found: EdgeJacobian = self.jacobian(edge_vec, neighbor_type, offsets, types)[1]
        return found

    @torch.jit.unused
    def vjp(
        self, cotangent: Tensor, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor
    ) -> Tensor:
        """Derivative (E, 3) by the edge vectors of the features times `cotangent` (n_local, D).

        Differentiable with respect to `cotangent` if the descriptor has a `jacobian`.
        """
        edges = (neighbor_type, offsets, types)
        if torch.is_grad_enabled() and cotangent.requires_grad:
            _, jacobian = self.jacobian(edge_vec, *edges)
            return torch.einsum("ed,edx->ex", cotangent[jacobian.center], jacobian.values)
        with torch.enable_grad():
            vectors = edge_vec.detach().requires_grad_(True)
            return torch.autograd.grad(self(vectors, *edges), vectors, cotangent)[0]


@runtime_checkable
class ChangesAlong(Protocol):
    """A descriptor that says what labels are made of without derivatives of single edges, which nobody then keeps."""

    def changes(
        self,
        edge_vec: Tensor,
        neighbor: Tensor,
        offsets: Tensor,
        types: Tensor,
        components: Tensor,
        with_virial: bool,
        factor: Tensor,
    ) -> FeatureChanges:
        """See `nnpkit.kernels.acsf_operators.DescriptorKernel.changes`."""
        ...


def triplets(
    edge_vec: Tensor, r: Tensor, center: Tensor, n_local: int, cutoff: float, close_pairs_only: bool
) -> tuple[Tensor, Tensor]:
    """Pairs of edges (j, k), j before k, of the same centre, both shorter than `cutoff`.

    Parameters
    ----------
    edge_vec, r, center : Tensor
        Vectors (E, 3), lengths (E,) and centres (E,) of edges sorted by centre.
    close_pairs_only : bool
        Keep only pairs whose ends are closer to each other than `cutoff` too.

    Returns
    -------
    tuple of Tensor
        Edge indices (T,) of j and of k.
    """
    edges = torch.nonzero(r < cutoff).squeeze(1)
    counts = torch.bincount(center.index_select(0, edges), minlength=n_local)
    ends = torch.cumsum(counts, 0).index_select(0, center.index_select(0, edges))
    position = torch.arange(edges.shape[0], device=edges.device)
    later = ends - position - 1
    first = torch.repeat_interleave(position, later)
    start = torch.cumsum(later, 0) - later
    within = torch.arange(first.shape[0], device=edges.device) - start.index_select(0, first)
    j = edges.index_select(0, first)
    k = edges.index_select(0, first + 1 + within)
    if close_pairs_only:
        with torch.no_grad():
            side = edge_vec.index_select(0, k) - edge_vec.index_select(0, j)
            close = torch.nonzero((side * side).sum(1) < cutoff * cutoff).squeeze(1)
        j, k = j.index_select(0, close), k.index_select(0, close)
    return j, k
