"""Settings of potentials with symmetry functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import Field, model_validator

from nnpkit.families.shared_options import CutoffFunction
from nnpkit.families.shared_settings import NetworkModel
from nnpkit.section import Positive, PositiveInt, Section, refuse_unused

__all__ = ["AcsfModel", "Descriptor", "FunctionFile", "SymmetryFunctionEntry"]


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


class AcsfModel(NetworkModel):
    """A Behler-Parrinello potential: symmetry functions and one feed-forward network per element."""

    kind: Literal["acsf"] = Field("acsf", description="Kind of the model.")
    descriptor: Descriptor = Field(Descriptor(), description="Symmetry functions.")

    def named_elements(self) -> list[tuple[tuple[str | int, ...], str]]:
        """Those of functions that are given as mappings."""
        given = self.descriptor.functions if isinstance(self.descriptor.functions, list) else []
        return [
            (("descriptor", "functions", n), element)
            for n, function in enumerate(given) if not isinstance(function, str)
            for element in [function.center, *function.neighbors]
        ]  # fmt: skip

    def resolve_files(self, resolve: Callable[[str, tuple[str | int, ...]], str]) -> None:
        """That of functions from a settings file."""
        functions = self.descriptor.functions
        if isinstance(functions, FunctionFile):
            functions.file = resolve(functions.file, ("descriptor", "functions", "file"))
