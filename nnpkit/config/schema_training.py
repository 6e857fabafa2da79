"""Settings of the training: what its optimizer and schedule go with, weights, stopping, checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Field, model_validator

from nnpkit.config.presets import expand_preset, optimizer_of_preset
from nnpkit.config.schema_forces import DirectForces, ForceTraining, SubsetForces
from nnpkit.config.schema_optimizer import Adam, Ekf, Lbfgs, Noise, Prefactors
from nnpkit.config.schema_schedules import (
    AdaptiveSchedule,
    EpochSchedule,
    FullSchedule,
    GroupSchedule,
    PinnSchedule,
)
from nnpkit.section import (
    Duration,
    NonNegative,
    Positive,
    PositiveInt,
    Section,
    default_kind,
    refuse_unused,
)
from nnpkit.training.registered import OPTIMIZERS, OWN_OPTIMIZERS

__all__ = [
    "Adam", "Checkpoint", "EarlyStopping", "Ekf", "Lbfgs", "Noise", "Prefactors", "Training", "Weights",
]  # fmt: skip


class Weights(Section):
    """Weights c of the kinds of labels in the squared loss (Shao et al. 2021, section II A), in eV and Å.

    Of Adam and L-BFGS, and of the Kalman filter when it has a `learning_rate`.
    """

    energy: NonNegative = Field(1.0, description="Energies.")
    force: NonNegative = Field(1.0, description="Force components.")
    virial: NonNegative = Field(0.1, description="Virial components.")
    per_atom: bool | Literal["square"] = Field(
        True,
        description="Divide errors of energies and virials by the number of atoms; `square` divides their squares by "
        "it. False with a `learning_rate` of the filter.",
    )


class EarlyStopping(Section):
    """Stop when the validation error has not improved for some time."""

    patience: PositiveInt = Field(
        10, description="Evaluations without improvement before the training stops."
    )
    min_delta: float = Field(
        0.0, ge=0.0, lt=1.0, description="Relative improvement below which an evaluation counts as none."
    )


class Checkpoint(Section):
    """Checkpoints, from which a run resumes bit by bit as if it had not been interrupted."""

    every: PositiveInt = Field(1, description="Epochs between checkpoints.")
    keep: PositiveInt = Field(3, description="The last so many are kept, and the one of the best epoch.")


if TYPE_CHECKING:
    AnyOptimizer = Ekf | Adam | Lbfgs
else:  # ours and those that other packages bring along
    _FOREIGN = (OPTIMIZERS.get(name).settings for name in OPTIMIZERS if name not in OWN_OPTIMIZERS)
    AnyOptimizer = Union[tuple([Ekf, Adam, Lbfgs, *_FOREIGN])]  # noqa: UP007


class Training(Section):
    """How the model is trained and how the run is recorded."""

    epochs: Annotated[int, Field(ge=0)] = Field(
        30,
        description="Epochs to train, if no `time` is given. A cluster expansion that a Kalman filter trains has 12, "
        "and at least 2000 updates, if none of `epochs`, `time` and `min_updates` is given.",
    )
    time: Duration | None = Field(
        None,
        description="Time to train instead of a number of epochs, e.g. `90s`, `10min`, `1.5h`: forgetting and growing "
        "noise of the Kalman filter and the learning rate of Adam settle with it. A fiftieth of it, or more where "
        "evaluating takes long, stands for an epoch in the files and in what other settings count in epochs; of large "
        "sets a part is evaluated then, and everything at the end. `nnpkit train --plan` says what it buys.",
    )
    min_updates: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Updates of the weights that a training has at least, in more than `epochs` epochs if the data are "
        "few. The filter takes some thousands to find its way, however small the set.",
    )
    optimizer: Annotated[AnyOptimizer, Field(discriminator="kind"), default_kind("ekf")] = Field(
        Ekf(), description="What turns labels into new weights: `kind: ekf`, `kind: adam` or `kind: lbfgs`."
    )
    schedule: Annotated[
        EpochSchedule | PinnSchedule | AdaptiveSchedule | GroupSchedule | FullSchedule,
        Field(discriminator="kind"),
        default_kind("epoch"),
    ] = Field(
        EpochSchedule(),
        description="Which labels each update uses: `kind: epoch`, `kind: pinn`, `kind: adaptive`, `kind: groups` or, "
        "with `lbfgs`, `kind: full`.",
    )
    force_training: ForceTraining = Field(
        DirectForces(),
        description="How forces are learnt: `direct`, `subset`, `taylor` or `none`, or a section with one of these as "
        "its `kind` and its settings.",
    )
    feature_derivatives: Literal["kept", "streamed"] | None = Field(
        None,
        description="Derivatives of symmetry functions or Chebyshev coefficients: `kept` between epochs as far as "
        "`memory_budget_gb` allows, or `streamed`, computed at every use, which costs little for symmetry functions "
        "from compiled kernels. By default kept if forces are learnt (`direct`, `subset`), but not for the Kalman "
        "filter and compiled kernels, whose updates need none of them.",
    )
    weights: Weights = Field(Weights(), description="Weights in the loss.")
    sampling: Literal["proportional", "balanced"] = Field(
        "proportional",
        description="How often frames of the groups of `data.groups` come in an epoch. `proportional`: every frame "
        "once. `balanced`: groups in proportion to the square root of the numbers of their frames, no frame more than "
        "ten times; an epoch has as many updates as before, frames of large groups take turns.",
    )
    group_weights: dict[str, Positive] = Field(
        default_factory=dict,
        description="Weights of groups of `data.groups`, e.g. `{surface: 4}`, 1 where none is given: of the squared "
        "errors of their labels in the loss or, for the Kalman filter, of what is divided by the variance of their "
        "noise.",
    )
    frame_weights: str | None = Field(
        None,
        min_length=1,
        description="Key of the frames with a weight of each, above 0 and 1 where a frame has none, e.g. `weight` of "
        "GPUMD's `train.xyz`: it counts as `group_weights` do, and multiplies them.",
    )
    ridge: Literal["auto"] | NonNegative = Field(
        "auto",
        description="Ridge regression: the sum of all squared weights, without biases, times this is added to what "
        "every update minimises, the loss or, for the Kalman filter, squared residuals in units of their noise. About "
        "1e-6 to 1e-3 for a loss; 0.02 to 0.1 for the Kalman filter if there are no more than some hundred structures. "
        "`auto`: for the Kalman filter with a `noise`, by the numbers of weights and labels, 0.1 times their ratio but "
        "at most 0.1, and none below 0.01; none for others.",
    )
    monitor: Literal["energy_force", "energy_rmse", "force_rmse"] = Field(
        "energy_force",
        description="Validation error that decides which epoch is the best and when to stop early; `energy_force` "
        "is the geometric mean of energy and force error, or the force error where the schedule learns no "
        "energies. Where fewer than forty validation structures have energies, errors of training energies take "
        "the place of the missing ones.",
    )
    early_stopping: EarlyStopping | None = Field(
        None, description="Stop before the last epoch; null never does."
    )
    checkpoint: Checkpoint = Field(Checkpoint(), description="Checkpoints.")
    evaluate_every: PositiveInt = Field(
        1, description="Epochs between evaluations of training and validation errors."
    )
    memory_budget_gb: Positive | None = Field(
        None,
        description="Memory, GB, for derivatives of symmetry functions kept between epochs; what does not "
        "fit is computed again every time. By default half of what is free, no more than 1 GB where compiled "
        "kernels compute them, and none where an update of the Kalman filter needs none from them.",
    )
    prefetch: bool | Literal["auto"] = Field(
        "auto",
        description="Prepare structures that are not kept in memory in a thread, while others are being learnt from; "
        "`auto`: if this process has a second processor, which nobody uses when it starts, and not for members of a "
        "committee. Numbers are the same. The kinds of schedules that say what comes next are `epoch` and `groups`.",
    )
    device: str = Field(
        "cpu",
        pattern=r"^(auto|cpu|cuda(:\d+)?)$",
        description="Where the covariance of the Kalman filter is kept and changed: `cpu`, `cuda` or `cuda:1` (one "
        "process, float64 or float32), or `auto`, a GPU where PyTorch sees one. Features, Jacobians and all else are "
        "of the CPU.",
    )
    threads: PositiveInt | None = Field(
        None,
        description="CPU threads; by default what the environment gives. Bit-exact resume needs the same "
        "number.",
    )

    @model_validator(mode="before")
    @classmethod
    def _settings_of_a_preset(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        optimizer, weights = values.get("optimizer"), values.get("weights", {})
        if isinstance(optimizer, dict) and isinstance(weights, dict):
            kalman = optimizer_of_preset(optimizer) if optimizer.get("kind", "ekf") == "ekf" else {}
            if kalman.get("learning_rate") is not None:  # of total energies
                values = {**values, "weights": {"per_atom": False, **weights}}
        return expand_preset(values)

    @model_validator(mode="after")
    def _a_gpu_has_a_covariance(self) -> Training:
        if self.device != "cpu" and not isinstance(self.optimizer, Ekf):
            raise ValueError(
                f"device: {self.device} is of the covariance of a Kalman filter, {self.optimizer.kind} has none and "
                "trains on the CPU. Leave device out"
            )
        return self

    @model_validator(mode="after")
    def _time_or_epochs(self) -> Training:
        given = {"min_updates": self.min_updates > 0, "epochs": self.epochs != 30}
        refuse_unused(
            [(there, self.time is not None, name, "there is a time") for name, there in given.items()]
        )
        return self

    @model_validator(mode="before")
    @classmethod
    def _full_is_the_default_of_lbfgs(cls, values: Any) -> Any:
        optimizer = values.get("optimizer") if isinstance(values, dict) else None
        if isinstance(optimizer, dict) and optimizer.get("kind") == "lbfgs":
            given = values.get("schedule", {})
            if isinstance(given, dict):
                return {**values, "schedule": {"kind": "full", **given}}
        return values

    @model_validator(mode="after")
    def _lbfgs_and_full_go_together(self) -> Training:
        if isinstance(self.optimizer, Lbfgs) and not isinstance(self.schedule, FullSchedule):
            raise ValueError(
                f"lbfgs needs the same labels at every update, a schedule of kind {self.schedule.kind} gives others. "
                "Set training.schedule.kind to full, or leave the schedule out"
            )
        if isinstance(self.schedule, FullSchedule) and not isinstance(self.optimizer, Lbfgs):
            raise ValueError(
                f"a schedule of kind full is for lbfgs; {self.optimizer.kind} learns from small parts of the data. "
                "Set training.schedule.kind to epoch"
            )
        return self

    @model_validator(mode="after")
    def _weights_have_an_effect(self) -> Training:
        optimizer, weights = self.optimizer, self.weights
        if isinstance(optimizer, Adam):
            refuse_unused(
                [(weights != Weights(), optimizer.prefactors is not None, "weights", "there are prefactors")]
            )
        if not isinstance(optimizer, Ekf):
            return self
        if optimizer.learning_rate is None:
            why = "R of the Kalman filter follows from noise or blocks, not from a learning_rate"
            refuse_unused([(weights != Weights(), True, "weights", why)])
        elif weights.per_atom is not False:
            raise ValueError(
                "a Kalman filter with a learning_rate learns total energies: weights.per_atom is false"
            )
        elif not (weights.energy and weights.force and weights.virial):
            raise ValueError(
                "a weight of 0 is an infinite noise: leave the kind of label out of the schedule instead"
            )
        return self

    @model_validator(mode="after")
    def _groups_have_an_effect(self) -> Training:
        own = (getattr(section, "reduction", "none") for section in (self.optimizer, self.schedule))
        reduction = next((kind for kind in own if kind != "none"), "none")
        refuse_unused(
            [
                (
                    self.sampling == "balanced",
                    isinstance(self.schedule, FullSchedule),
                    "sampling: balanced",
                    "every update uses all frames; group_weights weigh them",
                ),
                (
                    bool(self.group_weights),
                    reduction != "none",
                    "group_weights",
                    f"reduction: {reduction} makes one number of many labels",
                ),
                (
                    self.frame_weights is not None,
                    reduction != "none",
                    "frame_weights",
                    f"reduction: {reduction} makes one number of many labels",
                ),
            ]
        )
        return self

    @model_validator(mode="after")
    def _one_label_of_one_kind(self) -> Training:
        optimizer, schedule = self.optimizer, self.schedule
        if not isinstance(optimizer, Ekf):
            return self
        ridge = self.ridge not in ("auto", 0.0)
        if ridge and optimizer.observation_noise == "blocks":
            raise ValueError("ridge weighs residuals against their noise: it needs observation_noise: given")
        if optimizer.reduction == "batch_mean":
            self._require_batches(schedule)
        if optimizer.reduction in ("none", "batch_mean"):
            return self
        if ridge:
            raise ValueError("ridge adds observations of weights: it needs optimizer.reduction: none")
        mixed = isinstance(schedule, GroupSchedule) and schedule.joint_from is not None
        if isinstance(schedule, EpochSchedule):
            forces = schedule.forces != 0 and self.force_training.kind in ("direct", "subset")
            mixed = schedule.energy + forces + (schedule.virial is True) > 1
        if mixed:
            raise ValueError(
                f"optimizer.reduction: {optimizer.reduction} makes one number of the labels of an update, and this "
                "schedule mixes energies and forces in one. Set it to none, or choose a schedule of kind groups"
            )
        return self

    @staticmethod
    def _require_batches(schedule: Any) -> None:
        """Refuse a mean over the structures of batches that have one, or of labels that are means already."""
        if getattr(schedule, "batch_size", 1) == 1:
            raise ValueError(
                "optimizer.reduction: batch_mean is of the structures of a batch, and updates have one. Set "
                "schedule.batch_size (of kinds epoch and groups) above 1"
            )
        if getattr(schedule, "reduction", "none") != "none":
            raise ValueError(
                f"optimizer.reduction: batch_mean averages labels that schedule.reduction: {schedule.reduction} has "
                "made one of already. Set one of them to none"
            )

    @model_validator(mode="after")
    def _numbers_of_forces_have_an_effect(self) -> Training:
        forces, schedule = self.force_training.kind, self.schedule
        without, why = forces in ("taylor", "none"), f"force_training is {forces}"
        if isinstance(schedule, EpochSchedule | FullSchedule):
            default = type(schedule).model_fields["forces"].default
            given = schedule.forces not in (default, 0)  # none at all is what happens
            refuse_unused([(given, without or forces == "subset", "schedule.forces", why)])
        if isinstance(schedule, PinnSchedule):
            changed = {"energy_probability": 0.5, "force_labels": 10}
            refuse_unused(
                [
                    (getattr(schedule, name) != v, without, f"schedule.{name}", why)
                    for name, v in changed.items()
                ]
            )
        return self

    @model_validator(mode="after")
    def _schedule_knows_these_forces(self) -> Training:
        forces, kind = self.force_training, self.schedule.kind
        if forces.kind in ("taylor", "none") and kind == "groups":
            raise ValueError(
                f"a schedule of kind groups is of forces, force_training is {forces.kind}. Set it to epoch"
            )
        if isinstance(forces, SubsetForces):
            if kind not in ("epoch", "full"):
                raise ValueError(
                    f"a schedule of kind {kind} chooses its own forces; force_training: subset is for epoch and full"
                )
            if forces.select == "error" and kind == "full":
                raise ValueError(
                    "a schedule of kind full uses the same labels at every update; select: error does not"
                )
        if isinstance(self.schedule, AdaptiveSchedule):
            if forces.kind in ("taylor", "none") and self.schedule.energy_threshold is None:
                raise ValueError(f"force_training is {forces.kind}, but the schedule does not use energies")
        elif isinstance(self.schedule, EpochSchedule | FullSchedule):
            silent = forces.kind == "none" and not (self.schedule.energy or self.schedule.virial is True)
            if silent or (forces.kind == "taylor" and not self.schedule.energy):
                raise ValueError(f"force_training is {forces.kind}, but the schedule does not use energies")
        return self

    @property
    def keeps_derivatives(self) -> bool:
        """Whether derivatives of features are kept between epochs."""
        default = "streamed" if self.force_training.kind in ("taylor", "none") else "kept"
        return (self.feature_derivatives or default) == "kept"
