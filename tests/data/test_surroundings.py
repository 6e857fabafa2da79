"""Nearly equal structures that contradict each other, atoms without neighbours, cells of one atom."""

from __future__ import annotations

import time

import numpy as np
import pytest
from data_tools import emt_copper, water

from nnpkit.data.checks.surroundings import surroundings
from nnpkit.data.checks.suspicious import find_suspicious
from nnpkit.data.structure import Structure

ROTATION = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]


@pytest.fixture(scope="module")
def copper() -> list[Structure]:
    return emt_copper(n=16, strain=0.03, rattle=0.08)


def moved(s: Structure, name: str, length: float, energy: float, seed: int = 0) -> Structure:
    """Every atom displaced by `length` (Å) at random, the energy as the forces say plus `energy` (eV/atom)."""
    moves = np.random.default_rng(seed).normal(size=(s.n_atoms, 3))
    moves *= length / np.linalg.norm(moves, axis=1)[:, None]
    new = s.energy - float(np.sum(s.forces * moves)) + energy * s.n_atoms
    return s.replace(positions=s.positions + moves, energy=new, name=name)


def contradictions(structures: list[Structure]) -> dict[str, str]:
    return {f.structure: f.message for f in find_suspicious(structures) if f.kind == "contradiction"}


@pytest.mark.parametrize("length", [0.0, 1e-6, 0.003, 0.008])
@pytest.mark.parametrize("sign", [1, -1])
def test_near_duplicates_that_contradict_are_named(copper: list[Structure], length: float, sign: int) -> None:
    found = contradictions(
        [*copper, moved(copper[4], "other", length, 0.02 * sign), moved(copper[5], "same", length, 0.0)]
    )
    assert list(found) == ["other"]
    assert "copper#4" in found["other"]


def test_order_place_and_orientation_do_not_hide_them(copper: list[Structure]) -> None:
    shuffle = np.random.default_rng(1).permutation(32)

    def hidden(s: Structure, name: str) -> Structure:
        near = moved(s, name, 0.003, 0.03)
        return near.replace(
            positions=(near.positions[shuffle] + [0.3, -1.0, 2.0]) @ ROTATION, cell=near.cell @ ROTATION,
            forces=near.forces[shuffle] @ ROTATION, stress=None,
        )  # fmt: skip

    found = contradictions([*copper, hidden(copper[4], "hidden")])
    assert list(found) == ["hidden"]
    assert "copper#4" in found["hidden"]
    images = moved(copper[6], "image", 0.003, 0.02)
    wrapped = images.replace(positions=images.positions + images.cell[0] * (np.arange(32) % 2)[:, None])
    assert list(contradictions([*copper, wrapped])) == ["image"]


def test_without_forces_only_what_no_force_explains() -> None:
    base = water().replace(forces=None, stress=None)
    near = base.positions + np.array([[0.003, 0, 0], [0, 0.003, 0], [0, 0, -0.003]])
    assert contradictions([base, base.replace(positions=near, energy=base.energy + 0.02, name="near")]) == {}
    found = contradictions([base, base.replace(positions=near, energy=base.energy + 0.06, name="near")])
    assert list(found) == ["near"]
    far = base.positions + np.array([[0.1, 0, 0], [0, 0.1, 0], [0, 0, -0.1]])
    assert contradictions([base, base.replace(positions=far, energy=base.energy + 0.3, name="far")]) == {}


def test_other_charge_composition_or_size_is_no_contradiction() -> None:
    base = water().replace(forces=None, stress=None)
    moved_by = base.positions + np.array([[0.003, 0, 0], [0, 0.003, 0], [0, 0, -0.003]])
    charged = base.replace(positions=moved_by, energy=base.energy + 5.0, total_charge=1.0, name="charged")
    heavy = base.replace(symbols=["S", "H", "H"], energy=base.energy - 9.0, name="sulfide")
    larger = base.replace(cell=base.cell * 1.01, energy=base.energy + 3.0, name="larger")
    assert contradictions([base, charged, heavy, larger]) == {}


def test_a_smooth_trajectory_is_left_in_peace() -> None:
    """Frames of a vibration 0.002 Å apart, whose energies are those of a spring."""
    base = water()
    frames = []
    for k, x in enumerate(np.arange(-0.1, 0.1, 0.002)):
        positions = base.positions.copy()
        positions[1, 0] += x
        forces = np.array([[45.0 * x, 0, 0], [-45.0 * x, 0, 0], [0, 0, 0]])
        frames.append(
            base.replace(positions=positions, energy=-14 + 22.5 * x**2, forces=forces, name=f"md#{k}")
        )
    assert contradictions(frames) == {}
    frames[60] = frames[60].replace(energy=frames[60].energy + 0.1)
    assert {"md#60"} <= set(contradictions(frames))


def test_many_nearly_equal_structures_take_little_time() -> None:
    base = water()
    frames = [moved(base, f"n#{k}", 0.004, 0.0, seed=k) for k in range(2000)]
    start = time.process_time()
    assert contradictions(frames) == {}
    assert time.process_time() - start < 30.0


def test_atoms_without_neighbours_are_named() -> None:
    far = water().replace(positions=np.array([[0, 0, 0], [0.96, 0, 0], [2.5, 3.0, 3.5]]), name="far")
    found = {
        f.structure: f for f in find_suspicious([water(), far], cutoff=2.0) if f.kind == "few neighbours"
    }
    assert list(found) == ["far"]
    assert "1 of 3 atoms (H, number 2) have no other atom within the cutoff of 2 Å" in found["far"].message
    assert not [f for f in find_suspicious([water(), far], cutoff=6.0) if f.kind == "few neighbours"]
    assert not [f for f in find_suspicious([water(), far]) if f.kind == "few neighbours"]
    alone = Structure(["O"], np.zeros((1, 3)), energy=-432.0, name="atom")  # a reference energy
    assert not [f for f in find_suspicious([water(), alone], cutoff=6.0) if f.kind == "few neighbours"]


@pytest.mark.parametrize(("repeat", "expected"), [((1, 1, 1), True), ((1, 1, 2), False), ((2, 2, 2), False)])
def test_cells_of_which_an_atom_sees_itself_only(repeat: tuple[int, int, int], expected: bool) -> None:
    from ase.build import bulk

    structure = Structure.from_atoms(bulk("Cu").repeat(repeat), "bulk")
    assert surroundings(structure, 5.0).own_images_only is expected
    found = [f for f in find_suspicious([structure], cutoff=5.0) if f.kind == "own images"]
    assert bool(found) is expected
    assert not [f for f in find_suspicious([structure], cutoff=2.0) if f.kind == "own images"]
