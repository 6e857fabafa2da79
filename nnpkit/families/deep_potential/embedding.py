"""The smooth embedding descriptor of the Deep Potential, se_e2_a.

L. Zhang, J. Han, H. Wang, W. Saidi, R. Car, W. E, End-to-end symmetry preserving inter-atomic potential energy
model for finite and extended systems, NeurIPS 2018.

With ``s(r) = fc(r) / r`` every neighbour j of atom i is a row of the environment matrix, standardised by numbers
of the element c of i::

    R_j = ((s - mean_c) / std_c, s x / (r std'_c), s y / (r std'_c), s z / (r std'_c))

and a network of the element of j (or of the pair) turns the first component into M numbers G(R_j0). Then::

    T_i = (1 / N_c) sum_j G_j (x) R_j   (M, 4)         D_i = T_i T_i[:M<]^T   (M, M<)

A neighbour that leaves the cutoff sphere ends at the row ``R_0 = (-mean_c / std_c, 0, 0, 0)``, which is not zero.
So the sum is taken over an expected number N_ct of neighbours of each element t, absent ones being rows R_0:
``sum_j (G_j R_j - G_0 R_0) + N_ct G_0 R_0``, with ``N_c = sum_t N_ct``. This is what DeePMD-kit computes when its
``sel`` are the N_ct and large enough. Here no list is ever cut, the N_ct need not be integers, and an atom may
have more neighbours than expected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nnpkit.data.graph import edge_centers
from nnpkit.models.cutoff import cutoff_function
from nnpkit.models.descriptor import Descriptor
from nnpkit.models.neighbor_sums import sum_over_neighbors
from nnpkit.models.residual_networks import ResidualNetwork

__all__ = [
    "DeepDescriptor",
    "EnvironmentStatistics",
]


class EnvironmentStatistics(NamedTuple):
    """What the environment matrix is like in the data, for each of T elements of the centre."""

    mean: Tensor  # (T,) of s(r), 1/Å
    std: Tensor  # (T, 2) of s(r) and of the angular components, 1/Å
    expected: Tensor  # (T, T) number of neighbours of each element


class DeepDescriptor(Descriptor):
    """Deep Potential descriptor; the networks in it are trainable.

    Parameters
    ----------
    elements : sequence of str
        Elements of the type indices.
    cutoff : float
        Radius (Å) from which on neighbours do not count.
    smooth_from : float
        Radius (Å) below which s(r) is 1/r.
    cutoff_kind : str
        How s(r) vanishes in between: ``poly2`` is DeePMD-kit's polynomial, ``cosine`` its predecessor; see
        `nnpkit.models.cutoff.cutoff_function`.
    embedding : sequence of int
        Widths of the layers of the embedding networks; the last one is M.
    axis_neurons : int
        M<, at most M.
    activation : str
        Of the embedding networks.
    timestep : bool
        Whether their residual layers have trainable timesteps.
    one_side : bool
        One network per element of the neighbour; otherwise one per elements of centre and neighbour.
    """

    def __init__(
        self,
        elements: Sequence[str],
        cutoff: float,
        smooth_from: float,
        cutoff_kind: str,
        embedding: Sequence[int],
        axis_neurons: int,
        activation: str = "tanh",
        timestep: bool = False,
        one_side: bool = True,
    ) -> None:
        n = len(elements)
        super().__init__(cutoff, [embedding[-1] * axis_neurons] * n)
        self.cutoff_kind = cutoff_kind
        self.inner = smooth_from / cutoff
        self.width, self.axis = int(embedding[-1]), int(axis_neurons)
        self.n_types, self.one_side = n, one_side
        self.embeddings = nn.ModuleList(
            ResidualNetwork(1, embedding, activation, timestep) for _ in range(n if one_side else n * n)
        )
        self.register_buffer("mean", torch.zeros(n, dtype=torch.float64))
        self.register_buffer("std", torch.ones((n, 2), dtype=torch.float64))
        self.register_buffer("expected", torch.ones((n, n), dtype=torch.float64))

    def forward(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Tensor:
        """Features (n_local, M * M<), the second index running fastest."""
        center = edge_centers(offsets)
        close = torch.nonzero((edge_vec * edge_vec).sum(1) < self.cutoff * self.cutoff).squeeze(1)
        center, neighbor_type = center.index_select(0, close), neighbor_type.index_select(0, close)
        center_type = types.index_select(0, center)
        rows = self.environment(edge_vec.index_select(0, close), center_type)
        network_of_edge = self.network_index(center_type, neighbor_type)
        sums = self.absent_neighbors(center, neighbor_type, types)
        for index, network in enumerate(self.embeddings):
            mine = torch.nonzero(network_of_edge == index).squeeze(1)
            own = rows.index_select(0, mine)
            sums = sums + sum_over_neighbors(
                network(own[:, :1]), own, center.index_select(0, mine), types.shape[0]
            )
        return self.contract(sums / self.normalisation().index_select(0, types)[:, None, None])

    def environment(self, edge_vec: Tensor, center_type: Tensor) -> Tensor:
        """Standardised rows (E, 4) of the environment matrix for edges (E, 3) shorter than the cutoff."""
        r = torch.linalg.vector_norm(edge_vec, dim=1)
        s = cutoff_function(r, self.cutoff, self.cutoff_kind, self.inner) / r
        std = self.std.index_select(0, center_type)
        radial = (s - self.mean.index_select(0, center_type)) / std[:, 0]
        return torch.cat([radial.unsqueeze(1), edge_vec * (s / (r * std[:, 1])).unsqueeze(1)], dim=1)

    def network_index(self, center_type: Tensor, neighbor_type: Tensor) -> Tensor:
        """Position in `embeddings` of the network of each pair of centre and neighbour."""
        return neighbor_type if self.one_side else center_type * self.n_types + neighbor_type

    def absent_rows(self) -> Tensor:
        """First component of the row R_0 of an absent neighbour, (T,) by the element of the centre."""
        return -self.mean / self.std[:, 0]

    def normalisation(self) -> Tensor:
        """Expected number of all neighbours N_c, (T,); 1 for an element that has none."""
        total = self.expected.sum(1)
        return torch.where(total > 0.0, total, torch.ones_like(total))

    def absent_neighbors(self, center: Tensor, neighbor_type: Tensor, types: Tensor) -> Tensor:
        """Sum (n_local, M, 4) of ``G_0 (x) R_0`` over the expected neighbours that are not there."""
        n, n_types = types.shape[0], self.n_types
        counts = torch.bincount(center * n_types + neighbor_type, minlength=n * n_types).view(n, n_types)
        missing = self.expected.index_select(0, types) - counts
        start = self.absent_rows().unsqueeze(1)
        outputs = []
        for index, network in enumerate(self.embeddings):
            own = start if self.one_side else start[index // n_types : index // n_types + 1]
            outputs.append(network(own))
        g = torch.stack(outputs, 1) if self.one_side else torch.cat(outputs)
        g = g.view(n_types, n_types, self.width)  # (centre, neighbour, M)
        radial = torch.bmm(missing.unsqueeze(1), (g * start.unsqueeze(1)).index_select(0, types))
        return torch.nn.functional.pad(radial.transpose(1, 2), [0, 3])

    def contract(self, sums: Tensor) -> Tensor:
        """Features (n_local, M * M<) of normalised sums T (n_local, M, 4)."""
        features = torch.bmm(sums, sums[:, : self.axis].transpose(1, 2))
        return features.reshape(sums.shape[0], self.width * self.axis)

    @torch.jit.unused
    def set(self, statistics: EnvironmentStatistics) -> None:
        """Standardise by `statistics`; changes the function that the networks stand for."""
        self.mean.copy_(statistics.mean)
        self.std.copy_(statistics.std)
        self.expected.copy_(statistics.expected)
