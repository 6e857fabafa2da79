"""From the active learning YAML to the project, and to the YAML of every training in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from alloy import CONFIG, write_alloy

from nnpkit.active.project import Folders, training_yaml, write_first_data, write_new_data
from nnpkit.config.config_file import load_config
from nnpkit.data.formats.extxyz import read_extxyz, write_extxyz
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


@pytest.mark.parametrize("by", ["config_type", "file"])
def test_groups_of_the_first_data_stay_groups(folder, by: str) -> None:
    """Files have other names in the loop, and their frames lose all other keys; new frames are a group."""
    structures = read_extxyz(folder / "train.extxyz")
    for name, part in (("bulk", structures[:9]), ("surface", structures[9:])):
        info = {"config_type": name, "other": 1} if by == "config_type" else {}
        write_extxyz(folder / f"{name}.xyz", [s.replace(info=info) for s in part])
    files = "  train: [bulk.xyz, surface.xyz]\n"
    (folder / "train.yaml").write_text(CONFIG.replace("  train: train.extxyz\n", files) + COMMITTEE)
    described = project()
    config = training(described, 1, None)
    write_new_data(described, 0, {"f" * 32: structures[0]})
    first = [s for p in Folders(described.folder).first_data() for s in read_extxyz(p)]
    key = config["data"]["groups"]
    names = ["bulk", "surface"] if by == "config_type" else ["bulk.xyz", "surface.xyz"]
    assert sorted(s.info[key] for s in first) == [names[0]] * 9 + [names[1]] * 3
    assert [s.info for s in read_extxyz(Folders(described.folder).new_data(0)[0])] == [{key: "new"}]
    assert all(set(s.info) == {key} for s in first)


def test_first_data_without_groups_are_groups_by_round(folder) -> None:
    (folder / "train.yaml").write_text(CONFIG + COMMITTEE)
    config = training(project(), 0, None)
    assert config["data"]["groups"] == "auto"
