"""Settings of potentials with a Chebyshev descriptor."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from nnpkit.families.shared_options import CutoffFunction
from nnpkit.families.shared_settings import NetworkModel
from nnpkit.section import Positive, Section

__all__ = ["ChebyshevDescriptor", "ChebyshevModel"]


class ChebyshevDescriptor(Section):
    """Expansion of the distributions of distances and angles in Chebyshev polynomials (Artrith et al. 2017).

    The defaults are those of Cooper et al. (2020) for water: with two elements or more, 48 features whatever the
    number of elements.
    """

    radial_order: Annotated[int, Field(ge=-1)] = Field(
        18, description="Order of the radial expansion; one feature more than this, -1 for none."
    )
    radial_cutoff: Positive = Field(6.5, description="Radius of the neighbourhood for distances, Å.")
    angular_order: Annotated[int, Field(ge=-1)] = Field(
        4, description="Order of the angular expansion; one feature more than this, -1 for none."
    )
    angular_cutoff: Positive = Field(3.0, description="Radius of the neighbourhood for angles, Å.")
    cutoff_function: CutoffFunction = Field(
        "cosine", description="How the expansions go to zero at their cutoffs; `cosine` is that of ænet."
    )
    species_weights: dict[str, float] | None = Field(
        None,
        description="Weight of each element as a neighbour in the second set of coefficients, e.g. `{Ti: -1, O: 1}`; "
        "by default integers around zero in the order of `elements`, as in ænet.",
    )

    @model_validator(mode="after")
    def _describes_something(self) -> ChebyshevDescriptor:
        if self.radial_order < 0 and self.angular_order < 0:
            raise ValueError("neither a radial nor an angular expansion: nothing is described")
        return self


class ChebyshevModel(NetworkModel):
    """The potential of ænet: a Chebyshev descriptor and one feed-forward network per element."""

    kind: Literal["chebyshev"] = Field("chebyshev", description="Kind of the model.")
    descriptor: ChebyshevDescriptor = Field(ChebyshevDescriptor(), description="Chebyshev descriptor.")

    def named_elements(self) -> list[tuple[tuple[str | int, ...], str]]:
        """Those that have a weight."""
        return [(("descriptor", "species_weights", e), e) for e in self.descriptor.species_weights or ()]
