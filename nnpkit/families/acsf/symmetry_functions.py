"""Atom-centred symmetry functions G2, G3 (narrow) and G9 (wide).

Behler, J. Chem. Phys. 134, 074106 (2011), eqs. 6, 8, 9 there numbered G2, G4, G5; the names G2, G3, G9 and the
shift r_s in the angular functions follow RuNNer and n2p2 (``symfunction_short`` types 2, 3, 9).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nnpkit.data.graph import edge_centers
from nnpkit.errors import InputError
from nnpkit.families.acsf.compiled import CompiledAcsf
from nnpkit.kernels.native import NoKernelError
from nnpkit.models.cutoff import CUTOFF_KINDS, cutoff_function
from nnpkit.models.descriptor import Descriptor, EdgeJacobian, triplets

__all__ = ["Acsf", "SymmetryFunction"]


@dataclass(frozen=True)
class SymmetryFunction:
    """Parameters of one symmetry function, lengths in Å.

    ``G2 = sum_j exp(-eta (r_ij - shift)^2) fc(r_ij)``;
    ``G3 = 2^(1-zeta) sum_{j<k} (1 + lam cos(theta_ijk))^zeta h(r_ij) h(r_ik) h(r_jk)`` with
    ``h(r) = exp(-eta (r - shift)^2) fc(r)``; ``G9`` is G3 without the factor ``h(r_jk)``.
    """

    kind: str  # "G2", "G3" or "G9"
    center: str
    neighbors: tuple[str, ...]  # one element (G2) or two in alphabetical order
    cutoff: float  # Å
    eta: float = 0.0  # 1/Å²
    shift: float = 0.0  # Å
    zeta: float = 1.0
    lam: float = 1.0  # +1 or -1

    def __post_init__(self) -> None:
        """Sort the neighbours (j and k are equivalent) and check the parameters."""
        object.__setattr__(self, "neighbors", tuple(sorted(self.neighbors)))
        if self.kind not in ("G2", "G3", "G9") or len(self.neighbors) != (1 if self.kind == "G2" else 2):
            raise ValueError(f"symmetry function {self}: G2 has one neighbour element, G3 and G9 have two")
        if not self.cutoff > 0.0:
            raise ValueError(f"symmetry function {self}: the cutoff must be positive")

    def to_dict(self) -> dict[str, Any]:
        """JSON-able parameters; ``SymmetryFunction(**d)`` is the inverse."""
        return {**asdict(self), "neighbors": list(self.neighbors)}

    def __str__(self) -> str:
        """One line as it is shown to a person."""
        text = (
            f"{self.kind} {self.center} {' '.join(self.neighbors)} eta={self.eta:.4g} shift={self.shift:.4g}"
        )
        return text + ("" if self.kind == "G2" else f" lambda={self.lam:+.0f} zeta={self.zeta:g}")


def integer_power(x: Tensor, exponent: float) -> Tensor:
    """``x**exponent``; integer exponents by repeated multiplication (torch.pow is ten times slower)."""
    n = int(exponent)
    if float(n) != exponent or n < 1:
        return torch.pow(x, exponent)
    result = x
    factor = x
    started = False
    while n > 0:
        if n % 2 == 1:
            result = result * factor if started else factor
            started = True
        n = n // 2
        if n > 0:
            factor = factor * factor
    return result


class _RadialFactor(nn.Module):
    """``h(r) = exp(-eta (r - shift)^2) fc(r; r_c)`` for several (eta, shift, r_c) at once."""

    def __init__(self, parameters: Sequence[tuple[float, float, float]], kind: str, inner: float) -> None:
        super().__init__()
        eta, shift, cutoff = (
            torch.tensor(column, dtype=torch.float64) for column in zip(*parameters, strict=True)
        )
        self.register_buffer("eta", eta, persistent=False)
        self.register_buffer("shift", shift, persistent=False)
        common = bool((cutoff == cutoff[0]).all())
        self.register_buffer("cutoff", cutoff[:1] if common else cutoff, persistent=False)
        self.kind = kind
        self.inner = inner
        self.n_columns = len(parameters)

    def forward(self, r: Tensor) -> Tensor:
        """Values (M, n) at distances `r` (M, 1), or (M, n) with one distance for each value."""
        difference = r - self.shift
        envelope = cutoff_function(r / self.cutoff, 1.0, self.kind, self.inner)
        return torch.exp(-self.eta * difference * difference) * envelope


class _AngularFactor(nn.Module):
    """``2^(1-zeta) (1 + lam cos)^zeta`` for several (lam, zeta) at once."""

    def __init__(self, parameters: Sequence[tuple[float, float]]) -> None:
        super().__init__()
        self.lambdas = [lam for lam, _ in parameters]
        self.zetas = [zeta for _, zeta in parameters]
        self.n_columns = len(parameters)

    def forward(self, cosine: Tensor) -> Tensor:
        """Values (M, n) at `cosine` (M, 1), or (M, n) with one cosine for each value."""
        factors: list[Tensor] = []
        for n in range(len(self.lambdas)):
            own = cosine[:, min(n, cosine.shape[1] - 1)]
            base = torch.clamp(0.5 + 0.5 * self.lambdas[n] * own, min=0.0)
            factors.append(2.0 * integer_power(base, self.zetas[n]))
        return torch.stack(factors, dim=1)


class _RadialGroup(nn.Module):
    """All G2 of one centre and neighbour element."""

    def __init__(
        self, functions: Sequence[SymmetryFunction], elements: Sequence[str], kind: str, inner: float
    ):
        super().__init__()
        self.center_type = elements.index(functions[0].center)
        self.neighbor_type = elements.index(functions[0].neighbors[0])
        self.factor = _RadialFactor([(f.eta, f.shift, f.cutoff) for f in functions], kind, inner)
        self.cutoff = max(f.cutoff for f in functions)

    def select(self, r: Tensor, center_type: Tensor, neighbor_type: Tensor) -> Tensor:
        """Edges that this group sums over."""
        mine = (center_type == self.center_type) & (neighbor_type == self.neighbor_type) & (r < self.cutoff)
        return torch.nonzero(mine).squeeze(1)

    def forward(self, r: Tensor) -> Tensor:
        """Summands (M, n) for distances `r` (M,)."""
        return self.factor(r.unsqueeze(1))


class _AngularGroup(nn.Module):
    """All G3 (or all G9) of one centre and pair of neighbour elements; equal factors are evaluated once."""

    def __init__(
        self, functions: Sequence[SymmetryFunction], elements: Sequence[str], kind: str, inner: float
    ):
        super().__init__()
        self.center_type = elements.index(functions[0].center)
        first, second = sorted(elements.index(e) for e in functions[0].neighbors)
        self.first_type, self.second_type = first, second
        self.narrow = functions[0].kind == "G3"
        self.cutoff = max(f.cutoff for f in functions)
        radial = sorted({(f.eta, f.shift, f.cutoff) for f in functions})
        angular = sorted({(f.lam, f.zeta) for f in functions})
        self.factor = _RadialFactor(radial, kind, inner)
        self.angular_factor = _AngularFactor(angular)
        radial_index = torch.tensor([radial.index((f.eta, f.shift, f.cutoff)) for f in functions])
        angular_index = torch.tensor([angular.index((f.lam, f.zeta)) for f in functions])
        self.register_buffer("radial_index", radial_index, persistent=False)
        self.register_buffer("angular_index", angular_index, persistent=False)

    def select(self, center_type: Tensor, type_j: Tensor, type_k: Tensor) -> Tensor:
        """Triplets that this group sums over."""
        first = torch.minimum(type_j, type_k)
        second = torch.maximum(type_j, type_k)
        mine = (center_type == self.center_type) & (first == self.first_type) & (second == self.second_type)
        return torch.nonzero(mine).squeeze(1)

    def forward(self, r_ij: Tensor, r_ik: Tensor, r_jk: Tensor) -> Tensor:
        """Summands (M, n) for the three sides (M,) of the triangles i, j, k."""
        radial = self.factor(r_ij.unsqueeze(1)) * self.factor(r_ik.unsqueeze(1))
        if self.narrow:
            radial = radial * self.factor(r_jk.unsqueeze(1))
        cosine = (r_ij * r_ij + r_ik * r_ik - r_jk * r_jk) / (2.0 * r_ij * r_ik)
        angular = self.angular_factor(cosine.unsqueeze(1))
        return radial.index_select(1, self.radial_index) * angular.index_select(1, self.angular_index)


class Acsf(Descriptor):
    """A set of symmetry functions, possibly different for each centre element.

    Parameters
    ----------
    elements : sequence of str
        Elements in the order of the model's type indices.
    functions : sequence of SymmetryFunction
        The functions of each centre element keep their relative order: it is the order of the features.
    cutoff_kind : str
        Cutoff function, one of `nnpkit.models.cutoff.CUTOFF_KINDS`.
    cutoff_inner : float
        Inner fraction of the cutoff functions that know one.
    """

    def __init__(
        self,
        elements: Sequence[str],
        functions: Sequence[SymmetryFunction],
        cutoff_kind: str,
        cutoff_inner: float = 0.0,
    ) -> None:
        elements = list(elements)
        if cutoff_kind not in CUTOFF_KINDS:
            raise ValueError(f"unknown cutoff function {cutoff_kind!r}")
        counts = [sum(f.center == element for f in functions) for element in elements]
        super().__init__(cutoff=max(f.cutoff for f in functions), n_features=counts)
        self.spec = {
            "elements": elements, "cutoff_kind": cutoff_kind, "cutoff_inner": cutoff_inner,
            "functions": [f.to_dict() for f in functions],
        }  # fmt: skip
        groups: dict[tuple[str, str, tuple[str, ...]], list[int]] = {}
        for position, f in enumerate(functions):
            groups.setdefault((f.kind, f.center, f.neighbors), []).append(position)
        make = {"G2": _RadialGroup, "G3": _AngularGroup, "G9": _AngularGroup}
        ordered = sorted(groups.items(), key=lambda item: item[0][0] != "G2")  # radial groups first
        modules = [
            make[key[0]]([functions[p] for p in group], elements, cutoff_kind, cutoff_inner)
            for key, group in ordered
        ]
        self.radial_groups = nn.ModuleList([m for m in modules if isinstance(m, _RadialGroup)])
        self.angular_groups = nn.ModuleList([m for m in modules if isinstance(m, _AngularGroup)])
        self.angular_cutoff = max([m.cutoff for m in modules if isinstance(m, _AngularGroup)], default=0.0)
        self.narrow_only = all(m.narrow for m in modules if isinstance(m, _AngularGroup))
        column = {position: c for c, position in enumerate(p for _, group in ordered for p in group)}
        index = torch.full((len(elements), max(self.n_features)), len(functions), dtype=torch.int64)
        for t, element in enumerate(elements):
            mine = [column[p] for p, f in enumerate(functions) if f.center == element]
            index[t, : len(mine)] = torch.tensor(mine, dtype=torch.int64)
        self.register_buffer("columns", index, persistent=False)

    def fast(self) -> Descriptor:
        """The functions from the kernels if those are compiled and cover them, else as they are.

        Raises
        ------
        InputError
            If ``NNPKIT_ISA`` asks for what this processor has not.
        """
        try:
            return CompiledAcsf(self)
        except NoKernelError:
            return self
        except ValueError as problem:
            raise InputError(f"kernels of symmetry functions: {problem}") from None

    def engine(self) -> str:
        """Who computes the features of `fast`, in words; see `Descriptor.engine`."""
        fast = self.fast()
        return "Symmetry functions: PyTorch; run nnpkit build for speed" if fast is self else fast.engine()

    def _assemble(self, parts: list[Tensor], types: Tensor, like: Tensor) -> Tensor:
        parts.append(torch.zeros((types.shape[0], 1), dtype=like.dtype, device=like.device))
        return torch.cat(parts, dim=1).gather(1, self.columns.index_select(0, types))

    def forward(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Tensor:
        """Symmetry functions (n_local, D); see `Descriptor`."""
        n_local = types.shape[0]
        center = edge_centers(offsets)
        r = torch.linalg.vector_norm(edge_vec, dim=1)
        center_type = types.index_select(0, center)
        parts: list[Tensor] = []
        for radial in self.radial_groups:
            mine = radial.select(r, center_type, neighbor_type)
            values = radial(r.index_select(0, mine))
            zeros = torch.zeros((n_local, values.shape[1]), dtype=r.dtype, device=r.device)
            parts.append(zeros.index_add(0, center.index_select(0, mine), values))
        if len(self.angular_groups) > 0:
            j, k = triplets(edge_vec, r, center, n_local, self.angular_cutoff, self.narrow_only)
            type_i = center_type.index_select(0, j)
            type_j, type_k = neighbor_type.index_select(0, j), neighbor_type.index_select(0, k)
            for angular in self.angular_groups:
                mine = angular.select(type_i, type_j, type_k)
                e_j, e_k = j.index_select(0, mine), k.index_select(0, mine)
                side = edge_vec.index_select(0, e_k) - edge_vec.index_select(0, e_j)
                r_jk = torch.linalg.vector_norm(side, dim=1)
                values = angular(r.index_select(0, e_j), r.index_select(0, e_k), r_jk)
                zeros = torch.zeros((n_local, values.shape[1]), dtype=r.dtype, device=r.device)
                parts.append(zeros.index_add(0, center.index_select(0, e_j), values))
        return self._assemble(parts, types, edge_vec)

    @torch.jit.unused
    def jacobian(
        self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor
    ) -> tuple[Tensor, EdgeJacobian]:
        """Features (n_local, D) and their derivatives; see `Descriptor.jacobian`.

        Every summand is a product of functions of one variable, a distance or the cosine; the derivatives of
        the very functions that `forward` multiplies, and the product rule, give every entry.
        """
        n_local, n_edges = types.shape[0], edge_vec.shape[0]
        center = edge_centers(offsets)
        r = torch.linalg.vector_norm(edge_vec, dim=1)
        unit = edge_vec / r.unsqueeze(1)
        center_type = types[center]
        parts: list[Tensor] = []
        gradients: list[Tensor] = []
        for radial in self.radial_groups:
            mine = radial.select(r, center_type, neighbor_type)
            values, slope = _with_slope(radial.factor, r[mine])
            parts.append(r.new_zeros(n_local, values.shape[1]).index_add(0, center[mine], values))
            gradient = r.new_zeros(n_edges, values.shape[1], 3)
            gradient[mine] = slope.unsqueeze(2) * unit[mine].unsqueeze(1)
            gradients.append(gradient)
        if len(self.angular_groups) > 0:
            j, k = triplets(edge_vec, r, center, n_local, self.angular_cutoff, self.narrow_only)
            type_i, type_j, type_k = center_type[j], neighbor_type[j], neighbor_type[k]
            for angular in self.angular_groups:
                mine = angular.select(type_i, type_j, type_k)
                values, gradient = _angular_jacobian(angular, edge_vec, r, unit, j[mine], k[mine])
                parts.append(r.new_zeros(n_local, values.shape[1]).index_add(0, center[j[mine]], values))
                gradients.append(gradient)
        features = self._assemble(parts, types, edge_vec)
        gradients.append(r.new_zeros(n_edges, 1, 3))
        columns = self.columns[center_type].unsqueeze(2).expand(-1, -1, 3)
        return features, EdgeJacobian(torch.cat(gradients, dim=1).gather(1, columns), center)


def _with_slope(factor: _RadialFactor | _AngularFactor, x: Tensor) -> tuple[Tensor, Tensor]:
    """Values and derivatives (M, n) of a factor at `x` (M,): with a variable for each value, one gradient."""
    variables = x.detach().unsqueeze(1).repeat(1, factor.n_columns).requires_grad_(True)
    with torch.enable_grad():
        values = factor(variables)
        (slope,) = torch.autograd.grad(values.sum(), variables)
    return values.detach(), slope


def _angular_jacobian(
    group: _AngularGroup, edge_vec: Tensor, r: Tensor, unit: Tensor, e_j: Tensor, e_k: Tensor
) -> tuple[Tensor, Tensor]:
    """Summands (M, n) of one group and their derivative (E, n, 3) with respect to every edge vector."""
    side = edge_vec[e_k] - edge_vec[e_j]
    r_jk = torch.linalg.vector_norm(side, dim=1)
    r_ij, r_ik = r[e_j], r[e_k]
    cosine = (r_ij * r_ij + r_ik * r_ik - r_jk * r_jk) / (2.0 * r_ij * r_ik)
    h, dh = _with_slope(group.factor, r)
    h_ij, h_ik, dh_ij, dh_ik = h[e_j], h[e_k], dh[e_j], dh[e_k]
    h_jk, dh_jk = (
        _with_slope(group.factor, r_jk) if group.narrow else (torch.ones_like(h_ij), torch.zeros_like(h_ij))
    )
    angular, d_angular = (a[:, group.angular_index] for a in _with_slope(group.angular_factor, cosine))
    radial = (h_ij * h_ik * h_jk)[:, group.radial_index]
    by_cosine = radial * d_angular

    def partial(d_radial: Tensor, d_cosine: Tensor) -> Tensor:
        return d_radial[:, group.radial_index] * angular + by_cosine * d_cosine.unsqueeze(1)

    by_ij = partial(dh_ij * h_ik * h_jk, 1.0 / r_ik - cosine / r_ij)
    by_ik = partial(h_ij * dh_ik * h_jk, 1.0 / r_ij - cosine / r_ik)
    by_jk = partial(h_ij * h_ik * dh_jk, -r_jk / (r_ij * r_ik))
    # Along the two edges sum scalars first; only the third side needs a vector per triplet.
    along = torch.zeros_like(h[:, :1]).expand(-1, by_ij.shape[1]).clone()
    along.index_add_(0, e_j, by_ij).index_add_(0, e_k, by_ik)
    across = by_jk.unsqueeze(2) * (side / r_jk.unsqueeze(1)).unsqueeze(1)
    gradient = along.unsqueeze(2) * unit.unsqueeze(1)
    gradient.index_add_(0, e_k, across).index_add_(0, e_j, across, alpha=-1)
    return radial * angular, gradient
