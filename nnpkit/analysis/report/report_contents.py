"""What a validation report is made of, and the report while it is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nnpkit.analysis.predictions import Predictions
from nnpkit.analysis.report.page import Page
from nnpkit.analysis.report.report_schema import ReportData, Status
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import LoadedModel
from nnpkit.errors import NnpkitError

__all__ = ["Options", "Report", "RunContents", "guarded", "short_name"]


@dataclass
class RunContents:
    """What there is of a run when its report is written.

    Attributes
    ----------
    name : str
        Of its folder.
    status : Status
        Whether it is complete.
    model : LoadedModel or None
        Potential or committee; None if there is none yet.
    splits : dict
        Labelled structures: ``train`` and perhaps ``validation`` and ``test``; empty if they cannot be read any more.
    groups : mapping
        Names of the groups of the structures of each set; empty without groups.
    settings : mapping
        The YAML of the run.
    statistics : mapping
        Of each part of the data, as in ``data.json``; empty if there is none.
    data_files : mapping
        Further entries of ``data.json``: files, hashes, suspicious frames.
    curves : list
        Lines of ``metrics.jsonl``.
    notes : list of str
        What is missing, and why.
    """

    name: str
    status: Status
    model: LoadedModel | None = None
    splits: Mapping[str, Sequence[Structure]] = field(default_factory=dict)
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    statistics: Mapping[str, Any] = field(default_factory=dict)
    data_files: Mapping[str, Any] = field(default_factory=dict)
    curves: Sequence[Mapping[str, Any]] = ()
    notes: list[str] = field(default_factory=list)


@dataclass
class Options:
    """What a report looks at beside the run itself.

    Attributes
    ----------
    other : LoadedModel, optional
        A potential trained independently on the same data, for the correlation of errors.
    md_steps : int
        Steps of a short NPT and a short NVE run; 0 for none.
    temperature, pressure : float
        K and bar, of these.
    md_start : Structure, optional
        Where they begin; by default the last periodic test structure with all elements.
    md_folder : path, optional
        Where they run; by default beside the report.
    solids : sequence of Structure, optional
        Crystals for equation of state, elastic constants and phonons; by default those at rest in the data. Empty
        for none.
    fisher_batches : int
        Batches of the Fisher information of a Kalman run; 0 for none.
    outliers : int
        Structures listed with their names.
    """

    other: LoadedModel | None = None
    md_steps: int = 0
    temperature: float = 300.0
    pressure: float = 1.0
    md_start: Structure | None = None
    md_folder: Path | None = None
    solids: Sequence[Structure] | None = None
    fisher_batches: int = 300
    outliers: int = 8


@dataclass
class Report:
    """A report while it is made: the sections add to `page` and `data`."""

    run: RunContents
    options: Options
    page: Page
    data: ReportData
    predictions: dict[str, Predictions] = field(default_factory=dict)

    def note(self, words: str) -> None:
        """Say what is missing and why."""
        self.data.notes.append(words)

    @property
    def judge(self) -> str:
        """Part of the data by which the potential is judged."""
        return next(
            part for part in ("test", "validation", "train") if part in self.predictions or part == "train"
        )


def short_name(name: str) -> str:
    """Name of a structure without the folder of its file: ``train.xyz#12``."""
    return name.rpartition("/")[2]


def guarded(report: Report, what: str, action: Callable[[], None]) -> None:
    """Do `action`; if the project's own error prevents it, the report says so and goes on."""
    try:
        action()
    except NnpkitError as error:
        report.note(f"{what}: {' '.join(str(error).split())}")
