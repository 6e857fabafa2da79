"""Chebyshev expansion of the radial and angular distribution of an atom's neighbours.

Artrith, Urban and Ceder, Phys. Rev. B 96, 014112 (2017), eqs. 3-8, with the conventions of ænet: angular polynomials
of cos(theta), every triplet once, and a second set in which each neighbour counts with a weight of its element.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from nnpkit.data.graph import edge_centers
from nnpkit.models.cutoff import CUTOFF_KINDS, cutoff_function
from nnpkit.models.descriptor import Descriptor, EdgeJacobian, triplets

__all__ = ["Chebyshev", "species_weights"]


def species_weights(elements: Sequence[str]) -> dict[str, float]:
    """Weight of each element in the second set, by ænet's rule: integers around zero, in the order of `elements`.

    Without zero for an even number of elements: -1, 1 for two; -1, 0, 1 for three.
    """
    half = len(elements) // 2
    values = [v for v in range(-half, half + 1) if v != 0 or len(elements) % 2 == 1]
    return dict(zip(elements, map(float, values), strict=True))


def chebyshev(x: Tensor, order: int) -> Tensor:
    """Chebyshev polynomials of the first kind T_0 ... T_order (M, order + 1) at `x` (M,)."""
    values = [torch.ones_like(x), x]
    for n in range(2, order + 1):
        values.append(2.0 * x * values[n - 1] - values[n - 2])
    return torch.stack(values, dim=1)[:, : order + 1]


def chebyshev_slope(x: Tensor, order: int) -> Tensor:
    """Derivatives ``T_n' = n U_(n-1)`` (M, order + 1) at `x` (M,)."""
    second = [torch.ones_like(x), 2.0 * x]  # U_0, U_1
    for n in range(2, order + 1):
        second.append(2.0 * x * second[n - 1] - second[n - 2])
    slopes = [torch.zeros_like(x)] + [n * second[n - 1] for n in range(1, order + 1)]
    return torch.stack(slopes, dim=1)[:, : order + 1]


class Chebyshev(Descriptor):
    """Coefficients of the radial and the angular distribution function, the same for centres of every element.

    With x = 2r/r_c - 1::

        c_n = sum_j T_n(x_ij) fc(r_ij),                                  n = 0 ... radial_order
        a_n = sum_{j<k} T_n(cos theta_ijk) fc(r_ij) fc(r_ik),            n = 0 ... angular_order

    with cutoffs of their own. The features are c, a, and, if there are several elements, both once more with a factor
    w_j (c) or w_j w_k (a), the weights of the neighbours' elements.

    Parameters
    ----------
    elements : sequence of str
        Elements in the order of the model's type indices.
    radial_order, angular_order : int
        Highest orders of the expansions; -1 for none.
    radial_cutoff, angular_cutoff : float
        Å.
    cutoff_kind : str
        Cutoff function, one of `nnpkit.models.cutoff.CUTOFF_KINDS`.
    weights : mapping
        Weight of each element.

    Raises
    ------
    ValueError
        If there is nothing to expand, or the cutoff function is unknown.
    """

    def __init__(
        self,
        elements: Sequence[str],
        radial_order: int,
        radial_cutoff: float,
        angular_order: int,
        angular_cutoff: float,
        cutoff_kind: str,
        weights: Mapping[str, float],
    ) -> None:
        if cutoff_kind not in CUTOFF_KINDS:
            raise ValueError(f"unknown cutoff function {cutoff_kind!r}")
        if radial_order < 0 and angular_order < 0:
            raise ValueError("the Chebyshev descriptor has neither a radial nor an angular expansion")
        cutoffs = [radial_cutoff] * (radial_order >= 0) + [angular_cutoff] * (angular_order >= 0)
        n_sets = 2 if len(elements) > 1 else 1
        n_features = n_sets * (radial_order + 1 + angular_order + 1)
        super().__init__(cutoff=max(cutoffs), n_features=[n_features] * len(elements))
        self.radial_order, self.angular_order = radial_order, angular_order
        self.radial_cutoff, self.angular_cutoff = float(radial_cutoff), float(angular_cutoff)
        self.cutoff_kind = cutoff_kind
        self.weighted = n_sets == 2
        weight = torch.tensor([float(weights[e]) for e in elements], dtype=torch.float64)
        self.register_buffer("weight", weight, persistent=False)

    def _both(self, values: Tensor, weight: Tensor) -> Tensor:
        """The terms, and the terms times their weight if there are several elements, side by side."""
        if not self.weighted:
            return values
        return torch.cat([values, weight.reshape(-1, 1) * values], dim=1)

    def _arrange(self, radial: Tensor, angular: Tensor) -> Tensor:
        """Features in the order of ænet: radial, angular, weighted radial, weighted angular (dimension 1)."""
        n, m = self.radial_order + 1, self.angular_order + 1
        parts = [radial[:, :n], angular[:, :m]]
        if self.weighted:
            parts += [radial[:, n:], angular[:, m:]]
        return torch.cat(parts, dim=1)

    def forward(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Tensor:
        """Coefficients (n_local, D); see `Descriptor`."""
        n_local = types.shape[0]
        center = edge_centers(offsets)
        r = torch.linalg.vector_norm(edge_vec, dim=1)
        weight = self.weight.index_select(0, neighbor_type)
        near = torch.nonzero(r < self.radial_cutoff).squeeze(1)
        values = self._both(self._radial(r.index_select(0, near)), weight.index_select(0, near))
        zeros = torch.zeros((n_local, values.shape[1]), dtype=r.dtype, device=r.device)
        radial = zeros.index_add(0, center.index_select(0, near), values)
        j, k = self._pairs(edge_vec, r, center, n_local)
        r_j, r_k = r.index_select(0, j), r.index_select(0, k)
        cosine = (edge_vec.index_select(0, j) * edge_vec.index_select(0, k)).sum(1) / (r_j * r_k)
        envelope = self._envelope(r_j) * self._envelope(r_k)
        terms = chebyshev(cosine, self.angular_order) * envelope.unsqueeze(1)
        values = self._both(terms, weight.index_select(0, j) * weight.index_select(0, k))
        zeros = torch.zeros((n_local, values.shape[1]), dtype=r.dtype, device=r.device)
        return self._arrange(radial, zeros.index_add(0, center.index_select(0, j), values))

    def _radial(self, r: Tensor) -> Tensor:
        """Summands (M, radial_order + 1) of the radial coefficients at `r` (M,)."""
        envelope = cutoff_function(r, self.radial_cutoff, self.cutoff_kind)
        return chebyshev(2.0 * r / self.radial_cutoff - 1.0, self.radial_order) * envelope.unsqueeze(1)

    def _envelope(self, r: Tensor) -> Tensor:
        return cutoff_function(r, self.angular_cutoff, self.cutoff_kind)

    def _pairs(self, edge_vec: Tensor, r: Tensor, center: Tensor, n_local: int) -> tuple[Tensor, Tensor]:
        """Edges j, k of the triplets, none without an angular expansion."""
        cutoff = self.angular_cutoff if self.angular_order >= 0 else 0.0
        return triplets(edge_vec, r, center, n_local, cutoff, False)

    @torch.jit.unused
    def jacobian(
        self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor
    ) -> tuple[Tensor, EdgeJacobian]:
        """Features (n_local, D) and their derivatives, written out; see `Descriptor.jacobian`."""
        n_local, n_edges = types.shape[0], edge_vec.shape[0]
        center = edge_centers(offsets)
        r = torch.linalg.vector_norm(edge_vec, dim=1)
        unit = edge_vec / r.unsqueeze(1)
        weight = self.weight[neighbor_type]
        near = torch.nonzero(r < self.radial_cutoff).squeeze(1)
        values, slope = self._radial_slope(r[near])
        radial = self._both(values, weight[near])
        slopes = self._both(slope, weight[near])
        sums = r.new_zeros(n_local, radial.shape[1]).index_add(0, center[near], radial)
        by_radial = r.new_zeros(n_edges, radial.shape[1], 3)
        by_radial[near] = slopes.unsqueeze(2) * unit[near].unsqueeze(1)

        j, k = self._pairs(edge_vec, r, center, n_local)
        cosine = (unit[j] * unit[k]).sum(1)
        f, df = _with_slope(self._envelope, r)
        t, dt = chebyshev(cosine, self.angular_order), chebyshev_slope(cosine, self.angular_order)
        pair_weight = weight[j] * weight[k]
        angular = self._both(t * (f[j] * f[k]).unsqueeze(1), pair_weight)
        angular_sums = r.new_zeros(n_local, angular.shape[1]).index_add(0, center[j], angular)
        by_angular = r.new_zeros(n_edges, angular.shape[1], 3)
        for own, other in ((j, k), (k, j)):
            along = t * (df[own] * f[other]).unsqueeze(1)
            turned = dt * (f[own] * f[other] / r[own]).unsqueeze(1)
            sideways = unit[other] - cosine.unsqueeze(1) * unit[own]
            terms = self._both(along, pair_weight).unsqueeze(2) * unit[own].unsqueeze(1)
            terms = terms + self._both(turned, pair_weight).unsqueeze(2) * sideways.unsqueeze(1)
            by_angular.index_add_(0, own, terms)
        features = self._arrange(sums, angular_sums)
        return features, EdgeJacobian(self._arrange(by_radial, by_angular), center)

    @torch.jit.unused
    def _radial_slope(self, r: Tensor) -> tuple[Tensor, Tensor]:
        """Summands of the radial coefficients and their derivatives (M, radial_order + 1)."""
        f, df = _with_slope(lambda x: cutoff_function(x, self.radial_cutoff, self.cutoff_kind), r)
        x = 2.0 * r / self.radial_cutoff - 1.0
        t, dt = chebyshev(x, self.radial_order), chebyshev_slope(x, self.radial_order)
        slope = dt * (2.0 / self.radial_cutoff * f).unsqueeze(1) + t * df.unsqueeze(1)
        return t * f.unsqueeze(1), slope


def _with_slope(function: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """A function of one variable and its derivative at `x` (M,)."""
    variables = x.detach().clone().requires_grad_(True)
    with torch.enable_grad():
        values = function(variables)
        (slope,) = torch.autograd.grad(values.sum(), variables)
    return values.detach(), slope
