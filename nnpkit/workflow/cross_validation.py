"""`nnpkit train --folds`: cross-validation, one run for each part of the data that is tested on."""

from __future__ import annotations

import signal
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from rich.console import Console

from nnpkit.config.schema import Config
from nnpkit.errors import InputError
from nnpkit.measure.metrics import METRICS
from nnpkit.training.group_errors import table_of_groups
from nnpkit.training.run_folder import RunFolder
from nnpkit.workflow.training_run import run_training

__all__ = ["run_folds"]


def run_folds(
    config: Config,
    folds: int,
    *,
    resume: bool = False,
    overwrite: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Train `folds` times, every structure being tested on once, and write ``folds.json``.

    The runs are in the folders ``fold-0``, ``fold-1`` ... of ``config.output``. Parameters are those of
    `nnpkit.workflow.training_run.run_training`; complete runs are not repeated when `resume` is set.

    Returns
    -------
    dict
        The content of ``folds.json``: ``folds`` (test errors of each), ``mean`` and ``std`` of each error over the
        folds, ``groups`` (the same of each group), and ``ended``.

    Raises
    ------
    InputError
        If the configuration names test data, and as `run_training` does.
    """
    if config.data.test is not None:
        raise InputError(
            "cross-validation divides the structures of data.train", where="data.test", hint="leave it out"
        )
    console = console or Console()
    root, ended, errors = RunFolder(config.output), "", []
    if "test_fraction" in config.data.model_fields_set:
        console.print(
            f"data.test_fraction={config.data.test_fraction:g} is not used: every structure is tested once",
            highlight=False,
        )
    for number in range(folds):
        console.print(f"Fold {number} of {folds}", highlight=False)
        data = config.data.model_copy(update={"folds": folds, "fold": number, "test_fraction": 0.0})
        own = config.model_copy(
            update={"data": data, "output": str(Path(config.output) / f"fold-{number}")}, deep=True
        )
        summary = run_training(own, resume=resume, overwrite=overwrite, console=console)
        ended = summary["ended"]
        if ended in signal.Signals.__members__:
            return {"ended": ended}
        errors.append(summary["test"])
    mean, std = _statistics(errors)
    groups = _of_groups(errors)
    result = {"folds": errors, "mean": mean, "std": std, "groups": groups, "ended": ended}
    root.write_json("folds.json", result)
    for name in ("energy_rmse", "force_rmse"):
        if mean[name] is not None:
            console.print(
                f"{METRICS[name]} over {folds} folds: {mean[name]:.4g} ± {std[name]:.2g}", highlight=False
            )
    table = table_of_groups(
        {"groups": {n: own["mean"] for n, own in groups.items()}}, f"mean of {folds} folds"
    )
    if table is not None:
        console.print(table)
    return result


def _of_groups(errors: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Mean and standard deviation over the folds that have test structures of a group, of each; without groups none."""
    parts: dict[str, list[dict[str, Any]]] = {}
    for fold in errors:
        for name, own in (fold.get("groups") or {}).items():
            parts.setdefault(name, []).append(own)
    result = {}
    for name, own in sorted(parts.items()):
        mean, std = _statistics(own)
        count = {"n_structures": sum(part["n_structures"] for part in own)}
        result[name] = {"folds": len(own), "mean": {**count, **mean}, "std": std}
    return result


def _statistics(errors: list[dict[str, Any]]) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """Mean and standard deviation of every error; None where a fold has no such labels."""
    names = [name for name in METRICS if not name.startswith("n_")]
    values = {name: [e[name] for e in errors] for name in names}
    known = {name: None not in own for name, own in values.items()}
    mean = {name: fmean(own) if known[name] else None for name, own in values.items()}
    several = len(errors) > 1
    return mean, {name: stdev(own) if several and known[name] else None for name, own in values.items()}
