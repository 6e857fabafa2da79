"""Default functions, restarts and learning curves: Tokita and Behler, J. Chem. Phys. 159, 121501 (2023).

    python examples/reproduce/tokita2023/run.py --quick     (three minutes)
    python examples/reproduce/tokita2023/run.py             (an hour)

The exponents of Table I from the shortest distances alone, the errors that a default set reaches, a training that is
interrupted and goes on with and without the covariance (Fig. 10), errors against the number of frames (Fig. 13), and
errors in cycles of active learning (Fig. 15).
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Sequence
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
from nnpkit.config.load import config_from_mapping  # noqa: E402
from nnpkit.data.formats import write  # noqa: E402
from nnpkit.data.structure import Structure  # noqa: E402
from nnpkit.models.acsf_defaults import radial_etas  # noqa: E402
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
CUTOFF = 6.0
PAPER_ERRORS = {"energy": (1.204, 1.682), "force": (0.069272 / BOHR, 0.069355 / BOHR)}
"""Of the final potential, training and test: meV/atom and eV/Å."""


def default_exponents() -> dict[str, list[float]]:
    """Table I by the recipe of Box 3: the largest exponent fixes the shortest distance, the rest follows."""
    found = {}
    for pair, given in TABLE_I.items():

        def largest(distance: float, given: Sequence[float] = given) -> float:
            return radial_etas(distance, len(given), CUTOFF, "cosine")[-1] * BOHR**2 - given[-1]

        shortest = brentq(largest, 0.5, 0.44 * CUTOFF)
        found[pair] = [eta * BOHR**2 for eta in radial_etas(shortest, len(given), CUTOFF, "cosine")]
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


def claims_of_box3(study: Study, exponents: dict[str, list[float]], trained: Training) -> None:
    """Table I, and the errors with a default set."""
    difference = max(
        abs(a - b) for pair, row in exponents.items() for a, b in zip(row, TABLE_I[pair], strict=True)
    )
    study.claim("exponents of Table I from the largest of each pair (Box 3), largest difference", "given to 0.001",
                f"{difference:.4f} 1/bohr²", difference < 0.0025)  # fmt: skip
    best = min(trained.curve, key=lambda p: p.energy_rmse * p.force_rmse)
    energy = (1e3 * best.energy_train, 1e3 * best.energy_rmse)
    force = (best.force_train, best.force_rmse)
    paper = PAPER_ERRORS
    study.claim(
        "errors with a default set, training / test, meV/atom",
        "{:.2f} / {:.2f} (LiOH in water)".format(*paper["energy"]),
        "{:.2f} / {:.2f} (water)".format(*energy), energy[1] < 2.0 * paper["energy"][1],
    )  # fmt: skip
    study.claim(
        "the same for forces, eV/Å", "{:.3f} / {:.3f}".format(*paper["force"]),
        "{:.3f} / {:.3f}".format(*force), force[1] < 2.0 * paper["force"][1],
    )  # fmt: skip
    study.numbers["exponents"] = exponents
    study.numbers["default set"] = {"energy_meV": energy, "force": force}


def claims_of_restarts(study: Study, runs: dict[str, Training], half: int) -> None:
    """Fig. 10."""
    whole = {p.epoch: p.energy_rmse for p in runs["not interrupted"].curve}

    def differences(name: str) -> list[float]:
        return [1e3 * abs(p.energy_rmse - whole[p.epoch]) for p in runs[name].curve if p.epoch > half]

    resumed = max(differences("resumed"))
    study.claim("energy RMSE after a restart with covariance (--resume), largest difference from none, meV/atom",
                "indistinguishable", f"{resumed:.2g}", resumed < 1e-6)  # fmt: skip
    other = {name: max(differences(name)) for name in ("weights only", "with covariance")}
    study.claim("the same with the weights only, meV/atom", "differs", f"{other['weights only']:.2g}",
                other["weights only"] > 1e-3)  # fmt: skip
    first = {name: next(p for p in run.curve if p.epoch == half + 1) for name, run in runs.items()}
    jump = {name: 1e3 * p.force_rmse for name, p in first.items()}
    study.claim(
        "force RMSE of the first epoch of another run (`start`), meV/Å", "covariance should be kept",
        ", ".join(f"{name} {value:.0f}" for name, value in jump.items() if name != "resumed"),
        jump["with covariance"] < jump["weights only"],
    )  # fmt: skip
    study.numbers["restart"] = {"differences_meV": other, "first_epoch_force_meV": jump}


def claims_of_curves(
    study: Study, curve: dict[int, Training], chosen: list[dict[str, float]], random: list[dict[str, float]]
) -> None:
    """Figs. 13 and 15."""
    last = {size: run.curve[-1] for size, run in curve.items()}
    small, large = last[min(last)], last[max(last)]
    study.claim(
        f"training error from {min(last)} to {max(last)} frames, meV/Å", "rises (Fig. 13)",
        f"{1e3 * small.force_train:.0f} to {1e3 * large.force_train:.0f}", large.force_train > small.force_train,
    )  # fmt: skip
    study.claim(
        "test error, meV/Å", "falls, to nearly the training error",
        f"{1e3 * small.force_rmse:.0f} to {1e3 * large.force_rmse:.0f}, "
        f"{large.force_rmse / large.force_train:.2f} times the training error",
        large.force_rmse < min(small.force_rmse, 1.5 * large.force_train),
    )  # fmt: skip
    quotients = [row["test"] / row["train"] for row in chosen]
    study.claim(
        "test over training error in the cycles, forces", "comparable (Fig. 15)",
        ", ".join(f"{q:.1f}" for q in quotients), max(quotients) < 2.0,
    )  # fmt: skip
    final = (1e3 * chosen[-1]["independent"], 1e3 * random[-1]["independent"])
    study.claim(
        f"force error on other trajectories with {chosen[-1]['frames']} frames, selected / random, meV/Å",
        "selection by variance of forces recommended", "{:.0f} / {:.0f}".format(*final), final[0] < final[1],
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
            title="Table I (dots: paper)",
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
    exponents = default_exponents()
    runs = restarts(study, plan)
    claims_of_box3(study, exponents, runs["not interrupted"])
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
