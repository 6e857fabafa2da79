"""Batches for the Kalman filter against single structures, at equal processor time.

    python benchmarks/batches.py --set water --seconds 30 --seeds 3
    python benchmarks/batches.py --set Cu --seconds 40 --seeds 3

``single`` learns from one structure at a time, ``joint`` from the labels of some as one vector of observations, and
``mean`` from their averages (`reduction: batch_mean`, FEKF), whose step is the number of structures to the power behind
it. The water is that of ``examples/water`` with symmetry functions; Cu, Si and Li are those of mlearn (NNPKIT_DATA)
with a cluster expansion, everything as it is by default. All have so many seconds of processor time on one thread,
evaluations included, and turns are taken, so that the machine is the same for all. Printed are errors of the test set
at the end, and when the geometric mean of energy and force error of the validation set was first as low as that of
``single`` with the same seed at half of the time. The last line is ``RESULT {json}``.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import math
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import yaml
from rich.console import Console

from nnpkit.config.schema import Config
from nnpkit.training.trainer import Trainer
from nnpkit.workflow.training_run import run_training

WATER = Path(__file__).resolve().parents[1] / "examples" / "water"
CASES: dict[str, dict[str, Any]] = {
    "single": {},
    "joint 4": {"schedule": {"batch_size": 4}},
    "mean 4, 0.5": {"schedule": {"batch_size": 4}, "optimizer": {"reduction": "batch_mean"}},
    "mean 4, 0": {
        "schedule": {"batch_size": 4},
        "optimizer": {"reduction": "batch_mean", "batch_exponent": 0.0},
    },
    "mean 16, 0.5": {"schedule": {"batch_size": 16}, "optimizer": {"reduction": "batch_mean"}},
}


def settings_of(name: str) -> dict[str, Any]:
    """Data and model of a set, as the YAML has them."""
    if name == "water":
        config = yaml.safe_load((WATER / "quickstart.yaml").read_text(encoding="utf-8"))
        data = config["data"]
        for part in ("train", "test"):
            if part in data:
                data[part] = str(WATER / Path(data[part]).name)
        return {"data": data, "model": {"kind": "acsf"}}
    folder = Path(os.environ["NNPKIT_DATA"]) / "mlearn"
    data = {part: str(folder / f"{name}_{part}.xyz.xz") for part in ("train", "test")}
    return {"data": data, "model": {"kind": "cluster_expansion"}}


def learn(settings: dict[str, Any], case: str, seconds: float, seed: int) -> dict[str, Any]:
    """Errors of the test set, and (seconds, error) of the validation set."""
    training = {"time": f"{seconds:g}s", "threads": 1, "prefetch": False, **CASES[case]}
    with tempfile.TemporaryDirectory() as folder:
        config = Config.model_validate({
            **settings, "seed": seed, "output": f"{folder}/run", "training": training,
        })  # fmt: skip
        with contextlib.redirect_stderr(io.StringIO()):
            summary = run_training(config, console=Console(file=io.StringIO()))
        lines = (Path(folder) / "run/metrics.jsonl").read_text(encoding="utf-8").splitlines()
    curve = []
    for line in map(json.loads, lines):
        errors = line.get("validation") or line["train"]
        curve.append((line["seconds"], math.sqrt(errors["energy_rmse"] * errors["force_rmse"])))
    test = summary["test"]
    return {
        "energy": test["energy_rmse"], "force": test["force_rmse"], "updates": summary["updates"], "curve": curve,
    }  # fmt: skip


def first_below(curve: list[tuple[float, float]], level: float) -> float:
    """Seconds until the error is no larger than `level`; infinite if never."""
    return next((seconds for seconds, error in curve if error <= level), math.inf)


def main() -> None:
    """Train, and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", choices=["water", "Cu", "Si", "Li"], default="water")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--cases", nargs="+", choices=list(CASES), default=list(CASES))
    options = parser.parse_args()
    torch.set_num_threads(1)
    Trainer._time = lambda self: time.process_time()  # type: ignore[method-assign]
    settings = settings_of(options.set)
    found: dict[str, list[dict[str, Any]]] = {case: [] for case in options.cases}
    for seed in range(1, options.seeds + 1):
        for case in options.cases:
            found[case].append(learn(settings, case, options.seconds, seed))
            run = found[case][-1]
            print(
                f"{case:14s} seed {seed}: {run['updates']:6d} updates, test {1e3 * run['energy']:7.2f} meV/atom, "
                f"{1e3 * run['force']:7.1f} meV/Å",
                flush=True,
            )
    half = [min(e for s, e in run["curve"] if s <= options.seconds / 2) for run in found[options.cases[0]]]
    table = {}
    for case, runs in found.items():
        times = [first_below(run["curve"], level) for run, level in zip(runs, half, strict=True)]
        table[case] = {
            "energy_mev": [round(1e3 * run["energy"], 3) for run in runs],
            "force_mev": [round(1e3 * run["force"], 2) for run in runs],
            "updates": [run["updates"] for run in runs],
            "seconds_to_half": [round(seconds, 1) if math.isfinite(seconds) else None for seconds in times],
        }
        energy, force = (statistics.median(table[case][key]) for key in ("energy_mev", "force_mev"))
        print(f"{case:14s} {energy:8.2f} meV/atom {force:8.1f} meV/Å, at {table[case]['seconds_to_half']} s")
    load = os.getloadavg()[0]
    result = {"set": options.set, "seconds": options.seconds, "load": round(load, 1), "cases": table}
    print("RESULT", json.dumps(result))


if __name__ == "__main__":
    main()
