"""How well disagreement and the Kalman posterior tell true errors, and what selection gains over chance.

    python benchmarks/uncertainty.py --frames 80 --epochs 6
    python benchmarks/uncertainty.py --curves --start 20 --add 20 --steps 2 --members 3 --updates 2000 --ridge 0.1

A committee is trained on some of the frames of a data set: the water in ``examples/water``, or Cu, Li or Si of
NNPKIT_DATA/mlearn (Zuo et al., J. Phys. Chem. A 124, 731 (2020)). On the held-back test frames the force disagreement
of every atom is compared with its true force error, and so is the standard deviation by ``J P J^T`` of the first member
alone. With ``--curves``, from equal beginnings frames are added by selection or at random, and the test error of both
is followed; more frames can be held back for that with ``--hold-back``. The last line is ``RESULT {json}``.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from nnpkit.active.assess import assess, describe
from nnpkit.active.selection import Bounds, Selection, select
from nnpkit.api import train
from nnpkit.data.formats.reading import read, write
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import load
from nnpkit.training.uncertainty import rank_correlation
from nnpkit.workflow.run_filter import load_posterior

WATER = Path(__file__).resolve().parents[1] / "examples" / "water"


def data_set(name: str) -> tuple[list[Structure], list[Structure]]:
    """Frames to choose from and test frames of a data set."""
    if name == "water":
        return read(WATER / "train.xyz.xz"), read(WATER / "test.xyz.xz")
    if "NNPKIT_DATA" not in os.environ:
        sys.exit(f"set NNPKIT_DATA to the folder that holds mlearn/{name}_train.xyz.xz")
    folder = Path(os.environ["NNPKIT_DATA"]) / "mlearn"
    return read(folder / f"{name}_train.xyz.xz"), read(folder / f"{name}_test.xyz.xz")


def committee(
    folder: Path, frames: list[Structure], test: list[Structure], arguments: argparse.Namespace, seed: int
) -> dict[str, Any]:
    """Train a committee in `folder`; its summary."""
    folder.mkdir(parents=True)
    for name, part in (("train.xyz", frames), ("test.xyz", test)):
        write(folder / name, part)
    config: dict[str, Any] = {"training": {"threads": 1}}
    if arguments.data == "water":
        config = yaml.safe_load((WATER / "quickstart.yaml").read_text(encoding="utf-8"))
    # What is measured is the calibration on frames that no member learnt from: on the validation set.
    config["data"] = {
        "train": str(folder / "train.xyz"),
        "validation": str(folder / "test.xyz"),
        "test_fraction": 0.0,
    }
    epochs = max(1, round(arguments.updates / len(frames))) if arguments.updates else arguments.epochs
    config["training"] |= {"ridge": arguments.ridge, "epochs": epochs, "evaluate_every": epochs}
    config |= {"seed": seed, "output": str(folder / "run")}
    config["committee"] = {
        "members": arguments.members, "resample": arguments.resample, "processes": arguments.processes,
    }  # fmt: skip
    return train(config)


def calibration(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Rank correlations of both measures with the true errors."""
    pool, test = data_set(arguments.data)
    random = np.random.default_rng(arguments.seed)
    frames = [pool[i] for i in sorted(random.permutation(len(pool))[: arguments.frames])]
    summary = committee(folder / "calibration", frames, test, arguments, arguments.seed)
    run = folder / "calibration" / "run"
    arrays = np.load(run / "validation.npz", allow_pickle=False)
    posterior, single = load_posterior(run / "member-00"), load(run / "member-00")
    std, error, energy_std, energy_error = [], [], [], []
    for structure, predicted in zip(test, posterior.of(test), strict=True):
        result = single.predict(structure)
        std.append(predicted.forces)
        error.append(np.linalg.norm(result.forces - structure.forces, axis=1))
        energy_std.append(predicted.energy)
        energy_error.append(abs(result.energy - (structure.energy or 0.0)) / structure.n_atoms)
    kalman, error_of_one = np.concatenate(std), np.concatenate(error)
    if arguments.plot:
        plot(arguments.plot, arrays["atom_force_std"], arrays["atom_force_error"], kalman, error_of_one)
    largest = [np.array([v.max() for v in values]) for values in (std, error)]
    return {
        "spearman_committee": rank_correlation(arrays["atom_force_std"], arrays["atom_force_error"]),
        "spearman_kalman": rank_correlation(kalman, error_of_one),
        "spearman_committee_frames": summary["disagreement"]["spearman_frames"],
        "spearman_kalman_frames": rank_correlation(*largest),
        "spearman_kalman_energy": rank_correlation(np.array(energy_std), np.array(energy_error)),
        "train_frames": len(frames), "test_frames": len(test), "members": arguments.members,
        "force_rmse": summary["validation"]["force_rmse"],
    }  # fmt: skip


def plot(
    path: Path, spread: np.ndarray, error: np.ndarray, kalman: np.ndarray, error_of_one: np.ndarray
) -> None:
    """Disagreement and posterior against true errors."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.0, 3.8), layout="constrained")
    for ax, x, y, name in zip(
        figure.subplots(1, 2),
        (spread, kalman),
        (error, error_of_one),
        ("committee", "Kalman posterior"),
        strict=True,
    ):
        ax.loglog(x, y, ".", ms=2, alpha=0.3, mew=0)
        ax.set(xlabel=f"{name}: standard deviation of the force on an atom, eV/Å", ylabel="force error, eV/Å")
    figure.savefig(path, dpi=120)


def curves(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Test force errors when frames are added by selection and at random, from the same beginnings."""
    pool, given = data_set(arguments.data)
    found: dict[str, list[list[float]]] = {"selected": [], "random": []}
    for seed in range(1, arguments.seeds + 1):
        shuffled = [int(i) for i in np.random.default_rng(seed).permutation(len(pool))]
        test = given + [pool[i] for i in shuffled[: arguments.hold_back]]
        order = shuffled[arguments.hold_back :][: arguments.pool]
        first = order[: arguments.start]
        begin = folder / f"begin-{seed}"
        error = committee(begin, [pool[i] for i in first], test, arguments, seed)["validation"]["force_rmse"]
        for kind in found:
            have, errors, last = first, [error], begin
            random = np.random.default_rng([seed, 1])
            for step in range(arguments.steps):
                rest = [i for i in order if i not in set(have)]
                if kind == "random":
                    have = have + [int(i) for i in random.permutation(rest)[: arguments.add]]
                else:
                    have = have + chosen(last / "run" / "committee.pt", pool, have, rest, arguments)
                last = folder / f"{kind}-{seed}-{step}"
                summary = committee(last, [pool[i] for i in have], test, arguments, seed)
                errors.append(summary["validation"]["force_rmse"])
            found[kind].append(errors)
            print(f"seed {seed}, {kind}: {np.round(errors, 4).tolist()} eV/Å", flush=True)
    mean = {kind: np.mean(rows, axis=0).round(5).tolist() for kind, rows in found.items()}
    better = np.array(found["selected"])[:, 1:] < np.array(found["random"])[:, 1:]
    return {
        "data": arguments.data, "members": arguments.members, "ridge": arguments.ridge,
        "updates": arguments.updates, "epochs": None if arguments.updates else arguments.epochs,
        "frames": [arguments.start + k * arguments.add for k in range(arguments.steps + 1)],
        "force_rmse_selected": mean["selected"], "force_rmse_random": mean["random"],
        "selected_better": [bool(a < b) for a, b in zip(mean["selected"][1:], mean["random"][1:], strict=True)],
        "all_selected": found["selected"], "all_random": found["random"],
        "selected_better_in": f"{int(better.sum())} of {better.size}", "curve_seeds": arguments.seeds,
    }  # fmt: skip


def chosen(model: Path, pool: list[Structure], have: list[int], rest: list[int], arguments: Any) -> list[int]:
    """Frames of the pool that the selection takes: of the most uncertain quarter, the farthest points."""
    potential = load(model)
    candidates = list(assess(potential, [pool[i].replace(name=str(i)) for i in rest]))
    lower = float(np.percentile([c.disagreement or 0.0 for c in candidates], 75))
    rules = Selection(
        budget=arguments.add, duplicate=0.0, max_force=np.inf, min_distance=0.0, extrapolation=None
    )
    known = describe(potential, [pool[i] for i in have])
    decisions = select(candidates, Bounds(lower, np.inf, "most uncertain quarter"), rules, known)
    return [int(d.name) for d in decisions if d.verdict == "taken"]


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="water", choices=("water", "Cu", "Li", "Si"))
    parser.add_argument("--frames", type=int, default=80, help="training frames of the calibration")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument(
        "--updates", type=int, help="of the weights, as many epochs as that takes, instead of --epochs"
    )
    parser.add_argument("--ridge", type=float, default=0.0, help="training.ridge of the members")
    parser.add_argument("--members", type=int, default=4)
    parser.add_argument("--resample", default="seeds", choices=("seeds", "bootstrap", "splits"))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", type=Path, help="write a calibration plot to this file")
    parser.add_argument("--curves", action="store_true", help="learning curves instead of the calibration")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--pool", type=int, help="frames to choose from; all training frames by default")
    parser.add_argument("--hold-back", type=int, default=0, help="of all frames, for more of a test")
    parser.add_argument("--start", type=int, default=20)
    parser.add_argument("--add", type=int, default=20)
    parser.add_argument("--steps", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        result = (curves if arguments.curves else calibration)(arguments, Path(name))
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
