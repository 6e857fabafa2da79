"""Settings of what forces contribute to a training."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from nnpkit.section import Positive, PositiveInt, Section

__all__ = ["DirectForces", "ForceTraining", "NoForces", "SubsetForces", "TaylorForces"]


class DirectForces(Section):
    """Force components are labels, as many as the schedule says."""

    kind: Literal["direct"] = Field("direct", description="Kind of the training on forces.")


class SubsetForces(Section):
    """Part of the force components of each structure are labels, whatever the `forces` of the schedule."""

    kind: Literal["subset"] = Field("subset", description="Kind of the training on forces.")
    fraction: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.1, description="Part of the components of a structure that an update uses, at least one."
    )
    select: Literal["random", "error"] = Field(
        "random",
        description="Which: `random`, drawn anew in every epoch, or those with the largest `error` of the potential as "
        "it is just before the update.",
    )


class TaylorForces(Section):
    """Forces as energies of additional, displaced structures: Taylor expansion (Cooper et al. 2020).

    Energies of displaced copies of the training structures are extrapolated to first order and learnt like others;
    forces themselves are not.
    """

    kind: Literal["taylor"] = Field("taylor", description="Kind of the training on forces.")
    strategy: Literal["cartesian", "random"] = Field(
        "random",
        description="`cartesian` (A): copies with one atom moved along x, y or z, one way and the other; `random` (B): "
        "all atoms moved at random, not their centre of mass.",
    )
    multiple: PositiveInt = Field(
        22, description="Copies of each structure; with `cartesian` at most six times its atoms."
    )
    displacement: Positive | dict[str, Positive] | None = Field(
        None,
        description="Length of the displacement (`cartesian`), or the largest length (`random`), Å; one for all or a "
        "mapping of elements, e.g. `{H: 0.008, O: 0.01}`. By default 0.03 (`cartesian`) or 0.01 (`random`), which "
        "suits covalent bonds; oxides bear three times as much.",
    )
    min_force: Annotated[float, Field(ge=0.0)] = Field(
        0.05,
        description="Structures whose longest force is below this, eV/Å, are relaxed: they have no copies.",
    )


class NoForces(Section):
    """Forces are not learnt."""

    kind: Literal["none"] = Field("none", description="Kind of the training on forces.")


def _as_section(value: Any) -> Any:
    """A word stands for a section of that kind; YAML's null for `none`."""
    if value is None:
        return {"kind": "none"}
    if isinstance(value, str):
        return {"kind": value}
    return {"kind": "direct", **value} if isinstance(value, dict) else value


ForceTraining = Annotated[
    DirectForces | SubsetForces | TaylorForces | NoForces,
    Field(discriminator="kind"),
    BeforeValidator(_as_section),
]
"""A section, or its kind alone."""
