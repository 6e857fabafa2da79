"""Settings of committees, and of trainings that begin where another ended."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from nnpkit.section import PositiveInt, Section

__all__ = ["Committee", "Start"]


class Committee(Section):
    """Several potentials instead of one: their disagreement says where they can be trusted.

    Members have the same descriptor; they differ in the seed of first weights and order of the data, and perhaps
    in the data. The folder of the run then holds `committee.pt` and a run folder for every member.
    """

    members: Annotated[int, Field(ge=2)] = Field(4, description="Number of potentials.")
    resample: Literal["seeds", "bootstrap", "splits", "posterior"] = Field(
        "seeds",
        description="Training structures of each member: all (`seeds`), as many drawn with replacement "
        "(`bootstrap`), or all but a random `data.validation_fraction` (`splits`). `posterior`: one potential is "
        "trained, by the Kalman filter, and is a member; the others are drawn around it from the covariance of its "
        "weights, so that disagreement is the expected error, calibrated on the validation structures.",
    )
    processes: PositiveInt | None = Field(
        None, description="Members trained at the same time; by default as many as there are cores."
    )

    @property
    def trainings(self) -> int:
        """Potentials that are trained."""
        return 1 if self.resample == "posterior" else self.members

    @model_validator(mode="after")
    def _directions(self) -> Committee:
        if self.resample == "posterior" and (self.members < 4 or self.processes is not None):
            raise ValueError("resample: posterior needs 4 members or more, and one training: no processes")
        return self


class Start(Section):
    """Where the weights come from instead of random numbers: the best epoch of another run with the same elements.

    Scaling, short-range wall and reference energies follow the new data, the networks staying the same functions. The
    section `model` must be that of the earlier run; left out, it is. Where generated symmetry functions of the new
    data are others (shorter distances, features that did not vary before), weights cannot be carried over: the
    training begins from scratch and says so. The best epoch is one of the new ones, also if none is better on the
    validation set than the beginning.
    """

    run: str = Field(
        description="Folder of the run, relative to the current folder; of a committee for a committee of as many "
        "members. Or a `model.pt`, which has no covariance, and whose functions are kept if there is no section "
        "`model`."
    )
    epochs: PositiveInt | None = Field(
        None,
        description="Epochs of a training with these weights; by default, and if it begins from scratch after all, "
        "`training.epochs` and `training.min_updates`.",
    )
    covariance: bool = Field(
        True,
        description="Also take over the covariance that its Kalman filter, if it has one, had at that epoch, and with "
        "it what it learnt.",
    )
    freeze: list[int | str] = Field(
        default_factory=list,
        description="Weights that stay as they are (transfer learning): layers of every atomic network, counted from 1 "
        "at the features, -1 being the output, e.g. `[1]`; or patterns for names of parameters, e.g. `[descriptor.*]`.",
    )
