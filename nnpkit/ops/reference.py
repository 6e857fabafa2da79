"""Slow, readable definitions of the kernels, atom by atom: the judge of every faster implementation.

Written from the formulas alone; nothing here is shared with what it judges.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["symmetry_function"]


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
