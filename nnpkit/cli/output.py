"""What commands have in common: options without effect, numbers and figures on the screen and in files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

__all__ = ["parse_labels", "print_table", "print_values", "refuse", "write_figure", "write_json"]


def refuse(context: typer.Context, reason: str, *names: str) -> None:
    """Refuse options that have no effect in a call.

    Parameters
    ----------
    context : typer.Context
        Of the call.
    reason : str
        What they need.
    *names : str
        The parameters of the command.

    Raises
    ------
    InputError
        Naming the first of them that was given.
    """
    from nnpkit.errors import InputError

    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name == "COMMANDLINE":
            option = next(max(p.opts, key=len) for p in context.command.params if p.name == name)
            raise InputError(f"{option} has no effect here", hint=reason)


def parse_labels(text: str | None) -> dict[str, str] | None:
    """Names of labels of ``energy=E_mp2,forces=F_mp2``.

    Raises
    ------
    InputError
        If it is anything else.
    """
    from nnpkit.errors import InputError

    if text is None:
        return None
    pairs = [part.strip().partition("=") for part in text.split(",")]
    if not all(label and name for label, _, name in pairs):
        raise InputError(f"--labels {text!r} is not understood", expected="energy=E_mp2,forces=F_mp2")
    return {label.strip(): name.strip() for label, _, name in pairs}


def print_values(rows: Sequence[tuple[str, object]]) -> None:
    """One line for each name and value."""
    from nnpkit.analysis.report.page import cell

    for title, value in rows:
        print(f"{title:<40} {cell(value)}")


def print_table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A table on standard output."""
    from rich.console import Console
    from rich.table import Table

    from nnpkit.analysis.report.page import cell

    table = Table(*head)
    for row in rows:
        table.add_row(*(cell(value) for value in row))
    Console().print(table)


def write_json(path: Path | None, content: Mapping[str, Any]) -> None:
    """Write `content` to `path`, if there is one."""
    import json

    from nnpkit.files import atomic_write

    if path is not None:
        with atomic_write(path) as stream:
            json.dump(content, stream, indent=1, allow_nan=False)
            stream.write("\n")


def write_figure(path: Path | None, png: bytes | None) -> None:
    """Write the PNG to `path`, if there is one; InputError if there is nothing to draw."""
    from nnpkit.errors import InputError
    from nnpkit.files import atomic_write

    if path is None:
        return
    if png is None:
        raise InputError("there is nothing to draw", where=str(path))
    with atomic_write(path, "wb") as stream:
        stream.write(png)
