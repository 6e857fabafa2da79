"""Milliseconds per update of a Behler-Parrinello potential with the global Kalman filter (GEKF).

The data are those of examples/water/quickstart.yaml, the potential has symmetry functions; an update uses one energy
or ten force components, as in Shao et al. (2021), whose potentials took 14 ms per update on 28 cores (two hours for
500 000 updates). The last line is ``RESULT {json}``. ::

    python benchmarks/gekf_update.py [--threads 1] [--updates 400]
"""

from __future__ import annotations

import os

# Threads that wait for work sleep, see `nnpkit.optim.blas.follow_torch`; to be set before torch is imported.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import argparse
import itertools
import json
import statistics
import time
from pathlib import Path

import torch
from deep_systems import machine

from nnpkit.config.config_file import load_config
from nnpkit.workflow import assemble
from nnpkit.workflow.new_model import make_model

QUICKSTART = Path(__file__).resolve().parent.parent / "examples" / "water" / "quickstart.yaml"
MODEL = (
    "model={kind: acsf, descriptor: {functions: auto, cutoff: 6.0, angular_cutoff: 4.0, "
    "cutoff_function: poly2, radial: 6, angular_etas: [0.05]}, network: {hidden: [15, 15]}}"
)
SCHEDULE = "training.schedule={kind: pinn, energy_probability: 0.5, force_labels: 10}"


def main() -> None:
    """Time updates of both kinds and print one line RESULT {json}."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--updates", type=int, default=400)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    config = load_config(
        QUICKSTART,
        [MODEL, "data.split=auto", "data.group=null", SCHEDULE, "training.optimizer.process_noise=0"],
    )
    data = assemble.load_data(config)
    model, _ = make_model(config, data)
    schedule = assemble.make_schedule(config, data.train)
    store = assemble.make_splits(model, {"train": data.train}, 6e9)["train"].store
    update = assemble.make_update(config, store, options.updates)
    everything = itertools.chain.from_iterable(schedule.epoch() for _ in itertools.count())
    times: dict[str, list[float]] = {"energy": [], "forces": []}
    for labels in itertools.islice(everything, options.updates):
        start = time.perf_counter()
        update.apply(labels)
        times["energy" if labels.energy else "forces"].append(1e3 * (time.perf_counter() - start))
    result = {
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "updates": options.updates,
        "ms_energy_update": statistics.median(times["energy"]),
        "ms_force_update": statistics.median(times["forces"]),
        "ms_per_update": statistics.mean(times["energy"] + times["forces"]),
        "published_ms_per_update": 14.4,
        "machine": machine(options.threads),
    }
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
