"""Settings of the schedules: which labels each update uses."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nnpkit.section import NonNegative, PositiveInt, Section, refuse_unused

__all__ = ["AdaptiveSchedule", "EpochSchedule", "FullSchedule", "GroupSchedule", "PinnSchedule"]


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


VIRIAL: Any = Field(
    "auto",
    description="Use the virial (stress) of structures that have one; `auto`: if any training structure has, forces "
    "are learnt and the stresses have no offset against the energies of strained cells.",
)


def _something_to_learn(schedule: Any) -> Any:
    """Refuse a schedule without labels."""
    if not (schedule.energy or schedule.forces or schedule.virial is True):
        raise ValueError("energies, forces and virials are all switched off: nothing to learn from")
    return schedule


class EpochSchedule(Section):
    """Every structure once per epoch, in random order."""

    kind: Literal["epoch"] = Field("epoch", description="Kind of the schedule.")
    batch_size: PositiveInt = Field(1, description="Structures per update.")
    energy: bool = Field(True, description="Use energies.")
    forces: Literal["auto", "all"] | Annotated[int, Field(ge=0)] = Field(
        "auto",
        description="Force components of each structure, drawn anew every epoch; `all`, a number, or 0. `auto`: 30, or "
        "0 without forces.",
    )
    virial: bool | Literal["auto"] = VIRIAL

    _learns = model_validator(mode="after")(_something_to_learn)


class FullSchedule(Section):
    """The same labels of all structures at every update; for L-BFGS."""

    kind: Literal["full"] = Field("full", description="Kind of the schedule.")
    energy: bool = Field(True, description="Use energies.")
    forces: Literal["all"] | Annotated[int, Field(ge=0)] = Field(
        "all", description="Force components of each structure, drawn once; `all`, a number, or 0."
    )
    virial: bool | Literal["auto"] = VIRIAL
    steps_per_epoch: PositiveInt = Field(
        10, description="Updates, iterations of L-BFGS, that count as an epoch."
    )

    _learns = model_validator(mode="after")(_something_to_learn)


class GroupSchedule(Section):
    """Every structure once per epoch, in random order: the forces of some groups of its atoms, and its energy.

    The updates of RLEKF (Hu et al. 2023, algorithm 1), for Kalman filters, and what a Deep Potential with
    `kind: ekf` learns by if no schedule is given; without forces it is one energy after the other, as of `epoch`.
    """

    kind: Literal["groups"] = Field("groups", description="Kind of the schedule.")
    batch_size: PositiveInt = Field(1, description="Structures per update.")
    energy: bool = Field(True, description="Use energies.")
    energy_first: bool = Field(
        False,
        description="Update with the energy before the forces, as published; after them it takes back what they do to "
        "the energies of all structures alike.",
    )
    group_atoms: PositiveInt = Field(
        6, description="Atoms of a group, drawn anew in every epoch; all of a structure that has fewer."
    )
    groups: Literal["all"] | PositiveInt = Field(
        4, description="Groups of each structure, or `all` for as many as it takes to use all of its atoms."
    )
    reduction: Literal["none", "signed_mean"] = Field(
        "none",
        description="`none`: every force component is an observation; `signed_mean`: those of a group are one, the "
        "mean of their absolute errors, as published.",
    )
    virial: bool | Literal["auto"] = VIRIAL
    joint_from: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="First epoch (counted from 0) in which energy, groups and virial of a batch are one update from "
        "one evaluation of the model; before it, and by default always, each is an update of its own.",
    )


class AdaptiveSchedule(Section):
    """Every structure once per epoch, in random order: labels whose errors are large at that moment.

    The adaptive selection of RuNNer and n2p2 (Tokita and Behler 2023): a label makes an update only if its error
    exceeds a multiple of the root mean squared error of all training structures at the last evaluation. How many
    updates an epoch has is not known before; `updates_by_kind` in `metrics.jsonl` counts them.
    """

    kind: Literal["adaptive"] = Field("adaptive", description="Kind of the schedule.")
    energy_threshold: NonNegative | None = Field(
        0.1,
        description="For energies (errors per atom), in units of their error; null: energies are not used.",
    )
    force_threshold: NonNegative | None = Field(
        1.0, description="For force components, in units of their error; null: forces are not used."
    )
    energy_group: PositiveInt = Field(
        1, description="Selected energies of an update; 1 is point by point, as published."
    )
    force_group: PositiveInt = Field(
        1, description="Selected force components of an update, also of several structures."
    )
    force_fraction: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.1,
        description="Part of the force components of a structure that are looked at, drawn anew in every epoch.",
    )
    trials: PositiveInt | None = Field(
        None,
        description="After so many labels in turn whose errors are below the threshold, the one with the largest error "
        "is used (as in n2p2); null: all of them are passed over (as in RuNNer).",
    )
    repeat_energy: bool = Field(
        False, description="Look at the energy of a structure once more after its forces."
    )

    @model_validator(mode="after")
    def _uses_something(self) -> AdaptiveSchedule:
        if self.energy_threshold is None and self.force_threshold is None:
            raise ValueError("energies and forces are both switched off: nothing to learn from")
        energies, forces = self.energy_threshold is not None, self.force_threshold is not None
        refuse_unused(
            [
                (self.energy_group != 1, not energies, "energy_group", "energies are not used"),
                (
                    self.repeat_energy,
                    not (energies and forces),
                    "repeat_energy",
                    "it is of both kinds of labels",
                ),
                (self.force_group != 1, not forces, "force_group", "forces are not used"),
                (self.force_fraction != 0.1, not forces, "force_fraction", "forces are not used"),
            ]
        )
        return self
