"""Radial distribution functions of things one knows: ideal gas, lattices; density."""

from __future__ import annotations

import numpy as np
import pytest
from ase.build import bulk
from ase.units import kg, m

from nnpkit.analysis.liquid import default_range, density, radial_distribution
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

SKEWED = np.array([[14.0, 0.5, 0.0], [6.0, 13.0, -1.0], [-5.0, 4.0, 15.0]])


def ideal_gas(frames: int, n: int = 60) -> list[Structure]:
    """Independent uniform atoms, two thirds of them H, in a tilted cell that breathes; not wrapped."""
    random = np.random.default_rng(0)
    result = []
    for _ in range(frames):
        cell = SKEWED * random.uniform(0.9, 1.15)
        positions = random.uniform(-1.0, 2.0, (n, 3)) @ cell
        result.append(Structure(["O", "H", "H"] * (n // 3), positions, cell, True))
    return result


def test_an_ideal_gas_has_none() -> None:
    """Every bin is 1 within its Poisson noise, beyond half the cell too, and for few atoms."""
    frames = ideal_gas(200)
    rdf = radial_distribution(frames, r_max=10.0, bin_width=0.5)
    assert list(rdf.g) == [("H", "H"), ("H", "O"), ("O", "O")]
    assert rdf.n_frames == 200
    volume = np.mean([f.volume for f in frames])
    shells = 4 / 3 * np.pi * np.diff(np.linspace(0, 10, 21) ** 3)
    for pair, number in ((("H", "H"), 40 * 39 / 2), (("H", "O"), 40 * 20), (("O", "O"), 20 * 19 / 2)):
        noise = 1.0 / np.sqrt(200 * number * shells / volume)
        scores = ((rdf.g[pair] - 1.0) / noise)[2:]
        assert abs(scores).max() < 4.0
        assert 0.6 < scores.std() < 1.4
    np.testing.assert_allclose(rdf.coordination["O", "H"][-1], 40 * shells.sum() * np.mean(
        [1 / f.volume for f in frames]), rtol=0.01)  # fmt: skip


def test_shells_of_fcc() -> None:
    atoms = bulk("Cu", "fcc", a=4.0, cubic=True).repeat(4)
    rdf = radial_distribution([Structure.from_atoms(atoms)], r_max=7.9, bin_width=0.05)
    number = dict(zip(np.round(rdf.r + 0.025, 6), rdf.coordination["Cu", "Cu"], strict=True))
    shells = {2.8: 0, 3.4: 12, 4.5: 18, 5.2: 42, 6.0: 54, 6.7: 78, 7.2: 86, 7.8: 134}
    assert {r: round(number[r], 9) for r in shells} == shells
    # the integral of g gives them back: 4 pi rho g r^2 dr, rho without the atom itself
    volumes = 4 / 3 * np.pi * np.diff(np.concatenate([[0.0], rdf.r + 0.025]) ** 3)
    counted = np.cumsum(rdf.g["Cu", "Cu"] * volumes) * (len(atoms) - 1) / atoms.get_volume()
    np.testing.assert_allclose(counted, rdf.coordination["Cu", "Cu"], atol=1e-9)


def test_unlike_neighbours_of_rock_salt() -> None:
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=True).repeat(3)
    del atoms[[k for k in range(4) if atoms[k].symbol == "Cl"][:1]]  # one vacancy: the two ways differ
    rdf = radial_distribution([Structure.from_atoms(atoms)], r_max=3.5)
    n = atoms.symbols.count("Na")
    assert rdf.coordination["Na", "Cl"][-1] == pytest.approx(6 * (n - 1) / n)
    assert rdf.coordination["Cl", "Na"][-1] == pytest.approx(6)
    assert rdf.coordination["Na", "Na"][-1] == 0


def test_unwrapped_frames_count_the_same() -> None:
    atoms = bulk("Cu", "fcc", a=4.0, cubic=True).repeat(3)
    atoms.rattle(0.1, seed=1)
    moved = atoms.copy()
    moved.positions += np.random.default_rng(2).integers(-3, 4, (len(atoms), 3)) @ atoms.cell[:]
    first, second = (radial_distribution([Structure.from_atoms(a)]) for a in (atoms, moved))
    np.testing.assert_allclose(first.g["Cu", "Cu"], second.g["Cu", "Cu"], atol=1e-9)
    assert first.r[-1] < default_range(Structure.from_atoms(atoms)) == 6.0


def test_refusals() -> None:
    with pytest.raises(InputError, match="no frames"):
        radial_distribution([])
    with pytest.raises(InputError, match=r"a#0: a radial .* three periodic"):
        radial_distribution([Structure(["H"], [[0, 0, 0]], np.eye(3), [True, True, False], name="a#0")])
    frames = [Structure([e], [[0, 0, 0]], 9 * np.eye(3), True, name=f"a#{e}") for e in ("H", "O")]
    with pytest.raises(InputError, match=r"a#O: the atoms are not those"):
        radial_distribution(frames)


def test_density_and_range() -> None:
    atoms = bulk("Cu", "fcc", a=3.6)
    assert density(Structure.from_atoms(atoms)) == pytest.approx(
        atoms.get_masses().sum() / atoms.get_volume() / (1e-3 * kg / (1e-2 * m) ** 3), rel=1e-7
    )
    assert default_range(Structure.from_atoms(bulk("Cu", "fcc", a=3.6, cubic=True).repeat(20))) == 10.0
    assert default_range(Structure.from_atoms(atoms)) == pytest.approx(3.6 / np.sqrt(3) / 2)
