"""`nnpkit new`: settings for the data or the structure at hand."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nnpkit.cli.output import parse_labels, refuse

__all__ = ["new"]


def new(
    context: typer.Context,
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="SOURCE",
            show_default=False,
            help="Data with labels (files or a folder), or a structure without.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FOLDER", help="Where the files go.")
    ] = Path("."),
    engine: Annotated[
        str, typer.Option("--engine", help="Where the potential will run: lammps, gpumd, cp2k or any.")
    ] = "any",
    time: Annotated[
        str | None,
        typer.Option(
            "--time",
            metavar="TIME",
            show_default=False,
            help="How long to train: 30min, 2h; by default 30 epochs.",
        ),
    ] = None,
    reference: Annotated[
        str,
        typer.Option(
            "--reference", help="Calculator that labels structures without labels: tblite, chgnet, ..."
        ),
    ] = "tblite",
    labels: Annotated[
        str | None,
        typer.Option(
            "--labels",
            metavar="energy=E,...",
            show_default=False,
            help="Names of labels in the data, where several could be meant or none is usual.",
        ),
    ] = None,
    temperature: Annotated[
        float,
        typer.Option("--temperature", help="K, up to which the potential will be used, for active learning."),
    ] = 300.0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
) -> None:
    """Look at data or a structure and write YAML files with settings for them, and the next command.

    Data with labels give `train.yaml`: model, split and length of the training chosen for them, with the expected time
    and memory. A structure without labels gives `start.xyz` (displaced copies), `train.yaml` and `active.yaml`: active
    learning with a reference calculator.
    """
    from rich.console import Console

    from nnpkit.workflow.new_files import Wishes, has_labels, new_files, source_structures

    with Console(stderr=True).status("reading") as status:
        names = parse_labels(labels) or {}
        files, structures = source_structures(sources, names)
        labelled = has_labels(structures)
        if labelled:
            refuse(context, "the data have labels", "reference", "temperature")
            status.update(
                f"{len(structures)} structures; some updates are tried, which tells the expected time"
            )
        wishes = Wishes(engine, time, reference, temperature, names)
        written, lines = new_files(files, structures, output, wishes, overwrite)
    for path in written:
        print(f"{path}:" if path.suffix == ".yaml" else path)
        if path.suffix == ".yaml":
            print("".join(f"  {line}\n" for line in path.read_text(encoding="utf-8").splitlines()))
    for line in lines:
        print(line)
