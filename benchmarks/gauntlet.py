"""Default settings on data of every kind: published sets, tiny ones, and sets with something wrong in them.

    NNPKIT_DATA=... python benchmarks/gauntlet.py [--quick] [--sets Si outliers ...] [--seeds 3] [--seconds 300]
        [--frames 20] [--override training.optimizer.kind=adam ...]

Every training is a process of its own with `--seconds` of processor time on one thread, and is asked to stop then. Its
potential is compared on test structures that are right with the prediction of nothing: energies of the elements from
a least squares fit, no forces. A training that ends with an error, leaves no potential, or one that is not finite has
failed. `--quick` takes a part of every set and 12 seconds, `--frames` so many frames for training and, a tenth of them,
validation; ``ratio`` is the error of test over that of training frames. The last line is ``RESULT {json}``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml

import nnpkit
from nnpkit.data.formats.reading import read, write
from nnpkit.data.structure import Structure
from nnpkit.measure.metrics import ErrorSums

ROOT = Path(__file__).resolve().parents[1]
HARTREE = 27.211386245988
TOLERANCE = {"energy_rmse": 1e-3, "force_rmse": 1e-2}
"""Errors, eV/atom and eV/Å, that nobody calls a failure: single atoms are predicted by nothing without any."""


class Parts(NamedTuple):
    """Structures to learn, to choose the best epoch by, and to judge by."""

    train: list[Structure]
    validation: list[Structure]
    test: list[Structure]
    correct: list[Structure] | None = None  # what `train` was before it was spoilt


def divided(frames: list[Structure], test: list[Structure] | None = None) -> Parts:
    """A tenth for validation and, without `test`, another one for the test."""
    frames = [frames[i] for i in np.random.default_rng(0).permutation(len(frames))]
    tenth = max(1, len(frames) // 10)
    if test is None:
        test, frames = frames[:tenth], frames[tenth:]
    return Parts(frames[tenth:], frames[:tenth], test)


def data(*names: str) -> list[Structure]:
    """Frames of files below NNPKIT_DATA."""
    folder = Path(os.environ["NNPKIT_DATA"]).resolve()
    return [frame for name in names for frame in read(folder / f"{name}.xyz.xz")]


def silicon() -> Parts:
    """The set that most of what is spoilt is made of."""
    return divided(data("mlearn/Si_train"), data("mlearn/Si_test"))


def compounds() -> Parts:
    """Li-Si-C, ten substances."""
    return divided(data("pwmlff_LiSiC_EC/LiSiC_train"), data("pwmlff_LiSiC_EC/LiSiC_valid"))


def spoilt(
    spoil: Callable[[Structure, np.random.Generator], Structure],
    share: float | int,
    right: Callable[[], Parts] = silicon,
) -> Parts:
    """A set with some wrong frames among those that are learnt and those of the validation."""
    rng, parts = np.random.default_rng(1), right()
    train, validation = list(parts.train), list(parts.validation)
    for part in (train, validation):
        count = max(1, round(share * len(part))) if isinstance(share, float) else share
        for index in rng.choice(len(part), min(count, len(part) // 2), replace=False):
            part[index] = spoil(part[index], rng)
        share = 1 if isinstance(share, int) else share
    return Parts(train, validation, parts.test, parts.train)


def _scaled(frame: Structure, energy: float, force: float) -> Structure:
    assert frame.energy is not None
    assert frame.forces is not None
    stress = None if frame.stress is None else frame.stress * force
    return replace(frame, energy=frame.energy * energy, forces=frame.forces * force, stress=stress)


def _tenfold(frame: Structure, rng: np.random.Generator) -> Structure:
    return _scaled(frame, 1.0, 10.0)


def _outlier(frame: Structure, rng: np.random.Generator) -> Structure:
    assert frame.energy is not None
    forces = 1e3 * rng.normal(size=(frame.n_atoms, 3))
    return replace(frame, energy=frame.energy + 100.0 * frame.n_atoms, forces=forces - forces.mean(0))


def _wrong(frame: Structure, rng: np.random.Generator) -> Structure:
    assert frame.energy is not None
    assert frame.forces is not None
    return replace(
        frame, energy=frame.energy + rng.normal() * frame.n_atoms, forces=rng.permutation(-frame.forces)
    )


def _atom(distance: float, energy: float) -> Structure:
    zero = np.zeros((1, 3))
    return Structure(["Si"], zero, distance * np.eye(3), np.ones(3, dtype=bool), energy, zero, name="atom")


def only_energies() -> Parts:
    """No forces, no stress."""
    parts = silicon()
    bare = [[replace(frame, forces=None, stress=None) for frame in part] for part in parts[:2]]
    return Parts(bare[0], bare[1], parts.test)


def with_atoms() -> Parts:
    """Isolated atoms among the frames of a crystal."""
    parts = silicon()
    return Parts([*parts.train, *(_atom(15.0 + i, -0.8) for i in range(5))], parts.validation, parts.test)


def some(parts: Parts, count: int) -> Parts:
    """The first so many frames, a quarter of them for validation if there are enough."""
    few = [*parts.train, *parts.validation][:count]
    quarter = max(1, count // 4)
    return Parts(few[quarter:] or few, few[:quarter], parts.test)


N2P2 = (
    "AlAuMgO_4G_18", "Anisole_SCAN_20", "Carbon_chain_4G_128", "Cu2S_PBE_20", "DMABN_SCAN_21", "Ethylbenzene_SCAN_21",
    "H2O_RPBE-D3_20", "H2O_RPBE-D3_4G_20",
)  # fmt: skip
SETS: dict[str, Callable[[], Parts]] = {
    **{e: lambda e=e: divided(data(f"mlearn/{e}_train"), data(f"mlearn/{e}_test")) for e in ("Cu", "Si", "Li")},
    "TiO2": lambda: divided(data("TiO2_aenet/train"), data("TiO2_aenet/test")),
    "LiSiC": compounds,
    "LiSiC_tenfold_2": lambda: spoilt(_tenfold, 0.02, compounds),
    "EC": lambda: divided(data("pwmlff_LiSiC_EC/EC_400K")),
    "Cu72": lambda: divided(data("pwmlff_Cu/Cu72_300K", "pwmlff_Cu/Cu72_500K")),
    "water_PBE0TS": lambda: divided(data("water_PBE0TS_deepmd/train"), data("water_PBE0TS_deepmd/valid")),
    "water_SCAN": lambda: divided(
        data("water_SCAN_ice-liquid/train_192atoms"), data("water_SCAN_ice-liquid/valid_192atoms")
    ),
    "water_revPBE0": lambda: divided(data("water_revPBE0-D3_cnnp/gen1_train")),
    "water_xTB": lambda: divided(read(ROOT / "examples/water/train.xyz.xz"), read(ROOT / "examples/water/test.xyz.xz")),
    **{name: lambda name=name: divided(data(f"n2p2_examples/{name}")) for name in N2P2},
    "one_atom": lambda: divided([_atom(d, 3 * (1 - np.exp(2.4 - d)) ** 2 - 3) for d in np.linspace(2.0, 5.0, 30)]),
    "one_frame": lambda: some(silicon(), 1),
    "six_frames": lambda: some(silicon(), 6),
    "with_atoms": with_atoms,
    "energies": only_energies,
    "outliers": lambda: spoilt(_outlier, 5),
    "wrong_10": lambda: spoilt(_wrong, 0.1),
    "tenfold_2": lambda: spoilt(_tenfold, 0.02),
    "units_10": lambda: spoilt(lambda frame, rng: _scaled(frame, 1 / HARTREE, 1 / HARTREE), 0.1),
}  # fmt: skip


def nothing(parts: Parts) -> dict[str, float]:
    """Errors on the test structures of the energies of the elements and no forces."""
    correct = parts.correct or parts.train
    elements = sorted({symbol for frame in [*correct, *parts.test] for symbol in frame.symbols})

    def counts(frames: list[Structure]) -> np.ndarray:
        return np.array([[frame.symbols.count(e) / frame.n_atoms for e in elements] for frame in frames])

    labelled = [frame for frame in correct if frame.energy is not None]
    energies = np.array([frame.energy / frame.n_atoms for frame in labelled])
    fitted = np.linalg.lstsq(counts(labelled), energies, rcond=None)[0]
    sums = ErrorSums()
    for frame, energy in zip(parts.test, counts(parts.test) @ fitted, strict=True):
        sums.add(frame, energy * frame.n_atoms, np.zeros((frame.n_atoms, 3)), np.zeros((3, 3)))
    return sums.summary()


def judged(folder: Path, test: list[Structure]) -> dict[str, Any]:
    """Errors of the trained potential."""
    model, sums = nnpkit.load(folder / "run"), ErrorSums()
    for frame in test:
        found = model.predict(frame)
        sums.add(frame, found.energy, found.forces, found.stress)
    return sums.summary()


def _processor_seconds(pid: int) -> float:
    with contextlib.suppress(OSError, IndexError):
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def trained(folder: Path, parts: Parts, seed: int, seconds: float, overrides: list[str]) -> dict[str, Any]:
    """Train in a process of its own; how it ended and what it needed."""
    for name, frames in zip(("train", "validation"), parts, strict=False):
        write(folder / f"{name}.xyz", frames)
    files = {name: str(folder / f"{name}.xyz") for name in ("train", "validation")}
    config = {"seed": seed, "output": str(folder / "run"), "data": {**files, "test_fraction": 0.0}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    command = [
        sys.executable,
        "-m",
        "nnpkit",
        "train",
        str(folder / "config.yaml"),
        "training.threads=1",
        *overrides,
    ]
    with (folder / "log").open("w") as log:
        child = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env={**os.environ, "OMP_NUM_THREADS": "1"}
        )
        asked = 0
        while child.poll() is None:
            time.sleep(0.2)
            if _processor_seconds(child.pid) > seconds * (asked + 1) ** 2:
                child.send_signal((signal.SIGTERM, signal.SIGKILL)[min(asked, 1)])
                asked += 1
    text = (folder / "log").read_text(encoding="utf-8").strip()
    found: dict[str, Any] = {"exit": child.returncode, "last": text.splitlines()[-1] if text else ""}
    with contextlib.suppress(OSError, ValueError):
        summary = json.loads((folder / "run/summary.json").read_text(encoding="utf-8"))
        found |= {key: summary[key] for key in ("updates", "epochs", "best_epoch", "n_parameters")}
        found["update_ms"] = 1e3 * summary["seconds"] / max(1, summary["updates"])
        found["train"] = {key: summary["train"][key] for key in TOLERANCE}
        found["outliers"], found["retreats"] = len(summary["outliers"]), summary["retreats"]
    return found


def result(make: Callable[[], Parts], seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """One training and what became of it."""
    parts = make()
    if options.quick or options.frames:
        rng = np.random.default_rng(2)
        tenth = max(1, (options.frames or 0) // 10)
        limits = (options.frames - tenth, tenth, 40) if options.frames else (60, 10, 10)
        parts = Parts(*(
            [part[i] for i in sorted(rng.permutation(len(part))[:limit])]
            for part, limit in zip(parts, limits, strict=False)
        ), parts.correct)  # fmt: skip
    limit = max(1, 8000 // max(frame.n_atoms for frame in parts.test))
    parts = parts._replace(test=parts.test[:: max(1, -(-len(parts.test) // limit))])
    with tempfile.TemporaryDirectory() as name:
        found = trained(Path(name), parts, seed, options.seconds, options.override)
        try:
            errors = judged(Path(name), parts.test)
        except Exception as error:  # whatever it is, the training has left nothing to use
            errors, found["last"] = {}, f"{found['last']} | {error}"
        if options.keep:
            (options.keep / f"{options.now}-{seed}.log").write_bytes((Path(name) / "log").read_bytes())
    mean = nothing(parts)
    names = [key for key in ("energy_rmse", "force_rmse", "stress_rmse") if mean[key] is not None]
    found |= {"test": {k: errors.get(k) for k in names}, "mean": {k: mean[k] for k in names}}
    finite = bool(errors) and all(np.isfinite(errors[key]) for key in names)
    # it may be asked to stop when it is about to end by itself, and the signal ends it then
    found["failed"] = found["exit"] not in (0, 128 + signal.SIGTERM, -signal.SIGTERM) or not finite
    judge = [key for key in TOLERANCE if key in names]
    learnt = found.get("train", {})
    found["ratio"] = {k: errors[k] / learnt[k] for k in judge if errors and learnt.get(k)}
    found["worse_than_mean"] = not finite or any(errors[k] > mean[k] + TOLERANCE[k] for k in judge)
    return found


def main() -> None:
    """Train, judge and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--seeds", type=int, default=None)
    parser.add_argument("--seconds", type=float, default=None)
    parser.add_argument("--frames", type=int, default=None)
    parser.add_argument("--override", nargs="*", default=[])
    parser.add_argument("--keep", type=Path, default=None, help="folder for the logs")
    options = parser.parse_args()
    if "NNPKIT_DATA" not in os.environ:
        sys.exit("set NNPKIT_DATA to the folder that holds mlearn/Cu_train.xyz.xz")
    torch.set_num_threads(1)
    options.seeds = options.seeds or (1 if options.quick else 3)
    options.seconds = options.seconds or (12.0 if options.quick else 300.0)
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
    print(f"{'set':20s} seed {'updates':>8s} {'ms':>7s}  test: meV/atom  eV/Å   GPa (of predicting nothing)")
    found: dict[str, list[dict[str, Any]]] = {}
    for name in options.sets:
        options.now = name
        for seed in range(1, options.seeds + 1):
            one = result(SETS[name], seed, options)
            one["memory_gb"] = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
            found.setdefault(name, []).append(one)
            print(line(name, seed, one), flush=True)
    runs = [one for ones in found.values() for one in ones]
    print("RESULT " + json.dumps({
        "failures": sum(one["failed"] for one in runs),
        "worse_than_mean": sum(one["worse_than_mean"] for one in runs),
        "sets": found,
    }))  # fmt: skip


def line(name: str, seed: int, one: dict[str, Any]) -> str:
    """A run in the table."""
    scale = {"energy_rmse": 1e3, "force_rmse": 1.0, "stress_rmse": 1.0}

    def number(value: float | None, key: str) -> str:
        return "-" if value is None else f"{scale[key] * value:.4g}"

    pairs = [f"{number(value, key)} ({number(one['mean'][key], key)})" for key, value in one["test"].items()]
    train = ", ".join(number(value, key) for key, value in one.get("train", {}).items())
    train += f" (ratio {', '.join(f'{ratio:.2f}' for ratio in one['ratio'].values())})"
    verdict = "FAILED " + one["last"][-150:] if one["failed"] else "WORSE" if one["worse_than_mean"] else ""
    return (
        f"{name:20s} {seed:4d} {one.get('updates', 0):8d} {one.get('update_ms', 0.0):7.1f}  {'  '.join(pairs)}"
        f"  train {train}  {verdict}"
    )


if __name__ == "__main__":
    main()
