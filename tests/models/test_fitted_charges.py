"""Charges of elements that are fitted to forces together with a repulsion, and repulsions beside labelled charges."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from test_fitted_repulsion import forces_of, row

from nnpkit.data.distances import shortest_distances
from nnpkit.data.structure import Structure
from nnpkit.models.electrostatics import Interaction, coulomb_interaction, lattice_sum
from nnpkit.models.fitted_charges import labelled_forces, usual_charges
from nnpkit.models.fitted_repulsion import Beside, fit_repulsion
from nnpkit.models.short_range import make_wall

ELEMENTS = ["Cu", "Si"]  # of `forces_of`, as if they were ions
CHARGES = {"Cu": 0.8, "Si": -0.8}
FACTORS = {"Cu-Cu": 0.3, "Cu-Si": 0.8, "Si-Si": 1.7}


def interactions(structure: Structure) -> Interaction:
    """Of Gaussian charges in a crystal."""
    positions, cell = torch.as_tensor(structure.positions), torch.as_tensor(structure.cell)
    widths = torch.full((structure.n_atoms,), 0.5, dtype=torch.float64)
    return coulomb_interaction(positions, cell, widths, lattice_sum(positions, cell, (True, True, True), 0.5))


def frames(*, labelled: bool = False, neutral: bool = True) -> list[Structure]:
    """Shaken crystals of two kinds of ions; forces of their charges and of a repulsion of known strength."""
    random, made = np.random.default_rng(3), []
    grid = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), -1).reshape(-1, 3)
    symbols = [ELEMENTS[sum(place) % 2] for place in grid]
    for k in range(10):
        positions = 2.6 * grid + random.normal(0.0, 0.2, grid.shape)
        s = Structure(
            symbols, positions, 5.2 * np.eye(3), np.ones(3, dtype=bool), energy=0.0, name=f"ions#{k}"
        )
        charges = np.array([CHARGES[symbol] for symbol in symbols])
        charges = charges + (random.normal(0.0, 0.2, 8) if labelled else 0.0)
        made.append(s.replace(charges=charges - (charges.mean() if neutral else 0.0)))
    shortest = {pair: d.distance for pair, d in shortest_distances(made).items()}
    wall = make_wall(ELEMENTS, {p: row(f, 2.1 * shortest[p]) for p, f in FACTORS.items()})
    assert wall is not None
    electric = labelled_forces(made, interactions).reshape(10, 8, 3)
    done = [s.replace(forces=forces_of(wall, s) + f) for s, f in zip(made, electric, strict=True)]
    return done if labelled else [s.replace(charges=None) for s in done]


def shortest_of(structures: list[Structure]) -> dict[str, float]:
    return {p: d.distance for p, d in shortest_distances(structures).items()}


def test_charges_of_elements_and_the_repulsion_are_found_together() -> None:
    structures = frames()
    shortest = shortest_of(structures)
    found = fit_repulsion(structures, ELEMENTS, shortest, 9.0, Beside(interactions, False))
    assert found is not None
    assert found.charges is not None
    assert abs(found.charges["Cu"]) == pytest.approx(0.8, rel=1e-3)
    assert found.charges["Cu"] == pytest.approx(-found.charges["Si"], abs=1e-12)
    assert found.left < 1e-5
    for pair, factor in FACTORS.items():
        np.testing.assert_allclose(found.rows[pair], row(factor, 2.1 * shortest[pair]), rtol=2e-2)
    alone = fit_repulsion(structures, ELEMENTS, shortest, 9.0)
    assert alone is not None
    assert alone.charges is None
    assert alone.left > 100.0 * found.left


def test_forces_of_labelled_charges_are_not_fitted() -> None:
    structures = frames(labelled=True)
    found = fit_repulsion(structures, ELEMENTS, shortest_of(structures), 9.0, Beside(interactions, True))
    assert found is not None
    assert found.charges is None
    assert found.left < 1e-9


def test_an_atom_without_a_label_has_the_mean_charge_of_its_element() -> None:
    structures = frames(labelled=True)
    means = {
        e: np.mean([q for s in structures[1:] for a, q in zip(s.symbols, s.charges, strict=True) if a == e])
        for e in ELEMENTS
    }
    lacking = [structures[0].replace(charges=None), *structures[1:]]
    usual = structures[0].replace(charges=np.array([means[symbol] for symbol in structures[0].symbols]))
    np.testing.assert_allclose(
        labelled_forces(lacking, interactions), labelled_forces([usual, *structures[1:]], interactions)
    )


def test_forces_of_labelled_charges_are_derivatives_of_their_energy() -> None:
    s = frames(labelled=True)[0]
    found = labelled_forces([s], interactions).reshape(-1, 3)
    energies = []
    for step in (1e-4, -1e-4):
        positions = s.positions.copy()
        positions[3, 1] += step
        matrix = interactions(s.replace(positions=positions)).matrix.numpy()
        energies.append(0.5 * s.charges @ matrix @ s.charges)
    assert found[3, 1] == pytest.approx((energies[1] - energies[0]) / 2e-4, rel=1e-6)


def test_charges_have_their_usual_signs_and_add_up() -> None:
    for sign in (1.0, -1.0):
        water = usual_charges(["H", "O"], sign * np.array([0.5, -0.7]), ["O", "H", "H"] * 4)
        assert water["H"] == pytest.approx(0.4)
        assert water["O"] == pytest.approx(-0.8)
        assert usual_charges(["Cl", "Na"], sign * np.array([1.0, -1.0]), ["Na", "Cl"]) == {
            "Cl": -1.0,
            "Na": 1.0,
        }


def test_without_charges_the_fit_finds_none() -> None:
    """Forces of a repulsion alone: charges that are fitted with it are as good as zero."""
    structures = [
        s.replace(forces=s.forces - f)
        for s, f in zip(
            frames(labelled=True),
            labelled_forces(frames(labelled=True), interactions).reshape(10, 8, 3),
            strict=True,
        )
    ]
    found = fit_repulsion(structures, ELEMENTS, shortest_of(structures), 9.0, Beside(interactions, False))
    assert found is not None
    assert max(map(abs, (found.charges or {"Cu": 0.0}).values())) < 0.02
