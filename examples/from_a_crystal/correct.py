"""The second step: a student of a foundation model corrected with few labels of a better method.

    python examples/from_a_crystal/correct.py from_a_crystal [--labels 20] [--calculator tblite]

Frames of the student's own run are labelled by the better method: GFN1-xTB stands in here, since it needs nothing but
a wheel; ``--reference FILE`` takes the section `reference` of a YAML file instead, of CP2K for instance. Some of them
teach and the others judge. Three trainings learn from the same labels and with the same settings: one from nothing, one
of the difference to the student (delta learning), one that begins with the student's weights and the covariance of its
Kalman filter (fine-tuning). Energies are compared after the mean difference is taken out, since two methods differ by a
constant per atom. The last line is ``RESULT {json}``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import nnpkit
from nnpkit.data.formats.reading import read, write
from nnpkit.data.structure import Structure

JUDGES = 12
"""Frames that nobody learns from."""
ARGUMENTS = {"tblite": {"method": "GFN1-xTB", "accuracy": 0.5, "verbosity": 0}}


def command(*words: str) -> None:
    """Run a command of nnpkit; its own words are shown, and say what is wrong if it fails."""
    print("$ nnpkit", *words, flush=True)
    if code := subprocess.run([sys.executable, "-m", "nnpkit", *words]).returncode:
        raise SystemExit(code)


def student_of(project: Path) -> Path:
    """Run folder of the first member of the last committee of an active-learning project."""
    found = sorted(project.rglob("member-00/summary.json"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise SystemExit(f"no trained committee in {project}; run examples/from_a_crystal/run.py first")
    return found[-1].parent


def labelled(frames: Sequence[Structure], reference: Mapping[str, Any], folder: Path) -> list[Structure]:
    """The frames with labels of the better method; what is in `folder` is not computed again."""
    folder.mkdir(parents=True, exist_ok=True)
    write(folder / "frames.xyz", frames)
    (folder / "reference.yaml").write_text(yaml.safe_dump({"reference": dict(reference)}), encoding="utf-8")
    command(
        "label", str(folder / "frames.xyz"), "--reference", str(folder / "reference.yaml"),
        "--folder", str(folder / "labels"), "-o", str(folder / "better.xyz"), "--cores", "1",
    )  # fmt: skip
    return list(read(folder / "better.xyz"))


def corrections(
    student: Path,
    teach: Sequence[Structure],
    judge: Sequence[Structure],
    folder: Path,
    training: Mapping[str, Any],
) -> dict[str, dict[str, float]]:
    """Errors of the student, and of three trainings with the labels of `teach`, on the frames of `judge`."""
    write(folder / "teach.xyz", teach)
    settings = yaml.safe_load((student / "config.yaml").read_text(encoding="utf-8"))
    common = {
        "seed": 1, "data": {"train": str(folder / "teach.xyz"), "validation_fraction": 0.2, "test_fraction": 0.0},
        "training": dict(training),
    }  # fmt: skip
    ways: dict[str, dict[str, Any]] = {
        "from nothing": {**common, "model": settings["model"]},
        "delta": {
            **common, "model": settings["model"],
            "data": {**common["data"], "baseline": {"kind": "model", "file": str(student / "model.pt")}},
        },
        "fine-tuned": {**common, "start": {"run": str(student), "covariance": True}},
    }  # fmt: skip
    errors = {"student": against(student / "model.pt", judge)}
    for name, config in ways.items():
        path = folder / f"{name.replace(' ', '-')}.yaml"
        path.write_text(yaml.safe_dump({**config, "output": str(path.with_suffix(""))}), encoding="utf-8")
        command("train", str(path), "--overwrite")
        errors[name] = against(path.with_suffix("") / "model.pt", judge)
    return errors


def against(model: Path, judge: Sequence[Structure]) -> dict[str, float]:
    """Errors in meV/atom, less the mean difference, and eV/Å."""
    found = nnpkit.load(model).predict(list(judge))
    energy = np.array([(a.energy - b.energy) / b.n_atoms for a, b in zip(found, judge, strict=True)])
    force = np.concatenate([(a.forces - b.forces).ravel() for a, b in zip(found, judge, strict=True)])
    return {
        "energy_rmse": round(1000.0 * float(energy.std()), 3),
        "force_rmse": round(float(np.sqrt(np.mean(force**2))), 4),
    }


def table(errors: Mapping[str, Mapping[str, float]]) -> str:
    """What each way gains."""
    lines = [f"{'':14}{'meV/atom':>10}{'eV/Å':>10}"]
    lines += [f"{name:14}{e['energy_rmse']:10.2f}{e['force_rmse']:10.3f}" for name, e in errors.items()]
    return "\n".join(lines)


def trajectory_of(folder: Path) -> list[Structure]:
    """Frames of the student's run at constant pressure."""
    return list(read(folder / "npt" / "trajectory.lammpstrj"))


def correct(
    folder: Path, n_labels: int, reference: Mapping[str, Any], training: Mapping[str, Any]
) -> dict[str, dict[str, float]]:
    """All of it, for the folder that ``run.py`` has left."""
    trajectory = trajectory_of(folder)
    later = trajectory[len(trajectory) // 4 :]
    wanted = n_labels + JUDGES
    if len(later) < wanted:
        raise SystemExit(f"{len(later)} frames of a run in equilibrium; expected at least {wanted}")
    frames = [later[k] for k in np.linspace(0, len(later) - 1, wanted).astype(int)]
    bare = [f.replace(energy=None, forces=None, stress=None, info={}, arrays={}) for f in frames]
    place = folder / "correction"
    known = labelled(bare, reference, place)
    judged = np.linspace(1, len(known) - 1, JUDGES).astype(int)
    judge = [known[k] for k in judged]
    teach = [s for k, s in enumerate(known) if k not in set(judged)]
    return corrections(student_of(folder / "active"), teach, judge, place, training)


def main() -> int:
    """Label, train, compare; prints a table and the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--labels", type=int, default=20)
    parser.add_argument("--calculator", default="tblite")
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--updates", type=int, default=1500)
    arguments = parser.parse_args()
    if arguments.reference:
        reference = yaml.safe_load(arguments.reference.read_text(encoding="utf-8"))["reference"]
    else:
        reference = {"kind": "ase", "calculator": arguments.calculator}
        reference["arguments"] = ARGUMENTS.get(arguments.calculator, {})
    training = {"epochs": 10, "min_updates": arguments.updates}
    errors = correct(arguments.folder.absolute(), arguments.labels, reference, training)
    print(table(errors))
    print("RESULT", json.dumps({"labels": arguments.labels, **errors}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
