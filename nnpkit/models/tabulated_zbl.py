"""Screened nuclear repulsion with a screening and a range of each pair, as neuroevolution potentials have it.

J. F. Ziegler, J. P. Biersack, U. Littmark, The Stopping and Range of Ions in Matter (Pergamon, 1985); J. Liu et al.,
Phys. Rev. B 108, 054312 (2023).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from ase.data import atomic_numbers
from torch import Tensor

from nnpkit.data.graph import edge_centers
from nnpkit.models.terms import Term

__all__ = ["SCREENING_SCALE", "UNIVERSAL_SCREENING", "TabulatedZbl", "nep_wall", "screened_repulsion"]

UNIVERSAL_SCREENING = (0.18175, 3.1998, 0.50986, 0.94229, 0.28022, 0.4029, 0.02817, 0.20162)
"""Amplitude and exponent of the four terms of the universal screening function."""
_COULOMB = 14.399645  # eV Å, and
SCREENING_SCALE = 2.134563
"""1/Å, with the digits that GPUMD has."""


def nep_wall(outer: Mapping[str, float]) -> dict[str, list[float]]:
    """The universal repulsion of pairs, switched off between half the `outer` distance (Å) and all of it."""
    return {pair: [0.5 * end, end, *UNIVERSAL_SCREENING] for pair, end in outer.items()}


def screened_repulsion(
    r: Tensor,
    charges: Tensor,
    powers: Tensor,
    inner: Tensor,
    outer: Tensor,
    exponents: Tensor,
    coulomb: float = _COULOMB,
    scale: float = SCREENING_SCALE,
) -> Tensor:
    """Each term of the repulsion of pairs, eV for an amplitude of one; see `TabulatedZbl`.

    Parameters
    ----------
    r : Tensor, shape (P,)
        Distances, Å, below the outer ones.
    charges, powers : Tensor, shape (P,)
        ``Z_i Z_j`` and ``Z_i^0.23 + Z_j^0.23``.
    inner, outer : Tensor, shape (P,)
        Where the switch begins and ends, Å.
    exponents : Tensor, shape (P, 4) or (1, 4)
        The b_k.
    coulomb, scale : float
        The constants: TorchScript knows none of a module.

    Returns
    -------
    Tensor, shape (P, 4)
    """
    x = scale * r * powers
    switch = 0.5 * (1.0 + torch.cos(math.pi * ((r - inner) / (outer - inner)).clamp(min=0.0)))
    return torch.exp(-exponents * x.unsqueeze(1)) * (coulomb * charges / r * switch).unsqueeze(1)


class TabulatedZbl(Term):
    """Half of the repulsion of each edge.

    ``E_ij = 14.399645 Z_i Z_j / r * phi(x) * S(r)`` in eV with ``x = 2.134563 (Z_i^0.23 + Z_j^0.23) r``,
    ``phi = sum_k a_k exp(-b_k x)`` and S half a cosine that falls from 1 at the inner to 0 at the outer distance.

    Parameters
    ----------
    elements : sequence of str
        Elements of the type indices.
    pairs : mapping
        Of pairs ``"A-B"``: inner and outer distance, Å, then the four a_k and b_k in turn. Other pairs have no wall.
    """

    def __init__(self, elements: Sequence[str], pairs: Mapping[str, Sequence[float]]) -> None:
        super().__init__(max(row[1] for row in pairs.values()))
        n = len(elements)
        number = torch.tensor([float(atomic_numbers[e]) for e in elements], dtype=torch.float64)
        table = torch.zeros((n, n, 10), dtype=torch.float64)
        for pair, row in pairs.items():
            a, b = (elements.index(e) for e in pair.split("-"))
            table[a, b] = table[b, a] = torch.tensor(row, dtype=torch.float64)
        self.register_buffer("table", table, persistent=False)
        self.register_buffer("number", number, persistent=False)
        self.register_buffer("power", number**0.23, persistent=False)

    def forward(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Tensor:
        """Repulsion energy (n_local,) of each centre, eV."""
        center = edge_centers(offsets)
        r = torch.linalg.vector_norm(edge_vec, dim=1)
        type_i = types.index_select(0, center)
        close = torch.nonzero(r < self.table[type_i, neighbor_type][:, 1]).squeeze(1)
        r = r.index_select(0, close)
        i, j = type_i.index_select(0, close), neighbor_type.index_select(0, close)
        row = self.table[i, j]
        charges, powers = self.number[i] * self.number[j], self.power[i] + self.power[j]
        terms = screened_repulsion(r, charges, powers, row[:, 0], row[:, 1], row[:, 3::2])
        energy = 0.5 * (row[:, 2::2] * terms).sum(1)
        zeros = torch.zeros(types.shape[0], dtype=edge_vec.dtype, device=edge_vec.device)
        return zeros.index_add(0, center.index_select(0, close), energy)
