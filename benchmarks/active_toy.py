"""A project of active learning that costs seconds: copper with the EMT potential as the reference."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

TRAINING = """\
seed: 5
data: {train: copper.xyz, validation_fraction: 0.25}
model:
  descriptor: {cutoff: 5.0, angular_cutoff: 3.5, zetas: [1], radial: 3}
  network: {hidden: [4]}
training: {epochs: 2, schedule: {forces: 6}}
committee: {members: 2}
"""

PROJECT = """\
seed: 3
training: train.yaml
output: project
reference: {calculator: emt, per_task: 3}
exploration:
  engine: ase
  timestep: 2.0
  every: 4
  interval: 8
  max_frames: 8
  conditions:
    - {temperature: [300, 1200], steps: 48, runs: 2, strain: 0.02}
selection: {budget: 5, lower: 0.01, upper: 50.0}
execution: {cores: 2}
stop: {rounds: 3, candidates: 0.0}
"""


def shaken_copper(n: int, seed: int) -> list[ase.Atoms]:
    """Cells of four copper atoms, displaced, with EMT labels."""
    random, frames = np.random.default_rng(seed), []
    for _ in range(n):
        atoms = bulk("Cu", cubic=True, a=3.61 * random.uniform(0.98, 1.02))
        atoms.positions += random.normal(scale=0.08, size=(4, 3))
        atoms.calc = EMT()
        results = {
            "energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress(),
        }  # fmt: skip
        atoms.calc = SinglePointCalculator(atoms, **results)
        frames.append(atoms)
    return frames


def write_project(folder: Path, project: str = PROJECT, training: str = TRAINING) -> Path:
    """Write data and both YAML files into `folder`; path of that of the project."""
    folder.mkdir(parents=True, exist_ok=True)
    ase.io.write(folder / "copper.xyz", shaken_copper(10, seed=1), format="extxyz")
    (folder / "train.yaml").write_text(training, encoding="utf-8")
    (folder / "active.yaml").write_text(project, encoding="utf-8")
    return folder / "active.yaml"
