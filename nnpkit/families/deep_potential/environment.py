"""Statistics of the environments that an embedding descriptor is scaled by."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nnpkit.data.graph import build_graph, edge_centers, edge_vectors
from nnpkit.data.store.frame_sample import FITTED, sampled
from nnpkit.data.structure import Structure
from nnpkit.families.deep_potential.embedding import DeepDescriptor, EnvironmentStatistics
from nnpkit.models.cutoff import cutoff_function

__all__ = ["environment_statistics"]


_MIN_STD = 0.01  # 1/Å


@torch.no_grad()
def environment_statistics(
    descriptor: DeepDescriptor, elements: Sequence[str], structures: Sequence[Structure]
) -> EnvironmentStatistics:
    """Mean and standard deviation of the environment matrix, and mean numbers of neighbours, over `structures`.

    The three angular components share one standard deviation about zero. No deviation is less than 0.01/Å, so
    that data in which all distances are equal do no harm.
    """
    n = len(elements)
    moments = torch.zeros((3, n), dtype=torch.float64)  # number of edges, sum of s, sum of s^2
    neighbors = torch.zeros((n, n), dtype=torch.float64)
    atoms = torch.zeros(n, dtype=torch.float64)
    for structure in sampled(structures, FITTED):
        graph = build_graph(structure, elements, descriptor.cutoff)
        center_type = graph.types[edge_centers(graph.offsets)]
        r = edge_vectors(graph).norm(dim=1)
        s = cutoff_function(r, descriptor.cutoff, descriptor.cutoff_kind, descriptor.inner) / r
        moments.index_add_(1, center_type, torch.stack([torch.ones_like(s), s, s * s]))
        neighbors.index_put_((center_type, graph.types[graph.neighbor]), torch.ones_like(s), accumulate=True)
        atoms += torch.bincount(graph.types, minlength=n)
    count, total, square = moments[0].clamp(min=1.0), moments[1], moments[2]
    mean = total / count
    radial = (square / count - mean * mean).clamp(min=0.0).sqrt()
    angular = (square / count / 3.0).sqrt()
    std = torch.stack([radial, angular], dim=1).clamp(min=_MIN_STD)
    return EnvironmentStatistics(mean, std, neighbors / atoms.clamp(min=1.0).unsqueeze(1))
