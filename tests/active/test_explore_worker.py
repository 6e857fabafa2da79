"""Exploration in LAMMPS: runs that explode, and a LAMMPS that somebody kills."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from small_models import small_model
from test_charged_model import make_model

from nnpkit.active.explore_worker import main, read_candidates
from nnpkit.active.explorers.runs import Condition, Exploration, prepare_run
from nnpkit.active.selection import Bounds, Selection, select
from nnpkit.active.task import outcome, start_watcher
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import load
from nnpkit.deploy.metadata import model_metadata
from nnpkit.deploy.targets.committee_file import export_committee
from nnpkit.errors import InputError
from nnpkit.install.entry_point import PLUGIN, plugin_path


@pytest.fixture(scope="module")
def committee(tmp_path_factory) -> Path:
    """Two potentials that know nothing, where LAMMPS can run them."""
    if not Path(plugin_path(), PLUGIN).is_file():
        reason = "the LAMMPS plugin is not compiled (nnpkit build)"
        pytest.fail(reason) if os.environ.get("NNPKIT_REQUIRE_LAMMPS") else pytest.skip(reason)
    members = [small_model(seed=seed) for seed in (3, 4)]
    path = tmp_path_factory.mktemp("model") / "committee.pt"
    export_committee(members, [model_metadata(m) for m in members], path)
    return path


def water(n: int = 2, box: float = 8.0) -> Structure:
    """Water molecules on a grid."""
    molecule = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    corners = box / n * np.array([[i, j, k] for i in range(n) for j in range(n) for k in range(n)])
    positions = (corners[:, None] + molecule + 0.5).reshape(-1, 3)
    return Structure(["O", "H", "H"] * n**3, positions, np.eye(3) * box, np.ones(3, bool), name="water")


def prepared(folder: Path, committee: Path, condition: Condition, bounds: Bounds, **settings) -> Path:
    limits = {"max_frames": 6, **settings}
    exploration = Exploration(conditions=(condition,), every=2, interval=2, **limits)
    prepare_run(folder / "run", water(), condition, exploration, committee, bounds, None, seed=3)
    return folder / "run"


def report(folder: Path) -> dict:
    return json.loads((folder / "exploration.json").read_text())


def test_a_run_that_is_stretched(tmp_path, committee) -> None:
    condition = Condition("nvt", (30.0, 60.0), steps=20, deformation=(1.0, 1.0, 1.2))
    folder = prepared(tmp_path, committee, condition, Bounds(0.0, 1e9, ""), timestep=0.1, max_frames=20)
    main(folder)
    assert report(folder)["ended"] == "all steps done"
    found = read_candidates(folder)
    lengths = [c.structure.cell[2, 2] for c in found]
    assert lengths[0] == pytest.approx(8.0)
    assert lengths[-1] == pytest.approx(8.0 * 1.1)  # LAMMPS changes it every ten steps, after the frame
    assert found[-1].structure.cell[0, 0] == pytest.approx(8.0)


@pytest.mark.parametrize("capped", [True, False])
def test_a_run_that_explodes_keeps_what_was_good(tmp_path, committee, capped) -> None:
    """With a cap on forces it ends softly; without one LAMMPS fails, or ends the run that got too hot."""
    condition = Condition("nvt", (500.0, 500.0), steps=5000)
    limits = {"max_force": 30.0} if capped else {"max_force": 1e9}
    folder = prepared(tmp_path, committee, condition, Bounds(0.0, 1e9, ""), timestep=2.0, **limits)
    main(folder)
    found = report(folder)
    assert ("above" if capped else "LAMMPS failed") in found["ended"] or found["ended"] == "too hot"
    assert 0 < found["steps"] < 5000
    candidates = read_candidates(folder)
    assert len(candidates) > 0
    decisions = select(candidates, Bounds(0.0, 1e9, ""), Selection(max_force=30.0))
    assert all("predicted force" in d.reason for d in decisions if d.verdict == "too wild")


def lammps_of(folder: Path) -> list[int]:
    """Processes of LAMMPS that work in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "comm").read_text().strip() == "lmp" and (
                entry / "cwd"
            ).resolve() == folder.resolve():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_a_killed_lammps_begins_again(tmp_path, committee) -> None:
    """The frames are those of a run that nobody disturbed."""
    condition = Condition("nvt", (30.0, 30.0), steps=40)
    calm, wild = (
        prepared(tmp_path / name, committee, condition, Bounds(0.0, 1e9, ""), timestep=0.1)
        for name in ("calm", "wild")
    )
    main(calm)
    watcher = threading.Thread(target=start_watcher, args=(str(wild),))
    watcher.start()
    deadline = time.monotonic() + 300
    while not (running := lammps_of(wild)) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(running[0], signal.SIGKILL)
    watcher.join()
    assert (outcome(wild) or {})["code"] == 0, (wild / "log").read_text()
    assert report(wild)["history"] == report(calm)["history"]
    assert [c.key for c in read_candidates(wild)] == [c.key for c in read_candidates(calm)]


def test_an_input_whose_output_says_nothing_is_refused(tmp_path, committee) -> None:
    """Without disagreement and extrapolation nobody would know how much of the run was uncertain."""
    own = "units metal\nread_data structure.data\npair_style nnpkit every 0\npair_coeff * * ${model} ${elements}\n"
    own += "fix watch all nnpkit/watch ${every} ${watch}\nCOMPUTE\nfix 1 all nve\ntimestep ${timestep}\nrun ${steps}\n"
    old = "compute u all pair nnpkit\nthermo_style custom step c_u[1] c_u[5]\nthermo ${every}"
    new = "compute watched all nnpkit force_std_max extrapolations\n"
    new += "thermo_style custom step c_watched[1] c_watched[2]\nthermo ${every}"
    condition, bounds = Condition(steps=4), Bounds(0.0, 1e9, "")
    folder = prepared(tmp_path / "new", committee, condition, bounds, input=own.replace("COMPUTE", new))
    main(folder)
    assert report(folder)["looked"] == 3
    assert report(folder)["extrapolations"] > 0
    folder = prepared(tmp_path / "old", committee, condition, bounds, input=own.replace("COMPUTE", old))
    with pytest.raises(InputError, match=r"no column c_watched\[1\] .*needs: compute watched all nnpkit"):
        main(folder)


def test_members_with_charges_of_their_own_are_explored(tmp_path, committee) -> None:
    members = [make_model("latent", seed=seed) for seed in (4, 5)]
    for member in members:
        member.scaling.minimum.fill_(0.0)
        member.scaling.maximum.fill_(5.0)
    charged = tmp_path / "charged.pt"
    export_committee(members, [model_metadata(m) for m in members], charged)
    condition = Condition("nvt", (30.0, 30.0), steps=6)
    folder = prepared(tmp_path, charged, condition, Bounds(0.0, 1e9, ""), timestep=0.05)
    main(folder)
    assert report(folder)["ended"] == "all steps done"
    found, model = read_candidates(folder), load(charged)
    assert found
    for candidate in found:
        spread = model.predict(candidate.structure).disagreement.forces_std
        assert candidate.disagreement == pytest.approx(spread.max(), rel=1e-3)
