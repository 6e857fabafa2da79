"""From the active learning YAML to the objects of active learning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from nnpkit.active.executor import Execution
from nnpkit.active.explorers.runs import Condition, Exploration, require_runnable
from nnpkit.active.labellers.labeller_settings import LabellerSettings
from nnpkit.active.labellers.reference_calculation import Limits
from nnpkit.active.labelling_tasks import Labelling
from nnpkit.active.project import BoundRules, Project, StopRules
from nnpkit.active.random_structures import random_structures
from nnpkit.active.selection import Selection
from nnpkit.config.config_file import load_config
from nnpkit.config.explain import explain
from nnpkit.config.schema import Config
from nnpkit.config.schema_active import (
    ActiveConfig,
    ReferenceFile,
)
from nnpkit.config.schema_active import Condition as ConditionSettings
from nnpkit.config.schema_active import Execution as ExecutionSettings
from nnpkit.config.schema_active import Selection as SelectionSettings
from nnpkit.config.schema_committee import Committee
from nnpkit.config.yaml_values import Document, Key, apply_override, dotted, read_document
from nnpkit.data.dataset import data_sha256, load_dataset
from nnpkit.data.groups import FILE, find_grouping
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.files import atomic_write
from nnpkit.training.checkpoint import latest_checkpoint

__all__ = [
    "active_config_from_mapping",
    "load_active_config",
    "load_reference",
    "make_execution",
    "make_labelling",
    "make_project",
    "make_selection",
    "write_active_config",
]


def load_active_config(path: str | Path, overrides: Iterable[str] = ()) -> ActiveConfig:
    """Configuration in the YAML file `path`, changed by ``key=value`` overrides; paths in it become absolute.

    Raises
    ------
    InputError
        Naming file, line and key.
    """
    document = read_document(path)
    for override in overrides:
        apply_override(document, override)
    return _validate(document)


def active_config_from_mapping(values: Mapping[str, Any], folder: str | Path = ".") -> ActiveConfig:
    """Configuration from nested mappings; relative paths count from `folder`."""
    return _validate(Document(dict(values), "configuration", Path(folder)))


def _validate(document: Document) -> ActiveConfig:
    try:
        config = ActiveConfig.model_validate(document.values)
    except ValidationError as error:
        raise explain(error, ActiveConfig, document) from None
    config.training = _resolved(document, ("training",), config.training)
    if config.structures is not None:
        config.structures = [
            _resolved(document, ("structures", n), p) for n, p in enumerate(config.structures)
        ]
    exploration, reference = config.exploration, config.reference
    if exploration.starts is not None:
        exploration.starts = [
            _resolved(document, ("exploration", "starts", n), p) for n, p in enumerate(exploration.starts)
        ]
    for c, condition in enumerate(exploration.conditions):
        key = ("exploration", "conditions", c, "starts")
        if condition.starts is not None:
            condition.starts = [_resolved(document, (*key, n), p) for n, p in enumerate(condition.starts)]
    if exploration.input is not None:
        exploration.input = _resolved(document, ("exploration", "input"), exploration.input)
    reference.resolve_files(lambda path, key: _resolved(document, ("reference", *key), path))
    return config


def load_reference(
    path: str | Path,
) -> tuple[LabellerSettings, ExecutionSettings]:
    """Sections ``reference`` and ``execution`` of a YAML file: that of a project, or one of nothing else."""
    document = read_document(path)
    if "training" in document.values:
        config = _validate(document)
        return config.reference, config.execution
    try:
        found = ReferenceFile.model_validate(document.values)
    except ValidationError as error:
        raise explain(error, ReferenceFile, document) from None
    found.reference.resolve_files(lambda path, key: _resolved(document, ("reference", *key), path))
    return found.reference, found.execution


def _resolved(document: Document, key: Key, path: str) -> str:
    """The path, absolute; InputError if nothing is there."""
    where = document.where(key)
    folder = Path() if where.startswith("command line") else document.folder
    full = (folder / Path(path).expanduser()).absolute()
    if not full.exists():
        raise InputError(f"{dotted(key)}: there is no {path}", where=where, hint=f"looked for {full}")
    return str(full)


def make_labelling(reference: LabellerSettings) -> Labelling:
    """How labels are computed."""
    return Labelling(
        reference=reference.arguments_of_labeller(),
        limits=Limits(**reference.limits.model_dump()),
        retries=tuple(reference.retries),
        walltime=reference.walltime,
        per_task=reference.per_task,
    )


def make_selection(settings: SelectionSettings, seed: int) -> Selection:
    """Rules of the selection."""
    names = ("budget", "method", "extrapolation", "min_distance", "max_force", "duplicate")
    return Selection(seed=seed, **{name: getattr(settings, name) for name in names})


def make_execution(settings: ExecutionSettings) -> Execution:
    """Where tasks run."""
    return Execution(settings.executor, settings.cores, settings.options, settings.launcher)


def make_project(config: ActiveConfig) -> Project:
    """The project that a configuration describes; the training YAML and all data are read."""
    training = load_config(config.training)
    data = training.data
    if data.baseline is not None:
        raise InputError(
            "active learning explores with LAMMPS and committees, which have no baseline", where="data.baseline",
            hint="train without, or run the steps by hand",
        )  # fmt: skip
    if data.folds is not None:
        raise InputError(
            "active learning trains on all labels, without cross-validation",
            where="data.folds",
            hint="leave it out",
        )
    _require_used(training)
    arguments: dict[str, Any] = {
        "format": None if data.format == "auto" else data.format,
        "units": None if data.units == "auto" else data.units,
        "frames": data.frames,
        "keys": data.labels or None,
    }
    known = load_dataset(data.train, **arguments)
    labelled = [s for s in known if s.energy is not None and s.forces is not None]
    unlabelled = [s for s in known if s.energy is None or s.forces is None]
    unlabelled += load_dataset(config.structures, labels_matter=False) if config.structures else []
    if config.random is not None:
        r = config.random
        unlabelled += random_structures(
            r.composition, r.number, (r.volume[0], r.volume[1]), r.distance, config.seed
        )
    exploration, selection = config.exploration, config.selection
    names = ("engine", "timestep", "every", "interval", "max_frames", "min_distance", "max_force", "ranks")
    text = None if exploration.input is None else Path(exploration.input).read_text(encoding="utf-8")
    validation = load_dataset(data.validation, **arguments) if data.validation else []
    test = load_dataset(data.test, **arguments) if data.test else []
    written = {**training.model_dump(mode="json"), "start": _start(training)}
    written["data"]["groups"], (train, validation, test) = _with_groups(
        data.groups, labelled, validation, test
    )
    starts = load_dataset(exploration.starts, labels_matter=False) if exploration.starts else None
    conditions = tuple(_condition(c) for c in exploration.conditions)
    for condition in conditions:
        for start in condition.starts or starts or [*labelled, *unlabelled]:
            require_runnable(start, condition)
    return Project(
        folder=Path(config.output).absolute(),
        seed=config.seed,
        training=written,
        labelling=make_labelling(config.reference),
        train=train,
        validation=validation,
        test=test,
        unlabelled=unlabelled,
        starts=starts,
        exploration=Exploration(
            conditions=conditions,
            extrapolation=selection.extrapolation is not None,
            input=text,
            **{name: getattr(exploration, name) for name in names},
        ),
        selection=make_selection(selection, config.seed),
        bounds=BoundRules(
            lower=None if selection.lower == "auto" else selection.lower,
            upper=None if selection.upper == "auto" else selection.upper,
            percentile=selection.percentile,
            factor=selection.factor,
        ),
        execution=make_execution(config.execution),
        stop=StopRules(**config.stop.model_dump()),
        warm_start=config.warm_start,
        warm_epochs=config.warm_epochs,
        validation_fraction=config.validation_fraction,
        grow=exploration.grow,
        identity=_identity(
            config, training, {"known": known, "validation": validation, "test": test, "first": unlabelled}
        ),
    )


def _with_groups(wanted: str, *parts: Sequence[Structure]) -> tuple[str, list[Sequence[Structure]]]:
    """Key that names the groups of the first data in the files of the loop, and these data with it.

    Files have other names there, so that a group by files becomes a key.
    """
    grouping = find_grouping({str(number): part for number, part in enumerate(parts)}, wanted)
    if grouping is None or grouping.key != FILE:
        return wanted if grouping is None else grouping.key, list(parts)
    key = "data_file"
    return key, [[s.replace(info={**s.info, key: grouping.of(s)}) for s in part] for part in parts]


def _require_used(training: Config) -> None:
    """Refuse settings of the training YAML that the loop replaces by its own.

    Raises
    ------
    InputError
        Naming the setting and what decides instead.
    """
    committee = training.committee
    replaced = {
        "training.threads": (training.training.threads not in (None, 1), "every member is trained by one thread"),
        "committee.processes": (
            committee is not None and committee.processes is not None, "execution.cores says how many are trained"
        ),
    }  # fmt: skip
    for key, (given, why) in replaced.items():
        if given:
            raise InputError(f"{key} has no effect in active learning: {why}", where=key, hint="leave it out")


def _start(training: Config) -> dict[str, Any] | None:
    """What the first training begins with, its path absolute.

    Raises
    ------
    InputError
        If there is no run for every member of the committee.
    """
    if training.start is None:
        return None
    run = Path(training.start.run).absolute()
    members = (training.committee or Committee()).trainings
    lost = [m for m in range(members) if latest_checkpoint(run / f"member-{m:02d}") is None]
    if lost and not run.is_file():
        raise InputError(
            f"there is no run of member {lost[0]} to begin with", where=f"start.run: {run}",
            expected=f"the folder of a committee of {members}, or a model.pt",
        )  # fmt: skip
    return {**training.start.model_dump(mode="json"), "run": str(run)}


def _identity(
    config: ActiveConfig, training: Config, data: Mapping[str, Sequence[Structure]]
) -> dict[str, Any]:
    """What the project is, JSON-able and without paths: the same in a folder of another name."""
    identity = config.model_dump(mode="json", exclude={"output", "structures"})
    identity["training"] = training.model_dump(mode="json", exclude={"output"})
    identity["training"]["data"] |= {"train": None, "validation": None, "test": None}
    identity["data"] = {name: [len(part), data_sha256(part)] for name, part in data.items()}
    for section, name in (("exploration", "input"), ("reference", "template")):
        if path := identity[section].get(name):
            identity[section][name] = Path(path).read_text(encoding="utf-8")
    for part in (identity["exploration"], *identity["exploration"]["conditions"]):
        part["starts"] = None
    return identity


def _condition(c: ConditionSettings) -> Condition:
    temperature, pressure = (c.temperature[0], c.temperature[1]), (c.pressure[0], c.pressure[1])
    factors = c.deformation
    return Condition(
        c.ensemble, temperature, pressure, c.steps, c.runs, c.strain,
        deformation=None if factors is None else (factors[0], factors[1], factors[2]),
        starts=tuple(load_dataset(c.starts, labels_matter=False)) if c.starts else None,
    )  # fmt: skip


def write_active_config(config: ActiveConfig, path: Path) -> None:
    """Write every setting, defaults included, as YAML that `load_active_config` reads."""
    with atomic_write(path) as stream:
        yaml.safe_dump(config.model_dump(mode="json"), stream, sort_keys=False, allow_unicode=True, width=100)
