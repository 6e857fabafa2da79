"""`nnpkit evaluate`: errors, predictions and warnings."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import ase.io
import numpy as np
import pytest
from alloy import make_training, write_alloy
from ase.calculators.singlepoint import SinglePointCalculator
from rich.console import Console
from typer.testing import CliRunner

from nnpkit.cli.main import app
from nnpkit.config.config_file import load_config
from nnpkit.data.dataset import load_dataset
from nnpkit.data.formats.reading import read, write
from nnpkit.measure.metrics import METRICS
from nnpkit.workflow.training_run import run_training


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Current folder with a trained ``run``, its data ``train.extxyz`` and other data ``other.extxyz``."""
    before = Path.cwd()
    config = make_training(tmp_path_factory.mktemp("evaluate"))
    overrides = ["data.validation_fraction=0", "training.epochs=6"]
    run_training(load_config(config, overrides), console=Console(file=io.StringIO()))
    write_alloy(Path("other.extxyz"), 5, seed=8)
    yield config.parent
    os.chdir(before)


def evaluate(*arguments: str, code: int = 0):
    result = CliRunner().invoke(app, ["evaluate", *arguments])
    assert result.exit_code == code, result.output
    return result


def test_errors_of_the_training_set_are_those_of_the_training(folder: Path) -> None:
    result = evaluate("run", "train.extxyz", "--json", "errors.json")
    errors = json.loads(Path("errors.json").read_text())
    summary = json.loads(Path("run/summary.json").read_text())
    assert {key: errors[key] for key in METRICS} == pytest.approx(summary["train"], rel=1e-9)
    assert errors["splits"]["train.extxyz"] == {key: errors[key] for key in METRICS}
    assert "energy RMSE, eV/atom" in result.stdout
    assert result.stderr == ""


def test_structures_without_labels_have_no_errors_and_are_told_so(folder: Path) -> None:
    write("bare.extxyz", [s.replace(energy=None, forces=None, stress=None) for s in read("other.extxyz")])
    said = evaluate("run", "other.extxyz", "bare.extxyz").stderr
    assert said.count("note:") == 1
    assert "note: bare.extxyz: no structure has labels, so there are no errors; --predictions FILE" in said
    assert "--predictions" not in evaluate("run", "bare.extxyz", "--predictions", "said.extxyz").stderr


def test_every_kind_of_model_and_several_files(folder: Path) -> None:
    last = sorted(Path("run/checkpoints").iterdir())[-1]
    for model in ("run", "run/model.pt", str(last)):
        evaluate(model, "train.extxyz", "other.extxyz", "--json", "errors.json")
        errors = json.loads(Path("errors.json").read_text())
        assert list(errors["splits"]) == ["train.extxyz", "other.extxyz"]
        assert errors["n_structures"] == sum(s["n_structures"] for s in errors["splits"].values()) == 17
        assert errors["splits"]["other.extxyz"]["n_atoms"] == 20


def test_predictions_are_what_ase_reads(folder: Path) -> None:
    evaluate(
        "run", "other.extxyz", "train.extxyz", "--predictions", "predicted.extxyz", "--json", "errors.json"
    )
    errors = json.loads(Path("errors.json").read_text())
    reference = ase.io.read("other.extxyz", ":") + ase.io.read("train.extxyz", ":")
    predicted = ase.io.read("predicted.extxyz", ":")
    assert len(predicted) == 17
    energy, force, stress = [], [], []
    for a, b in zip(reference, predicted, strict=True):
        np.testing.assert_allclose(a.positions, b.positions, atol=1e-7)
        assert b.get_potential_energies().sum() == pytest.approx(b.get_potential_energy(), abs=1e-9)
        assert b.info["ref_energy"] == a.get_potential_energy()
        np.testing.assert_array_equal(b.arrays["ref_forces"], a.get_forces())
        np.testing.assert_array_equal(np.reshape(b.info["ref_stress"], (3, 3)), a.get_stress(voigt=False))
        energy.append((b.get_potential_energy() - a.get_potential_energy()) / len(a))
        force.append(b.get_forces() - a.get_forces())
        stress.append((b.get_stress(voigt=False) - a.get_stress(voigt=False)) * 160.21766339999998)
    assert errors["energy_rmse"] == pytest.approx(np.sqrt(np.mean(np.square(energy))), rel=1e-9)
    assert errors["force_mae"] == pytest.approx(np.mean(np.abs(force)), rel=1e-9)
    assert errors["stress_rmse"] == pytest.approx(np.sqrt(np.mean(np.square(stress))), rel=1e-9)


def test_structures_without_labels(folder: Path) -> None:
    images = ase.io.read("other.extxyz", ":")
    for atoms in images:
        atoms.calc = None
    ase.io.write("bare.xyz", images)
    evaluate("run", "bare.xyz", "--json", "errors.json", "--predictions", "predicted.extxyz")
    errors = json.loads(Path("errors.json").read_text())
    assert [errors[key] for key in METRICS] == [5, 20, *[None] * 6]
    assert all(np.isfinite(a.get_potential_energy()) for a in ase.io.read("predicted.extxyz", ":"))


def test_data_in_other_units(folder: Path) -> None:
    write("input.data", load_dataset("train.extxyz"))
    evaluate("run", "input.data", "--json", "errors.json")
    right = json.loads(Path("errors.json").read_text())
    evaluate("run", "train.extxyz", "--json", "errors.json")
    expected = json.loads(Path("errors.json").read_text())
    assert right["force_rmse"] == pytest.approx(expected["force_rmse"], rel=1e-6)
    assert evaluate("run", "input.data", "--units", "bohr-hartree").exit_code == 0


def test_shifted_energies_and_wrong_units_are_suspected(folder: Path) -> None:
    images = ase.io.read("train.extxyz", ":")
    for atoms in images:
        results = {
            "energy": atoms.get_potential_energy() - 30.0 * len(atoms),
            "forces": atoms.get_forces() / 51.422,
        }
        atoms.calc = SinglePointCalculator(atoms, **results)
    ase.io.write("shifted.extxyz", images)
    stderr = evaluate("run", "shifted.extxyz").stderr
    assert (
        "nnpkit: warning: shifted.extxyz: the reference forces look as if they were in hartree/bohr" in stderr
    )
    assert "differ from the predictions by a constant 3" in stderr


def test_labels_whose_units_and_signs_contradict_each_other_are_suspected(folder: Path) -> None:
    write_alloy(Path("sound.extxyz"), frames=40, gold=(0,))
    frames = load_dataset("sound.extxyz")
    write("kbar.extxyz", [s.replace(stress=s.stress * -1602.18) for s in frames])
    stderr = evaluate("run", "kbar.extxyz").stderr
    assert "nnpkit: warning: kbar.extxyz: all structures: the stress has the opposite sign" in stderr
    assert "as if in kbar" in stderr
    assert "all structures" not in evaluate("run", "sound.extxyz").stderr


def test_charges_are_kept_in_predictions(folder: Path) -> None:
    structures = [s.replace(charges=np.linspace(-0.5, 0.5, s.n_atoms)) for s in load_dataset("other.extxyz")]
    write("charged.extxyz", structures)
    evaluate("run", "charged.extxyz", "--predictions", "predicted.extxyz")
    for structure, atoms in zip(structures, ase.io.read("predicted.extxyz", ":"), strict=True):
        np.testing.assert_array_equal(atoms.arrays["ref_charges"], structure.charges)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nix", "train.extxyz"], "nix: there is no such file or folder"),
        (["run", "nix.extxyz"], "nix.extxyz"),
        (["run", "water.extxyz"], "element O is unknown to the model"),
        (["run", "train.extxyz", "--format", "extxzy"], "unknown format 'extxzy'"),
        (["run", "train.extxyz", "--units", "furlong"], "unknown units 'furlong'"),
    ],
)
def test_bad_input(folder: Path, arguments: list[str], expected: str) -> None:
    from ase.build import molecule

    water = molecule("H2O")
    water.symbols[:] = "Au"
    water.symbols[0] = "O"
    ase.io.write("water.extxyz", [*ase.io.read("other.extxyz", ":"), water])
    result = evaluate(*arguments, "--json", "none.json", "--predictions", "none.extxyz", code=1)
    assert expected in result.stderr
    assert result.stderr.count("\n") == 1
    assert not Path("none.json").exists()
    assert not Path("none.extxyz").exists()
