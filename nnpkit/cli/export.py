"""`nnpkit export`: a run or a checkpoint as model.pt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["export"]


def export(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|CHECKPOINT", show_default=False,
            help="Folder of a run (its best epoch) or of one checkpoint (that epoch); also a RuNNer potential.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="MODEL", help="The file to write.")
    ] = Path("model.pt"),
) -> None:  # fmt: skip
    """Write a run or a checkpoint as the model.pt that LAMMPS and ASE load.

    The file holds everything: elements, units, cutoff, ranges of the training data and a self-test that every
    program evaluates when it loads it.
    """
    from nnpkit.cli.models import describe, load_with_notes

    model = load_with_notes(source)
    model.save(output)
    print(f"{output}: {describe(model)}")
