"""Train DeePMD-kit (PyTorch backend) on the structures and with the network of our own benchmarks.

DeePMD-kit lives in an environment of its own, because it needs packages that nnpkit does not::

    python -m venv dp && . dp/bin/activate
    pip install torch==2.13.0 e3nn ninja cmake
    pip install scikit-build-core hatch-fancy-pypi-readme setuptools_scm dependency_groups
    DP_VARIANT=cpu DP_ENABLE_TENSORFLOW=0 DP_ENABLE_PYTORCH=1 CMAKE_ARGS=-DCMAKE_DISABLE_FIND_PACKAGE_MPI=ON \\
        pip install --no-build-isolation --no-binary deepmd-kit deepmd-kit==3.2.0
    python benchmarks/deepmd_peer.py --prefix dp --train train.xyz --test test.xyz --optimizer lkf --steps 100

It gets one thread, float64, data loading in its own process (forked loaders pin old copies of the covariance), and
for its Kalman filter an allocator that keeps freed memory, without which it is five times slower. Weights are saved
during training, without the state of the optimizer, and their errors on the whole test set are computed afterwards:
clocks are read at the saving, and the time that it took is subtracted. The last line is ``RESULT {json}``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nnpkit.data.dataset import elements_of, load_dataset
from nnpkit.data.formats.reading import write
from nnpkit.data.structure import Structure

__all__ = ["Point", "Settings", "run_deepmd", "train_compressed"]

ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "100000000000", "MALLOC_TOP_PAD_": "100000000",
    "THP_MEM_ALLOC_ENABLE": "1",
}  # fmt: skip
"""Environment of the Kalman filter: glibc gives nothing back and takes no pages one by one."""

TRAIN = """
import json, sys, time
from deepmd.pt.train.training import Trainer
from deepmd.main import main

limit, clocks, spent = float(sys.argv[1]), [], [0.0, 0.0]
run, save = Trainer.run, Trainer.save_model

def now():
    return time.perf_counter(), time.process_time()

def begin(self):
    global start
    start = now()
    return run(self)

def save_weights(self, path, *args, **options):
    before = now()
    step = int(str(path).rsplit("-", 1)[1].split(".")[0])
    clocks.append([step, *(b - s - t for b, s, t in zip(before, start, spent))])
    save(self, path, *args, **{**options, "include_optimizer": False})
    with open("clocks.json", "w") as stream:
        json.dump(clocks, stream)
    for k, (a, b) in enumerate(zip(now(), before)):
        spent[k] += a - b
    if clocks[-1][1] > limit:
        sys.exit(0)

Trainer.run, Trainer.save_model = begin, save_weights
main(["--pt", "train", "input.json", "--skip-neighbor-stat"])
"""

EVALUATE = """
import json, sys
import numpy as np
from deepmd.infer import DeepPot

elements = json.load(open("input.json"))["model"]["type_map"]
frames = np.load("test.npz", allow_pickle=False)
n_frames = int(frames["n_frames"])
for file, weights in json.loads(sys.argv[1]).items():
    model = DeepPot(weights)
    results = {}
    for k in range(n_frames):
        cell = frames[f"cell{k}"]
        energy, forces, _ = model.eval(
            frames[f"positions{k}"].reshape(1, -1), cell.reshape(1, 9) if cell.any() else None, frames[f"types{k}"]
        )[:3]
        results[f"energy{k}"], results[f"forces{k}"] = energy.ravel()[0], forces.reshape(-1, 3)
    np.savez(file, **results)
"""


class Point(NamedTuple):
    """Errors on the test set at one moment of the training."""

    seconds: float  # wall-clock time since training began, saving excluded
    epoch: float
    energy_rmse: float  # eV/atom
    force_rmse: float  # eV/Å
    energy_mae: float
    force_mae: float
    cpu_seconds: float
    step: int


@dataclass(frozen=True)
class Settings:
    """What is trained, how, and for how long; defaults are the network of Hu et al. (RLEKF, AAAI 2023).

    Attributes
    ----------
    optimizer : str
        ``adam``: DeePMD-kit's defaults, learning rate 1e-3 to 3.5e-8 and prefactors 0.02, 1000 to 1, 1.
        ``lkf``: its Kalman filter, defaults but for `block_size`; a step is one energy and four force updates.
    steps, seconds : int, float
        Training ends with this step, or at the first saving after this time.
    points : int
        How many times weights are saved, evenly.
    """

    elements: Sequence[str] = ()
    optimizer: str = "adam"
    steps: int = 1000
    seconds: float = float("inf")
    seed: int = 1
    block_size: int = 5120
    points: int = 25
    cutoff: float = 6.0
    smooth_from: float = 0.5
    embedding: Sequence[int] = (25, 25, 25)
    axis_neurons: int = 16
    fitting: Sequence[int] = (50, 50, 50)
    type_one_side: bool = True
    fitting_timestep: bool = True
    learning_rate: tuple[float, float] = (1e-3, 3.5e-8)


def run_deepmd(
    prefix: str | Path, train: Sequence[Structure], test: Sequence[Structure], settings: Settings
) -> list[Point]:
    """Train DeePMD-kit on `train`; its errors on all of `test` as training went on.

    Parameters
    ----------
    prefix : path
        Environment with DeePMD-kit, its ``bin`` folder, or its Python.
    train, test : sequence of Structure
        With energies and forces.
    settings : Settings
        What is trained.
    """
    python = _python(Path(prefix))
    settings = replace(settings, elements=settings.elements or elements_of([*train, *test]))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_input(folder, train, test, settings)
        _call(python, folder, TRAIN, str(settings.seconds), lkf=settings.optimizer == "lkf")
        clocks = json.loads((folder / "clocks.json").read_text(encoding="utf-8"))
        _call(
            python, folder, EVALUATE, json.dumps({f"results-{s}.npz": f"weights-{s}.pt" for s, *_ in clocks})
        )
        return [
            Point(wall, step / len(train), *_errors(folder / f"results-{step}.npz", test), cpu, step)
            for step, wall, cpu in clocks
        ]


def train_compressed(
    prefix: str | Path,
    train: Sequence[Structure],
    test: Sequence[Structure],
    seconds: float,
    settings: Settings,
) -> tuple[bytes, float, float, int]:
    """Train with the TensorFlow backend, which the wheels of DeePMD-kit have, and compress the result.

    The number of steps follows from the seconds of a step, measured before: the learning rate ends with the training.

    Returns
    -------
    tuple
        The compressed model, mean absolute errors on `test` (eV/atom, eV/Å), steps.
    """
    python = _python(Path(prefix))
    settings = replace(
        settings, elements=settings.elements or elements_of([*train, *test]), steps=200, points=1
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write_input(folder, train, test, settings)

        def command(*words: str) -> str:
            return _call(python, folder, "from deepmd.main import main; main()", "--tf", *words)

        def write_steps(steps: int) -> None:
            wanted = json.loads((folder / "input.json").read_text(encoding="utf-8"))
            wanted.pop("optimizer", None)
            wanted["training"] |= {"numb_steps": steps, "disp_freq": 100, "save_freq": steps}
            wanted["learning_rate"]["decay_steps"] = max(1, steps // 200)
            (folder / "input.json").write_text(json.dumps(wanted), encoding="utf-8")

        write_steps(settings.steps)
        each = float(_STEP.findall(command("train", "input.json", "--skip-neighbor-stat"))[-1])
        steps = 100 * max(1, round(seconds / each / 100))  # others end without saving anything
        (folder / "checkpoint").unlink()  # of these first steps, which would be taken for the result then
        write_steps(steps)
        command("train", "input.json", "--skip-neighbor-stat")
        command("freeze", "-o", "frozen.pb")
        command("compress", "-i", "frozen.pb", "-o", "compressed.pb", "-t", "input.json")
        _call(python, folder, EVALUATE, json.dumps({"results.npz": "compressed.pb"}))
        _, _, energy, forces = _errors(folder / "results.npz", test)
        return (folder / "compressed.pb").read_bytes(), energy, forces, steps


_STEP = re.compile(r"average training time: ([\d.]+) s/batch")


def _python(prefix: Path) -> Path:
    """Interpreter of an environment."""
    for path in (prefix, prefix / "python", prefix / "bin" / "python"):
        if path.is_file():
            return path.absolute()
    raise SystemExit(f"{prefix}: there is no Python of an environment with deepmd-kit")


def _call(python: Path, folder: Path, program: str, *arguments: str, lkf: bool = False) -> str:
    """Run a program with DeePMD-kit's Python in `folder`; what it says."""
    threads = dict.fromkeys(
        ("OMP_NUM_THREADS", "DP_INTRA_OP_PARALLELISM_THREADS", "DP_INTER_OP_PARALLELISM_THREADS"), "1"
    )
    environment = {**os.environ, **threads, "NUM_WORKERS": "0", **(ALLOCATOR if lkf else {})}
    environment.pop("PYTHONPATH", None)
    done = subprocess.run(
        [python, "-c", program, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"DeePMD-kit failed:\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}")
    return done.stdout + done.stderr


def _write_input(
    folder: Path, train: Sequence[Structure], test: Sequence[Structure], settings: Settings
) -> None:
    """Write training data, ``input.json`` and the test structures."""
    write(folder / "train", train, format="deepmd")
    systems = sorted({str(path.parent) for path in (folder / "train").rglob("type.raw")})
    (folder / "input.json").write_text(
        json.dumps(_input(systems, train, settings), indent=1), encoding="utf-8"
    )
    frames: dict[str, Any] = {"n_frames": len(test)}
    for k, structure in enumerate(test):
        frames[f"positions{k}"] = structure.positions
        frames[f"cell{k}"] = structure.cell if any(structure.pbc) else np.zeros((3, 3))
        frames[f"types{k}"] = np.array([settings.elements.index(symbol) for symbol in structure.symbols])
    np.savez(folder / "test.npz", **frames)


def _input(systems: list[str], train: Sequence[Structure], settings: Settings) -> dict[str, Any]:
    """Content of ``input.json``."""
    descriptor = {
        "type": "se_e2_a", "sel": _most_neighbors(train, settings), "rcut": settings.cutoff,
        "rcut_smth": settings.smooth_from, "neuron": list(settings.embedding),
        "axis_neuron": settings.axis_neurons, "resnet_dt": False, "type_one_side": settings.type_one_side,
        "precision": "float64", "seed": settings.seed,
    }  # fmt: skip
    fitting = {
        "neuron": list(settings.fitting), "resnet_dt": settings.fitting_timestep, "precision": "float64",
        "seed": settings.seed,
    }  # fmt: skip
    start, stop = settings.learning_rate
    optimizer: dict[str, Any] = {"type": "Adam"}
    if settings.optimizer == "lkf":
        optimizer = {"type": "LKF", "kf_blocksize": settings.block_size}
    return {
        "model": {"type_map": list(settings.elements), "descriptor": descriptor, "fitting_net": fitting},
        "optimizer": optimizer,
        "learning_rate": {
            "type": "exp", "start_lr": start, "stop_lr": stop, "decay_steps": max(1, settings.steps // 200),
        },
        "loss": {
            "type": "ener", "start_pref_e": 0.02, "limit_pref_e": 1.0, "start_pref_f": 1000.0, "limit_pref_f": 1.0,
            "start_pref_v": 0.0, "limit_pref_v": 0.0,
        },
        "training": {
            "training_data": {"systems": systems, "batch_size": 1}, "numb_steps": settings.steps,
            "seed": settings.seed, "disp_file": "lcurve.out", "disp_freq": settings.steps,
            "save_freq": max(1, settings.steps // settings.points), "save_ckpt": "weights",
            "max_ckpt_keep": settings.points + 5,
        },
    }  # fmt: skip


def _most_neighbors(structures: Sequence[Structure], settings: Settings) -> list[int]:
    """Places for neighbours of each element: a tenth more than the most that an atom has, in fours."""
    from nnpkit.data.graph import build_graph

    most = np.zeros(len(settings.elements))
    for structure in structures:
        graph = build_graph(structure, list(settings.elements), settings.cutoff)
        center = np.repeat(np.arange(structure.n_atoms), np.diff(graph.offsets.numpy()))
        for t in range(len(most)):
            own = center[graph.types[graph.neighbor].numpy() == t]
            most[t] = max(most[t], np.bincount(own, minlength=1).max())
    return [int(4 * np.ceil(1.1 * n / 4)) for n in most]


def _errors(path: Path, test: Sequence[Structure]) -> tuple[float, float, float, float]:
    """Root mean squared, then mean absolute errors: energies per atom, and force components."""
    with np.load(path) as results:
        energies = np.array([(results[f"energy{k}"] - s.energy) / s.n_atoms for k, s in enumerate(test)])
        forces = np.concatenate([(results[f"forces{k}"] - s.forces).ravel() for k, s in enumerate(test)])
    squared = [float(np.sqrt(np.mean(np.square(values)))) for values in (energies, forces)]
    absolute = [float(np.mean(np.abs(values))) for values in (energies, forces)]
    return squared[0], squared[1], absolute[0], absolute[1]


def _fastest(points: Sequence[Point], clock: str) -> float:
    """Time of a step in the fastest interval between two points."""
    return min(
        (getattr(b, clock) - getattr(a, clock)) / (b.step - a.step) for a, b in itertools.pairwise(points)
    )


def main() -> None:
    """Train, print the curve, end with ``RESULT``."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--prefix", required=True, help="environment with deepmd-kit, its bin folder or its Python"
    )
    parser.add_argument("--train", nargs="+", required=True)
    parser.add_argument("--test", nargs="+", required=True)
    parser.add_argument("--optimizer", choices=["adam", "lkf"], default="adam")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--block-size", type=int, default=5120)
    parser.add_argument("--points", type=int, default=25)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--no-fitting-timestep", action="store_true", help="as published for RLEKF")
    arguments = parser.parse_args()
    settings = Settings(
        optimizer=arguments.optimizer, steps=arguments.steps, seconds=arguments.seconds, seed=arguments.seed,
        block_size=arguments.block_size, points=arguments.points,
        fitting_timestep=not arguments.no_fitting_timestep,
    )  # fmt: skip
    train, test = load_dataset(arguments.train), load_dataset(arguments.test)
    points = run_deepmd(arguments.prefix, train, test, settings)
    print("      step   epoch   seconds       CPU   energy, eV/atom   forces, eV/Å")
    for p in points:
        times = f"{p.step:10d} {p.epoch:7.2f} {p.seconds:9.1f} {p.cpu_seconds:9.1f}"
        print(f"{times} {p.energy_rmse:17.3e} {p.force_rmse:14.4f}")
    result = {
        "optimizer": settings.optimizer, "block_size": settings.block_size, "seed": settings.seed,
        "n_train": len(train), "n_test": len(test), "curve": [point._asdict() for point in points],
        "seconds_per_step": _fastest(points, "seconds"), "cpu_seconds_per_step": _fastest(points, "cpu_seconds"),
    }  # fmt: skip
    print(f"RESULT {json.dumps(result)}")


if __name__ == "__main__":
    sys.exit(main())
