"""Copper and water, the network and the optimizers that the benchmarks of Deep Potentials share."""

from __future__ import annotations

import itertools
import os
import platform
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.build import bulk
from ase.calculators.emt import EMT

import nnpkit
from nnpkit.config.schema import Config
from nnpkit.data.dataset import load_dataset
from nnpkit.data.splitting import SplitRule, divide
from nnpkit.data.structure import Structure
from nnpkit.measure.label_choice import Labels
from nnpkit.measure.structure_memory import keep_freed_memory
from nnpkit.training.schedules.random_order import Schedule
from nnpkit.training.trainer import Split, errors_of
from nnpkit.training.updates import Update
from nnpkit.workflow import assemble
from nnpkit.workflow.new_model import make_model

__all__ = ["OPTIMIZERS", "SYSTEMS", "Session", "load_system", "machine", "open_session", "samples",
    "synthetic_system",
]  # fmt: skip

SYSTEMS = {"cu72": "pwmlff_Cu", "water192": "water_PBE0TS_deepmd"}
MODEL = {
    "kind": "deep_potential", "wall": "off", "network": {"hidden": [50, 50, 50], "timestep": False},
    "descriptor": {"embedding": [25, 25, 25], "axis_neurons": 16, "cutoff": 6.0, "smooth_from": 0.5},
}  # fmt: skip
"""The network of Hu et al., RLEKF, AAAI 2023."""

_KALMAN: dict[str, Any] = {
    "kind": "ekf", "partition": "reorganized", "block_size": 5120, "process_noise": 0.0,
    "noise": {"energy": 1e-3, "force": 0.05},
}  # fmt: skip
OPTIMIZERS: dict[str, dict[str, Any]] = {
    "adam": {
        "schedule": {"kind": "epoch", "forces": "all"},
        "optimizer": {
            "kind": "adam", "learning_rate": 1e-3, "final_learning_rate": 3.5e-8, "prefactors": {},
            "gradient_clip": None, "epsilon": 1e-8, "epsilon_convention": "torch",
        },
    },
    "published": {"optimizer": {"kind": "ekf", "preset": "rlekf"}},
    "printed": {"optimizer": {"kind": "ekf", "preset": "rlekf_paper", "block_size": 5120}},
    "sequential": {"schedule": {"kind": "groups"}, "optimizer": {**_KALMAN, "noise_growth": 0.05}},
    "joint": {"schedule": {"kind": "groups", "joint_from": 0}, "optimizer": {**_KALMAN, "noise_growth": 0.25}},
}  # fmt: skip
"""Adam with DeePMD-kit's prefactors, and the Kalman filter with an energy and four groups of six atoms per structure.
``published``: the program of Hu et al.: first the energy, then each group reduced to its signed mean, with its factors.
``printed``: their algorithm, without factors.
``sequential``: every force component is an observation, each group an update, then the energy; nothing is forgotten,
and the noise grows. ``joint``: the same in one update."""


@dataclass
class Session:
    """A training that has not begun."""

    splits: dict[str, Split]
    schedule: Schedule
    update: Update
    n_parameters: int
    seconds: float  # it took to prepare all structures

    def errors(self, part: str = "test") -> tuple[float, float]:
        """RMSE of energies, eV/atom, and forces, eV/Å, of a set."""
        found = errors_of(self.splits[part])
        return float(found["energy_rmse"]), float(found["force_rmse"])


def load_system(name: str) -> tuple[list[Structure], list[Structure], list[Structure]]:
    """Training, validation and test structures of a published set in the folder NNPKIT_DATA, cut in sequence.

    Copper's two trajectories have a frame every fs: of each the first 80 % train, the next 10 % validate and the last
    10 % test. Water is tested on the validation frames of its authors; the last tenth of their training set validates.
    """
    if "NNPKIT_DATA" not in os.environ:
        sys.exit("set NNPKIT_DATA to the folder that holds " + " and ".join(SYSTEMS.values()))
    folder = Path(os.environ["NNPKIT_DATA"]) / SYSTEMS[name]
    if name == "water192":
        tested = load_dataset(str(folder / "valid.xyz.xz"))
        train, validation, _ = _in_sequence([folder / "train.xyz.xz"], test=0.0)
        return train, validation, tested
    return _in_sequence(sorted(folder.glob("*.xyz.xz")), test=0.1)


def _in_sequence(paths: list[Path], test: float) -> tuple[list[Structure], list[Structure], list[Structure]]:
    """The first part of every file, the tenth before its end, and its end."""
    parts: tuple[list[Structure], list[Structure], list[Structure]] = ([], [], [])
    for path in paths:
        frames = load_dataset(str(path))
        division = divide(frames, SplitRule(validation=0.1, test=test, kind="sequential"), seed=0)
        for part, indices in zip(parts, (division.train, division.validation, division.test), strict=True):
            part.extend(frames[i] for i in indices)
    return parts


def synthetic_system(name: str, n_structures: int) -> tuple[list[Structure], list[Structure]]:
    """Structures of the same sizes without the published data: EMT copper, and the water of the examples twice."""
    if name == "cu72":
        random, structures = np.random.default_rng(0), []
        for number in range(n_structures):
            atoms = bulk("Cu", cubic=True) * (3, 3, 2)
            atoms.positions += random.normal(0.0, 0.1, (len(atoms), 3))
            atoms.calc = EMT()
            atoms.get_forces()
            structures.append(Structure.from_atoms(atoms, name=f"copper#{number}"))
    else:
        water = Path(__file__).resolve().parent.parent / "examples" / "water" / "train.xyz.xz"
        structures = [_twice(s) for s in load_dataset(str(water)) if s.n_atoms == 96][:n_structures]
    return structures, structures[:1]


def _twice(structure: Structure) -> Structure:
    """Two copies side by side, labels included."""
    assert structure.energy is not None
    assert structure.forces is not None
    cell = structure.cell
    return replace(
        structure, symbols=structure.symbols * 2, energy=2.0 * structure.energy,
        positions=np.concatenate([structure.positions, structure.positions + cell[0]]),
        cell=np.array([2.0 * cell[0], cell[1], cell[2]]), forces=np.concatenate([structure.forces] * 2),
    )  # fmt: skip


def open_session(
    data: Sequence[list[Structure]],
    optimizer: str,
    seed: int,
    epochs: int,
    changes: dict[str, Any] | None = None,
) -> Session:
    """Everything of a training in the order in which ``nnpkit train`` makes it.

    Parameters
    ----------
    data : sequence of list of Structure
        Training and test structures, or training, validation and test structures.
    optimizer : str
        Key of `OPTIMIZERS`.
    seed, epochs : int
        Of the training; Adam's learning rate reaches its end after so many epochs.
    changes : dict, optional
        Settings of the optimizer that are different.
    """
    keep_freed_memory()
    chosen, changes = OPTIMIZERS[optimizer], dict(changes or {})
    if "preset" in chosen["optimizer"]:
        changes.pop("noise", None)  # R is the number of blocks
    training = {
        **chosen, "epochs": epochs, "optimizer": {**chosen["optimizer"], **changes},
    }  # fmt: skip
    config = Config.model_validate(
        {
            "seed": seed,
            "data": {"train": "given", "suspicious": "ignore"},
            "model": MODEL,
            "training": training,
        }
    )
    elements = sorted({symbol for structure in data[0] for symbol in structure.symbols})
    names = ("train", "test") if len(data) == 2 else ("train", "validation", "test")
    loaded = assemble.LoadedData(dict(zip(names, data, strict=True)), elements, {}, [])
    model, _ = make_model(config, loaded)
    schedule = assemble.make_schedule(config, data[0])
    start = time.perf_counter()
    splits = assemble.make_splits(model, loaded.splits, 6e9)
    seconds = time.perf_counter() - start
    n_updates = sum(map(schedule.epoch_length, range(epochs)))
    update = assemble.make_update(config, splits["train"].store, n_updates)
    return Session(splits, schedule, update, sum(p.numel() for p in model.parameters()), seconds)


def samples(updates: Iterable[Labels]) -> Iterator[list[Labels]]:
    """Updates of an epoch with one structure each, as one list for each structure."""
    for _, group in itertools.groupby(updates, key=lambda labels: labels.structures):
        yield list(group)


def machine(threads: int) -> dict[str, Any]:
    """What figures depend on."""
    names = [line for line in _read("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    return {
        "processor": names[0].split(":", 1)[1].strip() if names else platform.machine(),
        "cores": os.cpu_count(),
        "threads": threads,
        "nnpkit": nnpkit.__version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
    }


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
