"""Loading, splitting, identity, reference energies."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
from data_tools import emt_copper, real_data, structures, water
from hypothesis import given, settings
from hypothesis import strategies as st

from nnpkit.data.dataset import (
    data_sha256,
    elements_of,
    fit_reference_energies,
    load_dataset,
    reference_energy_note,
    structure_sha256,
)
from nnpkit.data.formats.reading import write
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError


def gas(symbols: list[str], energy: float | None, shift: float = 0.0) -> Structure:
    positions = np.arange(3.0 * len(symbols)).reshape(-1, 3) + shift
    return Structure(symbols, positions, energy=energy, name="".join(symbols))


def test_several_files_and_patterns(tmp_path: Path) -> None:
    write(tmp_path / "b.xyz", [water(energy=1.0)])
    write(tmp_path / "a.xyz.xz", [water(energy=2.0), water(energy=3.0)])
    assert [s.energy for s in load_dataset([tmp_path / "b.xyz", tmp_path / "a.xyz.xz"])] == [1.0, 2.0, 3.0]
    assert [s.energy for s in load_dataset(f"{tmp_path}/*.xyz*")] == [2.0, 3.0, 1.0]
    assert [s.energy for s in load_dataset(f"{tmp_path}/*", frames="0")] == [2.0, 1.0]
    with pytest.raises(InputError, match="the pattern matches no file"):
        load_dataset([f"{tmp_path}/*.traj"])
    with pytest.raises(InputError, match="no such file"):
        load_dataset([tmp_path / "c.xyz"])
    with pytest.raises(InputError, match="no data files"):
        load_dataset([])


def test_file_with_brackets_in_its_name(tmp_path: Path) -> None:
    write(tmp_path / "a[1].xyz", [water()])
    assert len(load_dataset(tmp_path / "a[1].xyz")) == 1


@settings(max_examples=30, deadline=None)
@given(st.lists(structures(), min_size=1, max_size=4), st.randoms())
def test_hash_is_of_the_content(frames: list[Structure], randoms: random.Random) -> None:
    renamed = [s.replace(name="other", info={}, arrays={}) for s in randoms.sample(frames, k=len(frames))]
    assert data_sha256(frames) == data_sha256(renamed)


def test_hash_of_the_content_is_the_same_in_every_format(tmp_path: Path) -> None:
    frames = [s.replace(stress=None) for s in emt_copper(n=2)]
    write(tmp_path / "a.xyz", frames)
    write(tmp_path / "input.data", frames, units="angstrom-ev")
    write(tmp_path / "deepmd", frames)
    hashes = {data_sha256(load_dataset(tmp_path / name)) for name in ("a.xyz", "deepmd")}
    hashes.add(data_sha256(load_dataset(tmp_path / "input.data", units="angstrom-ev")))
    assert hashes == {data_sha256(frames)}


def test_hash_sees_every_number() -> None:
    base, seen = water(), set()
    tiny = np.zeros((3, 3))
    tiny[2, 1] = 1e-15
    changed = [
        base, base.replace(energy=-14.2 + 1e-14), base.replace(forces=base.forces + tiny), base.replace(forces=None),
        base.replace(positions=base.positions + tiny), base.replace(cell=base.cell + tiny), base.replace(stress=None),
        base.replace(pbc=np.array([True, True, False])), base.replace(symbols=["O", "H", "C"]),
        base.replace(total_charge=0.0), base.replace(charges=np.zeros(3)),
    ]  # fmt: skip
    for structure in changed:
        seen.add(structure_sha256(structure))
    assert len(seen) == len(changed)
    assert structure_sha256(base.replace(positions=-(-base.positions + 0.0))) == structure_sha256(
        base
    )  # -0 is 0


def test_reference_energies_are_found() -> None:
    exact = {"H": -13.6, "O": -432.0, "Ti": -1604.0}
    compositions = [["H", "H"], ["O", "O"], ["H", "O", "H"], ["Ti", "O", "O"], ["Ti"] * 4 + ["H"]]
    frames = [gas(symbols, sum(exact[x] for x in symbols)) for symbols in compositions]
    frames.append(gas(["O"], None))
    fitted = fit_reference_energies(frames, ["H", "O", "Ti"])
    assert fitted == pytest.approx(exact, rel=1e-12)
    assert reference_energy_note(frames, ["H", "O", "Ti"]) is None


def test_energies_in_another_unit_do_not_move_the_reference_energies() -> None:
    rng = np.random.default_rng(0)
    compositions = [["H"] * int(rng.integers(1, 5)) + ["O"] * int(rng.integers(1, 5)) for _ in range(50)]
    energies = [-13.6 * c.count("H") - 432.0 * c.count("O") + 0.3 * rng.normal() for c in compositions]
    right = fit_reference_energies(
        [gas(c, e) for c, e in zip(compositions, energies, strict=True)], ["H", "O"]
    )
    wrong = [
        gas(c, e / 27.2114 if n % 10 == 0 else e)
        for n, (c, e) in enumerate(zip(compositions, energies, strict=True))
    ]
    assert fit_reference_energies(wrong, ["H", "O"]) == pytest.approx(right, abs=0.2)


def test_two_kinds_of_structures_are_both_fitted() -> None:
    frames = [gas(["H"] * 4, -4.0 - 40.0 * (n % 3 == 0)) for n in range(30)]
    assert fit_reference_energies(frames, ["H"])["H"] == pytest.approx(-1.0 - 10.0 / 3.0)


def test_reference_energies_of_water_alone() -> None:
    """One composition: the least norm, along (2, 1); right for every water, and said so."""
    frames = [gas(["O", "H", "H"] * n, -465.0 * n) for n in (1, 2, 3)]
    fitted = fit_reference_energies(frames, ["H", "O"])
    assert 2 * fitted["H"] + fitted["O"] == pytest.approx(-465.0, rel=1e-13)
    assert fitted["H"] == pytest.approx(2 * fitted["O"], rel=1e-12)
    assert "determine 1 of 2 reference energies (H, O)" in (reference_energy_note(frames, ["H", "O"]) or "")


def test_reference_energies_of_absent_elements() -> None:
    frames = [gas(["O", "O"], -10.0)]
    assert fit_reference_energies(frames, ["H", "O"]) == pytest.approx({"H": 0.0, "O": -5.0})
    assert reference_energy_note(frames, ["H", "O"]) == "no atoms of H: reference energy 0"
    with pytest.raises(InputError, match="OO: no reference energy is fitted for O; expected elements H"):
        fit_reference_energies(frames, ["H"])
    with pytest.raises(InputError, match="no structure has an energy"):
        fit_reference_energies([gas(["O"], None)], ["O"])


def test_reference_energies_of_real_oxides() -> None:
    """Least squares on 900 TiO2 structures of nearly one composition, against numpy's on the counts."""
    frames = load_dataset(real_data("TiO2_aenet", "train.xyz.xz"))
    fitted = fit_reference_energies(frames, elements_of(frames))
    residuals = [(s.energy - sum(fitted[x] for x in s.symbols)) / s.n_atoms for s in frames]
    rows = np.array([[s.composition["O"] / s.n_atoms, s.composition["Ti"] / s.n_atoms] for s in frames])
    np.testing.assert_allclose(rows.T @ residuals, 0.0, atol=1e-7)  # normal equations
    assert np.sqrt(np.mean(np.square(residuals))) < 0.5


def test_elements_by_atomic_number() -> None:
    assert elements_of([water(), gas(["Cu", "H"], 0.0)]) == ["H", "O", "Cu"]
