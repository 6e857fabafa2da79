"""How long Adam and the Kalman filter take to an accurate Deep Potential, as in Fig. 4 of Hu et al. (RLEKF, AAAI 2023).

Every optimizer trains the same network on the same published data (NNPKIT_DATA). The errors of the whole test set are
computed now and then with the clock stopped. The target is 1.2 times the best final RMSE of forces and of energies (the
best optimizer's, medians over seeds), or 1.2 times Adam's; a run is there when both errors are below their targets for
the first time. Adam is given as many epochs as fit its time, and its learning rate decays over them. Trainings may be
spread over several calls: curves are kept in the folder, and what is there already is not computed again. ::

    python benchmarks/time_to_accuracy.py --system cu72 water192 --optimizer adam sequential --seeds 1 2 3
    python benchmarks/time_to_accuracy.py --deepmd ENVIRONMENT ...     # and DeePMD-kit's Adam and LKF

The last line is ``RESULT {json}``.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from deep_systems import OPTIMIZERS, SYSTEMS, load_system, machine, open_session, samples

FACTOR = 1.2
"""A run is accurate when its errors are at most this many times the final ones."""
FIRST, GROWTH = 2.0, 1.25  # seconds of the first evaluation, and ratio of the times of later ones
_BLOCKS = {"block_size": 1024, "dtype": "float32"}
_COPPER, _WATER = {"energy": 5e-4, "force": 0.02}, {"energy": 1e-3, "force": 0.05}
SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "cu72": {
        "adam": {"learning_rate": 1e-2, "final_learning_rate": 1e-5},
        "kalman": {**_BLOCKS, "noise": _COPPER},
    },
    "water192": {
        "adam": {"learning_rate": 5e-3, "final_learning_rate": 1e-5},
        "kalman": {**_BLOCKS, "noise": _WATER},
    },
}
"""What is different from `deep_systems.OPTIMIZERS`: the best of a few short trainings for either optimizer. The noise
of a label is about the error that a trained potential has."""
ADAM_SAMPLE = {"cu72": 0.006, "water192": 0.034}
"""Seconds that a sample of Adam takes, from train_step.py: how many epochs there is time for."""


class Point(NamedTuple):
    """Errors on the test set at one moment."""

    seconds: float  # of training; DeePMD-kit's of its one thread
    epoch: float
    energy_rmse: float  # eV/atom
    force_rmse: float  # eV/Å


def train(system: str, optimizer: str, seed: int, seconds: float) -> list[Point]:
    """Learning curve of one training of `seconds`."""
    data = load_system(system, seed)
    epochs = max(1, round(seconds / (ADAM_SAMPLE[system] * len(data[0])))) if optimizer == "adam" else 10_000
    session = open_session(
        data, optimizer, seed, epochs, SETTINGS[system]["adam" if optimizer == "adam" else "kalman"]
    )
    points: list[Point] = []
    spent, due, n_epochs = 0.0, FIRST, 0
    while spent < seconds and n_epochs < epochs:
        session.update.begin_epoch(n_epochs)
        for number, sample in enumerate(samples(session.schedule.epoch()), start=1):
            start = time.perf_counter()
            for labels in sample:
                session.update.apply(labels)
            spent += time.perf_counter() - start
            if spent >= due or spent >= seconds:
                due *= GROWTH
                points.append(Point(spent, n_epochs + number / len(data[0]), *session.errors()))
                _say(f"{system} {optimizer} seed {seed}", points[-1])
            if spent >= seconds:
                break
        n_epochs += 1
    if optimizer == "adam":
        points.append(Point(spent, n_epochs, *session.errors()))
        _say(f"{system} {optimizer} seed {seed}", points[-1])
    return points


def train_deepmd(environment: Path, system: str, optimizer: str, seed: int, seconds: float) -> list[Point]:
    """The same for DeePMD-kit; its Adam is told how many steps there is time for."""
    from deepmd_peer import Settings, run_deepmd

    step = {"cu72": {"adam": 0.027, "lkf": 1.7}, "water192": {"adam": 0.095, "lkf": 3.4}}[system][optimizer]
    data = load_system(system, seed)
    steps = max(10, round(seconds / step))
    settings = Settings(
        optimizer=optimizer, steps=steps, seconds=seconds, seed=seed, fitting_timestep=False, points=20
    )
    return [
        Point(p.seconds, p.epoch, p.energy_rmse, p.force_rmse)
        for p in run_deepmd(environment, *data, settings)
    ]


def _say(what: str, point: Point) -> None:
    print(
        f"{what}: {point.seconds:7.1f} s  epoch {point.epoch:8.2f}  {1e3 * point.energy_rmse:8.3f} meV/atom"
        f"  {1e3 * point.force_rmse:8.2f} meV/Å",
        flush=True,
    )


Curves = dict[str, dict[int, list[Point]]]
"""Learning curves by optimizer and seed."""


def final_errors(curves: Curves, optimizers: list[str]) -> tuple[float, float]:
    """Best errors that one of `optimizers` ends with: energy and force RMSE, medians over seeds."""
    medians = [
        [statistics.median(getattr(run[-1], key) for run in curves[name].values()) for name in optimizers]
        for key in ("energy_rmse", "force_rmse")
    ]
    return min(medians[0]), min(medians[1])


def times_to(runs: dict[int, list[Point]], energy: float, force: float) -> dict[str, Any]:
    """When each run is below both errors for the first time, and the median; None for never."""
    reached = [
        next((p for p in run if p.energy_rmse <= energy and p.force_rmse <= force), None)
        for run in runs.values()
    ]
    median = statistics.median(math.inf if p is None else p.seconds for p in reached)
    return {
        "seconds": [None if p is None else p.seconds for p in reached],
        "epochs": [None if p is None else p.epoch for p in reached],
        "median_seconds": None if math.isinf(median) else median,
    }


def compare(curves: Curves) -> dict[str, Any]:
    """Targets, times to them and final errors of every optimizer."""
    targets = {"best": final_errors(curves, list(curves))}
    if "adam" in curves:
        targets["adam"] = final_errors(curves, ["adam"])
    result: dict[str, Any] = {
        "targets": {
            name: {"energy_rmse": FACTOR * energy, "force_rmse": FACTOR * force}
            for name, (energy, force) in targets.items()
        },
        "optimizers": {},
    }
    for name, runs in curves.items():
        last = [run[-1] for run in runs.values()]
        result["optimizers"][name] = {
            "seeds": sorted(runs),
            **{f"to_{goal}": times_to(runs, FACTOR * e, FACTOR * f) for goal, (e, f) in targets.items()},
            "seconds_trained": [p.seconds for p in last],
            "final_energy_rmse": [p.energy_rmse for p in last],
            "final_force_rmse": [p.force_rmse for p in last],
        }
    return result


def plot(system: str, curves: Curves, targets: dict[str, dict[str, float]], path: Path) -> None:
    """Errors against time, a line per run, and the target."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    keys = (("force_rmse", "force RMSE (eV/Å)"), ("energy_rmse", "energy RMSE (eV/atom)"))
    for axis, (key, label) in zip(axes, keys, strict=True):
        for color, (name, runs) in enumerate(curves.items()):
            for number, run in enumerate(runs.values()):
                axis.loglog(
                    [p.seconds for p in run], [getattr(p, key) for p in run], color=f"C{color}", linewidth=1.2,
                    label=name if number == 0 else None,
                )  # fmt: skip
        axis.axhline(targets["best"][key], color="0.5", linewidth=0.8, linestyle="--")
        axis.set(xlabel="training time (s)", ylabel=label)
    axes[0].legend(frameon=False, fontsize=8)
    figure.suptitle(f"{system}; dashed: {FACTOR} × the best final error", fontsize=10)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> None:
    """Train what is missing, compare everything, draw it, print one line RESULT {json}."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--system", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--optimizer", nargs="*", choices=OPTIMIZERS, default=list(OPTIMIZERS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument(
        "--seconds", type=float, default=300.0, help="of each training with the Kalman filter"
    )
    parser.add_argument("--adam-seconds", type=float, help="of each training with Adam, by default the same")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--deepmd", type=Path, help="environment with DeePMD-kit's PyTorch backend")
    parser.add_argument("--folder", type=Path, default=Path("runs/time_to_accuracy"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.folder.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"machine": machine(options.threads), "settings": SETTINGS}
    for system in options.system:
        for seed in options.seeds:
            names = [*options.optimizer, *(["deepmd-adam", "deepmd-lkf"] if options.deepmd else [])]
            for name in names:
                path = options.folder / f"{system}-{name}-{seed}.json"
                if path.exists():
                    continue
                seconds = (
                    options.adam_seconds or options.seconds if name.endswith("adam") else options.seconds
                )
                if name.startswith("deepmd-"):
                    points = train_deepmd(options.deepmd, system, name.removeprefix("deepmd-"), seed, seconds)
                else:
                    points = train(system, name, seed, seconds)
                path.write_text(json.dumps(points), encoding="utf-8")
        curves: Curves = {}
        for path in sorted(options.folder.glob(f"{system}-*.json")):
            name, number = path.stem.removeprefix(f"{system}-").rsplit("-", 1)
            points = [Point(*values) for values in json.loads(path.read_text(encoding="utf-8"))]
            curves.setdefault(name, {})[int(number)] = points
        result[system] = compare(curves)
        plot(system, curves, result[system]["targets"], options.folder / f"{system}.png")
        for name, own in result[system]["optimizers"].items():
            for goal in result[system]["targets"]:
                print(f"{system:10s} {name:12s} to {FACTOR} x {goal}: {own['to_' + goal]['seconds']} s")
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
