"""Energy and directional derivatives of a cluster expansion with all their derivatives by the weights, in closed form.

With moments X (`nnpkit.families.cluster_expansion.expansion_frames`), ``A = X w``, features D(A) and the energy
``E = sum_i f(D_i)``; a dot marks the change along a direction, ``u = dE/dD`` and ``h = E.`` (see
`nnpkit.measure.closed_form` for v) ::

    h = S . A.                  S = J^T u                J = dD/dA
    dh/dA = Q = J^T v + H A.    H = sum_d u_d d2D_d/dA2
    dh/dw = sum_i X_i^T Q_i + sum_e [h_q (Y. . S) + h_q' r. (Y . S)]

Radial features are linear: J is 1 and H is 0. What directions do to centres is kept pair by pair. Products with J and
H run over (channel, centre), the pairs of a centre as columns; networks and sums over moments run block by block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nnpkit.families.cluster_expansion.expansion_descriptor import ClusterExpansion
from nnpkit.families.cluster_expansion.expansion_frames import (
    EdgeFunctions,
    ExpansionFrame,
    edge_functions,
)
from nnpkit.families.cluster_expansion.polynomial_derivatives import PolynomialDerivatives
from nnpkit.measure.closed_form import Tape, plain
from nnpkit.measure.directions import Directions
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.neighbor_sums import neighbor_slots, side_by_side

__all__ = ["EdgeMoves", "ExpansionForm"]

_CROWD = 8


class EdgeMoves(NamedTuple):
    """What directions do to edges."""

    functions: EdgeFunctions
    along: Tensor  # (E, X) change of the distance
    turned: Tensor  # (E', X, L) change of the harmonics
    radial_slope: Tensor  # (E, Nr) dg/dr of the radial channels
    angular: Tensor  # (E', Na) g
    angular_slope: Tensor  # (E', Na) dg/dr
    through: Tensor  # (E', 1 + X, Na) derivative S of the energy by A, times the harmonics and their changes

    def combined(self, weights: Tensor) -> EdgeMoves:
        """The same edges moving along one direction each, the sum of the X with `weights` (E, X)."""
        near = weights[self.functions.near].unsqueeze(1)
        return self._replace(
            along=(self.along * weights).sum(1, keepdim=True),
            turned=near @ self.turned,
            through=torch.cat([self.through[:, :1], near @ self.through[:, 1:]], dim=1),
        )


class _Touched(NamedTuple):
    """The pairs of a block and a centre that its directions touch, and how the coefficients of the centre change."""

    block: Tensor  # (P,) ascending
    center: Tensor  # (P,) ascending within a block
    radial: Tensor  # (P, X, Nr)
    angular: Tensor  # (P, Na, X, L)
    n_blocks: int

    def select(self, pairs: Tensor) -> _Touched:
        """Some of the pairs, in the order of `pairs`."""
        return _Touched(
            self.block.index_select(0, pairs),
            self.center.index_select(0, pairs),
            self.radial.index_select(0, pairs),
            self.angular.index_select(0, pairs),
            self.n_blocks,
        )


class ExpansionForm:
    """The model as it is now, on one structure without its wall.

    Parameters
    ----------
    model : AtomicModel
        A cluster expansion.
    derivatives : PolynomialDerivatives
        Of its invariants.
    frame : ExpansionFrame
        The structure.
    """

    @torch.no_grad()
    def __init__(self, model: AtomicModel, derivatives: PolynomialDerivatives, frame: ExpansionFrame) -> None:
        if frame.moments is None:
            raise ValueError("a structure that was prepared for the kernels")
        self.model, self.derivatives, self.frame, self.moments = model, derivatives, frame, frame.moments
        d: ClusterExpansion = model.descriptor
        self.descriptor = d
        counts = torch.tensor(frame.counts)
        self._types = torch.repeat_interleave(torch.arange(d.n_types), counts)
        self._first_atom = (torch.cumsum(counts, 0) - counts).tolist()
        radial, angular = [], []
        for t, (q, x) in enumerate(self._by_element(frame.moments.radial, frame.moments.angular)):
            radial.append(q @ d.radial_weights[t].transpose(1, 2).flatten(0, 1))
            angular.append(x @ d.angular_weights[t].transpose(1, 2).flatten(0, 1))
        a = torch.cat(angular)  # (N, L, Na)
        self._monomials = derivatives.monomials(a.permute(1, 2, 0).reshape(a.shape[1], -1))  # (M, Na N)
        features = torch.cat([torch.cat(radial), d.polynomials(a).flatten(1)], dim=1)
        self._energies(model.scaling(features, self._types))
        n_radial = d.radial_channels
        self._u = self._slopes * model.scaling.factor[self._types]  # dE/dD (N, D)
        self._radial_slope = self._u[:, :n_radial]
        shape = (len(a), derivatives.n_invariants, d.angular_channels)
        self._weights = self._u[:, n_radial:].reshape(shape).permute(1, 2, 0).flatten(1)  # (I, Na N)
        first = derivatives.first(self._monomials).flatten(0, 1).T.contiguous()
        self._first = first.view(shape[2], shape[0], shape[1], a.shape[1])  # J (Na, N, I, L)
        across = self._weights.view(shape[1], shape[2], 1, shape[0]).permute(1, 3, 2, 0)  # (Na, N, 1, I)
        self._slope = (across @ self._first).squeeze(2).permute(1, 2, 0).contiguous()  # S (N, L, Na)
        self._second: Tensor | None = None

    def _energies(self, scaled: Tensor) -> None:
        """Set `energy`, and what the networks tell of it."""
        scale = self.model.energy_scale
        self._tapes, slopes, energy = [], [], self.frame.reference
        for network, (x,) in zip(self.model.networks.networks, self._by_element(scaled), strict=True):
            tape = Tape(plain(network), x)
            tape.backward(torch.full((len(x), 1), scale, dtype=torch.float64))
            self._tapes.append(tape)
            slopes.append(tape.slope)
            energy += scale * float(tape.outputs.sum())
        self.energy = energy
        self._slopes = torch.cat(slopes)

    def _by_element(self, *per_atom: Tensor) -> list[tuple[Tensor, ...]]:
        """Parts of what is there for each of the atoms, element by element of the centre."""
        return list(zip(*(x.split(self.frame.counts) for x in per_atom), strict=True))

    def _curvature(self) -> Tensor:
        """H (Na, N, L, L)."""
        if self._second is None:
            second = self.derivatives.second(self._monomials, self._weights)
            self._second = second.unflatten(0, (self.descriptor.angular_channels, self.frame.n_atoms))
        return self._second

    def _row(self, radial: list[Tensor], angular: list[Tensor], networks: list[Tensor]) -> Tensor:
        """Rows (R, P) from derivatives by w, (R, T K, channels) for each element of the centre, and by networks."""
        n_rows, n_types = len(radial[0]), self.descriptor.n_types
        parts = []
        for own in (radial, angular):
            stacked = torch.stack(own, dim=1)  # (R, T, T K, channels)
            parts.append(stacked.unflatten(2, (n_types, -1)).transpose(3, 4).reshape(n_rows, -1))
        return torch.cat([*parts, *(g.reshape(n_rows, -1) for g in networks)], dim=1)

    @torch.no_grad()
    def energy_row(self) -> Tensor:
        """Derivatives (P,) of the energy with respect to all weights."""
        scale, networks, radial, angular = self.model.energy_scale, [], [], []
        for tape in self._tapes:
            networks += tape.gradients(torch.full((1, *tape.outputs.shape), scale, dtype=torch.float64))
        moments = self.moments.radial, self.moments.angular
        for q, x, u, s in self._by_element(*moments, self._radial_slope, self._slope):
            radial.append((q.T @ u).unsqueeze(0))
            angular.append((x.flatten(0, 1).T @ s.flatten(0, 1)).unsqueeze(0))
        return self._row(radial, angular, networks)[0]

    @torch.no_grad()
    def moves(self, directions: Directions) -> EdgeMoves:
        """What `directions` do to their edges."""
        d, edges, change = self.descriptor, directions.edges, directions.change
        functions = edge_functions(d, edges.vectors)
        along, turned = functions.changes(change)
        pair = self._types[edges.center] * d.n_types + edges.element
        near = functions.near
        both = torch.cat([functions.harmonics.unsqueeze(1), turned], dim=1)
        return EdgeMoves(
            functions,
            along,
            turned,
            d.mixed(functions.radial_slope, pair, d.radial_weights),
            d.mixed(functions.angular, pair[near], d.angular_weights),
            d.mixed(functions.angular_slope, pair[near], d.angular_weights),
            both @ self._slope[edges.center[near]],
        )

    @torch.no_grad()
    def values(self, directions: Directions, moves: EdgeMoves) -> Tensor:
        """Derivatives (A, X) of the energy along `directions`."""
        near, block = moves.functions.near, directions.block
        radial = (self._radial_slope[directions.edges.center] * moves.radial_slope).sum(1)
        distance = (moves.angular_slope * moves.through[:, 0]).sum(1)
        angular = distance.unsqueeze(1) * moves.along[near]
        angular += (moves.angular.unsqueeze(1) * moves.through[:, 1:]).sum(2)
        zeros = radial.new_zeros((directions.n_blocks, moves.along.shape[1]))
        return zeros.index_add(0, block, radial.unsqueeze(1) * moves.along).index_add(0, block[near], angular)

    @torch.no_grad()
    def edge_gradient(self) -> Tensor:
        """dE/d edge vector (E, 3), eV/Å, of all edges."""
        edges = self.frame.edges
        axes = torch.eye(3, dtype=torch.float64).expand(len(edges.center), 3, 3)
        directions = Directions(edges, torch.arange(len(edges.center)), len(edges.center), axes)
        return self.values(directions, self.moves(directions))

    @torch.no_grad()
    def rows(self, directions: Directions, moves: EdgeMoves) -> Tensor:
        """Derivatives (A * X, P) of `values` with respect to all weights."""
        return self._rows(self._touched(directions, moves), *self._of_edges(directions, moves))

    @torch.no_grad()
    def virial_rows(self, components: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """All six `components` of the virial (6,) and their derivatives (6, P), from moments alone."""
        d, frame, x = self.descriptor, self.frame, self.moments.strained
        if x is None or len(components) != x.radial.shape[1]:
            raise ValueError("there are moments for the six components of a structure with a stress")
        parts: list[list[Tensor]] = [[], [], [], []]
        each = self._by_element(x.radial, x.angular, self._radial_slope, self._slope)
        for t, (q, a, u, s) in enumerate(each):
            parts[0].append(q @ d.radial_weights[t].transpose(1, 2).flatten(0, 1))  # (n, 6, Nr)
            parts[1].append(a @ d.angular_weights[t].transpose(1, 2).flatten(0, 1))  # (n, 6, L, Na)
            parts[2].append(q.permute(1, 2, 0) @ u)
            by_strain = a.transpose(0, 1).flatten(1, 2)  # (6, n L, T Ka)
            parts[3].append(by_strain.transpose(1, 2) @ s.flatten(0, 1))
        radial, angular = torch.cat(parts[0]), torch.cat(parts[1])
        values = (radial * self._radial_slope.unsqueeze(1)).sum((0, 2))
        values = values + (angular * self._slope.unsqueeze(1)).sum((0, 2, 3))
        everything = torch.arange(frame.n_atoms)
        touched = _Touched(torch.zeros_like(everything), everything, radial, angular.permute(0, 3, 1, 2), 1)
        return values, self._rows(touched, parts[2], parts[3])

    def _rows(self, touched: _Touched, radial: list[Tensor], angular: list[Tensor]) -> Tensor:
        """Rows (A * X, P): through the `touched` atoms, and by w for each element of the centre, as they are."""
        networks, types = [], self._types[touched.center]
        for t in range(self.descriptor.n_types):
            part = touched.select(torch.nonzero(types == t).squeeze(1))
            gradients, through_radial, through_angular = self._element_rows(t, part)
            networks += gradients
            radial[t] += through_radial
            angular[t] += through_angular
        return self._row(radial, angular, networks)

    def _touched(self, directions: Directions, moves: EdgeMoves) -> _Touched:
        """How the coefficients of all touched centres change along all directions."""
        n_x, f, n_atoms = moves.along.shape[1], moves.functions, self.frame.n_atoms
        place = directions.block * n_atoms + directions.edges.center
        pairs, number = torch.unique(place, return_inverse=True)
        change = (moves.along.unsqueeze(2) * moves.radial_slope.unsqueeze(1)).flatten(1)  # (E, X Nr)
        radial = change.new_zeros((len(pairs), change.shape[1])).index_add(0, number, change)
        stretched = moves.along[f.near].unsqueeze(2) * f.harmonics.unsqueeze(1)
        left = torch.stack([moves.angular_slope, moves.angular], dim=1)  # (E', 2, Na)
        right = torch.stack([stretched, moves.turned], dim=1).flatten(2)  # (E', 2, X L)
        key, order = number[f.near].sort(stable=True)
        angular = _crowded_sums(left[order], right[order], key, len(pairs))
        return _Touched(
            pairs // n_atoms,
            pairs % n_atoms,
            radial.view(len(pairs), n_x, moves.radial_slope.shape[1]),
            angular.view(len(pairs), left.shape[2], n_x, f.harmonics.shape[1]),
            directions.n_blocks,
        )

    def _element_rows(self, t: int, touched: _Touched) -> tuple[list[Tensor], Tensor, Tensor]:
        """Derivatives by the network of element `t` (A, X, ...) and by w (A * X, T K, channels), through its atoms."""
        block, center, n_blocks = touched.block, touched.center, touched.n_blocks
        n_pairs, channels, n_x, _ = touched.angular.shape
        n_radial, n_invariants = touched.radial.shape[2], self.derivatives.n_invariants
        centers, number = torch.unique(center, return_inverse=True)
        slot, room = _slots(number, len(centers))
        of_centers = slice(None) if len(centers) == self.frame.n_atoms else centers
        jacobian, curvature = self._first[:, of_centers], self._curvature()[:, of_centers]

        def by_center(values: Tensor) -> Tensor:
            """Values (Na, P, X, M) as (Na, S, R X, M): R pairs of each centre."""
            place = values.new_zeros((channels, len(centers) * room, n_x * values.shape[3]))
            place.index_copy_(1, slot, values.flatten(2))
            return place.view(channels, len(centers), room * n_x, values.shape[3])

        def by_pair(values: Tensor) -> Tensor:
            """Back to (Na, P, X, M)."""
            flat = values.view(channels, len(centers) * room, n_x * values.shape[3])
            return flat.index_select(1, slot).view(channels, n_pairs, n_x, values.shape[3])

        change = by_center(touched.angular.transpose(0, 1))
        features = by_pair(change @ jacobian.transpose(2, 3)).permute(1, 2, 3, 0)  # (P, X, I, Na)
        factor = self.model.scaling.factor[t]
        x_dot = torch.cat([touched.radial, features.flatten(2)], dim=2) * factor  # (P, X, D)
        within, most = neighbor_slots(block, n_blocks)
        where = center.new_zeros(n_blocks * most).index_copy(0, within, center - self._first_atom[t])
        x_dot = side_by_side(x_dot.flatten(1), within, n_blocks, most).view(n_blocks, most, n_x, len(factor))
        tangents = self._tapes[t].tangents(where.view(n_blocks, most), x_dot)
        v = (tangents.slope * factor).flatten(0, 1)[within]  # (P, X, D)
        across = v[:, :, n_radial:].unflatten(2, (n_invariants, channels)).permute(3, 0, 1, 2)
        q = by_center(across) @ jacobian + change @ curvature  # (Na, S, R X, L)
        through = by_pair(q @ self.moments.angular[of_centers]).transpose(0, 1)  # (P, Na, X, T K)
        angular = side_by_side(through.flatten(1), within, n_blocks, most).sum(1)
        angular = angular.view(n_blocks, channels, n_x, through.shape[3]).permute(0, 2, 3, 1).flatten(0, 1)
        of_radial = v[:, None, :, :n_radial]
        radial = _block_sums(self.moments.radial[center].unsqueeze(1), of_radial, block, n_blocks)
        return [g.flatten(0, 1) for g in tangents.gradients], radial, angular

    def _of_edges(self, directions: Directions, moves: EdgeMoves) -> tuple[list[Tensor], list[Tensor]]:
        """Derivatives (A * X, T K, channels) by the w that moving edges see, by element of the centre."""
        d, edges, f = self.descriptor, directions.edges, moves.functions
        near, block, n_blocks = f.near, directions.block, directions.n_blocks
        turned, along = moves.through[:, 1:], moves.along[near].unsqueeze(2) * moves.through[:, :1]
        radial = moves.along.unsqueeze(2) * self._radial_slope[edges.center].unsqueeze(1)
        pair = self._types[edges.center] * d.n_types + edges.element
        found: tuple[list[Tensor], list[Tensor]] = ([], [])
        for center_type in range(d.n_types):
            columns: tuple[list[Tensor], list[Tensor]] = ([], [])
            for element in range(d.n_types):
                index = center_type * d.n_types + element
                mine = torch.nonzero(pair == index).squeeze(1)
                close = torch.nonzero(pair[near] == index).squeeze(1)
                left, right = f.radial_slope[mine].unsqueeze(1), radial[mine].unsqueeze(1)
                columns[0].append(_block_sums(left, right, block[mine], n_blocks))
                left = torch.stack([f.angular[close], f.angular_slope[close]], dim=1)
                right = torch.stack([turned[close], along[close]], dim=1)
                columns[1].append(_block_sums(left, right, block[near[close]], n_blocks))
            for own, column in zip(found, columns, strict=True):
                own.append(torch.cat(column, dim=1))
        return found


def _slots(number: Tensor, n: int) -> tuple[Tensor, int]:
    """`neighbor_slots` of values (E,) that are not sorted."""
    order = number.argsort(stable=True)
    slot, room = neighbor_slots(number[order], n)
    return torch.empty_like(slot).index_copy(0, order, slot), room


def _block_sums(left: Tensor, right: Tensor, block: Tensor, n_blocks: int) -> Tensor:
    """Sums (A * X, K, C) over what each block has, (E, M, K) and (E, M, X, C), of their products."""
    slot, room = neighbor_slots(block, n_blocks)
    _, m, k = left.shape
    _, _, n_x, c = right.shape
    a = side_by_side(left.flatten(1), slot, n_blocks, room).view(n_blocks, room * m, k)
    b = side_by_side(right.flatten(1), slot, n_blocks, room).view(n_blocks, room * m, n_x * c)
    return (a.transpose(1, 2) @ b).view(n_blocks, k, n_x, c).transpose(1, 2).flatten(0, 1)


def _crowded_sums(left: Tensor, right: Tensor, key: Tensor, n: int) -> Tensor:
    """Sums (n, A, B) of products of (E, 2, A) and (E, 2, B) over the edges with each `key` (E,), ascending.

    A moved atom itself has all its neighbours, other centres see it once or a few times: they are laid out apart.
    """
    result = left.new_zeros((n, left.shape[2], right.shape[2]))
    keys, number, counts = torch.unique_consecutive(key, return_inverse=True, return_counts=True)
    crowded = counts > _CROWD
    for some in (crowded, ~crowded):
        mine = torch.nonzero(some[number]).squeeze(1)
        size = int(some.sum())
        if size > 0:
            slot, room = neighbor_slots((torch.cumsum(some, 0) - 1)[number[mine]], size)
            a = side_by_side(left[mine].flatten(1), slot, size, room).view(size, room * 2, -1)
            b = side_by_side(right[mine].flatten(1), slot, size, room).view(size, room * 2, -1)
            result[keys[some]] = a.transpose(1, 2) @ b
    return result
