"""Trainings in series: how errors depend on the amount of data, on a setting, on the seed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from nnpkit.config.config_file import load_config
from nnpkit.config.schema import Config
from nnpkit.data.formats.extxyz import write_extxyz
from nnpkit.errors import InputError
from nnpkit.files import atomic_write
from nnpkit.workflow.data_sets import read_splits
from nnpkit.workflow.training_run import run_training

__all__ = ["learning_curve", "sensitivity", "train_once"]


def sensitivity(
    config: str | Path,
    key: str,
    values: Sequence[str],
    output: str | Path,
    *,
    seeds: int = 1,
    overrides: Sequence[str] = (),
    console: Console | None = None,
) -> list[dict[str, Any]]:
    """Train once for every value of a setting and every seed; the learning rate first of all.

    Shao et al., J. Chem. Phys. 155, 204108 (2021), Figs. 2 to 7. Runs that are complete are not repeated. One that
    diverges counts, with its errors unknown: that is a result too.

    Parameters
    ----------
    config : path
        YAML of the training.
    key : str
        Dotted, e.g. ``training.optimizer.learning_rate``.
    values : sequence of str
        As they would be written in the YAML.
    output : path
        Folder of the runs.
    seeds : int
        Trainings of every value, with consecutive seeds from that of the YAML on.
    overrides : sequence of str
        Other settings, ``key=value``.
    console : Console, optional
        Where the trainings report.

    Returns
    -------
    list of dict
        ``value``, ``seed``, ``folder``, ``failure`` (None or the reason) and the entries of ``summary.json``.

    Raises
    ------
    InputError
        For settings that cannot be used.
    """
    first = load_config(config, overrides).seed
    rows = []
    for value in values:
        for seed in range(first, first + seeds):
            folder = Path(output) / f"{key.rpartition('.')[2]}-{value}-seed-{seed}"
            own = load_config(config, [*overrides, f"{key}={value}", f"seed={seed}", f"output={folder}"])
            rows.append({"value": value, "seed": seed, **train_once(own, console)})
    _write(Path(output) / "study.json", {"kind": "sensitivity", "key": key, "rows": rows})
    return rows


def learning_curve(
    config: str | Path,
    fractions: Sequence[float],
    output: str | Path,
    *,
    seeds: int = 1,
    overrides: Sequence[str] = (),
    console: Console | None = None,
) -> list[dict[str, Any]]:
    """Train on growing parts of the training data, with the same validation and test data.

    Tokita and Behler, J. Chem. Phys. 159, 121501 (2023), Fig. 13. Smaller parts are contained in larger ones.

    Parameters and return value are those of `sensitivity`, with ``fraction`` and ``n_train`` for the value.

    Raises
    ------
    InputError
        For fractions that are not between 0 and 1, and for settings that cannot be used.
    """
    if not fractions or not all(0.0 < f <= 1.0 for f in fractions):
        raise InputError(f"fractions {list(fractions)}", expected="numbers above 0 and up to 1")
    base = load_config(config, overrides)
    splits = read_splits(base)
    train = splits["train"]
    if "test" not in splits:
        raise InputError(
            "there is no test set", where="data.test_fraction", hint="a learning curve needs one"
        )
    folder = Path(output).absolute()
    fixed = {name: folder / "data" / f"{name}.xyz" for name in ("validation", "test") if name in splits}
    for part, path in fixed.items():
        write_extxyz(path, splits[part])
    rows = []
    for seed in range(base.seed, base.seed + seeds):
        order = np.random.default_rng([seed, 7]).permutation(len(train))
        for fraction in sorted(fractions):
            some = np.sort(order[: max(1, round(fraction * len(train)))])
            training = f"{len(some)}-seed-{seed}"
            file = folder / "data" / f"train-{training}.xyz"
            write_extxyz(file, [train[i] for i in some])
            own = load_config(config, [*overrides, f"seed={seed}", f"output={folder / training}"])
            own.data = own.data.model_copy(
                update={
                    "train": [str(file)], "validation": None, "validation_fraction": 0.0, "test_fraction": 0.0,
                    "folds": None, "fold": 0, "split": "auto", "group": None, "format": "auto", "units": "auto",
                    "frames": ":", "labels": {}, **{name: [str(path)] for name, path in fixed.items()},
                }
            )  # fmt: skip
            rows.append(
                {"fraction": fraction, "n_train": len(some), "seed": seed, **train_once(own, console)}
            )
    _write(folder / "study.json", {"kind": "learning curve", "rows": rows})
    return rows


def train_once(config: Config, console: Console | None) -> dict[str, Any]:
    """One training, or what is known of it if it is complete: ``folder``, ``failure``, and its summary."""
    summary = Path(config.output) / "summary.json"
    done: Mapping[str, Any] | None = None
    if summary.is_file() and (Path(config.output) / "model.pt").is_file():
        done = json.loads(summary.read_text(encoding="utf-8"))
    failure = None
    if done is None:
        try:
            done = run_training(config, resume=True, console=console)
        except InputError as error:
            if "diverged" not in str(error) and "lost its way" not in str(error):
                raise
            failure, done = str(error), {}
    return {"folder": config.output, "failure": failure, **done}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_write(path) as stream:
        json.dump(content, stream, indent=1, allow_nan=False)
        stream.write("\n")
