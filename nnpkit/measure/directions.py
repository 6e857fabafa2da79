"""Directions in which edge vectors move: along them the derivatives of an energy are forces and virials."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

__all__ = ["Directions", "Linked", "displacements", "ranges", "strains", "weighted_displacements"]


class Linked(Protocol):
    """A structure that knows the edges of each of its N atoms."""

    edges: Any  # with vectors (E, 3), center (E,), neighbor (E,), and `select`
    first: Tensor  # (N + 1,) outgoing edges of each atom
    incoming: Tensor  # (E,) edges ordered by their neighbour ...
    first_incoming: Tensor  # (N + 1,) ... and where those of each neighbour start


def ranges(start: Tensor, stop: Tensor) -> Tensor:
    """All integers of the ranges ``start[k]:stop[k]``, one range after the other."""
    counts = stop - start
    position = torch.arange(int(counts.sum()))
    return position + torch.repeat_interleave(start - (torch.cumsum(counts, 0) - counts), counts)


class Directions(NamedTuple):
    """A blocks of X directions each; every direction moves some edges."""

    edges: Any  # E edges, sorted by block
    block: Tensor  # (E,) ascending
    n_blocks: int
    change: Tensor  # (E, 3, X) of the edge vectors, in each direction of the block


def displacements(frame: Linked, atoms: Tensor, axes: Tensor | None = None) -> Directions:
    """One block for each of `atoms`, in which it moves against x, y and z: the derivatives are forces.

    With `axes`, one for each of the atoms, it moves against that one alone, and an atom may be there more than once.
    """
    first_out, last_out = frame.first[atoms], frame.first[atoms + 1]
    first_in, last_in = frame.first_incoming[atoms], frame.first_incoming[atoms + 1]
    outgoing, incoming = ranges(first_out, last_out), frame.incoming[ranges(first_in, last_in)]
    numbers = torch.arange(len(atoms))
    block = torch.cat(
        [
            torch.repeat_interleave(numbers, last_out - first_out),
            torch.repeat_interleave(numbers, last_in - first_in),
        ]
    )
    block, order = block.sort(stable=True)
    edges = torch.cat([outgoing, incoming])[order]
    sign = torch.where(order < len(outgoing), 1.0, -1.0).to(torch.float64)
    moved = torch.eye(3, dtype=torch.float64)
    change = sign[:, None, None] * (moved if axes is None else moved[axes[block]].unsqueeze(2))
    return Directions(frame.edges.select(edges), block, len(atoms), change)


def strains(frame: Linked, components: Sequence[tuple[int, int]]) -> Directions:
    """One block, whose directions strain the structure: the derivatives are the `components` of the virial."""
    vectors = frame.edges.vectors
    change = torch.zeros((len(vectors), 3, len(components)), dtype=torch.float64)
    for x, (a, b) in enumerate(components):
        change[:, b, x] -= 0.5 * vectors[:, a]
        change[:, a, x] -= 0.5 * vectors[:, b]
    return Directions(frame.edges, frame.edges.center.new_zeros(len(vectors)), 1, change)


def weighted_displacements(frame: Linked, weights: Tensor) -> Directions:
    """One direction, in which all atoms move against their `weights` (N, 3): the sum of weights times forces."""
    edges = frame.edges
    change = weights[edges.center] - weights[edges.neighbor]
    return Directions(edges, torch.zeros_like(edges.center), 1, change.unsqueeze(2))
