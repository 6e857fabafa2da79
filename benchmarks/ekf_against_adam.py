"""The Kalman filter against Adam: errors on the mlearn copper test set after each has had its time.

Data: NNPKIT_DATA/mlearn (Zuo et al., J. Phys. Chem. A 124, 731 (2020)), their split of 262 training and 31 test
structures. The published neural network potential reaches 1.68 meV/atom and 0.063 eV/Å on the test set.

    NNPKIT_DATA=... python benchmarks/ekf_against_adam.py [--threads 1] [--seed 1] [--folder runs/copper]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

import nnpkit

PUBLISHED = {"energy_rmse": 1.68e-3, "force_rmse": 0.063}
DESCRIPTOR = {
    "cutoff": 6.0, "angular_cutoff": 5.0, "cutoff_function": "poly2", "radial": 8, "angular_etas": [0.0, 0.05, 0.15],
}  # fmt: skip
TRAINING: dict[str, dict[str, Any]] = {
    "ekf": {"epochs": 30, "schedule": {"kind": "epoch", "forces": 60}, "optimizer": {"kind": "ekf"}},
    "adam": {
        "epochs": 50,
        "evaluate_every": 5,
        "schedule": {"kind": "epoch", "forces": "all"},
        "weights": {"energy": 100.0, "force": 1.0},
        "optimizer": {
            "kind": "adam", "learning_rate": 2e-3, "decay_factor": 0.92, "decay_steps": 262, "gradient_clip": None,
        },
    },
}  # fmt: skip


def settings(kind: str, data: Path, folder: Path, seed: int, threads: int) -> dict[str, Any]:
    """Configuration of one of the two trainings; everything but the optimizer and its schedule is shared."""
    return {
        "seed": seed,
        "output": str(folder / kind),
        "data": {"train": str(data / "Cu_train.xyz.xz"), "test": str(data / "Cu_test.xyz.xz")},
        "model": {"descriptor": DESCRIPTOR, "network": {"hidden": [24, 24]}},
        "training": {**TRAINING[kind], "threads": threads, "checkpoint": {"every": 10}},
    }


def main() -> None:
    """Train both, print a table and one line RESULT {json}."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("runs/copper"))
    options = parser.parse_args()
    if "NNPKIT_DATA" not in os.environ:
        sys.exit("set NNPKIT_DATA to the folder that holds mlearn/Cu_train.xyz.xz")
    data = Path(os.environ["NNPKIT_DATA"]).resolve() / "mlearn"
    result: dict[str, Any] = {"published": PUBLISHED}
    for kind in TRAINING:
        config = settings(kind, data, options.folder, options.seed, options.threads)
        summary = nnpkit.train(config, overwrite=True)
        result[kind] = {key: summary["test"][key] for key in ("energy_rmse", "force_rmse", "stress_rmse")}
        result[kind] |= {key: summary[key] for key in ("seconds", "epochs", "best_epoch", "n_parameters")}
    result["machine"] = {"processor": platform.processor() or platform.machine(), "threads": options.threads}
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
