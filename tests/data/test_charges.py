"""Charges, dipoles and total charges: in every format, in checks, statistics and errors."""

from __future__ import annotations

import re
from pathlib import Path

import ase.io
import numpy as np
import pytest
from data_tools import assert_same

from nnpkit.data.checks.suspicious import find_suspicious
from nnpkit.data.dataset import structure_sha256
from nnpkit.data.formats.reading import read, write
from nnpkit.data.statistics import data_statistics
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.measure.metrics import ErrorSums
from nnpkit.units import BOHR


def hydroxide(**changes) -> Structure:
    """OH- without a cell, with everything that is known of its charges."""
    labels = {
        "energy": -3.5, "forces": np.array([[0.0, 0.1, 0.0], [0.0, -0.1, 0.0]]), "charges": [-1.25, 0.25],
        "dipole": [0.5, -1.5, 2.0], "total_charge": -1.0, "multiplicity": 1.0,
    }  # fmt: skip
    return Structure(["O", "H"], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.97]], name="ion", **{**labels, **changes})


@pytest.mark.parametrize("target", ["ion.xyz", "input.data", "folder"])
def test_every_format_keeps_charges_dipole_and_state(tmp_path: Path, target: str) -> None:
    write(tmp_path / target, [hydroxide()], "deepmd" if target == "folder" else None)
    assert_same(hydroxide(), read(tmp_path / target)[0], relative=1e-15)


def test_ase_has_charges_and_dipole_as_results(tmp_path: Path) -> None:
    write(tmp_path / "ion.xyz", [hydroxide()])
    atoms = ase.io.read(tmp_path / "ion.xyz")
    np.testing.assert_array_equal(atoms.get_charges(), [-1.25, 0.25])
    np.testing.assert_array_equal(atoms.get_dipole_moment(), [0.5, -1.5, 2.0])
    assert_same(hydroxide(), Structure.from_atoms(atoms))
    assert_same(hydroxide(), Structure.from_atoms(hydroxide().to_atoms()))


def test_dipoles_follow_the_unit_of_length(tmp_path: Path) -> None:
    (tmp_path / "ion.xyz").write_text(
        "1\nProperties=species:S:1:pos:R:3 dipole_moment='1 0 -2' energy=1 units=au\nH 0 0 0\n"
    )
    np.testing.assert_allclose(read(tmp_path / "ion.xyz")[0].dipole, [BOHR, 0.0, -2.0 * BOHR])
    write(tmp_path / "input.data", [hydroxide()], units="bohr-hartree")
    np.testing.assert_allclose(read(tmp_path / "input.data")[0].dipole, [0.5, -1.5, 2.0], rtol=1e-14)


def test_other_names_of_deepmd_charges(tmp_path: Path) -> None:
    write(tmp_path / "data", [hydroxide()], "deepmd")
    folder = tmp_path / "data" / "set.000"
    (folder / "charges.npy").rename(folder / "atomic_charge.npy")
    np.testing.assert_array_equal(read(tmp_path / "data")[0].charges, [-1.25, 0.25])
    np.save(folder / "atom_charge.npy", np.zeros((1, 2)))
    with pytest.raises(InputError, match=r"atomic_charge.npy and atom_charge.npy are the same label"):
        read(tmp_path / "data")


def test_a_dipole_of_wrong_shape_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "data", [hydroxide()], "deepmd")
    np.save(tmp_path / "data" / "set.000" / "dipole.npy", np.zeros((1, 2)))
    with pytest.raises(InputError, match=r"dipole.npy has shape \(1, 2\)"):
        read(tmp_path / "data")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"charges": [-1.0, 0.25]}, r"add up to -0.7500 e.*total charge of -1 e: off by \+0.2500 e"),
        ({"total_charge": None}, r"add up to -1.0000 e.*no total charge.*off by -1.0000 e"),
    ],
)
def test_charges_that_do_not_add_up_are_named(changes: dict, words: str) -> None:
    found = [f for f in find_suspicious([hydroxide(**changes)]) if f.kind == "charge sum"]
    assert [f.structure for f in found] == ["ion"]
    assert re.search(words, found[0].message)
    assert not [f for f in find_suspicious([hydroxide()]) if f.kind == "charge sum"]
    rounded = hydroxide(charges=[-1.2501, 0.25])
    assert not [f for f in find_suspicious([rounded]) if f.kind == "charge sum"]


def test_statistics_tell_charges_by_element() -> None:
    found = data_statistics([hydroxide(), hydroxide(charges=[-1.75, 0.75])])
    assert found["charges"]["O"] == {"min": -1.75, "max": -1.25, "mean": -1.5, "std": 0.25}
    assert found["total_charge"] == {"min": -1.0, "max": -1.0, "mean": -1.0}
    assert found["labels"]["dipole"] == 2


def test_errors_of_charges_and_dipoles() -> None:
    sums = ErrorSums()
    nothing = np.zeros((2, 3))
    sums.add(hydroxide(), 0.0, nothing, charges=np.array([-1.0, 0.25]), dipole=np.array([0.5, -1.5, 2.3]))
    sums.add(hydroxide(charges=None, dipole=None), 0.0, nothing, charges=np.zeros(2), dipole=np.zeros(3))
    assert sums.summary()["charge_rmse"] == pytest.approx(0.25 / np.sqrt(2.0))
    assert sums.summary()["dipole_rmse"] == pytest.approx(0.3 / np.sqrt(3.0))
    other = ErrorSums()
    other.add(hydroxide(), 0.0, nothing)
    assert not {"charge_rmse", "dipole_rmse"} & set(other.summary())


def test_a_dipole_is_part_of_what_a_structure_says() -> None:
    assert structure_sha256(hydroxide()) != structure_sha256(hydroxide(dipole=None))


def test_tblite_labels_have_charges_and_dipole(tmp_path: Path) -> None:
    pytest.importorskip("tblite")
    from nnpkit.active.labellers.ase_calculator import AseReference
    from nnpkit.active.labellers.reference_calculation import Limits, compute_label

    bare = hydroxide(energy=None, forces=None, charges=None, dipole=None)
    label = compute_label(AseReference("tblite"), bare, tmp_path, Limits(), {})
    assert label.charges is not None
    assert label.dipole is not None
    assert label.charges.sum() == pytest.approx(-1.0, abs=1e-6)
    assert label.charges[0] < -0.5 < label.charges[1]
    assert label.dipole[2] == pytest.approx(label.charges @ bare.positions[:, 2], abs=0.5)
