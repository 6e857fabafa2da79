"""Labels of a fixed descriptor as sums over atoms: of derivatives of atomic energies along directions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nnpkit.measure.prepared_frame import Frame

__all__ = ["VIRIAL_COMPONENTS", "Samples", "Terms", "force_samples", "samples_of_all", "virial_samples"]

VIRIAL_COMPONENTS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
"""Components of the virial that are labels, in the order in which they are observed."""


_ATOMS_AT_ONCE = 128


class Samples(NamedTuple):
    """Terms of sums: S of them, each a direction in the feature space of one atom, belonging to a row."""

    atom: Tensor  # (S,) index of the atom in its frame
    direction: Tensor  # (S, D)
    row: Tensor  # (S,) ascending; an atom occurs once in a row


class Terms(NamedTuple):
    """What labels of forces and virials of a frame are made of, and the features (N, D) that belong to it."""

    features: Tensor
    forces: Samples | None
    virial: Samples | None


def force_samples(frame: Frame, jacobian: Tensor, components: Tensor) -> Samples:
    """Terms of force components (flat indices into (N, 3)): ``F_k = sum_out g - sum_in g``, g = dE/d edge.

    Edges of one centre are added up: in a small periodic cell an atom has many images of a neighbour.
    """
    atom, axis = components // 3, components % 3
    n = frame.n_atoms
    incoming, incoming_offsets = frame.incoming
    row_in, edges_in = _edges_of(atom, incoming_offsets)
    edges_in = incoming[edges_in]
    outgoing = torch.bincount(frame.center, minlength=n).cumsum(0)
    row_out, edges_out = _edges_of(atom, torch.cat([outgoing.new_zeros(1), outgoing]))
    place = torch.cat([row_in * n + frame.center[edges_in], row_out * n + atom[row_out]])
    own = torch.arange(len(components)) * n + atom  # so that no row is without a sample
    present = torch.zeros(len(components) * n, dtype=torch.bool)
    present[place] = present[own] = True
    number = torch.cumsum(present, 0) - 1
    found = torch.nonzero(present).squeeze(1)
    direction = jacobian.new_zeros(len(found), jacobian.shape[1])
    direction.index_add_(0, number[place[: len(row_in)]], jacobian[edges_in, :, axis[row_in]], alpha=-1)
    direction.index_add_(0, number[place[len(row_in) :]], jacobian[edges_out, :, axis[row_out]])
    return Samples(found % n, direction, found // n)


def _edges_of(atoms: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """Position in `atoms`, and number from ``offsets[atom]`` on, of all that belongs to each of the `atoms`."""
    first = offsets[atoms]
    counts = offsets[atoms + 1] - first
    row = torch.repeat_interleave(torch.arange(len(atoms)), counts)
    within = torch.arange(len(row)) - torch.repeat_interleave(torch.cumsum(counts, 0) - counts, counts)
    return row, first[row] + within


def virial_samples(frame: Frame, jacobian: Tensor) -> Samples:
    """Terms of the six virial components ``W_ab = -sum_e r_a g_b``, symmetrised, order xx yy zz yz xz xy."""
    products = _products(frame, jacobian)
    directions = [-0.5 * (products[:, a, :, b] + products[:, b, :, a]) for a, b in VIRIAL_COMPONENTS]
    return samples_of_all(torch.stack(directions))


def samples_of_all(directions: Tensor) -> Samples:
    """Rows of which each is a sum over all N atoms, moved along `directions` (rows, N, D)."""
    rows, n, width = directions.shape
    atoms, numbers = torch.arange(n).repeat(rows), torch.arange(rows).repeat_interleave(n)
    return Samples(atoms, directions.reshape(rows * n, width), numbers)


def _products(frame: Frame, jacobian: Tensor) -> Tensor:
    """Sums (N, 3, D, 3) over the edges of each centre of vectors times derivatives, ``r_a dx_d/dr_b``.

    Edges of some atoms at a time are filled up with zeros to the same number, so that a sum is a product of matrices.
    """
    n, width = frame.n_atoms, jacobian.shape[1]
    counts = torch.bincount(frame.center, minlength=n)
    first = torch.cumsum(counts, 0) - counts
    flat, found = jacobian.reshape(len(jacobian), 3 * width), jacobian.new_zeros(n, 3, 3 * width)
    for start in range(0, n, _ATOMS_AT_ONCE):
        own = counts[start : start + _ATOMS_AT_ONCE]
        most = int(own.max())
        if most == 0:
            continue
        slot = torch.arange(most)
        edges = first[start : start + _ATOMS_AT_ONCE, None] + slot
        edges = edges.clamp(max=len(flat) - 1).reshape(-1)
        vectors = frame.edge_vec.index_select(0, edges).view(len(own), most, 3)
        vectors = vectors.masked_fill((slot >= own[:, None]).unsqueeze(2), 0.0)
        rows = flat.index_select(0, edges).view(len(own), most, 3 * width)
        torch.bmm(vectors.transpose(1, 2), rows, out=found[start : start + len(own)])
    return found.view(n, 3, width, 3)
