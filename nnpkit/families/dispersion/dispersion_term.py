"""Dispersion of pairs, damped where atoms are close.

S. Grimme, J. Comput. Chem. 27, 1787 (2006).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nnpkit.data.graph import edge_centers
from nnpkit.errors import InputError
from nnpkit.families.dispersion.dispersion_settings import DispersionSettings
from nnpkit.families.term_contract import TermKind
from nnpkit.families.training_data import TrainingData
from nnpkit.models.cutoff import cutoff_function
from nnpkit.models.terms import Term

__all__ = ["DISPERSION", "Dispersion"]

_SWITCH = 0.8
"""Fraction of the cutoff where the switch begins."""
_STEEPNESS = 20.0
_EV_ANGSTROM6 = 10.364269656
"""Of 1 J nm⁶ / mol."""


class Dispersion(Term):
    """Half of the dispersion of each edge.

    ``E_ij = -scale sqrt(C_i C_j) / r^6 / (1 + exp(-20 (r / (R_i + R_j) - 1))) * S(r)`` with a polynomial switch S that
    falls from 1 at 0.8 times the cutoff to 0 at the cutoff.

    Parameters
    ----------
    scale : float
        Factor of all.
    cutoff : float
        Where it ends, Å.
    c6, radii : sequence of float
        C6, eV Å⁶, and radius, Å, of each element.
    """

    def __init__(self, scale: float, cutoff: float, c6: Sequence[float], radii: Sequence[float]) -> None:
        super().__init__(cutoff)
        self.scale, self.switch, self.steepness = float(scale), _SWITCH, _STEEPNESS
        self.register_buffer("root", torch.tensor(c6, dtype=torch.float64).sqrt(), persistent=False)
        self.register_buffer("radius", torch.tensor(radii, dtype=torch.float64), persistent=False)

    def forward(self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor) -> Tensor:
        """Energy (n_local,) of each centre, eV."""
        center = edge_centers(offsets)
        own = types.index_select(0, center)
        r = torch.linalg.vector_norm(edge_vec, dim=1)
        strength = 0.5 * self.scale * self.root[own] * self.root[neighbor_type]
        damping = torch.sigmoid(self.steepness * (r / (self.radius[own] + self.radius[neighbor_type]) - 1.0))
        energy = -strength / r.pow(6) * damping * cutoff_function(r / self.cutoff, 1.0, "poly2", self.switch)
        zeros = torch.zeros(types.shape[0], dtype=edge_vec.dtype, device=edge_vec.device)
        return zeros.index_add(0, center, energy)


class DispersionKind(TermKind):
    """See `DispersionSettings`."""

    kind = "dispersion"
    settings = DispersionSettings

    def describe(self, settings: DispersionSettings, data: TrainingData) -> dict[str, Any]:
        """See `TermKind`."""
        found = {element: settings.parameters.get(element) or _grimme(element) for element in data.elements}
        if unknown := sorted(set(settings.parameters) - set(found)):
            raise InputError(
                f"parameters for {unknown[0]}, which is no element of the model",
                where="model.terms.dispersion.parameters", expected=f"some of {', '.join(data.elements)}",
            )  # fmt: skip
        return {"scale": settings.scale, "cutoff": settings.cutoff, "parameters": found}

    def make(self, description: Mapping[str, Any], elements: Sequence[str]) -> Dispersion:
        """See `TermKind`."""
        c6, radii = zip(*(description["parameters"][element] for element in elements), strict=True)
        return Dispersion(description["scale"], description["cutoff"], c6, radii)


def _grimme(element: str) -> list[float]:
    """C6, eV Å⁶, and radius, Å, of Grimme's table."""
    from ase.calculators.vdwcorrection import vdWDB_Grimme06jcc as table
    from ase.data import atomic_numbers

    row = table.get(element)
    if row is None and atomic_numbers["Y"] <= atomic_numbers[element] <= atomic_numbers["Cd"]:
        row = table["Y-Cd"]
    if row is None:
        raise InputError(
            f"Grimme's table of 2006 has no {element}", where="model.terms.dispersion.parameters",
            expected=f"its C6, eV Å⁶, and radius, Å: {{{element}: [400.0, 1.8]}}",
        )  # fmt: skip
    return [row[0] * _EV_ANGSTROM6, row[1]]


DISPERSION = DispersionKind()
