"""From the active learning YAML to the project, and to the YAML of every training in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from alloy import CONFIG, write_alloy

from nnpkit.active.labellers.reference_calculation import Limits, compute_label
from nnpkit.active.labellers.registered import make_reference
from nnpkit.active.project import Folders, training_yaml, write_first_data, write_new_data
from nnpkit.config.config_file import load_config
from nnpkit.data.formats.extxyz import read_extxyz, write_extxyz
from nnpkit.data.formats.reading import read, write
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
    write_first_data(described, [], print)
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


def test_a_trajectory_spread_over_the_first_sets_is_named(folder) -> None:
    """Steps of 0.01 Å: a random division would make the validation errors, and the bounds, too good."""
    frames = read("train.extxyz")[:2]
    step = 0.01 * np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]])
    write("train.extxyz", [s.replace(positions=s.positions + k * step) for s in frames for k in range(6)])
    said: list[str] = []
    write_first_data(project(), [], said.append)
    assert said == []
    (folder / "train.yaml").write_text(
        (folder / "train.yaml").read_text().replace("data:", "data:\n  split: random")
    )
    write_first_data(project(), [], said.append)
    (line,) = said
    assert line.startswith(
        "Warning: data.split=random spreads the sequential frames of 2 trajectories over the sets"
    )


def test_masses_and_fixed_atoms_stay_with_the_data(folder) -> None:
    """Explorations start from labelled structures: heavy water must not become light after the first round."""
    held = {"masses": np.array([63.0, 64.0, 65.0, 66.0]), "move_mask": np.array([1, 1, 0, 1])}
    frames = [s.replace(arrays={**held, "other": np.ones(4)}) for s in read("train.extxyz")]
    write("train.extxyz", frames)
    described = project()
    write_first_data(described, [], print)
    (train, *_), _ = Folders(described.folder).data_before(0)
    assert {k: list(v) for k, v in read(train)[0].arrays.items()} == {k: list(v) for k, v in held.items()}
    label = compute_label(
        make_reference({"calculator": "emt"}), frames[0], folder, Limits(max_force=99.0), {}
    )
    assert {k: list(v) for k, v in label.arrays.items()} == {k: list(v) for k, v in held.items()}
    with pytest.raises(InputError, match="atoms cannot be fixed where the cell changes"):
        project(exploration={"conditions": [{"ensemble": "npt"}]})


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
