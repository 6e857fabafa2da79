"""Adam against the Kalman filter: Shao et al., J. Chem. Phys. 155, 204108 (2021).

    python examples/reproduce/shao2021/run.py --quick     (three minutes)
    python examples/reproduce/shao2021/run.py             (hours; with NNPKIT_DATA also revPBE0-D3 water)

The same potential, data and schedule of labels for both optimizers, each at its best learning rate, which is searched
for until it is not at the edge of what was tried: updates and processor time to given errors (Fig. 3), errors against
the learning rate (Figs. 7, S1), densities of several models in NPT runs of 20 ps (Fig. 5, full runs only), Fisher
spectra (Fig. 9).
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from common import ADAM, KALMAN, WATER, Simulation, Study, Training, panels  # noqa: E402

import nnpkit  # noqa: E402
from nnpkit.analysis.fisher import Spectrum, model_spectrum  # noqa: E402

DECADE = 10.0
FIRST_RATES = {"adam": (1e-3, 1e-2, 1e-1), "ekf": (1e2, 1e3, 1e4)}
"""Learning rates that are tried first; more follow until the best is not at an edge, see `search`."""
MOST_RATES = 7
TARGETS = (1.0, 1.5, 2.0)
"""A target is this many times the best errors that both optimizers end with."""
DENSITY_PS = 20.0
"""Shortest run in NPT that a density is taken from."""
PLANS: dict[str, dict[str, Any]] = {
    "quick": {
        "frames": "::16", "epochs": {"adam": 30, "ekf": 6}, "every": {"adam": 3, "ekf": 1}, "members": 1, "others": 1,
        "steps": 0, "batches": 40, "fisher_frames": 6,
    },
    "full": {
        "frames": ":", "epochs": {"adam": 300, "ekf": 20}, "every": {"adam": 5, "ekf": 1}, "members": 10, "others": 3,
        "steps": 40000, "batches": 1000, "fisher_frames": 60,
    },
}  # fmt: skip
"""Steps in NPT are of 0.5 fs; with none no density is claimed."""
TIMESTEP = 0.5
NAMES = {"adam": "Adam", "ekf": "EKF"}
COLORS = {"adam": ADAM, "ekf": KALMAN}
Trainings = dict[str, dict[float, list[Training]]]
"""Trainings by optimizer and learning rate, rates in order."""


def optimizer(kind: str, rate: float, n_updates: int) -> dict[str, Any]:
    """Settings of the optimizer; Adam's rate decays as in the paper, where it falls 20-fold over the training."""
    if kind == "ekf":
        return {"kind": "ekf", "learning_rate": rate, "process_noise": 0.0}
    steps = max(1, n_updates // 500)
    return {"kind": "adam", "learning_rate": rate, "decay_factor": 0.994, "decay_steps": steps}


def search(tried: Sequence[float], error: Callable[[float], float]) -> dict[float, float]:
    """Errors at learning rates a decade apart, beyond those of `tried` until the lowest is not at an edge."""
    found = {rate: error(rate) for rate in tried}
    while len(found) < MOST_RATES:
        rates = sorted(found)
        best = min(rates, key=lambda rate: found[rate])
        if best == rates[0]:
            found[rates[0] / DECADE] = error(rates[0] / DECADE)
        elif best == rates[-1]:
            found[rates[-1] * DECADE] = error(rates[-1] * DECADE)
        else:
            break
    return dict(sorted(found.items()))


def quality(runs: Sequence[Training]) -> float:
    """What a learning rate is judged by: the product of both errors of the best epoch, infinite if it diverged."""
    value = statistics.median(run.energy_rmse * run.force_rmse for run in runs)
    return value if np.isfinite(value) else float("inf")


def best_rate(by_rate: dict[float, list[Training]]) -> float:
    """The learning rate with the lowest `quality`."""
    return min(by_rate, key=lambda rate: quality(by_rate[rate]))


def train_all(
    study: Study, system: str, plan: dict[str, Any], data: dict[str, Any], n_frames: int
) -> tuple[Trainings, dict[str, float]]:
    """Several models with the best learning rate, fewer with the others; processor seconds of an update."""
    found: Trainings = {}
    seconds: dict[str, float] = {}
    for kind in NAMES:
        epochs = plan["epochs"][kind]

        def change(rate: float, kind: str = kind, epochs: int = epochs) -> dict[str, Any]:
            return {
                "data": data,
                "training": {
                    "epochs": epochs, "evaluate_every": plan["every"][kind],
                    "optimizer": optimizer(kind, rate, epochs * n_frames),
                },
            }  # fmt: skip

        def train(rate: float, members: int, kind: str = kind, change: Any = change) -> list[Training]:
            label = f"{system}-{kind}-{rate:g}".replace(" ", "_")
            return [study.train(f"{label}-{n}", change(rate), {"seed": n}) for n in range(1, members + 1)]

        runs: dict[float, list[Training]] = {}

        def error(rate: float, runs: dict[float, list[Training]] = runs, train: Any = train) -> float:
            runs[rate] = train(rate, plan["others"])
            return quality(runs[rate])

        rates = search(FIRST_RATES[kind], error)
        best = best_rate(runs)
        runs[best] = train(best, plan["members"])
        found[kind] = {rate: runs[rate] for rate in rates}
        seconds[kind] = study.update_seconds(change(best))
    return found, seconds


class Reached(NamedTuple):
    """When each optimizer is below a target: updates, medians of the models; infinite for never."""

    energy: float  # eV/atom
    force: float  # eV/Å
    updates: dict[str, float]
    longest: dict[str, float]  # updates that were made


def when_reached(runs: dict[str, list[Training]], factor: float) -> Reached:
    """Updates until both errors are below `factor` times the larger of those that the two optimizers are best at."""
    ends = {
        key: max(statistics.median(getattr(run, key) for run in own) for own in runs.values())
        for key in ("energy_rmse", "force_rmse")
    }
    energy, force = factor * ends["energy_rmse"], factor * ends["force_rmse"]
    there = {kind: [run.first(energy, force) for run in own] for kind, own in runs.items()}
    return Reached(
        energy, force,
        {k: float(statistics.median(np.inf if p is None else p.updates for p in own)) for k, own in there.items()},
        {k: float(max(run.curve[-1].updates for run in own)) for k, own in runs.items()},
    )  # fmt: skip


def quotient(reached: Reached, cost: dict[str, float]) -> tuple[float | None, bool]:
    """Adam's over the filter's need, an update counted as `cost`, and whether Adam only needs at least so much."""
    own = reached.updates["ekf"] * cost["ekf"]
    if np.isinf(own):
        return None, False
    never = np.isinf(reached.updates["adam"])
    adam = reached.longest["adam"] if never else reached.updates["adam"]
    return adam * cost["adam"] / own, bool(never)


def spread_over_rates(by_rate: dict[float, list[Training]]) -> float | None:
    """Largest over smallest force error from a tenth to ten times the best rate; None if one diverged or is missing."""
    best, rates = best_rate(by_rate), list(by_rate)
    place = rates.index(best)
    if place in (0, len(rates) - 1):
        return None
    errors = [
        statistics.median(run.force_rmse for run in by_rate[rate]) for rate in rates[place - 1 : place + 2]
    ]
    return max(errors) / min(errors) if np.isfinite(errors).all() else None


def densities(
    study: Study, system: str, plan: dict[str, Any], trainings: Trainings, start: str, temperature: float
) -> dict[str, list[Simulation]]:
    """NPT runs of the models with the best learning rate, if they are long enough for a density."""
    if plan["steps"] * TIMESTEP < 1e3 * DENSITY_PS:
        return {}
    options = (
        "--ensemble", "npt", "--temperature", temperature, "--timestep", TIMESTEP, "--steps", plan["steps"],
        "--pdamp", 500,
    )  # fmt: skip
    return {
        kind: [
            study.simulate(f"{system}-npt-{kind}-{n}", run.folder / "model.pt", start, *options)
            for n, run in enumerate(by_rate[best_rate(by_rate)])
        ]
        for kind, by_rate in trainings.items()
    }


def spectra(trainings: Trainings, path: str, plan: dict[str, Any]) -> dict[str, dict[float, Spectrum]]:
    """Fisher spectrum of one model for each learning rate within a decade of the best."""
    frames = nnpkit.read(path)
    frames = frames[:: max(1, len(frames) // plan["fisher_frames"])]
    return {
        kind: {
            rate: model_spectrum(nnpkit.load(runs[0].folder).atomic_model(), frames, plan["batches"])
            for rate, runs in by_rate.items()
            if 0.09 < rate / best_rate(by_rate) < 11.0
        }
        for kind, by_rate in trainings.items()
    }


def claims(
    study: Study, system: str, trainings: Trainings, seconds: dict[str, float], npt: dict[str, list[Simulation]],
    fisher: dict[str, dict[float, Spectrum]],
) -> None:  # fmt: skip
    """Compare with what the paper says, and keep the numbers."""
    rates = {kind: best_rate(by_rate) for kind, by_rate in trainings.items()}
    best = {kind: trainings[kind][rate] for kind, rate in rates.items()}
    claims_of_speed(study, system, best, seconds)
    errors = {kind: [1e3 * run.force_rmse for run in runs] for kind, runs in best.items()}
    energies = {kind: [1e3 * run.energy_rmse for run in runs] for kind, runs in best.items()}
    quoted = [
        f"{NAMES[kind]} {statistics.median(energies[kind]):.2f} meV/atom, {statistics.median(errors[kind]):.0f} meV/Å"
        for kind in NAMES
    ]
    ratios = [statistics.median(e["adam"]) / statistics.median(e["ekf"]) for e in (energies, errors)]
    study.claim(f"{system}: errors at the end (Adam's over the filter's)", "similar",
                "; ".join(quoted), "within_factor", here=ratios, paper=1.0, factor=1.2)  # fmt: skip
    widest = {kind: spread_over_rates(by_rate) for kind, by_rate in trainings.items()}
    words = ", ".join(
        f"{NAMES[k]} " + ("not known" if v is None else f"{v:.2f}") + f" (best {rates[k]:g} of "
        f"{min(trainings[k]):g} to {max(trainings[k]):g})"
        for k, v in widest.items()
    )
    claim = f"{system}: force error, worst over best of learning rates within a decade of the best"
    if None in widest.values():
        study.claim(claim, "EKF less sensitive", words, "cannot_tell", reason="the best rate is at an edge")
    else:
        study.claim(
            claim, "EKF less sensitive", words, "ordering", lower=[widest["ekf"]], higher=[widest["adam"]]
        )
    density = claims_of_density(study, system, npt)
    place = {
        kind: {rate: s.summary()["log10_median"] for rate, s in own.items()} for kind, own in fisher.items()
    }
    shift = place["ekf"][rates["ekf"]] - place["adam"][rates["adam"]]
    study.claim(f"{system}: Fisher eigenvalues, EKF over Adam (decades)", "larger by about 1 (BLYP)", f"{shift:+.2f}",
                "within_interval", here=[shift], low=0.5, high=1.5)  # fmt: skip
    ranges = {kind: max(own.values()) - min(own.values()) for kind, own in place.items()}
    study.claim(f"{system}: shift of the spectrum over these learning rates (decades)", "EKF almost none, Adam some",
                f"Adam {ranges['adam']:.2f}, EKF {ranges['ekf']:.2f}", "ordering", lower=[ranges["ekf"]],
                higher=[ranges["adam"]])  # fmt: skip
    study.numbers[system] = {
        "best_rates": rates, "errors_meV": {"energies": energies, "forces": errors}, "rate_spread": widest,
        "update_seconds": seconds, "density": density, "fisher_log10_median": place,
        "reached": {factor: when_reached(best, factor)._asdict() for factor in TARGETS},
        "force_rmse_by_rate": {
            kind: {rate: [run.force_rmse for run in runs] for rate, runs in by_rate.items()}
            for kind, by_rate in trainings.items()
        },
    }  # fmt: skip


def claims_of_speed(
    study: Study, system: str, best: dict[str, list[Training]], seconds: dict[str, float]
) -> None:
    """Fig. 3: when each optimizer is at a target, at its best learning rate."""
    for factor in TARGETS:
        reached = when_reached(best, factor)
        where = f"{1e3 * reached.energy:.1f} meV/atom and {1e3 * reached.force:.0f} meV/Å"
        for what, paper, cost, words in (
            ("updates", 10.0, dict.fromkeys(NAMES, 1.0), "about 10"),
            ("processor time", 2.5, seconds, "2.5 (5 h and 2 h)"),
        ):
            ratio, bound = quotient(reached, cost)
            needs = ", ".join(
                f"{NAMES[k]} " + amount(reached.updates[k] * cost[k], reached.longest[k] * cost[k], what)
                for k in NAMES
            )
            shown = "" if ratio is None else f": {'more than ' if bound else ''}{ratio:.1f}"
            study.claim(f"{system}: Adam's {what} over the filter's to {where}", words, needs + shown,
                        "within_factor", here=[ratio], paper=paper, factor=2.0, at_least=bound)  # fmt: skip


def amount(value: float, longest: float, what: str) -> str:
    """A number of updates or seconds."""
    unit = "" if what == "updates" else " s"
    number = longest if np.isinf(value) else value
    digits = f"{number:.0f}" if what == "updates" else f"{number:.1f}"
    return f"not reached in {digits}{unit}" if np.isinf(value) else digits + unit


def claims_of_density(study: Study, system: str, npt: dict[str, list[Simulation]]) -> dict[str, list[float]]:
    """Fig. 5: models whose density is stable, and how the densities of these agree."""
    stable_claim = f"{system}: models with a stable density in NPT, {DENSITY_PS:g} ps"
    claim = f"{system}: density, mean and spread of the models, g/cm³"
    many, agree = "Adam 2 of 10, EKF most (BLYP)", "the filter's agree, Adam's do not (Fig. 5)"
    if not npt:
        reason = f"needs {DENSITY_PS:g} ps of NPT for each model"
        study.claim(stable_claim, many, "not run", "cannot_tell", reason=reason)
        study.claim(claim, agree, "not run", "cannot_tell", reason=reason)
        return {}
    stable = {kind: sum(run.stable for run in runs) / len(runs) for kind, runs in npt.items()}
    study.claim(stable_claim, many, ", ".join(f"{NAMES[k]} {v:.0%}" for k, v in stable.items()), "ordering",
                lower=[stable["adam"], 0.5], higher=[stable["ekf"], stable["ekf"]])  # fmt: skip
    density = {
        kind: [run.second_half("density_g_cm3") for run in runs if run.stable] for kind, runs in npt.items()
    }
    words = ", ".join(
        f"{NAMES[k]} {np.mean(v):.3f} ± {np.std(v, ddof=1):.3f}" for k, v in density.items() if len(v) > 1
    )
    study.claim(claim, agree, words or "none", "smaller_spread", narrow=density["ekf"], wide=density["adam"])
    return density


def draw(
    path: Path, trainings: Trainings, seconds: dict[str, float], npt: dict[str, list[Simulation]],
    fisher: dict[str, dict[float, Spectrum]],
) -> None:  # fmt: skip
    """Figs. 3, 7, 5 and 9 from what came out here."""
    with panels(path, 3, 2) as (curves, times, rates, spectrum, density, energies):
        for kind, by_rate in trainings.items():
            color, name = COLORS[kind], NAMES[kind]
            best = best_rate(by_rate)
            for n, run in enumerate(by_rate[best]):
                points = [p for p in run.curve if p.updates]
                label = None if n else f"{name}, rate {best:g}"
                curves.loglog(
                    [p.updates for p in points], [p.force_rmse for p in points], color=color, label=label
                )
                times.loglog(
                    [p.updates * seconds[kind] for p in points], [p.force_rmse for p in points], color=color
                )
                energies.loglog([p.updates for p in points], [p.energy_rmse for p in points], color=color)
            rates.loglog([rate / best for rate in by_rate],
                         [np.median([run.force_rmse for run in runs]) for runs in by_rate.values()], "o-",
                         color=color, label=name)  # fmt: skip
            for n, simulation in enumerate(npt.get(kind, [])):
                density.plot(*simulation.series("density_g_cm3"), color=color, linewidth=0.9,
                             label=None if n else name)  # fmt: skip
            for rate, own in fisher[kind].items():
                counts, edges = np.histogram(np.log10(own.resolved), bins=12, density=True)
                style = "-" if rate == best else ":"
                spectrum.plot(
                    (edges[1:] + edges[:-1]) / 2, counts, style, color=color, label=f"{name} {rate:g}"
                )
        force = "force RMSE, validation (eV/Å)"
        curves.set(title="cf. Fig. 3b: training curves", xlabel="updates", ylabel=force)
        times.set(title="against time", xlabel="processor time of updates (s)", ylabel=force)
        energies.set(title="cf. Fig. 3a", xlabel="updates", ylabel="energy RMSE, validation (eV/atom)")
        rates.set(title="cf. Fig. 7b: learning rate", xlabel="learning rate / the best", ylabel=force)
        density.set(title="cf. Fig. 5: NPT" + ("" if npt else " (not run)"), xlabel="time (ps)",
                    ylabel="density (g/cm³)")  # fmt: skip
        spectrum.set(title="cf. Fig. 9: Fisher spectra", xlabel="log10 of the eigenvalue", ylabel="density")
        for axis in (curves, rates, spectrum):
            axis.legend(fontsize=7)


def study_system(
    study: Study, system: str, plan: dict[str, Any], data: dict[str, Any], start: str, temperature: float
) -> None:
    """Everything about one set of data."""
    path = data["train"]
    n_frames = len(nnpkit.read(path, frames=data["frames"]))
    trainings, seconds = train_all(study, system, plan, data, n_frames)
    npt = densities(study, system, plan, trainings, start, temperature)
    fisher = spectra(trainings, path, plan)
    claims(study, system, trainings, seconds, npt, fisher)
    draw(study.figure(f"{system.replace(' ', '_')}.png"), trainings, seconds, npt, fisher)


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
