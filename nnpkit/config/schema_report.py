"""Settings of the validation report at the end of a training."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from nnpkit.section import Positive, Section, refuse_unused

__all__ = ["ReportSettings"]


class ReportSettings(Section):
    """Write `report.html` and `report.json` into the folder of the run when it has ended, as `nnpkit report` does."""

    md_steps: Annotated[int, Field(ge=0)] = Field(
        0, description="Steps of a short NPT and a short NVE run in LAMMPS; 0 for none."
    )
    temperature: Positive = Field(300.0, description="K, of these runs.")
    pressure: float = Field(1.0, description="bar, of the NPT run.")
    solids: bool = Field(
        True,
        description="Equation of state, elastic constants and, with phonopy, phonons of crystals at rest in the data.",
    )
    fisher_batches: Annotated[int, Field(ge=0)] = Field(
        300, description="Batches of the Fisher information of a Kalman run; 0 for none."
    )
    other: str | None = Field(
        None, description="Another potential for the same data, for the correlation of the errors of the two."
    )

    @model_validator(mode="after")
    def _simulations_are_run(self) -> ReportSettings:
        why = "md_steps is 0, there are no simulations"
        changed = {"temperature": self.temperature != 300.0, "pressure": self.pressure != 1.0}
        refuse_unused([(value, self.md_steps == 0, name, why) for name, value in changed.items()])
        return self
