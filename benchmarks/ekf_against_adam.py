"""The Kalman filter against Adam, and trained radial functions against frozen ones, each with the same time.

    NNPKIT_DATA=... python benchmarks/ekf_against_adam.py [Cu Si Li] [--seconds 30 60 120] [--rates 0.002 0.005 0.01]
        [--batches 1 8] [--seeds 1] [--kind cluster_expansion] [--folder runs/optimizers]

Data: NNPKIT_DATA/mlearn (Zuo et al., J. Phys. Chem. A 124, 731 (2020)), their split; a tenth of the training set
chooses the epoch, the test set is looked at once. All trainings have the same model with default settings. The filter
is trained with nothing set but the time, and once more with the labels of four structures in every update. Adam is
told the time, too: its learning rate falls to 10⁻⁵ over it, its prefactors are DeePMD-kit's (Wang et al., Comput. Phys.
Commun. 228, 178 (2018)) with the virial's. Of its first learning rates and sizes of batches all are listed, with the
errors of validation structures by which one of them may be chosen. With frozen radial functions (cluster expansions
alone) the filter has the time, too, and begins with the coefficients that the others begin with. Times are of the
wall: nothing else may run. Trainings that are complete are not repeated. The last line is ``RESULT {json}``.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from typing import Any

from default_settings import corrected
from rich.console import Console

import nnpkit
from nnpkit.config.config_file import config_from_mapping
from nnpkit.workflow.studies import train_once

ERRORS = ("energy_mae", "force_mae")


def adam(rate: float, batch: int) -> dict[str, Any]:
    """Settings of Adam with a first learning rate, all labels of so many structures in every update."""
    prefactors = {"energy": [0.02, 1.0], "force": [1000.0, 1.0], "virial": [0.02, 1.0]}
    optimizer = {"kind": "adam", "learning_rate": rate, "final_learning_rate": 1e-5, "gradient_clip": None}
    schedule = {"kind": "epoch", "forces": "all", "virial": True, "batch_size": batch}
    return {"optimizer": {**optimizer, "prefactors": prefactors}, "schedule": schedule}


def trained(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train once with `settings` into `folder`; the summary."""
    own = config_from_mapping({**settings, "output": str(folder.absolute())})
    done = train_once(own, Console(quiet=True))
    if done["failure"] is not None:
        sys.exit(f"{folder}: {done['failure']}")
    return done


def rows_of(element: str, seed: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Errors of all trainings of one element with one seed, of validation and of test structures."""
    data = Path(os.environ["NNPKIT_DATA"]).resolve() / "mlearn"
    files = {
        part: str(corrected(data / f"{element}_{part}.xyz.xz", options.folder).absolute())
        for part in ("train", "test")
    }
    base = {"data": files, "model": {"kind": options.kind}, "seed": seed}
    folder = options.folder / options.kind / f"{element}-{seed}"
    rows = []
    for seconds in options.seconds:
        time = {"time": f"{seconds:g}s", "threads": 1}
        ways: dict[str, dict[str, Any]] = {"filter": {"training": time}}
        four = {"schedule": {"kind": "epoch", "batch_size": 4}}
        ways["filter, vectors of 4 structures"] = {"training": time | four}
        if options.kind == "cluster_expansion":
            untrained = folder / "untrained"
            trained({**base, "training": {"epochs": 0, "threads": 1}}, untrained)
            start = {"run": str((untrained / "model.pt").absolute()), "freeze": ["descriptor.*"]}
            ways["filter, radial functions frozen"] = {"training": time, "start": start}
        for rate in options.rates:
            for batch in options.batches:
                ways[f"Adam {rate:g}, batches of {batch}"] = {"training": time | adam(rate, batch)}
        for way, settings in ways.items():
            done = trained(
                {**base, **settings}, folder / f"{way.replace(', ', '-').replace(' ', '-')}-{seconds:g}s"
            )
            row = {"system": element, "seed": seed, "way": way, "budget": seconds, "updates": done["updates"]}
            for part in ("validation", "test"):
                row |= {f"{part}_{name}": done[part][name] for name in ERRORS}
            rows.append(row)
            errors = f"{1e3 * row['test_energy_mae']:7.2f} meV/atom {1e3 * row['test_force_mae']:7.1f} meV/Å"
            print(f"{element} {seconds:4g} s {way:32s} {row['updates']:6d} updates {errors}", flush=True)
    return rows


def main() -> None:
    """Train all, print a table and one line RESULT {json}."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("elements", nargs="*", default=["Cu", "Si", "Li"])
    parser.add_argument("--seconds", type=float, nargs="+", default=[30.0, 60.0, 120.0])
    parser.add_argument(
        "--rates", type=float, nargs="+", default=[2e-3, 5e-3, 1e-2], help="of Adam, at first"
    )
    parser.add_argument(
        "--batches", type=int, nargs="+", default=[1, 8], help="structures in an update of Adam"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--kind", default="cluster_expansion", help="family of the model")
    parser.add_argument("--folder", type=Path, default=Path("runs/optimizers"))
    options = parser.parse_args()
    if "NNPKIT_DATA" not in os.environ:
        sys.exit("set NNPKIT_DATA to the folder that holds mlearn/Cu_train.xyz.xz")
    rows = [
        row
        for element in options.elements
        for seed in options.seeds
        for row in rows_of(element, seed, options)
    ]
    machine = {"processor": platform.processor() or platform.machine(), "nnpkit": nnpkit.__version__}
    print("RESULT " + json.dumps({"rows": rows, "machine": machine}))


if __name__ == "__main__":
    main()
