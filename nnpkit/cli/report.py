"""`nnpkit report`: what a training run is worth, on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from nnpkit.cli.output import refuse

__all__ = ["report"]


def report(
    context: typer.Context,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run or of a committee.")],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Page to write; its numbers go beside it as JSON.",
                     show_default="report.html in RUN"),
    ] = None,
    other: Annotated[
        Path | None,
        typer.Option(help="Another potential for the same data: correlation of the errors of the two shows "
                     "contradictory data.", metavar="MODEL"),
    ] = None,
    md: Annotated[
        bool, typer.Option("--md", help="Run a short NPT and a short NVE simulation in LAMMPS.")
    ] = False,
    steps: Annotated[int, typer.Option(help="Time steps of each of these.", min=10)] = 4000,
    temperature: Annotated[float, typer.Option(help="K, of these.")] = 300.0,
    pressure: Annotated[float, typer.Option(help="bar, of the NPT run.")] = 1.0,
    start: Annotated[
        str | None,
        typer.Option(help="Structure they begin with, as for `nnpkit md`.", metavar="STRUCTURE",
                     show_default="the last periodic test structure"),
    ] = None,
    solid: Annotated[
        list[str] | None,
        typer.Option(help="Crystal for equation of state, elastic constants and phonons; repeatable.",
                     metavar="STRUCTURE", show_default="crystals at rest in the data"),
    ] = None,
    fisher: Annotated[
        int, typer.Option(help="Batches of the Fisher information of a Kalman run; 0 for none.", min=0)
    ] = 300,
) -> None:  # fmt: skip
    """Write the validation report of a training run: one HTML page, and its numbers as JSON.

    Data card, training curves, parity of energies, forces and stress, outliers by name, extrapolation, model card, and
    where they apply: calibration of a committee, Fisher information of a Kalman run, contradictory data, simulations,
    crystals. A run that is not finished gets a partial report that says so.
    """
    from rich.console import Console

    from nnpkit.analysis.report.report_contents import Options
    from nnpkit.cli.model_argument import load_with_notes, read_start
    from nnpkit.workflow.run_report import report_of_run

    if not md:
        refuse(context, "it is of the simulations of --md", "steps", "temperature", "pressure", "start")
    console = Console(stderr=True)
    options = Options(
        other=None if other is None else load_with_notes(other), md_steps=steps if md else 0, temperature=temperature,
        pressure=pressure, md_start=None if start is None else read_start(start),
        solids=None if not solid else [read_start(s) for s in solid], fisher_batches=fisher,
    )  # fmt: skip
    with console.status("reading the run") as status:
        path, data = report_of_run(run, output, options, status.update)
    for words in data.notes:
        typer.echo(f"nnpkit: note: {words}", err=True)
    state = "" if data.status.complete else " (partial: the run is not finished)"
    print(f"{path} and {path.with_suffix('.json').name}: {data.seconds:.0f} s{state}")
