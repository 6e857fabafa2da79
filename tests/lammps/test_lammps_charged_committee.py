"""Committees with charges in LAMMPS: the mean of members that each make charges of their own, on several ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from harness import measured, random_structure
from test_charged_committee import committee_file
from test_charged_model import make_model
from test_lammps_charges import CELL, GENERATIONS, PLAIN, compare, run

# Beside what `PLAIN` dumps (energies, forces, virials, charges): what computes say of the disagreement.
OBSERVED = (
    "compute m all nnpkit member_energy energy_std force_std_max force_std/atom charge_std/atom\n"
    + PLAIN.replace(" q", " q c_m[*]").replace("custom step", "custom step c_m[1]")
    + "".join(f"print '@m{k} $(c_m[{k}]:%.17g)'\n" for k in range(1, 6))
)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("generation", GENERATIONS)
def test_the_mean_of_members_with_their_own_charges(
    lammps: None, tmp_path: Path, generation: str, ranks: int
) -> None:
    atoms = random_structure(24, CELL, seed=2, closest=1.3)
    model = committee_file(tmp_path / "model.pt", [make_model(generation, seed=seed) for seed in (4, 5, 6)])
    expected = model.predict(atoms).disagreement
    for options in ("chunk 7", "kernel torchscript"):
        result = run(tmp_path, atoms, ranks, options, text=OBSERVED)
        compare(result, model, atoms)
        assert "committee of 3 potentials" in result.output
        values, table = result.values(), result.dump()
        assert [values[f"m{m}"] for m in (1, 2, 3)] == pytest.approx(expected.member_energy, rel=1e-10)
        assert values["m4"] == pytest.approx(expected.energy_std, rel=1e-8)
        assert values["m5"] == pytest.approx(expected.forces_std.max(), rel=1e-7)
        assert table[:, 15] == pytest.approx(expected.forces_std, rel=1e-7, abs=1e-9)
        assert table[:, 16] == pytest.approx(expected.charges_std, rel=1e-7, abs=1e-9)
        assert expected.charges_std.max() > 0.05


def test_steps_that_are_not_observed_have_the_same_forces(lammps: None, tmp_path: Path) -> None:
    atoms = random_structure(24, CELL, seed=2, closest=1.3)
    committee_file(tmp_path / "model.pt", [make_model("fourth", seed=seed) for seed in (4, 5)])
    text = (
        "velocity all create 300 7\nfix n all nve\ntimestep 0.0002\nthermo_style custom step etotal\nrun 5\n"
        "dump d all custom 1 dump id fx fy fz q\ndump_modify d sort id format float %.17g\nrun 0\n"
    )
    tables = [run(tmp_path, atoms, 2, f"every {every}", text=text).dump() for every in (0, 1)]
    assert tables[1] == pytest.approx(tables[0], rel=1e-7, abs=1e-8)
    assert np.abs(tables[0][:, 1:4]).max() > 0.1


def test_extrapolations_and_features_of_members_that_differ(lammps: None, tmp_path: Path) -> None:
    atoms = random_structure(24, CELL, seed=2, closest=1.3)
    for family in ("acsf", "cluster_expansion"):
        members = [make_model("latent", family, seed=seed) for seed in (4, 5)]
        for k, member in enumerate(members):
            member.scaling.minimum.fill_(0.0)
            member.scaling.maximum.fill_(0.3 + 0.2 * k)
        model = committee_file(tmp_path / "model.pt", members)
        features, ranges = model.features(atoms), model.metadata["feature_ranges"]
        outside = np.array([
            ((row < np.array(ranges[s]["min"])) | (row > np.array(ranges[s]["max"]))).sum()
            for s, row in zip(atoms.get_chemical_symbols(), features, strict=True)
        ])  # fmt: skip
        assert outside.sum() > 0
        text = (
            "compute m all nnpkit extrapolations extrapolations/atom features/atom\n"
            "dump d all custom 1 dump id c_m[*]\ndump_modify d sort id format float %.17g\n"
            "thermo_style custom step c_m[1]\nrun 0\nprint '@sum $(c_m[1]:%.17g)'\n"
        )
        for options in ("chunk 5", "kernel torchscript"):
            result = run(tmp_path, atoms, 2, options, text=text)
            assert result.returncode == 0, result.output
            table = result.dump()
            assert table[:, 1].tolist() == outside.tolist()
            assert table[:, 2:] == pytest.approx(features, rel=1e-9, abs=1e-9)
            assert result.values()["sum"] == outside.sum()


def test_a_charged_cluster_in_other_units(lammps: None, tmp_path: Path) -> None:
    atoms = random_structure(13, [9.0, 9.0, 9.0], seed=3, pbc=False, closest=1.3)
    atoms.info["total_charge"] = 1.0
    members = [make_model(generation, seed=4) for generation in ("third", "fourth")]
    model = committee_file(tmp_path / "model.pt", members)
    result = run(tmp_path, atoms, 2, "charge 1.0", boundary="f f f", units="real")
    compare(result, model, atoms, "real", periodic=False)
    assert measured(result, "real").energies.sum() == pytest.approx(model.predict(atoms).energy, rel=1e-10)


def test_charges_that_nobody_has_cannot_disagree(lammps: None, tmp_path: Path) -> None:
    atoms = random_structure(12, CELL, seed=2, closest=1.3)
    members = [make_model("latent", channels=2, seed=seed) for seed in (4, 5)]
    committee_file(tmp_path / "model.pt", members)
    text = "compute m all nnpkit charge_std/atom\nrun 0\n"
    result = run(tmp_path, atoms, text=text)
    assert result.returncode != 0
    assert "have no charges, or several of each atom" in result.output
