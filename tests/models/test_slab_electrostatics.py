"""Slabs against the exact sum over two directions, and their derivatives; images across the vacuum do not matter."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.special import erf, erfc
from test_charged_model import make_model

from nnpkit.data.structure import Structure
from nnpkit.md.calculator import NnpkitCalculator
from nnpkit.models.electrostatics import COULOMB, Interaction, coulomb_interaction, lattice_sum
from nnpkit.models.slab_electrostatics import SLABS, with_vacuum, without_images

CELL = np.array([[4.1, 0.3, 0.0], [-0.5, 3.7, 0.2], [0.7, 0.1, 9.0]])


def exact(positions: np.ndarray, first: np.ndarray, second: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """Interactions of Gaussian charges in a slab: D. E. Parry, Surf. Sci. 49, 433 (1975), with widths by erf."""
    across = np.cross(first, second)
    area, unit = np.linalg.norm(across), across / np.linalg.norm(across)
    waves = 2.0 * np.pi * np.linalg.inv(np.stack([first, second, unit])).T[:2]
    alpha, n = 0.9, len(positions)
    found = np.zeros((n, n))
    grid = [(a, b) for a, b in itertools.product(range(-9, 10), repeat=2)]
    for i, j in itertools.product(range(n), repeat=2):
        d = positions[j] - positions[i]
        z, joint = float(d @ unit), math.hypot(widths[i], widths[j])
        total = 0.0
        for a, b in grid:
            r = float(np.linalg.norm(d + a * first + b * second))
            if r > 1e-9:
                total += (erf(r / (math.sqrt(2.0) * joint)) - erf(alpha * r)) / r
            wave = a * waves[0] + b * waves[1]
            g = float(np.linalg.norm(wave))
            if g > 0.0:
                ends = [np.exp(s * g * z) * erfc(g / (2.0 * alpha) + s * alpha * z) for s in (1.0, -1.0)]
                total += np.pi / area * math.cos(float(wave @ d)) / g * sum(ends)
        total -= 2.0 * math.sqrt(np.pi) / area * (
            math.exp(-((alpha * z) ** 2)) / alpha + math.sqrt(np.pi) * z * erf(alpha * z)
        )  # fmt: skip
        found[i, j] = total - (2.0 * alpha / math.sqrt(np.pi) if i == j else 0.0)
    return COULOMB * found


def slab(
    positions: torch.Tensor,
    cell: torch.Tensor,
    widths: torch.Tensor,
    periodic: tuple[bool, ...],
    fixed: bool = False,
) -> Interaction:
    """With vacuum of its own, or in the cell as it is."""
    widest = float(widths.max())
    long = cell if fixed else with_vacuum(positions, cell, periodic, widest, 1e-12)  # type: ignore[arg-type]
    lattice = lattice_sum(positions, long, (True,) * 3, widest, accuracy=1e-13)
    bare = coulomb_interaction(positions, long, widths, lattice)
    alone = without_images(positions, long, widths, periodic)  # type: ignore[arg-type]
    return Interaction(*(a + b for a, b in zip(bare, alone, strict=True)))


def atoms(n: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(3)
    positions = random.uniform(0.0, 1.0, (n, 3)) @ np.array(
        [[4.1, 0.3, 0.0], [-0.5, 3.7, 0.2], [0.0, 0.0, 5.0]]
    )
    return torch.tensor(positions), torch.tensor([0.4, 0.5, 0.3, 0.6][:n], dtype=torch.float64)


@pytest.mark.parametrize("periodic", SLABS)
def test_interactions_are_those_of_the_exact_sum(periodic: tuple[bool, bool, bool]) -> None:
    positions, widths = atoms()
    normal = periodic.index(False)
    cell = torch.tensor(np.roll(CELL, normal - 2, axis=0))
    first, second = cell[(normal + 1) % 3].numpy(), cell[(normal + 2) % 3].numpy()
    found = slab(positions, cell, widths, periodic).matrix.numpy()
    np.testing.assert_allclose(found, exact(positions.numpy(), first, second, widths.numpy()), atol=1e-9)


def test_derivatives_and_the_vector_that_does_not_matter() -> None:
    positions, widths = atoms()
    q = torch.tensor([0.7, -0.4, 0.5, -0.3], dtype=torch.float64)
    periodic = (True, True, False)
    long = with_vacuum(positions, torch.tensor(CELL), periodic, 0.6, 1e-12)
    other = torch.tensor(CELL)
    other[2] = torch.tensor([30.0, -4.0, 1.0])
    again = slab(positions, other, widths, periodic).matrix
    np.testing.assert_allclose(
        again.numpy(), slab(positions, long, widths, periodic).matrix.numpy(), atol=1e-9
    )
    moved = torch.zeros_like(positions, requires_grad=True)
    strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    total = 0.5 * q @ slab(positions, long, widths, periodic, True).moved(moved, strain) @ q
    by_position, by_strain = torch.autograd.grad(total, (moved, strain))
    h = 1e-4
    for gradient, indices in ((by_position, [(0, 2), (3, 0)]), (by_strain, [(0, 0), (2, 2), (1, 2)])):
        for index in indices:
            values = []
            for sign in (1, -1):
                change = torch.zeros_like(gradient)
                change[index] = sign * h
                x, c = positions, long
                x, c = (x + change, c) if gradient is by_position else (x + x @ change, c + c @ change)
                values.append(float(0.5 * q @ slab(x, c, widths, periodic, True).matrix @ q))
            assert float(gradient[index]) == pytest.approx(
                (values[0] - values[1]) / (2 * h), rel=1e-6, abs=1e-6
            )


@pytest.mark.parametrize("generation", ["third", "fourth", "latent"])
def test_potentials_evaluate_slabs(generation: str) -> None:
    """As a crystal with much vacuum and no dipole across it; forces are derivatives of the energy."""
    from nnpkit.deploy.load import LoadedModel
    from nnpkit.deploy.metadata import model_metadata

    model = make_model(generation).requires_grad_(False)
    loaded = LoadedModel(model, model_metadata(model), "here")
    layer = np.array([[0.0, 0.0, 0.0], [0.0, 0.76, 0.59], [0.0, -0.76, 0.59]])
    mirrored = layer * [1.0, 1.0, -1.0] + [2.2, 1.3, -1.9]
    positions = np.concatenate([layer, mirrored])
    cell = np.diag([4.6, 4.9, 40.0])
    symbols = ["O", "H", "H"] * 2
    own = loaded.predict(Structure(symbols, positions, cell, np.array([True, True, False])))
    crystal = loaded.predict(Structure(symbols, positions, cell, np.full(3, True)))
    assert own.energy == pytest.approx(crystal.energy, abs=2e-3)
    np.testing.assert_allclose(own.forces, crystal.forces, atol=2e-2)
    calculator = NnpkitCalculator(loaded, kernel="torchscript")
    atoms = Structure(symbols, positions, cell, np.array([True, True, False])).to_atoms()
    atoms.calc = calculator
    forces, h, values = atoms.get_forces(), 1e-4, []
    for step in (1.0, -2.0):
        atoms.positions[1, 2] += step * h
        values.append(atoms.get_potential_energy())
    assert -(values[0] - values[1]) / (2.0 * h) == pytest.approx(forces[1, 2], rel=1e-5, abs=1e-5)
