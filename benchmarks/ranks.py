"""One training on several processes: how much faster, how different, and how the covariance is shared.

    python benchmarks/ranks.py --ranks 2 --case dp|dp-small-blocks|acsf

``dp`` is bound by the filter: the network of Hu et al. for 192 atoms of water, blocks of 5120 weights, updates with 18
force components. ``dp-small-blocks`` is the same with blocks of 1024 weights, so that nearly all of an update are the
gradients. ``acsf`` is an update that is short already: symmetry functions and small networks for 100 atoms of copper,
100 force components. Each number of processes makes the same updates; the first three are not timed. The last line is
``RESULT {"speedup": ..., "difference": ..., "memory_ratio": ...}``: time of one process over that of several, the
largest difference of a weight over the largest weight, bytes of the covariance of the largest share over all of it.
``machine`` is what the machine allows: by how much so many processes that have nothing to do with one another make more
updates in a second than one. Run it on a quiet machine: processes that wait for one another are as slow as the slowest.
``processor_speedup`` compares the processor time of an update, of the rank that needs most of it, and depends less on
what else the machine does.
"""

from __future__ import annotations

import os

os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import argparse
import itertools
import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from deep_systems import MODEL, synthetic_system
from rich.console import Console
from scale import make_frames

from nnpkit.config.schema import Config
from nnpkit.data.formats.reading import write
from nnpkit.parallel import start_ranks
from nnpkit.workflow.assemble import connect, load_data, make_schedule, make_update
from nnpkit.workflow.new_model import make_model
from nnpkit.workflow.run_steps import memory_of, prepare

_NOT_TIMED = 3
_LONGEST = 600.0  # seconds of a run


def _deep_potential(block_size: int) -> dict[str, Any]:
    return {
        "model": MODEL,
        "training": {
            "schedule": {"kind": "epoch", "batch_size": 1, "energy": False, "forces": 18},
            "optimizer": {"kind": "ekf", "partition": "split", "block_size": block_size},
        },
    }


CASES: dict[str, dict[str, Any]] = {
    "dp": _deep_potential(5120),
    "dp-small-blocks": _deep_potential(1024),
    "acsf": {
        "model": {
            "descriptor": {"cutoff": 6.0, "angular_cutoff": 5.0},
            "network": {"hidden": [20, 20]},
        },
        "training": {
            "schedule": {"kind": "epoch", "batch_size": 1, "forces": 100},
            "optimizer": {"kind": "ekf", "partition": "split", "block_size": 250},
        },
    },
}


def updates_of(case: str, data: Path, n_updates: int) -> None:
    """Make so many updates as one of the ranks; the first one prints seconds, bytes and writes the weights."""
    torch.set_num_threads(1)
    ranks = start_ranks()
    config = Config.model_validate({
        "data": {"train": [str(data)], "validation_fraction": 0.0, "test_fraction": 0.0, "suspicious": "ignore"},
        **CASES[case],
    })  # fmt: skip
    loaded = load_data(config)
    model, _ = make_model(config, loaded)
    schedule = make_schedule(config, loaded.learnt, loaded.groups)
    memory = memory_of(config, model, loaded)
    splits = prepare(model, loaded, memory["budget"], Console(quiet=True))
    connect(schedule, splits["train"].store)
    update = make_update(config, splits["train"].store, 1000, None, ranks)
    update.begin_epoch(0)
    labels = itertools.islice(
        itertools.chain.from_iterable(iter(schedule.epoch, None)), n_updates + _NOT_TIMED
    )
    for number, one in enumerate(labels):
        if number == _NOT_TIMED:
            ranks.barrier()
            began, used = time.monotonic(), time.process_time()
        update.apply(one)
    used = max(ranks.collect((time.process_time() - used) / n_updates))
    seconds = (time.monotonic() - began) / n_updates
    bytes_ = max(ranks.collect(update.optimizer.covariance.n_bytes))
    if ranks.leads:
        weights = torch.cat([p.detach().reshape(-1) for p in model.parameters()])
        np.save(data.with_name(f"weights-{ranks.size}.npy"), weights.numpy())
        found = {"seconds": seconds, "processor": used, "bytes": bytes_, "weights": len(weights)}
        print(json.dumps(found))


def apart(size: int, case: str, data: Path, n_updates: int) -> float:
    """Seconds of an update of the slowest of so many processes that have nothing to do with one another."""
    command = [sys.executable, __file__, "--case", case, "--updates", str(n_updates), "--worker"]
    processes = []
    for number in range(size):
        own = data.with_name(f"apart-{number}") / data.name  # each writes its weights beside its data
        own.parent.mkdir()
        shutil.copy(data, own)
        processes.append(subprocess.Popen([*command, str(own)], stdout=subprocess.PIPE, text=True))
    said = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise SystemExit("a process that trains by itself failed")
    return float(max(json.loads(text.splitlines()[-1])["seconds"] for text in said))


def on_ranks(size: int, case: str, data: Path, n_updates: int) -> dict[str, Any]:
    """What the first of so many ranks says."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        place = {"WORLD_SIZE": size, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": listener.getsockname()[1]}
    command = [sys.executable, __file__, "--case", case, "--updates", str(n_updates), "--worker", str(data)]
    processes = []
    for rank in range(size):
        own = {} if size == 1 else {key: str(value) for key, value in {**place, "RANK": rank}.items()}
        output = subprocess.PIPE if rank == 0 else subprocess.DEVNULL
        processes.append(subprocess.Popen(command, env=os.environ | own, stdout=output, text=True))
    try:
        said, _ = processes[0].communicate(timeout=_LONGEST)
        codes = [process.wait(timeout=_LONGEST) for process in processes]
    finally:
        for process in processes:
            process.kill()
    if any(codes):
        raise SystemExit(f"ranks ended with {codes}")
    return dict(json.loads(said.splitlines()[-1]))


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--case", choices=CASES, default="dp")
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker is not None:
        updates_of(options.case, options.worker, options.updates)
        return
    with tempfile.TemporaryDirectory() as name:
        data = Path(name) / "frames.xyz"
        water = options.case.startswith("dp")
        write(data, synthetic_system("water192", 8)[0] if water else list(make_frames(12)))
        one = on_ranks(1, options.case, data, options.updates)
        several = on_ranks(options.ranks, options.case, data, options.updates)
        beside = apart(options.ranks, options.case, data, options.updates)
        a, b = (np.load(data.with_name(f"weights-{size}.npy")) for size in (1, options.ranks))
    times = f"{1e3 * one['seconds']:.1f} ms an update, {1e3 * several['seconds']:.1f} on {options.ranks} processes"
    print(f"{one['weights']} weights: {times}")
    result = {
        "speedup": round(one["seconds"] / several["seconds"], 3),
        "difference": float(np.abs(a - b).max() / np.abs(a).max()),
        "memory_ratio": round(several["bytes"] / one["bytes"], 3),
        "machine": round(options.ranks * one["seconds"] / beside, 3),
        "processor_speedup": round(one["processor"] / several["processor"], 3),
        "seconds_per_update": [round(one["seconds"], 4), round(several["seconds"], 4)],
    }
    print("RESULT", json.dumps(result))


if __name__ == "__main__":
    main()
