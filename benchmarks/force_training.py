"""Ways to learn forces, at equal time and at equal numbers of epochs, on the water clusters in examples/water.

Cooper et al., npj Comput. Mater. 6, 54 (2020), compare energies only, energies of displaced copies (Taylor expansion)
and direct training at equal numbers of epochs. Here all of them, and subsets of the force components, are compared at
equal processor time of one thread, too, evaluations and preparation not counted. Derivatives of features are kept or
streamed. Each method is trained in a process of its own, so that its memory can be told. ::

    python benchmarks/force_training.py --seconds 60 --epochs 60
    python benchmarks/force_training.py --optimizer ekf --seconds 30 --epochs 4

The last line is ``RESULT {json}``: per method force_rmse and energy_rmse (eV/Å, eV/atom; test frames; after the time
and after the epochs), seconds_per_epoch, memory_mb (peak of the process beyond its imports) and, of these, kept_mb of
derivatives.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

WATER = Path(__file__).resolve().parent.parent / "examples" / "water"
SETTINGS = Path(__file__).resolve().parent.parent / "examples" / "reproduce" / "cooper2020" / "training.yaml"
TAYLOR = {"kind": "taylor", "strategy": "random", "multiple": 22, "displacement": 0.008}
METHODS: dict[str, dict[str, Any]] = {
    "energies": {"force_training": "none"},
    "taylor": {"force_training": TAYLOR},
    "subset 10 %": {"force_training": {"kind": "subset", "fraction": 0.1}},
    "subset 10 %, streamed": {
        "force_training": {"kind": "subset", "fraction": 0.1}, "feature_derivatives": "streamed",
    },
    "direct": {"force_training": "direct"},
    "direct, streamed": {"force_training": "direct", "feature_derivatives": "streamed"},
}  # fmt: skip
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "lbfgs": {"optimizer": {"kind": "lbfgs"}, "schedule": {"kind": "full", "steps_per_epoch": 1}},
    "adam": {
        "optimizer": {"kind": "adam", "learning_rate": 2e-3, "gradient_clip": None},
        "schedule": {"kind": "epoch", "forces": "all", "batch_size": 4},
    },
    "ekf": {"optimizer": {"kind": "ekf"}, "schedule": {"kind": "epoch", "forces": "all"}},
}  # fmt: skip


def data_of(frames: int) -> dict[str, Any]:
    """Training and test clusters: evenly spaced ones of the training file, all of the test file."""
    import numpy as np

    from nnpkit.data.dataset import load_dataset

    parts = {
        part: [s for s in load_dataset(str(WATER / f"{part}.xyz.xz")) if s.n_atoms == 18]
        for part in ("train", "test")
    }
    chosen = np.linspace(0, len(parts["train"]) - 1, min(frames, len(parts["train"])))
    return {"train": [parts["train"][int(i)] for i in chosen], "validation": parts["test"]}


def peak() -> float:
    """Largest resident memory of this process, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def work(options: argparse.Namespace) -> dict[str, Any]:
    """Train with one method in this process."""
    import tempfile

    import torch
    import yaml

    from nnpkit.config.config_file import config_from_mapping
    from nnpkit.data.formats.reading import write
    from nnpkit.measure.structure_memory import keep_freed_memory
    from nnpkit.training.trainer import errors_of
    from nnpkit.workflow import assemble
    from nnpkit.workflow.new_model import make_model

    torch.set_num_threads(1)
    keep_freed_memory()
    before = peak()
    values = yaml.safe_load(SETTINGS.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        for part, structures in data_of(options.frames).items():
            values["data"][part] = str(Path(folder) / f"{part}.xyz")
            write(values["data"][part], structures)
        values["training"] |= {**OPTIMIZERS[options.optimizer], **METHODS[options.worker]}
        if options.optimizer != "ekf":  # whose noise has the same meaning
            values["training"]["weights"] = {"energy": 100.0, "force": 1.0}
        config = config_from_mapping({**values, "seed": options.seed})
        data = assemble.load_data(config)
    model, _ = make_model(config, data)
    schedule = assemble.make_schedule(config, data.learnt)
    budget = 4e9 if config.training.keeps_derivatives else 0.0
    splits = assemble.make_splits(model, data.splits, budget, additional=data.additional)
    assemble.connect(schedule, splits["train"].store)
    kept = sum(split.store.kept_bytes for split in splits.values()) / 1e6
    update = assemble.make_update(config, splits["train"].store, options.epochs * schedule.epoch_length(0))
    found: dict[str, Any] = {"frames": len(data.train), "additional": len(data.additional)}
    spent, epoch, longest = 0.0, 0, options.seconds
    streamed = not config.training.keeps_derivatives and not data.additional and "streamed" in options.worker
    while spent < longest or (epoch < options.epochs and not streamed):
        start = time.process_time()
        update.begin_epoch(epoch)
        for labels in schedule.epoch():
            update.apply(labels)
        spent, epoch = spent + time.process_time() - start, epoch + 1
        if epoch == options.epochs:
            found["after_epochs"] = errors(errors_of(splits["validation"]))
        if spent >= longest and "after_seconds" not in found:
            found |= {"epochs_in_time": epoch, "after_seconds": errors(errors_of(splits["validation"]))}
    return {
        **found,
        "seconds_per_epoch": spent / epoch,
        "memory_mb": peak() - before,
        "kept_mb": kept,
    }


def errors(found: dict[str, Any]) -> dict[str, float]:
    """The two that count."""
    return {key: float(found[key]) for key in ("energy_rmse", "force_rmse")}


def main() -> None:
    """Every method in a process of its own, a table, one line RESULT {json}."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="processor time of each training")
    parser.add_argument("--epochs", type=int, default=60, help="after which errors are compared, too")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="lbfgs")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--worker", choices=METHODS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(work(options)))
        return
    from deep_systems import machine

    methods = {}
    for name in options.methods:
        words = ["--seconds", "--epochs", "--frames", "--optimizer", "--seed"]
        own = [str(part) for word in words for part in (word, getattr(options, word[2:]))]
        command = [sys.executable, __file__, *own, "--worker", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"{name}: {(done.stderr.strip() or 'failed').splitlines()[-1]}")
        methods[name] = row = json.loads(done.stdout.splitlines()[-1])
        nothing = {"energy_rmse": float("nan"), "force_rmse": float("nan")}
        timed, counted = row["after_seconds"], row.get("after_epochs", nothing)
        print(
            f"{name:22s} {row['seconds_per_epoch']:8.3f} s/epoch  {row['memory_mb']:6.0f} MB  "
            f"in {options.seconds:g} s ({row['epochs_in_time']} epochs): {1e3 * timed['energy_rmse']:6.2f} meV/atom "
            f"{1e3 * timed['force_rmse']:6.1f} meV/Å  in {options.epochs} epochs: {1e3 * counted['energy_rmse']:6.2f} "
            f"{1e3 * counted['force_rmse']:6.1f}",
            flush=True,
        )
    cost = {name: row["seconds_per_epoch"] for name, row in methods.items()}
    base = cost.get("energies")
    relative = {name: value / base for name, value in cost.items()} if base else {}
    print(
        "RESULT "
        + json.dumps(
            {
                "optimizer": options.optimizer, "seconds": options.seconds, "epochs": options.epochs,
                "methods": methods, "epoch_relative_to_energies": relative, "machine": machine(1),
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
