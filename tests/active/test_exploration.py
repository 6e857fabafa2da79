"""Exploration runs: the input, strained starts, and frames of runs that ended badly."""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from active_tools import shaken_copper
from ase.calculators.calculator import all_changes
from ase.calculators.emt import EMT

from nnpkit.active.assess import Assessment, Extrapolation
from nnpkit.active.explore_worker import _complete_frames, read_candidates, write_candidates
from nnpkit.active.explorers import ase_dynamics as exploration_ase
from nnpkit.active.explorers.runs import Condition, Exploration, exploration_input, prepare_run, strained
from nnpkit.active.selection import Bounds
from nnpkit.data.formats.extxyz import write_extxyz
from nnpkit.data.formats.reading import read
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.workflow.active_project import active_config_from_mapping


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
    text = prepared(tmp_path, Condition(), Exploration(input="fix w all nnpkit/watch 1 ${watch}\nrun 1\n"))
    assert text.endswith("fix w all nnpkit/watch 1 ${watch}\nrun 1\n")
    assert "variable watch string" in text
    assert "read_data" not in text


def test_npt_needs_a_periodic_start() -> None:
    (structure,) = shaken_copper(1)
    condition = asdict(Condition("npt", steps=1))
    job = {"condition": condition, "every": 1, "lower": 0.1, "upper": 1.0, "extrapolation": False,
           "min_distance": 1.0, "max_force": 1.0, "interval": 1, "max_frames": 1, "seed": 1, "timestep": 1.0,
           "model": "m"}  # fmt: skip
    with pytest.raises(InputError, match="npt needs a periodic structure"):
        exploration_input(structure.replace(pbc=np.zeros(3, bool)), ["Cu"], job)


def test_deformation(tmp_path) -> None:
    text = prepared(tmp_path, Condition(deformation=(1.1, 1.0, 0.95)))
    assert "fix             deform all deform 10 x scale 1.1 z scale 0.95 remap x" in text
    assert text.index("deform all") < text.index("run             ${steps}")


def test_deformation_goes_with_nvt() -> None:
    with pytest.raises(InputError, match="deformation goes with ensemble: nvt"):
        active_config_from_mapping(
            {
                "training": __file__,
                "exploration": {"conditions": [{"ensemble": "npt", "deformation": [1, 1, 2]}]},
            }
        )


class Unsure(EMT):
    """EMT that is unsure to the same degree of every atom, and more so in a larger cell."""

    def calculate(self, atoms=None, properties=("energy",), system_changes=tuple(all_changes)):
        super().calculate(atoms, properties, system_changes)
        self.results["forces_std"] = np.full(len(atoms), 0.01 * atoms.get_volume())


def ase_run(monkeypatch, condition: Condition, start: Structure | None = None, **job):
    monkeypatch.setattr(exploration_ase, "NnpkitCalculator", lambda model: Unsure())
    start = start or shaken_copper(1, scale=0.05)[0]
    given = {"condition": asdict(condition), "seed": 1, "every": 4, "interval": 8, "max_frames": 4, "max_force": 50.0,
             "min_distance": 1.5, "lower": 0.0, "upper": 9.0, "timestep": 2.0, **job}  # fmt: skip
    return start, *exploration_ase.run_ase(start, None, given)


def test_ase_deforms(monkeypatch) -> None:
    condition = Condition("nvt", (300.0, 300.0), steps=40, deformation=(1.1, 1.0, 0.95))
    start, frames, history, ended = ase_run(monkeypatch, condition)
    assert ended == "all steps done"
    assert len(frames) == 4  # as many as allowed, and 8 steps between them
    assert [f.info["step"] for f in frames] == [0, 8, 16, 24]
    np.testing.assert_allclose(
        history[[0, -1], 1], 0.01 * start.volume * np.array([1.0, 1.1 * 0.95]), rtol=1e-12
    )


def test_ase_follows_the_pressure(monkeypatch) -> None:
    condition = Condition("npt", (300.0, 300.0), (1.0, 400_000.0), steps=80)
    _, _, history, _ = ase_run(monkeypatch, condition)
    assert history[-1, 1] < 0.95 * history[0, 1]


def heavy_and_held(**more) -> Structure:
    """Four copper atoms, two of them isotopes, one of these fixed."""
    (structure,) = shaken_copper(1, scale=0.05)
    arrays = {"masses": np.array([63.5, 65.0, 63.5, 65.0]), "move_mask": np.array([1, 1, 1, 0])}
    return structure.replace(arrays={**arrays, **more})


def test_lammps_gets_masses_and_fixed_atoms(tmp_path) -> None:
    """Two types of copper; velocities, integration and the temperature that ends the run are of what moves."""
    start = heavy_and_held()
    model, bounds = tmp_path / "model" / "committee.pt", Bounds(0.1, 0.8, "")
    prepare_run(tmp_path / "run", start, Condition(), Exploration(), model, bounds, None, 7)
    data = (tmp_path / "run" / "structure.data").read_text()
    assert re.findall(r"^\s*\d+\s+(6[35]\.\d)", data, re.M) == ["63.5", "65.0"]
    text = (tmp_path / "run" / "in.lammps").read_text()
    assert 'variable elements string "Cu Cu"' in text
    assert "group           fixed id 4" in text
    assert "velocity        mobile create" in text
    assert "fix             integrate mobile nvt" in text
    assert 'too_hot equal "!(c_mobile_temp <' in text
    again = read(tmp_path / "run" / "start.xyz")[0]
    assert {name: list(value) for name, value in again.arrays.items()} == {
        "masses": [63.5, 65.0, 63.5, 65.0], "move_mask": [1, 1, 1, 0],
    }  # fmt: skip
    own = exploration_input(
        start, ["Cu", "Cu"], json.loads((tmp_path / "run" / "job.json").read_text()), "run 1\n"
    )
    assert 'variable fixed string "4"' in own


@pytest.mark.parametrize(
    ("condition", "more", "words"),
    [
        (Condition("npt"), {}, "atoms cannot be fixed where the cell changes"),
        (Condition(deformation=(1.1, 1.0, 1.0)), {}, "atoms cannot be fixed where the cell changes"),
        (Condition(), {"move_mask": np.zeros(4, int)}, "all atoms are fixed"),
        (Condition(), {"move_mask": np.array([[1, 1, 0]] * 4)}, "along some directions only"),
        (Condition(), {"masses": np.zeros(4)}, "not positive numbers"),
    ],
)
def test_a_start_that_cannot_be_respected_is_refused(tmp_path, condition, more, words) -> None:
    start = heavy_and_held(**more)
    with pytest.raises(InputError, match=words):
        prepare_run(tmp_path / "r", start, condition, Exploration(), tmp_path, Bounds(0.1, 0.8, ""), None, 7)
    assert not (tmp_path / "r").exists()


def test_ase_moves_what_is_free_with_its_mass(monkeypatch) -> None:
    seen = []
    look = exploration_ase._look
    monkeypatch.setattr(
        exploration_ase, "_look", lambda atoms, job: seen.append(atoms.copy()) or look(atoms, job)
    )
    start, _, _, ended = ase_run(monkeypatch, Condition(steps=8), start=heavy_and_held())
    assert ended == "all steps done"
    np.testing.assert_array_equal(seen[-1].get_masses(), start.arrays["masses"])
    moved = np.linalg.norm(seen[-1].positions - start.positions, axis=1)
    assert (moved > 1e-4).tolist() == [True, True, True, False]
    assert moved[3] == 0.0


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ({"upper": 0.2}, "run ends at step 0: a force disagreement of"),
        ({"max_force": 0.01}, "run ends at step 0: a force of"),
        ({"min_distance": 2.5}, "atoms at 2."),
    ],
)
def test_ase_ends_softly(monkeypatch, limit, words) -> None:
    _, frames, history, ended = ase_run(monkeypatch, Condition(steps=8), **limit)
    assert words in ended
    assert frames == []
    assert np.isinf(history[-1, 1])


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
