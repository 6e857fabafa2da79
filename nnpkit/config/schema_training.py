"""Settings of the training: optimizer, schedule, weights, stopping, checkpoints."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nnpkit.config.schema_forces import DirectForces, ForceTraining, SubsetForces
from nnpkit.config.schema_schedules import (
    AdaptiveSchedule,
    EpochSchedule,
    FullSchedule,
    GroupSchedule,
    PinnSchedule,
)
from nnpkit.config.section import Fraction, NonNegative, Positive, PositiveInt, Section, default_kind

__all__ = [
    "Adam", "Checkpoint", "EarlyStopping", "Ekf", "Lbfgs", "Noise", "Prefactors", "Training", "Weights",
]  # fmt: skip


class Noise(Section):
    """Standard deviation with which each kind of label is believed: the accuracy aimed at.

    Only the ratios of these to each other and to the uncertainty of the weights (`initial_covariance`)
    matter.
    """

    energy: Positive = Field(5e-4, description="Energies, eV/atom.")
    force: Positive = Field(0.05, description="Force components, eV/Å.")
    virial: Positive = Field(5e-3, description="Virial components, eV/atom.")


class Ekf(Section):
    """Extended Kalman filter with vector observations (Shao et al. 2021, algorithm 2), global or in blocks."""

    kind: Literal["ekf"] = Field("ekf", description="Kind of the optimizer.")
    initial_covariance: Positive = Field(
        1.0, description="Variance of every weight before the first update; larger makes bolder first steps."
    )
    noise: Noise = Field(Noise(), description="Observation noise R.")
    learning_rate: Positive | None = Field(
        None,
        description="If given, R is the identity divided by it, as in Shao et al., for total energies, "
        "forces and virials weighted by `training.weights`; `noise` is then not used.",
    )
    observation_noise: Literal["given", "blocks"] = Field(
        "given",
        description="Where R comes from: `given` by `noise` or `learning_rate`, or, as published for RLEKF, the "
        "number of `blocks` times the forgetting factor, whatever is observed.",
    )
    divide_by_atoms: bool = Field(
        False,
        description="Divide all residuals and gradients of a structure by its number of atoms, as published for RLEKF. "
        "With a `given` noise, which is divided too, that changes nothing.",
    )
    noise_decay: NonNegative = Field(
        0.0,
        description="Rate per epoch at which the observation noise becomes smaller: factor exp(-rate * "
        "epoch).",
    )
    noise_minimum: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0, description="Smallest factor on the observation noise."
    )
    noise_growth: NonNegative = Field(
        0.0,
        description="Growth of the observation noise: after n updates its variance has the factor 1 + growth * n. "
        "About 0.05 settles the energies of a Deep Potential trained with blocks.",
    )
    noise_maximum: Annotated[float, Field(ge=1.0)] = Field(
        100.0, description="Largest such factor on the variance of the observation noise."
    )
    process_noise: NonNegative = Field(
        0.0,
        description="Variance added to the diagonal of P at every update of the first epoch; 0 for none. It keeps the "
        "filter from falling asleep, and keeps the energies from settling.",
    )
    process_noise_decay: NonNegative = Field(
        0.7, description="Rate per epoch at which it decays; 2.302 is an order of magnitude per epoch."
    )
    process_noise_minimum: NonNegative = Field(0.0, description="It never becomes less than this.")
    forgetting: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.98,
        description="Forgetting factor of the first update; 1 weights all observations alike. By default 1 for a Deep "
        "Potential, a covariance in float32, and R from a `learning_rate` or from `blocks`.",
    )
    forgetting_rate: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        0.998, description="nu in f <- nu f + 1 - nu, by which the forgetting factor approaches one."
    )
    partition: Literal["global", "layer", "split", "reorganized"] = Field(
        "reorganized",
        description="Blocks of weights between which correlations are kept: all weights (GEKF), those of a "
        "layer (LEKF), layers split (SEKF) or split and gathered (RLEKF) into blocks of `block_size`; the last is GEKF "
        "for fewer weights than that.",
    )
    block_size: Annotated[int, Field(ge=0)] = Field(
        10240, description="Most weights in a block of `split` and `reorganized`; 0 is no limit."
    )
    dtype: Literal["float64", "float32"] = Field(
        "float64", description="Precision of the stored covariance; `float32` halves its memory."
    )

    @model_validator(mode="before")
    @classmethod
    def _forget_where_it_is_known_to_help(cls, values: Any) -> Any:
        """Forgetting makes P large where nothing is observed: not with its rounding, nor in published conventions."""
        if not isinstance(values, dict) or "forgetting" in values:
            return values
        conventions = values.get("learning_rate") is not None or values.get("observation_noise") == "blocks"
        return {**values, "forgetting": 1.0} if conventions or values.get("dtype") == "float32" else values


Pair = Annotated[list[NonNegative], Field(min_length=2, max_length=2)]


class Prefactors(Section):
    """Weights in the loss that follow the learning rate: at the first rate, and when it has fallen to zero.

    The convention of DeePMD-kit: squared errors of energies and virials are divided by the number of atoms,
    not by its square. Defaults are those of its water example.
    """

    energy: Pair = Field([0.02, 1.0], description="Energies (`start_pref_e`, `limit_pref_e`).")
    force: Pair = Field([1000.0, 1.0], description="Force components (`start_pref_f`, `limit_pref_f`).")
    virial: Pair = Field([0.0, 0.0], description="Virial components (`start_pref_v`, `limit_pref_v`).")


class Adam(Section):
    """Adam on the weighted squared errors (Shao et al. 2021, algorithm 1)."""

    kind: Literal["adam"] = Field("adam", description="Kind of the optimizer.")
    learning_rate: Positive = Field(1e-4, description="Learning rate of the first update.")
    decay_factor: float = Field(0.994, gt=0.0, le=1.0, description="Factor on the learning rate...")
    decay_steps: PositiveInt = Field(10_000, description="...every so many updates.")
    final_learning_rate: Positive | None = Field(
        None,
        description="Learning rate reached at the last of `training.epochs`; if given, `decay_factor` follows "
        "from it.",
    )
    prefactors: Prefactors | None = Field(
        None, description="Weights that change with the learning rate, instead of `training.weights`."
    )
    gradient_clip: Positive | None = Field(
        0.01, description="Longer gradients are scaled to this norm; null switches it off."
    )
    betas: Annotated[list[Fraction], Field(min_length=2, max_length=2)] = Field(
        [0.9, 0.999], description="Averaging factors of the first and second moment."
    )
    epsilon: Positive = Field(1e-7, description="Small number in the denominator.")
    epsilon_convention: Literal["tensorflow", "torch"] = Field(
        "tensorflow",
        description="`tensorflow`: epsilon is divided by sqrt(1 - beta2^t), as in Shao et al.; `torch`: it "
        "is not.",
    )


class Lbfgs(Section):
    """L-BFGS with a strong Wolfe line search on the weighted squared errors of all labels, for small data sets.

    Goes with `schedule: {kind: full}`, which is then the default. Every update takes one or a few passes over
    the data.
    """

    kind: Literal["lbfgs"] = Field("lbfgs", description="Kind of the optimizer.")
    history: PositiveInt = Field(
        50, description="Steps, and changes of the gradient along them, that describe the curvature."
    )
    max_evaluations: PositiveInt = Field(
        20, description="Most passes over the data in the line search of an update."
    )


class Weights(Section):
    """Weights c of the kinds of labels in the squared loss (Shao et al. 2021, section II A), in eV and Å.

    Used by Adam and L-BFGS, and by the Kalman filter when it has a `learning_rate`.
    """

    energy: NonNegative = Field(1.0, description="Energies.")
    force: NonNegative = Field(1.0, description="Force components.")
    virial: NonNegative = Field(1.0, description="Virial components.")
    per_atom: bool | Literal["square"] = Field(
        True,
        description="Divide errors of energies and virials by the number of atoms (not with a `learning_rate` "
        "of the filter); `square` divides their squares by it.",
    )


class EarlyStopping(Section):
    """Stop when the test error has not improved for some time."""

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


class Training(Section):
    """How the model is trained and how the run is recorded."""

    epochs: Annotated[int, Field(ge=0)] = Field(30, description="Epochs to train.")
    min_updates: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Updates of the weights that a training has at least, in more than `epochs` epochs if the data are "
        "few. The filter takes some thousands to find its way, however small the set.",
    )
    optimizer: Annotated[Ekf | Adam | Lbfgs, Field(discriminator="kind"), default_kind("ekf")] = Field(
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
        "from compiled kernels. By default kept if forces are learnt (`direct`, `subset`).",
    )
    weights: Weights = Field(Weights(), description="Weights in the loss.")
    ridge: NonNegative = Field(
        0.0,
        description="Ridge regression: the sum of all squared weights, without biases, times this is added to what "
        "every update minimises, the loss or, for the Kalman filter, squared residuals in units of their noise. About "
        "1e-6 to 1e-3 for a loss; 0.02 to 0.1 for the Kalman filter if there are no more than some hundred structures.",
    )
    monitor: Literal["energy_force", "energy_rmse", "force_rmse"] = Field(
        "energy_force",
        description="Test error that decides which epoch is the best and when to stop early; `energy_force` "
        "is the geometric mean of energy and force error.",
    )
    early_stopping: EarlyStopping | None = Field(
        None, description="Stop before the last epoch; null never does."
    )
    checkpoint: Checkpoint = Field(Checkpoint(), description="Checkpoints.")
    evaluate_every: PositiveInt = Field(
        1, description="Epochs between evaluations of training and test errors."
    )
    memory_budget_gb: Positive | None = Field(
        None,
        description="Memory, GB, for derivatives of symmetry functions kept between epochs; what does not "
        "fit is computed again every time. By default half of what is free.",
    )
    threads: PositiveInt | None = Field(
        None,
        description="CPU threads; by default what the environment gives. Bit-exact resume needs the same "
        "number.",
    )

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
    def _ridge_needs_a_noise(self) -> Training:
        if self.ridge and isinstance(self.optimizer, Ekf) and self.optimizer.observation_noise == "blocks":
            raise ValueError("ridge weighs residuals against their noise: it needs observation_noise: given")
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
            silent = forces.kind == "none" and not (self.schedule.energy or self.schedule.virial)
            if silent or (forces.kind == "taylor" and not self.schedule.energy):
                raise ValueError(f"force_training is {forces.kind}, but the schedule does not use energies")
        return self

    @property
    def keeps_derivatives(self) -> bool:
        """Whether derivatives of features are kept between epochs."""
        default = "streamed" if self.force_training.kind in ("taylor", "none") else "kept"
        return (self.feature_derivatives or default) == "kept"
