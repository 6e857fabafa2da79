"""Slow, readable definitions of the kernels, atom by atom: the judge of every faster implementation.

Written from the formulas alone; nothing here is shared with what it judges.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["deep_potential_descriptor", "residual_network", "symmetry_function"]


def symmetry_function(
    kind: str,
    vectors: Tensor,
    neighbor_elements: list[str],
    neighbors: tuple[str, ...],
    cutoff_function: Callable[[Tensor], Tensor],
    *,
    eta: float,
    shift: float,
    zeta: float = 1.0,
    lam: float = 1.0,
) -> Tensor:
    """One symmetry function of one atom (0-dim tensor).

    Parameters
    ----------
    kind : str
        ``G2``, ``G3`` or ``G9``: Behler, J. Chem. Phys. 134, 074106 (2011), eqs. 6, 8 and 9.
    vectors : Tensor
        (n, 3) Å, from the atom to each neighbour.
    neighbor_elements : list of str
        Element of each neighbour.
    neighbors : tuple of str
        The element, or the two elements, that the function counts.
    cutoff_function : callable
        fc(r), zero beyond its cutoff.
    eta, shift, zeta, lam
        Parameters, 1/Å² and Å.
    """

    def radial(r: Tensor) -> Tensor:
        return torch.exp(-eta * (r - shift) ** 2) * cutoff_function(r)

    total = vectors.new_zeros(())
    for j, vector_j in enumerate(vectors):
        r_ij = vector_j.norm()
        if kind == "G2":
            if neighbor_elements[j] == neighbors[0]:
                total = total + radial(r_ij)
            continue
        for k in range(j + 1, len(vectors)):
            if sorted((neighbor_elements[j], neighbor_elements[k])) != sorted(neighbors):
                continue
            vector_k = vectors[k]
            r_ik, r_jk = vector_k.norm(), (vector_k - vector_j).norm()
            cosine = torch.dot(vector_j, vector_k) / (r_ij * r_ik)
            term = math.pow(2.0, 1.0 - zeta) * (1.0 + lam * cosine) ** zeta * radial(r_ij) * radial(r_ik)
            total = total + (term * radial(r_jk) if kind == "G3" else term)
    return total


def residual_network(
    x: Tensor, layers: Sequence[tuple[Tensor, Tensor, Tensor | None]], f: Callable[[Tensor], Tensor]
) -> Tensor:
    """Outputs of residual layers ``y = dt * f(W x + b) + shortcut`` for one input vector (n_inputs,).

    `layers` are (W (n_out, n_in), b (n_out,), dt (n_out,) or None). The shortcut is x, or (x, x), if the widths
    allow it.
    """
    for weight, bias, timestep in layers:
        y = torch.stack([f(torch.dot(row, x) + b) for row, b in zip(weight, bias, strict=True)])
        if timestep is not None:
            y = timestep * y
        if len(y) == len(x):
            y = y + x
        elif len(y) == 2 * len(x):
            y = y + torch.cat([x, x])
        x = y
    return x


def deep_potential_descriptor(
    vectors: Tensor,
    neighbor_types: list[int],
    networks: Sequence[Callable[[Tensor], Tensor]],
    cutoff_function: Callable[[Tensor], Tensor],
    *,
    mean: float,
    std: tuple[float, float],
    sel: Sequence[int],
    axis_neurons: int,
) -> Tensor:
    """Deep Potential descriptor (M, M<) of one atom as DeePMD-kit defines it, with absent neighbours filled in.

    Parameters
    ----------
    vectors : Tensor
        (n, 3) Å, from the atom to each neighbour within the cutoff.
    neighbor_types : list of int
        Type of each neighbour.
    networks : sequence of callable
        For each type of neighbour, the map from the first component (1,) of a row to M numbers.
    cutoff_function : callable
        fc(r); ``s(r) = fc(r) / r``.
    mean, std : float, tuple of float
        Mean of s; standard deviations of s and of the angular components.
    sel : sequence of int
        Number of neighbours of each type; shorter lists are filled with rows of s = 0.
    axis_neurons : int
        M<.
    """
    rows: list[list[Tensor]] = [[] for _ in sel]
    for vector, t in zip(vectors, neighbor_types, strict=True):
        r = vector.norm()
        s = cutoff_function(r) / r
        rows[t].append(torch.cat([((s - mean) / std[0]).reshape(1), s * vector / r / std[1]]))
    absent = torch.tensor([-mean / std[0], 0.0, 0.0, 0.0], dtype=vectors.dtype)
    total = vectors.new_zeros(())
    for t, network in enumerate(networks):
        for row in rows[t] + [absent] * (sel[t] - len(rows[t])):
            total = total + torch.outer(network(row[:1]), row)
    total = total / sum(sel)
    return total @ total[:axis_neurons].T
