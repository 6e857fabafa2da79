"""Errors of a Chebyshev potential trained by L-BFGS, the combination of ænet, on oxides and on water clusters.

`tio2` are the 900 and 100 structures of the reference run of ænet-PyTorch, whose errors are published; they are read
from the folder `NNPKIT_DATA`. `water` are the molecules and clusters among the data in examples/water, whole
trajectories being the test set. A training goes on from where an earlier call left it. The last line is
``RESULT {json}``. ::

    python benchmarks/chebyshev_lbfgs.py --system tio2 --minutes 8 --folder FOLDER
    python benchmarks/chebyshev_lbfgs.py --system water --minutes 4 --folder FOLDER
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import ase.io
from deep_systems import machine

from nnpkit.config.config_file import config_from_mapping
from nnpkit.data.dataset import load_dataset
from nnpkit.errors import InputError
from nnpkit.workflow.training_run import run_training

WATER = Path(__file__).resolve().parent.parent / "examples" / "water"
PUBLISHED = {
    "source": "aenet-PyTorch, example/02-train, AdamW, 9900 epochs, 5-5 networks",
    "train": {"energy_rmse": 4.92e-3, "force_rmse": 0.198},
    "test": {"energy_rmse": 7.74e-3, "force_rmse": 0.224},
}
SETTINGS: dict[str, dict[str, Any]] = {
    "tio2": {
        "model": {"kind": "chebyshev", "elements": ["Ti", "O"], "network": {"hidden": [10, 10]}},
        "weights": {"energy": 30.0, "force": 1.0},
        "force_training": "direct",
    },
    "water": {
        "model": {"kind": "chebyshev", "elements": ["O", "H"], "network": {"hidden": [10, 10]}},
        "weights": {"energy": 30.0, "force": 1.0},
        "force_training": "direct",
    },
}


def data_of(system: str, folder: Path) -> dict[str, str]:
    """Files with training and test structures."""
    if system == "tio2":
        root = os.environ.get("NNPKIT_DATA")
        if not root:
            raise InputError(
                "the oxide is not part of the repository", where="NNPKIT_DATA", hint="set its folder"
            )
        return {name: str(Path(root) / "TiO2_aenet" / f"{name}.xyz.xz") for name in ("train", "test")}
    files = {}
    for name in ("train", "test"):
        clusters = [s for s in load_dataset(str(WATER / f"{name}.xyz.xz")) if not s.pbc.any()]
        files[name] = str(folder / f"{name}.extxyz")
        ase.io.write(files[name], [s.to_atoms() for s in clusters])
    return files


def main() -> None:
    """Train for some minutes and print one line RESULT {json}."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--system", choices=SETTINGS, default="water")
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--folder", type=Path, required=True, help="where runs are kept")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    own = SETTINGS[options.system]
    config = config_from_mapping(
        {
            "seed": options.seed, "output": str(options.folder / options.system),
            "data": {
                **data_of(options.system, options.folder), "validation_fraction": 0.0, "suspicious": "ignore",
            },
            "model": own["model"],
            "training": {
                "epochs": 10000, "optimizer": {"kind": "lbfgs", "history": 50}, "threads": 1, "evaluate_every": 2,
                "force_training": own["force_training"], "weights": own["weights"],
                "checkpoint": {"every": 5, "keep": 1},
            },
        }
    )  # fmt: skip
    threading.Timer(60.0 * options.minutes, os.kill, (os.getpid(), signal.SIGINT)).start()
    began = time.process_time()
    summary = run_training(config, resume=True)
    curve = (options.folder / options.system / "lcurve.txt").read_text(encoding="utf-8").split("\n")[2:-1]
    result = {
        "system": options.system, "n_parameters": summary["n_parameters"], "iterations": summary["updates"],
        "train": summary["train"], "test": summary["test"], "best_epoch": summary["best_epoch"],
        "seconds": summary["seconds"], "processor_seconds_of_this_call": round(time.process_time() - began, 1),
        "evaluations": len(curve), "published": PUBLISHED if options.system == "tio2" else None, **machine(1),
    }  # fmt: skip
    print("RESULT", json.dumps(result))


if __name__ == "__main__":
    main()
