"""One training's estimate of its own errors: drawn from P, the same potential, calibrated on validation structures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from active_tools import shaken_copper
from ase.calculators.emt import EMT
from test_charge_training import CHEBYSHEV, ions
from typer.testing import CliRunner

import nnpkit
from nnpkit.cli.main import app
from nnpkit.data.formats.reading import write
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.md.calculator import NnpkitCalculator
from nnpkit.optim.covariance import Covariance
from nnpkit.optim.partition import Layer, make_partition
from nnpkit.workflow.own_uncertainty import write_with_uncertainty

SMALL = {
    "acsf": {
        "descriptor": {"cutoff": 4.5, "angular_cutoff": 3.5, "zetas": [1], "radial": 2},
        "network": {"hidden": [4]},
    },
    "deep_potential": {
        "kind": "deep_potential",
        "descriptor": {"cutoff": 4.0, "embedding": [4, 4], "axis_neurons": 2},
        "network": {"hidden": [4]},
    },
}


def test_draws_have_the_covariance() -> None:
    partition = make_partition("layer", [Layer("a.layers.0.weight", 3), Layer("a.layers.1.weight", 2)], 10)
    covariance = Covariance(partition, 2.0)
    rows = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    covariance.add_to_diagonal(1.0)
    covariance.subtract(0.5 * rows[:1])
    draws = covariance.draw(40_000, torch.Generator().manual_seed(1))
    torch.testing.assert_close(draws.T @ draws / len(draws), covariance.dense(), atol=0.03, rtol=0.0)
    again = covariance.draw(3, torch.Generator().manual_seed(1))
    assert torch.equal(again, covariance.draw(3, torch.Generator().manual_seed(1)))


def copper(n: int) -> list[Structure]:
    structures = shaken_copper(n)
    for structure in structures:
        atoms = structure.to_atoms()
        atoms.calc = EMT()
        structure.energy, structure.forces = atoms.get_potential_energy(), atoms.get_forces()
    return structures


@pytest.fixture(params=sorted(SMALL))
def run(request, tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write("copper.xyz", copper(14))
    data = {"train": "copper.xyz", "validation_fraction": 0.3, "test_fraction": 0}
    nnpkit.train({"data": data, "model": SMALL[request.param], "training": {"epochs": 2}})
    return tmp_path / "run"


def test_it_is_the_potential_with_its_expected_errors(run: Path) -> None:
    written = write_with_uncertainty(run, "committee.pt", 5)
    found = {**written["calibration"], "spread_factor": written["spread_factor"]}
    single, several = nnpkit.load(run), nnpkit.load("committee.pt")
    assert several.n_members == 5
    assert several.metadata["calibration"]["structures"] == found["structures"] == 4
    truth = {s.energy: s for s in copper(14)}
    errors, expected = [], []
    for structure in truth.values():
        result = several.predict(structure)
        np.testing.assert_allclose(result.forces, single.predict(structure).forces, rtol=1e-12, atol=1e-13)
        errors.append(np.linalg.norm(result.forces - structure.forces, axis=1))
        expected.append(result.disagreement.forces_std)
    ratio = np.sqrt(np.mean(np.concatenate(expected) ** 2) / np.mean(np.concatenate(errors) ** 2))
    assert 1 / 4 < ratio < 4  # of all structures; of those it is calibrated on it is 1
    deviation = result.disagreement.member_forces - result.disagreement.member_forces.mean(0)
    raw = np.sqrt((deviation**2).sum(2).mean(0))
    np.testing.assert_allclose(expected[-1], found["spread_factor"] * raw, rtol=1e-12)
    atoms = structure.to_atoms()
    atoms.calc = NnpkitCalculator("committee.pt")
    atoms.get_forces()
    np.testing.assert_allclose(atoms.calc.results["forces_std"], expected[-1], rtol=1e-6)


@pytest.mark.parametrize("generation", ["third", "fourth", "latent"])
def test_potentials_with_charges_have_expected_errors(tmp_path, monkeypatch, generation: str) -> None:
    """The mean of the members is the potential within a small part of its errors; charges differ if they are latent."""
    monkeypatch.chdir(tmp_path)
    write("ions.xyz", ions(14))
    summary = nnpkit.train(
        {
            "data": {"train": "ions.xyz", "validation_fraction": 0.3, "test_fraction": 0},
            "model": {**CHEBYSHEV, "charges": {"generation": generation}},
            "training": {"epochs": 2}, "committee": {"members": 5, "resample": "posterior"},
        }
    )  # fmt: skip
    assert summary["members"] == 5
    arrays = np.load("run/validation.npz")
    error, spread = arrays["atom_force_error"], arrays["atom_force_std"]
    size = np.sqrt((error**2).mean())
    assert np.sqrt((spread**2).mean()) == pytest.approx(size, rel=1e-3)
    assert np.ptp(spread) > 0.05 * size
    single, several = nnpkit.load("run/member-00"), nnpkit.load("run/committee.pt")
    for structure in ions(3):
        result, alone = several.predict(structure), single.predict(structure)
        np.testing.assert_allclose(result.forces, alone.forces, atol=0.01 * size)
        assert (result.disagreement.charges_std.max() > 1e-8) == (generation == "latent")


@pytest.mark.parametrize("run", ["acsf"], indirect=True)
def test_words(run: Path) -> None:
    with pytest.raises(InputError, match="3 members"):
        write_with_uncertainty(run, "committee.pt", 3)
    for more in (["--committee"], ["--tabulate", "1e-9"], [str(run)]):
        failed = CliRunner().invoke(app, ["export", str(run), "--uncertainty", "4", *more])
        assert "one run alone" in " ".join(failed.output.split())
    assert not Path("committee.pt").exists()
    done = CliRunner().invoke(app, ["export", str(run), "--uncertainty", "4", "-o", "mine.pt"])
    assert "force_std is the expected error" in done.output
    assert Path("mine.pt").exists()


def test_what_it_needs(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    write("copper.xyz", copper(7))
    data = {"train": "copper.xyz", "validation_fraction": 0, "test_fraction": 0}
    config = {"data": data, "model": SMALL["acsf"], "training": {"epochs": 1}}
    nnpkit.train(config)
    with pytest.raises(InputError, match="no validation structures with forces"):
        write_with_uncertainty("run", "committee.pt")
    nnpkit.train({**config, "output": "adam", "training": {"epochs": 1, "optimizer": {"kind": "adam"}}})
    with pytest.raises(InputError, match="no covariance of its weights is known"):
        write_with_uncertainty("adam", "committee.pt")


def test_a_committee_of_one_training(tmp_path, monkeypatch) -> None:
    """What learns and explores with committees finds its files; thresholds are compared with scaled deviations."""
    monkeypatch.chdir(tmp_path)
    write("copper.xyz", copper(14))
    config = {
        "data": {"train": "copper.xyz", "validation_fraction": 0.3, "test_fraction": 0},
        "model": SMALL["acsf"], "training": {"epochs": 2}, "committee": {"members": 5, "resample": "posterior"},
    }  # fmt: skip
    summary = nnpkit.train(config)
    assert summary["members"] == 5
    assert sorted(path.name for path in Path("run").glob("member-*")) == ["member-00"]
    committee = nnpkit.load("run/committee.pt")
    assert committee.n_members == 5
    arrays = np.load("run/validation.npz")
    error, spread = arrays["atom_force_error"], arrays["atom_force_std"]
    assert np.sqrt((spread**2).mean()) == pytest.approx(np.sqrt((error**2).mean()), rel=1e-3)
    again = nnpkit.train({**config, "output": "more", "start": {"run": "run", "epochs": 1}})
    assert again["members"] == 5
    for wrong in ({"members": 3}, {"processes": 2}):
        with pytest.raises(InputError, match="4 members or more, and one training"):
            nnpkit.train({**config, "output": "no", "committee": {**config["committee"], **wrong}})
    for section, wrong, words in (
        ("training", {"optimizer": {"kind": "adam"}}, "needs training.optimizer of kind ekf"),
        ("data", {"baseline": {"kind": "model", "file": "run"}}, "baselines of kind ase or d3 only"),
        ("data", {"validation_fraction": 0.0}, "no validation structures with forces"),
    ):
        with pytest.raises(InputError, match=words):
            nnpkit.train({**config, "output": "no", section: {**config[section], **wrong}})
        assert not Path("no").exists()  # before anything is trained
