"""Settings of the model: descriptor, scaling, networks, short-range wall."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from nnpkit.config.section import Positive, PositiveInt, Section, refuse_unused

__all__ = [
    "AcsfModel",
    "ChebyshevDescriptor",
    "ChebyshevModel",
    "Descriptor",
    "ElementNetwork",
    "FunctionFile",
    "Network",
    "NetworkModel",
    "Scaling",
    "SymmetryFunctionEntry",
]

CutoffFunction = Literal[
    "cosine", "tanh3", "tanh3_normalized", "exponential", "poly1", "poly2", "poly3", "poly4", "hard"
]
Activation = Literal[
    "tanh", "logistic", "softplus", "gaussian", "cosine", "relu", "reverse_logistic", "exponential",
    "harmonic", "linear",
]  # fmt: skip


def _on_off(value: Any) -> Any:
    """YAML 1.1 readers turn the words on and off into booleans."""
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


class SymmetryFunctionEntry(Section):
    """One symmetry function written as a mapping."""

    kind: Literal["G2", "G3", "G9"] = Field(
        description="G2 is radial, G3 angular over triangles with three short sides (narrow), G9 angular "
        "over triangles with two (wide).",
    )
    center: str = Field(description="Element of the atom described.")
    neighbors: list[str] = Field(
        min_length=1, max_length=2, description="Element of the neighbour (G2), or of both neighbours."
    )
    eta: float = Field(0.0, ge=0.0, description="Width parameter, per squared length.")
    shift: float = Field(0.0, description="Distance of the maximum (length), `r_s`.")
    zeta: Positive = Field(1.0, description="Exponent of the angular part.")
    lam: Literal[-1, 1] = Field(
        1, description="Sign in the angular part: maximum at 0 (+1) or at 180 degrees (-1)."
    )
    cutoff: Positive | None = Field(
        None, description="Cutoff radius (length); by default that of the descriptor."
    )

    @model_validator(mode="after")
    def _count_neighbors(self) -> SymmetryFunctionEntry:
        if len(self.neighbors) != (1 if self.kind == "G2" else 2):
            raise ValueError(f"{self.kind} has {'one neighbour' if self.kind == 'G2' else 'two neighbours'}")
        angular = [(self.zeta != 1.0, "zeta"), (self.lam != 1, "lam")]
        refuse_unused([(changed, self.kind == "G2", name, "G2 has no angle") for changed, name in angular])
        return self


class FunctionFile(Section):
    """Symmetry functions taken from a RuNNer or n2p2 settings file."""

    file: str = Field(
        description="The `input.nn`; its `symfunction_short` lines are used and nothing else of it.",
    )


class Descriptor(Section):
    """Atom-centred symmetry functions: what the networks see of an atom's neighbourhood.

    By default a set is generated from the distances found in the training data; the report in `data.json`
    says which functions were chosen and why. The settings from `radial` on shape that set.
    """

    cutoff: Positive = Field(
        6.0, description="Radius of the neighbourhood, Å, of functions that do not name one."
    )
    angular_cutoff: Positive | None = Field(
        None, description="Radius for generated angular functions, Å; by default `cutoff`."
    )
    cutoff_function: CutoffFunction = Field(
        "tanh3", description="How the functions go to zero at the cutoff; formulas in the theory pages."
    )
    cutoff_inner: float = Field(
        0.0, ge=0.0, lt=1.0,
        description="Fraction of the cutoff below which `cosine` and the polynomials are one.",
    )  # fmt: skip
    functions: Literal["auto"] | FunctionFile | list[str | SymmetryFunctionEntry] = Field(
        "auto",
        description="`auto`, or a list of functions, each a mapping or a line as in RuNNer's `input.nn` "
        "(with or without the word `symfunction_short`), or `{file: input.nn}`.",
    )
    units: Literal["angstrom", "bohr"] | None = Field(
        None,
        description="Unit of length of given functions. Mappings are in Å unless said; lines and files need "
        "it said, because RuNNer files are in either.",
    )
    radial: int = Field(8, ge=0, description="Generated radial functions per pair of elements.")
    zetas: list[Positive] = Field(
        [1.0, 2.0, 4.0, 16.0], description="Exponents of generated angular functions."
    )
    angular_etas: list[Annotated[float, Field(ge=0.0)]] | None = Field(
        None,
        description="Width parameters of generated angular functions, 1/Å²; by default 0.02 and 0.1 for one element, "
        "0.05 for several.",
    )
    angular_kind: Literal["narrow", "wide"] = Field(
        "narrow", description="Generate G3 (`narrow`) or G9 (`wide`) functions."
    )
    functions_per_element: PositiveInt | None = Field(
        None,
        description="Most functions of an element that are kept of those generated: the ones from which the others "
        "follow best. By default 40 for one or two elements, 32 for more.",
    )
    minimum_range: Annotated[float, Field(ge=0.0)] = Field(
        1e-6,
        description="Generated functions whose values vary less than this over the training data are "
        "dropped.",
    )

    @model_validator(mode="after")
    def _units_of_lines(self) -> Descriptor:
        lines = isinstance(self.functions, list) and any(isinstance(f, str) for f in self.functions)
        if self.units is None and (lines or isinstance(self.functions, FunctionFile)):
            raise ValueError("say in which unit of length the functions are: units: bohr or units: angstrom")
        return self

    @model_validator(mode="after")
    def _settings_have_an_effect(self) -> Descriptor:
        plain = self.cutoff_function.startswith(("tanh", "exponential", "hard"))
        given, default = self.functions != "auto", Descriptor.model_fields
        named = isinstance(self.functions, FunctionFile) or (
            isinstance(self.functions, list)
            and all(isinstance(f, str) or f.cutoff is not None for f in self.functions)
        )
        shaping = (
            "angular_cutoff", "radial", "zetas", "angular_etas", "angular_kind", "functions_per_element",
            "minimum_range",
        )  # fmt: skip
        refuse_unused(
            [
                (self.cutoff_inner != 0.0, plain, "cutoff_inner", f"{self.cutoff_function} has none"),
                (self.units is not None, not given, "units", "generated functions are in Å"),
                (
                    self.cutoff != default["cutoff"].default,
                    named,
                    "cutoff",
                    "all given functions name their own",
                ),
                *(
                    (getattr(self, name) != default[name].default, given, name, "the functions are given")
                    for name in shaping
                ),
            ]
        )
        return self


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


class NetworkModel(Section):
    """What potentials with a fixed descriptor and a feed-forward network per element have in common."""

    elements: list[str] | None = Field(
        None,
        min_length=1,
        description="Chemical elements in the order of the model; by default those of the data.",
    )
    scaling: Scaling = Field(Scaling(), description="Scaling of the descriptor's values.")
    network: Network = Field(Network(), description="Networks.")
    precondition: bool = Field(
        True,
        description="Shift and stretch the untrained networks so that mean and spread of their energies are "
        "those of the training data.",
    )
    wall: Annotated[Literal["auto", "on", "off"] | dict[str, Positive], BeforeValidator(_on_off)] = Field(
        "auto",
        description="Short-range (ZBL) repulsion where the data end: `auto` for the element pairs whose "
        "shortest distance in the data leaves a gap, `on` for all pairs, `off`, or a mapping of pairs to "
        "the distance, Å, below which it acts, e.g. `{O-O: 1.9}`.",
    )


class AcsfModel(NetworkModel):
    """A Behler-Parrinello potential: symmetry functions and one feed-forward network per element."""

    kind: Literal["acsf"] = Field("acsf", description="Kind of the model.")
    descriptor: Descriptor = Field(Descriptor(), description="Symmetry functions.")


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
