"""Committees: members of one data set, shared descriptors, resumption, and trainings that begin warm."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from alloy import CONFIG, make_training

import nnpkit
from nnpkit.config.config_file import load_config
from nnpkit.data.formats.reading import read, write
from nnpkit.data.splitting import SplitRule, divide
from nnpkit.errors import InputError
from nnpkit.training.checkpoint import latest_checkpoint, read_checkpoint

COMMITTEE = CONFIG.replace("epochs: 4", "epochs: 2").replace("test_fraction: 0.0", "test_fraction: 0.25")
COMMITTEE += "committee: {members: 3, resample: %s, processes: 2}\n"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A committee trained on seeds, its YAML and its summary."""
    folder = tmp_path_factory.mktemp("committee")
    config = make_training(folder, COMMITTEE % "seeds")
    return config, nnpkit.train(config)


@pytest.fixture(autouse=True)
def _in_its_folder(request, monkeypatch):
    """Runs are named relative to the folder of the YAML."""
    if "trained" in request.fixturenames:
        monkeypatch.chdir(request.getfixturevalue("trained")[0].parent)


def weights(run: Path) -> torch.Tensor:
    checkpoint = read_checkpoint(latest_checkpoint(run))
    return torch.cat(
        [t.flatten() for name, t in sorted(checkpoint.tensors["model"].items()) if "weight" in name]
    )


def test_the_committee_is_its_members(trained) -> None:
    """committee.pt gives the mean of the members, and the summary the errors of that mean."""
    config, summary = trained
    folder = config.parent / "run"
    members = [nnpkit.load(folder / f"member-{m:02d}") for m in range(3)]
    committee = nnpkit.load(folder / "committee.pt")
    structures = read(config.parent / "train.extxyz")
    division = divide(structures, SplitRule(validation=0.25, test=0.25), 5)
    tested = [
        np.mean([m.predict(structures[i]).forces for m in members], axis=0) - structures[i].forces
        for i in division.test
    ]
    assert summary["test"]["force_rmse"] == pytest.approx(np.sqrt(np.mean(np.square(tested))), rel=1e-9)
    assert all(
        json.loads((folder / f"member-{m:02d}" / "summary.json").read_text())["test"] is None
        for m in range(3)
    )
    errors, spreads = [], []
    for structure in [structures[i] for i in division.validation]:
        forces = np.array([m.predict(structure).forces for m in members])
        np.testing.assert_allclose(committee.predict(structure).forces, forces.mean(0), atol=1e-12)
        errors.append(forces.mean(0) - structure.forces)
        spreads.append(np.sqrt(((forces - forces.mean(0)) ** 2).sum(2).mean(0)))
    assert summary["validation"]["force_rmse"] == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-9)
    arrays = np.load(folder / "validation.npz")
    np.testing.assert_allclose(arrays["atom_force_std"], np.concatenate(spreads), atol=1e-10)
    np.testing.assert_allclose(arrays["force_std"], [s.max() for s in spreads], atol=1e-10)
    assert not torch.equal(weights(folder / "member-00"), weights(folder / "member-01"))


def test_a_member_is_what_it_would_be_alone(trained) -> None:
    """Sharing prepared data between processes changes nothing."""
    config, _ = trained
    member = config.parent / "run" / "member-01"
    structures = read("train.extxyz")
    division = divide(structures, SplitRule(validation=0.25, test=0.25), 5)
    for name, part in (("a", division.train), ("b", division.validation)):
        write(f"{name}.extxyz", [structures[i] for i in part])  # does not depend on the member's seed
    files = [
        "data.train=a.extxyz",
        "data.validation=b.extxyz",
        "data.validation_fraction=0",
        "data.test_fraction=0",
    ]
    nnpkit.train(load_config(member / "config.yaml", ["output=alone", *files]))
    alone = weights(Path("alone"))
    torch.testing.assert_close(alone, weights(member), rtol=0, atol=1e-12)


def test_a_committee_ended_as_its_members_did(trained) -> None:
    """After a time, or in several ways; not always after epochs."""
    config, summary = trained
    assert summary["ended"] == "epochs"
    timed = nnpkit.train(config, ["output=timed", "training={time: 1s, threads: 1}", "committee.members=2"])
    assert timed["ended"] == "time"


def test_only_what_is_missing_is_trained_again(trained) -> None:
    config, summary = trained
    folder = config.parent / "run"
    before = weights(folder / "member-02")
    shutil.rmtree(folder / "member-02")
    times = [(folder / f"member-{m:02d}" / "model.pt").stat().st_mtime_ns for m in (0, 1)]
    again = nnpkit.train(config, resume=True)
    assert again["test"] == summary["test"]
    assert torch.equal(weights(folder / "member-02"), before)
    assert [(folder / f"member-{m:02d}" / "model.pt").stat().st_mtime_ns for m in (0, 1)] == times
    with pytest.raises(InputError, match="member-00"):
        nnpkit.train(config)
    with pytest.raises(InputError, match="the checkpoint is of another run: seed differs"):
        nnpkit.train(config, ["seed=7"], resume=True)


@pytest.mark.parametrize(("kind", "distinct"), [("bootstrap", None), ("splits", 4)])
def test_members_see_different_data(tmp_path, kind, distinct) -> None:
    config = make_training(tmp_path, COMMITTEE % kind)
    nnpkit.train(config, ["training.epochs=0"])
    seen = []
    for m in range(3):
        seen.append(json.loads((tmp_path / "run" / f"member-{m:02d}" / "summary.json").read_text()))
    assert len({json.dumps(s["train"]["energy_rmse"]) for s in seen}) == 3
    if distinct is not None:
        assert {s["train"]["n_structures"] for s in seen} == {distinct}


def test_a_warm_start_goes_on_from_the_best_epoch(trained) -> None:
    """Before the first update, member m has the errors of member m of the run that it begins with."""
    config, summary = trained
    options = ["start={run: run}", "output=warm", "training.epochs=0"]
    warm = nnpkit.train(config, options)
    assert warm["test"]["force_rmse"] == pytest.approx(summary["test"]["force_rmse"], rel=1e-9)
    nnpkit.train(config, ["start={run: run/member-00}", "committee=null", "output=one", "training.epochs=1"])
    best = json.loads(Path("run/member-00/summary.json").read_text())["best_epoch"]
    new = read_checkpoint(latest_checkpoint(Path("one"))).tensors["update"]
    assert int(new["updates"]) == 6 * best + 6  # the covariance of the best epoch went on
    assert json.loads(Path("one/summary.json").read_text())["best_epoch"] == 1  # never the beginning
    nnpkit.train(
        config,
        [
            "start={run: run/member-00, covariance: false}",
            "committee=null",
            "output=two",
            "training.epochs=1",
        ],
    )
    assert int(read_checkpoint(latest_checkpoint(Path("two"))).tensors["update"]["updates"]) == 6


def test_there_must_be_something_to_begin_with(trained) -> None:
    config, _ = trained
    with pytest.raises(InputError, match=r"nowhere/member-00: no run to begin with"):
        nnpkit.train(config, ["start={run: nowhere}", "output=none"])
