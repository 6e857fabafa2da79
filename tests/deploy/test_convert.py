"""`nnpkit convert` and `nnpkit export` as they are called."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from runner_by_hand import HandPotential
from small_models import cluster, small_model
from typer.testing import CliRunner

from nnpkit.cli.main import app
from nnpkit.data.formats.reading import read, write
from nnpkit.deploy.load import load
from nnpkit.deploy.targets.torchscript import export_model


def run(*arguments: object):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def succeeded(*arguments: object, note: str = "") -> str:
    """What a command prints; `note` is part of the one line on stderr, if there may be one."""
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    assert len(result.stderr.splitlines()) == (1 if note else 0), result.stderr
    assert note in result.stderr
    return result.stdout


def failed(*arguments: object) -> str:
    """The one line of a command that fails and leaves nothing."""
    target = Path(str(arguments[2]))
    before = target.exists()
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.startswith("nnpkit: error: ")
    assert target.exists() == before
    return result.stderr


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("convert") / "model.pt"
    export_model(small_model(), path, {"data_sha256": "0123"})
    return path


def energy(path: Path, **units: object) -> float:
    return load(path, **units).predict(cluster()).energy


# Potentials


@pytest.mark.parametrize("units", ["angstrom-ev", "bohr-hartree"])
def test_model_to_runner_and_back(model_file: Path, tmp_path: Path, units: str) -> None:
    printed = succeeded("convert", model_file, tmp_path / "runner", "--units", units)
    assert f"units {units}" in printed
    assert "acsf potential for O H, cutoff 4.5 Å" in printed
    succeeded("convert", tmp_path / "runner", tmp_path / "again.pt")  # the folder says its units itself
    assert energy(tmp_path / "again.pt") == pytest.approx(energy(model_file), rel=1e-13)


def test_runner_to_model(tmp_path: Path) -> None:
    folder = HandPotential().write(tmp_path / "runner")
    succeeded("convert", folder, tmp_path / "a.pt", "--units", "bohr-hartree")
    assert energy(tmp_path / "a.pt") == pytest.approx(energy(folder, units="bohr-hartree"), rel=1e-14)
    assert load(tmp_path / "a.pt").metadata["source"]["units"] == "bohr-hartree"
    factors = ("--cflength", 1.8897261328, "--cfenergy", 0.0367493254)
    succeeded("convert", folder, tmp_path / "b.pt", *factors)
    assert energy(tmp_path / "b.pt") == pytest.approx(energy(tmp_path / "a.pt"), rel=1e-6)


def test_runner_to_runner_keeps_the_units(tmp_path: Path) -> None:
    folder = HandPotential(length=1.0, energy=1.0).write(tmp_path / "runner")
    assert "units angstrom-ev" in succeeded("convert", folder, tmp_path / "out", "--units", "angstrom-ev")
    assert energy(tmp_path / "out") == pytest.approx(energy(folder, units="angstrom-ev"), rel=1e-13)


def test_inferred_units_are_printed(tmp_path: Path) -> None:
    folder = HandPotential(extra=("# Length unit : Bohr", "# Energy unit : Ha")).write(tmp_path / "runner")
    note = "nnpkit: note: "
    succeeded(
        "convert",
        folder,
        tmp_path / "model.pt",
        note=f"{note}{folder}: units bohr-hartree, since its comments",
    )


def test_units_that_cannot_be_told(tmp_path: Path) -> None:
    folder = HandPotential().write(tmp_path / "runner")
    assert "cannot be told from its cutoff 7" in failed("convert", folder, tmp_path / "model.pt")


def test_wall(tmp_path: Path) -> None:
    export_model(small_model(wall={"O-O": 2.0}), tmp_path / "walled.pt")
    assert "--without-wall" in failed("convert", tmp_path / "walled.pt", tmp_path / "runner")
    succeeded("convert", tmp_path / "walled.pt", tmp_path / "runner", "--without-wall")


def test_other_targets_of_a_potential(model_file: Path, tmp_path: Path) -> None:
    assert "a file ending in .pt" in failed("convert", model_file, tmp_path / "model.xyz")
    assert "a file ending in .pt" in failed("convert", model_file, tmp_path / "x", "--to", "extxyz")
    assert "--units is for RuNNer" in failed(
        "convert", model_file, tmp_path / "b.pt", "--units", "angstrom-ev"
    )
    assert "--without-wall has no effect here" in failed(
        "convert", model_file, tmp_path / "b.pt", "--without-wall"
    )
    assert "units 'kcal'" in failed("convert", model_file, tmp_path / "runner", "--units", "kcal")
    assert not (tmp_path / "b.pt").exists()
    assert not (tmp_path / "runner").exists()


def test_no_potential(tmp_path: Path) -> None:
    assert "no such file" in failed("convert", tmp_path / "nothing.pt", tmp_path / "runner")


# Data sets


def test_data_sets(tmp_path: Path) -> None:
    structures = [cluster(seed=s).replace(energy=-3.0 - s, forces=np.ones((9, 3)) * s) for s in (1, 2)]
    write(tmp_path / "a.xyz", structures)
    assert "2 structures, 18 atoms" in succeeded("convert", tmp_path / "a.xyz", tmp_path / "input.data")
    succeeded("convert", tmp_path / "input.data", tmp_path / "npy", "--to", "deepmd")
    succeeded("convert", tmp_path / "npy", tmp_path / "b.extxyz.gz")
    for a, b in zip(structures, read(tmp_path / "b.extxyz.gz"), strict=True):
        np.testing.assert_allclose(np.sort(b.positions, axis=0), np.sort(a.positions, axis=0), atol=1e-9)
        assert b.energy == pytest.approx(a.energy, abs=1e-9)


def test_units_of_data(tmp_path: Path) -> None:
    write(tmp_path / "a.xyz", [cluster().replace(energy=-3.0)])
    succeeded("convert", tmp_path / "a.xyz", tmp_path / "eV.data", "--units", "angstrom-ev")
    assert "energy -3" in (tmp_path / "eV.data").read_text()
    succeeded("convert", tmp_path / "eV.data", tmp_path / "b.xyz", "--units", "angstrom-ev")
    assert read(tmp_path / "b.xyz")[0].energy == pytest.approx(-3.0)


def test_a_folder_with_potential_and_data(tmp_path: Path) -> None:
    """The destination says what is meant."""
    folder = HandPotential().write(tmp_path / "runner")
    write(folder / "input.data", [cluster().replace(energy=-3.0)], "runner")
    assert "1 structure, 9 atoms" in succeeded("convert", folder, tmp_path / "data.xyz")
    assert "potential" in succeeded("convert", folder, tmp_path / "model.pt", "--units", "bohr-hartree")


def test_unknown_formats_and_options(tmp_path: Path) -> None:
    write(tmp_path / "a.xyz", [cluster().replace(energy=-3.0)])
    assert "unknown format" in failed("convert", tmp_path / "a.xyz", tmp_path / "b.xyz", "--from", "extxzy")
    assert "for potentials" in failed("convert", tmp_path / "a.xyz", tmp_path / "b.xyz", "--without-wall")


# nnpkit export


def test_export(model_file: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    shutil.copy(model_file, tmp_path / "run")
    printed = succeeded("export", tmp_path / "run", "-o", tmp_path / "out.pt")
    assert "acsf potential for O H" in printed
    assert (tmp_path / "out.pt").read_bytes() == model_file.read_bytes()


def test_export_of_nothing(tmp_path: Path) -> None:
    result = run("export", tmp_path, "-o", tmp_path / "out.pt")
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no model in this folder" in result.stderr
    assert not (tmp_path / "out.pt").exists()
