"""Settings of the schedules: which labels each update uses."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nnpkit.config.section import PositiveInt, Section

__all__ = ["EpochSchedule", "FullSchedule", "GroupSchedule", "PinnSchedule"]


class PinnSchedule(Section):
    """At every update the energy or some forces of one random structure (Shao et al. 2021, Fig. 1b)."""

    kind: Literal["pinn"] = Field("pinn", description="Kind of the schedule.")
    energy_probability: float = Field(
        0.5, ge=0.0, le=1.0, description="Probability that an update uses an energy."
    )
    force_labels: PositiveInt = Field(
        10, description="Random force components in an update that uses forces."
    )
    steps_per_epoch: PositiveInt | None = Field(
        None, description="Updates that count as an epoch; by default the number of training structures."
    )


def _something_to_learn(schedule: Any) -> Any:
    """Refuse a schedule without labels."""
    if not (schedule.energy or schedule.forces or schedule.virial):
        raise ValueError("energies, forces and virials are all switched off: nothing to learn from")
    return schedule


class EpochSchedule(Section):
    """Every structure once per epoch, in random order."""

    kind: Literal["epoch"] = Field("epoch", description="Kind of the schedule.")
    batch_size: PositiveInt = Field(1, description="Structures per update.")
    energy: bool = Field(True, description="Use energies.")
    forces: Literal["all"] | Annotated[int, Field(ge=0)] = Field(
        30,
        description="Force components of each structure, drawn anew every epoch; `all`, a number, or 0.",
    )
    virial: bool = Field(False, description="Use the virial (stress) of structures that have one.")

    _learns = model_validator(mode="after")(_something_to_learn)


class FullSchedule(Section):
    """The same labels of all structures at every update; for L-BFGS."""

    kind: Literal["full"] = Field("full", description="Kind of the schedule.")
    energy: bool = Field(True, description="Use energies.")
    forces: Literal["all"] | Annotated[int, Field(ge=0)] = Field(
        "all", description="Force components of each structure, drawn once; `all`, a number, or 0."
    )
    virial: bool = Field(False, description="Use the virial (stress) of structures that have one.")
    steps_per_epoch: PositiveInt = Field(
        10, description="Updates, iterations of L-BFGS, that count as an epoch."
    )

    _learns = model_validator(mode="after")(_something_to_learn)


class GroupSchedule(Section):
    """Every structure once per epoch, in random order: the forces of some groups of its atoms, and its energy.

    The updates of RLEKF (Hu et al. 2023, algorithm 1), for Kalman filters, and what a Deep Potential with
    `kind: ekf` learns by if no schedule is given.
    """

    kind: Literal["groups"] = Field("groups", description="Kind of the schedule.")
    batch_size: PositiveInt = Field(1, description="Structures per update.")
    energy: bool = Field(True, description="Use energies.")
    energy_first: bool = Field(
        False,
        description="Update with the energy before the forces, as published; after them it takes back what they do to "
        "the energies of all structures alike.",
    )
    group_atoms: PositiveInt | None = Field(
        None,
        description="Atoms of a group, drawn anew in every epoch; by default six, or as many as the smallest structure "
        "has.",
    )
    groups: Literal["all"] | PositiveInt = Field(
        4, description="Groups of each structure, or `all` for as many as it takes to use all of its atoms."
    )
    reduction: Literal["none", "signed_mean"] = Field(
        "none",
        description="`none`: every force component is an observation; `signed_mean`: those of a group are one, the "
        "mean of their absolute errors, as published.",
    )
    virial: bool = Field(False, description="Use the virial (stress) of structures that have one.")
    joint_from: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="First epoch (counted from 0) in which energy, groups and virial of a batch are one update from "
        "one evaluation of the model; before it, and by default always, each is an update of its own.",
    )
