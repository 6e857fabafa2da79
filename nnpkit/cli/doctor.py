"""`nnpkit doctor`: what is installed, what does not fit, and how to fix it."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["doctor"]

_COLOR = {"ok": "green", "warning": "yellow", "broken": "red"}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Check torch, LAMMPS, MPI and the plugin, and say how to fix what does not fit.

    Exits with 1 if something is broken that a simulation needs; a warning concerns something optional.
    """
    import json
    from dataclasses import asdict

    from nnpkit.install.diagnosis import BROKEN, diagnose

    checks = diagnose()
    broken = [check for check in checks if check.status == BROKEN]
    if as_json:
        print(json.dumps({"ok": not broken, "checks": [asdict(check) for check in checks]}, indent=1))
    else:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table("check", "status", "found", box=None, pad_edge=False, header_style="bold")
        for check in checks:
            found = Text(check.found)
            if check.fix:
                found.append(f"\n-> {check.fix}", style="bold")
            table.add_row(check.name, Text(check.status, style=_COLOR[check.status]), found)
        console = Console()
        console.print(table)
        console.print(
            f"{len(broken)} broken: a simulation will not run" if broken else "a simulation can run",
            style="bold",
        )
    raise typer.Exit(1 if broken else 0)
