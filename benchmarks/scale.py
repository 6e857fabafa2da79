"""Many frames: conversion into a store, preparation and an epoch of training, with the memory that each takes.

    python benchmarks/scale.py --frames 10000

generates frames of 100 atoms, converts them, trains for so many updates of an epoch and evaluates what is evaluated
after one (at most 2000 frames of each set), each part in a process of its own, and prints
``RESULT {"peak_rss_gb": ..., "seconds_per_frame": ..., "epoch_seconds": ...}``: the largest memory of a process, and
processor time, which does not depend on what else the machine does. ``seconds_per_frame`` is that of conversion and
loading, ``start_seconds`` what programs need to start, whatever the number of frames; ``wall_per_update`` is what an
update takes by the clock, and ``thread_per_update`` the processor time of the thread that learns, without that of the
one that prepares structures ahead: on a quiet machine they agree. ``--kept-gb 0 --frames 300`` shows within a minute
what structures cost that are not kept. ``--processes 2`` converts in two processes; ``conversion_wall`` is by the
clock. Frames are copper with vacancies and thermal noise; their labels are those of a Morse potential that ends
smoothly, which cost nothing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from ase.build import bulk
from vesin import NeighborList

from nnpkit.data.structure import Structure

_DEPTH, _STIFFNESS, _DISTANCE, _CUTOFF = 0.343, 1.36, 2.87, 5.0  # of the Morse potential: eV, 1/Å, Å, Å
_PART = 1000  # frames that are written at a time


def make_frames(n: int, seed: int = 0) -> Iterator[Structure]:
    """So many frames of 100 copper atoms with energies, forces and stresses."""
    random = np.random.default_rng(seed)
    cell = bulk("Cu", cubic=True).repeat((3, 3, 3))
    neighbors = NeighborList(cutoff=_CUTOFF, full_list=False)
    # A pair that crossed the cutoff with a jump of the energy would make energies contradict forces and stresses.
    end = np.exp(-_STIFFNESS * (_CUTOFF - _DISTANCE))
    last, last_slope = _DEPTH * (end * end - 2.0 * end), 2.0 * _DEPTH * _STIFFNESS * (end - end * end)
    for k in range(n):
        lattice = cell.cell.array * random.uniform(0.97, 1.03)
        kept = np.sort(random.permutation(len(cell))[:100])
        positions = (cell.get_scaled_positions() @ lattice)[kept] + random.normal(scale=0.1, size=(100, 3))
        first, second, vector, r = neighbors.compute(positions, lattice, True, "ijDd")
        decay = np.exp(-_STIFFNESS * (r - _DISTANCE))
        slope = 2.0 * _DEPTH * _STIFFNESS * (decay - decay * decay) - last_slope
        pull = vector * (slope / r)[:, None]
        forces = np.zeros((100, 3))
        np.add.at(forces, first.astype(int), pull)
        np.add.at(forces, second.astype(int), -pull)
        stress = vector.T @ pull / abs(np.linalg.det(lattice))
        energy = float(np.sum(_DEPTH * (decay * decay - 2.0 * decay) - last - last_slope * (r - _CUTOFF)))
        yield Structure(
            ["Cu"] * 100, positions, lattice, np.ones(3, dtype=bool), energy=energy, forces=forces,
            stress=(stress + stress.T) / 2, name=f"frame#{k}",
        )  # fmt: skip


def generate(path: Path, n: int) -> None:
    """Write the frames as one extended XYZ file."""
    from nnpkit.data.formats.extxyz import extxyz_text

    with open(path, "w", encoding="utf-8") as stream:
        for structure in make_frames(n):
            stream.write(extxyz_text(structure))


def convert(source: Path, target: Path, processes: int) -> float:
    """Build the store; seconds of processor before that, in which the program started."""
    from nnpkit.data.store.building import build_store

    started = time.process_time()
    build_store([source], target, processes=processes)
    return started


def train(
    store: Path, folder: Path, updates: int, kept_gb: float | None, prefetch: bool | str
) -> dict[str, float]:
    """Prepare a training and let it make `updates`; seconds of both."""
    from rich.console import Console

    from nnpkit.config.schema import Config
    from nnpkit.measure import frames
    from nnpkit.measure.structure_memory import keep_freed_memory
    from nnpkit.training.budget import EVERY_EPOCH
    from nnpkit.training.model_errors import errors_of
    from nnpkit.workflow.assemble import connect, load_data, make_schedule, make_update
    from nnpkit.workflow.new_model import make_model
    from nnpkit.workflow.run_steps import memory_of, prepare, prepares_ahead

    keep_freed_memory()
    if kept_gb is not None:
        frames.EDGE_BUDGET = round(1e9 * kept_gb)
    config = Config.model_validate({
        "output": str(folder),
        "data": {"train": [str(store)], "validation_fraction": 0.05, "test_fraction": 0.0, "split": "random"},
        "model": {"descriptor": {"cutoff": 5.0, "angular_cutoff": 4.0}, "network": {"hidden": [15, 15]}},
        "training": {"threads": 1, "prefetch": prefetch},
    })  # fmt: skip
    began = time.process_time()
    data = load_data(config)
    loaded = time.process_time() - began
    model, _ = make_model(config, data)
    schedule = make_schedule(config, data.learnt, data.groups)
    memory = memory_of(config, model, data)
    splits = prepare(model, data, memory["budget"], Console(quiet=True))
    connect(schedule, splits["train"].store)
    ahead = splits["train"].store.ahead
    update = make_update(config, splits["train"].store, 1000, data.groups)
    prepared, kept = time.process_time() - began, len(splits["train"].store.kept)
    update.begin_epoch(0)
    if prepares_ahead(config):
        ahead.start()
    began, clock, own, done = time.process_time(), time.perf_counter(), time.thread_time(), 0
    for labels in schedule.epoch():
        ahead.expect(labels.structures, schedule.coming(2))
        update.apply(labels)
        done += 1
        if done == updates:
            break
    each, passed = (time.process_time() - began) / done, (time.perf_counter() - clock) / done
    own = (time.thread_time() - own) / done
    began, evaluated = time.process_time(), 0
    for split in splits.values():
        which = range(0, len(split.structures), max(1, -(-len(split.structures) * 100 // EVERY_EPOCH)))
        errors_of(split, which)
        evaluated += len(which)
    evaluation = time.process_time() - began
    ahead.stop()
    return {
        "load": loaded, "prepare": prepared, "update": each, "passed": passed, "own": own, "kept": kept,
        "epoch": each * schedule.epoch_length(0) + evaluation, "evaluation": evaluation, "evaluated": evaluated,
    }  # fmt: skip


def _measured(function: Callable[..., Any], arguments: tuple[Any, ...], answer: Any) -> None:
    result = function(*arguments)
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(use.ru_utime + use.ru_stime for use in uses)
    answer.put((result, seconds, max(use.ru_maxrss for use in uses) / 1e6))


def in_a_process(function: Callable[..., Any], *arguments: Any) -> tuple[Any, float, float]:
    """Result, seconds of processors and largest memory, GB, of a function in a process of its own."""
    context = multiprocessing.get_context("spawn")
    answer = context.Queue()
    process = context.Process(target=_measured, args=(function, arguments, answer))
    process.start()
    found = answer.get()
    process.join()
    return found


def main() -> None:
    """Generate, convert, train; print what it took."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=1000)
    parser.add_argument("--updates", type=int, default=100, help="of the epoch that are made")
    parser.add_argument("--kept-gb", type=float, help="memory for features and edges of a set")
    parser.add_argument("--prefetch", choices=["auto", "true", "false"], default="auto")
    parser.add_argument("--processes", type=int, default=1, help="that convert")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        generate(folder / "frames.xyz", options.frames)
        clock = time.perf_counter()
        started, conversion, memory = in_a_process(
            convert, folder / "frames.xyz", folder / "store", options.processes
        )
        clock, conversion = time.perf_counter() - clock, conversion - started
        print(
            f"conversion {conversion:.1f} s, {1e3 * conversion / options.frames:.2f} ms a frame, {memory:.2f} GB"
        )
        (folder / "frames.xyz").unlink()
        prefetch = {"auto": "auto", "true": True, "false": False}[options.prefetch]
        seconds, _, more = in_a_process(
            train, folder / "store", folder / "run", options.updates, options.kept_gb, prefetch
        )
    frames = options.frames
    load = 1e3 * seconds["load"] / frames
    print(f"preparation {seconds['prepare']:.1f} s ({load:.2f} ms a frame to load), {more:.2f} GB")
    result = {
        "peak_rss_gb": round(max(memory, more), 3),
        "seconds_per_frame": round((conversion + seconds["load"]) / frames, 6),
        "epoch_seconds": round(seconds["epoch"], 2),
        "conversion_seconds": round(conversion, 2),
        "conversion_wall": round(clock, 2),
        "start_seconds": round(started, 2),
        "preparation_seconds": round(seconds["prepare"], 2),
        "seconds_per_update": round(seconds["update"], 5),
        "thread_per_update": round(seconds["own"], 5),
        "wall_per_update": round(seconds["passed"], 5),
        "evaluation_seconds": round(seconds["evaluation"], 2),
        "evaluated_frames": seconds["evaluated"],
        "kept_frames": seconds["kept"],
    }
    print("RESULT", json.dumps(result))


if __name__ == "__main__":
    main()
