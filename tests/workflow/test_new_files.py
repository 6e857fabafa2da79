"""`nnpkit new`: settings that fit the data, files that the other commands read."""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np
import pytest
from data_tools import emt_copper
from typer.testing import CliRunner

from nnpkit.cli.main import app
from nnpkit.config.config_file import load_config
from nnpkit.data.formats.reading import read, write
from nnpkit.data.structure import Structure
from nnpkit.workflow.data_files import as_patterns, data_files


def new(*arguments: str):
    return CliRunner().invoke(app, ["new", *arguments])


@pytest.fixture
def copper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with copper and files that are no data; no time is measured."""
    monkeypatch.setattr("nnpkit.workflow.new_files.expected", lambda *_: "about 7 s")
    folder = tmp_path / "data"
    folder.mkdir()
    write(folder / "copper.extxyz", emt_copper(n=6))
    (folder / "notes.md").write_text("# no data\n")
    return folder


def test_data_with_labels(copper: Path) -> None:
    result = new(str(copper), "-o", str(copper))
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == f"next: nnpkit train {copper / 'train.yaml'}"
    text = (copper / "train.yaml").read_text()
    assert "# Expected: about 7 s" in text
    assert "6 structures, 192 atoms (32 to 32), Cu; labels: energy, forces, stress" in text
    assert "min_updates: 2000  # 6 frames" in text
    config = load_config(copper / "train.yaml")
    assert config.data.train == [str(copper / "copper.extxyz")]
    assert config.model.network.hidden == [10, 10]
    assert new(str(copper), "-o", str(copper)).exit_code == 1  # nothing is replaced unasked
    assert (copper / "train.yaml").read_text() == text
    assert new(str(copper), "-o", str(copper), "--overwrite", "--engine", "gpumd").exit_code == 0
    assert load_config(copper / "train.yaml").model.kind == "nep"


def test_the_next_command_is_one_of_a_shell(copper: Path, tmp_path: Path) -> None:
    result = new(str(copper), "-o", str(tmp_path / "my runs"))
    assert shlex.split(result.stdout.splitlines()[-1]) == [
        "next:", "nnpkit", "train", str(tmp_path / "my runs" / "train.yaml"),
    ]  # fmt: skip


def test_labels_that_are_missing_are_not_asked_for(copper: Path, tmp_path: Path) -> None:
    write(copper / "copper.extxyz", [f.replace(forces=None, stress=None) for f in emt_copper(n=6)])
    assert new(str(copper), "-o", str(tmp_path), "--time", "5min").exit_code == 0
    config = load_config(tmp_path / "train.yaml")
    assert config.training.schedule.forces == 0
    assert config.training.time == "5min"


def test_more_elements_than_the_data_know(copper: Path, tmp_path: Path) -> None:
    """Eight elements have 4096 coefficients of pairs; six frames of 32 atoms 618 labels."""
    frames = [f.replace(symbols=["H", "C", "N", "O", "Al", "Si", "Cu", "Au"] * 4) for f in emt_copper(n=6)]
    write(copper / "copper.extxyz", frames)
    result = new(str(copper), "-o", str(tmp_path))
    assert (
        "8 elements: the 4096 coefficients of pairs of elements are more than the 618 labels" in result.stdout
    )
    write(copper / "copper.extxyz", emt_copper(n=6))
    assert "coefficients" not in new(str(copper), "-o", str(tmp_path), "--overwrite").stdout


def test_the_expected_time_is_measured(tmp_path: Path) -> None:
    write(tmp_path / "copper.extxyz", emt_copper(n=4))
    result = new(str(tmp_path / "copper.extxyz"), "-o", str(tmp_path))
    assert "expected: about" in result.stdout
    assert "updates" in result.stdout


def crystal(folder: Path, **info: object) -> Path:
    cell = np.array([[0.0, 2.1, 2.1], [2.1, 0.0, 2.1], [2.1, 2.1, 0.0]])
    structure = Structure(
        ["Mg", "O"], np.array([[0.0, 0, 0], [2.1, 2.1, 2.1]]), cell=cell, pbc=np.full(3, True)
    )
    write(folder / "crystal.extxyz", [structure])
    return folder / "crystal.extxyz"


def test_a_crystal_without_labels(tmp_path: Path) -> None:
    from nnpkit.workflow.active_project import load_active_config, make_project

    result = new(str(crystal(tmp_path)), "-o", str(tmp_path), "--reference", "emt", "--temperature", "800")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-1] == f"next: nnpkit active run {tmp_path / 'active.yaml'}"
    frames = read(tmp_path / "start.xyz")
    assert len(frames) == 16
    heights = frames[0].volume / np.linalg.norm(
        np.cross(frames[0].cell, np.roll(frames[0].cell, -1, 0)), axis=1
    )
    assert heights.min() > 8.5
    assert {s: frames[0].symbols.count(s) for s in ("Mg", "O")} == {"Mg": 64, "O": 64}
    config = load_active_config(tmp_path / "active.yaml")
    assert config.reference.calculator == "emt"
    assert config.exploration.conditions[1].temperature == [800.0, 1200.0]
    assert len(make_project(config).unlabelled) == 16
    # one training, not four, tells the loop where the potential is unsure
    training = load_config(tmp_path / "train.yaml")
    assert training.committee.resample == "posterior"
    assert training.model.kind == "acsf"


def test_sites_occupied_in_part_are_refused(tmp_path: Path) -> None:
    from ase.spacegroup import crystal as ase_crystal

    atoms = ase_crystal(["Fe"], [(0, 0, 0)], spacegroup=229, cellpar=[2.9, 2.9, 2.9, 90, 90, 90])
    atoms.info["occupancy"] = {"0": {"Fe": 0.7, "Ni": 0.3}}
    atoms.write(tmp_path / "alloy.cif")
    result = new(str(tmp_path / "alloy.cif"), "-o", str(tmp_path))
    assert result.exit_code == 1
    assert "occupied in part (Fe 0.7, Ni 0.3)" in result.stderr
    assert not (tmp_path / "start.xyz").exists()


def test_a_folder_without_data(tmp_path: Path) -> None:
    result = new(str(tmp_path), "-o", str(tmp_path))
    assert result.exit_code == 1
    assert "no data in this folder" in result.stderr


def test_the_model_is_one_that_the_engine_knows(copper: Path, tmp_path: Path) -> None:
    from nnpkit.workflow.new_files import ENGINES

    kinds = {}
    for engine in ENGINES:
        assert new(str(copper), "-o", str(tmp_path / engine), "--engine", engine).exit_code == 0
        kinds[engine] = load_config(tmp_path / engine / "train.yaml").model.kind
    assert kinds == {
        "lammps": "cluster_expansion",
        "gpumd": "nep",
        "cp2k": "acsf",
        "any": "cluster_expansion",
    }


def test_labels_under_other_names(copper: Path, tmp_path: Path) -> None:
    frames = [f.to_atoms() for f in emt_copper(n=6)]
    for atoms in frames:
        atoms.info["mine"], atoms.arrays["pull"] = atoms.get_potential_energy(), atoms.get_forces()
        atoms.calc = None
    import ase.io

    ase.io.write(tmp_path / "odd.xyz", frames)
    said = new(str(tmp_path / "odd.xyz"), "-o", str(tmp_path / "a")).stdout
    assert "no energies or forces were found; the structures have mine, pull (three of each atom)" in said
    said = new(
        str(tmp_path / "odd.xyz"), "-o", str(tmp_path / "b"), "--labels", "energy=mine,forces=pull"
    ).stdout
    assert "labels: energy, forces" in said
    assert load_config(tmp_path / "b" / "train.yaml").data.labels == {"energy": "mine", "forces": "pull"}


def test_a_folder_for_each_calculation(tmp_path: Path) -> None:
    frames = emt_copper(n=10)
    for k, frame in enumerate(frames):
        (tmp_path / "all" / f"run{k}").mkdir(parents=True)
        write(tmp_path / "all" / f"run{k}" / "frame.extxyz", [frame])
        (tmp_path / "all" / f"run{k}" / "INCAR").write_text("ENCUT = 400\n")
    assert data_files([tmp_path / "all"]) == [
        str(tmp_path / "all" / f"run{k}" / "frame.extxyz") for k in range(10)
    ]
    assert as_patterns(data_files([tmp_path / "all"])) == [str(tmp_path / "all" / "*" / "frame.extxyz")]
    (tmp_path / "all" / "run0" / "frame.extxyz").unlink()
    (tmp_path / "all" / "run0" / "CONTCAR").write_text("Cu\n1\n2 0 0\n0 2 0\n0 0 2\nCu\n1\nDirect\n0 0 0\n")
    for name in ("OUTCAR", "vasprun.xml"):
        (tmp_path / "all" / "run0" / name).write_text(" vasp.6.4.2\n" if name == "OUTCAR" else "<modeling/>")
    assert data_files([tmp_path / "all"])[0] == str(tmp_path / "all" / "run0" / "vasprun.xml")
    assert len(data_files([tmp_path / "all"])) == 10
