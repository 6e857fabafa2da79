"""From the active learning YAML to the project, and to the YAML of every training in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from alloy import CONFIG, write_alloy

from nnpkit.active.project import Folders, training_yaml, write_first_data
from nnpkit.config.config_file import load_config
from nnpkit.errors import InputError
from nnpkit.workflow.active_project import active_config_from_mapping, make_project

COMMITTEE = "committee: {members: 2}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: data and the YAML of a training that begins with the committee in `first`."""
    monkeypatch.chdir(tmp_path)
    write_alloy(tmp_path / "train.extxyz")
    (tmp_path / "train.yaml").write_text(CONFIG + COMMITTEE + "start: {run: first, freeze: [1]}\n")
    for member in ("member-00", "member-01"):
        checkpoint = tmp_path / "first" / member / "checkpoints" / "epoch-000003"
        checkpoint.mkdir(parents=True)
        for name in ("state.json", "state.safetensors"):
            (checkpoint / name).touch()
    return tmp_path


def project(**settings):
    return make_project(
        active_config_from_mapping({"training": "train.yaml", "reference": {"calculator": "emt"}, **settings})
    )


def training(described, number: int, warm: Path | None) -> dict:
    write_first_data(described, [])
    return yaml.safe_load(training_yaml(described, number, warm).read_text())


def test_the_first_training_begins_as_the_training_yaml_says(folder) -> None:
    """Tasks run in folders of their own: the path is absolute. Later ones keep what is frozen."""
    described = project(warm_epochs=2)
    assert training(described, 0, None)["start"] == {
        "run": str(folder / "first"), "covariance": True, "freeze": [1], "epochs": None,
    }  # fmt: skip
    warm = Folders(described.folder).model(0)
    written = training(described, 1, warm)
    assert written["start"] == {"run": str(warm), "covariance": True, "freeze": [1], "epochs": 2}
    assert written["training"]["epochs"] == 4  # for one that begins from scratch after all
    config = load_config(Folders(described.folder).round(1) / "train" / "train.yaml")
    assert config.start.epochs == 2


def test_a_cold_project_begins_every_training_so(folder) -> None:
    assert training(project(warm_start=False), 3, None)["start"]["run"] == str(folder / "first")
    (folder / "train.yaml").write_text(CONFIG + COMMITTEE)
    assert training(project(), 0, None)["start"] is None


def test_there_must_be_a_run_for_every_member(folder) -> None:
    (folder / "train.yaml").write_text(CONFIG + "committee: {members: 3}\nstart: {run: first}\n")
    with pytest.raises(InputError, match="no run of member 2 to begin with"):
        project()


def test_warm_epochs_are_of_warm_trainings(folder) -> None:
    with pytest.raises(InputError, match="warm_epochs is of trainings that begin warm"):
        project(warm_start=False, warm_epochs=3)
