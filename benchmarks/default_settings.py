"""What a training with nothing but default settings gives on published sets, beside published potentials.

Data: NNPKIT_DATA/mlearn, the sets of bulk Cu, Si and Li of Zuo et al., J. Phys. Chem. A 124, 731 (2020), with their
split. Published are the errors on the test sets of the neural network potentials of the same paper (its weights
evaluated with n2p2).

    NNPKIT_DATA=... python benchmarks/default_settings.py [Cu Si Li] [--epochs 15] [--seed 1] [--folder runs/defaults]
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

PUBLISHED = {
    "Cu": {"energy_rmse": 1.68e-3, "force_rmse": 0.0630},
    "Si": {"energy_rmse": 6.93e-3, "force_rmse": 0.1697},
    "Li": {"energy_rmse": 0.98e-3, "force_rmse": 0.0234},
}


def main() -> None:
    """Train, print one line RESULT {json}."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("elements", nargs="*", default=list(PUBLISHED))
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, default=Path("runs/defaults"))
    options = parser.parse_args()
    if "NNPKIT_DATA" not in os.environ:
        sys.exit("set NNPKIT_DATA to the folder that holds mlearn/Cu_train.xyz.xz")
    data = Path(os.environ["NNPKIT_DATA"]).resolve() / "mlearn"
    result: dict[str, Any] = {"machine": platform.processor() or platform.machine()}
    for element in options.elements:
        config = {
            "seed": options.seed,
            "output": str(options.folder / element),
            "data": {name: str(data / f"{element}_{name}.xyz.xz") for name in ("train", "test")},
            "training": {"epochs": options.epochs, "threads": 1},
        }
        summary = nnpkit.train(config, overwrite=True)
        result[element] = {key: summary["test"][key] for key in ("energy_rmse", "force_rmse", "stress_rmse")}
        result[element] |= {
            key: summary[key] for key in ("seconds", "best_epoch", "n_parameters", "versions")
        }
        result[element]["published"] = PUBLISHED[element]
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
