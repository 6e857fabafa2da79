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
        folds, and ``ended``.

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
    for number in range(folds):
        console.print(f"Fold {number} of {folds}", highlight=False)
        data = config.data.model_copy(update={"folds": folds, "fold": number})
        own = config.model_copy(
            update={"data": data, "output": str(Path(config.output) / f"fold-{number}")}, deep=True
        )
        summary = run_training(own, resume=resume, overwrite=overwrite, console=console)
        ended = summary["ended"]
        if ended in signal.Signals.__members__:
            return {"ended": ended}
        errors.append(summary["test"])
    mean, std = _statistics(errors)
    result = {"folds": errors, "mean": mean, "std": std, "ended": ended}
    root.write_json("folds.json", result)
    for name in ("energy_rmse", "force_rmse"):
        if mean[name] is not None:
            console.print(
                f"{METRICS[name]} over {folds} folds: {mean[name]:.4g} ± {std[name]:.2g}", highlight=False
            )
    return result


def _statistics(errors: list[dict[str, Any]]) -> tuple[dict[str, float | None], dict[str, float | None]]:
    """Mean and standard deviation of every error; None where a fold has no such labels."""
    names = [name for name in METRICS if not name.startswith("n_")]
    values = {name: [e[name] for e in errors] for name in names}
    known = {name: None not in own for name, own in values.items()}
    mean = {name: fmean(own) if known[name] else None for name, own in values.items()}
    return mean, {name: stdev(own) if known[name] else None for name, own in values.items()}
