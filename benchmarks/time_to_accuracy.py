"""How long Adam and the Kalman filter take to an accurate Deep Potential, as in Fig. 4 of Hu et al. (RLEKF, AAAI 2023).

Every optimizer trains the same network on the same published data (NNPKIT_DATA). Errors of the validation set are
computed now and then with the clock stopped; the clock is processor time, which another program on the machine does not
use up. The filter can be stopped at any time. Adam cannot: its learning rate decays over a budget that is chosen
before. So Adam is trained with several rates and budgets, and at every time counts for what the best of all of these
runs has reached by then, chosen for either error by itself: more than one training could have. Errors of the test set
are computed once, when a run has ended. Runs are kept in the folder, and what is there is not computed again. ::

    python benchmarks/time_to_accuracy.py --system cu72 --optimizer adam sequential --adam-rates 0.01 0.02 0.05 \\
        --adam-seconds 30 60 120 --seconds 60 --seeds 1
    python benchmarks/time_to_accuracy.py --deepmd ENVIRONMENT ...     # and DeePMD-kit's Adam and LKF

The last line is ``RESULT {json}``.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from deep_systems import OPTIMIZERS, SYSTEMS, load_system, machine, open_session, samples

FIRST, GROWTH = 2.0, 1.25  # seconds of the first evaluation, and ratio of the times of later ones
TIMES = (5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 240.0, 480.0)
"""Seconds at which errors are compared."""
_BLOCKS = {"block_size": 1024, "dtype": "float32"}
KALMAN = {
    "cu72": {**_BLOCKS, "noise": {"energy": 5e-4, "force": 0.02}},
    "water192": {**_BLOCKS, "noise": {"energy": 1e-3, "force": 0.05}},
}
"""What is different from `deep_systems.OPTIMIZERS`. The noise of a label is about the error of a trained potential."""
ADAM_RATES = {"cu72": (5e-3, 1e-2, 2e-2, 5e-2), "water192": (2e-3, 5e-3, 1e-2, 2e-2)}
"""First learning rates; `compare` says whether the best is at an end. The last one is 10⁻⁵."""
ADAM_SECONDS = (30.0, 60.0, 120.0, 240.0)
"""Budgets over which the rate decays, in processor seconds."""
ADAM_SAMPLE = {"cu72": 0.007, "water192": 0.034}
"""Seconds that a sample of Adam takes, from train_step.py: a budget is a number of epochs, which is run to its end."""


class Point(NamedTuple):
    """Errors of the validation set at one moment."""

    seconds: float  # processor time of training
    epoch: float
    energy_rmse: float  # eV/atom
    force_rmse: float  # eV/Å


class Run(NamedTuple):
    """One training."""

    points: list[Point]
    test: tuple[float, float] | None = None  # errors of the test set at the end, eV/atom and eV/Å
    schedule: tuple[float, float] | None = None  # Adam's first learning rate and budget in seconds


def train(
    system: str,
    optimizer: str,
    seed: int,
    seconds: float,
    rate: float | None = None,
    epochs: int | None = None,
) -> Run:
    """One training of `seconds`; Adam's ends when its learning rate has reached its end, after `epochs`."""
    data = load_system(system)
    adam = optimizer == "adam"
    if epochs is None:
        epochs = max(1, round(seconds / (ADAM_SAMPLE[system] * len(data[0])))) if adam else 10_000
    changes = {"learning_rate": rate, "final_learning_rate": 1e-5} if adam else KALMAN[system]
    session = open_session(data, optimizer, seed, epochs, changes)
    points: list[Point] = []
    spent, due, limit = 0.0, FIRST, math.inf if adam else seconds
    what = f"{system} {optimizer}" + (f" {rate:g} {seconds:g} s" if adam else "") + f" seed {seed}"
    for epoch in range(epochs):
        session.update.begin_epoch(epoch)
        for number, sample in enumerate(samples(session.schedule.epoch()), start=1):
            start = time.process_time()
            for labels in sample:
                session.update.apply(labels)
            spent += time.process_time() - start
            if spent >= min(due, limit):
                due = max(due, spent) * GROWTH
                points.append(Point(spent, epoch + number / len(data[0]), *session.errors("validation")))
                _say(what, points[-1])
            if spent >= limit:
                break
        if spent >= limit:
            break
    if adam:
        points.append(Point(spent, epochs, *session.errors("validation")))
        _say(what, points[-1])
    return Run(points, session.errors("test"), (float(rate or 0.0), seconds) if adam else None)


def train_deepmd(environment: Path, system: str, optimizer: str, seed: int, seconds: float) -> Run:
    """The same for DeePMD-kit; its Adam is told how many steps there is time for."""
    from deepmd_peer import Settings, run_deepmd

    step = {"cu72": {"adam": 0.027, "lkf": 1.7}, "water192": {"adam": 0.095, "lkf": 3.4}}[system][optimizer]
    train_set, validation, _ = load_system(system)
    steps = max(10, round(seconds / step))
    settings = Settings(
        optimizer=optimizer, steps=steps, seconds=seconds, seed=seed, fitting_timestep=False, points=20
    )
    found = run_deepmd(environment, train_set, validation, settings)
    return Run([Point(p.cpu_seconds, p.epoch, p.energy_rmse, p.force_rmse) for p in found])


def _say(what: str, point: Point) -> None:
    print(
        f"{what}: {point.seconds:7.1f} s  epoch {point.epoch:8.2f}  {1e3 * point.energy_rmse:8.3f} meV/atom"
        f"  {1e3 * point.force_rmse:8.2f} meV/Å",
        flush=True,
    )


Curves = dict[str, dict[int, list[Run]]]
"""Runs by optimizer and seed: one of a filter, one for each schedule of Adam."""


def envelope(runs: Sequence[Run], seconds: float) -> tuple[float, float]:
    """Lowest errors that any of `runs` has had within `seconds`, each by itself: eV/atom, eV/Å; infinite for none."""
    points = [p for run in runs for p in run.points if p.seconds <= seconds]
    return (
        min((p.energy_rmse for p in points), default=math.inf),
        min((p.force_rmse for p in points), default=math.inf),
    )


def earliest(runs: Sequence[Run], energy: float, force: float) -> float:
    """Seconds until the first of `runs` is below both errors; infinite if none is."""
    reached = (
        p.seconds for run in runs for p in run.points if p.energy_rmse <= energy and p.force_rmse <= force
    )
    return min(reached, default=math.inf)


def kept(run: Run, seconds: float) -> tuple[float, float]:
    """Errors of the moment that a training would keep: the lowest product of both within `seconds`."""
    points = [p for p in run.points if p.seconds <= seconds]
    best = min(points, key=lambda p: p.energy_rmse * p.force_rmse, default=None)
    return (math.inf, math.inf) if best is None else (best.energy_rmse, best.force_rmse)


def at_times(runs: dict[int, list[Run]]) -> dict[float, tuple[float, float]]:
    """Errors at `TIMES` that the trainings lasted for, medians over seeds: `envelope` of Adam, `kept` of one run."""
    longest = min(max(p.seconds for run in own for p in run.points) for own in runs.values())
    found = {}
    for seconds in (t for t in TIMES if t <= 1.05 * longest):
        pairs = [
            envelope(own, 1.05 * seconds) if own[0].schedule else kept(own[0], 1.05 * seconds)
            for own in runs.values()
        ]
        found[seconds] = (statistics.median(e for e, _ in pairs), statistics.median(f for _, f in pairs))
    return found


def best_rate(runs: dict[int, list[Run]]) -> dict[str, Any]:
    """Adam's rate with the lowest product of final errors for each budget, and whether it is the last one tried."""
    found: dict[str, Any] = {}
    finals: dict[float, dict[float, list[float]]] = {}
    for own in runs.values():
        for run in own:
            rate, budget = run.schedule or (0.0, 0.0)
            last = run.points[-1]
            finals.setdefault(budget, {}).setdefault(rate, []).append(last.energy_rmse * last.force_rmse)
    for budget, products in sorted(finals.items()):
        rates = sorted(products)
        best = min(rates, key=lambda rate: statistics.median(products[rate]))
        edge = best in (rates[0], rates[-1])
        found[f"{budget:g}"] = {"rate": best, "of": rates, "at_the_edge": edge}
    return found


def compare(curves: Curves) -> dict[str, Any]:
    """Errors at equal times, and when Adam is where each filter was, medians over seeds; None for never."""
    result: dict[str, Any] = {}
    adam = curves.get("adam")
    for name, runs in curves.items():
        own: dict[str, Any] = {
            "seeds": sorted(runs),
            "errors_at": at_times(runs),
            "runs": [
                {
                    "seed": seed, "schedule": run.schedule, "seconds": run.points[-1].seconds,
                    "epochs": run.points[-1].epoch, "validation": run.points[-1][2:], "test": run.test,
                }
                for seed, group in runs.items() for run in group
            ],
        }  # fmt: skip
        if adam is not None and name != "adam":
            own["adam_there_after"] = {
                seconds: _finite(statistics.median(earliest(group, *errors) for group in adam.values()))
                for seconds, errors in own["errors_at"].items()
            }
            last = {seed: envelope(group, math.inf) for seed, group in adam.items()}
            there = [earliest(group, *last[seed]) for seed, group in runs.items() if seed in last]
            own["where_adam_ends_after"] = _finite(statistics.median(there or [math.inf]))
        result[name] = own
    if adam is not None:
        result["adam"]["best_rates"] = best_rate(adam)
        result["adam"]["longest"] = max(r.points[-1].seconds for group in adam.values() for r in group)
    return result


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def plot(system: str, curves: Curves, path: Path) -> None:
    """Errors against time: a line for each run, Adam's envelope in bold."""
    import matplotlib
    import matplotlib.ticker

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    keys = (("force_rmse", "force RMSE (eV/Å)"), ("energy_rmse", "energy RMSE (eV/atom)"))
    for axis, (key, label) in zip(axes, keys, strict=True):
        for color, (name, runs) in enumerate(curves.items()):
            every = [run for group in runs.values() for run in group]
            for number, run in enumerate(every):
                axis.loglog(
                    [p.seconds for p in run.points], [getattr(p, key) for p in run.points], color=f"C{color}",
                    linewidth=0.8, alpha=0.6 if name == "adam" else 1.0, label=None if number else name,
                )  # fmt: skip
            if name == "adam":
                times = sorted(p.seconds for run in every for p in run.points)
                place = 1 if key == "force_rmse" else 0
                axis.step(
                    times, [envelope(every, t)[place] for t in times], where="post", color=f"C{color}",
                    linewidth=2.0, label="best of Adam's schedules",
                )  # fmt: skip
        longest = max(
            p.seconds for runs in curves.values() for own in runs.values() for r in own for p in r.points
        )
        ticks = [t for t in (FIRST, *TIMES) if t <= longest]
        axis.set_xticks(ticks, [f"{t:g}" for t in ticks])
        axis.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
        axis.set(xlabel="training, processor time (s)", ylabel=label + ", validation")
    axes[0].legend(frameon=False, fontsize=8)
    figure.suptitle(system, fontsize=10)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def read_runs(folder: Path, system: str) -> Curves:
    """Everything that has been trained."""
    curves: Curves = {}
    for path in sorted(folder.glob(f"{system}-*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        schedule = content["schedule"]
        run = Run(
            [Point(*values) for values in content["points"]],
            None if content["test"] is None else tuple(content["test"]),
            None if schedule is None else tuple(schedule),
        )  # fmt: skip
        curves.setdefault(content["optimizer"], {}).setdefault(content["seed"], []).append(run)
    return curves


def show(system: str, result: dict[str, Any]) -> None:
    """Print what is compared."""
    for name, own in result.items():
        for seconds, (energy, force) in own["errors_at"].items():
            there = own.get("adam_there_after", {}).get(seconds, "")
            words = "" if there == "" else "   Adam: " + ("never" if there is None else f"{there:.1f} s")
            print(
                f"{system} {name:12s} {seconds:5.0f} s {1e3 * energy:7.3f} meV/atom {1e3 * force:7.2f} meV/Å{words}"
            )
    print(f"{system} Adam's best rates by budget: {result.get('adam', {}).get('best_rates')}")


def work(options: argparse.Namespace, system: str) -> None:
    """Train what is missing."""
    names = [*options.optimizer, *(["deepmd-adam", "deepmd-lkf"] if options.deepmd else [])]
    rates = options.adam_rates or ADAM_RATES[system]
    for seed in options.seeds:
        for name in names:
            adam = [(rate, budget) for budget in options.adam_seconds for rate in rates]
            for rate, seconds in adam if name == "adam" else [(None, options.seconds)]:
                label = name if rate is None else f"{name}-{rate:g}-{seconds:g}"
                path = options.folder / f"{system}-{label}-{seed}.json"
                if path.exists():
                    continue
                if name.startswith("deepmd-"):
                    run = train_deepmd(options.deepmd, system, name.removeprefix("deepmd-"), seed, seconds)
                else:
                    run = train(system, name, seed, seconds, rate)
                content = {"optimizer": name, "seed": seed, **run._asdict()}
                path.write_text(json.dumps(content), encoding="utf-8")


def main() -> None:
    """Train what is missing, compare everything, draw it, print one line RESULT {json}."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--system", nargs="+", choices=SYSTEMS, default=list(SYSTEMS))
    parser.add_argument("--optimizer", nargs="*", choices=OPTIMIZERS, default=list(OPTIMIZERS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument(
        "--seconds", type=float, default=240.0, help="processor time of each training with the Kalman filter"
    )
    parser.add_argument("--adam-seconds", type=float, nargs="+", default=ADAM_SECONDS, help="budgets of Adam")
    parser.add_argument("--adam-rates", type=float, nargs="+", help="first learning rates of Adam")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--deepmd", type=Path, help="environment with DeePMD-kit's PyTorch backend")
    parser.add_argument("--folder", type=Path, default=Path("runs/time_to_accuracy"))
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.folder.mkdir(parents=True, exist_ok=True)
    result: dict[str, Any] = {"machine": machine(options.threads), "clock": "processor time"}
    for system in options.system:
        work(options, system)
        curves = read_runs(options.folder, system)
        result[system] = compare(curves)
        plot(system, curves, options.folder / f"{system}.png")
        show(system, result[system])
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
