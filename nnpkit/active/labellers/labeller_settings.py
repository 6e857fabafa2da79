"""Settings that all labellers share: what makes a label acceptable, retries, time."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pydantic import Field

from nnpkit.section import Positive, PositiveInt, Section

__all__ = ["LabellerSettings", "Limits"]


class Limits(Section):
    """What a label must satisfy to be believed."""

    net_force: Positive = Field(
        0.01, description="Largest sum of all forces, eV/Å, divided by the root of the number of atoms."
    )
    max_force: Positive = Field(100.0, description="Largest force on an atom, eV/Å.")
    energy_jump: Positive = Field(
        2.0, description="Largest difference, eV/atom, from the energy that the potential expects."
    )


class LabellerSettings(Section):
    """The section `reference` as far as it is the same for all; each labeller adds its `kind` and arguments."""

    if TYPE_CHECKING:
        kind: str = ""

    limits: Limits = Field(Limits(), description="What a label must satisfy.")
    retries: list[dict[str, Any]] = Field(
        default_factory=list,
        description="Settings that are changed in the second attempt, the third and so on; after the last one the "
        "structure goes into quarantine.",
    )
    walltime: Positive = Field(3600.0, description="Seconds after which one calculation has failed.")
    per_task: PositiveInt = Field(
        4, description="Structures that one task labels: more for quick methods, 1 for expensive ones."
    )

    def resolve_files(self, resolve: Callable[[str, tuple[str | int, ...]], str]) -> None:
        """Make paths absolute: `resolve` has the path and the keys of its setting."""

    def arguments_of_labeller(self) -> dict[str, Any]:
        """Kind and arguments, without what is the same for all."""
        return self.model_dump(exclude=set(LabellerSettings.model_fields))
