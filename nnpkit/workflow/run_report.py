"""From the folder of a run to its validation report."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from nnpkit.analysis.report.report_contents import Options, RunContents
from nnpkit.analysis.report.report_schema import ReportData, Status
from nnpkit.analysis.report.report_writer import write_report
from nnpkit.config.config_file import load_config
from nnpkit.config.schema import Config
from nnpkit.config.schema_report import ReportSettings
from nnpkit.data.dataset import data_sha256
from nnpkit.data.groups import find_grouping
from nnpkit.data.statistics import data_statistics
from nnpkit.deploy.load import LoadedModel, load
from nnpkit.errors import InputError, NnpkitError
from nnpkit.training.checkpoint import latest_checkpoint, read_checkpoint
from nnpkit.workflow.data_sets import read_splits

__all__ = ["read_run", "report_at_end", "report_of_run", "report_options"]


def report_of_run(
    run: str | Path,
    output: str | Path | None = None,
    options: Options | None = None,
    progress: Callable[[str], None] | None = None,
) -> tuple[Path, ReportData]:
    """Write the report of the run in folder `run`, by default as ``report.html`` and ``report.json`` there.

    Parameters are those of `nnpkit.analysis.report.report_writer.write_report`.

    Returns
    -------
    path : Path
        Of the page.
    data : ReportData
        Its numbers.

    Raises
    ------
    InputError
        If the folder is not that of a run.
    """
    path = Path(output) if output is not None else Path(run) / "report.html"
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError("the report is a web page", where=str(path), expected="a name that ends with .html")
    options = options or Options()
    if options.md_folder is None:
        options.md_folder = path.with_name(path.stem + "-md")
    return path, write_report(read_run(run), path, options, progress)


def report_options(settings: ReportSettings) -> Options:
    """Options of the section `report` of a YAML file."""
    options = Options(
        md_steps=settings.md_steps, temperature=settings.temperature, pressure=settings.pressure,
        fisher_batches=settings.fisher_batches, other=None if settings.other is None else load(settings.other),
    )  # fmt: skip
    if not settings.solids:
        options.solids = []
    return options


def report_at_end(config: Config, summary: Mapping[str, Any], console: Console) -> None:
    """Write the report of a training that has ended, if its settings ask for one.

    The training is not lost if its report fails: a warning says what is wrong.
    """
    if config.report is None or summary["ended"] in signal.Signals.__members__:
        return
    try:
        path, _ = report_of_run(config.output, None, report_options(config.report))
    except (NnpkitError, OSError) as error:
        console.print(
            f"Warning: there is no report: {error}", style="yellow", highlight=False, soft_wrap=True
        )
    else:
        console.print(f"Report: {path}", highlight=False, soft_wrap=True)


def read_run(run: str | Path) -> RunContents:
    """What there is of the run in folder `run`, finished or not.

    Raises
    ------
    InputError
        If there is no ``config.yaml`` in it.
    """
    folder = Path(run)
    if not (folder / "config.yaml").is_file():
        what = "no run in this folder" if folder.is_dir() else "there is no such folder"
        raise InputError(what, where=str(folder), expected="the folder that nnpkit train writes (output)")
    notes: list[str] = []
    contents = RunContents(folder.absolute().name, Status(complete=False), notes=notes)
    contents.settings = _yaml(folder / "config.yaml")
    config = _config(folder, notes)
    summary, data = _json(folder / "summary.json"), _json(folder / "data.json") or {}
    first = folder / "member-00" if (folder / "member-00").is_dir() else folder
    contents.curves = _lines(first / "metrics.jsonl")
    contents.model = _model(folder, notes)
    contents.status = _status(folder, first, config, summary, contents)
    if config is not None:
        try:
            contents.splits = read_splits(config)
            grouping = find_grouping(contents.splits, config.data.groups)
            if grouping is not None:
                contents.groups = {part: grouping.names(own) for part, own in contents.splits.items()}
        except InputError as error:
            notes.append(f"The data cannot be read, so there are no predictions: {error}")
    if config is not None and config.data.baseline is not None:  # what it says is of labels less the baseline
        data = {key: data[key] for key in ("files", "suspicious") if key in data}
    contents.data_files = {k: data[k] for k in ("files", "sha256", "suspicious") if k in data}
    contents.statistics = data.get("statistics") or {
        part: data_statistics(structures) for part, structures in contents.splits.items()
    }
    for part, known in (data.get("sha256") or {}).items():
        if part in contents.splits and data_sha256(contents.splits[part]) != known:
            notes.append(f"The {part} data are not those of the training: files have changed since.")
    return contents


def _config(folder: Path, notes: list[str]) -> Config | None:
    try:
        return load_config(folder / "config.yaml")
    except InputError as error:
        notes.append(f"The settings of the run cannot be used any more: {error}")
        return None


def _yaml(path: Path) -> dict[str, Any]:
    import yaml

    try:
        return dict(yaml.safe_load(path.read_text(encoding="utf-8")) or {})
    except (OSError, ValueError, TypeError, yaml.YAMLError):
        return {}


def _json(path: Path) -> dict[str, Any] | None:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _lines(path: Path) -> list[dict[str, Any]]:
    """Complete lines of a file of JSON objects."""
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            lines.append(dict(json.loads(line)))
        except ValueError:  # the last one is being written
            break
    return lines


def _model(folder: Path, notes: list[str]) -> LoadedModel | None:
    """The potential, the committee, or the best epoch until now."""
    committee = folder / "committee.pt"
    if not committee.exists() and (folder / "member-00").is_dir():
        notes.append("There is no committee.pt: what follows is about its first member.")
        folder = folder / "member-00"
    try:
        model = load(committee if committee.exists() else folder)
        notes.extend(f"{note[0].upper()}{note[1:]}." for note in model.notes)
        return model
    except InputError as error:
        notes.append(f"There is no potential to look at: {error}")
        return None


def _status(
    folder: Path, first: Path, config: Config | None, summary: dict[str, Any] | None, contents: RunContents
) -> Status:
    ended = None if summary is None else str(summary.get("ended"))
    done = contents.curves[-1].get("epoch") if contents.curves else None
    model = (folder / "model.pt").exists() or (folder / "committee.pt").exists()
    best = (_json(first / "summary.json") or {}).get("best_epoch")
    if best is None and (last := latest_checkpoint(first)) is not None:
        best = (read_checkpoint(last).state.get("progress") or {}).get("best_epoch")
    timed = config is not None and config.training.time is not None
    return Status(
        complete=model and ended is not None and ended not in signal.Signals.__members__,
        epochs_done=done, epochs_planned=None if config is None or timed else max(config.training.epochs, done or 0),
        best_epoch=best, ended=ended,
    )  # fmt: skip
