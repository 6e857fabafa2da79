"""Exploration runs: the input, strained starts, and frames of runs that ended badly."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from active_tools import shaken_copper

from nnpkit.active.assess import Assessment, Extrapolation
from nnpkit.active.exploration import Condition, Exploration, exploration_input, prepare_run, strained
from nnpkit.active.explore_worker import _complete_frames, read_candidates, write_candidates
from nnpkit.active.selection import Bounds
from nnpkit.data.formats_extxyz import write_extxyz
from nnpkit.errors import InputError


def prepared(folder: Path, condition: Condition, exploration: Exploration | None = None) -> str:
    (structure,) = shaken_copper(1)
    prepare_run(
        folder / "run", structure, condition, exploration or Exploration(), folder / "model" / "committee.pt",
        Bounds(0.1, 0.8, ""), {"Cu-Cu": 2.0}, seed=7,
    )  # fmt: skip
    return (folder / "run" / "in.lammps").read_text()


def test_the_input_watches_and_ramps(tmp_path) -> None:
    text = prepared(tmp_path, Condition("npt", (300.0, 600.0), (1.0, 5000.0), 800))
    assert "watch force_std_max 0.1 0.8 watch extrapolations 1 INF min_distance 1.4 max_force 50" in text
    assert "variable temperature_stop index 600" in text
    assert (
        "npt temp ${temperature_start} ${temperature_stop} 0.1 aniso ${pressure_start} ${pressure_stop} 1.0"
        in text
    )
    assert 'variable model string "../model/committee.pt"' in text
    assert "variable seed index 7" in text
    job = json.loads((tmp_path / "run" / "job.json").read_text())
    assert job["condition"]["steps"] == 800
    assert (tmp_path / "run" / "structure.data").exists()


def test_a_prepared_run_is_left_as_it_is(tmp_path) -> None:
    first = prepared(tmp_path, Condition(steps=800))
    assert prepared(tmp_path, Condition(steps=900)) == first


def test_an_input_of_the_user_gets_the_variables(tmp_path) -> None:
    text = prepared(tmp_path, Condition(), Exploration(input="pair_style nnpkit ${watch}\nrun 1\n"))
    assert text.endswith("pair_style nnpkit ${watch}\nrun 1\n")
    assert "variable watch string" in text
    assert "read_data" not in text


def test_npt_needs_a_periodic_start() -> None:
    (structure,) = shaken_copper(1)
    job = {"condition": {"ensemble": "npt", "temperature": (1, 1), "pressure": (1, 1), "steps": 1}, "every": 1,
           "lower": 0.1, "upper": 1.0, "extrapolation": False, "min_distance": 1.0, "max_force": 1.0, "interval": 1,
           "max_frames": 1, "seed": 1, "timestep": 1.0, "model": "m"}  # fmt: skip
    with pytest.raises(InputError, match="npt needs a periodic structure"):
        exploration_input(structure.replace(pbc=np.zeros(3, bool)), ["Cu"], job)


def test_strain_is_a_homogeneous_deformation() -> None:
    (structure,) = shaken_copper(1)
    moved = strained(structure, 0.05, np.random.default_rng(1))
    fractional = [np.linalg.solve(s.cell.T, s.positions.T) for s in (structure, moved)]
    np.testing.assert_allclose(*fractional, atol=1e-12)
    strain = np.linalg.solve(structure.cell, moved.cell) - np.eye(3)
    np.testing.assert_allclose(strain, strain.T, atol=1e-12)
    assert 0.0 < np.abs(strain).max() <= 0.05
    assert strained(structure, 0.0, np.random.default_rng(1)) is structure


@pytest.mark.parametrize(("cut", "frames"), [(0, 3), (5, 2), (150, 2), (10_000, 0)])
def test_frames_of_a_run_that_was_killed(tmp_path, cut, frames) -> None:
    """What was written whole is kept, the rest is not."""
    path = tmp_path / "watch.xyz"
    write_extxyz(path, shaken_copper(3))
    text = path.read_text()
    path.write_text(text[: max(0, len(text) - cut)])
    assert len(_complete_frames(path)) == frames
    assert _complete_frames(tmp_path / "none.xyz") == []


def test_candidates_come_back_as_they_were(tmp_path) -> None:
    outside = Extrapolation("Cu", "G2", 0.3, 2)
    written = [
        Assessment(
            s, f"{k}", -1.0, 2.0, 0.3, None, outside if k else None, {"Cu-Cu": 2.1}, np.arange(3.0) + k
        )
        for k, s in enumerate(shaken_copper(2))
    ]
    write_candidates(tmp_path, written)
    for a, b in zip(written, read_candidates(tmp_path), strict=True):
        assert (a.key, a.name, a.disagreement, a.extrapolation) == (
            b.key,
            b.name,
            b.disagreement,
            b.extrapolation,
        )
        np.testing.assert_array_equal(a.vector, b.vector)
        np.testing.assert_array_equal(a.structure.positions, b.structure.positions)
    (tmp_path / "empty").mkdir()
    write_candidates(tmp_path / "empty", [])
    assert read_candidates(tmp_path / "empty") == []
