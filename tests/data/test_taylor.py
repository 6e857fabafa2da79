"""Displaced structures: first-order energies, no net motion, and what has no copies."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.emt import EMT

from nnpkit.data.structure import Structure
from nnpkit.data.taylor import TaylorRules, taylor_structures
from nnpkit.errors import InputError

DISPLACEMENT = {"Cu": 0.01, "Au": 0.02}


def labelled(structure: Structure) -> tuple[float, np.ndarray]:
    atoms = Atoms(structure.symbols, structure.positions, cell=structure.cell, pbc=structure.pbc)
    atoms.calc = EMT()
    return atoms.get_potential_energy(), atoms.get_forces()


@pytest.fixture
def structure() -> Structure:
    positions = np.array([[0.0, 0, 0], [2.3, 0.1, 0], [0.2, 2.5, 0.3], [0.1, -0.2, 2.6]])
    bare = Structure(["Cu", "Au", "Cu", "Cu"], positions, np.eye(3) * 8, np.array([True] * 3), name="four")
    bare.energy, bare.forces = labelled(bare)
    return bare


@pytest.mark.parametrize("strategy", ["cartesian", "random"])
def test_energies_are_right_to_first_order(structure: Structure, strategy: str) -> None:
    """The error falls with the square of the displacement, against the potential itself."""
    errors = []
    for size in (0.01, 0.005):
        found = taylor_structures([structure], TaylorRules(strategy, 8, size), 3)
        errors.append([copy.energy - labelled(copy)[0] for copy in found.structures])
    first, second = np.array(errors)
    np.testing.assert_allclose(first / second, 4.0, rtol=0.08)
    assert np.abs(first).max() < 3e-3


def test_single_atoms_move_along_the_axes_both_ways(structure: Structure) -> None:
    copies = taylor_structures([structure], TaylorRules("cartesian", 12, DISPLACEMENT), 1).structures
    moves = np.array([copy.positions - structure.positions for copy in copies])
    assert len(copies) == 12
    moved = np.abs(moves).sum((0, 2)) > 0
    assert moved.sum() == 2  # twelve copies are all of two atoms
    for atom in np.flatnonzero(moved):
        own = moves[np.abs(moves[:, atom]).sum(1) > 0][:, atom]
        size = DISPLACEMENT[structure.symbols[atom]]
        expected = np.concatenate([np.eye(3), -np.eye(3)]) * size
        np.testing.assert_allclose(sorted(map(tuple, own)), sorted(map(tuple, expected)), atol=1e-14)
    everything = taylor_structures([structure], TaylorRules("cartesian", 999, DISPLACEMENT), 1)
    assert len(everything.structures) == 24
    assert len({tuple(s.positions.reshape(-1)) for s in everything.structures}) == 24


def test_all_atoms_move_at_random_and_the_centre_of_mass_stays(structure: Structure) -> None:
    found = taylor_structures([structure], TaylorRules("random", 50, DISPLACEMENT), 1)
    masses = np.array([63.546, 196.967, 63.546, 63.546])
    lengths = np.array([DISPLACEMENT[s] for s in structure.symbols])
    for copy in found.structures:
        moves = copy.positions - structure.positions
        np.testing.assert_allclose(masses @ moves, 0.0, atol=1e-5)
        assert (np.linalg.norm(moves, axis=1) <= lengths * (1 + 1e-12)).all()
        assert (copy.forces, copy.stress, copy.name.startswith("four+")) == (None, None, True)
        assert copy.energy == pytest.approx(structure.energy - np.sum(structure.forces * moves), abs=1e-12)


def test_the_seed_decides_and_structures_do_not_depend_on_others(structure: Structure) -> None:
    def positions(structures, seed):
        return [s.positions for s in taylor_structures(structures, TaylorRules(multiple=3), seed).structures]

    np.testing.assert_array_equal(positions([structure], 1), positions([structure, structure], 1)[:3])
    assert not np.array_equal(positions([structure], 1), positions([structure], 2))


def test_relaxed_and_unlabelled_structures_have_no_copies(structure: Structure) -> None:
    relaxed, bare = (Structure(structure.symbols, structure.positions, name=n) for n in ("relaxed", "bare"))
    relaxed.energy, relaxed.forces, bare.energy = 1.0, np.full((4, 3), 1e-3), 1.0
    found = taylor_structures([bare, structure, relaxed], TaylorRules(multiple=5), 1)
    assert found.parents == [1] * 5
    assert found.report[1] == "without copies: 1 relaxed structures, 1 without energy or forces"
    with pytest.raises(InputError, match="both energy and forces"):
        taylor_structures([bare], TaylorRules(), 1)
    with pytest.raises(InputError, match=r"no training structure has a force of 0.05"):
        taylor_structures([relaxed], TaylorRules(), 1)


@pytest.mark.parametrize(
    ("rules", "expected"),
    [
        (TaylorRules("random", 2, 1.2), r"move Au-Cu by 2.4 Å, but the shortest such distance is 2.302 Å"),
        (TaylorRules("cartesian", 2, 2.4), r"move Au-Cu by 2.4 Å"),
        (TaylorRules("random", 2, {"Cu": 0.01}), "no displacement of Au"),
    ],
)
def test_displacements_beyond_the_shortest_bond_are_refused(structure, rules, expected) -> None:
    with pytest.raises(InputError, match=expected):
        taylor_structures([structure], rules, 1)
