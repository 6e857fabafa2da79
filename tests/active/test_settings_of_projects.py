"""Every key of the active learning YAML does something that shows, or is refused where it would not."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from active_tools import shaken_copper
from alloy import write_alloy
from observing import digest
from walk import keys_of, plain_key, without_sections

from nnpkit.active.assess import Assessment, Extrapolation
from nnpkit.active.executor import _provider
from nnpkit.active.loop import Loop
from nnpkit.active.project import training_yaml, write_first_data, write_new_data
from nnpkit.active.selection import Bounds, select
from nnpkit.config.schema_active import ActiveConfig
from nnpkit.data.formats.reading import read, write
from nnpkit.errors import InputError
from nnpkit.workflow.active_project import load_active_config, make_project

YAML = """\
training: train.yaml
reference: {calculator: emt}
exploration: {engine: ase, timestep: 2.0}
execution: {cores: 2}
"""
TRAINING = "data: {train: train.extxyz, test_fraction: 0.25}\ncommittee: {members: 2}\n"

BASES: dict[str, list[str]] = {
    "plain": [],
    "random": ["random={composition: {Cu: 2}, number: 2}"],
    "lammps": ["exploration.engine=lammps"],
    "npt": ["exploration.conditions=[{ensemble: npt}]"],
    "cp2k": ["reference={kind: cp2k, template: cp2k.inp}"],
    "command": ["reference={kind: command, command: [label, '{input}', '{output}']}"],
    "slurm": ["execution={executor: slurm, options: {partition: long}}"],
}


def _reference(kind: str) -> dict[str, str]:
    values = {
        "limits.net_force": "0.1", "limits.max_force": "10.0", "limits.energy_jump": "1.0",
        "retries": "[{a: 1}]", "walltime": "10.0", "per_task": "2",
    }  # fmt: skip
    return {f"reference[{kind}].{name}": value for name, value in values.items()}


PROBES: dict[str, dict[str, str | tuple[str, str]]] = {
    "plain": {
        "seed": "2", "output": "elsewhere", "training": "other.yaml", "warm_start": "false", "warm_epochs": "3",
        "validation_fraction": "0.9", "structures": "[starts.extxyz]",
        **_reference("ase"), "reference[ase].calculator": "lj", "reference[ase].arguments": "{asap_cutoff: true}",
        "exploration.engine": "lammps", "exploration.starts": "[starts.extxyz]",
        **{
            f"exploration.conditions.*.{name}": (f"exploration.conditions=[{{{name}: {value}}}]", "")
            for name, value in {
                "ensemble": "npt", "temperature": "[300, 400]", "steps": "100", "runs": "2", "strain": "0.1",
                "deformation": "[1.1, 1.0, 1.0]", "starts": "[starts.extxyz]",
            }.items()
        },
        "exploration.timestep": "1.0", "exploration.every": "5", "exploration.interval": "20",
        "exploration.max_frames": "5", "exploration.min_distance": "0.6", "exploration.max_force": "40.0",
        "exploration.grow": "2.0",
        "selection.lower": "0.3", "selection.upper": "0.9", "selection.percentile": "50.0", "selection.factor": "2.0",
        "selection.budget": "2", "selection.method": "disagreement", "selection.extrapolation": "0.5",
        "selection.min_distance": "0.5", "selection.max_force": "60.0", "selection.duplicate": "3.0",
        "execution.executor": "slurm", "execution.cores": "3",
        "stop.rounds": "2", "stop.labels": "3", "stop.hours": "1.0", "stop.candidates": "0.5",
        "stop.improvement": "0.9",
    },
    "random": {
        "random.composition": "{Cu: 3}", "random.number": "3", "random.volume": "[30.0, 40.0]",
        "random.distance": "0.9",
    },
    "lammps": {"exploration.input": "own.in", "exploration.ranks": "2"},
    "npt": {"exploration.conditions.*.pressure": ("exploration.conditions.0.pressure=[1, 1000]", "")},
    "cp2k": {
        **_reference("cp2k"), "reference[cp2k].template": "cp2k_other.inp", "reference[cp2k].command": "[cp2k.ssmp]",
        "reference[cp2k].settings": "{cutoff: 400}", "reference[cp2k].data_dir": "elsewhere",
        "reference[cp2k].threads": "2",
    },
    "command": {
        **_reference("command"), "reference[command].command": "[other, '{input}', '{output}']",
        "reference[command].input": "a.xyz", "reference[command].output": "b.xyz",
        "reference[command].input_format": "vasp", "reference[command].settings": "{a: 2}",
        "reference[command].reads_state": "true",
    },
    "slurm": {"execution.options": "{partition: short}", "execution.launcher": "srun"},
}  # fmt: skip
REFUSED = [
    ("plain", "exploration.input=own.in", "input has no effect"),
    ("plain", "exploration.ranks=2", "ranks has no effect"),
    ("plain", "exploration.conditions=[{pressure: [1, 2]}]", "pressure has no effect"),
    ("npt", "exploration.conditions.0.deformation=[1, 1, 1.1]", "deformation goes with"),
    ("plain", "selection={upper: 1.0, factor: 2.0}", "factor has no effect"),
    ("plain", "selection={lower: 0.1, upper: 1.0, percentile: 50.0}", "percentile has no effect"),
    ("plain", "execution={options: {partition: long}}", "options has no effect"),
    ("plain", "execution={launcher: srun}", "launcher has no effect"),
    ("warm", "warm_start=false", "warm_epochs is of trainings"),
    ("plain", "training=folds.yaml", "without cross-validation"),
    ("plain", "training=threads.yaml", "training.threads has no effect"),
    ("plain", "training=processes.yaml", "committee.processes has no effect"),
    ("plain", "training=baseline.yaml", "no baseline"),
]
EXCUSED: dict[str, str] = {
    "reference[ase].python": "the same numbers, by another process: tests/active/test_teachers_apart.py",
}


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    """The current folder, with everything that the settings name."""
    before, folder = Path.cwd(), tmp_path_factory.mktemp("walk")
    os.chdir(folder)
    write_alloy(folder / "train.extxyz", 8, gold=(0,))
    write("starts.extxyz", read("train.extxyz")[:2])
    texts = {
        "active.yaml": YAML, "train.yaml": TRAINING, "other.yaml": TRAINING + "seed: 2\n", "own.in": "run 1\n",
        "folds.yaml": "data: {train: train.extxyz, folds: 2}\n", "cp2k.inp": "{{cell}} {{coordinates}} 1\n",
        "cp2k_other.inp": "{{cell}} {{coordinates}} 2\n", "threads.yaml": TRAINING + "training: {threads: 2}\n",
        "processes.yaml": TRAINING.replace("members: 2", "members: 2, processes: 1"),
        "baseline.yaml": TRAINING.replace("0.25}", "0.25, baseline: {kind: ase, calculator: emt}}"),
    }  # fmt: skip
    for name, text in texts.items():
        (folder / name).write_text(text)
    yield folder
    os.chdir(before)


def candidates() -> list[Assessment]:
    """Frames of all sorts: certain, worth a label, wild, close, hot, outside, alike."""
    rows = [
        (0.05, 1.0, 2.3, 0.0), (0.2, 2.0, 2.3, 0.0), (0.4, 2.0, 2.3, 0.1), (0.6, 55.0, 2.3, 0.0), (0.5, 3.0, 1.5, 0.0),
        (1.2, 3.0, 2.3, 0.0), (0.45, 3.0, 2.3, 0.0), (0.35, 3.0, 2.3, 0.0), (0.02, 1.0, 2.3, 0.3), (3.0, 1.0, 2.3, 0.0),
    ]  # fmt: skip
    random = np.random.default_rng(1)
    return [
        Assessment(
            structure, f"key-{k}", 0.0, force, spread, spread, Extrapolation("Cu", "G2", out, 1) if out else None,
            {"Cu-Cu": near}, random.normal(size=3),
        )
        for k, (structure, (spread, force, near, out)) in enumerate(zip(shaken_copper(10), rows, strict=True))
    ]  # fmt: skip


def ends(loop: Loop) -> list[str | None]:
    """Why the loop ends, for courses of several kinds."""
    found = []
    grid = itertools.product((2, 9, 10), (0.01, 0.3), (0.99, 0.5), (1, 5), (0.1, 2.0))
    for number, fraction, improvement, labels, hours in grid:
        step = {"select": {"fraction": fraction, "taken": 1}, "label": {"done": 1}}
        errors = [
            {"errors": json.dumps({"force_rmse": 1.0})},
            {"errors": json.dumps({"force_rmse": improvement})},
        ]
        loop.store = SimpleNamespace(
            step=lambda r, name, step=step: step[name], query=lambda *_, errors=errors: errors,
            label_keys=lambda _, labels=labels: ["key"] * labels,
            fact=lambda _, hours=hours: [{"begin": 0.0, "end": 3600.0 * hours}],
        )  # fmt: skip
        found.append(loop._enough(number))
    return found


def files(root: Path, where: Path) -> list[tuple[str, str]]:
    """Names and contents below `root`, not depending on the folder `where`."""
    return [
        (
            str(p.relative_to(root)),
            hashlib.sha256(p.read_bytes().replace(str(where).encode(), b"")).hexdigest(),
        )
        for p in sorted(root.rglob("*"))
        if p.is_file() and "sqlite" not in p.name and p.name not in (".lock", "lock")
    ]


def observe(base: str, *changes: str) -> str:
    config = load_active_config("active.yaml", [*BASES[base], *changes])
    shutil.rmtree(config.output, ignore_errors=True)
    project = make_project(config)
    seen: list[Any] = [
        project.folder.name,
        [s.positions for s in project.unlabelled],
        project.execution.slots,
    ]
    if project.execution.executor != "local":
        provider = _provider(project.execution)
        seen.append((type(provider).__name__, provider.partition, type(provider.launcher).__name__))
    loop = Loop(project, lambda line: None, lambda: False)
    loop.store.lock.release()
    structures = read("train.extxyz")
    bare = [s.replace(energy=None, forces=None, stress=None) for s in structures]
    loop.labeller.prepare(bare, project.folder / "l")
    write_first_data(project, [], print)
    write_new_data(
        project, 0, {f"{k:02x}" * 16: s for k, s in zip(range(5, 255, 40), structures, strict=False)}
    )
    warm = project.folder / "model" if project.warm_start else None
    for number, start in ((0, None), (1, warm)):
        training_yaml(project, number, start)
    model = project.folder / "model"
    model.mkdir()
    spread = np.linspace(0.1, 1.0, 11)
    np.savez(model / "validation.npz", force_error=spread**2, force_std=spread)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "_model", lambda number: model)
        patch.setattr(loop, "_distances", lambda number: {"Cu-Cu": 2.2})
        bounds = loop._bounds(0)
        for number in (0, 1):
            loop._exploration_runs(
                number, project.folder / f"explore-{number}", model / "committee.pt", bounds
            )
    known = np.random.default_rng(2).normal(size=(4, 3))
    fixed = Bounds(0.1, 1.0, "given")
    verdicts = [d[2:] for d in select(candidates(), fixed, project.selection, known, {}, {"Cu-Cu": 2.2})]
    seen += [bounds[:2], verdicts, ends(loop), files(project.folder, project.folder)]
    return digest(seen)


@cache
def unchanged(base: str) -> str:
    return observe(base)


ALL_PROBES = [
    pytest.param(base, key, value, id=f"{key} ({base})")
    for base, own in PROBES.items()
    for key, value in own.items()
]


@pytest.mark.parametrize(("base", "key", "value"), ALL_PROBES)
def test_a_change_shows(base: str, key: str, value: str | tuple[str, str]) -> None:
    change = f"{plain_key(key)}={value}" if isinstance(value, str) else value[0]
    assert observe(base, change) != unchanged(base)


@pytest.mark.parametrize("base", BASES)
def test_the_same_settings_show_nothing(base: str) -> None:
    assert observe(base) == unchanged(base)


@pytest.mark.parametrize(("base", "change", "words"), REFUSED)
def test_a_setting_without_effect_is_refused(base: str, change: str, words: str) -> None:
    overrides = ["warm_epochs=2"] if base == "warm" else BASES[base]
    with pytest.raises(InputError, match=words):
        make_project(load_active_config("active.yaml", [*overrides, change, "output=refused"]))
    assert not Path("refused").exists()


def test_every_key_has_a_probe_or_an_excuse() -> None:
    keys, known = set(keys_of(ActiveConfig)), {key for own in PROBES.values() for key in own}
    assert (
        sorted({k for k in without_sections(ActiveConfig) if not k.endswith("kind")} - known - set(EXCUSED))
        == []
    )
    assert sorted((known | set(EXCUSED)) - keys) == []
    assert len({unchanged(base) for base in BASES}) == len(BASES)
