"""Labels of a fixed descriptor as sums over atoms: of atomic energies, or of their derivatives along directions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from nnpkit.training.frames import Frame

__all__ = ["VIRIAL_COMPONENTS", "Samples", "energy_samples", "force_samples", "virial_samples"]

VIRIAL_COMPONENTS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
"""Components of the virial that are labels, in the order in which they are observed."""


class Samples(NamedTuple):
    """Terms of sums: S of them, each one atom's feature vector and a direction, belonging to a row."""

    features: Tensor  # (S, D) scaled features of the atom
    direction: Tensor  # (S, D)
    types: Tensor  # (S,)
    atom: Tensor  # (S,) index of the atom in its frame
    row: Tensor  # (S,) ascending


def force_samples(frame: Frame, jacobian: Tensor, components: Tensor) -> Samples:
    """Terms of force components (flat indices into (N, 3)): ``F_k = sum_out g - sum_in g``, g = dE/d edge."""
    atom, axis = components // 3, components % 3
    rows = torch.arange(len(components))
    first = frame.incoming_offsets[atom]
    counts = frame.incoming_offsets[atom + 1] - first
    row_in = torch.repeat_interleave(rows, counts)
    within = torch.arange(len(row_in)) - torch.repeat_interleave(torch.cumsum(counts, 0) - counts, counts)
    edges = frame.incoming[first[row_in] + within]
    direction_in = -jacobian[edges, :, axis[row_in]]
    # The centre's own features change with every outgoing edge.
    out_counts = torch.bincount(frame.center, minlength=frame.n_atoms)
    out_first = torch.cumsum(out_counts, 0) - out_counts
    own = [
        jacobian[int(out_first[k]) : int(out_first[k] + out_counts[k]), :, int(a)].sum(0)
        for k, a in zip(atom.tolist(), axis.tolist(), strict=True)
    ]
    row = torch.cat([row_in, rows])
    atoms = torch.cat([frame.center[edges], atom])
    direction = torch.cat([direction_in, torch.stack(own)])
    order = torch.argsort(row, stable=True)
    atoms = atoms[order]
    return Samples(frame.features[atoms], direction[order], frame.types[atoms], atoms, row[order])


def virial_samples(frame: Frame, jacobian: Tensor) -> Samples:
    """Terms of the six virial components ``W_ab = -sum_e r_a g_b``, symmetrised, order xx yy zz yz xz xy."""
    directions = []
    for a, b in VIRIAL_COMPONENTS:
        term = -0.5 * (
            frame.edge_vec[:, a, None] * jacobian[:, :, b] + frame.edge_vec[:, b, None] * jacobian[:, :, a]
        )
        directions.append(torch.zeros_like(frame.features).index_add(0, frame.center, term))
    n = frame.n_atoms
    atoms = torch.arange(n).repeat(6)
    return Samples(
        frame.features[atoms],
        torch.cat(directions),
        frame.types[atoms],
        atoms,
        torch.arange(6).repeat_interleave(n),
    )


def energy_samples(frame: Frame) -> Samples:
    """Terms of the energy, one per atom; the direction is not used."""
    n = frame.n_atoms
    return Samples(
        frame.features, frame.features, frame.types, torch.arange(n), torch.zeros(n, dtype=torch.int64)
    )
