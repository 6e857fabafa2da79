"""The steps that a run by itself and the members of a committee have in common."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from nnpkit._version import __version__
from nnpkit.config.schema import Config
from nnpkit.config.schema_training import Ekf
from nnpkit.data.dataset import data_sha256, structure_sha256
from nnpkit.data.store.stored_frames import joined_frames
from nnpkit.deploy.load import whole_model
from nnpkit.deploy.targets.scripting import frame_of_test
from nnpkit.deploy.targets.torchscript import export_model
from nnpkit.errors import InputError
from nnpkit.families.factory import count_parameters
from nnpkit.families.prepare import data_statistics
from nnpkit.families.registered import family_of
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.descriptor import ChangesAlong
from nnpkit.models.short_range import wall_ends
from nnpkit.optim.covariance_memory import available_memory, require_memory
from nnpkit.optim.shared_blocks import SharedBlocks
from nnpkit.parallel import ALONE, Ranks
from nnpkit.progress import Progress
from nnpkit.threads import free_processors
from nnpkit.training.checkpoint import Checkpoint, first_difference, read_checkpoint
from nnpkit.training.frozen import count_free
from nnpkit.training.model_errors import Split, deciding
from nnpkit.training.outlying_structures import lines_of_outliers, named_outliers
from nnpkit.training.trainer import Trainer, TrainerSettings
from nnpkit.workflow.advice import overfitting, tested, untrained
from nnpkit.workflow.assemble import LoadedData, frozen_of, make_splits  # fmt: skip
from nnpkit.workflow.balance import learns_stress
from nnpkit.workflow.data_sets import PARTS
from nnpkit.workflow.devices import covariance_device
from nnpkit.workflow.duration import time_budget
from nnpkit.workflow.errors_of_groups import print_groups, test_errors
from nnpkit.workflow.member_processes import own_processors
from nnpkit.workflow.update_makers import covariance_partition

__all__ = [
    "announce_memory",
    "data_report",
    "finish_run",
    "matching_checkpoint",
    "memory_of",
    "ordered_sha256",
    "prepare",
    "prepares_ahead",
    "require_judge",
    "trainer_settings",
    "versions",
]


_BUDGET = 1_000_000_000  # bytes for derivatives that a kernel computes nearly as fast as they are read


def monitor_of(config: Config) -> str:
    """The error that chooses the best epoch; of energies that nobody learns none, which say nothing about forces."""
    monitor, schedule = config.training.monitor, config.training.schedule
    only_forces = getattr(schedule, "energy", True) is False and getattr(schedule, "forces", "auto") != 0
    return "force_rmse" if monitor == "energy_force" and only_forces else monitor


def require_judge(config: Config, data: LoadedData) -> None:
    """Refuse to start if no label says which epoch is the best; see `nnpkit.training.trainer.monitored`."""
    monitor, judge = monitor_of(config), "validation" if "validation" in data.splits else "train"
    needed = {"energy_rmse": ["energy"], "force_rmse": ["forces"]}.get(monitor, ["energy", "forces"])
    if not any(f"{name.rstrip('s')}_rmse" in deciding(data.splits[judge]) for name in needed):
        raise InputError(
            f"no {judge} structure has {' or '.join(needed)}", where=f"training.monitor: {monitor}",
            hint="the best epoch is chosen by these labels, and forces that are all zero do not count: give data that "
            "have them, or another monitor",
        )  # fmt: skip


def trainer_settings(config: Config, epochs: int, warm: bool, ahead: bool) -> TrainerSettings:
    training, stopping = config.training, config.training.early_stopping
    return TrainerSettings(
        epochs=epochs,
        evaluate_every=training.evaluate_every,
        checkpoint_every=training.checkpoint.every,
        keep=training.checkpoint.keep,
        monitor=monitor_of(config),
        patience=None if stopping is None else stopping.patience,
        min_delta=0.0 if stopping is None else stopping.min_delta,
        warm=warm,
        time=time_budget(config, warm),
        ahead=ahead,
    )


# What may differ between a run and its continuation; data are compared by content.
_MAY_CHANGE = {
    "": {"output", "data", "seed", "report"},
    "training": {
        "epochs",
        "time",
        "min_updates",
        "early_stopping",
        "checkpoint",
        "evaluate_every",
        "memory_budget_gb",
        "prefetch",
        "threads",
        "device",
    },
}


def _comparable(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint and the run that continues it must have in common, in the order of the YAML."""
    config = {k: v for k, v in identity["config"].items() if k not in _MAY_CHANGE[""]}
    config["training"] = {k: v for k, v in config["training"].items() if k not in _MAY_CHANGE["training"]}
    if config.get("start") is not None:
        config["start"] = {k: v for k, v in config["start"].items() if k != "epochs"}
    return {"seed": identity["seed"], "data": identity["data"], **config}


def matching_checkpoint(path: Path, identity: Mapping[str, Any]) -> Checkpoint:
    """The checkpoint in `path`; InputError naming the first difference if it is of another run."""
    checkpoint = read_checkpoint(path)
    try:
        before = _comparable(checkpoint.state)
    except (KeyError, TypeError, AttributeError):
        raise InputError("the checkpoint does not say what it is of", where=str(path)) from None
    if difference := first_difference(before, _comparable(identity)):
        key, then, now = difference
        what = (
            "the data are not the same" if key.startswith("data") else f"it was {then!r}, now it is {now!r}"
        )
        raise InputError(
            f"the checkpoint is of another run: {key} differs ({what})", where=str(path),
            hint="restore the setting, or start a new run with --overwrite or another output",
        )  # fmt: skip
    return checkpoint


def ordered_sha256(data: LoadedData) -> dict[str, str]:
    """Hash of the structures of each split in their order, on which the course of a training depends."""
    return {
        name: hashlib.sha256("\n".join(map(structure_sha256, part)).encode()).hexdigest()
        for name, part in data.splits.items()
    }


def memory_of(config: Config, model: AtomicModel, data: LoadedData, ranks: Ranks = ALONE) -> dict[str, int]:
    """Bytes: what derivatives and covariance will need on this one of the `ranks`, and the budget for derivatives.

    Raises
    ------
    InputError
        If the covariance of the Kalman filter does not fit into the memory.
    """
    structures = joined_frames(data.watched.values())
    optimizer, free, covariance = config.training.optimizer, available_memory(), 0
    device = covariance_device(config, ranks)
    if isinstance(optimizer, Ekf):
        partition = covariance_partition(optimizer, model)
        on_cpu, owned = device.type == "cpu", SharedBlocks(partition, ranks).owned
        covariance = require_memory(
            partition,
            free if on_cpu else available_memory(device),
            optimizer.dtype,
            triangles=on_cpu,
            owned=owned,
        )
        free -= covariance if on_cpu else 0
    given = config.training.memory_budget_gb
    budget = free // (2 * ranks.size) if given is None else int(given * 1e9)
    descriptor = model.descriptor.fast()
    if given is None and descriptor is not model.descriptor:
        budget = min(budget, _BUDGET)
        needs_none = isinstance(optimizer, Ekf) and isinstance(descriptor, ChangesAlong)
        if needs_none and config.training.feature_derivatives is None:
            budget = 0
    family = family_of(model.spec)
    if not (family.trained_descriptor or config.training.keeps_derivatives):
        budget = 0
    return {
        "derivatives": family.prepared_bytes(model, structures),
        "covariance": covariance,
        "budget": budget,
    }


def prepares_ahead(config: Config, ranks: Ranks = ALONE) -> bool:
    """Whether structures that are not kept are prepared in a thread of their own.

    Beside busy processes two threads of Python that wait for each other are slower than one.
    """
    asked = config.training.prefetch
    if isinstance(asked, bool):
        return asked
    return own_processors(ranks) > 1 and (ranks.size > 1 or free_processors() > 1)


def announce_memory(
    console: Console,
    model: AtomicModel,
    report: list[str],
    memory: Mapping[str, int],
    ahead: bool = False,
) -> None:
    """Print what will be trained and what it needs."""
    for line in report:
        console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    features = ", ".join(f"{e} {n}" for e, n in zip(model.elements, model.descriptor.n_features, strict=True))
    console.print(
        f"Model: {count_parameters(model)} weights; features: {features}; cutoff {model.cutoff:.2f} Å",
        highlight=False,
        soft_wrap=True,
    )
    if engine := model.descriptor.engine():
        console.print(engine, highlight=False)
    rest = "the rest is computed " + ("by a thread ahead of every use" if ahead else "at every use")
    kept = "all kept" if memory["derivatives"] <= memory["budget"] else rest
    console.print(
        f"Memory: about {memory['derivatives'] / 1e9:.2f} GB of prepared data, {memory['budget'] / 1e9:.2f} GB "
        f"allowed ({kept}); {memory['covariance'] / 1e9:.2f} GB for the Kalman filter",
        highlight=False,
        soft_wrap=True,
    )


def prepare(model: AtomicModel, data: LoadedData, budget: int, console: Console) -> dict[str, Split]:
    """Structures with all that does not change in training; the first set has the first call on the memory."""
    total = sum(map(len, data.watched.values())) + len(data.additional)
    with Progress("preparing structures", total, console) as bar:
        return make_splits(model, data.watched, budget, bar.advance, data.additional, data.grouping)


def data_report(
    config: Config, data: LoadedData, model: AtomicModel, report: list[str], memory: Mapping[str, int]
) -> dict[str, Any]:
    """Content of ``data.json``."""
    return {
        "files": {name: getattr(config.data, name) for name in PARTS},
        "elements": data.elements,
        "sha256": {name: data_sha256(part) for name, part in data.splits.items()},
        "statistics": data.statistics,
        "suspicious": [finding._asdict() for finding in data.findings],
        "reference_energies": model.spec["reference_energies"],
        "wall": wall_ends(model.spec["wall"]),
        "descriptor": {
            "report": [*report, *data.notes],
            "functions": [f for own in family_of(model.spec).functions(model.spec).values() for f in own],
        },
        "memory": dict(memory),
        "rule": data.rule,
        "split": {name: [s.name for s in part] for name, part in data.splits.items()},
    }


def finish_run(config: Config, trainer: Trainer, data: LoadedData, ended: str) -> dict[str, Any]:
    """Write ``model.pt`` of the best epoch and ``summary.json``; the summary.

    Here, and nowhere else, the potential sees the test structures.
    """
    state, folder, console = trainer.state, trainer.folder, trainer.console
    last, weights = trainer.interrupted, trainer.best
    errors = state.errors
    if last is not None:
        errors, weights = last
    trainer.model.load_state_dict(weights)
    if family_of(trainer.model.spec).trained_descriptor:
        statistics = data_statistics(trainer.model.descriptor, trainer.model.elements, data.train)
        trainer.model.scaling.observe(statistics)
    outliers = _outliers(trainer)
    summary: dict[str, Any] = {
        **errors,
        "test": test_errors([trainer.model], data),
        "seconds": round(state.seconds, 3),
        "epochs": state.epoch,
        "updates": state.updates,
        "best_epoch": state.best_epoch,
        "exported": "nothing" if trainer.silenced else "best epoch" if last is None else "last update",
        "silenced": trainer.silenced,
        "untrained": last is None and state.best_epoch == 0,
        "ended": ended,
        "retreats": state.retreats,
        "outliers": outliers,
        "n_parameters": count_parameters(trainer.model),
        "seed": config.seed,
        "versions": versions(),
    }
    summary["overfitting"], overfits = overfitting(
        config, {**summary, "n_parameters": count_free(trainer.model, frozen_of(config))}, data.learnt
    )
    metadata = {
        "data_sha256": data_sha256(data.train),
        "min_distance": data.min_distance,
        "training": {
            **{key: summary[key] for key in (*PARTS, "epochs", "best_epoch") if summary.get(key) is not None},
            "stress": learns_stress(config, data.learnt),
            **({"silenced": True} if trainer.silenced else {}),
        },
    }
    with_all = frame_of_test(data.train, trainer.model.elements)
    baseline = None if data.baseline is None else data.baseline.spec
    model, of_baseline = whole_model(trainer.model, baseline, folder.path / "baseline.pt")
    export_model(model, folder.path / "model.pt", metadata | of_baseline, with_all)
    folder.write_json("summary.json", summary)
    which = f"the best epoch was {state.best_epoch}" if last is None else "the last weights are the best"
    print_groups(summary, data, console)
    lines = [
        f"Ended ({ended}) after {state.epoch} epochs and {state.seconds:.0f} s; {which}: {folder.path / 'model.pt'}"
    ]
    if summary["test"] or not data.rule.get("frames", {}).get("test"):  # a committee is tested as a whole
        lines.append(tested(summary["test"], data.rule.get("tested_elsewhere", 0)))
    warnings = [overfits] if overfits else []
    if summary["untrained"]:
        warnings = [untrained(config, ended, trainer.silenced)]
    for line in [*lines, *(f"Warning: {words}" for words in warnings)]:
        style = "yellow" if line.startswith("Warning") else None
        console.print(line, highlight=False, markup=False, soft_wrap=True, style=style)
    return summary


def _outliers(trainer: Trainer) -> list[dict[str, Any]]:
    """Training structures whose labels kept being outliers; they are printed too."""
    train, record = trainer.splits["train"], getattr(trainer.update, "record", None)
    found = [] if record is None else named_outliers(record, train.structures, train.store)
    for line in lines_of_outliers(found):
        trainer.console.print(line, style="yellow", highlight=False, markup=False, soft_wrap=True)
    return found


def versions() -> dict[str, str]:
    """Versions of what computed the numbers."""
    python = ".".join(map(str, sys.version_info[:3]))
    return {"nnpkit": __version__, "torch": str(torch.__version__), "python": python}
