"""From the CIF of a crystal to a fast potential, with a foundation model as the teacher.

    pip install "nnpkit[chgnet,lammps,active]"
    python examples/from_a_crystal/run.py [--quick] [--folder work]

Active learning begins with displaced copies of the crystal, labelled by CHGNet, whose wheel brings its weights. Then
the potential runs at constant pressure, and frames of that run that nobody learnt are labelled too: how far the student
is from its teacher where it is going to be used. ``--quick`` has small cells, a committee of two and two rounds. The
last line is ``RESULT {json}``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import nnpkit
from nnpkit.data.calculators import ase_calculator
from nnpkit.data.formats.reading import read, write
from nnpkit.data.structure import Structure

HERE = Path(__file__).resolve().parent
TEMPERATURE = 1000.0  # K
_TEST = 8  # frames of the student's run that the teacher looks at


def command(*words: str) -> None:
    """Run a command of nnpkit; its own words are shown."""
    print("$ nnpkit", *words, flush=True)
    subprocess.run([sys.executable, "-m", "nnpkit", *words], check=True)


def make_quick(folder: Path) -> None:
    """Smaller cells, fewer of everything: minutes instead of an hour."""
    crystal = read(HERE / "mgo.cif")[0].to_atoms().repeat((2, 2, 2))
    random = np.random.default_rng(1)
    copies = []
    for k in range(10):
        atoms = crystal.copy()
        atoms.info.clear()
        strain = random.uniform(-0.03, 0.03, (3, 3))
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
        atoms.positions += random.normal(scale=0.03 + 0.015 * k, size=atoms.positions.shape)
        copies.append(Structure.from_atoms(atoms, f"start#{k}").replace(info={}, arrays={}))
    write(folder / "start.xyz", copies)
    train, active = (yaml.safe_load((folder / name).read_text()) for name in ("train.yaml", "active.yaml"))
    train["model"] = {"descriptor": {"cutoff": 5.0, "radial": 5}, "network": {"hidden": [10, 10]}}
    train["training"] = {"epochs": 5, "min_updates": 600}
    train["committee"] = {"members": 2}
    active["exploration"]["conditions"] = [
        {"ensemble": "npt", "temperature": [300.0, 1.2 * TEMPERATURE], "steps": 400, "runs": 1}
    ]
    active["selection"], active["stop"] = {"budget": 8}, {"rounds": 2, "labels": 30}
    for name, values in (("train.yaml", train), ("active.yaml", active)):
        (folder / name).write_text(yaml.safe_dump(values, sort_keys=False))


def against_teacher(model: Any, frames: list[Structure]) -> dict[str, float]:
    """Errors in meV/atom and eV/Å on frames of the student's run, seconds of each for one step of an atom."""
    teacher = ase_calculator("chgnet")
    calculator = model.calculator()
    energies, forces, seconds = [], [], {"teacher": 0.0, "student": 0.0}
    for frame in frames:
        values = {}
        for name, calc in (("teacher", teacher), ("student", calculator)):
            atoms = frame.to_atoms()
            atoms.calc = calc
            began = time.monotonic()
            values[name] = atoms.get_forces(), atoms.get_potential_energy()
            seconds[name] += time.monotonic() - began
        energies.append((values["student"][1] - values["teacher"][1]) / frame.n_atoms)
        forces.append(values["student"][0] - values["teacher"][0])
    square = np.concatenate([f.ravel() for f in forces])
    return {
        "energy_rmse": round(1000.0 * float(np.sqrt(np.mean(np.square(energies)))), 3),
        "force_rmse": round(float(np.sqrt(np.mean(np.square(square)))), 4),
        "speedup": round(seconds["teacher"] / seconds["student"], 1),
    }


def main() -> int:
    """All steps; prints the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("from_a_crystal"))
    arguments = parser.parse_args()
    folder, began = arguments.folder.absolute(), time.monotonic()
    command(
        "new", str(HERE / "mgo.cif"), "-o", str(folder), "--reference", "chgnet", "--temperature",
        f"{TEMPERATURE:g}", "--overwrite",
    )  # fmt: skip
    if arguments.quick:
        make_quick(folder)
    project = folder / "active"
    active = yaml.safe_load((folder / "active.yaml").read_text())
    active["output"] = str(project)
    (folder / "active.yaml").write_text(yaml.safe_dump(active, sort_keys=False))
    command("active", "run", str(folder / "active.yaml"))
    model = next(
        iter(sorted(project.rglob("committee.pt"), key=lambda p: p.stat().st_mtime, reverse=True)), None
    )
    if model is None:
        model = max(project.rglob("model.pt"), key=lambda p: p.stat().st_mtime)
    steps = "1000" if arguments.quick else "20000"
    command(
        "md", str(model), str(folder / "start.xyz"), "--ensemble", "npt", "--temperature", f"{TEMPERATURE:g}",
        "--steps", steps, "-o", str(folder / "npt"), "--overwrite",
    )  # fmt: skip
    trajectory = read(folder / "npt" / "trajectory.lammpstrj")
    frames = trajectory[len(trajectory) // 4 :: max(1, len(trajectory) // _TEST)][:_TEST]
    labels = sum(1 for path in project.rglob("*.xyz") if path.parent.parent.name == "labels")
    result = {
        "minutes": round((time.monotonic() - began) / 60.0, 2),
        "labels": labels,
        **against_teacher(nnpkit.load(model), frames),
        "atoms": frames[0].n_atoms,
    }
    print("RESULT", json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
