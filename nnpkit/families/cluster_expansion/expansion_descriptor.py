"""The descriptor of the cluster expansion.

Each neighbour j of atom i at the distance r in the direction u contributes to the density of channel n of atom i ::

    A_nlm = sum_j g_n(r) Y_lm(u)            g_n(r) = sum_k c_nk f_k(r)

with coefficients c of the elements of i and j (Fan et al., J. Chem. Phys. 157, 114801 (2022); trained mixing of
channels: Darby et al., Phys. Rev. Lett. 131, 028001 (2023)). The features are sums ``sum_j g_n(r)`` with a cutoff,
functions and coefficients of their own, and invariants of the A of one channel at a time
(`nnpkit.families.cluster_expansion.invariants`).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nnpkit.data.graph import edge_centers
from nnpkit.errors import InputError
from nnpkit.families.cluster_expansion.expansion_kernel import CompiledExpansion
from nnpkit.families.cluster_expansion.harmonics import harmonics
from nnpkit.families.cluster_expansion.invariants import invariant_terms
from nnpkit.families.cluster_expansion.radial import (
    orthonormal_combinations,
    radial_functions,
    spread_over_elements,
)
from nnpkit.kernels.native import NoKernelError
from nnpkit.models.descriptor import Descriptor
from nnpkit.models.neighbor_sums import sum_over_neighbors

__all__ = ["ClusterExpansion", "Polynomials"]


class Polynomials(nn.Module):
    """The invariants of one channel as polynomials of its A_lm, all channels at once.

    Parameters
    ----------
    lists : sequence of sequences of int
        Degrees of each invariant.

    Attributes
    ----------
    terms : Tensor
        (terms, 6): invariant, coefficient and indices of two to four A_lm, then -1. The fused kernels read it.
    """

    def __init__(self, lists: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.n_invariants = len(lists)
        self.l_max = max(max(degrees) for degrees in lists)
        tables = invariant_terms(lists)
        terms = [
            [i, t.coefficient, *(*t.indices, -1, -1)[:4]] for i, table in enumerate(tables) for t in table
        ]
        self.register_buffer("terms", torch.tensor(terms, dtype=torch.float64))
        for power in (2, 3, 4):
            rows = [(i, t) for i, (own, table) in enumerate(zip(lists, tables, strict=True))
                    if len(own) == power for t in table]  # fmt: skip
            indices = torch.tensor([t.indices for _, t in rows], dtype=torch.int64).reshape(-1, power).T
            weights = torch.zeros((len(lists), len(rows)), dtype=torch.float64)
            for column, (invariant, term) in enumerate(rows):
                weights[invariant, column] = term.coefficient
            self.register_buffer(f"indices_{power}", indices.contiguous(), persistent=False)
            self.register_buffer(f"weights_{power}", weights, persistent=False)

    def forward(self, a: Tensor) -> Tensor:
        """Invariants (N, n_invariants, channels) of `a` (N, lm, channels)."""
        i, j, k = self.indices_2, self.indices_3, self.indices_4
        two = a[:, i[0]] * a[:, i[1]]
        three = a[:, j[0]] * a[:, j[1]] * a[:, j[2]]
        four = (a[:, k[0]] * a[:, k[1]]) * (a[:, k[2]] * a[:, k[3]])
        return (
            torch.matmul(self.weights_2, two)
            + torch.matmul(self.weights_3, three)
            + torch.matmul(self.weights_4, four)
        )


class ClusterExpansion(Descriptor):
    """Features of the cluster expansion; the radial coefficients in it are trainable.

    The features are, in this order, the radial ones by channel, then invariant by invariant its channels.

    Parameters
    ----------
    elements : sequence of str
        Elements of the type indices.
    radial_cutoff, angular_cutoff : float
        Å.
    cutoff_kind : str
        See `nnpkit.models.cutoff.cutoff_function`.
    radial_channels, angular_channels : int
        Numbers of g_n.
    radial_basis, angular_basis : int
        Numbers of f_k that they are made of.
    invariants : sequence of sequences of int
        Degrees l of each invariant, see `nnpkit.families.cluster_expansion.invariants`.

    Attributes
    ----------
    radial_weights, angular_weights : Parameter
        (T, T, channels, functions), by element of the centre and of the neighbour: coefficients of combinations of
        the f_k.
    radial_combinations, angular_combinations : Tensor
        (functions, functions): row q has the coefficients of combination q.
    """

    def __init__(
        self,
        elements: Sequence[str],
        radial_cutoff: float,
        angular_cutoff: float,
        cutoff_kind: str,
        radial_channels: int,
        radial_basis: int,
        angular_channels: int,
        angular_basis: int,
        invariants: Sequence[Sequence[int]],
    ) -> None:
        n = len(elements)
        size = radial_channels + len(invariants) * angular_channels
        super().__init__(max(radial_cutoff, angular_cutoff), [size] * n)
        self.radial_cutoff, self.angular_cutoff = float(radial_cutoff), float(angular_cutoff)
        self.cutoff_kind, self.n_types = cutoff_kind, n
        self.radial_channels, self.radial_basis = radial_channels, radial_basis
        self.angular_channels, self.angular_basis = angular_channels, angular_basis
        self.radial_weights = nn.Parameter(spread_over_elements(n, radial_channels, radial_basis))
        self.angular_weights = nn.Parameter(spread_over_elements(n, angular_channels, angular_basis))
        self.register_buffer("radial_combinations", orthonormal_combinations(radial_basis, cutoff_kind))
        self.register_buffer("angular_combinations", orthonormal_combinations(angular_basis, cutoff_kind))
        self.polynomials = Polynomials(invariants)
        self.l_max = self.polynomials.l_max

    def radial_coefficients(self) -> Tensor:
        """Coefficients c (T, T, channels, functions) of the f_k in the radial features."""
        return torch.matmul(self.radial_weights, self.radial_combinations)

    def angular_coefficients(self) -> Tensor:
        """Coefficients c (T, T, channels, functions) of the f_k in the invariants."""
        return torch.matmul(self.angular_weights, self.angular_combinations)

    def forward(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Tensor:
        """Features (n_local, radial_channels + n_invariants * angular_channels)."""
        n_local = types.shape[0]
        center = edge_centers(offsets)
        r = torch.linalg.vector_norm(edge_vec, dim=1)
        pair = types.index_select(0, center) * self.n_types + neighbor_type
        near = torch.nonzero(r < self.radial_cutoff).squeeze(1)
        functions = radial_functions(
            r.index_select(0, near), self.radial_basis, self.radial_cutoff, self.cutoff_kind
        )
        g = self.mixed(functions, pair.index_select(0, near), self.radial_coefficients())
        zeros = torch.zeros((n_local, self.radial_channels), dtype=edge_vec.dtype, device=edge_vec.device)
        radial = zeros.index_add(0, center.index_select(0, near), g)
        near = torch.nonzero(r < self.angular_cutoff).squeeze(1)
        r = r.index_select(0, near)
        functions = radial_functions(r, self.angular_basis, self.angular_cutoff, self.cutoff_kind)
        g = self.mixed(functions, pair.index_select(0, near), self.angular_coefficients())
        y = harmonics(edge_vec.index_select(0, near) / r.unsqueeze(1), self.l_max)
        a = sum_over_neighbors(y, g, center.index_select(0, near), n_local)
        return self.features_of(radial, a)

    @torch.jit.unused
    def fast(self) -> Descriptor:
        """The features from the kernels if those are compiled, else itself; not for autograd.

        Raises
        ------
        InputError
            If ``NNPKIT_ISA`` asks for what this processor has not.
        """
        try:
            return CompiledExpansion(self)
        except NoKernelError:
            return self
        except ValueError as problem:
            raise InputError(f"kernels of cluster expansions: {problem}") from None

    @torch.jit.unused
    def engine(self) -> str:
        """Who computes the features, in words; see `Descriptor.engine`."""
        fast = self.fast()
        return "Cluster expansion: PyTorch; run nnpkit build for speed" if fast is self else fast.engine()

    def features_of(self, radial: Tensor, a: Tensor) -> Tensor:
        """Features of radial sums (N, radial_channels) and coefficients `a` (N, lm, angular_channels)."""
        size = self.polynomials.n_invariants * self.angular_channels
        return torch.cat([radial, self.polynomials(a).reshape(a.shape[0], size)], dim=1)

    def mixed(self, functions: Tensor, pair: Tensor, coefficients: Tensor) -> Tensor:
        """Radial functions g (E, channels) of functions f (E, K) for the `pair` (E,) of elements of each edge."""
        flat = coefficients.flatten(0, 1)
        if flat.shape[0] == 1:
            return torch.matmul(functions, flat[0].T)
        result = torch.zeros(
            (functions.shape[0], flat.shape[1]), dtype=functions.dtype, device=functions.device
        )
        for index in range(flat.shape[0]):
            mine = torch.nonzero(pair == index).squeeze(1)
            own = torch.matmul(functions.index_select(0, mine), flat[index].T)
            result = result.index_add(0, mine, own)
        return result
