"""Structure: shapes, labels to and from ASE."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator
from data_tools import assert_same, emt_copper, structures, water
from hypothesis import given, settings

from nnpkit.data.labels import LABEL_NAMES
from nnpkit.data.neighbors import neighbor_pairs
from nnpkit.data.structure import Structure
from nnpkit.data.validation import require_elements, require_valid
from nnpkit.errors import InputError


def test_stress_in_voigt_order_becomes_a_symmetric_matrix() -> None:
    structure = water().replace(stress=np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    expected = [[1, 6, 5], [6, 2, 4], [5, 4, 3]]
    np.testing.assert_array_equal(structure.stress, expected)
    np.testing.assert_array_equal(structure.to_atoms().get_stress(), [1, 2, 3, 4, 5, 6])


def test_virial_is_minus_stress_times_volume() -> None:
    structure = water()
    np.testing.assert_allclose(structure.virial, -structure.stress * 5.0 * 6.0 * 7.0, rtol=1e-15)


@settings(max_examples=50, deadline=None)
@given(structures())
def test_atoms_and_back(structure: Structure) -> None:
    back = Structure.from_atoms(structure.to_atoms(), "back")
    assert_same(structure, back)


def test_from_atoms_computes_nothing() -> None:
    atoms = bulk("Cu", cubic=True)
    atoms.calc = EMT()
    assert Structure.from_atoms(atoms).labels == ()
    energy = atoms.get_potential_energy()
    assert Structure.from_atoms(atoms).energy == energy
    atoms.positions[0, 0] += 0.1  # results are of other positions now
    assert Structure.from_atoms(atoms).energy is None


def test_stress_sign_is_that_of_the_energy() -> None:
    """-virial/volume of ASE's own stress against a finite difference of ASE's energy."""
    (structure,) = emt_copper(n=1, rattle=0.1)
    step, gradient = 1e-5, np.zeros((3, 3))
    for a in range(3):
        for b in range(3):
            energies = []
            for sign in (1.0, -1.0):
                strain = np.zeros((3, 3))
                strain[a, b] = sign * step
                atoms = structure.to_atoms()
                atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
                atoms.calc = EMT()
                energies.append(atoms.get_potential_energy())
            gradient[a, b] = (energies[0] - energies[1]) / (2 * step)
    np.testing.assert_allclose(structure.virial, -gradient, atol=2e-6)


@pytest.mark.parametrize(
    ("info", "arrays", "expected"),
    [
        ({"REF_energy": -1.0}, {"REF_forces": np.ones((2, 3))}, {"energy": -1.0, "forces": 1.0}),
        ({"energy": -1.0, "REF_energy": -2.0, "free_energy": -3.0}, {}, {"energy": -1.0}),
        ({"free_energy": -3.0}, {}, {"energy": -3.0}),
        ({"dft_energy": -1.0, "dft_virial": -np.eye(3) * 8.0}, {}, {"energy": -1.0, "stress": 1.0}),
        ({"virials": -np.arange(9.0) * 8}, {}, {"stress": 4.0}),
        ({"stress": np.eye(3), "virial": -8 * np.eye(3)}, {}, {"stress": 1.0}),
        (
            {"charge": -1, "Energy": 5.0},
            {"charge_ref": np.array([0.5, -1.5])},
            {"total_charge": -1.0, "energy": 5.0},
        ),
    ],
)
def test_names_of_labels(info: dict, arrays: dict, expected: dict) -> None:
    atoms = Atoms("H2", positions=[[0, 0, 0], [0, 0, 1]], cell=[2, 2, 2], pbc=True, info=info)
    for key, value in arrays.items():
        atoms.set_array(key, value)
    structure = Structure.from_atoms(atoms)
    for label, value in expected.items():
        found = getattr(structure, label)
        assert np.max(found if label != "stress" else found[1, 1]) == pytest.approx(value, rel=1e-14)
    if "charge_ref" in arrays:
        np.testing.assert_array_equal(structure.charges, [0.5, -1.5])


def test_results_of_the_calculator_come_first_and_keys_before_them() -> None:
    atoms = Atoms("H", cell=[2, 2, 2], pbc=True, info={"REF_energy": -2.0})
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, free_energy=-1.5)
    assert Structure.from_atoms(atoms).energy == -1.0
    assert Structure.from_atoms(atoms).info == {"REF_energy": -2.0, "free_energy": -1.5}
    assert Structure.from_atoms(atoms, keys={"energy": "REF_energy"}).energy == -2.0
    assert Structure.from_atoms(atoms, keys={"energy": "absent"}).energy is None


def test_contradicting_stress_and_virial_are_refused() -> None:
    atoms = Atoms("H", cell=[2, 2, 2], pbc=True, info={"stress": np.eye(3), "virial": 8 * np.eye(3)})
    with pytest.raises(InputError, match=r"contradict each other.*-1"):
        Structure.from_atoms(atoms)
    atoms.info = {"virial": np.eye(3)}
    atoms.cell, atoms.pbc = np.zeros((3, 3)), False
    with pytest.raises(InputError, match="virial without a cell"):
        Structure.from_atoms(atoms)


def test_table_of_names_is_lower_case_and_without_repeats() -> None:
    for names in LABEL_NAMES.values():
        assert len(set(names)) == len(names)
        assert all(name == name.lower() for name in names)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"forces": np.zeros((2, 3))},
            r"frame#7: the forces have shape \(2, 3\); expected .*\(3, 3\) for 3 atoms",
        ),
        ({"charges": np.zeros(4)}, "charges have shape"),
        ({"stress": np.zeros(5)}, "stress is not a 3x3 matrix"),
        ({"energy": [1.0, 2.0]}, "energy .* is not one number"),
        ({"positions": "none"}, "positions are not numbers"),
    ],
)
def test_wrong_shapes(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        water(name="frame#7").replace(**changes)


def spoiled(label: str, value: float) -> Structure:
    structure = water(name="file.xyz#3")
    array = np.array(getattr(structure, label))
    array.flat[-1] = value
    return structure.replace(**{label: array})


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("label", ["positions", "energy", "forces", "stress", "cell"])
def test_numbers_that_are_not_finite(label: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"^file.xyz#3: {label}.* is {value} \("):
        require_valid(spoiled(label, value))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cell": np.diag([5.0, 5.0, 0.0])}, "cell vector has no length"),
        ({"cell": np.array([[1.0, 0, 0], [1, 1, 0], [2, 1, 0]])}, "degenerate.*zero volume"),
        ({"symbols": ["O", "H", "Wa"]}, r"'Wa' \(atom 2\) is no chemical element"),
        ({"symbols": ["O", "D", "D"]}, r"'D' \(atom 1\) is no chemical element.*Write H, with the mass"),
        ({"symbols": ["O", "H", "X"]}, r"'X' \(atom 2\) is no chemical element.*Remove this atom"),
        ({"symbols": [], "positions": np.zeros((0, 3)), "forces": None}, "no atoms"),
    ],
)
def test_unusable_structures(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        require_valid(water().replace(**changes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"positions": np.array([[0.0, 0, 0], [0, np.nan, 0]])},
            "atom 1 is at y = nan Å; .*not stable",
        ),
        ({"positions": np.array([[0.0, 0, -np.inf], [0, 1, 0]])}, "atom 0 is at z = -inf"),
        ({"positions": np.array([[1e9, 0, 0], [0, 1, 0]])}, r"atom 0 is at x = 1e\+09 Å"),
        ({"cell": np.diag([3.0, np.nan, 3.0])}, "the cell has a component that is nan"),
    ],
)
def test_no_distance_is_computed_from_what_is_no_place(change: dict, message: str) -> None:
    """ASE hands on what a run has come to: torch said nothing of atoms, and a cell that is no number ended Python."""
    whole = Structure(["H", "H"], [[0.0, 0, 0], [0, 1, 0]], np.eye(3) * 3.0, True, name="run")
    assert len(neighbor_pairs(whole, 2.0).center)
    with pytest.raises(InputError, match=message):
        neighbor_pairs(whole.replace(**change), 2.0)


def test_a_slab_needs_no_third_vector() -> None:
    require_valid(water().replace(cell=np.diag([5.0, 5.0, 0.0]), pbc=[True, True, False], stress=None))


def test_elements_that_the_model_lacks() -> None:
    require_elements([water()], ["H", "O"])
    with pytest.raises(InputError, match=r"file#1: the frame contains H; expected only O, Cu. Add H"):
        require_elements([water(name="file#1")], ["O", "Cu"])
