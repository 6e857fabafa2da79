"""The section ``model.terms.dispersion`` of the YAML."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from nnpkit.section import Positive, Section

__all__ = ["DispersionSettings"]


class DispersionSettings(Section):
    """Dispersion of pairs beyond what networks see, with Grimme's damping of 2006 (DFT-D2)."""

    scale: Positive = Field(
        1.0, description="Factor of the energy: 0.75 for PBE, 1.2 for BLYP, 1.05 for B3LYP."
    )
    cutoff: Positive = Field(
        12.0, description="Distance, Å, where it ends; it is switched off over the last fifth of it."
    )
    parameters: dict[str, Annotated[list[Positive], Field(min_length=2, max_length=2)]] = Field(
        default_factory=dict,
        description="C6 (eV Å⁶) and van der Waals radius (Å) of elements, instead of Grimme's, e.g. "
        "`{Au: [420.0, 1.77]}`.",
    )
