"""`nnpkit export`: a run or a checkpoint as model.pt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["export"]


def export(
    source: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN|CHECKPOINT...", show_default=False,
            help="Folder of a run (its best epoch) or of one checkpoint (that epoch); also a RuNNer potential. "
            "Several with --committee.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="MODEL", help="The file to write.",
                     show_default="model.pt or committee.pt"),
    ] = None,
    committee: Annotated[
        bool, typer.Option("--committee", help="Write several potentials as one committee.pt.")
    ] = False,
) -> None:  # fmt: skip
    """Write a run or a checkpoint as the model.pt that LAMMPS and ASE load.

    The file holds everything: elements, units, cutoff, ranges of the training data and a self-test that every
    program evaluates when it loads it. With --committee, several potentials become one file that gives the mean
    of its members and their disagreement.
    """
    from nnpkit.cli.models import describe, load_with_notes
    from nnpkit.errors import InputError

    if committee:
        from nnpkit.deploy.committee import export_committee
        from nnpkit.deploy.load import load

        output = output or Path("committee.pt")
        models = [load_with_notes(path) for path in source]
        export_committee([m.atomic_model() for m in models], [m.metadata for m in models], output)
        print(f"{output}: {describe(load(output))}")
        return
    if len(source) > 1:
        raise InputError(f"{len(source)} potentials", expected="one, or several with --committee")
    model, output = load_with_notes(source[0]), output or Path("model.pt")
    model.save(output)
    print(f"{output}: {describe(model)}")
