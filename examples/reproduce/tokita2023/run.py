"""Default functions, restarts and learning curves: Tokita and Behler, J. Chem. Phys. 159, 121501 (2023).

    python examples/reproduce/tokita2023/run.py --quick     (three minutes)
    python examples/reproduce/tokita2023/run.py             (an hour)

The exponents of Table I by the recipe of Box 3, the errors that a default set reaches, a training that is
interrupted and goes on with and without the covariance (Fig. 10), errors against the number of frames (Fig. 13), and
errors in cycles of active learning (Fig. 15).
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from common import ADAM, KALMAN, OTHER, WATER, Study, Training, compare_bars, panels  # noqa: E402
from scipy.optimize import brentq  # noqa: E402

import nnpkit  # noqa: E402
from nnpkit.active.assess import assess, describe  # noqa: E402
from nnpkit.active.selection import Bounds, Selection, select  # noqa: E402
from nnpkit.config.config_file import config_from_mapping  # noqa: E402
from nnpkit.data.formats.reading import write  # noqa: E402
from nnpkit.data.structure import Structure  # noqa: E402
from nnpkit.families.acsf.default_functions import radial_etas  # noqa: E402
from nnpkit.units import BOHR  # noqa: E402

PLANS: dict[str, dict[str, Any]] = {
    "quick": {
        "frames": "::8", "half": 4, "sizes": [10, 30, 90, 270], "updates": 500, "start": 20, "add": 20, "cycles": 2,
        "members": 2, "offered": 45,
    },
    "full": {
        "frames": ":", "half": 10, "sizes": [10, 30, 90, 270], "updates": 6000, "start": 20, "add": 20, "cycles": 6,
        "members": 4, "offered": 270,
    },
}  # fmt: skip
TABLE_I = {
    "H-H": (0.000, 0.006, 0.016, 0.038, 0.099),
    "H-O": (0.000, 0.007, 0.019, 0.051, 0.166),
    "H-Li": (0.000, 0.005, 0.012, 0.025, 0.052),
    "O-O": (0.000, 0.004, 0.008, 0.015, 0.027),
    "O-Li": (0.000, 0.005, 0.012, 0.024, 0.051),
}
"""Exponents of the radial functions of LiOH in water, 1/bohr²; the cutoff is 6 Å."""
THRESHOLDS = {"H-H": 1.2, "H-O": 0.85, "H-Li": 0.85, "O-O": 2.3}
"""Shortest distances, Å, that the paper allows in the structures it begins with; of its final data it gives none."""
ROUNDING = 0.0005
"""Table I has three digits."""
CUTOFF = 6.0
PAPER_ERRORS = {"energy": (1.204, 1.682), "force": (0.069272 / BOHR, 0.069355 / BOHR)}
"""Of the final potential, training and test: meV/atom and eV/Å."""


def exponents_from(distances: Mapping[str, float]) -> dict[str, list[float]]:
    """Exponents by the recipe of Box 3, 1/bohr², for shortest distances in Å."""
    return {
        pair: [eta * BOHR**2 for eta in radial_etas(shortest, len(TABLE_I[pair]), CUTOFF, "cosine")]
        for pair, shortest in distances.items()
    }


def implied_distances() -> dict[str, float]:
    """Shortest distances (Å) that belong to the largest exponents of Table I; the paper does not give them."""
    found = {}
    for pair, given in TABLE_I.items():

        def largest(distance: float, given: Sequence[float] = given) -> float:
            return radial_etas(distance, len(given), CUTOFF, "cosine")[-1] * BOHR**2 - given[-1]

        found[pair] = float(brentq(largest, 0.5, 0.44 * CUTOFF))
    return found


def restarts(study: Study, plan: dict[str, Any]) -> dict[str, Training]:
    """A training of twice `half` epochs, and three that were interrupted in the middle."""
    half, data = plan["half"], {"data": {"frames": plan["frames"]}}

    def length(epochs: int) -> dict[str, Any]:
        return {"training": {"epochs": epochs}}

    first = study.train("restart-first", data, length(half))
    runs = {"not interrupted": study.train("restart-none", data, length(2 * half))}
    resumed = study.folder / f"restart-resumed-{first.folder.name}"
    if not resumed.exists():
        part = study.folder / "restart-part"
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(first.folder, part)
        config = config_from_mapping(study.settings(data, length(2 * half)), HERE)
        config.output = str(part)
        with study.quiet("restart-resumed"):
            nnpkit.train(config, resume=True)
        part.rename(resumed)
    runs["resumed"] = Training.read(resumed)
    for name, covariance in (("with covariance", True), ("weights only", False)):
        start = {"start": {"run": str(first.folder), "covariance": covariance}}
        run = study.train(f"restart-{name.replace(' ', '-')}", data, length(half), start)
        moved = [p._replace(epoch=p.epoch + half) for p in run.curve if p.epoch]
        runs[name] = Training(run.folder, run.summary, [*first.curve, *moved])
    return runs


def clusters(part: str) -> list[Structure]:
    """Clusters of six molecules."""
    return [s for s in nnpkit.read(WATER / f"{part}.xyz.xz") if s.n_atoms == 18]


def sized(plan: dict[str, Any], n_frames: int) -> dict[str, Any]:
    """Settings of a training of about `plan["updates"]` updates, not more than sixty epochs."""
    epochs = int(np.clip(plan["updates"] // n_frames, 3, 60))
    return {"training": {"epochs": epochs, "evaluate_every": epochs}}


def learning_curve(study: Study, plan: dict[str, Any]) -> dict[int, Training]:
    """Trainings with more and more random clusters; the test set is always the same."""
    pool, test = clusters("train"), study.folder / "clusters-test.xyz"
    write(test, clusters("test"))
    order, runs = np.random.default_rng(1).permutation(len(pool)), {}
    for size in plan["sizes"]:
        path = study.folder / f"clusters-{size}.xyz"
        write(path, [pool[i] for i in order[:size]])
        runs[size] = study.train(
            f"curve-{size}", {"data": {"train": str(path), "validation": str(test)}}, sized(plan, size)
        )
    return runs


def cycles(study: Study, plan: dict[str, Any], selected: bool) -> list[dict[str, float]]:
    """Errors in cycles that begin with cold clusters and add those on which a committee disagrees, or random ones.

    The test set of a cycle is a random fifth of its frames, as in the paper; ``independent`` is the force error on
    the held-back trajectories.
    """
    pool, held = clusters("train"), clusters("test")
    cold = [i for i, s in enumerate(pool) if s.info.get("temperature") == 300]
    random = np.random.default_rng(2)
    have, rows = [int(i) for i in random.permutation(cold)[: plan["start"]]], []
    kind = "selected" if selected else "random"
    for cycle in range(plan["cycles"] + 1):
        path = study.folder / f"cycle-{kind}-{cycle}.xyz"
        write(path, [pool[i] for i in have])
        data = {"data": {"train": str(path), "validation": None, "validation_fraction": 0.2}}
        runs = study.train_many(
            f"cycle-{kind}-{cycle}", plan["members"], data, sized(plan, len(have)), {"seed": 1}
        )
        rows.append(
            {
                "frames": len(have),
                "train": float(np.mean([run.curve[-1].force_train for run in runs])),
                "test": float(np.mean([run.curve[-1].force_rmse for run in runs])),
                "independent": float(np.mean([force_error(run.folder, held) for run in runs])),
            }
        )
        rest = [i for i in range(len(pool)) if i not in set(have)]
        if selected:
            committee = runs[0].folder.parent / "committee.pt"
            offered = [int(i) for i in random.permutation(rest)[: plan["offered"]]]
            have += disagreed(committee, pool, have, offered, plan["add"])
        else:
            have += [int(i) for i in random.permutation(rest)[: plan["add"]]]
    return rows


def force_error(folder: Path, structures: Sequence[Structure]) -> float:
    """Force RMSE, eV/Å."""
    model = nnpkit.load(folder)
    errors = [np.asarray(model.predict(s).forces - s.forces).ravel() for s in structures]
    return float(np.sqrt(np.mean(np.concatenate(errors) ** 2)))


def disagreed(model: Path, pool: list[Structure], have: list[int], rest: list[int], count: int) -> list[int]:
    """Frames far apart among the half on which the committee disagrees most."""
    potential = nnpkit.load(model)
    candidates = list(assess(potential, [pool[i].replace(name=str(i)) for i in rest]))
    lower = float(np.median([c.disagreement or 0.0 for c in candidates]))
    rules = Selection(budget=count, duplicate=0.0, max_force=np.inf, min_distance=0.0, extrapolation=None)
    known = describe(potential, [pool[i] for i in have])
    decisions = select(candidates, Bounds(lower, np.inf, "upper half"), rules, known)
    return [int(d.name) for d in decisions if d.verdict == "taken"]


def claims_of_box3(study: Study, trained: Training) -> dict[str, list[float]]:
    """Table I, and the errors with a default set; the exponents that are drawn."""
    predicted = exponents_from(THRESHOLDS)
    study.claim(
        "largest exponents of Table I from the shortest distances, 1/bohr²",
        ", ".join(f"{pair} {TABLE_I[pair][-1]:g}" for pair in THRESHOLDS),
        ", ".join(f"{row[-1]:.3f}" for row in predicted.values()) + " with the thresholds of the initial data",
        "cannot_tell", reason="the shortest distances of the final data are not published",
    )  # fmt: skip
    implied = implied_distances()
    exponents = exponents_from(implied)
    pairs = [
        (a, b) for pair, row in exponents.items() for a, b in zip(row[1:-1], TABLE_I[pair][1:-1], strict=True)
    ]
    worst = max(abs(a - b) for a, b in pairs)
    study.claim(
        f"the {len(pairs)} exponents between the first and the largest, the largest taken from the table",
        "Table I, three digits", f"largest difference {worst:.4f} 1/bohr²", "close",
        here=[a for a, _ in pairs], paper=[b for _, b in pairs], tolerance=ROUNDING,
    )  # fmt: skip
    best = min(trained.curve, key=lambda p: p.energy_rmse * p.force_rmse)
    energy = (1e3 * best.energy_train, 1e3 * best.energy_rmse)
    force = (best.force_train, best.force_rmse)
    paper = PAPER_ERRORS
    study.claim(
        "test error with a default set (training / test), meV/atom",
        "{:.2f} / {:.2f} (LiOH in water)".format(*paper["energy"]), "{:.2f} / {:.2f} (water)".format(*energy),
        "within_factor", here=[energy[1]], paper=round(paper["energy"][1], 3), factor=1.5,
    )  # fmt: skip
    study.claim(
        "the same for forces, eV/Å", "{:.3f} / {:.3f}".format(*paper["force"]), "{:.3f} / {:.3f}".format(*force),
        "within_factor", here=[force[1]], paper=round(paper["force"][1], 3), factor=1.5,
    )  # fmt: skip
    study.numbers["exponents"] = {
        "from thresholds": predicted,
        "from Table I": exponents,
        "distances": implied,
    }
    study.numbers["default set"] = {"energy_meV": energy, "force": force}
    return exponents


def claims_of_restarts(study: Study, runs: dict[str, Training], half: int) -> None:
    """Fig. 10."""
    whole = {p.epoch: p.energy_rmse for p in runs["not interrupted"].curve}

    def differences(name: str) -> list[float]:
        return [1e3 * abs(p.energy_rmse - whole[p.epoch]) for p in runs[name].curve if p.epoch > half]

    resumed = max(differences("resumed"))
    study.claim("energy RMSE after a restart with covariance (--resume), largest difference from none, meV/atom",
                "indistinguishable", f"{resumed:.2g}", "within_interval", here=[resumed], high=1e-6)  # fmt: skip
    other = {name: max(differences(name)) for name in ("weights only", "with covariance")}
    study.claim("the same with the weights only, meV/atom", "differs", f"{other['weights only']:.2g}",
                "within_interval", here=[other["weights only"]], low=0.1)  # fmt: skip
    first = {name: next(p for p in run.curve if p.epoch == half + 1) for name, run in runs.items()}
    jump = {name: 1e3 * p.force_rmse for name, p in first.items()}
    study.claim(
        "force RMSE of the first epoch of another run (`start`), meV/Å", "lower with the covariance",
        ", ".join(f"{name} {value:.0f}" for name, value in jump.items() if name != "resumed"),
        "ordering", lower=[jump["with covariance"]], higher=[jump["weights only"]],
    )  # fmt: skip
    study.numbers["restart"] = {"differences_meV": other, "first_epoch_force_meV": jump}


def claims_of_curves(
    study: Study, curve: dict[int, Training], chosen: list[dict[str, float]], random: list[dict[str, float]]
) -> None:
    """Figs. 13 and 15."""
    last = {size: run.curve[-1] for size, run in curve.items()}
    training, tested = (
        [1e3 * getattr(p, key) for p in last.values()] for key in ("force_train", "force_rmse")
    )
    frames = ", ".join(map(str, last))
    study.claim(f"training error of {frames} frames, meV/Å", "rises (Fig. 13)",
                ", ".join(f"{value:.0f}" for value in training), "monotonic", here=training, falls=False)  # fmt: skip
    study.claim(f"test error of {frames} frames, meV/Å", "falls (Fig. 13)",
                ", ".join(f"{value:.0f}" for value in tested), "monotonic", here=tested, falls=True)  # fmt: skip
    study.claim("test over training error, most frames", "nearly 1", f"{tested[-1] / training[-1]:.2f}",
                "within_factor", here=[tested[-1] / training[-1]], paper=1.0, factor=1.1)  # fmt: skip
    quotients = [row["test"] / row["train"] for row in chosen]
    study.claim(
        "test over training error in the cycles, forces", "comparable (Fig. 15)",
        ", ".join(f"{q:.1f}" for q in quotients), "within_factor", here=quotients, paper=1.0, factor=1.5,
    )  # fmt: skip
    final = (1e3 * chosen[-1]["independent"], 1e3 * random[-1]["independent"])
    study.claim(
        f"force error on other trajectories with {chosen[-1]['frames']:g} frames, selected / random, meV/Å",
        "selection by variance of forces recommended", "{:.0f} / {:.0f}".format(*final), "ordering",
        lower=[final[0]], higher=[final[1]], least=3,
    )  # fmt: skip
    study.numbers["learning curve"] = {size: [p.force_train, p.force_rmse] for size, p in last.items()}
    study.numbers["cycles"] = {"selected": chosen, "random": random}


def draw(
    path: Path, exponents: dict[str, list[float]], runs: dict[str, Training], curve: dict[int, Training],
    chosen: list[dict[str, float]], random: list[dict[str, float]], numbers: dict[str, Any],
) -> None:  # fmt: skip
    """Table I, Figs. 10, 13, 15 and the errors of the final potential."""
    with panels(path, 3, 2) as (functions, restart, errors, learning, active, independent):
        for color, (pair, row) in zip((KALMAN, ADAM, *OTHER), exponents.items(), strict=False):
            functions.plot(range(1, 6), TABLE_I[pair], "o", color=color, label=pair)
            functions.plot(range(1, 6), row, "-", color=color, linewidth=0.9)
        functions.set(
            title="Table I (dots), recipe with its largest exponents",
            xlabel="radial function",
            ylabel="exponent (1/bohr²)",
            yscale="symlog",
        )
        functions.set_yscale("symlog", linthresh=0.004)
        for color, (style, (name, run)) in zip(
            (OTHER[1], KALMAN, OTHER[0], ADAM),
            zip(("-", ":", "-", "--"), runs.items(), strict=True),
            strict=True,
        ):
            points = [p for p in run.curve if p.epoch]
            width = 3.0 if name == "not interrupted" else 1.4
            restart.semilogy([p.epoch for p in points], [1e3 * p.energy_rmse for p in points], style, color=color,
                             linewidth=width, label=name)  # fmt: skip
        restart.set(title="cf. Fig. 10: restart", xlabel="epoch", ylabel="energy RMSE, test (meV/atom)")
        own = numbers["default set"]
        compare_bars(errors, ["energy\ntraining", "energy\ntest", "force\ntraining", "force\ntest"],
                     [*PAPER_ERRORS["energy"], *(10 * f for f in PAPER_ERRORS["force"])],
                     [*own["energy_meV"], *(10 * f for f in own["force"])])  # fmt: skip
        errors.set(title="final potential (LiOH in water; water)", ylabel="meV/atom; 0.1 eV/Å")
        for key, label, color in (("force_train", "training", KALMAN), ("force_rmse", "test", ADAM)):
            values = [getattr(run.curve[-1], key) for run in curve.values()]
            learning.loglog(list(curve), values, "o-", color=color, label=label)
        learning.set(title="cf. Fig. 13: learning curve", xlabel="frames", ylabel="force RMSE (eV/Å)")
        for key, color in (("train", KALMAN), ("test", ADAM)):
            active.plot(
                [row["frames"] for row in chosen], [row[key] for row in chosen], "o-", color=color, label=key
            )
        active.set(title="cf. Fig. 15: cycles", xlabel="frames", ylabel="force RMSE (eV/Å)", ylim=(0, None))
        for rows, label, color in ((chosen, "selected", OTHER[0]), (random, "random", OTHER[1])):
            independent.plot(
                [r["frames"] for r in rows], [r["independent"] for r in rows], "o-", color=color, label=label
            )
        independent.set(
            title="other trajectories", xlabel="frames", ylabel="force RMSE (eV/Å)", ylim=(0, None)
        )
        for axis in (functions, restart, learning, active, independent):
            axis.legend(fontsize=7)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Compare."""
    study = Study(HERE, arguments)
    plan = PLANS["quick" if study.quick else "full"]
    runs = restarts(study, plan)
    exponents = claims_of_box3(study, runs["not interrupted"])
    claims_of_restarts(study, runs, plan["half"])
    curve = learning_curve(study, plan)
    chosen, random = (cached_cycles(study, plan, selected) for selected in (True, False))
    claims_of_curves(study, curve, chosen, random)
    draw(study.figure(), exponents, runs, curve, chosen, random, study.numbers)
    return study.finish()


def cached_cycles(study: Study, plan: dict[str, Any], selected: bool) -> list[dict[str, float]]:
    """`cycles`, computed once for a folder."""
    path = study.folder / f"cycles-{'selected' if selected else 'random'}.json"
    if not path.exists():
        path.write_text(json.dumps(cycles(study, plan, selected)), encoding="utf-8")
    rows: list[dict[str, float]] = json.loads(path.read_text(encoding="utf-8"))
    return rows


if __name__ == "__main__":
    main()
