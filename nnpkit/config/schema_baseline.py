"""Settings of baselines: what a potential is a correction to."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from nnpkit.section import Section

__all__ = ["AseBaselineSettings", "Baseline", "D3BaselineSettings", "ModelBaselineSettings"]


class ModelBaselineSettings(Section):
    """Another potential of nnpkit: `model.pt` then holds both, and every program that loads it gets their sum."""

    kind: Literal["model"] = Field("model", description="Kind of the baseline.")
    file: str = Field(
        description="model.pt or folder of a run, relative to the current folder; no committee."
    )


class AseBaselineSettings(Section):
    """A calculator of ASE. Python adds it back by itself; LAMMPS has to be told to (pair style hybrid/overlay)."""

    kind: Literal["ase"] = Field("ase", description="Kind of the baseline.")
    calculator: str = Field(
        description="`tblite`, `emt`, another name that ASE knows, or `package.module.Class`, which is imported."
    )
    arguments: dict[str, Any] = Field(default_factory=dict, description="Arguments of the calculator.")


class D3BaselineSettings(Section):
    """Grimme's D3 dispersion with Becke-Johnson damping by tad-dftd3, of structures without periodic directions.

    Of periodic ones a calculator of ASE that computes D3 does it (`kind: ase`).
    """

    kind: Literal["d3"] = Field("d3", description="Kind of the baseline.")
    s6: float = Field(1.0, description="Factor of the sixth order; usually 1.")
    s8: float = Field(description="Factor of the eighth order, of the functional; 0.7875 for PBE.")
    a1: float = Field(description="Damping parameter of the functional; 0.4289 for PBE.")
    a2: float = Field(description="Damping parameter of the functional, Bohr; 4.4407 for PBE.")


Baseline = Annotated[
    ModelBaselineSettings | AseBaselineSettings | D3BaselineSettings, Field(discriminator="kind")
]
