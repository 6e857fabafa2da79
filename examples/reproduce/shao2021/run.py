"""Adam against the Kalman filter: Shao et al., J. Chem. Phys. 155, 204108 (2021).

    python examples/reproduce/shao2021/run.py --quick     (three minutes)
    python examples/reproduce/shao2021/run.py             (hours; with NNPKIT_DATA also revPBE0-D3 water)

The same potential, data and schedule of labels for both optimizers: errors against updates and time (Fig. 3), errors
against the learning rate (Figs. 7, S1), densities of several models in NPT runs (Fig. 5), Fisher spectra (Fig. 9).
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from common import ADAM, KALMAN, WATER, Simulation, Study, Training, compare_bars, panels  # noqa: E402

import nnpkit  # noqa: E402
from nnpkit.analysis.fisher import Spectrum, model_spectrum  # noqa: E402

RATES = {"adam": (1e-4, 1e-3, 1e-2), "ekf": (1e2, 1e3, 1e4)}
"""Learning rates over two decades, as in Fig. 7; that in the middle is the one of all other comparisons."""
PLANS: dict[str, dict[str, Any]] = {
    "quick": {
        "frames": "::8", "epochs": {"adam": 20, "ekf": 5}, "every": {"adam": 4, "ekf": 1}, "members": 3, "others": 1,
        "steps": 1200, "batches": 80, "fisher_frames": 8,
    },
    "full": {
        "frames": ":", "epochs": {"adam": 300, "ekf": 20}, "every": {"adam": 10, "ekf": 1}, "members": 10, "others": 3,
        "steps": 40000, "batches": 1000, "fisher_frames": 60,
    },
}  # fmt: skip
NAMES = {"adam": "Adam", "ekf": "EKF"}
COLORS = {"adam": ADAM, "ekf": KALMAN}
Trainings = dict[str, dict[float, list[Training]]]
"""Trainings by optimizer and learning rate."""


def optimizer(kind: str, rate: float, n_updates: int) -> dict[str, Any]:
    """Settings of the optimizer; Adam's rate decays as in the paper, where it falls 20-fold over the training."""
    if kind == "ekf":
        return {"kind": "ekf", "learning_rate": rate, "process_noise": 0.0}
    steps = max(1, n_updates // 500)
    return {"kind": "adam", "learning_rate": rate, "decay_factor": 0.994, "decay_steps": steps}


def train_all(
    study: Study, system: str, plan: dict[str, Any], data: dict[str, Any], n_frames: int
) -> Trainings:
    """Several models with the middle learning rate, fewer with the others."""
    found: Trainings = {}
    for kind, rates in RATES.items():
        epochs = plan["epochs"][kind]
        for rate in rates:
            change = {
                "data": data,
                "training": {
                    "epochs": epochs, "evaluate_every": plan["every"][kind],
                    "optimizer": optimizer(kind, rate, epochs * n_frames),
                },
            }  # fmt: skip
            n = plan["members"] if rate == rates[1] else plan["others"]
            label = f"{system}-{kind}-{rate:g}"
            runs = study.train_many(label, n, change) if n > 1 else [study.train(label, change)]
            found.setdefault(kind, {})[rate] = runs
    return found


def sooner(trainings: Trainings) -> tuple[float, float]:
    """How many times fewer updates, and less time, the filter needs to where Adam is at its best; medians."""
    adam, ekf = (trainings[kind][RATES[kind][1]] for kind in ("adam", "ekf"))
    best = [min(run.curve, key=lambda p: p.energy_rmse * p.force_rmse) for run in adam]
    energy, force = (
        statistics.median(getattr(p, key) for p in best) for key in ("energy_rmse", "force_rmse")
    )
    there = [run.first(energy, force) for run in ekf]

    def ratio(key: str) -> float:
        needed = statistics.median(np.inf if p is None else getattr(p, key) for p in there)
        return float(statistics.median(getattr(p, key) for p in best) / needed)

    return ratio("updates"), ratio("seconds")


def spread_over_rates(trainings: Trainings, kind: str) -> float:
    """Largest over smallest force error over the learning rates."""
    errors = [statistics.median(run.force_rmse for run in runs) for runs in trainings[kind].values()]
    return max(errors) / min(errors)


def densities(
    study: Study, system: str, plan: dict[str, Any], trainings: Trainings, start: str, temperature: float
) -> dict[str, list[Simulation]]:
    """NPT runs of the models with the middle learning rate."""
    options = (
        "--ensemble", "npt", "--temperature", temperature, "--timestep", 0.5, "--steps", plan["steps"], "--pdamp", 500,
    )  # fmt: skip
    return {
        kind: [
            study.simulate(f"{system}-npt-{kind}-{n}", run.folder / "model.pt", start, *options)
            for n, run in enumerate(trainings[kind][rates[1]])
        ]
        for kind, rates in RATES.items()
    }


def spectra(trainings: Trainings, path: str, plan: dict[str, Any]) -> dict[str, dict[float, Spectrum]]:
    """Fisher spectrum of one model for each learning rate."""
    frames = nnpkit.read(path)
    frames = frames[:: max(1, len(frames) // plan["fisher_frames"])]
    return {
        kind: {
            rate: model_spectrum(nnpkit.load(runs[0].folder).atomic_model(), frames, plan["batches"])
            for rate, runs in by_rate.items()
        }
        for kind, by_rate in trainings.items()
    }


def claims(
    study: Study, system: str, trainings: Trainings, npt: dict[str, list[Simulation]],
    fisher: dict[str, dict[float, Spectrum]],
) -> None:  # fmt: skip
    """Compare with what the paper says, and keep the numbers."""
    middle = {kind: trainings[kind][rates[1]] for kind, rates in RATES.items()}
    errors = {
        kind: [
            1e3 * statistics.median(getattr(run, key) for run in runs)
            for key in ("energy_rmse", "force_rmse")
        ]
        for kind, runs in middle.items()
    }
    updates, seconds = sooner(trainings)
    study.claim(f"{system}: updates that Adam takes for each of the filter's, to Adam's best errors", "about 10",
                f"{updates:.1f}", updates >= 5.0)  # fmt: skip
    study.claim(f"{system}: the same in time", "2.5 (5 h and 2 h)", f"{seconds:.1f}", seconds >= 1.25)
    quoted = {kind: f"{NAMES[kind]} {e:.2f} meV/atom, {f:.0f} meV/Å" for kind, (e, f) in errors.items()}
    ratio = errors["adam"][1] / errors["ekf"][1]
    study.claim(f"{system}: errors at the end", "similar", "; ".join(quoted.values()), 0.77 < ratio < 1.3)
    widest = {kind: spread_over_rates(trainings, kind) for kind in RATES}
    study.claim(f"{system}: force error, worst over best of learning rates over two decades", "EKF less sensitive",
                f"Adam {widest['adam']:.2f}, EKF {widest['ekf']:.2f}", widest["ekf"] < widest["adam"])  # fmt: skip
    stable = {kind: sum(run.stable for run in runs) for kind, runs in npt.items()}
    number = {kind: len(runs) for kind, runs in npt.items()}
    study.claim(f"{system}: models with a stable density in NPT", "Adam 2 of 10, EKF most (BLYP); all (revPBE0-D3)",
                ", ".join(f"{NAMES[k]} {stable[k]} of {number[k]}" for k in RATES),
                stable["ekf"] / number["ekf"] >= max(0.7, stable["adam"] / number["adam"]))  # fmt: skip
    density = {
        kind: [run.second_half("density_g_cm3") for run in runs if run.stable] for kind, runs in npt.items()
    }
    spread = {
        kind: float(np.std(values, ddof=1)) if len(values) > 1 else np.nan for kind, values in density.items()
    }
    study.claim(
        f"{system}: density, mean and spread of the models, g/cm³", "the filter's agree, Adam's do not (Fig. 5)",
        ", ".join(f"{NAMES[k]} {np.mean(density[k]):.3f} ± {spread[k]:.3f}" for k in RATES if density[k]),
        None if np.isnan(list(spread.values())).any() else spread["ekf"] < spread["adam"],
    )  # fmt: skip
    place = {
        kind: {rate: s.summary()["log10_median"] for rate, s in own.items()} for kind, own in fisher.items()
    }
    shift = place["ekf"][RATES["ekf"][1]] - place["adam"][RATES["adam"][1]]
    study.claim(f"{system}: Fisher eigenvalues, EKF over Adam (decades)", "larger by about 1 (BLYP)", f"{shift:+.2f}",
                shift > 0.5)  # fmt: skip
    ranges = {kind: max(own.values()) - min(own.values()) for kind, own in place.items()}
    study.claim(f"{system}: shift of the spectrum over the learning rates (decades)", "EKF almost none, Adam some",
                f"Adam {ranges['adam']:.2f}, EKF {ranges['ekf']:.2f}", ranges["ekf"] < ranges["adam"])  # fmt: skip
    study.numbers[system] = {
        "updates_ratio": updates, "time_ratio": seconds, "median_errors_meV": errors, "rate_spread": widest,
        "stable": stable, "density": density, "density_spread": spread, "fisher_log10_median": place,
        "force_rmse_by_rate": {
            kind: {rate: [run.force_rmse for run in runs] for rate, runs in by_rate.items()}
            for kind, by_rate in trainings.items()
        },
    }  # fmt: skip


def draw(
    path: Path, trainings: Trainings, npt: dict[str, list[Simulation]], fisher: dict[str, dict[float, Spectrum]],
    numbers: dict[str, Any],
) -> None:  # fmt: skip
    """Figs. 3, 7, 5 and 9 from what came out here, and the numbers of the text beside ours."""
    with panels(path, 3, 2) as (curves, rates, density, spectrum, quoted, stable):
        for kind, by_rate in trainings.items():
            color, name = COLORS[kind], NAMES[kind]
            for n, run in enumerate(by_rate[RATES[kind][1]]):
                points = [p for p in run.curve if p.updates]
                curves.loglog([p.updates for p in points], [p.force_rmse for p in points], color=color,
                              label=None if n else name)  # fmt: skip
            place = [rate / RATES[kind][1] for rate in by_rate]
            rates.loglog(place, [np.median([run.force_rmse for run in runs]) for runs in by_rate.values()], "o-",
                         color=color, label=name)  # fmt: skip
            for n, run in enumerate(npt[kind]):
                density.plot(
                    *run.series("density_g_cm3"), color=color, linewidth=0.9, label=None if n else name
                )
            for style, (rate, own) in zip((":", "-", "--"), fisher[kind].items(), strict=True):
                counts, edges = np.histogram(np.log10(own.resolved), bins=12, density=True)
                spectrum.plot(
                    (edges[1:] + edges[:-1]) / 2, counts, style, color=color, label=f"{name} {rate:g}"
                )
        curves.set(title="cf. Fig. 3b: training curves", xlabel="updates", ylabel="force RMSE, test (eV/Å)")
        rates.set(title="cf. Fig. 7b: learning rate", xlabel="learning rate / that of the other panels",
                  ylabel="force RMSE, test (eV/Å)")  # fmt: skip
        density.set(title="cf. Fig. 5: NPT", xlabel="time (ps)", ylabel="density (g/cm³)")
        spectrum.set(title="cf. Fig. 9: Fisher spectra", xlabel="log10 of the eigenvalue", ylabel="density")
        for axis in (curves, rates, density, spectrum):
            axis.legend(fontsize=7)
        shift = numbers["fisher_log10_median"]
        here = [numbers["updates_ratio"], numbers["time_ratio"],
                shift["ekf"][RATES["ekf"][1]] - shift["adam"][RATES["adam"][1]]]  # fmt: skip
        names = ["updates,\nAdam / EKF", "time,\nAdam / EKF", "Fisher shift,\ndecades"]
        compare_bars(quoted, names, [10, 2.5, 1], here)
        quoted.set(title="numbers of the text")
        fractions = [numbers["stable"][kind] / len(npt[kind]) for kind in RATES]
        compare_bars(stable, ["Adam", "EKF"], [0.2, np.nan], fractions)
        stable.set(title="models stable in NPT", ylabel="fraction (paper: EKF 'most')", ylim=(0, 1.05))


def study_system(
    study: Study, system: str, plan: dict[str, Any], data: dict[str, Any], start: str, temperature: float
) -> None:
    """Everything about one set of data."""
    path = data["train"]
    n_frames = len(nnpkit.read(path, frames=data["frames"]))
    trainings = train_all(study, system, plan, data, n_frames)
    npt = densities(study, system, plan, trainings, start, temperature)
    fisher = spectra(trainings, path, plan)
    claims(study, system, trainings, npt, fisher)
    draw(study.figure(f"{system.replace(' ', '_')}.png"), trainings, npt, fisher, study.numbers[system])


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Compare on the shipped water; on revPBE0-D3 water too, if it is there and there is time."""
    study = Study(HERE, arguments)
    plan = PLANS["quick" if study.quick else "full"]
    files = {
        "train": str(WATER / "train.xyz.xz"),
        "validation": str(WATER / "test.xyz.xz"),
        "frames": plan["frames"],
    }
    study_system(study, "GFN1 water", plan, files, f"{WATER / 'test.xyz.xz'}@0", 330.0)
    folder = study.published("water_revPBE0-D3_cnnp")
    if folder is not None and not study.quick:
        path = str(folder / "gen1_train.xyz.xz")
        data = {"train": path, "validation": None, "validation_fraction": 0.1, "frames": ":"}
        study_system(study, "revPBE0-D3 water", plan, data, f"{path}@0", 320.0)
    return study.finish()


if __name__ == "__main__":
    main()
