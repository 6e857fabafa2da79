#!/usr/bin/env python3
"""Four generations of potentials where charge moves far: ``python run.py [--quick]``.

Each system is labelled at GFN1-xTB level (systems.py), and learnt without charges (second generation), with charges of
the surroundings (third), with charges that equilibrate over the whole structure (fourth), and with charges that nobody
labelled (latent). What is there is not made again, so that a run that was ended goes on. The table and a figure
(charges.png) are of what is complete; ``--so-far`` shows that and begins nothing. The last line is ``RESULT {json}``.
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


def errors(
    folder: Path, data: Path, generation: str, passes: int, seed: int, so_far: bool = False
) -> dict[str, float | None] | None:
    """Errors on the test structures of a training, which is made if it is not there, or else None."""
    if not (folder / "summary.json").exists():
        if so_far:
            return None
        config = settings(folder, data, generation, passes, seed)
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            nnpkit.train(config, overwrite=True)
    test = json.loads((folder / "summary.json").read_text())["test"]
    return {name: test.get(name) for name in ERRORS}


def figure(every: dict[str, dict[str, list[dict[str, float | None]]]], path: Path) -> None:
    """Draw the errors of all trainings (system, generation, seeds): a bar for their mean, a point for each."""
    import matplotlib.pyplot as plt

    scales = {
        "charge_rmse": (1.0, "charges, e"),
        "energy_rmse": (1e3, "energies, meV/atom"),
        "force_rmse": (1.0, "forces, eV/Å"),
    }
    drawn, axes = plt.subplots(1, 3, figsize=(11, 3.2), layout="constrained")
    for axis, (name, (scale, label)) in zip(axes, scales.items(), strict=True):
        for column, generation in enumerate(GENERATIONS):
            for row, of_system in enumerate(every.values()):
                found = [
                    scale * value for one in of_system.get(generation, []) if (value := one[name]) is not None
                ]
                if not found or (name == "charge_rmse" and generation == "latent"):
                    continue
                place = row + 0.2 * (column - 1.5)
                axis.bar(
                    place, np.mean(found), 0.18, color=f"C{column}", label=generation if row == 0 else None
                )
                axis.plot([place] * len(found), found, "k.", markersize=3)
        axis.set_yscale("log")
        axis.set_title(label, fontsize=10)
        axis.set_xticks(range(len(every)), [name.replace("_", " ") for name in every], fontsize=8)
    axes[1].legend(fontsize=8)
    drawn.savefig(path, dpi=150)


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
    parser.add_argument("--so-far", action="store_true", help="show what is complete, train nothing")
    options = parser.parse_args()
    n, passes = (20, 8) if options.quick else (50, 25)
    folder = options.folder / ("quick" if options.quick else "full")
    folder.mkdir(parents=True, exist_ok=True)
    result: dict[str, dict[str, dict[str, float | None]]] = {}
    every: dict[str, dict[str, list[dict[str, float | None]]]] = {}
    for system in options.systems or list(SYSTEMS)[: 2 if options.quick else None]:
        data = folder / f"{system}.xyz"
        if not data.exists() and not options.so_far:
            write(data, labelled(system, max(8, round(n * SMALL.get(system, 1.0)))))
        result[system] = {}
        for generation in GENERATIONS:
            trained = (
                errors(
                    folder / f"{system}-{generation}-{seed}", data, generation, passes, seed, options.so_far
                )
                for seed in range(1, options.seeds + 1)
            )
            found = [one for one in trained if one is not None]
            if not found:
                continue
            every.setdefault(system, {})[generation] = found
            result[system][generation] = {
                name: None if found[0][name] is None else float(np.mean([one[name] for one in found]))  # type: ignore[arg-type]
                for name in ERRORS
            }
            if generation == "latent":  # they are no charges that labels could be compared with
                result[system][generation]["charge_rmse"] = None
            print(table({system: {generation: result[system][generation]}}).splitlines()[-1], flush=True)
    figure(every, folder / "charges.png")
    print(table(result))
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
