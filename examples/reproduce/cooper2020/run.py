"""Forces by Taylor expansion: Cooper, Kästner, Urban and Artrith, npj Comput. Mater. 6, 54 (2020).

    python examples/reproduce/cooper2020/run.py --quick     (minutes)
    python examples/reproduce/cooper2020/run.py             (hours; with NNPKIT_DATA also bulk water)

Clusters of six water molecules, L-BFGS, and four ways to learn forces: not at all, as energies of displaced copies
(strategies A and B), directly. Force errors with more and more frames (Figs. 3, 5), against displacement and number of
copies (Fig. 4), cost of an epoch, and energy in NVE runs (Fig. 10).
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

from common import ADAM, KALMAN, OTHER, WATER, Simulation, Study, Training, compare_bars, panels  # noqa: E402

import nnpkit  # noqa: E402
from nnpkit.data.formats.reading import write  # noqa: E402
from nnpkit.data.structure import Structure  # noqa: E402

PLANS: dict[str, dict[str, Any]] = {
    "quick": {
        "sizes": (15, 60), "epochs": 250, "members": 1, "displacements": (0.002, 0.03, 0.1), "multiples": (5,),
        "steps": 2000, "bulk": (),
    },
    "full": {
        "sizes": (67, 135, 270), "epochs": 500, "members": 3, "displacements": (0.002, 0.004, 0.016, 0.03, 0.06, 0.1),
        "multiples": (2, 5, 11, 32), "steps": 20000, "bulk": (12, 24, 36),
    },
}  # fmt: skip
"""Sizes are those of the paper (471, 943, 1886) times a seventh, in quick runs a thirtieth, without the one between."""
MULTIPLE, DISPLACEMENT = 22, 0.008
METHODS: dict[str, dict[str, Any]] = {
    "energies": {"kind": "none"},
    "Taylor A": {"kind": "taylor", "strategy": "cartesian", "multiple": 11, "displacement": 0.03},
    "Taylor B": {"kind": "taylor", "strategy": "random", "multiple": MULTIPLE, "displacement": DISPLACEMENT},
    "direct": {"kind": "direct"},
}
COLORS = dict(zip(METHODS, (ADAM, OTHER[0], KALMAN, OTHER[3]), strict=True))
PAPER_DIRECT_MAE = 0.18
"""eV/Å, train_0500."""


def mae(runs: Sequence[Training]) -> float:
    """Mean absolute error of force components on the test frames, eV/Å; median of the runs."""
    return statistics.median(run.summary["validation"]["force_mae"] for run in runs)


def clusters(study: Study, sizes: Sequence[int]) -> dict[int, dict[str, str]]:
    """Files of evenly spaced clusters, and of the held-back ones."""

    def six(structure: Structure) -> bool:
        return structure.n_atoms == 18

    everything = study.select("clusters-train", WATER / "train.xyz.xz", six)
    test = study.select("clusters-test", WATER / "test.xyz.xz", six)
    pool, found = nnpkit.read(everything), {}
    for size in sizes:
        path = study.folder / f"clusters-{size}.xyz"
        write(path, [pool[int(i)] for i in np.linspace(0, len(pool) - 1, size)])
        found[size] = {"train": str(path), "validation": test}
    return found


def train(
    study: Study, plan: dict[str, Any], label: str, data: dict[str, Any], forces: dict[str, Any]
) -> list[Training]:
    """Trainings that differ in their first weights."""
    every = max(1, plan["epochs"] // 3)
    length = {"epochs": plan["epochs"], "evaluate_every": every, "force_training": forces}
    return [
        study.train(f"{label}-{seed}", {"seed": seed, "data": data, "training": length})
        for seed in range(1, plan["members"] + 1)
    ]


def scan(study: Study, plan: dict[str, Any], data: dict[str, Any]) -> dict[str, dict[float, float]]:
    """Force errors of strategy B against the displacement and against the number of copies."""
    found: dict[str, dict[float, float]] = {"displacement": {}, "multiple": {}}
    for key, values in (("displacement", plan["displacements"]), ("multiple", plan["multiples"])):
        for value in sorted({*values, METHODS["Taylor B"][key]}):
            usual = value == METHODS["Taylor B"][key]
            label = f"{min(plan['sizes'])}-Taylor_B" + ("" if usual else f"-{key}-{value:g}")
            found[key][value] = mae(train(study, plan, label, data, {**METHODS["Taylor B"], key: value}))
    return found


def conserve(
    study: Study, plan: dict[str, Any], runs: dict[str, list[Training]], start: str
) -> dict[str, list[Simulation]]:
    """NVE runs of a cluster from 300 K."""
    options = ("--ensemble", "nve", "--temperature", 300, "--timestep", 0.5, "--steps", plan["steps"])
    return {
        name: [
            study.simulate(f"nve-{name.replace(' ', '_')}-{n}", run.folder / "model.pt", start, *options)
            for n, run in enumerate(own)
        ]
        for name, own in runs.items()
    }


def claims(
    study: Study, runs: dict[int, dict[str, list[Training]]], scans: dict[str, dict[float, float]],
    nve: dict[str, list[Simulation]], cost: dict[str, float],
) -> None:  # fmt: skip
    """What the paper says of the clusters; `cost` is processor seconds per epoch."""
    small, large = min(runs), max(runs)
    error = {size: {name: mae(own) for name, own in by_name.items()} for size, by_name in runs.items()}
    only = [row["energies"] for row in error.values()]
    study.claim(f"force MAE learning energies only, {', '.join(map(str, runs))} frames, eV/Å", "falls with the frames",
                ", ".join(f"{value:.3f}" for value in only), "monotonic", here=only, falls=True)  # fmt: skip
    study.claim(
        f"force MAE of Taylor B with {small} frames, energies only with {large}, eV/Å", "about the same",
        f"{error[small]['Taylor B']:.3f}, {error[large]['energies']:.3f} (ratio "
        f"{error[small]['Taylor B'] / error[large]['energies']:.2f})", "within_factor",
        here=[error[small]["Taylor B"] / error[large]["energies"]], paper=1.0, factor=1.25,
    )  # fmt: skip
    part = {
        size: (row["energies"] - row["Taylor B"]) / (row["energies"] - row["direct"])
        for size, row in error.items()
    }
    study.claim("part of direct training's gain that Taylor B has", "about 0.5",
                ", ".join(f"{value:.2f}" for value in part.values()), "within_interval", here=list(part.values()),
                low=0.4, high=0.6)  # fmt: skip
    study.claim(
        f"force MAE of direct training, {small} frames, eV/Å", f"{PAPER_DIRECT_MAE} (471 frames)",
        f"{error[small]['direct']:.3f}", "within_factor", here=[error[small]["direct"]], paper=PAPER_DIRECT_MAE,
        factor=1.5,
    )  # fmt: skip
    ab = {size: (row["Taylor A"], row["Taylor B"]) for size, row in error.items()}
    study.claim("force MAE of strategies A (11 copies) and B (22), eV/Å; A over B", "nearly the same",
                "; ".join(f"{a:.3f}, {b:.3f}" for a, b in ab.values()), "within_factor",
                here=[a / b for a, b in ab.values()], paper=1.0, factor=1.1)  # fmt: skip
    best = min(scans["displacement"], key=lambda value: scans["displacement"][value])
    study.claim(f"best largest displacement of B, {small} frames, Å", "0.008 (0.008 to 0.01)",
                f"{best:g} of " + ", ".join(f"{v:g}" for v in scans["displacement"]), "within_interval", here=[best],
                low=0.008, high=0.01)  # fmt: skip
    copies = {n: scans["multiple"][n] for n in sorted(scans["multiple"]) if n <= MULTIPLE}
    study.claim("force MAE against the number of copies", "falls until 22",
                ", ".join(f"{n:g}: {e:.3f}" for n, e in scans["multiple"].items()), "monotonic",
                here=list(copies.values()), falls=True)  # fmt: skip
    times = cost["direct"] / cost["Taylor B"]
    study.claim("processor time of an epoch, direct over Taylor B (22 copies)", "8", f"{times:.1f}", "within_factor",
                here=[times], paper=8.0, factor=1.5)  # fmt: skip
    energy = {name: 1e3 * statistics.median(r.energy_rmse for r in own) for name, own in runs[small].items()}
    both = [energy["energies"], energy["Taylor B"]]
    study.claim(f"energy RMSE, energies only and Taylor B, {small} frames, meV/atom", "below 2",
                f"{both[0]:.2f}, {both[1]:.2f}", "within_interval", here=both, high=2.0)  # fmt: skip
    study.claim("the same, Taylor B over energies only", "not affected", f"{both[1] / both[0]:.2f}", "within_factor",
                here=[both[1] / both[0]], paper=1.0, factor=1.1)  # fmt: skip
    words = {name: " or ".join(sorted({conserved(run) for run in own})) for name, own in nve.items()}
    wild = {name: [fluctuation(run) for run in own] for name, own in nve.items()}
    study.claim(
        "NVE of a cluster: fluctuation of the energy, meV/atom", "less with Taylor than with energies only (oxide)",
        "; ".join(f"{name} {text}" for name, text in words.items()), "ordering", lower=wild["Taylor B"],
        higher=wild["energies"],
    )  # fmt: skip
    study.claim("the same, Taylor B", "0.001 (oxide)", words["Taylor B"], "within_factor", here=wild["Taylor B"],
                paper=0.001, factor=3.0)  # fmt: skip
    study.numbers |= {
        "force_mae": error, "seconds_per_epoch": cost, "gain": part, "energy_rmse_meV": energy, "nve": words,
        "scan": scans,
    }  # fmt: skip


def fluctuation(run: Simulation) -> float:
    """Standard deviation of the energy in NVE, meV/atom; infinite for a run that fails."""
    _, energy = run.series("conserved_energy_eV")
    return 1e3 * float(energy.std()) / 18 if run.stable and len(energy) else float("inf")


def conserved(run: Simulation) -> str:
    """How a run in NVE went."""
    return f"{fluctuation(run):.2g}" if run.stable else "fails"


def bulk(study: Study, plan: dict[str, Any]) -> None:
    """Bulk water of 64 molecules with the paper's Chebyshev descriptor, if it is there (Fig. 6)."""
    folder = study.published("water_PBE0TS_deepmd")
    if folder is None or not plan["bulk"]:
        return
    change = {
        "data": {"train": str(folder / "train.xyz.xz"), "validation": str(folder / "valid.xyz.xz")},
        "model": {"kind": "chebyshev", "network": {"hidden": [10, 10]}},
        "training": {"epochs": plan["epochs"], "evaluate_every": plan["epochs"]},
    }
    error = {0: study.train("bulk-energies", change, {"training": {"force_training": METHODS["energies"]}})}
    for multiple in plan["bulk"]:
        forces = {**METHODS["Taylor B"], "multiple": multiple, "displacement": 0.01}
        error[multiple] = study.train(f"bulk-{multiple}", change, {"training": {"force_training": forces}})
    vector = {n: float(run.summary["validation"]["force_vector_rmse"]) for n, run in error.items()}
    less = {n: 1.0 - value / vector[0] for n, value in vector.items() if n}
    study.claim("bulk water: force error less by, copies", "12: 30 %, 24: 45 %, 48: 52 %",
                ", ".join(f"{n}: {100 * value:.0f} %" for n, value in less.items()), "close",
                here=[less[12], less[24]], paper=[0.30, 0.45], tolerance=0.1)  # fmt: skip
    energy = {n: 1e3 * run.energy_rmse for n, run in error.items()}
    study.claim("bulk water: energy RMSE without and with 36 copies, meV/atom", "2.6 and 2.1",
                ", ".join(f"{n}: {value:.2f}" for n, value in energy.items()), "close",
                here=[energy[0], energy[36]], paper=[2.6, 2.1], tolerance=0.3)  # fmt: skip
    study.numbers["bulk"] = {"force_vector_rmse": vector, "energy_rmse_meV": energy}


def draw(
    path: Path, runs: dict[int, dict[str, list[Training]]], scans: dict[str, dict[float, float]],
    nve: dict[str, list[Simulation]], numbers: dict[str, Any],
) -> None:  # fmt: skip
    """Errors against frames, displacement and copies, the numbers of the text beside ours, costs, NVE."""
    error, small = numbers["force_mae"], min(runs)
    with panels(path, 3, 2) as (frames, displacement, copies, quoted, cost, energy):
        for name, color in COLORS.items():
            frames.loglog(list(error), [row[name] for row in error.values()], "o-", color=color, label=name)
        frames.set(title="cf. Figs. 3, 5", xlabel="frames", ylabel="force MAE, test (eV/Å)")
        for axis, key, label in ((displacement, "displacement", "largest displacement of B (Å)"),
                                 (copies, "multiple", "copies of each frame, B")):  # fmt: skip
            relative = [100 * value / error[small]["energies"] for value in scans[key].values()]
            axis.semilogx(list(scans[key]), relative, "o-", color=KALMAN, label="here")
            axis.axhline(
                100 * error[small]["direct"] / error[small]["energies"], color=OTHER[3], label="direct, here"
            )
            axis.set(title="cf. Fig. 4", xlabel=label, ylabel="force MAE (% of energies only)")
            axis.axvline(METHODS["Taylor B"][key], color="0.5", linestyle=":", label="best in the paper")
        own = numbers["seconds_per_epoch"]
        names = ["gain of B\n/ of direct", "direct MAE\n(eV/Å)", "epoch, direct\n/ B (/10)"]
        here = [numbers["gain"][small], error[small]["direct"], 0.1 * own["direct"] / own["Taylor B"]]
        compare_bars(quoted, names, [0.5, PAPER_DIRECT_MAE, 0.8], here)
        quoted.set(title="numbers of the text")
        cost.bar(list(own), list(own.values()), color=list(COLORS.values()))
        cost.set(title="cost", ylabel="processor seconds per epoch", yscale="log")
        for name, simulations in nve.items():
            for n, run in enumerate(simulations):
                time, total = run.series("conserved_energy_eV")
                if len(time):
                    energy.plot(
                        time, 1e3 * (total - total[0]) / 18, color=COLORS[name], label=None if n else name
                    )
        energy.set(title="cf. Fig. 10: NVE", xlabel="time (ps)", ylabel="change of energy (meV/atom)")
        for axis in (frames, displacement, copies, energy):
            axis.legend(fontsize=7)


def main(arguments: Sequence[str] | None = None) -> dict[str, Any]:
    """Compare on the shipped clusters; on bulk water too, if it is there and there is time."""
    study = Study(HERE, arguments)
    plan = PLANS["quick" if study.quick else "full"]
    data = clusters(study, plan["sizes"])
    runs = {
        size: {name: train(study, plan, f"{size}-{name.replace(' ', '_')}", files, forces)
               for name, forces in METHODS.items()}
        for size, files in data.items()
    }  # fmt: skip
    scans = scan(study, plan, data[min(data)])
    nve = conserve(study, plan, runs[max(data)], data[max(data)]["validation"] + "@0")
    cost = {
        name: study.update_seconds(
            {"data": data[max(data)], "training": {"force_training": forces}}, updates=6
        )
        for name, forces in METHODS.items()
    }  # L-BFGS: an update is an epoch
    claims(study, runs, scans, nve, cost)
    bulk(study, plan)
    draw(study.figure(), runs, scans, nve, study.numbers)
    return study.finish()


if __name__ == "__main__":
    main()
