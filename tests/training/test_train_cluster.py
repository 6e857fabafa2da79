"""Training cluster expansions: every optimizer learns all weights, and bad settings are said."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
import torch
from alloy import make_training
from rich.console import Console

from nnpkit.config.config_file import load_config
from nnpkit.deploy.load import load
from nnpkit.errors import InputError
from nnpkit.workflow.training_run import run_training

SMALL = (
    "model={kind: cluster_expansion, descriptor: {radial_channels: 2, radial_basis: 4, angular_channels: 2, "
    "angular_basis: 3, invariants: [[1, 1], [2, 2], [1, 1, 2]]}, network: {hidden: [4]}}"
)
NEP = (
    "model={kind: nep, descriptor: {n_max_radial: 2, n_max_angular: 1, basis_size_radial: 3, "
    "basis_size_angular: 3, l_max: 2}, network: {hidden: [4]}}"
)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    before = Path.cwd()
    yield make_training(tmp_path)
    os.chdir(before)


def train(config: Path, *overrides: str) -> dict:
    return run_training(load_config(config, list(overrides)), console=Console(file=io.StringIO()))


@pytest.mark.parametrize(
    ("model", "optimizer", "features"),
    [
        (SMALL, "{kind: ekf}", 8),
        (NEP, "{kind: ekf}", 9),
        (SMALL, "{kind: adam, learning_rate: 0.01, gradient_clip: null}", 8),
        (SMALL, "{kind: lbfgs, history: 9}", 8),
    ],
)
def test_learns(config: Path, model: str, optimizer: str, features: int) -> None:
    few = "training.epochs=2" if "adam" in optimizer else "training.epochs=3"
    if "lbfgs" in optimizer:
        few = "training={epochs: 1, threads: 1, schedule: {kind: full, steps_per_epoch: 8}}"
    summary = train(config, model, few, f"training.optimizer={optimizer}")
    first = float(Path("run/lcurve.txt").read_text().splitlines()[2].split()[5])
    assert summary["train"]["force_rmse"] < 0.9 * first
    loaded = load("run/model.pt")
    assert [len(r["min"]) for r in loaded.metadata["feature_ranges"].values()] == [features] * 2
    weights = dict(loaded.module.named_parameters())["model.descriptor.angular_weights"]
    assert not torch.equal(
        weights[0, 0], weights[1, 0]
    )  # centres of each element begin alike and learn their own
    assert float(loaded.module.model.scaling.factor.min()) != 1.0  # ranges are observed, the map is kept


def radial_weights(folder: str) -> torch.Tensor:
    return dict(load(f"{folder}/model.pt").module.named_parameters())["model.descriptor.radial_weights"]


def test_goes_on_with_frozen_radial_functions_as_member_and_as_correction(config: Path) -> None:
    train(config, SMALL, "training.epochs=1", "output=first")
    begun = radial_weights("first")
    train(config, SMALL, "training.epochs=1", "output=next", "start={run: first, freeze: [descriptor.*]}")
    assert torch.equal(radial_weights("next"), begun)
    train(config, SMALL, "training.epochs=1", "output=free", "start={run: first}")
    assert not torch.equal(radial_weights("free"), begun)
    train(
        config,
        SMALL,
        "training.epochs=1",
        "output=delta",
        "data.baseline={kind: model, file: first/model.pt}",
    )
    total = load("delta/model.pt")
    assert total.metadata["spec"]["kind"] == "total"
    assert total.metadata["spec"]["parts"][0]["kind"] == "cluster_expansion"
    train(config, SMALL, "training.epochs=1", "output=members", "committee={members: 2}")
    members = load("members/committee.pt")
    assert len(members.metadata["members"]) == 2


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("model.descriptor.invariants=[[1, 2]]", "is zero whatever the neighbours"),
        ("model.descriptor.invariants=[[1, 1], [1, 1]]", "is there twice"),
        (
            "model.descriptor.species_weights={Cu: 1.0}",
            "belongs to another kind of model; valid here: radial_cutoff",
        ),
        ("training.feature_derivatives=kept", "the descriptor of a cluster_expansion is trained"),
    ],
)
def test_bad_settings(config: Path, setting: str, expected: str) -> None:
    with pytest.raises(InputError) as raised:
        train(config, SMALL, setting)
    assert expected in str(raised.value)
