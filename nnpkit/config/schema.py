"""The training YAML: every setting with its type, default and meaning.

The docstrings and descriptions here are the documentation: the YAML reference and ``nnpkit schema`` are made
from them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Field, model_validator

from nnpkit.config.schema_baseline import Baseline
from nnpkit.config.schema_committee import Committee, Start
from nnpkit.config.schema_report import ReportSettings
from nnpkit.config.schema_training import Training
from nnpkit.families.registered import DEFAULT_FAMILY, kind_of_section, model_settings
from nnpkit.section import Fraction, PathList, Section, refuse_unused

if TYPE_CHECKING:
    from nnpkit.families.shared_settings import ModelSettings

__all__ = ["Config", "Data"]


class Data(Section):
    """Reference data: which files, how they are read, split and checked.

    Relative paths count from the folder of the YAML file; on the command line, from the current folder.
    """

    train: PathList = Field(
        description="Files or folders with training structures, one or a list; patterns such as "
        "`data/*.xyz` too.",
    )
    validation: PathList | None = Field(
        None,
        description="Files with validation structures, which decide what the training decides: the best epoch, early "
        "stopping, the calibration of a committee. Without them, a part of `train` is set aside.",
    )
    test: PathList | None = Field(
        None,
        description="Files with test structures. They are looked at once, when the training has ended, and decide "
        "nothing. Without them, a part of `train` is set aside.",
    )
    validation_fraction: Fraction = Field(
        0.1,
        description="Part of the structures in `train` that becomes the validation set when `validation` is not given. "
        "With 0 the training errors decide.",
    )
    test_fraction: Fraction = Field(
        0.1,
        description="Part of the structures in `train` that becomes the test set when `test` is not given. With 0 "
        "nothing is tested.",
    )
    split: Literal["auto", "random", "by_group", "sequential"] = Field(
        "auto",
        description="How sets are taken from `train`. `auto`: frames of a trajectory, recognised by their small steps, "
        "stay together, or the trajectory is cut in sequence if it is longer than a set; the rest is random. `random`: "
        "frame by frame. `by_group`: frames with the same value of `group` stay together. `sequential`: the first part "
        "of all frames trains, then comes validation, the last part is tested on. What `auto` and `random` deal "
        "has every group, without groups every composition, in proportion.",
    )
    group: str | None = Field(
        None,
        description="For `split: by_group`: a key of the frames, such as `config_type` or `trajectory`, or `file`.",
    )
    groups: str = Field(
        "auto",
        description="What names the groups of frames, such as bulk, surfaces and defects, whose errors are told one by "
        "one and among which `training.sampling` and `training.group_weights` choose: a key of the frames, `file`, "
        "`auto` or `none`. `auto`: `config_type`, `group` or, of several files, `file`, the first of them by which "
        "there are 2 to 50 groups of two frames on average, or more.",
    )
    folds: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="Cross-validation instead of `test_fraction`: the structures of `train` are dealt into so many "
        "parts, as `split` says, and one of them is the test set; the validation set is taken from the others. "
        "`nnpkit train --folds` trains with each in turn.",
    )
    fold: Annotated[int, Field(ge=0)] = Field(0, description="Which part, counted from 0.")
    format: str = Field(
        "auto",
        description="Format of the files, recognised from names and content by default. `nnpkit convert "
        "--help` lists the formats.",
    )
    units: Literal["auto", "angstrom-ev", "bohr-hartree"] = Field(
        "auto",
        description="Units of lengths and energies in the files; by default those that belong to the format.",
    )
    frames: str = Field(
        ":", description="Slice of the structures of each file, as in Python: `:100`, `::10`, `-50:`."
    )
    labels: dict[
        Literal["energy", "forces", "stress", "virial", "charges", "total_charge", "multiplicity"], str
    ] = Field(
        default_factory=dict,
        description="Names of labels in the files where they are not the usual ones, e.g. `{energy: E_mp2}`. Charges "
        "of atoms are learnt by a model with `charges` of the third or fourth generation.",
    )
    reference_energies: Literal["fit", "none"] | dict[str, float] = Field(
        "fit",
        description="Energy per atom of each element, eV, that the network does not need to learn: from a "
        "least squares fit to the training energies (`fit`), zero (`none`), or given, e.g. `{H: -13.6, O: "
        "-432.1}`.",
    )
    baseline: Baseline | None = Field(
        None,
        description="What the potential learns a correction to (delta learning): it is subtracted from the labels when "
        "they are read and added back wherever the potential is used. `kind: model`, `kind: ase` or `kind: d3`.",
    )
    suspicious: Literal["warn", "error", "ignore"] = Field(
        "warn",
        description="What to do about suspicious frames (duplicates, outliers, forces that do not add up to "
        "zero, energies in another unit): name them and go on, stop, or not look for them.",
    )

    @model_validator(mode="after")
    def _folds_divide_the_training_data(self) -> Data:
        if self.folds is not None and self.test is not None:
            raise ValueError("folds divide the structures of train: leave test out, or folds")
        if self.fold >= (self.folds or 1):
            raise ValueError(f"there is no fold {self.fold} of {self.folds or 'none'}: they count from 0")
        return self

    @model_validator(mode="after")
    def _test_structures_are_taken_once(self) -> Data:
        given = self.test_fraction not in (0.0, type(self).model_fields["test_fraction"].default)
        refuse_unused([
            (given, self.test is not None, "test_fraction", "data.test has the test structures"),
            (given, self.folds is not None, "test_fraction", "data.folds says how many are tested"),
        ])  # fmt: skip
        return self

    @model_validator(mode="after")
    def _sets_leave_something_to_train_on(self) -> Data:
        validation = 0.0 if self.validation is not None else self.validation_fraction
        test = 0.0 if self.test is not None or self.folds is not None else self.test_fraction
        if validation + test >= 1.0:
            raise ValueError(
                f"validation_fraction {validation:g} and test_fraction {test:g} leave nothing to train on: their sum "
                "must be less than 1"
            )
        return self

    @model_validator(mode="after")
    def _groups_have_a_key(self) -> Data:
        if (self.split == "by_group") != (self.group is not None):
            raise ValueError("split: by_group and group go together: give both or none")
        return self


if TYPE_CHECKING:
    AnyModel = ModelSettings
else:
    AnyModel = Union[tuple(model_settings())]  # noqa: UP007


class Config(Section):
    """Everything that defines a training run."""

    seed: int = Field(
        1,
        ge=0,
        description="Seed of all random numbers: validation and test set, initial weights, order of the training data.",
    )
    output: str = Field("run", description="Folder of the run, relative to the current folder.")
    data: Data = Field(description="Reference data.")
    model: Annotated[AnyModel, Field(discriminator="kind")] = Field(
        next(s for s in model_settings() if s.model_fields["kind"].default == DEFAULT_FAMILY)(),
        description="The potential: `kind: cluster_expansion`, `kind: acsf`, `kind: chebyshev`, `kind: deep_potential` "
        "or `kind: nep`. Without `kind` it is a cluster expansion or, by settings that only these have, symmetry "
        "functions (`acsf`).",
    )
    training: Training = Field(Training(), description="How the potential is trained.")
    committee: Committee | None = Field(
        None, description="Train several potentials instead of one; null for one."
    )
    start: Start | None = Field(
        None, description="Begin with the potential of an earlier run instead of random weights."
    )
    report: ReportSettings | None = Field(
        None,
        description="Write a validation report when the training has ended; `{}` for one with the defaults.",
    )

    @model_validator(mode="after")
    def _validation_is_taken_once(self) -> Config:
        drawn = self.committee is not None and self.committee.resample == "splits"
        given = self.data.validation_fraction not in (0.0, Data.model_fields["validation_fraction"].default)
        why = "data.validation has the validation structures"
        unused = self.data.validation is not None and not drawn
        refuse_unused([(given, unused, "data.validation_fraction", why)])
        return self

    @model_validator(mode="after")
    def _members_can_be_drawn(self) -> Config:
        if self.committee is not None and self.committee.resample == "posterior":
            baseline = self.data.baseline
            if self.training.optimizer.kind != "ekf":
                raise ValueError("committee.resample: posterior needs training.optimizer of kind ekf")
            if baseline is not None and baseline.kind == "model":
                raise ValueError("committee.resample: posterior corrects baselines of kind ase or d3 only")
        return self

    @model_validator(mode="after")
    def _charges_are_learnt(self) -> Config:
        charges = self.model.charges
        learnt = charges is not None and charges.generation != "latent"
        why = "charges of atoms are learnt by model.charges of the third or fourth generation only"
        refuse_unused([("charges" in self.data.labels, not learnt, "data.labels.charges", why)])
        return self

    @model_validator(mode="after")
    def _derivatives_are_kept(self) -> Config:
        given = self.training.feature_derivatives is not None
        why = f"the descriptor of a {self.model.kind} is trained"
        refuse_unused([(given, self.model.trained_descriptor, "training.feature_derivatives", why)])
        return self

    @model_validator(mode="before")
    @classmethod
    def _families_have_defaults(cls, values: Any) -> Any:
        """Let the settings of the model say its kind, and its family choose settings of the training not given."""
        if not isinstance(values, dict) or (values.get("start") and "model" not in values):
            return values  # without a section it will be the model of the earlier run
        model, training = (values.get(key) or {} for key in ("model", "training"))
        if not isinstance(model, dict):
            return values
        kinds = {s.model_fields["kind"].default: s for s in model_settings()}
        model = {"kind": kind_of_section(model), **model}
        family = kinds.get(model["kind"]) if isinstance(training, dict) else None
        completed = training if family is None else family.complete(training)
        named = {"model": model} if "model" in values else {}  # one that is not given stays so
        return {**values, **named, "training": completed}
