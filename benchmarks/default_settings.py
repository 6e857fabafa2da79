"""What a training with nothing but default settings gives on published sets, beside published potentials.

Data: NNPKIT_DATA/mlearn, the sets of bulk Cu, Si and Li of Zuo et al., J. Phys. Chem. A 124, 731 (2020). Their test
sets are looked at once, when a training has ended; the validation set that chooses the best epoch is a tenth of their
training sets. Published are the errors on the same test sets of the neural network potentials of the same paper (its
weights evaluated with n2p2).

    NNPKIT_DATA=... python benchmarks/default_settings.py [Cu Si Li] [--kind acsf] [--epochs 15] [--seed 1] [--seeds 3]
        [--folder runs/defaults]

Every training is one of --seeds, which differ in the first weights, the order of the data and the validation set. The
last line is ``RESULT {json}``: per element mean and standard deviation over the seeds, and every training.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import nnpkit
from nnpkit.data.formats.reading import write

PUBLISHED = {
    "Cu": {"energy_rmse": 1.68e-3, "force_rmse": 0.0630},
    "Si": {"energy_rmse": 6.93e-3, "force_rmse": 0.1697},
    "Li": {"energy_rmse": 0.98e-3, "force_rmse": 0.0234},
}
ERRORS = ("energy_rmse", "force_rmse", "stress_rmse", "energy_mae", "force_mae")
BEST = {  # mean absolute errors of GAP and MTP in the same paper, the smaller of each, meV/atom and meV/Å
    "Cu": (0.41, 10), "Si": (2.21, 60), "Li": (0.49, 10),
}  # fmt: skip


def corrected(path: Path, folder: Path) -> Path:
    """The file with yz and xz of the stress swapped where the published silicon data have them so, all but Elastic."""
    if not path.name.startswith("Si"):
        return path
    swapped = []
    for frame in nnpkit.read(path):
        stress = frame.stress
        if stress is not None and frame.info.get("group") != "Elastic":
            stress = stress.copy()
            stress[[0, 2], [2, 0]], stress[[1, 2], [2, 1]] = stress[1, 2], stress[0, 2]
        swapped.append(frame.replace(stress=stress))
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / path.name.replace(".xyz.xz", ".extxyz")
    write(target, swapped)
    return target


def learn(
    element: str, data: Path, folder: Path, kind: str | None, epochs: int | None, seed: int
) -> dict[str, Any]:
    """One training: errors of its three sets, time, best epoch."""
    config = {
        "seed": seed,
        "output": str(folder / f"{element}-seed-{seed}"),
        "data": {
            name: str(corrected(data / f"{element}_{name}.xyz.xz", folder)) for name in ("train", "test")
        },
        "training": {"threads": 1} | ({} if epochs is None else {"epochs": epochs}),
    } | ({} if kind is None else {"model": {"kind": kind}})
    summary = nnpkit.train(config, overwrite=True)
    found = {part: {key: summary[part][key] for key in ERRORS} for part in ("train", "validation", "test")}
    names = ("seed", "seconds", "best_epoch", "n_parameters", "overfitting", "versions")
    return found | {key: summary[key] for key in names}


def main() -> None:
    """Train, print a line for every element and RESULT {json}."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("elements", nargs="*", default=list(PUBLISHED))
    parser.add_argument("--kind", help="of the model; the default family without it")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seed", type=int, default=1, help="the first one")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of every element")
    parser.add_argument("--folder", type=Path, default=Path("runs/defaults"))
    options = parser.parse_args()
    if "NNPKIT_DATA" not in os.environ:
        sys.exit("set NNPKIT_DATA to the folder that holds mlearn/Cu_train.xyz.xz")
    data = Path(os.environ["NNPKIT_DATA"]).resolve() / "mlearn"
    result: dict[str, Any] = {"machine": platform.processor() or platform.machine()}
    for element in options.elements:
        seeds = range(options.seed, options.seed + options.seeds)
        runs = [learn(element, data, options.folder, options.kind, options.epochs, seed) for seed in seeds]
        values = {key: [run["test"][key] for run in runs] for key in ERRORS}
        mean = {key: fmean(own) for key, own in values.items()}
        spread = {key: stdev(own) if len(own) > 1 else None for key, own in values.items()}
        result[element] = {"mean": mean, "std": spread, "published": PUBLISHED[element], "runs": runs}
        e, f, mae_e, mae_f = (
            f"{1e3 * mean[key]:.3g}" + ("" if spread[key] is None else f" ± {1e3 * spread[key]:.2g}")
            for key in ERRORS
            if not key.startswith("stress")
        )
        known = PUBLISHED[element]
        print(
            f"{element}, test set, {len(runs)} seed(s): {e} meV/atom, {f} meV/Å; published "
            f"{1e3 * known['energy_rmse']:.3g} and {1e3 * known['force_rmse']:.3g}; MAE {mae_e} and {mae_f}, of the "
            f"better of GAP and MTP {BEST[element][0]:.3g} and {BEST[element][1]:.3g}"
        )
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
