"""What an epoch of training costs with energies alone and with forces, their feature derivatives kept or streamed.

The data are the clusters of six molecules in examples/water. For each way of learning forces, the time of an epoch
(every structure once) in ms, and relative to energies alone, for Adam (one update per structure), the Kalman filter
(one update per structure) and a pass of L-BFGS over all data (loss and gradient), and the memory of what is prepared.
The last line is ``RESULT {json}``. ::

    python benchmarks/force_cost.py --model chebyshev --structures 60
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import ase.io
import torch
from deep_systems import machine

from nnpkit.config.config_file import config_from_mapping
from nnpkit.data.dataset import load_dataset
from nnpkit.measure.structure_memory import keep_freed_memory
from nnpkit.training.full_batch import FullBatchUpdate
from nnpkit.workflow import assemble
from nnpkit.workflow.new_model import make_model

WATER = Path(__file__).resolve().parent.parent / "examples" / "water" / "train.xyz.xz"
MODELS: dict[str, dict[str, Any]] = {
    "chebyshev": {"kind": "chebyshev", "network": {"hidden": [10, 10]}},
    "acsf": {"descriptor": {"cutoff": 6.0, "angular_cutoff": 4.0}, "network": {"hidden": [10, 10]}},
}
METHODS: dict[str, dict[str, Any]] = {
    "none": {"force_training": "none"},
    "direct, kept": {"force_training": "direct"},
    "direct, streamed": {"force_training": "direct", "feature_derivatives": "streamed"},
    "subset 0.1, kept": {"force_training": {"kind": "subset", "fraction": 0.1}},
    "taylor 22": {"force_training": {"kind": "taylor", "displacement": {"H": 0.01, "O": 0.01}}},
}
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adam": {"optimizer": {"kind": "adam"}, "schedule": {"kind": "epoch", "forces": "all"}},
    "ekf": {"optimizer": {"kind": "ekf"}, "schedule": {"kind": "epoch", "forces": "all"}},
    "lbfgs": {"optimizer": {"kind": "lbfgs", "max_evaluations": 1}, "schedule": {"kind": "full"}},
}


def epoch_ms(config: Any, limit: float) -> tuple[float, float]:
    """Time of an epoch, ms, from as many updates as fit into `limit` s; bytes that the structures take."""
    data = assemble.load_data(config)
    model, _ = make_model(config, data)
    budget = 8e9 if config.training.keeps_derivatives else 0.0
    store = assemble.make_splits(model, {"train": data.train}, int(budget), additional=data.additional)[
        "train"
    ].store
    schedule = assemble.make_schedule(config, data.learnt)
    update = assemble.make_update(config, store, 1000)
    size = sum(
        t.nbytes for frame in store.frames for t in vars(frame).values() if isinstance(t, torch.Tensor)
    )
    updates = list(schedule.epoch())
    if isinstance(update, FullBatchUpdate):
        parts = update._parts(updates[0])
        update._loss(parts)
        began, count = time.perf_counter(), 0
        while time.perf_counter() - began < limit:
            update._loss(parts)
            count += 1
        return 1e3 * (time.perf_counter() - began) / count, size
    update.begin_epoch(0)
    update.apply(updates[0])
    began, done = time.perf_counter(), 0
    for labels in updates[1:]:
        update.apply(labels)
        done += 1
        if time.perf_counter() - began > limit:
            break
    return 1e3 * (time.perf_counter() - began) / done * len(updates), size


def main() -> None:
    """Time every method with every optimizer and print one line RESULT {json}."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=MODELS, default="chebyshev")
    parser.add_argument("--structures", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--folder", type=Path, default=Path())
    options = parser.parse_args()
    torch.set_num_threads(1)
    keep_freed_memory()
    clusters = [s for s in load_dataset(str(WATER)) if not s.pbc.any()][: options.structures]
    file = options.folder / "clusters.extxyz"
    ase.io.write(file, [s.to_atoms() for s in clusters])
    found: dict[str, dict[str, Any]] = {}
    for method, own in METHODS.items():
        found[method] = {}
        for name, optimizer in OPTIMIZERS.items():
            config = config_from_mapping(
                {
                    "data": {
                        "train": str(file), "validation_fraction": 0.0, "test_fraction": 0.0, "suspicious": "ignore",
                    },
                    "model": MODELS[options.model], "training": {**optimizer, **own},
                }
            )  # fmt: skip
            ms, size = epoch_ms(config, options.seconds)
            found[method][name] = {"ms_per_epoch": round(ms, 2)}
            found[method]["prepared_mb"] = round(size / 1e6, 2)
    for own in found.values():
        for name in OPTIMIZERS:
            own[name]["relative"] = round(own[name]["ms_per_epoch"] / found["none"][name]["ms_per_epoch"], 2)
    result = {"model": options.model, "structures": len(clusters), "methods": found, **machine(1)}
    print("RESULT", json.dumps(result))


if __name__ == "__main__":
    main()
