"""Corrections with their baselines, with stages or charges in either: LAMMPS computes what Python does."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import test_lammps_charges as charges
from harness import lmp, measured, random_structure, setup, write_data
from test_lammps_stages import PLAIN, family
from test_sum_model import model_of

from nnpkit.deploy.load import LoadedModel, load
from nnpkit.deploy.targets.torchscript import export_model
from nnpkit.models.sum_model import SumModel

__all__ = ["family"]  # a fixture: the family with stages


def file_of(folder: Path, correction: str, baseline: str) -> LoadedModel:
    model: Any = SumModel(model_of(correction), model_of(baseline, seed=5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export_model(model, folder / "model.pt")
        return load(folder / "model.pt")


@pytest.mark.parametrize(("correction", "baseline"), [("hop", "plain"), ("plain", "hop"), ("hop", "hop")])
def test_stages(lammps: None, tmp_path: Path, correction: str, baseline: str) -> None:
    """Fields of both, side by side, through the ghosts of two ranks."""
    model = file_of(tmp_path, correction, baseline)
    atoms = random_structure(30, charges.CELL, seed=4, closest=1.3)
    write_data(tmp_path / "data.lmp", atoms, ["H", "O"])
    pair = "pair_style nnpkit chunk 7\npair_coeff * * model.pt H O\n"
    found, expected = measured(lmp(tmp_path, setup() + pair + PLAIN, 2)), model.predict(atoms)
    assert found.energy == pytest.approx(expected.energy, rel=1e-12)
    assert found.forces == pytest.approx(expected.forces, rel=1e-9, abs=1e-10)
    six = [expected.virial[a, b] for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))]
    assert found.virial == pytest.approx(six, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize(("correction", "baseline"), [("charged", "plain"), ("plain", "equilibrated")])
def test_charges(lammps: None, tmp_path: Path, correction: str, baseline: str) -> None:
    """Charges are made between the stages, of whichever part has them."""
    model = file_of(tmp_path, correction, baseline)
    atoms = random_structure(24, charges.CELL, seed=2, closest=1.3)
    charges.compare(charges.run(tmp_path, atoms, 2, "chunk 7"), model, atoms)
