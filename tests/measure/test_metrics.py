"""Errors against numpy on everything at once; suspicions about units."""

from __future__ import annotations

import numpy as np
import pytest

from nnpkit.data.structure import Structure
from nnpkit.measure.metrics import METRICS, ErrorSums
from nnpkit.units import BOHR, EV_PER_A3_IN_GPA, HARTREE


def structures(n: int = 6, seed: int = 1) -> list[Structure]:
    random = np.random.default_rng(seed)
    made = []
    for k in range(n):
        size = 3 + k
        stress = random.normal(size=(3, 3)) * 0.01
        made.append(
            Structure(
                ["Cu"] * size, random.normal(size=(size, 3)), np.eye(3) * 9, [True] * 3,
                energy=-3.5 * size + random.normal(), forces=random.normal(size=(size, 3)), stress=stress + stress.T,
            )
        )  # fmt: skip
    return made


def test_errors_are_those_of_the_definitions() -> None:
    random = np.random.default_rng(2)
    frames = structures()
    parts = [ErrorSums(), ErrorSums()]
    energies, forces, stresses = [], [], []
    for k, frame in enumerate(frames):
        energies.append(random.normal())
        forces.append(random.normal(size=frame.forces.shape))
        stresses.append(random.normal(size=(3, 3)))
        parts[k % 2].add(
            frame, frame.energy + energies[-1], frame.forces + forces[-1], frame.stress + stresses[-1]
        )
    parts[0].merge(parts[1])
    per_atom = np.array(energies) / [f.n_atoms for f in frames]
    force = np.concatenate(forces)
    expected = {
        "n_structures": 6,
        "n_atoms": sum(f.n_atoms for f in frames),
        "energy_rmse": np.sqrt(np.mean(per_atom**2)),
        "energy_mae": np.mean(np.abs(per_atom)),
        "force_rmse": np.sqrt(np.mean(force**2)),
        "force_mae": np.mean(np.abs(force)),
        "force_vector_rmse": np.sqrt(np.mean(np.sum(force**2, axis=1))),
        "stress_rmse": np.sqrt(np.mean(np.array(stresses) ** 2)) * EV_PER_A3_IN_GPA,
    }
    assert parts[0].summary() == pytest.approx(expected, rel=1e-12)
    assert list(expected) == list(METRICS)


def test_labels_that_are_missing_leave_errors_undefined() -> None:
    sums = ErrorSums()
    bare = structures(1)[0].replace(energy=None, forces=None, stress=None)
    sums.add(bare, 1.0, np.ones((3, 3)), np.ones((3, 3)))
    assert sums.summary() == {"n_structures": 1, "n_atoms": 3} | dict.fromkeys(list(METRICS)[2:])
    assert sums.suspicions() == []


def suspicions(energy: float = 1.0, force: float = 1.0, shift: float = 0.0) -> list[str]:
    """What is said about predictions with small errors of labels that were scaled and shifted."""
    random = np.random.default_rng(4)
    sums = ErrorSums()
    for frame in structures(10):
        labels = frame.replace(
            energy=(frame.energy + shift * frame.n_atoms) * energy, forces=frame.forces * force
        )
        error = random.normal(scale=0.05, size=frame.forces.shape)
        sums.add(labels, frame.energy + 0.001 * frame.n_atoms, frame.forces + error)
    return sums.suspicions()


def test_suspicions() -> None:
    assert suspicions() == []
    assert "in hartree;" in " ".join(suspicions(energy=1 / HARTREE))
    assert "in kcal/mol;" in " ".join(suspicions(energy=23.0605))
    assert "forces look as if they were in hartree/bohr" in " ".join(suspicions(force=BOHR / HARTREE))
    (text,) = suspicions(shift=-5.0)
    assert "differ from the predictions by a constant 5.0010 eV/atom" in text
