"""Energy and directional derivatives of a Deep Potential with all their derivatives by the weights, in closed form.

With the coefficients C of the embedding networks (`nnpkit.families.deep_potential.moments`) and an atom's sums
``T = X C``, the energy is ``E = sum_i f(D_i)`` with ``D = T T<^T``. A direction moves edge vectors; edge e then
changes the sums of its centre by ``T. = R. G(R_0) + R G'(R_0) R._0``, and the energy by
``h = sum_i S_i . T._i`` with ``S = dE/dT``. So ::

    dh = u . dD.   + v . dD                   fitting networks, see `nnpkit.measure.closed_form`
    dh/dT = Q = B(v, T) + B(u, T.)            B(g, T) = g T< + (g^T T, in the columns of T<)
    dh/dC = sum_i X_i^T Q_i + sum_e [T_k (R.^T S) + T_k' R._0 (R^T S)]

and the last one continues into the embedding networks at the nodes of the series.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from nnpkit.families.deep_potential.embedding import DeepDescriptor
from nnpkit.families.deep_potential.moments import MomentFrame
from nnpkit.families.deep_potential.prepared import TOLERANCE, Resolution, remainder
from nnpkit.measure.closed_form import Tape
from nnpkit.measure.directions import Directions, strains
from nnpkit.models.neighbor_sums import neighbor_slots, side_by_side

__all__ = ["ClosedForm"]


class Moves(NamedTuple):
    """What directions do to edges."""

    rows: Tensor  # (E, 4, X) change of the rows, divided by the centre's expected number of neighbours
    values: Tensor  # (E, K) polynomials
    slopes: Tensor  # (E, K) their derivatives
    embedded: Tensor  # (E, M) G
    bent: Tensor  # (E, 4, M) rows times dG/dR_0

    def combined(self, weights: Tensor) -> Moves:
        """The same edges moving along one direction each, the sum of the X with `weights` (E, X)."""
        return self._replace(rows=(self.rows @ weights.unsqueeze(2)).contiguous())

    def sums(self) -> Tensor:
        """Change (E, X, 4, M) of the sum over neighbours of each edge's centre."""
        rows = self.rows.transpose(1, 2).unsqueeze(3)  # (E, X, 4, 1)
        result = rows * self.embedded[:, None, None, :]
        result += rows[:, :, :1] * self.bent.unsqueeze(1)
        return result


class ClosedForm:
    """The model as it is now, on one structure without its wall.

    Parameters
    ----------
    resolution : Resolution
        Holds the model.
    frame : MomentFrame
        The structure.
    """

    @torch.no_grad()
    def __init__(self, resolution: Resolution, frame: MomentFrame) -> None:
        self.frame, self.basis = frame, frame.basis
        self.model = resolution.model
        self.descriptor: DeepDescriptor = self.model.descriptor
        d = self.descriptor
        self._norm = torch.repeat_interleave(d.normalisation(), torch.tensor(frame.counts))
        pairs = zip(d.embeddings, self.basis.nodes, strict=True)
        self._embeddings = [Tape(network, nodes.unsqueeze(1)) for network, nodes in pairs]
        self._parts = [self.basis.to_coefficients @ tape.outputs for tape in self._embeddings]  # (K, M) each
        sums = [x @ torch.cat(self._of_center(t)) for t, x in enumerate(frame.moments.split(frame.counts))]
        self._sums = torch.cat(sums)  # T (N, 4, M)
        features = d.contract(self._sums.transpose(1, 2)).split(frame.counts)
        scale = self.model.energy_scale
        self._tapes, slopes, energy = [], [], frame.reference
        for network, x in zip(self.model.networks.networks, features, strict=True):
            tape = Tape(network.hidden, x)
            tape.backward((scale * network.output.weight).expand(len(x), -1))
            self._tapes.append(tape)
            slopes.append(tape.slope)
            energy += scale * float(network.output(tape.outputs).sum())
        self.energy = energy
        self._u = torch.cat(slopes).view(-1, d.width, d.axis)  # dE/dD
        self._slope = self._through_features(self._u, self._sums)  # S (N, 4, M)

    @property
    def accurate(self) -> bool:
        """Whether the series of the embedding networks are long enough."""
        return remainder(self._parts) <= TOLERANCE

    def _of_center(self, element: int) -> list[Tensor]:
        """Coefficients (K, M) of the neighbours of each element, for centres of `element`."""
        n = self.descriptor.n_types
        return self._parts if self.descriptor.one_side else self._parts[element * n : (element + 1) * n]

    def _through_features(self, g: Tensor, sums: Tensor) -> Tensor:
        """``B(g, T)`` (..., 4, M) for `g` (..., M, M<) and `sums` (..., 4, M)."""
        axis = self.descriptor.axis
        result = sums[..., :axis] @ g.transpose(-1, -2)
        result[..., :axis] += sums @ g
        return result

    @torch.no_grad()
    def energy_row(self) -> Tensor:
        """Derivatives (P,) of the energy with respect to all weights."""
        scale = self.model.energy_scale
        fitting = []
        for network, tape in zip(self.model.networks.networks, self._tapes, strict=True):
            own = tape.gradients((scale * network.output.weight).expand_as(tape.outputs).unsqueeze(0))
            last = [
                tape.outputs.sum(0)[None, None] * scale,
                tape.outputs.new_full((1, 1), scale * len(tape.outputs)),
            ]
            fitting.append(own + last)
        coefficients = [
            x.flatten(0, 1).T @ s.flatten(0, 1)
            for x, s in zip(self._split(self.frame.moments), self._split(self._slope), strict=True)
        ]
        return self._row(fitting, [c.unsqueeze(0) for c in coefficients])[0]

    def _split(self, per_atom: Tensor) -> Sequence[Tensor]:
        return per_atom.split(self.frame.counts)

    def _row(self, fitting: list[list[Tensor]], coefficients: list[Tensor]) -> Tensor:
        """Rows (R, P): from parts (R, ...) for the fitting networks and dh/dC (R, T K, M) by element of the centre."""
        n_rows, k = len(coefficients[0]), self.basis.n
        if self.descriptor.one_side:
            parts = torch.stack(coefficients).sum(0).split(k, dim=1)
        else:
            parts = tuple(part for own in coefficients for part in own.split(k, dim=1))
        gradients = []
        for tape, part in zip(self._embeddings, parts, strict=True):
            gradients += tape.gradients(self.basis.to_coefficients.T @ part)
        gradients += [gradient for own in fitting for gradient in own]
        return torch.cat([gradient.reshape(n_rows, -1) for gradient in gradients], dim=1)

    @torch.no_grad()
    def moves(self, directions: Directions) -> Moves:
        """What `directions` do to their edges."""
        edges, change = directions.edges, directions.change
        along = (edges.unit.unsqueeze(2) * change).sum(1, keepdim=True)  # (E, 1, X)
        angular = (
            edges.ratio[:, None, None] * change + (edges.bend.unsqueeze(1) * edges.unit).unsqueeze(2) * along
        )
        rows = torch.cat([edges.slope[:, None, None] * along, angular], dim=1)
        values, slopes = self.basis.evaluate(edges.rows[:, 0], edges.network)
        rows /= self._norm[edges.center][:, None, None]
        g_slope = self._embedded(edges.network, slopes)
        bent = edges.rows.unsqueeze(2) * g_slope.unsqueeze(1)
        return Moves(rows, values, slopes, self._embedded(edges.network, values), bent)

    def _embedded(self, network: Tensor, polynomials: Tensor) -> Tensor:
        """Series (E, M) of the embedding `network` (E,) of each edge."""
        if len(self._parts) == 1:
            return polynomials @ self._parts[0]
        result = polynomials.new_empty((len(network), self.descriptor.width))
        for index, part in enumerate(self._parts):
            mine = torch.nonzero(network == index).squeeze(1)
            result[mine] = polynomials[mine] @ part
        return result

    @torch.no_grad()
    def values(self, directions: Directions, moves: Moves) -> Tensor:
        """Derivatives (A, X) of the energy along `directions`."""
        slope = self._slope[directions.edges.center]  # (E, 4, M)
        by_rows = (slope @ moves.embedded.unsqueeze(2)).squeeze(2)
        by_rows[:, 0] += (slope * moves.bent).sum((1, 2))
        own = (by_rows.unsqueeze(1) @ moves.rows).squeeze(1)
        return own.new_zeros((directions.n_blocks, own.shape[1])).index_add(0, directions.block, own)

    @torch.no_grad()
    def rows(self, directions: Directions, moves: Moves) -> Tensor:
        """Derivatives (A * X, P) of `values` with respect to all weights."""
        n_atoms, n_blocks = self.frame.n_atoms, directions.n_blocks
        key = directions.block * n_atoms + directions.edges.center
        pairs, inverse = torch.unique(key, return_inverse=True)
        changes = moves.sums()
        sums_dot = changes.new_zeros((len(pairs), *changes.shape[1:])).index_add(0, inverse, changes)
        block, center = pairs // n_atoms, pairs % n_atoms
        through_edges = self._coefficients_of_edges(directions, moves)
        fitting, coefficients, first = [], [], 0
        for t, count in enumerate(self.frame.counts):
            mine = torch.nonzero((center >= first) & (center < first + count)).squeeze(1)
            own, part = self._element_rows(t, first, block[mine], center[mine], sums_dot[mine], n_blocks)
            fitting.append(own)
            coefficients.append(part + through_edges[t])
            first += count
        return self._row(fitting, coefficients)

    @torch.no_grad()
    def virial_rows(self, components: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """The `components` of the virial (6,), eV, and their derivatives (6, P)."""
        directions = strains(self.frame, components)
        moves = self.moves(directions)
        return self.values(directions, moves)[0], self.rows(directions, moves)

    def _element_rows(
        self, t: int, first: int, block: Tensor, center: Tensor, sums_dot: Tensor, n_blocks: int
    ) -> tuple[list[Tensor], Tensor]:
        """Derivatives (A * X, ...) by the fitting network of element `t` and by the coefficients, through its atoms."""
        d, n_x = self.descriptor, sums_dot.shape[1]
        slot, room = neighbor_slots(block, n_blocks)
        n = n_blocks * room
        where = center.new_full((n,), first).index_copy(0, slot, center)
        t_dot = side_by_side(sums_dot.flatten(1), slot, n_blocks, room).view(n, n_x, 4, d.width)
        sums = self._sums[where].unsqueeze(1)  # (n, 1, 4, M)
        x_dot = t_dot.transpose(2, 3) @ sums[..., : d.axis] + sums.transpose(2, 3) @ t_dot[..., : d.axis]
        scale = self.model.energy_scale
        x_dot = x_dot.view(n_blocks, room, n_x, d.width * d.axis)
        tangents = self._tapes[t].tangents((where - first).view(n_blocks, room), x_dot)
        last = [scale * tangents.outputs.sum(1), tangents.outputs.new_zeros((n_blocks, n_x, 1))]
        gradients = [g.flatten(0, 1) for g in (*tangents.gradients, *last)]
        q = self._through_features(tangents.slope.view(n, n_x, d.width, d.axis), sums)
        q += self._through_features(self._u[where], t_dot.view(n, n_x * 4, d.width)).view_as(q)
        q = q.view(n_blocks, room, n_x, 4, d.width).transpose(2, 3).reshape(n_blocks, room * 4, n_x * d.width)
        moments = self.frame.moments[where].view(n_blocks, room * 4, d.n_types * self.basis.n)
        part = (moments.transpose(1, 2) @ q).view(n_blocks, d.n_types * self.basis.n, n_x, d.width)
        return gradients, part.transpose(1, 2).flatten(0, 1)

    def _coefficients_of_edges(self, directions: Directions, moves: Moves) -> list[Tensor]:
        """Derivatives (A * X, T K, M) by the coefficients that the moving edges see, by element of the centre."""
        d, edges, k = self.descriptor, directions.edges, self.basis.n
        n_blocks, n_x = directions.n_blocks, moves.rows.shape[2]
        slope = self._slope[edges.center]  # (E, 4, M)
        direct = moves.rows.transpose(1, 2) @ slope  # (E, X, M)
        bent = moves.rows[:, :1].transpose(1, 2) * (edges.rows.unsqueeze(1) @ slope)
        n_sets = 1 if d.one_side else d.n_types
        result = [slope.new_zeros((n_blocks * n_x, d.n_types * k, d.width)) for _ in range(d.n_types)]
        for index in range(n_sets * d.n_types):
            mine = torch.nonzero(edges.network == index).squeeze(1)
            slot, room = neighbor_slots(directions.block[mine], n_blocks)
            polynomials = torch.stack([moves.values[mine], moves.slopes[mine]], 1).flatten(1)
            changes = torch.stack([direct[mine], bent[mine]], 1).flatten(1)
            left = side_by_side(polynomials, slot, n_blocks, room).view(n_blocks, room * 2, k)
            right = side_by_side(changes, slot, n_blocks, room).view(n_blocks, room * 2, n_x * d.width)
            part = (
                (left.transpose(1, 2) @ right).view(n_blocks, k, n_x, d.width).transpose(1, 2).flatten(0, 1)
            )
            center_type, neighbor_type = divmod(index, d.n_types)
            result[center_type][:, neighbor_type * k : (neighbor_type + 1) * k] = part
        return result
