"""The validation report: complete, partial, self-contained, and its numbers against their schema and each other."""

from __future__ import annotations

import base64
import json
import re
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from alloy import make_training, write_alloy
from ase.build import bulk
from ase.io import write
from typer.testing import CliRunner

from nnpkit.cli import main

YAML = """\
seed: 5
output: run
data: {train: train.extxyz, validation_fraction: 0.1, test_fraction: 0.25}
model:
  descriptor: {cutoff: 6.0, angular_cutoff: 5.0, zetas: [1, 4], radial: 3}
  network: {hidden: [4]}
training: {epochs: 4, threads: 1}
"""


def nnpkit(*arguments: object):
    return CliRunner().invoke(main.app, [str(a) for a in arguments])


def numbers(page: Path) -> dict:
    """The JSON of a report, after it was held against the schema that the program prints."""
    data = json.loads(page.with_suffix(".json").read_text())
    jsonschema.validate(data, json.loads(nnpkit("schema", "--report").stdout))
    return data


def sections(page: Path) -> list[str]:
    return re.findall(r"<h2[^>]*>([^<]*)</h2>", page.read_text())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A finished run that has written its report."""
    with pytest.MonkeyPatch.context() as patch:
        path = tmp_path_factory.mktemp("report")
        patch.chdir(path)
        make_training(path, YAML + "report: {fisher_batches: 20}\n")
        result = nnpkit("train", "train.yaml")
        assert result.exit_code == 0, result.output
        assert "Report: run/report.html" in result.output
    return path


@pytest.fixture
def here(folder, monkeypatch) -> Path:
    monkeypatch.chdir(folder)
    return folder


def test_a_finished_run(here) -> None:
    page = here / "run" / "report.html"
    assert sections(page) == [
        "Model card", "Data card", "Training curves", "Errors", "Parity", "Directions of forces", "Outliers",
        "Extrapolation", "Fisher information", "Structures to look at",
    ]  # fmt: skip
    assert "report.view.html" in page.read_text()
    assert (here / "run" / "report.view.html").stat().st_size > 500_000  # its viewer is inside
    data, summary = numbers(page), json.loads((here / "run" / "summary.json").read_text())
    assert data["status"]["complete"]
    assert (data["status"]["epochs_done"], data["status"]["epochs_planned"]) == (4, 4)
    for part in ("train", "test"):
        for key in ("energy_rmse", "force_rmse", "stress_rmse", "n_structures"):
            assert data["errors"][part][key] == pytest.approx(summary[part][key], rel=1e-6)
    assert data["fisher"]["n_batches"] == 20
    assert len(data["curves"]) == 5
    worst = max(o["error"] for o in data["energy_outliers"] if o["part"] == "test")
    assert worst == pytest.approx(data["errors"]["test"]["energy_max"])


def test_the_page_needs_nothing_else(here) -> None:
    text = (here / "run" / "report.html").read_text()
    assert not re.search(r"""(src|href)=["']?(https?:|//|file:)""", text)
    assert "<script" not in text
    assert "@media print" in text
    assert len(re.findall("data:image/png;base64,", text)) == 6


def test_an_outlier_is_saved_with_what_was_predicted(here) -> None:
    from nnpkit.data.formats.extxyz import read_extxyz

    text = (here / "run" / "report.html").read_text()
    file, content = re.search(r'<a download="([^"]+)" href="data:text/plain;base64,([^"]+)"', text).groups()
    (here / file).write_bytes(base64.b64decode(content))
    structure = read_extxyz(here / file)[0]
    assert structure.energy is not None
    assert structure.arrays["predicted_forces"].shape == (4, 3)
    assert abs(structure.info["predicted_energy"] - structure.energy) < 2.0


def test_crystals_and_another_potential(here) -> None:
    atoms = bulk("Cu", cubic=True, a=3.85)
    atoms.symbols[:2] = "Au"
    write("cuau.xyz", atoms, format="extxyz")
    shutil.copytree("run", "again", dirs_exist_ok=True)
    result = nnpkit(
        "report", "run", "-o", "more.html", "--other", "again", "--solid", "cuau.xyz", "--fisher", 0
    )
    assert result.exit_code == 0, result.output
    data = numbers(here / "more.html")
    assert {"Contradictory data", "Crystals"} <= set(sections(here / "more.html"))
    found = {
        part: [c["correlation"] for c in data["contradictions"] if c["part"] == part]
        for part in data["errors"]
    }
    assert found.pop("validation") == [None, None]  # one structure
    assert found == {part: pytest.approx([1.0, 1.0]) for part in ("train", "test")}  # the same potential
    crystal = data["crystals"][0]
    assert crystal["bulk_modulus"] > 0.0
    assert np.shape(crystal["elastic"]) == (6, 6)
    assert data["fisher"] is None


def test_an_unfinished_run(here) -> None:
    """Without a summary, without a potential, without data: each time what is left, and what is missing."""
    shutil.copytree("run", "half")
    for name in ("summary.json", "model.pt"):
        (here / "half" / name).unlink()
    with open(here / "half" / "metrics.jsonl", "a") as stream:
        stream.write('{"epoch": 5, "upd')
    result = nnpkit("report", "half", "--fisher", 0)
    assert result.exit_code == 0
    assert "partial: the run is not finished" in result.stdout
    data = numbers(here / "half" / "report.html")
    assert not data["status"]["complete"]
    assert data["errors"]["test"]["energy_rmse"] is not None  # the best epoch until now
    assert "This run is not finished (4 of 4 epochs done)" in (here / "half" / "report.html").read_text()
    shutil.rmtree(here / "half" / "checkpoints")
    assert nnpkit("report", "half").exit_code == 0
    data = numbers(here / "half" / "report.html")
    assert data["errors"] == {}
    assert any("There is no potential" in note for note in data["notes"])
    assert "Data card" in sections(here / "half" / "report.html")


def test_data_that_changed_or_went(here, tmp_path) -> None:
    shutil.copytree("run", tmp_path / "run")
    write_alloy(tmp_path / "train.extxyz", frames=12, seed=4)
    settings = (tmp_path / "run" / "config.yaml").read_text()
    moved = settings.replace(str(here / "train.extxyz"), str(tmp_path / "train.extxyz"))
    (tmp_path / "run" / "config.yaml").write_text(moved)
    assert nnpkit("report", tmp_path / "run", "--fisher", 0).exit_code == 0
    data = numbers(tmp_path / "run" / "report.html")
    assert any("train data are not those of the training" in note for note in data["notes"])
    (tmp_path / "train.extxyz").unlink()
    assert nnpkit("report", tmp_path / "run").exit_code == 0
    data = numbers(tmp_path / "run" / "report.html")
    assert data["errors"] == {}
    assert any("cannot be used any more" in note for note in data["notes"])


def test_no_test_set(here) -> None:
    yaml = YAML.replace("0.1, test_fraction: 0.25", "0, test_fraction: 0").replace(
        "output: run", "output: alone"
    )
    Path("alone.yaml").write_text(yaml.replace("epochs: 4", "epochs: 0"))
    assert nnpkit("train", "alone.yaml").exit_code == 0
    assert nnpkit("report", "alone", "--fisher", 5).exit_code == 0
    data = numbers(here / "alone" / "report.html")
    assert list(data["errors"]) == ["train"]
    assert any("There is no test set" in note for note in data["notes"])


def test_a_committee(here) -> None:
    Path("committee.yaml").write_text(
        YAML.replace("output: run", "output: committee") + "committee: {members: 2, processes: 1}\n"
    )
    assert nnpkit("train", "committee.yaml").exit_code == 0
    assert nnpkit("report", "committee").exit_code == 0
    data = numbers(here / "committee" / "report.html")
    assert data["status"]["complete"]
    assert data["calibration"]["members"] == 2
    assert "Calibration of the committee" in sections(here / "committee" / "report.html")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no such folder"),
        (["."], "no run in this folder"),
        (["run", "-o", "report.pdf"], "a name that ends with .html"),
        (["run", "--other", "nowhere"], "there is no such file or folder"),
        (["run", "--start", "nowhere.xyz", "--md"], "nowhere.xyz"),
    ],
)
def test_what_cannot_be_reported(here, arguments: list[str], message: str) -> None:
    result = nnpkit("report", *arguments)
    assert result.exit_code == 1
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
