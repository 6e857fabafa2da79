"""Measure training updates and LAMMPS steps on this machine; see README.md beside this file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
WATER = HERE.parent / "examples" / "water"


def nnpkit(*arguments: object) -> None:
    """Run one command as a user would, with one thread so that figures of ranks compare."""
    command = [sys.executable, "-m", "nnpkit", *map(str, arguments)]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def training(folder: Path, optimizer: str, epochs: int) -> dict[str, Any]:
    """Train for a few epochs; seconds per update, evaluation of the errors included."""
    run = folder / optimizer
    nnpkit(
        "train", WATER / "quickstart.yaml", f"output={run}", f"training.epochs={epochs}",
        f"training.optimizer={{kind: {optimizer}}}", "training.threads=1",
    )  # fmt: skip
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    keys = ("n_parameters", "epochs", "updates", "seconds")
    return {key: summary[key] for key in keys} | {
        "seconds_per_update": summary["seconds"] / max(summary["updates"], 1)
    }


def dynamics(
    folder: Path, model: Path, ranks: int, repeat: tuple[int, int, int], steps: int
) -> dict[str, Any]:
    """Run NVE from a shipped box of water, repeated; LAMMPS' own loop time."""
    run = folder / f"nve-{ranks}-{'x'.join(map(str, repeat))}"
    nnpkit(
        "md", model, WATER / "test.xyz.xz", "--ensemble", "nve", "--steps", steps, "--ranks", ranks,
        "--replicate", *repeat, "-o", run,
    )  # fmt: skip
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    return {key: summary[key] for key in ("ranks", "n_atoms", "steps", "seconds", "us_per_atom_step")}


def machine() -> dict[str, Any]:
    """What the figures depend on."""
    import torch

    import nnpkit

    return {
        "time": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "nnpkit": nnpkit.__version__,
    }


def main() -> None:
    """Measure, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    arguments = parser.parse_args()
    results: dict[str, Any] = {"machine": machine(), "training": {}, "lammps": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for optimizer in ("ekf", "adam"):
            results["training"][optimizer] = training(folder, optimizer, arguments.epochs)
        for repeat in ((1, 1, 1), (2, 2, 2)):
            for ranks in arguments.ranks:
                results["lammps"].append(dynamics(folder, folder / "ekf", ranks, repeat, arguments.steps))
    path = HERE / "results" / f"{results['machine']['time'].replace(':', '')}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    for optimizer, row in results["training"].items():
        print(
            f"training, {optimizer:5s} {row['n_parameters']:6d} weights {row['seconds_per_update']:.4f} s/update"
        )
    for row in results["lammps"]:
        print(
            f"LAMMPS, {row['ranks']} ranks {row['n_atoms']:7d} atoms {row['us_per_atom_step']:.1f} us/atom/step"
        )
    print(path)


if __name__ == "__main__":
    main()
