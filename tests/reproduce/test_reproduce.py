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
        from nnpkit.data.formats import write

        write(files[part], frames)
    return files


def study(paper: str, folder: Path) -> Any:
    """An open `Study`."""
    module = script(paper)
    return module.Study(module.HERE, ["--quick", "--folder", str(folder)])


def curve(module: ModuleType, *rows: tuple[int, float, float, float]) -> Any:
    """A training of whose epochs only (updates, seconds, energy, force) are known."""
    point = sys.modules["common"].Point
    points = [point(n, u, s, e, f, 0.9 * e, 0.9 * f) for n, (u, s, e, f) in enumerate(rows)]
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
    from nnpkit.config.load import config_from_mapping

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
    assert all(claim["agrees"] in (True, False, None) for claim in result["claims"])


def test_table_is_recorded_between_the_marks(tmp_path: Path):
    script("shao2021")
    common = sys.modules["common"]
    (tmp_path / "README.md").write_text(
        f"before\n{common._BEGIN}\nold\n{common._END}\nafter\n", encoding="utf-8"
    )
    claim = common.Claim("a | b", "1", "2", None)._asdict()
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "result.json").write_text("{}", encoding="utf-8")
    common.record(tmp_path, {"claims": [claim]}, tmp_path / "results")
    assert (tmp_path / "result.json").exists()
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "| a \\| b | 1 | 2 | cannot tell |" in common.recorded(tmp_path)


def test_trainings_are_done_once_and_time_leaves_out_evaluations(
    tmp_path: Path, clusters, monkeypatch, capsys
):
    own = study("tokita2023", tmp_path / "results")
    change = {"data": clusters, "training": {"epochs": 1}}
    run = own.train("one", change)
    assert [p.epoch for p in run.curve] == [0, 1]
    assert run.curve[0].seconds == 0.0
    assert run.force_rmse > 0.0
    monkeypatch.setattr(nnpkit, "train", lambda *a, **k: pytest.fail("trained again"))
    assert own.train("one", change).summary == run.summary
    own.claim("c", "p", "h", True)
    result = own.finish()
    last = capsys.readouterr().out.splitlines()[-1]
    assert json.loads(last.removeprefix("RESULT "))["claims"] == result["claims"]


def test_shao_compares_updates_time_and_rates():
    module = script("shao2021")
    adam = curve(module, (0, 0, 9, 9), (100, 1.0, 2.0, 0.2), (1000, 10.0, 1.0, 0.1))
    ekf = curve(module, (0, 0, 9, 9), (50, 4.0, 1.0, 0.1), (100, 8.0, 0.5, 0.05))
    worse = curve(module, (0, 0, 9, 9), (50, 4.0, 1.0, 0.2))
    found = {
        "adam": dict(zip(module.RATES["adam"], ([worse], [adam], [adam]), strict=True)),
        "ekf": dict(zip(module.RATES["ekf"], ([ekf], [ekf], [ekf]), strict=True)),
    }
    assert module.sooner(found) == pytest.approx((20.0, 2.5))
    assert module.spread_over_rates(found, "adam") == pytest.approx(2.0)
    assert module.spread_over_rates(found, "ekf") == 1.0


def test_rlekf_finds_the_target_and_trains_from_given_shortcuts(tmp_path: Path, clusters):
    module = script("rlekf2023")
    runs = {
        "Adam": curve(module, (0, 0, 9, 9), (10, 5.0, 1.3, 0.2), (20, 10.0, 1.1, 0.12)),
        "RLEKF": curve(module, (0, 0, 9, 9), (10, 8.0, 1.0, 0.1)),
    }
    reached = module.to_target(runs, ("Adam", "RLEKF"))
    assert reached["energy_rmse"]["Adam"] == (2, 10.0, 20)
    assert reached["force_rmse"]["RLEKF"] == (1, 8.0, 10)
    assert module.shown(module.ratio(np.inf, 1.0)) == "Adam never"
    tiny = {"descriptor": {"embedding": [3], "axis_neurons": 2}, "network": {"hidden": [3, 3]}}
    own = study("rlekf2023", tmp_path / "results")
    errors = [module.train_from(own, {"model": tiny}, clusters, mean, 0.0) for mean in (0.1, 1.0)]
    assert np.isfinite(errors).all()
    assert errors[0] != errors[1]


def test_tokita_recomputes_the_table_and_goes_on_exactly(tmp_path: Path, clusters):
    module = script("tokita2023")
    for pair, row in module.default_exponents().items():
        assert row == pytest.approx(module.TABLE_I[pair], abs=2.5e-3)
    own = study("tokita2023", tmp_path / "results")
    own.base = module.Study.settings(own, {"data": clusters})
    runs = module.restarts(own, {"half": 1, "frames": ":"})
    module.claims_of_restarts(own, runs, 1)
    assert own.claims[0].agrees
    assert [p.epoch for p in runs["weights only"].curve] == [0, 1, 2]


def test_cooper_learns_forces_in_every_way(tmp_path: Path, clusters):
    module = script("cooper2020")
    own = study("cooper2020", tmp_path / "results")
    plan = {"epochs": 1, "members": 1}
    for name, forces in module.METHODS.items():
        (run,) = module.train(own, plan, name, clusters, forces)
        assert module.mae([run]) > 0.0
    assert module.per_epoch(own, clusters, module.METHODS["Taylor B"], 1) > 0.0


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
