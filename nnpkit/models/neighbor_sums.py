"""Sums of outer products over the neighbours of each atom, as batches of matrix products."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["neighbor_slots", "side_by_side", "sum_over_neighbors"]


def neighbor_slots(center: Tensor, n_local: int) -> tuple[Tensor, int]:
    """Where each edge stands when every centre has room for as many as the one with most has.

    Returns
    -------
    tuple
        Place (E,) in ``n_local * room``, for edges sorted by centre, and the room.
    """
    counts = torch.bincount(center, minlength=n_local)
    room = int(counts.max()) if n_local > 0 else 0
    within = torch.arange(center.shape[0], device=center.device) - (torch.cumsum(counts, 0) - counts)[center]
    return center * room + within, room


def side_by_side(values: Tensor, slot: Tensor, n_local: int, room: int) -> Tensor:
    """Values (E, W) of edges as (n_local, room, W), zero where there is no edge."""
    width = values.shape[1]
    return values.new_zeros((n_local * room, width)).index_copy(0, slot, values).view(n_local, room, width)


def sum_over_neighbors(a: Tensor, b: Tensor, center: Tensor, n_local: int) -> Tensor:
    """Sum of outer products of `a` (E, A) and `b` (E, B) over the edges of each centre, (n_local, A, B).

    Laid out side by side, edges sorted by centre are one batch of matrix products: many times faster than adding
    outer products edge by edge.
    """
    slot, room = neighbor_slots(center, n_local)
    return torch.bmm(
        side_by_side(a, slot, n_local, room).transpose(1, 2), side_by_side(b, slot, n_local, room)
    )
