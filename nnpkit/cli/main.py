"""The `nnpkit` program: a table of commands, each imported only when it runs.

A command lives in ``nnpkit/cli/<command>.py`` as a function of the same name whose annotations are its
options. The table below holds one line of help per command, so that ``nnpkit --help`` imports none of
them.
"""

from __future__ import annotations

import os
import sys
import warnings
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from nnpkit._version import __version__
from nnpkit.errors import NnpkitError
from nnpkit.threads import set_defaults

__all__ = ["COMMANDS", "app", "load_command", "run"]

COMMANDS = {
    "new": "Look at data or a structure and write YAML files with settings for them, and the next command.",
    "train": "Train a potential on reference data as a YAML file describes.",
    "tune": "Find the best potential within a budget of time per step, or the cheapest within an error.",
    "evaluate": "Compare a potential with reference data: errors per file, predictions on request.",
    "analyze": "Answer one question about potentials or data, in numbers and a figure.",
    "report": "Write the validation report of a training run: one HTML page, and its numbers as JSON.",
    "export": "Write a run or a checkpoint as the model.pt that LAMMPS and ASE load.",
    "convert": "Convert data sets and potentials from one file format to another.",
    "data": "Build and check data stores: frames on disk that train without being held in memory.",
    "md": "Write, run and plot a LAMMPS simulation of a structure.",
    "properties": "Compute properties of a material: one table, one HTML page, and all numbers as JSON.",
    "select": "Choose the frames of a trajectory that are worth a reference calculation.",
    "label": "Compute energies, forces and stresses of structures with a reference method.",
    "active": "Improve a potential by itself: explore with a committee, label where it disagrees, train again.",
    "build": "Compile the LAMMPS plugin against the installed torch and LAMMPS.",
    "doctor": "Check torch, LAMMPS, MPI and the plugin, and say how to fix what does not fit.",
    "schema": "Print the JSON schema of the training YAML, for editors.",
}
"""Name and one line of help of every command, in the order of a project's life."""


def load_command(name: str) -> Any:
    """Import the module of command `name` and return its command object."""
    function = getattr(import_module(f"nnpkit.cli.{name}"), name)
    if isinstance(function, typer.Typer):
        return typer.main.get_command(function)
    single = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    single.command(name)(function)
    return typer.main.get_command(single)


def _fail(message: object) -> typer.Exit:
    """Print `message` as one line on stderr; the exit to raise."""
    print("nnpkit: error: " + " ".join(str(message).split()), file=sys.stderr)
    return typer.Exit(1)


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, *_: Any, **__: Any
) -> None:
    """Print a warning as one line on stderr, without the place in the code that it comes from."""
    if category.__module__.partition(".")[0] == "nnpkit":
        print("nnpkit: note: " + " ".join(str(message).split()), file=sys.stderr)
    else:
        print(warnings.formatwarning(message, category, filename, lineno), end="", file=sys.stderr)


class _LazyGroup(TyperGroup):
    """A group whose listed commands are placeholders until one of them is called."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name, _, rest = super().resolve_command(ctx, args)
        return name, load_command(name) if name else None, rest

    def invoke(self, ctx: Any) -> Any:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            return self._invoke(ctx)

    def _invoke(self, ctx: Any) -> Any:
        if os.environ.get("NNPKIT_DEBUG"):
            return super().invoke(ctx)
        try:
            return super().invoke(ctx)
        except NnpkitError as error:
            raise _fail(error) from None
        except BrokenPipeError:
            raise
        except OSError as error:  # disk full, no permission: says itself what and where
            raise _fail(error) from None


app = typer.Typer(
    name="nnpkit",
    cls=_LazyGroup,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"nnpkit {__version__}")
        raise typer.Exit


@app.callback()
def nnpkit(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Train neural network potentials on reference calculations and run them in LAMMPS.

    `nnpkit COMMAND --help` explains a command. Set NNPKIT_DEBUG=1 to see the traceback of an error.
    """


def _placeholder() -> None:
    """Stand for a command in the list; `_LazyGroup` replaces it before it could be called."""


for _name, _help in COMMANDS.items():
    app.command(_name, help=_help)(_placeholder)


def run() -> None:
    """Entry point of the `nnpkit` program; threads are settled before anything loads a library that has some."""
    set_defaults(os.environ)
    app(prog_name="nnpkit")
