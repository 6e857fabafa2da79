"""Whether rare frames are lost among many others, with every sampling of the groups.

    NNPKIT_DATA=... python benchmarks/rare_groups.py --epochs 8 --seeds 2

Copper of the mlearn set with three of its ten surfaces, drawn anew for every seed, among all bulk frames. The test set
is that of the data and the other surfaces. Errors are of each group, those of the forces in eV/Å over components, those
of the energies in meV/atom. The last line is ``RESULT {json}``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import nnpkit
from nnpkit.data.formats.reading import read, write

RARE, LEARNT = "Surface", 3


def learn(sampling: str, epochs: int, seed: int) -> dict[str, Any]:
    """Errors of the groups of the test structures."""
    data = Path(os.environ["NNPKIT_DATA"], "mlearn")
    known, test = (
        [s.replace(info={"group": s.info["group"]}) for s in read(data / f"Cu_{part}.xyz.xz")]
        for part in ("train", "test")
    )
    rare = [s for s in known if s.info["group"] == RARE]
    order = np.random.default_rng(seed).permutation(len(rare))
    common = [s for s in known if s.info["group"] != RARE]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(folder / "train.extxyz", [*common, *(rare[k] for k in order[:LEARNT])])
        write(folder / "test.extxyz", [*test, *(rare[k] for k in order[LEARNT:])])
        config = {
            "seed": seed, "output": str(folder / "run"),
            "data": {part: str(folder / f"{part}.extxyz") for part in ("train", "test")},
            "training": {"epochs": epochs, "sampling": sampling, "threads": 1},
        }  # fmt: skip
        with (folder / "log").open("w") as log, contextlib.redirect_stdout(log):
            groups: dict[str, Any] = nnpkit.train(config)["test"]["groups"]
    return groups


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    result = {}
    for sampling in ("proportional", "balanced"):
        runs = [learn(sampling, options.epochs, seed) for seed in range(1, options.seeds + 1)]
        result[sampling] = {
            group: {
                "force_rmse": float(np.mean([run[group]["force_rmse"] for run in runs])),
                "energy_rmse": 1e3 * float(np.mean([run[group]["energy_rmse"] for run in runs])),
            }
            for group in runs[0]
        }
        for group, errors in result[sampling].items():
            print(
                f"{sampling:13s} {group:10s} {errors['force_rmse']:.4f} eV/Å {errors['energy_rmse']:.2f} meV/atom"
            )
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
