"""`nnpkit tune`: what is tried, what leaves, what is chosen, and what is refused."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from alloy import write_alloy
from argon import needs_lammps
from typer.testing import CliRunner

import nnpkit
from nnpkit.cli.main import app
from nnpkit.config.config_file import config_from_mapping, load_config
from nnpkit.data.formats.reading import read
from nnpkit.errors import InputError
from nnpkit.md.lammps import pair_commands
from nnpkit.md.lammps_run import SimulationError
from nnpkit.md.step_cost import step_cost, system_of_size
from nnpkit.workflow import tuning
from nnpkit.workflow.learned_labels import CHOSEN_CUTOFF
from nnpkit.workflow.tuning import Goal, tune
from nnpkit.workflow.tuning_ladder import LADDERS, candidates


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("tune"))
    write_alloy(Path("a.extxyz"), 12, gold=(0,))
    yield
    os.chdir(before)


COSTS = {"acsf-small": 3.0, "acsf-small-short": 2.0, "acsf-medium": 6.0, "acsf-medium-short": 4.0,
         "acsf-large": 9.0, "acsf-large-short": 8.0}  # fmt: skip
ERRORS = {"acsf-small": 0.3, "acsf-small-short": 0.5, "acsf-medium": 0.1, "acsf-medium-short": 0.2,
          "acsf-large": 0.05, "acsf-large-short": 0.4}  # fmt: skip


@pytest.fixture
def by_table(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, float]]:
    """Trainings and measurements by the tables above; what was trained, and for how long."""
    done: list[tuple[str, float]] = []

    def trained(settings: Any, trial: Any, seconds: float, folder: Path, number: int) -> dict[str, Any]:
        name = trial.candidate.name
        done.append((name, seconds))
        run = folder / "trainings" / f"{name}-{number + 1}"
        run.mkdir(parents=True, exist_ok=True)
        (run / "model.pt").write_text(name)
        errors = {"force_rmse": ERRORS[name], "energy_rmse": 0.001}
        return {"seconds": seconds, "folder": f"trainings/{run.name}", "failure": None, "error": ERRORS[name],
                "train": errors, "validation": errors, "test": None}  # fmt: skip

    monkeypatch.setattr(tuning, "_train", trained)
    monkeypatch.setattr(tuning, "_cost", lambda file, system, precision: COSTS[file.read_text()])
    return done


def quiet(line: str) -> None:
    """Nothing is said."""


def search(goal: Goal, output: str) -> dict[str, Any]:
    needs_lammps()
    return tune({"train": ["a.extxyz"]}, goal, output, ["acsf"], say=quiet)


def test_the_best_within_the_budget_survives_all_rounds(by_table: list) -> None:
    found = search(Goal(budget=6.5, seconds=100.0), "budget")
    # six trainings of t and three of 2 t: t = 100 / 12
    assert [round(seconds, 3) for _, seconds in by_table] == [8.333] * 6 + [16.667] * 3
    assert {name for name, _ in by_table[6:]} == {"acsf-medium", "acsf-medium-short", "acsf-small"}
    assert found["chosen"] == "acsf-medium"
    assert found["front"] == [
        "acsf-small-short",
        "acsf-small",
        "acsf-medium-short",
        "acsf-medium",
        "acsf-large",
    ]
    left = {row["name"]: row["left"] for row in found["rows"]}
    assert left["acsf-large"] == left["acsf-large-short"] == "above 6.5 us/atom/step"
    assert left["acsf-small-short"] == "others were better"
    assert left["acsf-medium"] is left["acsf-small"] is None
    assert Path("budget/model.pt").read_text() == "acsf-medium"
    page = Path("budget/tune.html").read_text()
    assert "acsf-medium-short" in page
    assert "<img" in page
    chosen = yaml.safe_load(Path("budget/chosen.yaml").read_text())
    assert chosen["training"] == {"time": "17s"}
    config = load_config("budget/chosen.yaml")
    assert config.model.kind == "acsf"
    assert Path(config.data.train[0]).name == "a.extxyz"
    assert json.loads(Path("budget/tune.json").read_text())["chosen"] == "acsf-medium"


def test_the_cheapest_that_reaches_the_target(by_table: list) -> None:
    assert search(Goal(target=0.25, seconds=100.0), "target")["chosen"] == "acsf-medium-short"


@pytest.mark.parametrize(
    ("goal", "words"),
    [(Goal(budget=1.0, seconds=100.0), "is within 1 us/atom/step: the cheapest, acsf-small-short, takes 2.00"),
     (Goal(target=0.01, seconds=100.0), "no candidate has an error of 0.01: the best, acsf-large, has 0.0500")],
)  # fmt: skip
def test_what_is_out_of_reach_is_said_with_the_nearest(by_table: list, goal: Goal, words: str) -> None:
    with pytest.raises(InputError, match=words):
        search(goal, "unreached")
    assert json.loads(Path("unreached/tune.json").read_text())["chosen"] is None
    assert not Path("unreached/model.pt").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.extxyz"], "one of --budget and --target"), (["a.extxyz", "--budget", "1", "--target", "1"], "one of"),
        (["a.extxyz", "--budget", "0"], "budget is 0"), (["a.extxyz", "--budget", "nan"], "budget is nan"),
        (["a.extxyz", "--budget", "5", "--precision", "half"], "float64 or mixed"),
        (["a.extxyz", "--budget", "5", "--families", "snap"], "'snap'"),
        (["a.extxyz", "--budget", "5", "--families", "acsf acsf"], "each once"),
        (["a.extxyz", "--budget", "5", "--time", "3s"], "at least"),
        (["a.extxyz", "--budget", "5", "--time", "soon"], "soon"),
        (["none.extxyz", "--budget", "5"], "none.extxyz"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(arguments: list[str], words: str) -> None:
    result = CliRunner().invoke(app, ["tune", *arguments, "-o", "refused"])
    assert result.exit_code != 0
    assert words in result.output
    assert not Path("refused").exists()


@pytest.mark.parametrize("kind", LADDERS)
def test_every_rung_is_a_model_that_can_be_trained(kind: str) -> None:
    own = candidates([kind])
    assert len({c.name for c in own}) == 2 * len(LADDERS[kind]) >= 6
    cutoffs = set()
    for candidate in own:
        config = config_from_mapping({"data": {"train": "a.extxyz"}, "model": candidate.model})
        descriptor = config.model.descriptor
        cutoffs.add(getattr(descriptor, "cutoff", None) or descriptor.radial_cutoff or CHOSEN_CUTOFF)
    assert len(cutoffs) == 2
    assert min(cutoffs) == pytest.approx(0.8 * max(cutoffs))


def test_systems_are_repeated_along_periodic_directions() -> None:
    frame = read("a.extxyz")[0]
    assert system_of_size(frame, 4).n_atoms == 4
    large = system_of_size(frame, 100)
    assert large.n_atoms == 108
    assert sorted(set(large.symbols)) == ["Cu"]
    assert system_of_size(frame.replace(pbc=False, stress=None), 100).n_atoms == 4


def test_one_search_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the ladder is replaced: two models, trained and timed."""
    needs_lammps()
    small = {"radial": 3, "zetas": [1.0], "cutoff": 4.0}
    ladder = {"acsf": {"small": {"descriptor": small, "network": {"hidden": [3]}}}}
    monkeypatch.setattr("nnpkit.workflow.tuning_ladder.LADDERS", ladder)
    monkeypatch.setattr(tuning, "_LEAST_SECONDS", 0.1)
    monkeypatch.setattr(tuning, "_ATOMS", 100)
    result = CliRunner().invoke(
        app, ["tune", "a.extxyz", "--budget", "1000", "--time", "1s", "--families", "acsf", "-o", "real"]
    )
    assert result.exit_code == 0, result.output
    assert "chosen: acsf-small" in result.output
    found = json.loads(Path("real/tune.json").read_text())
    assert all(0.01 < row["us_per_atom_step"] < 1000.0 for row in found["rows"])
    assert all(row["rounds"][0]["validation"]["force_rmse"] > 0.0 for row in found["rows"])
    frame = read("a.extxyz")[0]
    assert abs(nnpkit.load("real/model.pt").predict(frame).energy) > 0.1
    potential = Path("real/model.pt")
    with pytest.raises(SimulationError, match="nonsense"):
        step_cost(frame, ["pair_style nonsense"], {})
    files = {"model.pt": potential.read_bytes()}
    assert step_cost(frame, pair_commands("model.pt", ["Cu"]), files, steps=5) > 0.0
