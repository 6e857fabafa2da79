"""Settings that families of models share: elements, scaling, networks, short-range wall."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from nnpkit.families.charge_settings import Charges
from nnpkit.families.registered_terms import TermSettings, term_settings
from nnpkit.families.shared_options import Activation, on_off
from nnpkit.section import Positive, PositiveInt, Section, refuse_unused

__all__ = ["ElementNetwork", "ModelSettings", "Network", "NetworkModel", "Scaling", "on_off"]

_LONGEST_REPULSION = 5.0

if TYPE_CHECKING:
    AnyTerms = TermSettings
else:
    AnyTerms = term_settings()


class Scaling(Section):
    """Map of each symmetry function's values in the training data to a range that suits the networks."""

    kind: Literal["none", "minmax", "center", "minmax_center", "sigma"] = Field(
        "minmax",
        description="`minmax`: smallest and largest value become `lower` and `upper`; `center`: subtract "
        "the mean; `minmax_center`: also divide by the range; `sigma`: subtract the mean, divide by the "
        "standard deviation.",
    )
    lower: float = Field(-1.0, description="Lower end of the range.")
    upper: float = Field(1.0, description="Upper end of the range.")

    @model_validator(mode="after")
    def _ordered(self) -> Scaling:
        if not self.lower < self.upper:
            raise ValueError(f"lower ({self.lower:g}) is not below upper ({self.upper:g})")
        changed, ends = (self.lower, self.upper) != (-1.0, 1.0), self.kind in ("none", "center")
        refuse_unused([(changed, ends, "lower or upper", f"scaling {self.kind} divides by nothing")])
        return self


class ElementNetwork(Section):
    """What one element's network has different from the others."""

    hidden: list[PositiveInt] | None = Field(None, description="Nodes of each hidden layer.")
    activation: Activation | None = Field(None, description="Activation function of the hidden layers.")


class Network(Section):
    """Atomic networks, one per element: from the descriptor to the energy of an atom."""

    hidden: Annotated[list[PositiveInt], Field(min_length=1)] | None = Field(
        None,
        description="Nodes of each hidden layer. By default two layers of 25, 20 for three elements, 15 for more, and "
        "of fewer, down to 10, for an element with less than ten labels per weight.",
    )
    activation: Activation = Field("tanh", description="Activation function of the hidden layers.")
    initialisation: Literal["xavier", "nguyen_widrow", "modified_xavier"] = Field(
        "xavier", description="How the first weights are drawn."
    )
    per_element: dict[str, ElementNetwork] = Field(
        default_factory=dict,
        description="Different settings for some elements, e.g. `{H: {hidden: [15, 15]}}`.",
    )


class ModelSettings(Section):
    """What the section `model` has in common for all families; each adds `kind`, `descriptor` and `network`.

    Attributes
    ----------
    trained_descriptor : bool
        Whether the features change in training.
    """

    if TYPE_CHECKING:
        kind: str = ""
        descriptor: Any = None
        network: Any = None

    trained_descriptor: ClassVar[bool] = False
    fits_repulsion: ClassVar[bool] = False
    """Whether the repulsion of pairs is fitted to forces by default."""

    elements: list[str] | None = Field(
        None,
        min_length=1,
        description="Chemical elements in the order of the model; by default those of the data.",
    )
    wall: Annotated[Literal["auto", "fitted", "on", "off"] | dict[str, Positive], BeforeValidator(on_off)] = (
        Field(
            "auto",
            description="Short-range (ZBL) repulsion: `fitted` to the forces, so that networks learn the rest; `on` "
            "where the data end for all pairs; `off`; or a mapping of pairs to the distance, Å, below which it acts, "
            "e.g. `{O-O: 1.9}`. `auto` is for cluster expansions, if there are forces, `fitted`, or `on` if most of "
            "what a fit would leave is what charges do to each other; otherwise it acts where the data end for the "
            "element pairs whose shortest distance there leaves a gap.",
        )
    )

    terms: AnyTerms = Field(
        AnyTerms(),
        description="Energies without weights beside the networks, which learn the rest: dispersion, and what "
        "installed packages add.",
    )
    charges: Charges | None = Field(
        None, description="Charges of the atoms and electrostatics beyond the cutoff; null for none."
    )

    def longest_repulsion(self) -> float:
        """Distance, Å, beyond which no fitted repulsion of pairs reaches."""
        return _LONGEST_REPULSION

    def named_elements(self) -> list[tuple[tuple[str | int, ...], str]]:
        """Further elements that the settings name, each with the keys of the setting."""
        return []

    def resolve_files(self, resolve: Callable[[str, tuple[str | int, ...]], str]) -> None:
        """Make paths absolute: `resolve` has the path and the keys of its setting."""

    @classmethod
    def complete(cls, training: dict[str, Any]) -> dict[str, Any]:
        """The section `training` as it was written, with what this family does by default where nothing is said."""
        return training


class NetworkModel(ModelSettings):
    """What potentials with a fixed descriptor and a feed-forward network per element have in common."""

    scaling: Scaling = Field(Scaling(), description="Scaling of the descriptor's values.")
    network: Network = Field(Network(), description="Networks.")
    precondition: bool = Field(
        True,
        description="Shift and stretch the untrained networks so that mean and spread of their energies are "
        "those of the training data.",
    )
