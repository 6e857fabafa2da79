#!/usr/bin/env python3
"""Four generations of potentials where charge moves far: ``python run.py [--quick]``.

Each system is labelled at GFN1-xTB level (systems.py), and learnt without charges (second generation), with charges of
the surroundings (third), with charges that equilibrate over the whole structure (fourth), and with charges that nobody
labelled (latent). What is there is not made again. The last line is ``RESULT {json}``.
"""

from __future__ import annotations

import argparse
import io
import json
import warnings
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
from systems import SYSTEMS, labelled

import nnpkit
from nnpkit.data.formats.reading import write

GENERATIONS = ("second", "third", "fourth", "latent")
ERRORS = ("charge_rmse", "energy_rmse", "force_rmse")
SMALL = {"gold_on_oxide": 0.4, "salt": 0.8}  # fewer structures of what costs more


def settings(folder: Path, data: Path, generation: str, passes: int, seed: int) -> dict[str, Any]:
    """Configuration of a training."""
    model: dict[str, Any] = {
        "kind": "chebyshev", "network": {"hidden": [12]}, "wall": "off",
        "descriptor": {"radial_order": 10, "radial_cutoff": 4.2, "angular_order": 3, "angular_cutoff": 3.2},
    }  # fmt: skip
    if generation != "second":
        model["charges"] = {"generation": generation, "network": {"hidden": [10]}}
        if generation != "latent":
            model["charges"]["passes"] = passes
    return {
        "seed": seed, "output": str(folder), "model": model,
        "data": {"train": [str(data)], "validation_fraction": 0.1, "test_fraction": 0.2, "suspicious": "ignore"},
        "training": {"epochs": passes},
    }  # fmt: skip


def errors(folder: Path, data: Path, generation: str, passes: int, seed: int) -> dict[str, float | None]:
    """Errors on the test structures of a training, which is made if it is not there."""
    if not (folder / "summary.json").exists():
        config = settings(folder, data, generation, passes, seed)
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            nnpkit.train(config, overwrite=True)
    test = json.loads((folder / "summary.json").read_text())["test"]
    return {name: test.get(name) for name in ERRORS}


def table(result: dict[str, dict[str, dict[str, float | None]]]) -> str:
    """The result as lines of text."""
    lines = [
        f"{'system':14} {'generation':10} {'charges, e':>11} {'energy, meV/atom':>17} {'forces, eV/Å':>13}"
    ]
    for system, of_system in result.items():
        for generation, found in of_system.items():
            charge, energy, force = (found[name] for name in ERRORS)
            charges = "-" if charge is None else f"{charge:.4f}"
            lines.append(
                f"{system:14} {generation:10} {charges:>11} {1e3 * (energy or 0.0):17.2f} {force or 0.0:13.3f}"
            )
    return "\n".join(lines)


def main() -> None:
    """Label, train, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--quick", action="store_true", help="silver and carbon alone, fewer structures and passes"
    )
    parser.add_argument("--systems", nargs="+", choices=list(SYSTEMS), help="some of the systems")
    parser.add_argument(
        "--seeds", type=int, default=1, help="trainings of each, with other seeds; means are shown"
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/charges"), help="where everything goes")
    options = parser.parse_args()
    n, passes = (20, 8) if options.quick else (50, 25)
    folder = options.folder / ("quick" if options.quick else "full")
    folder.mkdir(parents=True, exist_ok=True)
    result: dict[str, dict[str, dict[str, float | None]]] = {}
    for system in options.systems or list(SYSTEMS)[: 2 if options.quick else None]:
        data = folder / f"{system}.xyz"
        if not data.exists():
            write(data, labelled(system, max(8, round(n * SMALL.get(system, 1.0)))))
        result[system] = {}
        for generation in GENERATIONS:
            found = [
                errors(folder / f"{system}-{generation}-{seed}", data, generation, passes, seed)
                for seed in range(1, options.seeds + 1)
            ]
            result[system][generation] = {
                name: None if found[0][name] is None else float(np.mean([one[name] for one in found]))  # type: ignore[arg-type]
                for name in ERRORS
            }
            if generation == "latent":  # they are no charges that labels could be compared with
                result[system][generation]["charge_rmse"] = None
            print(table({system: {generation: result[system][generation]}}).splitlines()[-1], flush=True)
    print(table(result))
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
