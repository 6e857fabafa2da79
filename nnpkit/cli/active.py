"""`nnpkit active`: the loop of exploration, selection, labelling and training."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nnpkit.cli.output import refuse

if TYPE_CHECKING:
    from nnpkit.config.schema_active import ActiveConfig

__all__ = ["active"]

Action = Literal["run", "status", "resume", "report", "stop"]
CONFIG = "active.yaml"


def active(
    context: typer.Context,
    action: Annotated[Action, typer.Argument(help="run, status, resume, report or stop.")],
    project: Annotated[
        Path, typer.Argument(metavar="YAML|FOLDER", help="YAML of the project (run, resume), or its folder.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE", show_default=False, help="Settings to change, e.g. `stop.rounds=3`."
        ),
    ] = None,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="With resume: make the database anew from the label files.")
    ] = False,
    watch: Annotated[
        float | None, typer.Option("--watch", metavar="SECONDS", help="With status: show it again and again.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="With report: the HTML file.")
    ] = None,
    test: Annotated[
        list[str] | None,
        typer.Option(
            "--test", metavar="DATA", help="With report: labelled structures on which to judge every round."
        ),
    ] = None,
) -> None:
    """Improve a potential by itself: explore with a committee, label where it disagrees, train again.

    `run` starts a project, `resume` continues one that was stopped or killed at whatever moment, `status` shows how
    far it is, `report` writes an HTML page, and `stop` ends it softly. Everything is in the folder of the project;
    what has been computed is never computed again.

    Ctrl-C and SIGTERM stop like `stop`, with exit code 130 or 143.
    """
    for name, of in (("rebuild", "resume"), ("watch", "status"), ("output", "report"), ("test", "report")):
        if action != of:
            refuse(context, f"it goes with `nnpkit active {of}`", name)
    if action in ("run", "resume"):
        _drive(action, project, overrides or [], rebuild)
        return
    folder = _folder(project, overrides or [])
    if action == "stop":
        _stop(folder)
    elif action == "status":
        _status(folder, watch)
    else:
        from nnpkit.active.project_page import write_report
        from nnpkit.data.dataset import load_dataset

        page = write_report(folder, output or folder / "report.html", load_dataset(test) if test else ())
        print(f"report: {page}")


def _config(project: Path, overrides: list[str]) -> ActiveConfig:
    """Configuration in a YAML file or, as it was last, in the folder of a project."""
    from nnpkit.workflow.active_project import load_active_config

    return load_active_config(project / CONFIG if project.is_dir() else project, overrides)


def _folder(project: Path, overrides: list[str]) -> Path:
    return project if project.is_dir() else Path(_config(project, overrides).output)


def _drive(action: str, project: Path, overrides: list[str], rebuild: bool) -> None:
    import signal
    import time

    from rich.console import Console

    from nnpkit.active.executor import StoppedError
    from nnpkit.active.loop import Loop
    from nnpkit.active.store import DATABASE, Store
    from nnpkit.errors import InputError
    from nnpkit.progress import stop_on_signals
    from nnpkit.workflow.active_project import make_project, write_active_config

    config = _config(project, overrides)
    folder = Path(config.output).absolute()
    exists = (folder / DATABASE).exists() or (folder / "rounds").exists()
    if action == "run" and exists:
        raise InputError(
            "there is a project in this folder already", where=str(folder),
            hint=f"continue it: nnpkit active resume {quote(str(project))}; or name another: output=...",
        )  # fmt: skip
    if action == "resume" and not exists:
        raise InputError(
            "no project to resume",
            where=str(folder),
            hint=f"start it: nnpkit active run {quote(str(project))}",
        )
    if rebuild:
        Store.rebuild(folder).close()
    console = Console()

    def say(line: str) -> None:
        text = f"{time.strftime('%H:%M:%S')} {line}"
        console.print(text, highlight=False, markup=False, soft_wrap=True)
        with open(folder / "active.log", "a", encoding="utf-8") as log:
            log.write(text + "\n")

    with stop_on_signals() as stop:
        try:
            loop = Loop(make_project(config), say, lambda: bool(stop))
            config.output = str(folder)
            write_active_config(config, folder / CONFIG)
            loop.run()
        except StoppedError:
            say(f"stopped; continue with: nnpkit active resume {quote(str(folder))}")
            if stop.signal is not None:
                raise typer.Exit(128 + signal.Signals(stop.signal).value) from None


def _stop(folder: Path) -> None:
    from nnpkit.active.store import Store

    store = Store(folder)
    holder = store.lock.holder()
    if holder is None:
        print("nobody drives this project")
        return
    (folder / "stop").touch()
    print(f"asked process {holder.get('pid')} on {holder.get('host')} to stop; running tasks end first")


def _status(folder: Path, watch: float | None) -> None:
    import time

    from rich.console import Console
    from rich.live import Live

    from nnpkit.active.status import status_table
    from nnpkit.active.store import Store

    store = Store(folder)
    if watch is None:
        Console().print(status_table(store))
        return
    with Live(status_table(store), refresh_per_second=1) as live:
        try:
            while True:
                time.sleep(watch)
                live.update(status_table(store))
        except KeyboardInterrupt:
            return
