"""`examples/from_a_crystal/correct.py`: a student corrected with few labels of another method."""

from __future__ import annotations

import shutil
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.lj import LennardJones

import nnpkit
from nnpkit.data.formats.reading import read, write
from nnpkit.data.structure import Structure

EXAMPLE = Path(__file__).parents[2] / "examples" / "from_a_crystal" / "correct.py"
TRAINING = {"epochs": 2, "min_updates": 80}
STUDENT = "active/rounds/committee/member-00"


@pytest.fixture
def example() -> ModuleType:
    """The script as a module."""
    spec = spec_from_file_location("correction_example", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def copper(n: int, seed: int, better: bool = False) -> list[Structure]:
    """Warm crystals of eight atoms; the better method has a pair potential more."""
    random, frames = np.random.default_rng(seed), []
    for k in range(n):
        atoms = bulk("Cu", "fcc", a=3.6 * random.uniform(0.98, 1.03), cubic=True).repeat((2, 1, 1))
        atoms.positions += random.normal(scale=0.1, size=(8, 3))
        atoms.calc = EMT()
        energy, forces = atoms.get_potential_energy(), atoms.get_forces()
        if better:
            atoms.calc = LennardJones(sigma=2.2, epsilon=0.1, rc=5.0, smooth=True)
            energy, forces = energy + atoms.get_potential_energy() - 8.0, forces + atoms.get_forces()
        bare = Structure.from_atoms(atoms, f"copper#{k}")
        frames.append(bare.replace(energy=energy, forces=forces, stress=None, info={}, arrays={}))
    return frames


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with a potential of the cheap method, where active learning would have left it."""
    folder = tmp_path_factory.mktemp("student")
    write(folder / "cheap.xyz", copper(30, 1))
    model = {"kind": "acsf", "descriptor": {"cutoff": 5.0, "radial": 5}, "network": {"hidden": [8, 8]}}
    data = {"train": str(folder / "cheap.xyz"), "validation_fraction": 0.2, "test_fraction": 0.0}
    run = folder / STUDENT
    nnpkit.train(
        {
            "seed": 1,
            "output": str(run),
            "data": data,
            "model": model,
            "training": {"epochs": 2, "min_updates": 400},
        }
    )
    return folder


@pytest.fixture
def student(trained: Path, tmp_path: Path) -> Path:
    """Run folder of that potential, in the folder of a test."""
    shutil.copytree(trained / "active", tmp_path / "active")
    return tmp_path / STUDENT


def test_what_each_correction_gains(example: ModuleType, student: Path, tmp_path: Path) -> None:
    """Delta learning and fine-tuning know what the student knew; a training from nothing does not."""
    assert example.student_of(tmp_path / "active") == student
    (place := tmp_path / "correction").mkdir()
    errors = example.corrections(student, copper(10, 50, True), copper(8, 90, True), place, TRAINING)
    assert list(errors) == ["student", "from nothing", "delta", "fine-tuned"]
    for way in ("delta", "fine-tuned"):
        assert errors[way]["force_rmse"] < 0.7 * errors["student"]["force_rmse"]
        assert errors[way]["force_rmse"] < errors["from nothing"]["force_rmse"]
    settings = yaml.safe_load((place / "fine-tuned.yaml").read_text())
    assert settings["start"] == {"run": str(student), "covariance": True}
    text = example.table(errors)
    assert all(name in text for name in errors)
    assert f"{errors['delta']['force_rmse']:.3f}" in text


def test_labels_come_from_frames_of_the_run_that_nobody_saw(
    example: ModuleType,
    student: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The whole script, with effective medium theory as the better method of itself: the student is right already."""
    assert student.is_dir()
    (tmp_path / "npt").mkdir()
    write(tmp_path / "npt" / "trajectory.extxyz", copper(30, 7))
    monkeypatch.setattr(example, "trajectory_of", lambda folder: read(folder / "npt" / "trajectory.extxyz"))
    words = [str(tmp_path), "--labels", "6", "--calculator", "emt", "--updates", "30"]
    monkeypatch.setattr(sys, "argv", ["correct.py", *words])
    assert example.main() == 0
    assert "RESULT" in capsys.readouterr().out
    teach = read(tmp_path / "correction" / "teach.xyz")
    assert len(teach) == 6
    assert all(s.energy is not None and s.forces is not None for s in teach)
    assert len(read(tmp_path / "correction" / "better.xyz")) == 6 + example.JUDGES
    with pytest.raises(SystemExit, match="expected at least 42"):
        example.correct(tmp_path, 30, {"kind": "ase", "calculator": "emt"}, TRAINING)
