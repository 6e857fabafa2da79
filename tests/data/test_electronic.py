"""Charge and spin: every name in use, what they become, what is refused, and that no format loses them."""

from __future__ import annotations

import numpy as np
import pytest
from ase import Atoms
from data_tools import assert_same

from nnpkit.data.checks.suspicious import find_suspicious
from nnpkit.data.dataset import structure_sha256
from nnpkit.data.electronic import electronic_state
from nnpkit.data.formats.reading import read, write
from nnpkit.data.splitting import SplitRule, divide
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

OXYGEN = "O 0 0 0\nO 0 0 1.21\n"  # 16 electrons
HYDROXYL = "O 0 0 0\nH 0 0 0.97\n"  # 9 electrons


def frame(tmp_path, pairs: str, atoms: str = OXYGEN) -> Structure:
    path = tmp_path / "frame.xyz"
    path.write_text(f"2\n{pairs}\n{atoms}")
    return read(path)[0]


@pytest.mark.parametrize(
    ("pairs", "charge", "multiplicity"),
    [
        ("total_charge=1", 1.0, None),
        ("Charge=-1 Multiplicity=2", -1.0, 2.0),
        ("net_charge=2 spin_multiplicity=3", 2.0, 3.0),
        ("charge=0 total_charge=0", 0.0, None),
        ("n_unpaired=2", None, 3.0),
        ("nupdown=2 uhf=2", None, 3.0),
        ("magmom=2.0003", None, 3.0),
        ("magmom=0.0", None, None),
        ("magmom=1.37", None, None),
        ("spin=0", None, 1.0),  # no multiplicity is 0, and 2S and S of 0 are the same
        ("charge=1 spin=1", 1.0, 2.0),  # 15 electrons: neither a singlet nor S = 1
        ("charge=1 spin=0.5", 1.0, 2.0),
        ("charge=1 spin=2", 1.0, 2.0),
        ("spin=3", None, None),  # a triplet, or S = 3
    ],
)
def test_names_and_conversions(tmp_path, pairs, charge, multiplicity) -> None:
    structure = frame(tmp_path, pairs)
    assert (structure.total_charge, structure.multiplicity) == (charge, multiplicity)


def test_initial_charges_and_moments_of_ase(tmp_path) -> None:
    atoms = Atoms("O2", [[0, 0, 0], [0, 0, 1.21]])
    atoms.set_initial_charges([0.5, 0.5])
    atoms.set_initial_magnetic_moments([1.5, 1.5])
    structure = Structure.from_atoms(atoms)
    assert (structure.total_charge, structure.multiplicity) == (1.0, 4.0)
    atoms.set_initial_magnetic_moments([1.0, -1.0])
    assert Structure.from_atoms(atoms).multiplicity is None


@pytest.mark.parametrize("pairs", ["total_charge=1 charge=0", "multiplicity=1 uhf=2", "mult=1 spin_mult=3"])
def test_contradictions_are_refused(tmp_path, pairs) -> None:
    with pytest.raises(InputError, match="contradicts"):
        frame(tmp_path, pairs)


@pytest.mark.parametrize("name", ["frames.xyz", "input.data", "deepmd"])
def test_formats_keep_charge_and_spin(tmp_path, name) -> None:
    base = frame(tmp_path, "energy=-3.5").replace(forces=np.zeros((2, 3)), info={})
    given = [
        base.replace(total_charge=q, multiplicity=m)
        for q, m in ((0.0, 1.0), (1.0, 2.0), (-1.0, 2.0), (0.0, None))
    ]
    write(tmp_path / name, given)
    for a, b in zip(given, read(tmp_path / name), strict=True):
        assert_same(a, b, 1e-14)


def test_states_of_one_geometry_are_different_structures(tmp_path) -> None:
    base = frame(tmp_path, "energy=-3.5")
    states = [
        base.replace(total_charge=q, multiplicity=m) for q, m in ((None, None), (1, None), (None, 3), (1, 4))
    ]
    assert len({structure_sha256(s, labels=False) for s in states}) == 4
    assert len({structure_sha256(s, labels=False, state=False) for s in states}) == 1
    neutral = structure_sha256(base.replace(total_charge=0.0), labels=False)
    assert neutral == structure_sha256(base, labels=False)


def test_a_pair_of_charge_states_is_no_contradiction_and_is_told(tmp_path) -> None:
    base = frame(tmp_path, "energy=-30.5").replace(name="a#0")
    other = base.replace(total_charge=1.0, energy=-18.0, name="a#1")
    kinds = {finding.kind: finding for finding in find_suspicious([base, other])}
    assert "contradiction" not in kinds
    assert kinds["other charge"].structure == "a#1"
    again = {f.kind for f in find_suspicious([base, base.replace(energy=-18.0, name="a#2")])}
    assert "contradiction" in again


def test_charge_states_of_a_geometry_stay_together(tmp_path) -> None:
    base = frame(tmp_path, "energy=-3.5")
    moved = [base.replace(positions=base.positions * (1 + 0.01 * k)) for k in range(10)]
    states = [s.replace(total_charge=q) for s in moved for q in (0, 1)]
    division = divide(states, SplitRule("random", test=0.3), 1)
    training, test = ([states[i] for i in part] for part in (division.train, division.test))
    shared = {s.positions.tobytes() for s in training} & {s.positions.tobytes() for s in test}
    assert test
    assert not shared


@pytest.mark.parametrize(
    ("atoms", "charge", "multiplicity", "info", "words"),
    [
        (["O", "O"], 0, 2, {}, "multiplicity of 2 is impossible with 16 electrons"),
        (["O", "O"], 0, 1.5, {}, "impossible"),
        (["O", "O"], 1, 0, {}, "impossible"),
        (["H", "H"], 0, 5, {}, "multiplicity of 5 is impossible with 2 electrons; expected 1, 3[.]"),
        (
            ["H", "H"],
            3,
            None,
            {},
            "charge of [+]3 takes away more electrons than the atoms have; expected at most [+]2",
        ),
        (["O", "O"], None, None, {"spin": 3}, "spin=3 can mean different things"),
        (["O", "O"], None, None, {"charge": "1+"}, "charge=1[+] can mean"),
        (["O", "O"], None, None, {"magmom": 1.37}, "not a whole number"),
    ],
)
def test_states_that_nobody_can_compute(atoms, charge, multiplicity, info, words) -> None:
    with pytest.raises(InputError, match=words):
        electronic_state(atoms, charge, multiplicity, info, "x#0")


def test_the_lowest_multiplicity_where_nothing_is_said() -> None:
    assert electronic_state(["O", "H"], None, None, {}, "").multiplicity == 2
    assert electronic_state(["O", "H"], -1.0, None, {}, "").multiplicity == 1
    assert not electronic_state(["O", "O"], 0.0, 3, {}, "").lowest
