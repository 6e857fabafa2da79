"""How long the validation report of a run with a thousand frames takes.

A water potential is trained for one epoch on forty frames of the example, so that it exists; then its run is told of a
thousand, the frames of the example again and again with small random displacements, and the report is written. They
keep their labels: the errors mean nothing, the time does.

    python benchmarks/report_time.py [--frames 1000] [--folder report_time]

The last line is ``RESULT {json}``: ``seconds`` of the report, ``frames``, ``atoms``, ``mebibytes`` of the page, and
``valid``, whether its JSON fits its schema.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np

from nnpkit.analysis.report.report_schema import ReportData
from nnpkit.config.config_file import config_from_mapping, load_config, write_config
from nnpkit.data.formats.extxyz import write_extxyz
from nnpkit.data.formats.reading import read
from nnpkit.workflow.run_report import report_of_run
from nnpkit.workflow.training_run import run_training

WATER = Path(__file__).parents[1] / "examples" / "water" / "train.xyz.xz"


def make_data(path: Path, frames: int) -> int:
    """Write `frames` frames and return the number of their atoms."""
    random, known = np.random.default_rng(1), read(WATER)
    chosen = []
    for n in range(frames):
        frame = known[n % len(known)]
        shift = random.normal(scale=0.002, size=(frame.n_atoms, 3)) * (n >= len(known))
        chosen.append(frame.replace(positions=frame.positions + shift))
    write_extxyz(path, chosen)
    return sum(frame.n_atoms for frame in chosen)


def main() -> None:
    """Train a little, write the report, print how long that took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--folder", type=Path, default=Path("report_time"))
    options = parser.parse_args()
    atoms = make_data(options.folder / "train.xyz", options.frames)
    run = options.folder / "run"
    settings = {
        "output": str(run),
        "data": {"train": str((options.folder / "train.xyz").absolute()), "suspicious": "ignore", "frames": ":40"},
        "model": {"descriptor": {"cutoff": 6.0, "angular_cutoff": 4.0, "radial": 6}, "network": {"hidden": [15, 15]}},
        "training": {
            "epochs": 1, "threads": 1, "memory_budget_gb": 2.0,
            "schedule": {"kind": "pinn", "steps_per_epoch": 40},
        },
    }  # fmt: skip
    if not (run / "summary.json").exists():
        run_training(config_from_mapping(settings), overwrite=True)
    config = load_config(run / "config.yaml")
    config.data.frames = ":"
    write_config(config, run / "config.yaml")
    start = time.perf_counter()
    page, _ = report_of_run(run)
    seconds = time.perf_counter() - start
    ReportData.model_validate_json(page.with_suffix(".json").read_text(encoding="utf-8"))
    result = {
        "seconds": round(seconds, 2), "frames": options.frames, "atoms": atoms,
        "mebibytes": round(page.stat().st_size / 2**20, 2), "valid": True,
    }  # fmt: skip
    print("RESULT", json.dumps(result))


if __name__ == "__main__":
    main()
