"""Settings of the optimizers."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from nnpkit.config.presets import optimizer_of_preset
from nnpkit.section import Fraction, NonNegative, Positive, PositiveInt, Section, refuse_unused

__all__ = ["Adam", "Ekf", "Factors", "Lbfgs", "Noise", "Prefactors"]


class Noise(Section):
    """Standard deviation with which each kind of label is believed: the accuracy aimed at.

    Only the ratios of these to each other and to the uncertainty of the weights (`initial_covariance`)
    matter.
    """

    energy: Positive = Field(5e-4, description="Energies, eV/atom.")
    force: Positive = Field(0.05, description="Force components, eV/Å.")
    virial: Positive = Field(5e-3, description="Virial components, eV/atom.")


class Factors(Section):
    """Factors on residuals and gradients of each kind of label, for a noise that does not follow their size."""

    energy: Positive = Field(
        1.0, description="Energies (`pre_fac_etot` of PWMLFF, `kf_start_pref_e` of DeePMD-kit)."
    )
    force: Positive = Field(1.0, description="Force components (`pre_fac_force`, `kf_start_pref_f`).")
    virial: Positive = Field(1.0, description="Virial components (`pre_fac_virial`).")


class Ekf(Section):
    """Extended Kalman filter with vector observations (Shao et al. 2021, algorithm 2), global or in blocks."""

    kind: Literal["ekf"] = Field("ekf", description="Kind of the optimizer.")
    preset: Literal["rlekf", "rlekf_paper", "shao"] | None = Field(
        None,
        description="A published training: its settings, of `training.schedule` too, are the defaults of this one, and "
        "`config.yaml` lists them. Settings beside it override. `rlekf`: the program of Hu et al. 2023; `rlekf_paper`: "
        "their algorithms 1 and 2 as printed; `shao`: algorithm 2 of Shao et al. 2021.",
    )
    initial_covariance: Positive = Field(
        1.0, description="Variance of every weight before the first update; larger makes bolder first steps."
    )
    noise: Noise = Field(Noise(), description="Observation noise R.")
    learning_rate: Positive | None = Field(
        None,
        description="If given, R is the identity divided by it, as in Shao et al., for total energies, "
        "forces and virials weighted by `training.weights`, instead of `noise`.",
    )
    observation_noise: Literal["given", "blocks"] = Field(
        "given",
        description="Where R comes from: `given` by `noise` or `learning_rate`, or, as published for RLEKF, the "
        "number of `blocks` times the forgetting factor, whatever is observed: energies in eV, forces in eV/Å.",
    )
    robust: bool = Field(
        True,
        description="Let the noise of each kind of label grow beyond `noise` where the errors are larger, for large "
        "labels more than for small ones, and give outliers no full step. Not, and by default off, for what is a "
        "convention: a `learning_rate`, `blocks`, and labels reduced to one.",
    )
    divide_by_atoms: bool = Field(
        False,
        description="Divide all residuals and gradients of a structure by its number of atoms, as the program of RLEKF "
        "does. For `observation_noise: blocks`; a `given` noise would be divided too.",
    )
    prefactors: Factors = Field(
        Factors(), description="Factors on residuals and gradients, for `observation_noise: blocks` as above."
    )
    reduction: Literal["none", "signed_mean", "signed_sum", "batch_mean"] = Field(
        "none",
        description="Labels of an update: `none`: a vector of observations; `signed_mean`: one, the mean of their "
        "absolute errors, as published for RLEKF; `signed_sum`: as its program treats a batch, with the square root "
        "of their number times that residual and their number times that gradient; `batch_mean`: as many as one "
        "structure has, means of absolute errors over the structures of a batch, as published for FEKF.",
    )
    batch_exponent: Annotated[float, Field(ge=0.0, le=1.0)] = Field(
        0.5,
        description="With `reduction: batch_mean` the step is multiplied by the number of structures to this power: "
        "0.5 as published, 0 for the step of the mean.",
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
        "Potential, a covariance in float32, and R from a `learning_rate`.",
    )
    forgetting_rate: Literal["auto"] | Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        "auto",
        description="nu in f <- nu f + 1 - nu, by which the forgetting factor approaches one. `auto`: by the length of "
        "the training, 1 / (1 - nu) being a fifth of its updates and at least 500; 0.9987 with R from `blocks`.",
    )
    forget: Literal["auto", "all", "observed"] = Field(
        "auto",
        description="`all`, as published: every weight becomes a little less certain with every update. `observed`: "
        "what labels have said is forgotten only where others say something new, so that the covariance never grows. "
        "That is safer on data that scatter over many scales and less accurate on others. `auto`: `observed` where "
        "the covariance has several blocks and R is `given`, as most labels say nothing of most weights there.",
    )
    covariance_limit: Literal["auto"] | Annotated[float, Field(ge=1.0)] | None = Field(
        "auto",
        description="Forgetting makes no variance of a weight larger than this, in units of that of the beginning. "
        "null: no limit. `auto`: 10 000, which double precision can hold, and none, as published, with R from `blocks` "
        "and with a covariance in float32.",
    )
    partition: Literal["global", "layer", "split", "reorganized", "packed"] = Field(
        "reorganized",
        description="Blocks of weights within which correlations are kept: all weights (GEKF), those of a `layer` "
        "(LEKF), an even `split` of all, wherever layers end (SEKF), layers cut and gathered (RLEKF), or `packed`, as "
        "the program of RLEKF does it. The last three are GEKF for no more weights than `block_size`.",
    )
    block_size: Annotated[int, Field(ge=0)] = Field(
        2048,
        description="Most weights in a block of `split`, `reorganized` and `packed`; 0 is no limit. The default keeps "
        "an atomic network together; one block for all costs with the square of their number and gains little.",
    )
    dtype: Literal["float64", "float32"] = Field(
        "float64", description="Precision of the stored covariance; `float32` halves its memory."
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_that_depend_on_others(cls, values: Any) -> Any:
        """Forgetting makes P large where nothing is observed: not with its rounding, nor where published without."""
        if not isinstance(values, dict):
            return values
        values = optimizer_of_preset(values)
        noise, reduction = values.get("observation_noise", "given"), values.get("reduction", "none")
        one = reduction not in ("none", "batch_mean")
        if values.get("learning_rate") is not None or noise == "blocks" or one:
            values = {"robust": False, **values}
        forgets = values.get("learning_rate") is None and values.get("dtype") != "float32"
        if values.get("observation_noise") == "blocks":
            values = {"forgetting": 0.98, **values}
            rate = 0.9987 if values["forgetting"] != 1.0 else "auto"
            return {"forgetting_rate": rate, **values}
        return values if forgets else {"forgetting": 1.0, **values}

    @model_validator(mode="after")
    def _everything_has_an_effect(self) -> Ekf:
        blocks, rate = self.observation_noise == "blocks", self.learning_rate is not None
        reduced = self.reduction not in ("none", "batch_mean")
        unused = [
            (self.robust, blocks, "robust", "observation_noise is blocks"),
            (self.robust, rate, "robust", "there is a learning_rate, from which R follows"),
            (self.robust, reduced, "robust", f"the reduction is {self.reduction}"),
            (self.batch_exponent != 0.5, self.reduction != "batch_mean", "batch_exponent",
             f"the reduction is {self.reduction}"),
            (self.forget == "observed", self.forgetting == 1, "forget", "forgetting is 1"),
            (self.covariance_limit != "auto", self.forgetting == 1 or self.forget == "observed", "covariance_limit",
             "forgetting is 1" if self.forgetting == 1 else "forget is observed"),
            (self.covariance_limit != "auto", self.dtype == "float32", "covariance_limit", "dtype is float32"),
            (self.noise != Noise(), blocks, "noise", "observation_noise is blocks"),
            (rate, blocks, "learning_rate", "observation_noise is blocks"),
            (self.noise != Noise(), rate, "noise", "there is a learning_rate, from which R follows"),
            (self.divide_by_atoms, not blocks, "divide_by_atoms", "a given observation_noise would be divided too"),
            (self.prefactors != Factors(), not blocks, "prefactors", "a given observation_noise would follow them"),
            (self.noise_decay > 0, self.noise_minimum == 1, "noise_decay", "noise_minimum is 1"),
            (self.noise_minimum < 1, self.noise_decay == 0, "noise_minimum", "noise_decay is 0"),
            (self.noise_maximum != 100, self.noise_growth == 0, "noise_maximum", "noise_growth is 0"),
            (self.process_noise_decay != 0.7, self.process_noise == 0, "process_noise_decay", "process_noise is 0"),
            (self.process_noise_minimum > 0, self.process_noise == 0, "process_noise_minimum", "process_noise is 0"),
            (self.forgetting_rate != "auto", self.forgetting == 1, "forgetting_rate", "forgetting is 1"),
            (self.block_size != 2048, self.partition in ("global", "layer"), "block_size",
             f"the partition is {self.partition}"),
        ]  # fmt: skip
        refuse_unused(unused)
        return self


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

    @model_validator(mode="after")
    def _everything_has_an_effect(self) -> Adam:
        final = self.final_learning_rate is not None
        refuse_unused(
            [(self.decay_factor != 0.994, final, "decay_factor", "it follows from final_learning_rate")]
        )
        return self


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
