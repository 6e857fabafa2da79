"""The Kalman filter in blocks against Adam for Deep Potentials: Hu et al., RLEKF, AAAI 2023.

    python examples/reproduce/rlekf2023/run.py --quick     (minutes, a smaller network)
    python examples/reproduce/rlekf2023/run.py             (hours; with NNPKIT_DATA also copper and PBE0 water)

Adam with several learning rates and lengths, the authors' program (`preset: rlekf`), their printed algorithm (`preset:
rlekf_paper`) and the filter with every force component as an observation train the same network on the same boxes.
Epochs and processor time to 1.2 times the best errors (Fig. 4), errors at the end (Table 1), and errors for other first
values of the weights on the shortcuts (Fig. 6). A filter may stop at any time, Adam's learning rate decays over a
length that is chosen before: at every time Adam counts for the best of all its runs.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from common import ADAM, KALMAN, OTHER, WATER, Study, Training, compare_bars, panels  # noqa: E402

from nnpkit.config.config_file import config_from_mapping  # noqa: E402
from nnpkit.data.structure import Structure  # noqa: E402
from nnpkit.training.trainer import errors_of  # noqa: E402
from nnpkit.workflow import assemble  # noqa: E402
from nnpkit.workflow.new_model import make_model  # noqa: E402

FACTOR = 1.2
SMALL = {"descriptor": {"embedding": [8, 8, 8], "axis_neurons": 4}, "network": {"hidden": [16, 16, 16]}}
ADAM_SETTINGS = {
    "schedule": {"kind": "epoch", "forces": "all"},
    "optimizer": {
        "kind": "adam", "final_learning_rate": 1e-5, "prefactors": {}, "gradient_clip": None,
        "epsilon": 1e-8, "epsilon_convention": "torch",
    },
}  # fmt: skip
"""With the prefactors of DeePMD-kit."""
VECTOR_SETTINGS = {
    "schedule": {"kind": "groups"},
    "optimizer": {
        "kind": "ekf", "partition": "reorganized", "block_size": 1024, "dtype": "float32", "process_noise": 0.0,
        "noise": {"energy": 1e-3, "force": 0.05}, "noise_growth": 0.05,
    },
}  # fmt: skip
FILTERS: dict[str, dict[str, Any]] = {
    "RLEKF, program": {},
    "RLEKF, printed": {"optimizer": {"kind": "ekf", "preset": "rlekf_paper", "block_size": 5120}},
    "EKF, vectors": VECTOR_SETTINGS,
}
"""``training.yaml`` has the program's preset."""
COLORS = {
    "Adam": ADAM, "RLEKF, program": OTHER[0], "RLEKF, printed": OTHER[1], "EKF, vectors": KALMAN,
}  # fmt: skip
STARTS = ((0.1, 0.001), (0.0, 0.1), (1.0, 0.3))
"""Mean and standard deviation of the first weights on the shortcuts; the first is DeePMD-kit's."""
START_EPOCHS = 2
PLANS: dict[str, dict[str, Any]] = {
    "quick": {
        "epochs": {"RLEKF, program": 6, "RLEKF, printed": 6, "EKF, vectors": 3}, "lengths": (10, 40),
        "rates": (2e-3, 5e-3, 1e-2, 2e-2), "step": 9, "model": SMALL,
    },
    "full": {
        "epochs": {"RLEKF, program": 20, "RLEKF, printed": 20, "EKF, vectors": 5}, "lengths": (20, 50, 150),
        "rates": (1e-3, 2e-3, 5e-3, 1e-2, 2e-2), "step": 1, "model": {},
    },
}  # fmt: skip
"""Epochs of the filters; lengths (epochs) and first learning rates of Adam, all of each. Boxes: every `step`-th."""
Runs = dict[str, list[Training]]
"""Trainings by optimizer: one of a filter, one for each schedule of Adam."""
PAPER = {
    "copper": {"energy_rmse": (0.327, 0.442), "force_rmse": (45.2, 44.4)},
    "water": {"energy_rmse": (0.545, 1.00), "force_rmse": (68.1, 87.6)},
}
"""Table 1, test, RLEKF and Adam: meV/atom and meV/Å."""


def boxes(study: Study, plan: dict[str, Any]) -> dict[str, Any]:
    """The periodic boxes of 32 molecules."""

    def periodic(structure: Structure) -> bool:
        return structure.n_atoms == 96

    files = {"train": "train", "validation": "test"}
    return {
        part: study.select(f"boxes-{name}", WATER / f"{name}.xyz.xz", periodic, plan["step"])
        for part, name in files.items()
    }


def train_all(
    study: Study, system: str, plan: dict[str, Any], data: dict[str, Any]
) -> tuple[Runs, dict[str, float]]:
    """Trainings with each optimizer, and processor seconds of an update."""
    common = {"data": data, "model": plan["model"]}
    found: Runs = {"Adam": []}
    for length in plan["lengths"]:
        for rate in plan["rates"]:
            change = {
                "epochs": length,
                "evaluate_every": max(1, length // 10),
                "optimizer": {"learning_rate": rate},
            }
            label = f"{system}-Adam-{rate:g}-{length}"
            found["Adam"].append(
                study.train(label, common, {"training": ADAM_SETTINGS}, {"training": change})
            )
    seconds = {"Adam": study.update_seconds(common, {"training": ADAM_SETTINGS}, {"training": change})}
    for name, settings in FILTERS.items():
        length = {"training": {"epochs": plan["epochs"][name], "evaluate_every": 1}}
        label = f"{system}-{name.replace(', ', '-')}"
        found[name] = [study.train(label, common, {"training": settings}, length)]
        seconds[name] = study.update_seconds(common, {"training": settings}, length)
    return found, seconds


def best_error(runs: Sequence[Training], key: str) -> float:
    """The lowest error of any epoch of any run."""
    return min(getattr(point, key) for run in runs for point in run.curve)


class Need(NamedTuple):
    """What a target takes: the least of several runs; infinite for never."""

    epochs: float
    updates: float
    seconds: float


def to_target(runs: Runs, seconds: dict[str, float], kinds: Sequence[str]) -> dict[str, dict[str, Need]]:
    """What each of `kinds` needs to FACTOR times the lowest error that one of them has had, of either error."""
    result: dict[str, dict[str, Need]] = {}
    for key in ("energy_rmse", "force_rmse"):
        limit = FACTOR * min(best_error(runs[name], key) for name in kinds)
        bound = {"energy" if key == "energy_rmse" else "force": limit}
        result[key] = {}
        for name in kinds:
            points = [point for run in runs[name] if (point := run.first(**bound)) is not None]
            result[key][name] = Need(
                min((float(p.epoch) for p in points), default=np.inf),
                min((float(p.updates) for p in points), default=np.inf),
                min((p.updates * seconds[name] for p in points), default=np.inf),
            )
    return result


def robustness(study: Study, plan: dict[str, Any], data: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """Errors (eV/atom, eV/Å) after a few epochs of the filter, for several first weights on the shortcuts."""
    path, found = study.folder / "starts.json", {}
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    for mean, deviation in STARTS:
        name = f"N({mean:g}, {deviation:g}²)"
        if name not in known:
            print(f"training from {name}", flush=True)
            known[name] = train_from(study, plan, data, mean, deviation)
            path.write_text(json.dumps(known, ensure_ascii=False), encoding="utf-8")
        found[name] = (known[name][0], known[name][1])
    return found


def train_from(
    study: Study, plan: dict[str, Any], data: dict[str, Any], mean: float, deviation: float
) -> tuple[float, float]:
    """Test errors after a training whose first weights on the shortcuts are drawn with `mean` and `deviation`."""
    change = {
        "training": {**VECTOR_SETTINGS, "epochs": START_EPOCHS},
        "model": {"network": {"timestep": True}},
    }
    values = study.settings({"data": data, "model": plan["model"]}, change)
    config = config_from_mapping(values, HERE)
    loaded = assemble.load_data(config)
    model, _ = make_model(config, loaded)
    generator = torch.Generator().manual_seed(config.seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("timestep"):
                noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
                parameter.copy_(mean + deviation * noise)
    splits = assemble.make_splits(model, loaded.splits, 4e9)
    schedule = assemble.make_schedule(config, loaded.train)
    update = assemble.make_update(config, splits["train"].store, START_EPOCHS * schedule.epoch_length(0))
    for epoch in range(START_EPOCHS):
        update.begin_epoch(epoch)
        for labels in schedule.epoch():
            update.apply(labels)
    errors = errors_of(splits["validation"])
    return float(errors["energy_rmse"]), float(errors["force_rmse"])


def claims(study: Study, system: str, runs: Runs, seconds: dict[str, float]) -> None:
    """Speed and accuracy of the three filters against Adam's best, against the paper's copper and Table 1."""
    quoted = PAPER["copper" if "copper" in system else "water"]
    longest = {name: max(run.curve[-1].updates for run in own) * seconds[name] for name, own in runs.items()}
    numbers: dict[str, Any] = {"update_seconds": seconds, "seconds_trained": longest}
    adam = {key: 1e3 * best_error(runs["Adam"], key) for key in ("energy_rmse", "force_rmse")}
    for name in FILTERS:
        reached = to_target(runs, seconds, ("Adam", name))
        numbers[f"{name} reached"] = {
            key: {who: need._asdict() for who, need in own.items()} for key, own in reached.items()
        }
        for key, what in (("energy_rmse", "energies"), ("force_rmse", "forces")):
            claim_of_speed(
                study, f"{system}, {name}", what, reached[key]["Adam"], reached[key][name], longest
            )
        for key, what, unit, many in (
            ("energy_rmse", "energies", "meV/atom", "11 of 13"), ("force_rmse", "forces", "meV/Å", "7 of 13"),
        ):  # fmt: skip
            own, paper = 1e3 * best_error(runs[name], key), quoted[key]
            study.claim(f"{system}, {name} / best of Adam: lowest error of {what}, {unit}",
                        f"{paper[0]:g} / {paper[1]:g} (better in {many})", f"{own:.2f} / {adam[key]:.2f}",
                        "ordering", lower=[own], higher=[adam[key]])  # fmt: skip
            numbers.setdefault("best errors", {})[f"{name}, {what}"] = own
    numbers["best errors"] |= {f"Adam, {key}": value for key, value in adam.items()}
    numbers["Adam by schedule"] = {
        run.folder.name: [1e3 * run.curve[-1].energy_rmse, 1e3 * run.curve[-1].force_rmse]
        for run in runs["Adam"]
    }
    study.numbers[system] = numbers


def claim_of_speed(
    study: Study, who: str, what: str, adam: Need, own: Need, longest: dict[str, float]
) -> None:
    """One row of Fig. 4: Adam's epochs and processor time over the filter's, each to be above one."""
    paper = "11.67 and 1.19 (copper)" if what == "forces" else "never reached by Adam (copper)"
    claim = f"{who}: epochs, processor time to {FACTOR} × the best {what} of the two"
    shown = ", ".join(
        f"{name} {need.epochs:g} epochs, {need.seconds:.0f} s" if np.isfinite(need.epochs)
        else f"{name} not in {longest[name if name == 'Adam' else who.split(', ', 1)[1]]:.0f} s"
        for name, need in (("Adam", adam), ("filter", own))
    )  # fmt: skip
    if np.isinf(adam.seconds) and own.seconds > longest["Adam"]:
        study.claim(claim, paper, shown, "cannot_tell", reason="Adam was not trained for as long")
    else:
        study.claim(claim, paper, shown, "ordering", lower=[own.epochs, own.seconds],
                    higher=[adam.epochs, adam.seconds])  # fmt: skip


def draw(
    path: Path, runs: Runs, seconds: dict[str, float], starts: dict[str, tuple[float, float]], system: str
) -> None:
    """Errors against epochs and time, Table 1, Fig. 6."""
    quoted = PAPER["copper" if "copper" in system else "water"]
    with panels(path, 3, 2) as (epochs, forces, energy, first, bars, force):
        for name, own in runs.items():
            for number, run in enumerate(own):
                points = [p for p in run.curve if p.epoch]
                label, values = None if number else name, [p.force_rmse for p in points]
                style = {"color": COLORS[name], "linewidth": 0.8 if name == "Adam" else 1.4}
                epochs.loglog([p.epoch for p in points], values, ".-", label=label, **style)
                times = [p.updates * seconds[name] for p in points]
                forces.loglog(times, values, ".-", **style)
                energy.loglog(times, [p.energy_rmse for p in points], ".-", **style)
        for axis, x, y in ((epochs, "epoch", "force RMSE (eV/Å)"),
                           (forces, "processor time of updates (s)", "force RMSE (eV/Å)"),
                           (energy, "processor time of updates (s)", "energy RMSE (eV/atom)")):  # fmt: skip
            axis.set(xlabel=x, ylabel=y + ", validation")
        epochs.set_title(f"{system}: cf. Figs. 4, 5")
        epochs.legend(fontsize=8)
        for name, (e, f) in starts.items():
            first.plot(1e3 * e, 1e3 * f, "o", label=name)
        first.set(
            title="cf. Fig. 6: first weights", xlabel="energy RMSE (meV/atom)", ylabel="force RMSE (meV/Å)"
        )
        first.legend(fontsize=7)
        for axis, key, label in (
            (bars, "energy_rmse", "energies (meV/atom)"),
            (force, "force_rmse", "forces (meV/Å)"),
        ):
            here = [1e3 * best_error(runs[n], key) for n in ("RLEKF, program", "Adam")]
            compare_bars(axis, ["RLEKF", "Adam"], quoted[key], here)
            vectors = 1e3 * best_error(runs["EKF, vectors"], key)
            axis.axhline(vectors, color=KALMAN, linestyle="--", linewidth=0.9, label="EKF, vectors")
            axis.set(title="cf. Table 1", ylabel=label)
            axis.legend(fontsize=8)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Compare on the shipped water; on copper and PBE0 water too, if they are there and there is time."""
    study = Study(HERE, arguments)
    plan = PLANS["quick" if study.quick else "full"]
    systems = {"GFN1 water": boxes(study, plan)}
    copper, water = study.published("pwmlff_Cu"), study.published("water_PBE0TS_deepmd")
    if copper is not None and not study.quick:
        files = [str(path) for path in sorted(copper.glob("*.xyz.xz"))]
        systems["copper"] = {
            "train": files,
            "validation": None,
            "validation_fraction": 0.2,
            "split": "sequential",
        }
    if water is not None and not study.quick:
        systems["PBE0 water"] = {
            "train": str(water / "train.xyz.xz"),
            "validation": str(water / "valid.xyz.xz"),
        }
    starts = robustness(study, plan, systems["GFN1 water"])
    for system, data in systems.items():
        runs, seconds = train_all(study, system.replace(" ", "_"), plan, data)
        claims(study, system, runs, seconds)
        draw(study.figure(f"{system.replace(' ', '_')}.png"), runs, seconds, starts, system)
    forces = [f for _, f in starts.values()]
    worst = max(forces) / forces[0]
    study.claim("GFN1 water, EKF, vectors: force error after other first weights on the shortcuts, worst over usual",
                "similar, none diverges (Fig. 6)", f"{worst:.2f}", "within_interval", here=[worst],
                high=1.2)  # fmt: skip
    study.numbers["first weights"] = starts
    return study.finish()


if __name__ == "__main__":
    main()
