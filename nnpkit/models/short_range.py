"""Screened nuclear repulsion (ZBL) as a wall where there are no data.

J. F. Ziegler, J. P. Biersack, U. Littmark, The Stopping and Range of Ions in Matter (Pergamon, 1985).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from ase.data import atomic_numbers, covalent_radii
from torch import Tensor

from nnpkit.data.graph import edge_centers
from nnpkit.models.cutoff import cutoff_function
from nnpkit.models.tabulated_zbl import TabulatedZbl
from nnpkit.models.terms import Term

__all__ = ["COULOMB", "ZBL_INNER", "ZblRepulsion", "make_wall", "wall_distances", "wall_ends"]

COULOMB = 14.399645478
"""e²/(4 pi epsilon_0) in eV Å."""
ZBL_INNER = 0.5
"""Fraction of a pair's outer distance below which the repulsion acts undamped."""
_GAP = 0.6
"""A pair whose shortest distance in the data exceeds this fraction of its covalent distance leaves a gap."""


def wall_distances(minimum_distance: Mapping[str, float]) -> dict[str, float]:
    """Element pairs that need a wall, with the distance (Å) where it ends: the shortest one in the data.

    Parameters
    ----------
    minimum_distance : mapping
        Shortest distance in the data, Å, of each pair ``"A-B"``.
    """
    walls = {}
    for pair, distance in minimum_distance.items():
        first, second = pair.split("-")
        covalent = covalent_radii[atomic_numbers[first]] + covalent_radii[atomic_numbers[second]]
        if distance > _GAP * covalent:
            walls[pair] = float(distance)
    return walls


def wall_ends(wall: Mapping[str, Any] | None) -> dict[str, float]:
    """Distance, Å, where the wall of each pair ends; `wall` as of `make_wall`."""
    return {
        pair: float(row if isinstance(row, int | float) else row[1]) for pair, row in (wall or {}).items()
    }


def make_wall(elements: Sequence[str], wall: Mapping[str, Any] | None) -> Term | None:
    """The repulsion that the description of a model asks for; None if it asks for none.

    Parameters
    ----------
    elements : sequence of str
        Elements of the type indices.
    wall : mapping or None
        Of pairs ``"A-B"``: the outer distance (Å) of a `ZblRepulsion`, or the ten numbers of a `TabulatedZbl`; all
        alike.

    Raises
    ------
    ValueError
        If both kinds are there.
    """
    if not wall:
        return None
    tabulated = {pair: row for pair, row in wall.items() if not isinstance(row, int | float)}
    if tabulated and len(tabulated) < len(wall):
        raise ValueError("the walls of some pairs are distances and those of others tables")
    return TabulatedZbl(elements, tabulated) if tabulated else ZblRepulsion(elements, wall)


class ZblRepulsion(Term):
    """Half of the ZBL energy of each edge, switched to zero at an outer distance of the element pair.

    ``E_ij = COULOMB Z_i Z_j / r * phi(r / a) * S(r)`` with ``a = 0.46850 / (Z_i^0.23 + Z_j^0.23)`` Å and the
    switch S the polynomial ``poly2`` between half the outer distance and the outer distance, so that energy
    and forces are smooth and the data's own range is untouched.

    Parameters
    ----------
    elements : sequence of str
        Elements of the type indices.
    outer : mapping
        Outer distance, Å, of pairs ``"A-B"``; other pairs have no wall.
    """

    def __init__(self, elements: Sequence[str], outer: Mapping[str, float]) -> None:
        super().__init__(max(outer.values()))
        n = len(elements)
        number = torch.tensor([float(atomic_numbers[e]) for e in elements], dtype=torch.float64)
        distances = torch.zeros((n, n), dtype=torch.float64)
        for pair, distance in outer.items():
            a, b = (elements.index(e) for e in pair.split("-"))
            distances[a, b] = distances[b, a] = distance
        self.register_buffer("outer", distances, persistent=False)
        self.register_buffer("number", number, persistent=False)
        self.register_buffer("power", number**0.23, persistent=False)
        self.inner = ZBL_INNER
        self.coulomb = COULOMB

    def forward(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Tensor:
        """Repulsion energy (n_local,) of each centre, eV."""
        center = edge_centers(offsets)
        r = torch.linalg.vector_norm(edge_vec, dim=1)
        type_i = types.index_select(0, center)
        outer = self.outer[type_i, neighbor_type]
        close = torch.nonzero(r < outer).squeeze(1)
        r, outer = r.index_select(0, close), outer.index_select(0, close)
        i, j = type_i.index_select(0, close), neighbor_type.index_select(0, close)
        x = r * (self.power[i] + self.power[j]) / 0.46850
        screening = (
            0.18175 * torch.exp(-3.19980 * x)
            + 0.50986 * torch.exp(-0.94229 * x)
            + 0.28022 * torch.exp(-0.40290 * x)
            + 0.02817 * torch.exp(-0.20162 * x)
        )
        switch = cutoff_function(r / outer, 1.0, "poly2", self.inner)
        energy = 0.5 * self.coulomb * self.number[i] * self.number[j] / r * screening * switch
        zeros = torch.zeros(types.shape[0], dtype=edge_vec.dtype, device=edge_vec.device)
        return zeros.index_add(0, center.index_select(0, close), energy)
