"""Training, validation and test set in a training: what decides, what is only reported, what is said."""

from __future__ import annotations

import io
import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from alloy import make_training, write_alloy
from ase.build import bulk
from rich.console import Console

from nnpkit.config.config_file import load_config
from nnpkit.data.checks.suspicious import Finding
from nnpkit.data.formats.reading import read, write
from nnpkit.data.notes import DataWarning
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import load
from nnpkit.errors import InputError
from nnpkit.training.model_errors import deciding, monitored
from nnpkit.training.updates import KalmanUpdate
from nnpkit.workflow.assemble import load_data
from nnpkit.workflow.data_sets import read_sets, without_outliers, without_unlearnt_atoms
from nnpkit.workflow.training_run import run_training

THREE = "data.test_fraction=0.25"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    before = Path.cwd()
    yield make_training(tmp_path)
    os.chdir(before)


def train(config: Path, *overrides: str, **options: Any) -> tuple[dict[str, Any], str]:
    """The summary and what was printed."""
    console = Console(file=(output := io.StringIO()), width=200)
    return run_training(load_config(config, overrides), console=console, **options), output.getvalue()


def files(run: str) -> dict[str, Any]:
    """Weights, learning curve and metrics of a run, without its times."""
    metrics = [json.loads(line) for line in Path(run, "metrics.jsonl").read_text().splitlines()]
    tensors = {p.parent.name: p.read_bytes() for p in Path(run, "checkpoints").rglob("state.safetensors")}
    lines = np.delete(np.loadtxt(Path(run, "lcurve.txt")), 2, axis=1)
    return {"metrics": [m | {"seconds": 0} for m in metrics], "tensors": tensors, "lines": lines.tolist()}


def test_the_test_set_touches_nothing(config: Path) -> None:
    """Other test structures, farther apart and with absurd labels: the same training to the last bit."""
    write_alloy(Path("test.extxyz"), frames=4, seed=8)
    absurd = [
        s.replace(energy=1e3, positions=1.3 * s.positions, cell=1.3 * s.cell) for s in read("test.extxyz")
    ]
    write("absurd.extxyz", absurd)
    first, _ = train(config, "data.test=test.extxyz", "output=first")
    second, _ = train(config, "data.test=absurd.extxyz", "output=second")
    assert files("first") == files("second")
    assert first["test"] != second["test"]
    assert {k: first[k] for k in ("train", "validation")} == {k: second[k] for k in ("train", "validation")}
    assert all(
        set(line) & {"train", "validation", "test"} == {"train", "validation"}
        for line in files("first")["metrics"]
    )
    assert "test" not in Path("first/lcurve.txt").read_text()
    model = load("first")
    errors = np.concatenate([(model.predict(s).forces - s.forces).ravel() for s in read("test.extxyz")])
    assert first["test"]["force_rmse"] == pytest.approx(np.sqrt(np.mean(errors**2)), rel=1e-9)
    assert model.metadata["training"]["test"] == first["test"]


def test_the_test_set_is_evaluated_once(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nnpkit.workflow import errors_of_groups as run

    calls: list[int] = []
    original = run.validation_report
    monkeypatch.setattr(run, "validation_report", lambda *a: (calls.append(len(a[1])), original(*a))[1])
    summary, output = train(config, THREE)
    assert calls == [3]
    sizes = [summary[name]["n_structures"] for name in ("train", "validation", "test")]
    assert sizes == [6, 3, 3]
    assert (
        "sets: train 6, validation 3, test 3 frames (auto: no trajectory recognised, structures at random)"
        in output
    )
    assert (
        f"Tested on 3 structures that decided nothing: energy RMSE, eV/atom {summary['test']['energy_rmse']:.3g}"
        in output
    )
    report = json.loads(Path("run/data.json").read_text())
    assert report["rule"]["frames"] == {"train": 6, "validation": 3, "test": 3}
    assert sorted(name for part in report["split"].values() for name in part) == sorted(
        f"{config.parent}/train.extxyz#{k}" for k in range(12)
    )


def test_validation_chooses_the_best_epoch(config: Path) -> None:
    write_alloy(Path("own.extxyz"), frames=4, seed=11)
    summary, output = train(
        config,
        "data.validation=own.extxyz",
        "data.validation_fraction=0",
        THREE,
        "training.optimizer={kind: adam}",
    )
    lines = np.loadtxt("run/lcurve.txt")
    assert summary["best_epoch"] == int(np.argmin(lines[:, 4] * lines[:, 6]))
    assert summary["validation"]["n_structures"] == 4
    assert "validation from files" in output


def test_nothing_is_tested_without_a_test_set(config: Path) -> None:
    summary, output = train(config)
    assert summary["test"] is None
    assert "no test: nothing will be tested" in output
    assert "Nothing was tested" in output
    summary, output = train(config, "data.frames=:4", "output=few")
    assert (summary["test"], "validation" in summary) == (None, False)
    assert summary["train"]["n_structures"] == 4
    assert "4 different structures are too few to take any away" in output
    assert "training errors choose the best epoch" in output


def test_a_test_that_is_none(config: Path) -> None:
    _, output = train(config, "data.test=train.extxyz")
    assert "9 test structures are in the train data too" in output
    assert "3 test structures are in the validation data too" in output
    assert "Tested on 12 structures of which 12 are in the other sets too, which is no test" in output
    assert "decided nothing" not in output


def test_validation_that_was_learnt_is_named(config: Path) -> None:
    write("own.extxyz", read("train.extxyz")[:3])
    sets = read_sets(load_config(config, ["data.validation=own.extxyz", "data.validation_fraction=0"]))
    (note,) = [note for note in sets.notes if "Warning" in note]
    assert "3 validation structures are in the train data too" in note
    assert "they cannot tell the best epoch" in note
    assert sets.rule["tested_elsewhere"] == 0


def test_a_test_set_without_labels_tests_nothing(config: Path) -> None:
    write("own.extxyz", [s.replace(energy=None, forces=None, stress=None) for s in read("train.extxyz")[:3]])
    _, output = train(config, "data.test=own.extxyz", "training.epochs=1")
    assert "Nothing was tested: no test structure has energies or forces" in output


def test_a_trajectory_spread_at_random_is_named(config: Path) -> None:
    """The same frames 0.02 Å apart: `random` spreads them and says so; `auto` and `sequential` do not."""
    start = read("train.extxyz")[:2]
    steps = [0.02 * k * np.array([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0]]) for k in range(6)]
    write("train.extxyz", [s.replace(positions=s.positions + step) for s in start for step in steps])

    def spread(kind: str) -> tuple[list[str], int]:
        sets = read_sets(load_config(config, [f"data.split={kind}", THREE]))
        return [note for note in sets.notes if "spreads" in note], sets.rule["spread"]

    assert spread("auto") == spread("sequential") == ([], 0)
    (note,), number = spread("random")
    assert number == 2
    assert note == (
        "Warning: data.split=random spreads the sequential frames of 2 trajectories over the sets, so that validation "
        "and test errors are too good; set data.split=auto, which keeps them together or cuts them in sequence"
    )
    assert "spreads the sequential frames of 2 trajectories" in train(config, "data.split=random", THREE)[1]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["data.split=by_group"], "split: by_group and group go together"),
        (["data.group=file"], "split: by_group and group go together"),
        (["data.validation_fraction=0.5", "data.test_fraction=0.5"], "leave nothing to train on"),
        (["data.split=by_group", "data.group=kind"], "the frame has no 'kind'"),
        (["data.validation=none.xyz", "data.validation_fraction=0"], "there is no none.xyz"),
    ],
)
def test_bad_settings(config: Path, overrides: list[str], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        train(config, *overrides)
    assert not Path("run").exists()


def interrupt(
    config: Path, monkeypatch: pytest.MonkeyPatch, update: int, *overrides: str
) -> tuple[dict[str, Any], str]:
    """Train until a signal comes in an update."""
    original, calls = KalmanUpdate.apply, []

    def apply(self: Any, labels: Any) -> dict[str, float]:
        calls.append(1)
        if len(calls) == update:
            signal.raise_signal(signal.SIGTERM)
        return original(self, labels)

    with monkeypatch.context() as patch:
        patch.setattr(KalmanUpdate, "apply", apply)
        return train(config, *overrides)


def test_an_interrupted_training_exports_what_is_best(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, _ = train(config, "output=whole")
    summary, output = interrupt(config, monkeypatch, 8)  # of the nine of the first epoch
    before = json.loads(Path("run/metrics.jsonl").read_text().splitlines()[0])["validation"]
    assert (summary["ended"], summary["epochs"], summary["best_epoch"]) == ("SIGTERM", 0, 0)
    assert (summary["exported"], summary["untrained"]) == ("last update", False)
    assert "the last weights are the best" in output
    assert summary["validation"]["force_rmse"] < before["force_rmse"]
    model = load("run/model.pt")
    names = set(json.loads(Path("run/data.json").read_text())["split"]["validation"])
    errors = [
        model.predict(s).forces - s.forces
        for s in read("train.extxyz")
        if f"{config.parent}/{s.name}" in names
    ]
    assert summary["validation"]["force_rmse"] == pytest.approx(np.sqrt(np.mean(np.square(errors))), rel=1e-9)
    resumed, _ = train(config, resume=True)
    assert resumed | {"seconds": 0} == whole | {"seconds": 0}
    assert files("run")["lines"] == files("whole")["lines"]


def test_an_untrained_potential_is_called_so(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "nnpkit.training.trainer.Trainer._judge_the_last", lambda self: None
    )  # it was no better
    summary, output = interrupt(config, monkeypatch, 1)
    assert summary["untrained"] is True
    assert "Warning: this potential is not trained: model.pt has the energies of the elements alone" in output
    assert "interrupted too early" in output
    summary, output = train(config, "training.epochs=0", "output=none")
    assert summary["untrained"] is True
    assert "model.pt has random weights of epoch 0, because no epoch was better on validation" in output
    summary, output = train(config, "output=some")
    assert (summary["untrained"], summary["exported"]) == (False, "best epoch")
    assert "not trained" not in output


def test_the_rounding_of_zero_forces_decides_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A volume scan: forces vanish by symmetry, the energies choose the best epoch."""
    from ase.calculators.emt import EMT

    monkeypatch.chdir(tmp_path)
    scan = []
    for k, a in enumerate(np.linspace(3.5, 3.8, 12)):
        atoms = bulk("Cu", cubic=True, a=a)
        atoms.calc = EMT()
        noise = 1e-16 * np.random.default_rng(k).normal(size=(4, 3))
        scan.append(Structure(list(atoms.symbols), atoms.positions, atoms.cell.array, [True] * 3,
                              energy=atoms.get_potential_energy(), forces=noise))  # fmt: skip
    assert deciding(scan) == {"energy_rmse"}
    assert deciding([s.replace(forces=s.forces + 1e-3) for s in scan]) == {"energy_rmse", "force_rmse"}
    assert deciding([s.replace(energy=None, forces=None) for s in scan]) == set()
    errors = {"energy_rmse": 4e-3, "force_rmse": 1e-16}
    assert monitored(errors, "energy_force", deciding(scan)) == 4e-3
    write("scan.extxyz", scan)
    settings = {
        "data": {"train": "scan.extxyz"},
        "model": {"descriptor": {"cutoff": 5.0, "angular_cutoff": 4.0, "radial": 3}, "network": {"hidden": [4]}},
        "training": {"epochs": 6, "threads": 1},
    }  # fmt: skip
    Path("train.yaml").write_text(json.dumps(settings))
    summary, _ = train(Path("train.yaml"))
    lines = np.loadtxt("run/lcurve.txt")
    assert summary["best_epoch"] == int(np.argmin(lines[:, 4]))
    with pytest.raises(InputError, match="no validation structure has forces"):
        train(Path("train.yaml"), "training.monitor=force_rmse", "output=other")


def test_a_stress_without_a_cell_is_left_out(config: Path) -> None:
    molecules = [
        s.replace(cell=np.zeros((3, 3)), pbc=[False] * 3, stress=np.zeros((3, 3)))
        for s in read("train.extxyz")
    ]
    write("molecules.extxyz", [s.replace(stress=None) for s in molecules])
    text = Path("molecules.extxyz").read_text().replace("energy=", 'stress="0 0 0 0 0 0 0 0 0" energy=')
    Path("molecules.extxyz").write_text(text)
    with pytest.warns(DataWarning, match="a stress of zeros without a cell is left out"):
        summary, _ = train(config, "data.train=molecules.extxyz", THREE, "training.epochs=1")
    assert summary["test"]["stress_rmse"] is None
    assert Path("run/model.pt").exists()


def test_an_element_that_nothing_teaches(config: Path) -> None:
    frames = read("train.extxyz")
    write("test.extxyz", [frames[0], frames[1].replace(symbols=["Ag", "Cu", "Au", "Cu"])])
    for overrides in ([], ["model.elements=[Cu, Au, Ag]"]):
        with pytest.raises(
            InputError, match=r"test\.extxyz#1: Ag occurs only in test data; .*Add frames with Ag"
        ):
            train(config, "data.test=test.extxyz", *overrides)


def test_what_overfits_is_said(config: Path) -> None:
    many = ["training.force_training=none", "model.network.hidden=[25, 25]", "training.min_updates=400"]
    summary, output = train(config, *many, "training.monitor=energy_rmse")
    weights = summary["n_parameters"]
    assert f"Warning: {weights} weights are to be found from 9 labels (9 energies)" in output
    assert summary["overfitting"]["energy_rmse"] > 3.0
    ratio = summary["validation"]["energy_rmse"] / summary["train"]["energy_rmse"]
    assert summary["overfitting"]["energy_rmse"] == pytest.approx(ratio, abs=0.006)
    assert "Warning: this potential overfits: energy RMSE, eV/atom:" in output
    assert f"9 energies for {weights} weights" in output
    assert "training.ridge=0.3 (now auto)" in output


def test_nothing_is_said_of_a_sound_training(config: Path) -> None:
    summary, output = train(
        config, "data.validation=train.extxyz", "data.validation_fraction=0", "model.network.hidden=[2]"
    )
    assert summary["overfitting"] == {}
    assert "overfits" not in output
    assert "weights are to be found" not in output


def test_a_label_that_is_far_from_all_others_does_not_choose_the_epoch(config: Path) -> None:
    write_alloy(config.parent / "twenty.extxyz", frames=20)
    frames = read(config.parent / "twenty.extxyz")
    frames = [frame.replace(name=f"frame-{k}") for k, frame in enumerate(frames)]
    wrong = frames[3].replace(forces=1e4 * (1.0 + frames[3].forces), name="wrong")
    validation = [*frames[:3], wrong]
    names, notes = without_outliers(validation, [*validation, *frames[4:]], [])
    assert names == {"wrong"}
    assert "1 validation structure does not choose the best epoch" in notes[0]
    far = [Finding("energy", "frame-1", 5.0, ""), Finding("short distance", "frame-2", 5.0, "")]
    assert without_outliers(validation, [*validation, *frames[4:]], far) == (frozenset(), [])  # half of them
    assert without_outliers(frames[:5], frames, far)[0] == {"frame-1"}
    assert without_outliers(frames[:5], frames, []) == (frozenset(), [])


def test_an_atom_alone_of_an_unlearnt_kind_does_not_choose_the_epoch(config: Path) -> None:
    def atom(element, length, name):
        return Structure([element], np.zeros((1, 3)), length * np.eye(3), [True] * 3, energy=0.0, name=name)

    crystal, alone, other = atom("Si", 3.0, "crystal"), atom("Si", 20.0, "alone"), atom("C", 20.0, "other")
    names, notes = without_unlearnt_atoms([crystal, alone], [crystal, other], 6.0)
    assert names == {"alone"}
    assert "single atoms (Si)" in notes[0]
    assert without_unlearnt_atoms([crystal, alone], [crystal, alone], 6.0) == (frozenset(), [])
    assert without_unlearnt_atoms([alone], [crystal], 6.0) == (frozenset(), [])  # nothing would be left
    write_alloy(config.parent / "four.extxyz", frames=4)
    lonely = atom("Au", 20.0, "").replace(forces=np.zeros((1, 3)))
    write(config.parent / "five.extxyz", [*read(config.parent / "four.extxyz"), lonely])
    data = load_data(load_config(config, ["data.validation=five.extxyz", "data.validation_fraction=0"]))
    assert (len(data.splits["validation"]), len(data.watched["validation"])) == (5, 4)
    assert any("single atoms (Au)" in note for note in data.notes)
