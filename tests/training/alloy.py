"""A tiny data set that costs nothing: crystals of copper and gold with the EMT potential."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import ase.io
import numpy as np
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

CONFIG = """\
seed: 5
output: run
data:
  train: train.extxyz
  validation_fraction: 0.25
  test_fraction: 0.0
model:
  descriptor: {cutoff: 6.0, angular_cutoff: 5.0, zetas: [1, 4], radial: 3}
  network: {hidden: [4]}
training:
  epochs: 4
  threads: 1
"""


def write_alloy(
    path: Path, frames: int = 12, seed: int = 3, gold: Sequence[int] = (2,), lattice: float = 3.8
) -> None:
    """Write `frames` shaken cells of four atoms, in turn so many of them `gold`, the others copper."""
    random = np.random.default_rng(seed)
    images = []
    for k in range(frames):
        atoms = bulk("Cu", cubic=True, a=lattice * random.uniform(0.97, 1.03))
        atoms.symbols[random.permutation(4)[: gold[k % len(gold)]]] = "Au"
        atoms.positions += random.normal(scale=0.12, size=(4, 3))
        atoms.calc = EMT()
        results = {
            "energy": atoms.get_potential_energy(),
            "forces": atoms.get_forces(),
            "stress": atoms.get_stress(),
        }
        atoms.calc = SinglePointCalculator(atoms, **results)
        images.append(atoms)
    ase.io.write(path, images)


def make_training(folder: Path, config: str = CONFIG) -> Path:
    """Write data and YAML into `folder` and make it the current one; path of the YAML."""
    write_alloy(folder / "train.extxyz")
    (folder / "train.yaml").write_text(config)
    os.chdir(folder)
    return folder / "train.yaml"
