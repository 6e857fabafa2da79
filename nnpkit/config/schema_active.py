"""The active learning YAML: every setting with its type, default and meaning."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union

from pydantic import Field, model_validator

from nnpkit.active.explorers.registered import EXPLORERS
from nnpkit.active.labellers.labeller_settings import LabellerSettings
from nnpkit.active.labellers.registered import LABELLERS, OWN_LABELLERS
from nnpkit.section import (
    NonNegative,
    PathList,
    Positive,
    PositiveInt,
    Section,
    default_kind,
    refuse_unused,
)

__all__ = [
    "ActiveConfig",
    "AseReference",
    "CommandReference",
    "Cp2kReference",
    "Execution",
    "ReferenceFile",
    "Selection",
]

Unit = Annotated[float, Field(ge=0.0, le=1.0)]


class AseReference(LabellerSettings):
    """Labels from a calculator of ASE."""

    kind: Literal["ase"] = Field("ase", description="Kind of the reference calculator.")
    calculator: str = Field(
        "tblite",
        description="`tblite`, `chgnet`, `emt`, another name that ASE knows, or `package.module.Class`.",
    )
    arguments: dict[str, Any] = Field(
        default_factory=dict,
        description="Arguments of the calculator, e.g. `{method: GFN1-xTB}` (the default of tblite); `'{charge}'` and "
        "`'{multiplicity}'` stand for those of the structure.",
    )
    python: str | None = Field(
        None,
        description="Python of another environment with ASE and the calculator, e.g. `/path/to/venv/bin/python`, so "
        "that the packages of a teacher live apart; relative to the folder of the YAML file if it has a slash.",
    )

    def resolve_files(self, resolve: Callable[[str, tuple[str | int, ...]], str]) -> None:
        """The Python; a name without a slash is looked for on the PATH."""
        if self.python is not None and "/" in self.python:
            self.python = resolve(self.python, ("python",))


class Cp2kReference(LabellerSettings):
    """Labels from CP2K with an input template."""

    kind: Literal["cp2k"] = Field("cp2k", description="Kind of the reference calculator.")
    template: str = Field(
        description="CP2K input with `{{cell}}`, `{{coordinates}}` and perhaps `{{scf_guess}}`, `{{charge}}`, "
        "`{{multiplicity}}`, `{{uks}}` and settings of your own; relative to the folder of the YAML file.",
    )
    command: list[str] = Field(
        ["cp2k.psmp"], min_length=1, description="Program with its MPI launcher; no shell."
    )
    settings: dict[str, Any] = Field(
        default_factory=dict, description="Values of the placeholders of the template; retries change them."
    )
    data_dir: str | None = Field(None, description="Folder of basis sets and potentials (`CP2K_DATA_DIR`).")
    threads: PositiveInt = Field(1, description="OMP_NUM_THREADS of each process.")

    def resolve_files(self, resolve: Callable[[str, tuple[str | int, ...]], str]) -> None:
        """The template."""
        self.template = resolve(self.template, ("template",))


class CommandReference(LabellerSettings):
    """Labels from any program that reads a structure and writes extended XYZ."""

    kind: Literal["command"] = Field("command", description="Kind of the reference calculator.")
    command: list[str] = Field(
        min_length=1,
        description="Program and arguments with `{input}`, `{output}`, `{charge}`, `{multiplicity}` and names of "
        "settings; no shell.",
    )
    input: str = Field("structure.xyz", description="Name of the file that is written.")
    output: str = Field("labels.xyz", description="Name of the file that is read: extended XYZ in eV and Å.")
    input_format: str = Field("extxyz", description="Format of the written file.")
    settings: dict[str, Any] = Field(
        default_factory=dict, description="Values for the command; retries change them."
    )
    reads_state: bool = Field(
        False,
        description="The program takes charge and spin from `NNPKIT_CHARGE` and `NNPKIT_MULTIPLICITY` of its "
        "environment or from the input file; otherwise charged structures need `{charge}` in the command.",
    )


if TYPE_CHECKING:
    AnyReference = LabellerSettings
else:  # those of this page and those that other packages bring along
    _OWN = (AseReference, Cp2kReference, CommandReference)
    _FOREIGN = (LABELLERS.get(name).Settings for name in LABELLERS if name not in OWN_LABELLERS)
    AnyReference = Union[tuple([*_OWN, *_FOREIGN])]  # noqa: UP007

Reference = Annotated[AnyReference, Field(discriminator="kind"), default_kind("ase")]


class Condition(Section):
    """A stretch of exploration at one set of conditions."""

    ensemble: Literal["nvt", "npt"] = Field("nvt", description="What is kept constant.")
    temperature: Annotated[list[Positive], Field(min_length=2, max_length=2)] = Field(
        [300.0, 300.0], description="K, at the beginning and at the end."
    )
    pressure: Annotated[list[float], Field(min_length=2, max_length=2)] = Field(
        [1.0, 1.0], description="bar, at the beginning and at the end; of `npt`."
    )
    steps: PositiveInt = Field(2000, description="Time steps.")
    runs: PositiveInt = Field(1, description="Runs of this kind per round, each from another start.")
    strain: NonNegative = Field(
        0.0, description="Largest random strain of the cell at the start, each component by itself."
    )
    deformation: Annotated[list[Positive], Field(min_length=3, max_length=3)] | None = Field(
        None,
        description="Factors by which the three lengths of the cell change, linearly, from the start of a run to its "
        "end; of `nvt`.",
    )
    starts: PathList | None = Field(
        None, description="Files with starting structures of these runs; by default those of `exploration`."
    )

    @model_validator(mode="after")
    def _deforms_at_constant_volume(self) -> Condition:
        if self.deformation is not None and self.ensemble != "nvt":
            raise ValueError("deformation goes with ensemble: nvt; npt changes the cell by itself")
        refuse_unused(
            [(self.pressure != [1.0, 1.0], self.ensemble == "nvt", "pressure", "the ensemble is nvt")]
        )
        return self


class Random(Section):
    """Random structures for a beginning without data: atoms placed with minimum distances (no dynamics)."""

    composition: dict[str, PositiveInt] = Field(description="Atoms of each element, e.g. `{O: 8, H: 16}`.")
    number: PositiveInt = Field(20, description="Structures.")
    volume: Annotated[list[Positive], Field(min_length=2, max_length=2)] = Field(
        [8.0, 16.0], description="Smallest and largest volume per atom, Å³."
    )
    distance: Positive = Field(
        0.8, description="Smallest distance of two atoms in units of the sum of their covalent radii."
    )


if TYPE_CHECKING:
    Engine = str
else:
    Engine = Literal[tuple(EXPLORERS)]


class Exploration(Section):
    """Where new structures come from: molecular dynamics of the committee, watched while it runs."""

    engine: Engine = Field("lammps", description="What moves the atoms.")
    starts: PathList | None = Field(
        None, description="Files with starting structures; by default random ones of those that have labels."
    )
    conditions: list[Condition] = Field(
        [Condition()], min_length=1, description="What is run in every round."
    )
    timestep: Positive = Field(0.5, description="fs.")
    every: PositiveInt = Field(10, description="Steps between looks at the disagreement.")
    interval: PositiveInt = Field(
        50, description="Least number of steps between collected frames, so that they differ."
    )
    max_frames: PositiveInt = Field(50, description="Most frames collected from one run.")
    min_distance: Positive = Field(
        0.7,
        description="The run ends when a pair comes closer than this part of the shortest known distance.",
    )
    max_force: Positive = Field(50.0, description="The run ends at a larger force, eV/Å.")
    input: str | None = Field(
        None,
        description="LAMMPS input of your own; the variables and commands it must use are in the documentation.",
    )
    ranks: PositiveInt = Field(1, description="MPI ranks of each LAMMPS run.")
    grow: Annotated[float, Field(ge=1.0)] = Field(
        1.0, description="Factor on the number of steps from one round to the next."
    )

    @model_validator(mode="after")
    def _lammps_is_used(self) -> Exploration:
        changed = {"input": self.input is not None, "ranks": self.ranks != 1}
        other, why = self.engine != "lammps", f"the engine is {self.engine}, not lammps"
        refuse_unused([(value, other, name, why) for name, value in changed.items()])
        return self


class Selection(Section):
    """Which of the collected frames get a label."""

    lower: Literal["auto"] | Positive = Field(
        "auto",
        description="Force disagreement, eV/Å, below which the committee is certain; learnt by default.",
    )
    upper: Literal["auto"] | Positive = Field(
        "auto", description="Force disagreement, eV/Å, above which nothing is believed; learnt by default."
    )
    percentile: Annotated[float, Field(gt=0.0, lt=100.0)] = Field(
        90.0, description="A structure whose expected error exceeds that of this percentage of the validation "
        "frames is worth a label.",
    )  # fmt: skip
    factor: Annotated[float, Field(gt=1.0)] = Field(8.0, description="Upper over lower bound, if learnt.")
    budget: PositiveInt = Field(50, description="Most labels per round.")
    method: Literal["fps", "cur", "disagreement", "random"] = Field(
        "fps",
        description="Order in which frames are taken: farthest points in descriptor space, CUR, the largest "
        "disagreement, or at random.",
    )
    extrapolation: NonNegative | None = Field(
        0.0,
        description="A frame with a feature further outside the range of the training data (with the margin that the "
        "model file has) than this, in units of the range, is worth a label however certain the committee is; null "
        "for never.",
    )
    min_distance: Positive = Field(
        0.8,
        description="Frames with a pair closer than this part of the shortest known distance are refused.",
    )
    max_force: Positive = Field(50.0, description="Frames with a larger predicted force, eV/Å, are refused.")
    duplicate: NonNegative = Field(
        0.1,
        description="Frames closer than this to a labelled or taken one in descriptor space, in units of the "
        "typical distance of labelled ones, are duplicates.",
    )

    @model_validator(mode="after")
    def _bounds_are_learnt(self) -> Selection:
        lower, upper = self.lower != "auto", self.upper != "auto"
        refuse_unused(
            [
                (self.percentile != 90.0, lower and upper, "percentile", "both bounds are given"),
                (self.factor != 8.0, upper, "factor", "the upper bound is given"),
            ]
        )
        return self


class Execution(Section):
    """Where the tasks of a project run: this machine or a cluster."""

    executor: Literal["local", "slurm", "pbs"] = Field(
        "local", description="This machine, or blocks of nodes of a scheduler."
    )
    cores: PositiveInt | None = Field(
        None, description="Tasks at a time on this machine or on each node; all cores by default."
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        description="Options of Parsl's SlurmProvider or PBSProProvider: `partition`, `account`, `walltime`, "
        "`nodes_per_block`, `max_blocks`, `scheduler_options`, `worker_init`, ...",
    )
    launcher: Literal["single", "srun", "mpiexec"] = Field(
        "single", description="How the workers of a block are started on its nodes."
    )

    @model_validator(mode="after")
    def _has_blocks(self) -> Execution:
        local, why = self.executor == "local", "the executor is local"
        refuse_unused(
            [(bool(self.options), local, "options", why), (self.launcher != "single", local, "launcher", why)]
        )
        return self


class Stop(Section):
    """What ends the loop."""

    rounds: PositiveInt = Field(10, description="Most rounds.")
    labels: PositiveInt | None = Field(None, description="Most labels in all.")
    hours: Positive | None = Field(None, description="Hours after which no new round begins.")
    candidates: Unit = Field(
        0.02,
        description="Converged when, in two rounds, less than this part of the frames is worth a label...",
    )
    improvement: Unit = Field(
        0.05,
        description="...and the validation error fell by less than this part from one round to the next.",
    )


class ReferenceFile(Section):
    """How labels are computed, and where: what `nnpkit label` takes from a file."""

    reference: Reference = Field(AseReference(), description="What computes labels.")
    execution: Execution = Field(Execution(), description="Where tasks run.")


class ActiveConfig(Section):
    """Everything that defines an active learning project."""

    seed: int = Field(1, ge=0, description="Seed of all random numbers.")
    output: str = Field("active", description="Folder of the project, relative to the current folder.")
    training: str = Field(
        description="YAML of `nnpkit train`, relative to the folder of this file: the first data, the model, the "
        "training and the committee.",
    )
    warm_start: bool = Field(
        True,
        description="Begin every training with the weights and the Kalman covariance of the one before, as `start` of "
        "the training YAML does; where the new data need other symmetry functions it begins from scratch. false: "
        "always from scratch, or with what `start` of the training YAML names.",
    )
    warm_epochs: PositiveInt | None = Field(
        None,
        description="Epochs of a training that begins warm; by default those of the training YAML. One that begins "
        "from scratch has those.",
    )
    validation_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.1, description="Part of the new labels that joins the validation set."
    )
    random: Random | None = Field(None, description="Random structures for the first data set.")
    structures: PathList | None = Field(
        None, description="Structures without labels for the first data set; they are labelled first."
    )
    reference: Reference = Field(AseReference(), description="What computes labels.")
    exploration: Exploration = Field(Exploration(), description="Where new structures come from.")
    selection: Selection = Field(Selection(), description="Which of them get a label.")
    execution: Execution = Field(Execution(), description="Where tasks run.")
    stop: Stop = Field(Stop(), description="When the loop ends.")

    @model_validator(mode="after")
    def _bounds_are_ordered(self) -> ActiveConfig:
        if self.warm_epochs is not None and not self.warm_start:
            raise ValueError(
                "warm_epochs is of trainings that begin warm: leave it out, or set warm_start: true"
            )
        lower, upper = self.selection.lower, self.selection.upper
        if isinstance(lower, float) and isinstance(upper, float) and not lower < upper:
            raise ValueError(f"selection.lower ({lower:g}) is not below selection.upper ({upper:g})")
        return self
