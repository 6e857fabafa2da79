"""The inputs in examples/lammps run as they are, with another model, another structure and few steps."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
from harness import random_structure, run, write_data

EXAMPLES = Path(__file__).parents[2] / "examples" / "lammps"


@pytest.fixture
def place(folder: Path) -> Path:
    """The examples beside a model and a structure."""
    for path in EXAMPLES.iterdir():
        shutil.copy(path, folder)
    write_data(folder / "data.lmp", random_structure(36, [12.0, 12.0, 12.0], seed=3), ["H", "O"])
    return folder


def test_every_input_is_tested() -> None:
    names = {"in.npt", "in.nve", "in.minimize", "in.hybrid", "in.committee"}
    assert {path.name for path in EXAMPLES.glob("in.*")} == names


@pytest.mark.parametrize(
    ("name", "settings", "written"),
    [
        ("in.npt", "-var steps 40 -var temperature 100", "npt.final.data"),
        ("in.nve", "-var steps 40 -var equilibrate 10", "nve.deviation"),
        ("in.minimize", "-var steps 20", "minimized.data"),
        ("in.hybrid", "-var steps 20", "log.lammps"),
    ],
)
def test_input(place: Path, name: str, settings: str, written: str) -> None:
    variables = ["-var", "model", "toy.pt", "-var", "data", "data.lmp", *settings.split()]
    result = run(place, ["lmp", "-in", name, *variables], 2)
    assert result.returncode == 0, result.output
    warnings = [line for line in result.output.splitlines() if "WARNING" in line]
    assert [w for w in warnings if "extra global DOFs" not in w] == []  # the cell's own, in a minimisation
    assert (place / written).is_file()


def test_committee(place: Path, committee_file: Path) -> None:
    shutil.copy(committee_file, place / "committee.pt")
    variables = ["-var", "data", "data.lmp", "-var", "steps", "20", "-var", "lower", "0.001"]
    result = run(place, ["lmp", "-in", "in.committee", *variables, "-var", "upper", "100"])
    assert result.returncode == 0, result.output
    assert (place / "uncertain.extxyz").is_file()
    assert (place / "disagreement.lammpstrj").is_file()
    result = run(place, ["lmp", "-in", "in.committee", *variables, "-var", "upper", "0.002"])
    assert result.returncode == 3
    assert "The run was ended: force_std_max is" in result.output
    assert (place / "ended.restart").is_file()


def test_driver(place: Path) -> None:
    command = [sys.executable, "driver.py", "--model", "toy.pt", "--data", "data.lmp", "--steps", "10"]
    result = run(place, command, 2)
    assert result.returncode == 0, result.output
    rows = [line.split() for line in result.output.splitlines() if line.startswith("step")]
    assert len(rows) == 10
    assert all(row[row.index("E") + 1] == row[row.index("atoms") + 1] for row in rows)
