"""Electrostatics: Madelung constants, other ways to sum, finite differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from nnpkit.errors import InputError
from nnpkit.models.electrostatics import (
    COULOMB,
    Interaction,
    coulomb_interaction,
    lattice_sum,
    screened_interaction,
    screening,
)

# Energies per ion pair over COULOMB * q^2 / d(nearest), e.g. D. Borwein et al., J. Math. Phys. 26, 2999 (1985), and
# R. E. Crandall and J. P. Buhler, J. Phys. A 20, 5497 (1987).
CRYSTALS = {
    "NaCl": ([[0, 1, 1], [1, 0, 1], [1, 1, 0]], [1.0, 1.0, 1.0], 1.0, 1.7475645946331822),
    "CsCl": ([[2, 0, 0], [0, 2, 0], [0, 0, 2]], [1.0, 1.0, 1.0], math.sqrt(3.0), 1.7626747730709882),
    "ZnS": ([[0, 1, 1], [1, 0, 1], [1, 1, 0]], [0.5, 0.5, 0.5], math.sqrt(0.75), 1.6380550533887891),
}


def tensors(*arrays) -> list[torch.Tensor]:
    return [torch.tensor(np.asarray(a), dtype=torch.float64) for a in arrays]


def random_crystal(n: int = 6, seed: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(seed)
    cell = np.diag([5.0, 5.5, 6.0]) + 0.8 * random.normal(size=(3, 3))
    return tuple(tensors(random.uniform(size=(n, 3)) @ cell, cell))


@pytest.mark.parametrize("name", CRYSTALS)
@pytest.mark.parametrize("splitting", [None, 0.7])
def test_madelung_energies(name: str, splitting: float | None) -> None:
    cell, anion, distance, madelung = CRYSTALS[name]
    positions, cell, widths = tensors([[0, 0, 0], anion], cell, [0.0, 0.0])
    lattice = lattice_sum(positions, cell, (True,) * 3, accuracy=1e-14, splitting=splitting)
    q = torch.tensor([1.0, -1.0], dtype=torch.float64)
    energy = 0.5 * q @ coulomb_interaction(positions, cell, widths, lattice).matrix @ q
    assert float(energy) * distance / COULOMB == pytest.approx(-madelung, abs=1e-10)


def gaussian_sum(positions, cell, widths) -> np.ndarray:
    """The matrix by wave vectors alone, nothing split: slow, and right for wide Gaussians."""
    inverse = 2.0 * np.pi * np.linalg.inv(cell).T
    n = np.stack(np.meshgrid(*[np.arange(-14, 15)] * 3), -1).reshape(-1, 3)
    k = n[(n != 0).any(1)] @ inverse
    k2 = (k * k).sum(1)
    squares = widths[:, None] ** 2 + widths[None, :] ** 2
    matrix = np.zeros((len(positions),) * 2)
    for i, a in enumerate(positions):
        for j, b in enumerate(positions):
            factor = np.exp(-0.5 * squares[i, j] * k2) / k2
            matrix[i, j] = 4.0 * np.pi / abs(np.linalg.det(cell)) * (factor * np.cos(k @ (a - b))).sum()
    return COULOMB * (matrix - np.diag(1.0 / (widths * np.sqrt(np.pi))))


def test_gaussian_charges_in_a_triclinic_cell_charged_or_not() -> None:
    positions, cell = random_crystal(3)
    widths = torch.tensor([0.7, 0.9, 1.2], dtype=torch.float64)
    expected = gaussian_sum(positions.numpy(), cell.numpy(), widths.numpy())
    for splitting in (None, 0.8, 2.5):
        lattice = lattice_sum(positions, cell, (True,) * 3, 1.2, accuracy=1e-14, splitting=splitting)
        found = coulomb_interaction(positions, cell, widths, lattice).matrix
        np.testing.assert_allclose(found.numpy(), expected, atol=1e-10)


def test_a_charged_cell_stands_in_a_background() -> None:
    """One charge in a cubic cell: the energy of a Wigner crystal, -2.837297479 q^2 / (2 L)."""
    positions, cell, widths = tensors([[0.3, 0.1, 0.2]], np.eye(3) * 4.0, [0.0])
    lattice = lattice_sum(positions, cell, (True,) * 3)
    found = float(coulomb_interaction(positions, cell, widths, lattice).matrix) * 4.0 / COULOMB
    assert found == pytest.approx(-2.837297479480619, abs=1e-10)


def test_open_boundaries_are_coulombs_law() -> None:
    positions, cell, widths = tensors(
        [[0, 0, 0], [0, 0, 2.0], [0, 3.0, 0]], np.zeros((3, 3)), [0.0, 0.0, 0.6]
    )
    lattice = lattice_sum(positions, cell, (False,) * 3)
    found = coulomb_interaction(positions, cell, widths, lattice).matrix
    assert float(found[0, 1]) == pytest.approx(COULOMB / 2.0)
    assert float(found[0, 2]) == pytest.approx(COULOMB * math.erf(3.0 / (math.sqrt(2.0) * 0.6)) / 3.0)
    assert float(found.diagonal().abs().max()) == 0.0


def screened(positions, cell, widths, lattice) -> Interaction:
    away = screened_interaction(positions, cell, widths, lattice, 0.5, 4.0)
    return coulomb_interaction(positions, cell, widths, lattice).less(away)


def energy(positions, cell, q, widths, lattice) -> torch.Tensor:
    return 0.5 * q @ screened(positions, cell, widths, lattice).matrix @ q


@pytest.mark.parametrize("periodic", [True, False])
def test_forces_and_stress_are_derivatives(periodic: bool) -> None:
    positions, cell = random_crystal()
    random = np.random.default_rng(5)
    q, widths = tensors(random.normal(size=6), [0.0, 0.5, 0.9, 0.0, 0.4, 0.7])
    lattice = lattice_sum(positions, cell, (periodic,) * 3, 0.9, 4.0)
    moved = torch.zeros_like(positions, requires_grad=True)
    strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    total = 0.5 * q @ screened(positions, cell, widths, lattice).moved(moved, strain) @ q
    by_position, by_strain = torch.autograd.grad(total, (moved, strain))
    h = 1e-4
    for gradient, indices in ((by_position, [(0, 0), (3, 2), (5, 1)]), (by_strain, [(0, 0), (0, 1), (2, 2)])):
        for index in indices:
            values = []
            for sign in (1, -1, 2, -2):
                change = torch.zeros_like(gradient)
                change[index] = sign * h
                x, c = positions, cell
                x, c = (x + change, c) if gradient is by_position else (x + x @ change, c + c @ change)
                values.append(float(energy(x, c, q, widths, lattice)))
            difference = (8.0 * (values[0] - values[1]) - (values[2] - values[3])) / (12.0 * h)
            assert float(gradient[index]) == pytest.approx(difference, rel=1e-7, abs=1e-7)


def test_screening_takes_close_pairs_away() -> None:
    r = torch.tensor([0.3, 1.0, 2.25, 4.0, 5.0], dtype=torch.float64)
    x = (2.25 - 0.5) / 3.5
    expected = [0.0, 0.5 * (1 - math.cos(math.pi / 7)), 0.5 * (1 - math.cos(math.pi * x)), 1.0, 1.0]
    np.testing.assert_allclose(screening(r, 0.5, 4.0).numpy(), expected, atol=1e-15)
    positions, cell, widths = tensors([[0, 0, 0], [0, 0, 2.25]], np.zeros((3, 3)), [0.0, 0.0])
    lattice = lattice_sum(positions, cell, (False,) * 3)
    away = screened_interaction(positions, cell, widths, lattice, 0.5, 4.0)
    assert float(away.matrix[0, 1]) == pytest.approx(COULOMB / 2.25 * (1.0 - expected[2]))


def test_wires_are_refused() -> None:
    positions, cell = random_crystal(2)
    with pytest.raises(InputError, match=r"pbc F F T.*vacuum"):
        lattice_sum(positions, cell, (False, False, True), name="wire")
