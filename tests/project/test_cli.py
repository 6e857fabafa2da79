"""The program around the commands: table of commands, errors in one line, exit codes."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from importlib import import_module

import pytest
import typer
from typer.testing import CliRunner

import nnpkit
from nnpkit.cli import main
from nnpkit.errors import InputError

CONTRACT = [
    "new",
    "train",
    "tune",
    "evaluate",
    "analyze",
    "report",
    "export",
    "convert",
    "data",
    "md",
    "properties",
    "select",
    "label",
    "active",
    "build",
    "doctor",
    "schema",
]


def run(*arguments: str):
    return CliRunner().invoke(main.app, list(arguments))


def test_all_commands_of_the_contract_are_listed() -> None:
    assert list(main.COMMANDS) == CONTRACT
    assert all(name in run("--help").stdout for name in CONTRACT)


@pytest.mark.parametrize("name", CONTRACT)
def test_a_command_is_a_function_of_its_module(name: str) -> None:
    assert hasattr(import_module(f"nnpkit.cli.{name}"), name)
    assert (main.load_command(name).help or "").splitlines()[0] == main.COMMANDS[name]


@pytest.mark.parametrize("name", CONTRACT)
def test_every_option_is_explained(name: str) -> None:
    command = main.load_command(name)
    for part in [command, *getattr(command, "commands", {}).values()]:
        assert part.help
        assert [p.name for p in part.params if not getattr(p, "help", "")] == []
    assert run(name, "--help").exit_code == 0


def test_version() -> None:
    assert run("--version").stdout.strip() == f"nnpkit {nnpkit.__version__}"


def test_unknown_command_names_the_nearest() -> None:
    result = run("trian")
    assert result.exit_code == 2
    assert "'train'" in result.stderr


def test_schema_prints_json() -> None:
    schema = json.loads(run("schema").stdout)
    assert {"seed", "output", "data", "model", "training"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False


def command_that_raises(error: BaseException) -> Callable[[str], object]:
    """A stand-in for `load_command` whose command raises `error`."""

    def command() -> None:
        raise error

    single = typer.Typer(add_completion=False)
    single.command()(command)
    return lambda name: typer.main.get_command(single)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            InputError("unknown key 'sed'", where="a.yaml", hint="did you mean 'seed'?"),
            "nnpkit: error: a.yaml: unknown key 'sed'. Did you mean 'seed'?",
        ),
        (InputError("two\nlines"), "nnpkit: error: two lines."),
        (
            OSError(errno.ENOSPC, "No space left on device", "run/model.pt"),
            "nnpkit: error: [Errno 28] No space left on device: 'run/model.pt'",
        ),
    ],
)
def test_errors_are_one_line_and_exit_1(
    monkeypatch: pytest.MonkeyPatch, error: BaseException, line: str
) -> None:
    monkeypatch.delenv("NNPKIT_DEBUG", raising=False)
    monkeypatch.setattr(main, "load_command", command_that_raises(error))
    result = run("train")
    assert result.exit_code == 1
    assert result.stderr == line + "\n"
    assert result.stdout == ""


def test_debugging_shows_the_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NNPKIT_DEBUG", "1")
    monkeypatch.setattr(main, "load_command", command_that_raises(InputError("wrong")))
    assert isinstance(run("train").exception, InputError)


def test_mistakes_of_our_own_are_not_dressed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NNPKIT_DEBUG", raising=False)
    monkeypatch.setattr(main, "load_command", command_that_raises(ZeroDivisionError("a bug")))
    assert isinstance(run("train").exception, ZeroDivisionError)
