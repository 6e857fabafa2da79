"""Every option of every command changes what the command does, or is refused where it would change nothing."""

from __future__ import annotations

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ase.io
import pytest
from alloy import write_alloy
from matplotlib.figure import Figure
from observing import digest, quick
from options_of_commands import CALLS, EXCUSED, PROBES, REFUSED
from typer.testing import CliRunner

import nnpkit
from nnpkit.active import label_worker
from nnpkit.analysis.properties.study_options import Options as PropertyOptions
from nnpkit.cli.main import COMMANDS, app, load_command
from nnpkit.data.formats.reading import read, write
from nnpkit.data.structure import Structure
from nnpkit.deploy import load
from nnpkit.install.build import BuildResult
from nnpkit.install.diagnosis import Check
from nnpkit.md.simulation_settings import Simulation

TRAINING = """\
seed: 5
data: {train: train.extxyz, validation_fraction: 0.25, test_fraction: 0.0}
model:
  descriptor: {cutoff: 4.0, angular_cutoff: 3.5, zetas: [1], radial: 2}
  network: {hidden: [3]}
training: {epochs: 1, threads: 1}
"""
DEEP = """model={kind: deep_potential, network: {hidden: [4, 4]}, descriptor: {cutoff: 4.0, embedding: [4], \
axis_neurons: 2}}"""
ACTIVE = "training: train.yaml\nreference: {calculator: emt}\nexploration: {engine: ase}\noutput: project\n"
_WORTH_READING = {".xyz", ".extxyz", ".csv", ".lammps", ".data", ".nn", ".html"}


class _InProcess:
    """Tasks of labels in this process."""

    def __init__(self, execution: Any, folder: Path, stop: Any) -> None:
        _HANDED_ON.append(("cores", execution.cores))

    def __enter__(self) -> _InProcess:
        return self

    def __exit__(self, *_: object) -> None: ...

    def run(self, folders: list[Path], done: Any) -> None:
        for folder in folders:
            label_worker.main(folder)


_HANDED_ON: list[Any] = []
"""What was given to a function that takes long, whose effects have tests of their own."""


def _hand_on(patch: pytest.MonkeyPatch, name: str, result: Any) -> None:
    """Let the function `name` do nothing but note its arguments and return `result`."""

    def function(*arguments: Any, **named: Any) -> Any:
        plain = (str, int, float, list, tuple, Path, Simulation, PropertyOptions, type(None))
        given = [*enumerate(arguments), *sorted(named.items())]
        _HANDED_ON.append((name, [(k, value) for k, value in given if isinstance(value, plain)]))
        return result

    patch.setattr(name, function)


def _report_of_run(run: Path, output: Path | None, options: Any, tell: Any) -> Any:
    given = {**vars(options), "other": options.other and options.other.where}
    _HANDED_ON.append((str(run), str(output), given))
    state = SimpleNamespace(complete=True)
    return Path("report.html"), SimpleNamespace(notes=[], seconds=0.0, status=state)


def _interrupt(seconds: float) -> None:
    _HANDED_ON.append(("sleep", seconds))
    raise KeyboardInterrupt


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    """The current folder, with all that the calls name; what takes long is replaced."""
    before, folder = Path.cwd(), tmp_path_factory.mktemp("options")
    os.chdir(folder)
    write_alloy(folder / "train.extxyz", 8)
    write_alloy(folder / "more.extxyz", 5, seed=9, lattice=3.5)
    frames = read("train.extxyz")
    write("first.extxyz", frames[:1])
    write(
        "argon.extxyz", [f.replace(symbols=["Ar", *f.symbols[1:]], energy=None, forces=None) for f in frames]
    )
    write("big.extxyz", [Structure.from_atoms(frames[0].to_atoms().repeat(2))])
    ase.io.write("types.data", frames[0].to_atoms(), format="lammps-data", specorder=["Cu", "Au"])
    write("bare.extxyz", [f.replace(energy=None, forces=None, stress=None) for f in frames[:2]])
    Path("train.yaml").write_text(TRAINING)
    Path("active.yaml").write_text(ACTIVE)
    Path("lj.yaml").write_text("reference: {calculator: lj}\n")
    for name, *settings in (
        ("run", "seed=5"),
        ("other", "seed=6"),
        ("bare", "model.wall=off"),
        ("deep", DEEP),
    ):
        nnpkit.train("train.yaml", [f"output={name}", *settings])
    for call in (
        "export run other --committee -o committee.pt", "convert bare hdnn", "md run first.extxyz -o before --dry-run",
    ):  # fmt: skip
        assert CliRunner().invoke(app, call.split()).exit_code == 0, call
    with pytest.MonkeyPatch.context() as patch, quick():
        patch.setattr(load, "_load_archive", cache(load._load_archive))
        patch.setattr(Figure, "savefig", lambda self, stream, **_: stream.write(b"figure"))
        patch.setattr("nnpkit.workflow.run_report.report_of_run", _report_of_run)
        patch.setattr("nnpkit.active.executor.Executor", _InProcess)
        patch.setattr("time.sleep", _interrupt)
        _hand_on(patch, "nnpkit.analysis.simulation.run_lammps", None)
        _hand_on(
            patch, "nnpkit.analysis.simulation.report", {"unstable": None, "not_settled": {}, "warnings": []}
        )
        patch.setattr("nnpkit.analysis.properties.moving_study.expected_seconds", lambda *_: 1.0)
        for kind in ("static", "moving"):
            _hand_on(patch, f"nnpkit.analysis.properties.{kind}_study.{kind}_properties", {})
        patch.setattr("nnpkit.analysis.properties.study.has_phonopy", lambda: True)
        _hand_on(patch, "nnpkit.install.build.build_plugin", BuildResult(Path("built"), {}, True, 1.0))
        _hand_on(patch, "nnpkit.install.build_cuda.build_cuda", BuildResult(Path("built"), {}, True, 1.0))
        _hand_on(patch, "nnpkit.install.diagnosis.diagnose", [Check("torch", "ok", "2.0")])
        _hand_on(patch, "nnpkit.active.project_page.write_report", Path("report.html"))
        _hand_on(patch, "nnpkit.active.store.Store.rebuild", SimpleNamespace(close=lambda: None))
        _hand_on(patch, "nnpkit.active.loop.Loop.run", None)
        patch.setattr("nnpkit.workflow.new_files.expected", lambda *_: "some time")
        assert CliRunner().invoke(app, ["active", "run", "active.yaml"]).exit_code == 0
        shutil.copytree("run", "kept")
        yield folder
    os.chdir(before)


def _files() -> set[Path]:
    return {path for path in Path().rglob("*") if not path.name.startswith("active.sqlite")}


def observe(call: str) -> tuple[int, str]:
    """Exit code, and digest of output, new files and what is handed on."""
    old = _files()
    _HANDED_ON.clear()
    result = CliRunner().invoke(app, [word.replace(",", " ") if "," in word and "u," in word else word
                                      for word in call.split()])  # fmt: skip
    assert result.exception is None or isinstance(result.exception, SystemExit), call
    new = sorted(_files() - old)
    content: list[Any] = [
        (
            str(p),
            re.sub(rb"label_seconds=\S+", b"", p.read_bytes())
            if p.suffix in _WORTH_READING and "labels" not in p.parts
            else "",
        )
        for p in new
    ]
    out = re.sub(r"\d\d:\d\d:\d\d", "", "" if call.startswith("train") else result.stdout)
    for path in reversed(new):
        path.rmdir() if path.is_dir() else path.unlink()
    if "=run" in call:
        shutil.rmtree("run")
        shutil.copytree("kept", "run")
    return result.exit_code, digest([out, content, _HANDED_ON])


@cache
def unchanged(call: str) -> tuple[int, str]:
    return observe(call)


def options() -> Iterator[str]:
    """``command --option`` of the whole program."""
    for name in COMMANDS:
        command = load_command(name)
        parts = {name: command} | {f"{name} {k}": v for k, v in getattr(command, "commands", {}).items()}
        for full, part in parts.items():
            for parameter in part.params:
                if parameter.param_type_name == "option" and parameter.name not in ("help", "version"):
                    yield f"{full} {max(parameter.opts, key=len)}"


ALL = [pytest.param(c, v, id=f"{c} {o}") for c, own in PROBES.items() for o, v in own.items()]


@pytest.mark.parametrize(("command", "text"), ALL)
def test_an_option_shows(command: str, text: str) -> None:
    more, _, base = text.partition(" | ")
    call = CALLS[command]
    if ": " in more:
        call, _, more = more.partition(": ")
    assert observe(f"{call} {more}".strip()) != unchanged(f"{call} {base}".strip())


@pytest.mark.parametrize("command", CALLS)
def test_the_same_call_shows_nothing(command: str) -> None:
    """Else a difference would mean nothing."""
    assert observe(CALLS[command]) == unchanged(CALLS[command])
    assert unchanged(CALLS[command])[0] == 0


@pytest.mark.parametrize(("call", "words"), REFUSED)
def test_an_option_without_effect_is_refused(call: str, words: str) -> None:
    old = _files()
    result = CliRunner().invoke(app, call.split())
    assert result.exit_code == 1
    assert words in result.stderr, result.output
    assert _files() == old


def test_every_option_has_a_probe_or_a_reason() -> None:
    known = {f"{c.removesuffix(' potential')} {option}" for c, own in PROBES.items() for option in own}
    assert sorted(set(options()) - known - set(EXCUSED)) == []
    assert sorted((known | set(EXCUSED)) - set(options())) == []
    print(Counter({"options": len(known), "refused": len(REFUSED), "excused": len(EXCUSED)}))
