"""`nnpkit train` from beginning to end: configuration in, run folder out."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from nnpkit._version import __version__
from nnpkit.config.config_file import write_config
from nnpkit.config.schema import Config
from nnpkit.config.schema_training import Ekf
from nnpkit.data.checks.suspicious import findings_table
from nnpkit.data.dataset import data_sha256, structure_sha256
from nnpkit.data.statistics import statistics_table
from nnpkit.deploy.baseline import ModelBaseline
from nnpkit.deploy.load import whole_model
from nnpkit.deploy.targets.torchscript import export_model
from nnpkit.errors import InputError
from nnpkit.families.acsf.symmetry_functions import Acsf, SymmetryFunction
from nnpkit.families.build import count_parameters
from nnpkit.families.deep_potential.embedding import DeepDescriptor
from nnpkit.families.prepare import data_statistics
from nnpkit.measure.structure_memory import derivative_bytes, keep_freed_memory, moment_bytes
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.optim.covariance_memory import available_memory, require_memory
from nnpkit.progress import Progress
from nnpkit.training.checkpoint import Checkpoint, first_difference, model_from, read_checkpoint
from nnpkit.training.frozen import freeze
from nnpkit.training.model_errors import Split, deciding
from nnpkit.training.outlying_structures import lines_of_outliers, named_outliers
from nnpkit.training.run_folder import RunFolder
from nnpkit.training.trainer import Trainer, TrainerSettings
from nnpkit.workflow.advice import few_labels, few_updates, overfitting, tested, untrained
from nnpkit.workflow.assemble import (
    LoadedData,
    connect,
    covariance_partition,
    load_data,
    make_schedule,
    make_splits,
    make_update,
)  # fmt: skip
from nnpkit.workflow.balance import balance, learns_stress
from nnpkit.workflow.continuation import Beginning, begin, earlier_checkpoint, with_model_of
from nnpkit.workflow.data_sets import PARTS
from nnpkit.workflow.duration import planned, time_budget
from nnpkit.workflow.group_errors import print_groups, test_errors
from nnpkit.workflow.interim_model import write_interim_model
from nnpkit.workflow.new_model import make_model
from nnpkit.workflow.run_report import report_at_end

__all__ = ["announce_memory", "memory_of", "prepare", "run_training"]

_BUDGET = 1_000_000_000  # bytes for derivatives that a kernel computes nearly as fast as they are read


def run_training(
    config: Config, *, resume: bool = False, overwrite: bool = False, console: Console | None = None
) -> dict[str, Any]:
    """Train as `config` says and write the folder ``config.output``.

    Parameters
    ----------
    config : Config
        What to do.
    resume : bool
        Go on from the last checkpoint in the folder, if there is one.
    overwrite : bool
        Replace an earlier run in the folder.
    console : Console, optional
        Where to report; standard output by default.

    Returns
    -------
    dict
        The content of ``summary.json``.

    Raises
    ------
    InputError
        For data, settings or checkpoints that cannot be used; nothing has been written then.
    """
    console = console or Console()
    keep_freed_memory()
    if config.training.threads is not None:
        torch.set_num_threads(config.training.threads)
    if config.committee is not None:
        from nnpkit.workflow.committee_training import run_committee

        summary = run_committee(config, resume, overwrite, console)
        report_at_end(config, summary, console)
        return summary
    folder = RunFolder(config.output)
    last = folder.require_free(resume, overwrite)
    earlier = None
    if config.start is not None:
        earlier = earlier_checkpoint(config.start) if last is None else read_checkpoint(last)
        config = with_model_of(config, earlier)
    data = load_data(config)
    _require_judge(config, data)
    identity = {"config": config.model_dump(mode="json"), "data": _ordered_sha256(data), "seed": config.seed}
    checkpoint = None if last is None else _matching_checkpoint(last, identity)
    console.print(statistics_table(data.statistics))
    if data.findings:
        console.print(findings_table(data.findings))
    if checkpoint is not None:
        if config.training.threads is None:  # sums depend on it in their last digits
            torch.set_num_threads(checkpoint.state.get("threads") or torch.get_num_threads())
        beginning = Beginning(model_from(checkpoint, str(last)), [f"continued from {last}"])
    elif earlier is not None:
        beginning = begin(config, data, earlier)
    else:
        beginning = Beginning(*make_model(config, data))
    model, report = beginning.model, beginning.report
    schedule = make_schedule(config, data.learnt, data.groups)
    warm = beginning.warm if checkpoint is None else bool(checkpoint.state["progress"].get("warm"))
    epochs, n_updates = planned(config, schedule, warm)
    memory = memory_of(config, model, data)
    notes = [
        *report, *data.notes, *_blocks(config, model), *few_updates(config, n_updates),
        *few_labels(config, data.learnt, count_parameters(model)),
        balance(config, data.learnt, count_parameters(model)),
    ]  # fmt: skip
    announce_memory(console, model, notes, memory)
    splits = prepare(model, data, memory["budget"], console)
    connect(schedule, splits["train"].store)
    update = make_update(config, splits["train"].store, n_updates, data.groups)
    if config.start is not None and (frozen := freeze(update, model, config.start.freeze)):
        console.print(f"  {frozen} of {count_parameters(model)} weights are frozen", highlight=False)
    if (note := beginning.continue_update(update, config.start)) is not None:
        console.print(f"  {note}", highlight=False, soft_wrap=True)
    with folder.claimed():
        if checkpoint is None:
            folder.clear()
            if isinstance(data.baseline, ModelBaseline):
                data.baseline.model.save(folder.path / "baseline.pt")
            folder.write_json("data.json", _data_report(config, data, model, report, memory))
        write_config(config, folder.path / "config.yaml")
        settings = _settings(config, epochs, warm)
        trainer = Trainer(model, update, schedule, splits, settings, folder, identity, console)
        trainer.publish = partial(write_interim_model, trainer, data)
        if checkpoint is not None:
            trainer.restore(checkpoint)
        ended = trainer.fit()
        summary = _finish(config, trainer, data, ended)
    report_at_end(config, summary, console)
    return summary


def _require_judge(config: Config, data: LoadedData) -> None:
    """Refuse to start if no label says which epoch is the best; see `nnpkit.training.trainer.monitored`."""
    monitor, judge = config.training.monitor, "validation" if "validation" in data.splits else "train"
    needed = {"energy_rmse": ["energy"], "force_rmse": ["forces"]}.get(monitor, ["energy", "forces"])
    if not any(f"{name.rstrip('s')}_rmse" in deciding(data.splits[judge]) for name in needed):
        raise InputError(
            f"no {judge} structure has {' or '.join(needed)}", where=f"training.monitor: {monitor}",
            hint="the best epoch is chosen by these labels, and forces that are all zero do not count: give data that "
            "have them, or another monitor",
        )  # fmt: skip


def _settings(config: Config, epochs: int, warm: bool) -> TrainerSettings:
    training, stopping = config.training, config.training.early_stopping
    return TrainerSettings(
        epochs=epochs,
        evaluate_every=training.evaluate_every,
        checkpoint_every=training.checkpoint.every,
        keep=training.checkpoint.keep,
        monitor=training.monitor,
        patience=None if stopping is None else stopping.patience,
        min_delta=0.0 if stopping is None else stopping.min_delta,
        warm=warm,
        time=time_budget(config, warm),
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
        "threads",
    },
}


def _comparable(identity: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint and the run that continues it must have in common, in the order of the YAML."""
    config = {k: v for k, v in identity["config"].items() if k not in _MAY_CHANGE[""]}
    config["training"] = {k: v for k, v in config["training"].items() if k not in _MAY_CHANGE["training"]}
    if config.get("start") is not None:
        config["start"] = {k: v for k, v in config["start"].items() if k != "epochs"}
    return {"seed": identity["seed"], "data": identity["data"], **config}


def _matching_checkpoint(path: Path, identity: Mapping[str, Any]) -> Checkpoint:
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


def _ordered_sha256(data: LoadedData) -> dict[str, str]:
    """Hash of the structures of each split in their order, on which the course of a training depends."""
    return {
        name: hashlib.sha256("\n".join(map(structure_sha256, part)).encode()).hexdigest()
        for name, part in data.splits.items()
    }


def memory_of(config: Config, model: AtomicModel, data: LoadedData) -> dict[str, int]:
    """Bytes: what derivatives and covariance will need, and the budget for derivatives.

    Raises
    ------
    InputError
        If the covariance of the Kalman filter does not fit into the memory.
    """
    structures = [s for part in data.watched.values() for s in part]
    optimizer, free, covariance = config.training.optimizer, available_memory(), 0
    if isinstance(optimizer, Ekf):
        covariance = require_memory(covariance_partition(optimizer, model), free, optimizer.dtype)
        free -= covariance
    given = config.training.memory_budget_gb
    budget = free // 2 if given is None else int(given * 1e9)
    if given is None and model.descriptor.fast() is not model.descriptor:
        budget = min(budget, _BUDGET)
    if isinstance(model.descriptor, DeepDescriptor):
        prepared = moment_bytes(structures, model.cutoff, len(model.elements))
    else:
        prepared = derivative_bytes(structures, model.cutoff, max(model.descriptor.n_features))
        budget = budget if config.training.keeps_derivatives else 0
    return {
        "derivatives": prepared,
        "covariance": covariance,
        "budget": budget,
    }


def _blocks(config: Config, model: AtomicModel) -> list[str]:
    """What became of the partition of the covariance that was asked for, if there is a covariance."""
    optimizer = config.training.optimizer
    return [covariance_partition(optimizer, model).note] if isinstance(optimizer, Ekf) else []


def announce_memory(
    console: Console, model: AtomicModel, report: list[str], memory: Mapping[str, int]
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
    if isinstance(model.descriptor, Acsf):
        console.print(f"Symmetry functions: {model.descriptor.engine()}", highlight=False)
    kept = "all kept" if memory["derivatives"] <= memory["budget"] else "the rest is computed at every use"
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


def _data_report(
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
        "wall": model.spec["wall"],
        "descriptor": {
            "report": [*report, *data.notes],
            "functions": [str(SymmetryFunction(**f)) for f in model.spec.get("functions", ())],
        },
        "memory": dict(memory),
        "rule": data.rule,
        "split": {name: [s.name for s in part] for name, part in data.splits.items()},
    }


def _finish(config: Config, trainer: Trainer, data: LoadedData, ended: str) -> dict[str, Any]:
    """Write ``model.pt`` of the best epoch and ``summary.json``; the summary.

    Here, and nowhere else, the potential sees the test structures.
    """
    state, folder, console = trainer.state, trainer.folder, trainer.console
    last, weights = trainer.interrupted, trainer.best
    errors = state.errors
    if last is not None:
        errors, weights = last
    trainer.model.load_state_dict(weights)
    if isinstance(trainer.model.descriptor, DeepDescriptor):  # its features changed in training
        statistics = data_statistics(trainer.model.descriptor, trainer.model.elements, data.train)
        trainer.model.scaling.set(statistics, "none", 0.0, 1.0)
    outliers = _outliers(trainer)
    summary: dict[str, Any] = {
        **errors,
        "test": test_errors([trainer.model], data),
        "seconds": round(state.seconds, 3),
        "epochs": state.epoch,
        "updates": state.updates,
        "best_epoch": state.best_epoch,
        "exported": "best epoch" if last is None else "last update",
        "untrained": last is None and state.best_epoch == 0,
        "ended": ended,
        "retreats": state.retreats,
        "outliers": outliers,
        "n_parameters": count_parameters(trainer.model),
        "seed": config.seed,
        "versions": versions(),
    }
    summary["overfitting"], overfits = overfitting(config, summary, data.learnt)
    metadata = {
        "data_sha256": data_sha256(data.train),
        "min_distance": data.min_distance,
        "training": {
            **{key: summary[key] for key in (*PARTS, "epochs", "best_epoch") if summary.get(key) is not None},
            "stress": learns_stress(config, data.learnt),
        },
    }
    with_all = [s for s in data.train if set(trainer.model.elements) <= set(s.symbols)]
    baseline = None if data.baseline is None else data.baseline.spec
    model, of_baseline = whole_model(trainer.model, baseline, folder.path / "baseline.pt")
    export_model(model, folder.path / "model.pt", metadata | of_baseline, with_all[0] if with_all else None)
    folder.write_json("summary.json", summary)
    which = f"the best epoch was {state.best_epoch}" if last is None else "the last weights are the best"
    print_groups(summary, data, console)
    lines = [
        f"Ended ({ended}) after {state.epoch} epochs and {state.seconds:.0f} s; {which}: {folder.path / 'model.pt'}"
    ]
    if summary["test"] or not data.rule.get("frames", {}).get("test"):  # a committee is tested as a whole
        lines.append(tested(summary["test"], data.rule.get("tested_elsewhere", 0)))
    warnings = [untrained(config, ended)] if summary["untrained"] else [overfits] if overfits else []
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
