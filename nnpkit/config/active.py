"""From the active learning YAML to the objects of active learning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from nnpkit.active.executor import Execution
from nnpkit.active.labeller import Labelling
from nnpkit.active.labelling import Limits
from nnpkit.active.selection import Selection
from nnpkit.config.document import Document, Key, apply_override, dotted, read_document
from nnpkit.config.explain import explain
from nnpkit.config.schema_active import (
    ActiveConfig,
    AseReference,
    CommandReference,
    Cp2kReference,
    ReferenceFile,
)
from nnpkit.config.schema_active import Execution as ExecutionSettings
from nnpkit.config.schema_active import Selection as SelectionSettings
from nnpkit.errors import InputError

__all__ = [
    "active_config_from_mapping",
    "load_active_config",
    "load_reference",
    "make_execution",
    "make_labelling",
    "make_selection",
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
    if exploration.input is not None:
        exploration.input = _resolved(document, ("exploration", "input"), exploration.input)
    if isinstance(reference, Cp2kReference):
        reference.template = _resolved(document, ("reference", "template"), reference.template)
    return config


def load_reference(
    path: str | Path,
) -> tuple[AseReference | Cp2kReference | CommandReference, ExecutionSettings]:
    """Sections ``reference`` and ``execution`` of a YAML file: that of a project, or one of nothing else."""
    document = read_document(path)
    if "training" in document.values:
        config = _validate(document)
        return config.reference, config.execution
    try:
        found = ReferenceFile.model_validate(document.values)
    except ValidationError as error:
        raise explain(error, ReferenceFile, document) from None
    if isinstance(found.reference, Cp2kReference):
        found.reference.template = _resolved(document, ("reference", "template"), found.reference.template)
    return found.reference, found.execution


def _resolved(document: Document, key: Key, path: str) -> str:
    """The path, absolute; InputError if nothing is there."""
    where = document.where(key)
    folder = Path() if where.startswith("command line") else document.folder
    full = (folder / Path(path).expanduser()).absolute()
    if not full.exists():
        raise InputError(f"{dotted(key)}: there is no {path}", where=where, hint=f"looked for {full}")
    return str(full)


def make_labelling(reference: AseReference | Cp2kReference | CommandReference) -> Labelling:
    """How labels are computed."""
    common = {"limits", "retries", "walltime", "per_task"}
    return Labelling(
        reference=reference.model_dump(exclude=common),
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
