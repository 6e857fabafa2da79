"""`nnpkit label`: reference calculations of structures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["label"]


def label(
    structures: Annotated[list[str], typer.Argument(metavar="STRUCTURES", help="Files with structures.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", metavar="FILE", help="Extended XYZ of the labelled structures.")
    ] = Path("labelled.xyz"),
    reference: Annotated[
        Path | None,
        typer.Option(
            "--reference", metavar="YAML",
            help="YAML file whose section `reference` says how labels are computed, e.g. that of `nnpkit active`.",
        ),
    ] = None,
    calculator: Annotated[
        str | None, typer.Option("--calculator", help="Instead of a file: a calculator of ASE.", show_default="tblite")
    ] = None,
    folder: Annotated[
        Path, typer.Option("--folder", help="Where labels are kept; what is there is not computed again.")
    ] = Path("labels"),
    cores: Annotated[
        int | None, typer.Option("--cores", help="Calculations at a time.", show_default="all cores")
    ] = None,
) -> None:  # fmt: skip
    """Compute energies, forces and stresses of structures with a reference method.

    Labels are kept by content: the same structure with the same settings is never computed twice, and an
    interrupted run goes on where it was. A calculation that does not converge, or whose result cannot be
    believed, is tried again with the changed settings of the YAML and then put into `quarantine` with the reason.
    """
    from rich.console import Console

    from nnpkit.active.executor import Execution, Executor
    from nnpkit.active.labelling_tasks import Labeller
    from nnpkit.data.dataset import load_dataset
    from nnpkit.data.formats.reading import write
    from nnpkit.lock import FolderLock
    from nnpkit.progress import Progress, stop_on_signals
    from nnpkit.workflow.active_project import make_execution, make_labelling

    section, execution = _reference(reference, calculator)
    settings = make_execution(execution)
    if cores is not None:
        settings = Execution(settings.executor, cores, settings.options, settings.launcher)
    given = load_dataset(structures, labels_matter=False)
    lock = FolderLock(folder / "driver.lock")
    lock.require("another process labels into this folder", "wait for it, or use another --folder")
    try:
        labeller = Labeller(make_labelling(section), folder)
        todo = labeller.open_structures(given)
        console = Console()
        place = labeller.files.path(labeller.settings, "any").parent
        console.print(f"{len(given)} structures, {len(todo)} to compute; labels in {place}", soft_wrap=True)
        tasks = len(labeller.prepare(todo, folder / "work"))
        with (
            stop_on_signals() as stop,
            Executor(settings, folder, lambda: bool(stop)) as executor,
            Progress("labels", tasks, console) as bar,
        ):
            states = labeller.label(given, folder / "work", executor, lambda *_: bar.advance())
    finally:
        lock.release()
    found = [labeller.files.read(labeller.settings, key) for key, state in states.items() if state == "done"]
    labelled = [structure for structure in found if structure is not None]
    for key, state in states.items():
        if state != "done":
            reason = (labeller.files.failure(labeller.settings, key) or {}).get(
                "reason", "see the logs in work/"
            )
            typer.echo(f"nnpkit: warning: {key[:12]} {state}: {reason}", err=True)
    if labelled:
        write(output, labelled, "extxyz")
        console.print(f"{len(labelled)} labelled structures in {output}")
    if len(labelled) < len(states):
        raise typer.Exit(1)


def _reference(path: Path | None, calculator: str | None) -> tuple[Any, Any]:
    """Sections `reference` and `execution`."""
    from nnpkit.config.schema_active import AseReference, Execution
    from nnpkit.errors import InputError
    from nnpkit.workflow.active_project import load_reference

    if path is not None and calculator is not None:
        raise InputError("both --reference and --calculator", expected="one of them")
    if path is not None:
        return load_reference(path)
    return AseReference(calculator=calculator or "tblite"), Execution()
