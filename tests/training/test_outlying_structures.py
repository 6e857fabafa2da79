"""Which structures are named at the end of a training, and why."""

from __future__ import annotations

import numpy as np
import torch

from nnpkit.data.structure import Structure
from nnpkit.models.potential import Prediction
from nnpkit.training.outlying_structures import named_outliers

N = 30


class Store:
    """A potential that is right to a thousandth."""

    def __init__(self, forces: list[np.ndarray]) -> None:
        self.forces = forces

    def predict(self, index: int) -> Prediction:
        wrong = 0.001 * np.random.default_rng(index).normal(size=self.forces[index].shape)
        empty = torch.zeros(0, dtype=torch.float64)
        forces = torch.from_numpy(self.forces[index] + wrong)
        return Prediction(torch.zeros(1, dtype=torch.float64), empty, forces, torch.zeros(1, 3, 3))


def given(factors: dict[int, float], atoms: int = 6) -> tuple[list[np.ndarray], list[Structure]]:
    rng = np.random.default_rng(1)
    forces = [rng.normal(size=(atoms, 3)) for _ in range(N)]
    structures = [
        Structure(["Si"] * atoms, rng.normal(size=(atoms, 3)), np.eye(3), np.zeros(3, dtype=bool), 0.0,
                  factors.get(k, 1.0) * f, name=f"frame {k}")
        for k, f in enumerate(forces)
    ]  # fmt: skip
    return forces, structures


def record_of(structures: list[Structure], store: Store, times: float = 3.0) -> torch.Tensor:
    record = torch.zeros(N, 3, 3, dtype=torch.float64)
    for k, structure in enumerate(structures):
        error = float(np.sqrt(np.square(structure.forces - store.predict(k).forces.numpy()).mean()))
        record[k, 1] = torch.tensor([times, 0.0, times * error])
    return record


def test_forces_of_ten_times_the_size_are_found_before_anything_is_an_outlier() -> None:
    forces, structures = given({3: 10.0, 17: 0.1})
    store = Store(forces)
    found = named_outliers(record_of(structures, store, 2.0), structures, store)
    assert [one["structure"] for one in found] == ["frame 3", "frame 17"]
    assert "forces are 10 times" in found[0]["reason"]
    assert "forces are 0.0999 times" in found[1]["reason"]


def test_many_are_a_poor_potential() -> None:
    forces, structures = given(dict.fromkeys(range(10), 10.0))
    store = Store(forces)
    assert named_outliers(record_of(structures, store), structures, store) == []


def test_what_is_measured_by_no_update_or_has_few_atoms_is_not_looked_at() -> None:
    forces, structures = given({3: 10.0})
    store = Store(forces)
    assert named_outliers(torch.zeros(N, 3, 3, dtype=torch.float64), structures, store) == []
    forces, structures = given({3: 10.0}, atoms=2)
    store = Store(forces)
    assert named_outliers(record_of(structures, store), structures, store) == []
