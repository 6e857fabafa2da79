"""From the CIF of a crystal to a fast potential, with a foundation model as the teacher.

    pip install "nnpkit[chgnet,lammps,active]"
    python examples/from_a_crystal/run.py [--quick] [--folder work] [--teacher-python /path/to/venv/bin/python]

CHGNet may live in an environment of its own, so that its packages and ours never meet. Active learning begins with
displaced copies of the crystal, labelled by CHGNet, whose wheel brings its weights. Then the potential runs at constant
pressure, and frames of that run that nobody learnt are labelled too: how far the student is from its teacher where it
is going to be used, and how much faster, both in ASE on one thread. At last thermal expansion, of 10,000 atoms.
``--quick`` has fewer of everything. The same command goes on after an interruption, with the minutes used so far.
``correct.py`` is the second step. The last line is ``RESULT {json}``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

import nnpkit
from nnpkit.data.formats.reading import read, write
from nnpkit.data.structure import Structure

HERE = Path(__file__).resolve().parent
TEMPERATURE = 1000.0  # K
_TEST = 8  # frames of the student's run that the teacher looks at


def command(*words: str) -> None:
    """Run a command of nnpkit; its own words are shown, and say what is wrong if it fails."""
    print("$ nnpkit", *words, flush=True)
    if code := subprocess.run([sys.executable, "-m", "nnpkit", *words]).returncode:
        raise SystemExit(code)


def require_teacher(python: str) -> None:
    """End now, not after the first training, where that Python has no CHGNet."""
    words = "import ase, importlib.util, sys; sys.exit(importlib.util.find_spec('chgnet') is None)"
    try:
        found = subprocess.run([python, "-I", "-c", words], capture_output=True).returncode == 0
    except OSError as error:
        raise SystemExit(f"--teacher-python {python}: {error.strerror}") from None
    if not found:
        raise SystemExit(
            f"{python} has no CHGNet; install it there with `pip install chgnet`, or make an environment for it\n"
            "    python3 -m venv teacher && teacher/bin/pip install chgnet\n"
            "and give --teacher-python teacher/bin/python"
        )


def make_quick(folder: Path) -> None:
    """Fewer of everything: minutes instead of an hour."""
    train, active = (yaml.safe_load((folder / name).read_text()) for name in ("train.yaml", "active.yaml"))
    write(folder / "start.xyz", read(folder / "start.xyz")[:10])
    train["training"] = {"epochs": 5, "min_updates": 600}
    active["exploration"]["conditions"] = [
        {"ensemble": "npt", "temperature": [300.0, 1.2 * TEMPERATURE], "steps": 400, "runs": 1}
    ]
    active["selection"], active["stop"] = {"budget": 8}, {"rounds": 2, "labels": 30}
    for name, values in (("train.yaml", train), ("active.yaml", active)):
        (folder / name).write_text(yaml.safe_dump(values, sort_keys=False))


def against_teacher(model: Any, frames: list[Structure], python: str, folder: Path) -> dict[str, float]:
    """Errors in meV/atom and eV/Å on frames of the student's run, and how many times as fast as its teacher it is."""
    bare = [f.replace(energy=None, forces=None, stress=None, info={}, arrays={}) for f in frames]
    write(folder / "judged.xyz", bare)
    answer = folder / "judged.json"
    words = [python, "-I", str(HERE / "teacher.py"), str(folder / "judged.xyz"), str(answer)]
    subprocess.run(words, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    teacher = json.loads(answer.read_text(encoding="utf-8"))
    torch.set_num_threads(1)
    calculator = model.calculator()
    atoms = [frame.to_atoms() for frame in bare]
    for one in atoms:
        one.calc = calculator
    atoms[0].get_forces()
    calculator.reset()
    energies, forces, began = [], [], time.monotonic()
    for one, known in zip(atoms, teacher["frames"], strict=True):
        forces.append((one.get_forces() - np.array(known["forces"])).ravel())
        energies.append((one.get_potential_energy() - known["energy"]) / len(one))
    seconds = time.monotonic() - began
    return {
        "energy_rmse": round(1000.0 * float(np.sqrt(np.mean(np.square(energies)))), 3),
        "force_rmse": round(float(np.sqrt(np.mean(np.square(np.concatenate(forces))))), 4),
        "speedup": round(teacher["seconds"] / seconds, 1),
    }


def expansion(project: Path, folder: Path, atoms: int, quick: bool) -> dict[str, float]:
    """Thermal expansion of the volume by the potential alone, 1e-6/K, with its error."""
    model = max(project.rglob("member-00/model.pt"), key=lambda path: path.stat().st_mtime)
    ranks = (
        2 if (os.cpu_count() or 1) - os.getloadavg()[0] > 1.5 else 1
    )  # ranks that wait for a processor crawl
    if not (folder / "expansion" / "properties.json").exists():
        command(
            "properties", str(model), str(HERE / "mgo.cif"), "--what", "expansion", "--temperatures",
            f"{0.4 * TEMPERATURE:g},{0.7 * TEMPERATURE:g},{TEMPERATURE:g}", "--atoms", str(atoms), "--steps",
            "500" if quick else "2000", "--timestep", "2", "--ranks", str(ranks),
            "-o", str(folder / "expansion"), "--overwrite",
        )  # fmt: skip
    content = json.loads((folder / "expansion" / "properties.json").read_text(encoding="utf-8"))
    found = content["potential"]["expansion"]["expansion of the volume"]
    values = {"expansion": found["value"], "expansion_error": found["error"]}
    return {name: round(value, 2) for name, value in values.items()}


class Minutes:
    """Minutes of each step, kept in the folder: what an interrupted run has used counts."""

    def __init__(self, folder: Path) -> None:
        self.path, self.used = folder / "minutes.json", dict[str, float]()
        if self.path.exists():
            self.used = json.loads(self.path.read_text(encoding="utf-8"))

    @contextmanager
    def of(self, step: str) -> Iterator[None]:
        """Add what happens to the minutes of `step`."""
        began = time.monotonic()
        try:
            yield
        finally:
            minutes = self.used.get(step, 0.0) + (time.monotonic() - began) / 60.0
            self.used[step] = round(minutes, 2)
            self.path.write_text(json.dumps(self.used), encoding="utf-8")


def learn(folder: Path, project: Path, teacher: str, quick: bool) -> None:
    """Write the project, unless it is there, and run or resume it."""
    verb = "resume" if (project / "active.sqlite").exists() else "run"
    if verb == "run":
        command(
            "new", str(HERE / "mgo.cif"), "-o", str(folder), "--reference", "chgnet", "--temperature",
            f"{TEMPERATURE:g}", "--overwrite",
        )  # fmt: skip
        if quick:
            make_quick(folder)
        active = yaml.safe_load((folder / "active.yaml").read_text())
        active["output"] = str(project)
        if teacher != sys.executable:
            active["reference"]["python"] = str(Path(teacher).absolute())
        (folder / "active.yaml").write_text(yaml.safe_dump(active, sort_keys=False))
    command("active", verb, str(folder / "active.yaml"))


def main() -> int:
    """All steps; prints the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--folder", type=Path, default=Path("from_a_crystal"))
    parser.add_argument(
        "--teacher-python", default=sys.executable, help="of an environment with ase and chgnet"
    )
    parser.add_argument("--atoms", type=int, help="of thermal expansion; by default 10000, or 500")
    arguments = parser.parse_args()
    folder, teacher, quick = arguments.folder.absolute(), arguments.teacher_python, arguments.quick
    require_teacher(teacher)
    folder.mkdir(parents=True, exist_ok=True)
    project, minutes = folder / "active", Minutes(folder)
    with minutes.of("learning"):
        learn(folder, project, teacher, quick)
    model = max(project.rglob("committee.pt"), key=lambda path: path.stat().st_mtime)
    if not (folder / "npt" / "summary.json").exists():
        with minutes.of("simulation"):
            command(
                "md", str(model), str(folder / "start.xyz") + "@0", "--ensemble", "npt", "--temperature",
                f"{TEMPERATURE:g}", "--steps", "1000" if quick else "20000", "-o", str(folder / "npt"), "--overwrite",
            )  # fmt: skip
    atoms = arguments.atoms or (500 if quick else 10_000)
    with minutes.of("expansion"):
        grown = expansion(project, folder, atoms, quick)
    trajectory = read(folder / "npt" / "trajectory.lammpstrj")
    frames = trajectory[len(trajectory) // 4 :: max(1, len(trajectory) // _TEST)][:_TEST]
    with minutes.of("judging"):
        compared = against_teacher(nnpkit.load(model), frames, teacher, folder)
    result = {
        "minutes": round(sum(minutes.used.values()), 2), **{f"minutes_of_{k}": v for k, v in minutes.used.items()},
        "labels": sum(1 for path in project.rglob("*.xyz") if path.parent.parent.name == "labels"),
        **compared, "atoms": frames[0].n_atoms, **grown,
    }  # fmt: skip
    print(f"{compared['energy_rmse']} meV/atom and {compared['force_rmse']} eV/Å from the teacher, ", end="")
    print(f"{compared['speedup']} times as fast; next: python {HERE / 'correct.py'} {folder}")
    print("RESULT", json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
