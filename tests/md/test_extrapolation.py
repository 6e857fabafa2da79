"""A run outside the range of the training data is counted, named and not called sound."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from argon import needs_lammps
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.io import write as ase_write
from small_models import small_model
from test_cli_md import needs_plugin, run, water

import nnpkit
from nnpkit.analysis.extrapolation import excess, extrapolation_verdict, raw_features
from nnpkit.analysis.report.physics_sections import _simulation
from nnpkit.data.formats.reading import write
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import load
from nnpkit.deploy.targets.torchscript import export_model
from nnpkit.md.simulation_settings import Simulation
from nnpkit.md.thermo import ThermoReader
from nnpkit.models.scaling import FeatureStatistics

OPTIONS = (
    "--ensemble",
    "nve",
    "--temperature",
    30,
    "--timestep",
    0.1,
    "--steps",
    4,
    "--every",
    1,
    "-o",
    "out",
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    needs_lammps()
    needs_plugin()
    monkeypatch.chdir(tmp_path)
    write("water.xyz", [water(3.0)])
    return tmp_path


def model_with_ranges(low: float, high: float) -> None:
    """A model.pt that claims these bounds for all of its features."""
    model = small_model()
    shape = tuple(model.scaling.shift.shape)
    like = model.scaling.shift
    minimum, maximum = like.new_full(shape, low), like.new_full(shape, high)
    statistics = FeatureStatistics(minimum, maximum, (minimum + maximum) / 2, maximum - minimum)
    model.scaling.set(statistics, "minmax_center", -0.5, 1.5)
    export_model(model, "model.pt")


def test_a_run_outside_is_counted_and_judged(folder: Path) -> None:
    model_with_ranges(0.2, 0.4)
    result = run("model.pt", "water.xyz", *OPTIONS)
    assert result.exit_code == 0, result.stderr
    summary = json.loads(Path("out/summary.json").read_text())
    model = load("model.pt")
    beyond = excess(model, *raw_features(model, water(3.0)))
    at_start = sum(int((outside > 0).sum()) for outside in beyond.values())
    rows = Path("out/thermo.csv").read_text().splitlines()
    table = [dict(zip(rows[0].split(","), map(float, row.split(",")), strict=True)) for row in rows[1:]]
    assert table[0]["extrapolations"] == at_start > 0
    assert summary["extrapolations"] == sum(row["extrapolations"] for row in table)
    assert summary["extrapolations_per_atom_step"] == pytest.approx(summary["extrapolations"] / (5 * 24))
    assert "outside the range of the training data" in summary["outside"]
    assert "G2" in summary["extrapolations_by"]  # functions by what they are, not only by their number
    assert summary["outside"] in result.stderr
    assert f"extrapolations    {summary['extrapolations']}, " in result.stdout


def test_a_run_inside_is_not_blamed(folder: Path) -> None:
    model_with_ranges(-100.0, 100.0)
    result = run("model.pt", "water.xyz", *OPTIONS)
    summary = json.loads(Path("out/summary.json").read_text())
    assert (summary["extrapolations"], summary["outside"]) == (0, None)
    assert "extrapolations    0\n" in result.stdout


@pytest.mark.parametrize(("total", "judged"), [(0, False), (20, False), (30, True)])
def test_the_rule_is_a_hundredth_per_atom_and_step(total: int, judged: bool) -> None:
    reader = ThermoReader()
    for line in ("Step c_extrapolation[1] f_watch[3]", "0 0 0", f"99 0 {total}"):
        reader.feed(line)
    found = extrapolation_verdict(Simulation(ensemble="nve"), water(3.0), reader)
    assert found["extrapolations"] == total
    assert (found["outside"] is not None) == judged
    committee = extrapolation_verdict(
        Simulation(ensemble="nve", committee=True, every=10), water(3.0), reader
    )
    assert committee["extrapolations_per_atom_step"] == pytest.approx(total / (10 * 24))


def test_the_most_frequent_function_is_named_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = ThermoReader()
    for line in ("Step c_extrapolation[1] f_watch[3]", "0 0 0", "99 0 3000"):
        reader.feed(line)
    words = "Cu function 13 (l = 3 3, channel 0): 2000, Cu function 9 (l = 1 1, channel 2): 1000"
    monkeypatch.setattr("nnpkit.analysis.extrapolation._named", lambda *_: words)
    found = extrapolation_verdict(Simulation(ensemble="nve"), water(3.0), reader)
    assert "most of Cu function 13 (l = 3 3, channel 0): 2000: the run" in found["outside"]


def test_the_report_does_not_call_such_a_run_sound(tmp_path: Path) -> None:
    report = SimpleNamespace(data=SimpleNamespace(simulations=[]))
    summary = {
        "unstable": None, "outside": "9 extrapolations", "density": 1.2, "density_error": None,
        "not_settled": {"density": "its halves differ"},
    }  # fmt: skip
    page = _simulation(report, Simulation(), water(3.0), tmp_path, summary)
    assert "cannot be trusted: 9 extrapolations" in page
    assert "Not settled" in page
    assert "±" not in page
    assert report.data.simulations[0].outside == "9 extrapolations"
    assert np.isclose(report.data.simulations[0].summary["density"], 1.2)


def test_a_crystal_at_rest_is_inside_the_range_of_displaced_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its features are the ends that displaced atoms come near and never reach; a squeezed crystal is outside."""
    monkeypatch.chdir(tmp_path)
    frames = []
    for seed in range(12):
        atoms = bulk("Cu", cubic=True).repeat(2)
        atoms.rattle(0.05 + 0.01 * seed, seed=seed)
        atoms.calc = EMT()
        atoms.get_potential_energy()
        frames.append(atoms)
    ase_write("train.extxyz", frames)
    settings = {"data": {"train": "train.extxyz", "validation_fraction": 0.0}, "training": {"epochs": 1}}
    settings["model"] = {"descriptor": {"radial_cutoff": 4.0, "angular_cutoff": 4.0}}
    nnpkit.train(settings)
    model = nnpkit.load("run")
    rest, squeezed = (Structure.from_atoms(bulk("Cu", cubic=True, a=a)) for a in (3.61, 3.2))
    assert not excess(model, *raw_features(model, rest))["Cu"].any()
    assert excess(model, *raw_features(model, squeezed))["Cu"].any()
