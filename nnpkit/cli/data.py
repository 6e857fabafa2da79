"""`nnpkit data`: reference data as a store on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["data"]

data = typer.Typer(
    add_completion=False,
    rich_markup_mode="markdown",
    no_args_is_help=True,
    help="Build and check data stores: frames on disk that train without being held in memory.",
)


@data.command()
def build(
    paths: Annotated[
        list[str], typer.Argument(metavar="SRC... DST", help="Files and folders with frames, and last the new folder.")
    ],
    format: Annotated[
        str | None, typer.Option("--from", help="Format of the sources.", show_default="recognised")
    ] = None,
    units: Annotated[
        str | None, typer.Option("--units", help="angstrom-ev or bohr-hartree, for formats that do not say.")
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option("--labels", metavar="energy=E,...", help="Names of labels in the files, as in `nnpkit convert`."),
    ] = None,
    frames: Annotated[
        str | None, typer.Option("--frames", metavar="SLICE", help="Frames of each file, e.g. :1000 or ::10.")
    ] = None,
    precision: Annotated[
        str, typer.Option("--precision", help="Of positions and forces: float64 or float32.")
    ] = "float64",
    processes: Annotated[
        int | None, typer.Option("--processes", min=1, help="How many convert.", show_default="free processors")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the store, and begin an interrupted one anew.")
    ] = False,
) -> None:  # fmt: skip
    """Convert frames into a store: one pass, no file held whole, checked and counted on the way.

    Interrupted, it goes on with the same command. A store is given to `nnpkit train` like any file.
    """
    from rich.console import Console

    from nnpkit.cli.output import parse_labels
    from nnpkit.data.checks.suspicious import Finding, findings_table
    from nnpkit.data.dataset import expanded_paths
    from nnpkit.data.statistics import statistics_table
    from nnpkit.data.store.building import BuildSettings, build_store
    from nnpkit.errors import InputError
    from nnpkit.threads import free_processors

    if len(paths) < 2:
        raise InputError("one path given", expected="files with frames and, last, the folder of the store")
    *given, destination = paths
    sources = [file for path in given for file in expanded_paths(path)]
    console = Console()
    done = 0

    def count(frames: int) -> None:
        nonlocal done
        done += frames
        if console.is_terminal:
            console.print(f"{done} frames", end="\r", highlight=False)

    settings = BuildSettings(format, units, parse_labels(labels) or {}, frames, precision)
    store = build_store(sources, destination, settings, processes or free_processors(), overwrite, count)
    manifest = store.manifest
    console.print(statistics_table({"all": manifest["statistics"]}))
    if manifest["suspicious"]:
        console.print(findings_table([Finding(*finding) for finding in manifest["suspicious"]]))
    for kind, number in manifest["extreme"].items():
        console.print(f"  {number} frames: {kind}", highlight=False)
    console.print(f"{len(store)} frames in {len(store.shards)} shards: {destination}", soft_wrap=True)


@data.command()
def check(
    store: Annotated[Path, typer.Argument(metavar="STORE", help="Folder of a data store.")],
) -> None:
    """Compare all shards of a store with their checksums, and its sources with what they were.

    A damaged shard is an error; a source that has changed since, or is gone, is named.
    """
    from nnpkit.data.store.building import changed_sources
    from nnpkit.data.store.stored_frames import DataStore

    opened = DataStore(store)
    opened.require_sound()
    for source in changed_sources(opened):
        typer.echo(f"nnpkit: warning: {source} is not what it was when the store was built", err=True)
    typer.echo(f"{len(opened)} frames in {len(opened.shards)} shards: sound")
