"""What tests of engines have in common: a model, a committee, structures, and the engine or a reason to skip."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from small_models import cluster, small_model, small_spec

from nnpkit.data.structure import Structure
from nnpkit.deploy.load import LoadedModel, load
from nnpkit.deploy.metadata import model_metadata
from nnpkit.deploy.targets.committee_file import export_committee
from nnpkit.deploy.targets.torchscript import export_model

WALL = {"O-O": 0.9, "H-O": 0.7, "H-H": 0.6}


def need(module: str, extra: str) -> None:
    """Skip where an engine is not installed."""
    if find_spec(module) is None:
        pytest.skip(f"{module} is not installed: pip install nnpkit[{extra}]")


def write_model(folder: Path) -> LoadedModel:
    """A potential as it is loaded from its file."""
    export_model(small_model(wall=WALL), folder / "model.pt")
    return load(folder / "model.pt")


def load_small(folder: Path) -> LoadedModel:
    """A potential of functions 2 and 3 only, without a repulsion: what CP2K knows of RuNNer's format."""
    functions = [f for f in small_spec()["functions"] if f["kind"] in ("G2", "G3")]
    export_model(small_model(functions=functions), folder / "small.pt")
    return load(folder / "small.pt")


def write_committee(folder: Path) -> LoadedModel:
    """A committee of two."""
    members = [small_model(seed=seed, wall=WALL) for seed in (3, 4)]
    export_committee(members, [model_metadata(m) for m in members], folder / "committee.pt")
    return load(folder / "committee.pt")


def frames(n: int = 3, periodic: bool = True) -> list[Structure]:
    """Structures of different sizes in small, skewed cells; atoms partly outside of them."""
    made = [cluster(6 + k, seed=k, periodic=periodic) for k in range(n)]
    return [s.replace(positions=s.positions + np.array([7.0, -3.0, 0.0])) for s in made]
