"""The reproductions: their pieces at tiny sizes, and tables that say what the recorded results say."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import nnpkit

ROOT = Path(__file__).resolve().parents[2]
HOME = ROOT / "examples" / "reproduce"
PAPERS = ("shao2021", "rlekf2023", "cooper2020", "tokita2023")
WATER = ROOT / "examples" / "water"


def load(path: Path, name: str) -> ModuleType:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module", autouse=True)
def path_of_common():
    before = list(sys.path)
    yield
    sys.path[:] = before


def script(paper: str) -> ModuleType:
    """``run.py`` of a paper."""
    return sys.modules.get(f"reproduce_{paper}") or load(HOME / paper / "run.py", f"reproduce_{paper}")


def small(clusters: int, **training: Any) -> dict[str, Any]:
    """Changes that make a training one of seconds."""
    return {"data": {"frames": f":{clusters}"}, "training": training}


@pytest.fixture
def clusters(tmp_path: Path) -> dict[str, str]:
    """A few clusters of water."""
    pool = [s for s in nnpkit.read(WATER / "train.xyz.xz") if s.n_atoms == 18]
    files = {}
    for part, frames in (("train", pool[:6]), ("validation", pool[-3:])):
        files[part] = str(tmp_path / f"{part}.xyz")
        from nnpkit.data.formats.reading import write

        write(files[part], frames)
    return files


def study(paper: str, folder: Path) -> Any:
    """An open `Study`."""
    module = script(paper)
    return module.Study(module.HERE, ["--quick", "--folder", str(folder)])


def curve(module: ModuleType, *rows: tuple[int, float, float]) -> Any:
    """A training of whose epochs only (updates, energy, force) are known."""
    point = sys.modules["common"].Point
    points = [point(n, u, e, f, 0.9 * e, 0.9 * f) for n, (u, e, f) in enumerate(rows)]
    best = points[-1]
    summary = {
        "validation": {
            "energy_rmse": best.energy_rmse,
            "force_rmse": best.force_rmse,
            "force_mae": best.force_rmse,
        }
    }
    return module.Training(Path("nowhere"), summary, points)


def test_settings_are_merged_and_kinds_replaced():
    script("shao2021")
    common = sys.modules["common"]
    old = {"a": {"kind": "x", "b": 1}, "c": {"d": 1, "e": 2}}
    assert common.merge(old, {"a": {"kind": "y"}, "c": {"d": 3}}) == {
        "a": {"kind": "y"},
        "c": {"d": 3, "e": 2},
    }
    assert old["c"]["d"] == 1


@pytest.mark.parametrize("paper", PAPERS)
def test_what_is_trained_is_what_the_schema_knows(paper: str, tmp_path: Path):
    from nnpkit.config.config_file import config_from_mapping

    values = study(paper, tmp_path).settings()
    config = config_from_mapping(values, HOME / paper)
    assert config.data.validation is not None


@pytest.mark.parametrize("paper", PAPERS)
def test_table_of_the_readme_is_that_of_the_recorded_result(paper: str):
    if not (HOME / paper / "result.json").exists():
        pytest.skip("not recorded")
    result = json.loads((HOME / paper / "result.json").read_text(encoding="utf-8"))
    script(paper)
    common = sys.modules["common"]
    assert common.recorded(HOME / paper) == common.table(result["claims"])
    assert result["study"] == paper
    for claim in result["claims"]:
        words, agrees = common.judge(claim["rule"], claim["numbers"])
        assert (claim["words"], claim["agrees"]) == (words, agrees), claim["claim"]


def test_table_is_recorded_between_the_marks(tmp_path: Path):
    script("shao2021")
    common = sys.modules["common"]
    (tmp_path / "README.md").write_text(
        f"before\n{common._BEGIN}\nold\n{common._END}\nafter\n", encoding="utf-8"
    )
    claim = common.shown(common.Claim("a | b", "1", "2", "cannot_tell", {"reason": "too short"}))
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "result.json").write_text("{}", encoding="utf-8")
    common.record(tmp_path, {"claims": [claim]}, tmp_path / "results")
    assert (tmp_path / "result.json").exists()
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "| a \\| b | 1 | 2 | too short | cannot tell |" in common.recorded(tmp_path)


def test_trainings_are_done_once_and_updates_are_timed_by_the_processor(
    tmp_path: Path, clusters, monkeypatch, capsys
):
    own = study("tokita2023", tmp_path / "results")
    change = {"data": clusters, "training": {"epochs": 1}}
    run = own.train("one", change)
    assert [p.epoch for p in run.curve] == [0, 1]
    assert run.force_rmse > 0.0
    cost = own.update_seconds(change, updates=3)
    assert cost > 0.0
    monkeypatch.setattr(nnpkit, "train", lambda *a, **k: pytest.fail("trained again"))
    monkeypatch.setattr(sys.modules["common"], "measure_update", lambda *a: pytest.fail("measured again"))
    assert own.train("one", change).summary == run.summary
    assert own.update_seconds(change, updates=3) == cost
    own.claim("c", "p", "h", "within_interval", here=[1.0], high=2.0)
    result = own.finish()
    last = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(last.removeprefix("RESULT "))["claims"] == result["claims"]
    assert result["claims"][0]["agrees"] is True


def test_time_of_updates_does_not_count_what_the_process_sleeps(tmp_path: Path, clusters, monkeypatch):
    own = study("tokita2023", tmp_path)
    common = sys.modules["common"]
    make = common.assemble.make_update

    def sleepy(*arguments: Any) -> Any:
        update = make(*arguments)
        apply = update.apply
        update.apply = lambda labels: (common.time.sleep(0.3), apply(labels))[1]
        return update

    monkeypatch.setattr(common.assemble, "make_update", sleepy)
    assert own.update_seconds({"data": clusters}, updates=2) < 0.25


def test_shao_measures_when_each_optimizer_is_at_a_target_that_both_reach():
    module = script("shao2021")
    adam = curve(module, (0, 9, 9), (100, 2.0, 0.2), (400, 0.9, 0.09), (1000, 1.0, 0.1))
    ekf = curve(module, (0, 9, 9), (50, 1.0, 0.1), (100, 0.5, 0.05))
    reached = module.when_reached({"adam": [adam] * 3, "ekf": [ekf] * 3}, 1.0)
    assert (reached.energy, reached.force) == (1.0, 0.1)
    assert reached.updates == {"adam": 400.0, "ekf": 50.0}
    assert module.quotient(reached, {"adam": 1.0, "ekf": 1.0}) == (8.0, False)
    assert module.quotient(reached, {"adam": 0.01, "ekf": 0.04}) == (2.0, False)


def test_shao_says_not_reached_and_gives_no_more_than_a_lower_bound():
    module = script("shao2021")
    one = {"adam": 1.0, "ekf": 1.0}
    never = module.Reached(1.0, 0.1, {"adam": np.inf, "ekf": 50.0}, {"adam": 1000.0, "ekf": 100.0})
    assert module.quotient(never, one) == (20.0, True)
    assert module.amount(never.updates["adam"], never.longest["adam"], "updates") == "not reached in 1000"
    judge = sys.modules["common"].judge
    bound = {"paper": 10.0, "factor": 2.0, "at_least": True}
    assert judge("within_factor", {"here": [20.0], **bound}).agrees is None
    assert judge("within_factor", {"here": [20.1], **bound}).agrees is False
    neither = never._replace(updates={"adam": 10.0, "ekf": np.inf})
    assert module.quotient(neither, one) == (None, False)
    assert not judge("within_factor", {"here": [None], "paper": 10.0, "factor": 2.0}).agrees


def test_shao_searches_a_rate_until_the_best_is_not_at_the_edge():
    module = script("shao2021")
    falling = module.search((1e-3, 1e-2), lambda rate: 1.0 / rate if rate < 0.5 else np.inf)
    assert list(falling) == pytest.approx([1e-3, 1e-2, 1e-1, 1.0])
    rising = module.search((1e2, 1e3, 1e4), lambda rate: abs(np.log10(rate)))
    assert list(rising) == pytest.approx([1e-1, 1e0, 1e1, 1e2, 1e3, 1e4])
    assert len(module.search((1.0, 10.0), lambda rate: -rate)) == module.MOST_RATES
    good, bad = curve(module, (0, 9, 9), (1, 1.0, 0.1)), curve(module, (0, 9, 9), (1, 1.0, 0.2))
    assert module.spread_over_rates({1.0: [bad], 10.0: [good], 100.0: [bad], 1000.0: [bad]}) == 2.0
    assert module.spread_over_rates({1.0: [bad], 10.0: [good]}) is None


def test_shao_claims_no_density_from_short_runs(tmp_path: Path, monkeypatch):
    module = script("shao2021")
    own = study("shao2021", tmp_path)
    monkeypatch.setattr(own, "simulate", lambda *a, **k: pytest.fail("simulated"))
    runs = {"adam": {1e-2: [curve(module, (0, 9, 9), (1, 1.0, 0.1))]}}
    assert module.densities(own, "water", {"steps": 39_000}, runs, "start", 300.0) == {}
    module.claims_of_density(own, "water", {})
    common = sys.modules["common"]
    assert [common.shown(claim)["agrees"] for claim in own.claims] == [None, None]


def test_shao_runs_through(tmp_path: Path, clusters, monkeypatch):
    module = script("shao2021")
    own = study("shao2021", tmp_path / "results")
    plan = {
        "frames": ":", "epochs": {"adam": 1, "ekf": 1}, "every": {"adam": 1, "ekf": 1}, "members": 1, "others": 1,
        "steps": 0, "batches": 4, "fisher_frames": 2,
    }  # fmt: skip
    monkeypatch.setattr(module, "MOST_RATES", 3)
    module.study_system(own, "water", plan, {**clusters, "frames": ":"}, "nowhere", 300.0)
    shown = [sys.modules["common"].shown(claim) for claim in own.claims]
    assert len(shown) == 2 * len(module.TARGETS) + 6
    assert own.figure("water.png").exists()
    assert all(rate > 0.0 for rate in own.numbers["water"]["update_seconds"].values())


def test_rlekf_runs_through(tmp_path: Path, clusters):
    module = script("rlekf2023")
    own = study("rlekf2023", tmp_path / "results")
    tiny = {"descriptor": {"embedding": [3], "axis_neurons": 2}, "network": {"hidden": [3, 3]}}
    plan = {"epochs": dict.fromkeys(module.FILTERS, 1), "lengths": (1, 2), "rates": (5e-3,), "model": tiny}
    runs, seconds = module.train_all(own, "water", plan, clusters)
    assert [len(group) for group in runs.values()] == [2, 1, 1, 1]
    module.claims(own, "water", runs, seconds)
    assert len(own.claims) == 12
    module.draw(own.figure(), runs, seconds, {"usual": (1e-3, 0.1)}, "water")
    assert own.figure().exists()


def test_rlekf_gives_adam_the_best_of_its_schedules_and_trains_from_given_shortcuts(tmp_path: Path, clusters):
    module = script("rlekf2023")
    runs = {
        "Adam": [
            curve(module, (0, 9, 9), (10, 1.3, 0.2), (20, 1.15, 0.12)),
            curve(module, (0, 9, 9), (40, 1.1, 0.10), (80, 1.1, 0.09)),
        ],
        "RLEKF, program": [curve(module, (0, 9, 9), (10, 1.0, 0.1))],
    }
    reached = module.to_target(runs, {"Adam": 0.1, "RLEKF, program": 2.0}, tuple(runs))
    assert reached["energy_rmse"]["Adam"] == (1.0, 20.0, pytest.approx(2.0))
    assert reached["force_rmse"]["Adam"] == (1.0, 40.0, pytest.approx(4.0))
    assert reached["force_rmse"]["RLEKF, program"] == (1.0, 10.0, pytest.approx(20.0))
    tiny = {"descriptor": {"embedding": [3], "axis_neurons": 2}, "network": {"hidden": [3, 3]}}
    own = study("rlekf2023", tmp_path / "results")
    errors = [module.train_from(own, {"model": tiny}, clusters, mean, 0.0) for mean in (0.1, 1.0)]
    assert np.isfinite(errors).all()
    assert errors[0] != errors[1]


def test_rlekf_trains_as_the_program_and_as_printed(tmp_path: Path):
    from nnpkit.config.config_file import config_from_mapping

    module = script("rlekf2023")
    own = study("rlekf2023", tmp_path)
    reductions = {}
    for name, settings in module.FILTERS.items():
        config = config_from_mapping(own.settings({"training": settings}), module.HERE)
        reductions[name] = (config.training.schedule.reduction, config.training.optimizer.prefactors)
    assert reductions["RLEKF, program"][1].force == 2.0
    assert reductions["RLEKF, printed"][1].force == 1.0
    assert reductions["RLEKF, printed"][0] == "signed_mean"
    assert reductions["EKF, vectors"][0] != "signed_mean"


def test_tokita_takes_only_the_largest_exponent_from_the_table_and_goes_on_exactly(tmp_path: Path, clusters):
    module = script("tokita2023")
    rows = module.exponents_from(module.implied_distances())
    for pair, row in rows.items():
        assert row[-1] == pytest.approx(module.TABLE_I[pair][-1], abs=1e-6)
    own = study("tokita2023", tmp_path / "results")
    own.base = module.Study.settings(own, {"data": clusters})
    runs = module.restarts(own, {"half": 1, "frames": ":"})
    module.claims_of_box3(own, runs["not interrupted"])
    common = sys.modules["common"]
    whole, between = (common.shown(claim)["agrees"] for claim in own.claims[:2])
    assert whole is None  # the shortest distances are not published
    assert between is False  # 0.002, and the table has three digits
    own.claims.clear()
    module.claims_of_restarts(own, runs, 1)
    assert common.shown(own.claims[0])["agrees"]
    assert [p.epoch for p in runs["weights only"].curve] == [0, 1, 2]


def test_cooper_learns_forces_in_every_way(tmp_path: Path, clusters):
    module = script("cooper2020")
    own = study("cooper2020", tmp_path / "results")
    plan = {"epochs": 1, "members": 1}
    for name, forces in module.METHODS.items():
        (run,) = module.train(own, plan, name, clusters, forces)
        assert module.mae([run]) > 0.0
    taylor = {"data": clusters, "training": {"force_training": module.METHODS["Taylor B"]}}
    assert own.update_seconds(taylor, updates=1) > 0.0


def test_benchmark_of_force_training_measures_a_method(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    module = load(ROOT / "benchmarks" / "force_training.py", "benchmark_force_training")
    import argparse

    options = argparse.Namespace(worker="taylor", optimizer="lbfgs", frames=2, seed=1, seconds=0.0, epochs=1)
    found = module.work(options)
    assert found["additional"] == 44
    assert found["after_epochs"]["force_rmse"] > 0.0
    assert found["memory_mb"] >= 0.0
    assert found["kept_mb"] == 0.0


@pytest.fixture
def race(monkeypatch) -> ModuleType:
    """``benchmarks/time_to_accuracy.py``."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return load(ROOT / "benchmarks" / "time_to_accuracy.py", "benchmark_time_to_accuracy")


def test_adam_counts_for_the_best_of_its_schedules_at_every_time(race):
    short = race.Run([race.Point(5.0, 1, 4.0, 0.4), race.Point(10.0, 2, 2.0, 0.3)], None, (0.02, 10.0))
    long = race.Run([race.Point(10.0, 2, 3.0, 0.2), race.Point(60.0, 9, 1.0, 0.1)], None, (0.01, 60.0))
    assert race.envelope([short, long], 4.0) == (np.inf, np.inf)
    assert race.envelope([short, long], 10.0) == (2.0, 0.2)  # of different runs
    assert race.earliest([short, long], 3.0, 0.3) == 10.0
    assert race.earliest([short, long], 1.5, 0.3) == 60.0
    assert race.earliest([short, long], 0.5, 0.3) == np.inf
    filtered = race.Run([race.Point(5.0, 0.1, 0.1, 0.5), race.Point(8.0, 0.2, 1.0, 0.04)], None)
    assert race.kept(filtered, 9.0) == (1.0, 0.04)  # of one moment, not the lowest of each
    result = race.compare({"adam": {1: [short, long]}, "sequential": {1: [filtered]}})
    assert result["sequential"]["errors_at"] == {5.0: (0.1, 0.5)}
    assert result["sequential"]["adam_there_after"] == {5.0: None}
    assert result["sequential"]["where_adam_ends_after"] == 8.0
    assert result["adam"]["best_rates"]["10"] == {"rate": 0.02, "of": [0.02], "at_the_edge": True}


def test_best_rate_at_the_edge_of_what_was_tried_is_said_to_be_there(race):
    runs = [
        race.Run([race.Point(10.0, 1, 1.0, error)], None, (rate, 10.0))
        for rate, error in ((0.01, 0.2), (0.02, 0.1), (0.05, 0.3))
    ]
    assert race.best_rate({1: runs})["10"] == {"rate": 0.02, "of": [0.01, 0.02, 0.05], "at_the_edge": False}
    assert race.best_rate({1: runs[:2]})["10"]["at_the_edge"]


def test_trajectories_of_the_race_are_cut_in_sequence(race, tmp_path: Path, monkeypatch):
    pool = nnpkit.read(WATER / "train.xyz.xz")[:40]
    (tmp_path / "pwmlff_Cu").mkdir()
    for number in (0, 1):
        (tmp_path / "pwmlff_Cu" / f"{number}.xyz.xz").touch()
    systems = sys.modules["deep_systems"]
    monkeypatch.setenv("NNPKIT_DATA", str(tmp_path))
    monkeypatch.setattr(systems, "load_dataset", lambda path: pool[20 * int(Path(path).name[0]) :][:20])
    train, validation, test = systems.load_system("cu72")
    assert [s.energy for s in train] == [s.energy for s in pool[:16] + pool[20:36]]
    assert [s.energy for s in validation] == [s.energy for s in pool[16:18] + pool[36:38]]
    assert [s.energy for s in test] == [s.energy for s in pool[18:20] + pool[38:]]
