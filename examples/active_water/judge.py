#!/usr/bin/env python3
"""Judge potentials over the target conditions: ``python judge.py MODEL [MODEL ...]``.

The first potential makes NPT runs of 2 ps at 300, 400, 500 and 600 K and 1 bar from a box that no training has seen;
GFN1-xTB labels frames of their second halves, and all potentials are compared with these labels. What is there is not
made again. The last line is ``RESULT {json}``.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import ase.io

import nnpkit
from nnpkit.data.formats.reading import read, write
from nnpkit.data.structure import Structure
from nnpkit.measure.metrics import ErrorSums

HERE = Path(__file__).resolve().parent
FOLDER = Path("judge")
TEMPERATURES = (300, 400, 500, 600)
FRAMES = 6  # of each temperature


def command(*words: object) -> None:
    """Run a command of nnpkit."""
    subprocess.run([sys.executable, "-m", "nnpkit", *map(str, words)], check=True)


def labelled_frames(model: Path) -> dict[int, list[Structure]]:
    """Frames of NPT runs with labels, by temperature."""
    path = FOLDER / "labelled.xyz"
    if not path.exists():
        bulk = [s for s in read(HERE.parent / "water" / "test.xyz.xz") if s.info["stage"] == "bulk"]
        FOLDER.mkdir(exist_ok=True)
        write(FOLDER / "start.xyz", bulk[-1:])
        frames = []
        for t in TEMPERATURES:
            folder = FOLDER / f"{t}K"
            options = (
                "--ensemble",
                "npt",
                "--temperature",
                t,
                "--steps",
                4000,
                "--dump-every",
                2000 // FRAMES,
            )
            command("md", model, FOLDER / "start.xyz", "-o", folder, "--overwrite", *options)
            found = ase.io.read(
                folder / "trajectory.lammpstrj", index=f"-{FRAMES}:", format="lammps-dump-text"
            )
            frames += [Structure.from_atoms(atoms, f"{t} K") for atoms in found]
        write(FOLDER / "frames.xyz", frames)
        command("label", FOLDER / "frames.xyz", "-o", path, "--folder", FOLDER / "labels")
    labelled = read(path)
    assert len(labelled) == FRAMES * len(TEMPERATURES), "some labels failed"
    return {t: labelled[k * FRAMES : (k + 1) * FRAMES] for k, t in enumerate(TEMPERATURES)}


def main() -> None:
    """Make frames, compare, print."""
    models = [Path(name) for name in sys.argv[1:]]
    frames, result = labelled_frames(models[0]), {}
    for path in models:
        model, total = nnpkit.load(path), ErrorSums()
        for t, structures in frames.items():
            part = ErrorSums()
            for structure in structures:
                predicted = model.predict(structure)
                part.add(structure, predicted.energy, predicted.forces, predicted.stress)
            total.merge(part)
            errors = part.summary()
            print(
                f"{path} {t} K: {1e3 * errors['energy_rmse']:.2f} meV/atom, {errors['force_rmse']:.4f} eV/Å"
            )
        errors = total.summary()
        result[str(path)] = {
            key: errors[key] for key in ("n_structures", "energy_rmse", "force_rmse", "stress_rmse")
        }
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
