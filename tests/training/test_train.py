"""`nnpkit train`: content of the run folder, stopping, resuming, refusing."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
import yaml
from alloy import CONFIG, make_training, write_alloy
from ase.calculators.singlepoint import SinglePointCalculator
from rich.console import Console
from typer.testing import CliRunner

from nnpkit.cli.main import app
from nnpkit.config.config_file import load_config
from nnpkit.deploy.load import load
from nnpkit.errors import InputError
from nnpkit.measure.metrics import METRICS
from nnpkit.training.checkpoint import latest_checkpoint, read_checkpoint
from nnpkit.training.updates import GradientUpdate, KalmanUpdate
from nnpkit.workflow import training_run
from nnpkit.workflow.training_run import run_training

ADAM = "training.optimizer={kind: adam, learning_rate: 0.01}"
PINN = "training.schedule={kind: pinn, force_labels: 5}"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    before = Path.cwd()
    yield make_training(tmp_path)
    os.chdir(before)


def train(config: Path, *overrides: str, **options: Any) -> dict[str, Any]:
    """Train quietly; the summary."""
    return run_training(load_config(config, overrides), console=Console(file=io.StringIO()), **options)


def fails(config: Path, *arguments: str) -> str:
    """The one line that a failing `nnpkit train` prints."""
    result = CliRunner().invoke(app, ["train", str(config), *arguments])
    assert result.exit_code == 1, result.output
    assert result.stderr.count("\n") == 1
    return result.stderr


def states(run: str) -> dict[str, Any]:
    """Everything in the checkpoints of a run that must not depend on interruptions."""
    content: dict[str, Any] = {}
    for path in sorted(Path(run, "checkpoints").iterdir()):
        state = json.loads((path / "state.json").read_text())
        state["progress"].pop("seconds")
        state["config"].pop("output")
        content[path.name] = ([file.read_bytes() for file in sorted(path.glob("*.safetensors"))], state)
    return content


def curve(run: str) -> np.ndarray:
    """The learning curve without its column of seconds."""
    return np.delete(np.loadtxt(Path(run, "lcurve.txt")), 2, axis=1)


def test_one_training_per_folder(config: Path) -> None:
    hold = "import sys, time; from nnpkit.lock import FolderLock\n"
    hold += "print(FolderLock('run/.lock').acquire(), flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        with pytest.raises(InputError, match=f"another training is under way here, by process {other.pid}"):
            train(config)
        assert [p.name for p in Path("run").iterdir()] == [".lock"]
        other.kill()
    train(config)


def test_run_folder(config: Path) -> None:
    summary = train(config)
    run = Path("run")
    expected = {
        ".lock",
        "config.yaml",
        "data.json",
        "checkpoints",
        "lcurve.txt",
        "metrics.jsonl",
        "tensorboard",
        "model.pt",
        "summary.json",
    }
    assert {p.name for p in run.iterdir()} == expected
    assert json.loads((run / "summary.json").read_text()) == summary
    assert list(summary["train"]) == list(summary["validation"]) == list(METRICS)
    assert {"seconds", "epochs", "updates", "n_parameters", "seed", "versions"} <= set(summary)
    assert (summary["train"]["n_structures"], summary["validation"]["n_structures"]) == (9, 3)
    assert (summary["epochs"], summary["updates"], summary["seed"], summary["ended"]) == (4, 36, 5, "epochs")
    assert set(yaml.safe_load((run / "config.yaml").read_text())) == {
        "seed",
        "output",
        "data",
        "model",
        "training",
        "committee",
        "start",
        "report",
    }
    lines = curve("run")
    assert lines.shape == (5, 8)
    assert lines[-1, 2] < 0.5 * lines[0, 2]
    best = int(np.argmin(np.sqrt(lines[:, 3] * lines[:, 5])))
    assert summary["best_epoch"] == best
    assert [summary["validation"]["energy_rmse"], summary["validation"]["force_rmse"]] == pytest.approx(
        lines[best, [3, 5]], rel=1e-6
    )
    assert len(list((run / "checkpoints").iterdir())) in (3, 4)
    assert list((run / "tensorboard").glob("events*"))


def test_few_structures_get_more_epochs(config: Path) -> None:
    summary = train(config, "training.epochs=1", "training.min_updates=20")
    assert (summary["epochs"], summary["updates"], summary["ended"]) == (3, 27, "epochs")
    assert train(config, "training.epochs=4", "training.min_updates=20", resume=True)["updates"] == 36


@pytest.mark.parametrize("updates", [20, 1000])
def test_advice_about_few_updates(config: Path, updates: int) -> None:
    settings = ["training.epochs=1", f"training.min_updates={updates}", "training.evaluate_every=1000"]
    run_training(load_config(config, settings), console=Console(file=(output := io.StringIO()), width=300))
    assert ("training.min_updates=2000 asks for more" in output.getvalue()) == (updates == 20)


def test_data_report(config: Path) -> None:
    train(config, "training.epochs=1")
    report = json.loads(Path("run/data.json").read_text())
    names = report["split"]["train"] + report["split"]["validation"]
    assert sorted(names) == sorted(f"{config.parent}/train.extxyz#{k}" for k in range(12))
    assert set(report["sha256"]) == set(report["statistics"]) == {"train", "validation"}
    assert report["elements"] == ["Cu", "Au"]
    assert any("G2 with eta" in line for line in report["descriptor"]["report"])
    assert all(name in report for name in ("suspicious", "reference_energies", "wall", "files", "memory"))


def test_the_model_file_is_that_of_the_best_epoch(config: Path) -> None:
    from nnpkit.data.dataset import load_dataset
    from nnpkit.measure.metrics import ErrorSums

    summary = train(
        config,
        ADAM,
        "training.epochs=3",
        "data.validation=train.extxyz",
        "data.validation_fraction=0",
        "data.test=train.extxyz",
    )
    model = load("run/model.pt")
    sums = ErrorSums()
    for structure in load_dataset("train.extxyz"):
        result = model.predict(structure)
        sums.add(structure, result.energy, result.forces, result.stress)
    assert sums.summary() == pytest.approx(summary["test"], rel=1e-9) == summary["validation"]
    assert model.metadata["training"]["best_epoch"] == summary["best_epoch"]
    assert len(model.metadata["data_sha256"]) == 64
    assert set(model.metadata["min_distance"]) == {"Au-Cu", "Cu-Cu", "Au-Au"}


KILLED_IN_THE_THIRD_CHECKPOINT = """
import os, signal, sys
import nnpkit.training.checkpoint_files as files
folders = set()
def flush(path, original=files.flush_to_disk):
    folders.add(path.parent)
    if len(folders) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    original(path)
files.flush_to_disk = flush
from nnpkit.cli.main import app
app(sys.argv[1:])
"""


@pytest.mark.parametrize("overrides", [[], [ADAM, PINN]], ids=["ekf", "adam"])
def test_kill_and_resume_is_bit_identical(config: Path, overrides: list[str]) -> None:
    overrides = [*overrides, "training.checkpoint.keep=9"]
    whole = train(config, *overrides, "output=whole")
    command = [sys.executable, "-c", KILLED_IN_THE_THIRD_CHECKPOINT, "train", "train.yaml", *overrides]
    killed = subprocess.run(command, capture_output=True, text=True, cwd=config.parent)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    left = sorted(p.name for p in Path("run/checkpoints").iterdir() if not p.name.startswith("."))
    assert left == ["epoch-000001", "epoch-000002"]
    resumed = train(config, *overrides, resume=True)
    for path in Path("run/checkpoints").glob(".*.part"):
        path.rename(f"remains-{path.name}")
    assert states("run") == states("whole")
    np.testing.assert_array_equal(curve("run"), curve("whole"))
    assert resumed | {"seconds": 0} == whole | {"seconds": 0}


@pytest.mark.parametrize(
    ("update", "overrides"), [(KalmanUpdate, [PINN]), (GradientUpdate, [ADAM])], ids=["ekf", "adam"]
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_stops_in_the_middle_of_an_epoch(
    config: Path, monkeypatch: pytest.MonkeyPatch, update: type, overrides: list[str], number: signal.Signals
) -> None:
    whole = train(config, *overrides, "output=whole")
    original = update.apply
    calls: list[int] = []

    def apply(self: Any, labels: Any) -> dict[str, float]:
        calls.append(1)
        if len(calls) == 12:
            signal.raise_signal(number)
        return original(self, labels)

    with monkeypatch.context() as patch:
        patch.setattr(update, "apply", apply)
        result = CliRunner().invoke(app, ["train", str(config), *overrides])
    assert result.exit_code == 128 + number
    assert "--resume" in result.output
    assert json.loads(Path("run/summary.json").read_text())["ended"] == number.name
    assert Path("run/checkpoints/epoch-000001-step-000003").is_dir()
    resumed = train(config, *overrides, resume=True)
    assert resumed | {"seconds": 0} == whole | {"seconds": 0}
    last = sorted(states("whole"))[-1]
    assert states("run")[last] == states("whole")[last]


def test_a_warning_during_preparations_leaves_something_to_go_on_with(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where every start is warned before the first update, as with a limit of time that is too short."""
    whole = train(config, "training.epochs=1", "output=whole")
    original, starts = training_run.prepare, 0

    def prepare(*arguments: Any) -> Any:
        signal.raise_signal(signal.SIGUSR1)
        return original(*arguments)

    monkeypatch.setattr(training_run, "prepare", prepare)
    while starts < 100:
        starts += 1
        result = CliRunner().invoke(app, ["train", str(config), "training.epochs=1", "--resume"])
        if result.exit_code != 128 + signal.SIGUSR1:
            break
        found = latest_checkpoint(Path("run"))
        assert found is not None
        assert read_checkpoint(found).state["progress"]["updates"] == starts
    assert result.exit_code == 0
    assert starts > 2
    assert json.loads(Path("run/summary.json").read_text())["ended"] == whole["ended"]
    assert states("run")[sorted(states("run"))[-1]] == states("whole")[sorted(states("whole"))[-1]]
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


def test_a_finished_run_can_be_prolonged(config: Path) -> None:
    whole = train(config, "output=whole")
    train(config, "training.epochs=2")
    assert train(config, resume=True) | {"seconds": 0} == whole | {"seconds": 0}
    np.testing.assert_array_equal(curve("run"), curve("whole"))


def test_resume_without_a_checkpoint_starts_anew(config: Path) -> None:
    assert train(config, "training.epochs=1", resume=True)["epochs"] == 1


def test_early_stopping(config: Path) -> None:
    summary = train(
        config, "training.epochs=40", "training.early_stopping={patience: 3, min_delta: 0.5}",
        "training.checkpoint.every=50", "training.schedule.forces=3",
    )  # fmt: skip
    assert summary["ended"] == "early stopping"
    assert 3 <= summary["epochs"] < 40
    assert Path(f"run/checkpoints/epoch-{summary['epochs']:06d}").is_dir()


def test_an_earlier_run_is_not_overwritten_by_accident(config: Path) -> None:
    train(config, "training.epochs=1")
    Path("run/notes.txt").write_text("mine")
    before = Path("run/model.pt").read_bytes()
    assert "run: there is a run in this folder already. Continue it with --resume" in fails(config)
    assert Path("run/model.pt").read_bytes() == before
    train(config, "training.epochs=2", "seed=9", overwrite=True)
    assert Path("run/model.pt").read_bytes() != before
    assert curve("run").shape == (3, 8)
    assert Path("run/notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.network.hidden=[5]", "model.network.hidden differs (it was [4], now it is [5])"),
        (
            "training.optimizer.noise.force=0.2",
            "training.optimizer.noise.force differs (it was 0.05, now it is 0.2)",
        ),
        ("seed=6", "seed differs (it was 5, now it is 6)"),
        ("data.frames=':11'", "data.train differs (the data are not the same)"),
    ],
)
def test_checkpoint_of_another_run(config: Path, override: str, expected: str) -> None:
    train(config, "training.epochs=1")
    before = {p: p.stat().st_mtime_ns for p in Path("run").rglob("*")}
    message = fails(config, override, "--resume")
    assert f"the checkpoint is of another run: {expected}" in message
    assert {p: p.stat().st_mtime_ns for p in Path("run").rglob("*")} == before


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["training.epoch=3"], "unknown key training.epoch. Did you mean training.epochs?"),
        (["data.train=nix.xyz"], "data.train.0: there is no nix.xyz"),
        (["model.elements=[Cu]"], "the frame contains Au; expected only Cu"),
        (["model.network.per_element.H.hidden=[3]"], "settings for H, which is no element of the model"),
        (["model.descriptor.cutoff=0"], "model.descriptor.cutoff is 0; expected a number > 0"),
        (["model.descriptor={functions: ['Cu 2 Cu 0.1 0.0 8.0'], units: bohr}"], "element Au has no"),
        (["model.descriptor={functions: ['Cu 7 Cu 0.1'], units: bohr}"], "descriptor.functions.0"),
        (["data.reference_energies={Cu: -3.0}"], "no reference energy for Au"),
        (["data.labels={energy: nix}"], "no frame has 'nix'"),
        (["data.validation_fraction=0.99"], "cannot be split: nothing is left to train on"),
        (["data.train=energies.extxyz", "training.schedule.forces=30"], "no training structure has any. Set it to 0"),
        (["model.network.hidden=[200000]"], "the covariance of"),
        (
            ["training.monitor=force_rmse", "data.validation=energies.extxyz", "data.validation_fraction=0"],
            "no validation structure has forces",
        ),
        (["output=train.yaml"], "is a file; expected a folder for the run"),
        (["data.train=nan.extxyz"], "nan.extxyz#1"),
        (["data.suspicious=error", "data.train=[train.extxyz, train.extxyz]"], "suspicious findings, the first: same"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_leaves_nothing(config: Path, overrides: list[str], expected: str) -> None:
    write_alloy(Path("nan.extxyz"), 3)
    text = Path("nan.extxyz").read_text().splitlines()
    text[8] = " ".join([*text[8].split()[:-1], "nan"])
    Path("nan.extxyz").write_text("\n".join(text) + "\n")
    images = ase.io.read("train.extxyz", ":")
    for atoms in images:
        atoms.calc = SinglePointCalculator(atoms, energy=atoms.get_potential_energy())
    ase.io.write("energies.extxyz", images)
    assert expected in fails(config, *overrides)
    assert not Path("run").exists()


def test_symmetry_functions_as_given(config: Path) -> None:
    lines = [
        f"symfunction_short {a} 2 {b} {eta} 0.0 7.5"
        for a in ("Cu", "Au")
        for b in ("Cu", "Au")
        for eta in (0.0, 0.1)
    ]
    Path("input.nn").write_text(
        "elements Cu Au H\n" + "\n".join([*lines, "symfunction_short H 2 Cu 0.1 0.0 7.5"])
    )
    train(
        config, "training.epochs=0", "model.descriptor={units: bohr, functions: {file: input.nn}}", "output=a"
    )
    quoted = ", ".join(f"'{line}'" for line in lines)
    train(config, "training.epochs=0", f"model.descriptor={{units: bohr, functions: [{quoted}]}}", "output=b")
    mapping = ", ".join(
        f"{{kind: G2, center: {a}, neighbors: [{b}], eta: {eta}, cutoff: 7.5}}"
        for a in ("Cu", "Au") for b in ("Cu", "Au") for eta in (0.0, 0.1)
    )  # fmt: skip
    train(
        config, "training.epochs=0", f"model.descriptor={{units: bohr, functions: [{mapping}]}}", "output=c"
    )
    of = {name: json.loads(Path(name, "data.json").read_text())["descriptor"]["functions"] for name in "abc"}
    assert len(of["a"]) == 8
    assert sorted(of["a"]) == sorted(of["b"]) == sorted(of["c"])
    assert load("a").cutoff == pytest.approx(7.5 * 0.529177210903)


def test_written_configuration_repeats_the_run(config: Path) -> None:
    first = train(config, "training.epochs=1", "output=first")
    second = train(Path("first/config.yaml"), "output=second")
    assert first | {"seconds": 0} == second | {"seconds": 0}
    assert CONFIG.startswith("seed: 5")
