"""Hardness and electronegativity of elements from charges: found where charges say it, usual where they do not."""

from __future__ import annotations

import numpy as np
import pytest

from nnpkit.models.electrostatics import COULOMB
from nnpkit.models.fitted_hardness import ChargedEnvironments, fit_hardness

OWN = np.array([8.0, 6.0, 7.0])  # eV/e² of three elements, of which the structures have two
USUAL = 5.0


def crystals(hardness: list[float], linear: float = 0.1, seed: int = 1) -> list[ChargedEnvironments]:
    """Two atoms of the second element far from those of the first, whose charges follow their surroundings."""
    random, made = np.random.default_rng(seed), []
    away = np.array([0.0, 0.0, 14.0])
    for _ in range(12):
        positions = np.concatenate([random.uniform(0, 9, (10, 3)), away + random.uniform(0, 3, (2, 3))])
        types = np.array([0] * 10 + [1] * 2)
        distances = np.linalg.norm(positions[:, None] - positions, axis=-1) + 12.0 * np.eye(12)
        matrix = COULOMB / np.maximum(distances, 2.0) * (1.0 - np.eye(12)) + np.diag(OWN[types])
        features = random.normal(size=(12, 3))
        n = np.where(types == 0, 0.05, -0.2) + linear * features @ [1.0, -0.5, 0.0]
        full = matrix + np.diag(np.array(hardness)[types])
        inverse = np.linalg.inv(np.block([[full, np.ones((12, 1))], [np.ones((1, 12)), np.zeros((1, 1))]]))
        charges = -inverse[:12, :12] @ (n * np.diag(full)) + 0.003 * random.normal(size=12)
        charges -= charges.mean()
        made.append(ChargedEnvironments(matrix, types, features, charges))
    return made


def left(structures: list[ChargedEnvironments], chi: np.ndarray, hardness: np.ndarray) -> float:
    """RMS, e, of what constants leave of the charges."""
    errors = []
    for matrix, types, _, charges in structures:
        n = len(types)
        full = np.ones((n + 1, n + 1))
        full[:n, :n], full[n, n] = matrix + np.diag(hardness[types]), 0.0
        errors.append(np.linalg.solve(full, np.append(-chi[types], charges.sum()))[:n] - charges)
    return float(np.sqrt(np.mean(np.square(np.concatenate(errors)))))


@pytest.mark.parametrize("true", [[400.0, 2.0], [3.0, 300.0], [4.0, 4.0]])
def test_soft_and_hard_elements_are_told_apart(true: list[float]) -> None:
    _, hardness = fit_hardness(crystals(true), OWN, USUAL)
    for found, right in zip(hardness, true, strict=False):
        assert right / 4.0 < found < 4.0 * right
    assert hardness[2] == USUAL  # no structure has that element


@pytest.mark.parametrize("true", [[400.0, 2.0], [3.0, 300.0]])
def test_electronegativities_are_those_of_constants(true: list[float]) -> None:
    structures = crystals(true, linear=0.0)
    chi, hardness = fit_hardness(structures, OWN, USUAL)
    assert left(structures, chi, hardness) < 0.006
    assert left(structures, 0.0 * chi, hardness) > 0.02
    assert chi[2] == 0.0


def test_nothing_is_harder_than_what_does_not_yield_at_all() -> None:
    _, hardness = fit_hardness(crystals([1e5, 2.0]), OWN, USUAL)
    assert hardness[0] == pytest.approx(1000.0)


def test_charges_that_say_nothing_leave_elements_as_they_usually_are() -> None:
    structures = [s._replace(charges=np.zeros(12)) for s in crystals([400.0, 2.0])]
    chi, hardness = fit_hardness(structures, OWN, USUAL)
    np.testing.assert_allclose(hardness, USUAL)
    np.testing.assert_allclose(chi, 0.0, atol=1e-12)


def test_one_structure_of_one_atom_is_enough() -> None:
    one = ChargedEnvironments(np.array([[8.0]]), np.array([0]), np.zeros((1, 2)), np.array([1.0]))
    chi, hardness = fit_hardness([one], OWN, USUAL)
    np.testing.assert_allclose(hardness, USUAL)
    assert np.isfinite(chi).all()


def test_what_would_gain_little_is_left_to_the_training() -> None:
    chi, hardness = fit_hardness(crystals([5.1, 5.0]), OWN, USUAL)
    np.testing.assert_array_equal(hardness, USUAL)
    np.testing.assert_array_equal(chi, 0.0)
