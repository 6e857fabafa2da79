"""A project: everything that the loop needs to know, and where things lie in its folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from nnpkit.active.executor import Execution
from nnpkit.active.explorers.runs import Exploration
from nnpkit.active.labelling_tasks import Labelling
from nnpkit.active.selection import Selection
from nnpkit.data.formats.extxyz import read_extxyz, write_extxyz
from nnpkit.data.groups import kinds_of
from nnpkit.data.splitting import SplitRule, divide
from nnpkit.data.structure import Structure
from nnpkit.files import atomic_write
from nnpkit.md.atoms import of_motion

__all__ = ["BoundRules", "Folders", "Project", "StopRules", "training_yaml"]


@dataclass(frozen=True)
class BoundRules:
    """Bounds of the disagreement, eV/Å; None for one that is learnt."""

    lower: float | None = None
    upper: float | None = None
    percentile: float = 90.0
    factor: float = 8.0


@dataclass(frozen=True)
class StopRules:
    """When the loop ends; see the YAML reference."""

    rounds: int = 10
    labels: int | None = None
    hours: float | None = None
    candidates: float = 0.02
    improvement: float = 0.05


@dataclass(frozen=True)
class Project:
    """What a project is.

    Attributes
    ----------
    folder : Path
    seed : int
    training : mapping
        The complete configuration of `nnpkit train`, JSON-able; its data are replaced in every round.
    train, validation : list of Structure
        First labelled data; without `validation` a part of `train` is set aside.
    test : list of Structure
        On which the committee of every round is tested; they decide nothing.
    unlabelled : list of Structure
        Labelled before anything else.
    starts : list of Structure or None
        Of the exploration; None: structures that have labels.
    labelling, exploration, selection, bounds, execution, stop
        The parts of the loop.
    warm_start : bool
    warm_epochs : int or None
    validation_fraction : float
    grow : float
        See the YAML reference.
    identity : mapping
        JSON-able: the configuration as the user gave it, to notice changes.
    """

    folder: Path
    seed: int
    training: Mapping[str, Any]
    labelling: Labelling
    train: Sequence[Structure] = ()
    validation: Sequence[Structure] = ()
    test: Sequence[Structure] = ()
    unlabelled: Sequence[Structure] = ()
    starts: Sequence[Structure] | None = None
    exploration: Exploration = field(default_factory=Exploration)
    selection: Selection = field(default_factory=Selection)
    bounds: BoundRules = field(default_factory=BoundRules)
    execution: Execution = field(default_factory=Execution)
    stop: StopRules = field(default_factory=StopRules)
    warm_start: bool = True
    warm_epochs: int | None = None
    validation_fraction: float = 0.1
    grow: float = 1.0
    identity: Mapping[str, Any] = field(default_factory=dict)

    def random(self, *key: int) -> np.random.Generator:
        """Random numbers that depend on the seed and `key` alone."""
        return np.random.default_rng([self.seed, *key])


class Folders:
    """Where things lie in the folder of a project."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def round(self, number: int) -> Path:
        """Of a round."""
        return self.root / "rounds" / f"{number:03d}"

    def model(self, number: int) -> Path:
        """Run folder of the committee trained at the beginning of a round."""
        return self.round(number) / "train" / "model"

    def new_data(self, number: int) -> tuple[Path, Path]:
        """Files with the training and validation structures labelled in a round."""
        return self.round(number) / "new-train.xyz", self.round(number) / "new-validation.xyz"

    def first_data(self) -> tuple[Path, Path]:
        """Files with the first training and validation structures."""
        return self.root / "data" / "train.xyz", self.root / "data" / "validation.xyz"

    def test_data(self) -> Path:
        """File with the test structures."""
        return self.root / "data" / "test.xyz"

    def data_before(self, number: int) -> tuple[list[Path], list[Path]]:
        """Existing files with training and validation structures known before a round."""
        pairs = [self.first_data(), *(self.new_data(r) for r in range(number))]
        return [p for p, _ in pairs if p.exists()], [p for _, p in pairs if p.exists()]


def write_first_data(
    project: Project, labelled: Sequence[Structure], say: Callable[[str], None]
) -> tuple[int, int]:
    """Write the first training and validation set; their sizes. `labelled` are the first labels of the project.

    `say` gets the warnings of the division. Test structures, if there are any, get a file of their own.
    """
    train, validation = [*project.train, *labelled], list(project.validation)
    if not validation:
        data = project.training["data"]
        rule = SplitRule(data["split"], data["group"], data["validation_fraction"] or 0.1, 0.0)
        division = divide(train, rule, project.seed, kinds_of(train, data.get("groups", "auto")))
        for warning in division.warnings(rule.kind):
            say(warning)
        validation = [train[i] for i in division.validation]
        train = [train[i] for i in division.train]
    folders = Folders(project.folder)
    files = (*folders.first_data(), folders.test_data())
    for path, part in zip(files, (train, validation, project.test), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        if part:
            write_extxyz(path, [_bare(project, s) for s in part])
    return len(train), len(validation)


def _bare(project: Project, structure: Structure) -> Structure:
    """The structure with its labels, its group and how its atoms move, of which explorations take notice.

    What the loop has labelled itself is the group ``new``.
    """
    key = project.training["data"].get("groups", "none")
    named = any(key in s.info for s in project.train)
    info = {"constraints": structure.info["constraints"]} if "constraints" in structure.info else {}
    info |= {key: structure.info.get(key, "new")} if named else {}
    return structure.replace(info=info, arrays=of_motion(structure))


def write_new_data(project: Project, number: int, labels: Mapping[str, Structure]) -> tuple[int, int]:
    """Write the labels (by key) of a round, some of them for validation; the sizes of both parts.

    Which part a structure belongs to follows from its key alone.
    """
    train: list[Structure] = []
    validation: list[Structure] = []
    for key in sorted(labels):
        chosen = int(key[:12], 16) / 16**12 < project.validation_fraction
        (validation if chosen else train).append(_bare(project, labels[key]))
    if not train:
        train, validation = validation, []
    for path, part in zip(Folders(project.folder).new_data(number), (train, validation), strict=True):
        if part:
            write_extxyz(path, part)
    return len(train), len(validation)


def read_all(paths: Sequence[Path]) -> list[Structure]:
    """Structures of several files."""
    return [structure for path in paths for structure in read_extxyz(path)]


def training_yaml(project: Project, number: int, warm: Path | None) -> Path:
    """Write the YAML of a round's training; its path."""
    folders = Folders(project.folder)
    train, validation = folders.data_before(number)
    test = [p for p in [folders.test_data()] if p.exists()]
    config = {**project.training}
    config["output"] = "model"
    config["data"] = {
        **{key: config["data"][key] for key in ("reference_energies", "suspicious", "groups") if key in config["data"]},
        "train": [str(p.absolute()) for p in train],
        "validation": [str(p.absolute()) for p in validation] or None,
        "test": [str(p.absolute()) for p in test] or None, "test_fraction": 0.0,
    }  # fmt: skip
    config["committee"] = {**(config.get("committee") or {"members": 4})}
    if config["committee"].get("resample") != "posterior":
        config["committee"]["processes"] = project.execution.slots
    config["training"] = {**config["training"], "threads": 1}
    if warm is not None:
        config["start"] = {
            **(config.get("start") or {}), "run": str(warm.absolute()), "covariance": True,
            "epochs": project.warm_epochs,
        }  # fmt: skip
    path = folders.round(number) / "train" / "train.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as stream:
        yaml.safe_dump(config, stream, sort_keys=False, width=100)
    return path
