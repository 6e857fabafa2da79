"""What the reproductions share: trainings and simulations that are done once, claims, tables and figures.

Every script of a reproduction opens a `Study`, asks it for trainings and simulations, draws figures and adds claims.
Results stay in a folder; what is there already, with the same settings, is not computed again.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import hashlib
import itertools
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from rules import judge

import nnpkit
from nnpkit.analysis import plots
from nnpkit.config.config_file import config_from_mapping
from nnpkit.data.formats.reading import write
from nnpkit.data.structure import Structure
from nnpkit.files import atomic_write
from nnpkit.workflow import assemble
from nnpkit.workflow.new_model import make_model

__all__ = [
    "Claim",
    "Point",
    "Simulation",
    "Study",
    "Training",
    "compare_bars",
    "merge",
    "panels",
    "table",
    "verdict",
]

WATER = Path(__file__).resolve().parents[1] / "water"
"""Data that the project ships."""
ADAM, KALMAN, OTHER = plots.COLORS[1], plots.COLORS[0], plots.COLORS[2:]
_BEGIN, _END = "<!-- table: written by run.py --record -->", "<!-- end of table -->"


class Claim(NamedTuple):
    """A statement of a paper and what came out here; the verdict follows from the rule and its numbers."""

    claim: str
    paper: str
    here: str
    rule: str  # key of `rules.RULES`
    numbers: dict[str, Any]  # what the rule is given


class Point(NamedTuple):
    """Errors after an epoch, eV/atom and eV/Å."""

    epoch: int
    updates: int
    energy_rmse: float
    force_rmse: float
    energy_train: float
    force_train: float


@dataclass
class Training:
    """A finished training."""

    folder: Path
    summary: dict[str, Any]
    curve: list[Point] = field(default_factory=list)

    @classmethod
    def read(cls, folder: Path) -> Training:
        """The run in `folder`."""
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        evaluated = [record for record in map(json.loads, lines) if "validation" in record]
        curve = [
            Point(
                record["epoch"], record["updates"],
                *(
                    _number(record[part][key])
                    for part in ("validation", "train")
                    for key in ("energy_rmse", "force_rmse")
                ),
            )
            for record in evaluated
        ]  # fmt: skip
        return cls(folder, summary, curve)

    @property
    def energy_rmse(self) -> float:
        """Error of the best epoch on what the papers call the test set, and what chose the epoch: eV/atom."""
        return _number(self.summary["validation"]["energy_rmse"])

    @property
    def force_rmse(self) -> float:
        """The same of the forces, eV/Å."""
        return _number(self.summary["validation"]["force_rmse"])

    def first(self, energy: float = np.inf, force: float = np.inf) -> Point | None:
        """The first evaluated epoch with test errors not above these."""
        found = (p for p in self.curve if p.updates and p.energy_rmse <= energy and p.force_rmse <= force)
        return next(found, None)


@dataclass
class Simulation:
    """A finished run of LAMMPS."""

    folder: Path
    summary: dict[str, Any]

    @property
    def stable(self) -> bool:
        """Whether nothing speaks against the run."""
        return self.summary.get("unstable", "failed") is None

    def series(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Time in ps and a column of ``thermo.csv``."""
        path = self.folder / "thermo.csv"
        if not path.exists():
            return np.zeros(0), np.zeros(0)
        values = np.genfromtxt(path, delimiter=",", names=True)
        return np.atleast_1d(values["time_ps"]), np.atleast_1d(values[name])

    def second_half(self, name: str) -> float:
        """Mean over the second half of the run; not a number if there is none."""
        _, values = self.series(name)
        return float(values[len(values) // 2 :].mean()) if len(values) else float("nan")


class Study:
    """One reproduction: settings, folder of results, claims, figures.

    Parameters
    ----------
    home : path
        Folder of the script, with ``training.yaml``.
    arguments : sequence of str, optional
        Command line; that of the process by default.
    """

    def __init__(self, home: Path, arguments: Sequence[str] | None = None) -> None:
        parser = argparse.ArgumentParser(description=f"Repeat the comparisons of {home.name}.")
        parser.add_argument("--quick", action="store_true", help="minutes: fewer models, epochs and frames")
        parser.add_argument("--folder", type=Path, help="of the results, by default runs/reproduce/...")
        parser.add_argument("--processes", type=int, default=1, help="trainings of a group at the same time")
        parser.add_argument("--record", action="store_true", help="write the table into README.md")
        self.options = parser.parse_args(arguments)
        self.home, self.name, self.quick = home, home.name, bool(self.options.quick)
        default = Path("runs") / "reproduce" / f"{self.name}{'-quick' if self.quick else ''}"
        self.folder = (self.options.folder or default).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self.base: dict[str, Any] = yaml.safe_load((home / "training.yaml").read_text(encoding="utf-8"))
        self.claims: list[Claim] = []
        self.numbers: dict[str, Any] = {}
        self._began, self._cpu = time.monotonic(), os.times()

    @staticmethod
    def published(name: str) -> Path | None:
        """A folder of published data in NNPKIT_DATA, if there is one."""
        path = Path(os.environ.get("NNPKIT_DATA", "")) / name
        return path.resolve() if "NNPKIT_DATA" in os.environ and path.is_dir() else None

    def select(self, label: str, source: Path, keep: Callable[[Structure], bool], step: int = 1) -> str:
        """Every `step`-th structure of a file that `keep` approves of, as a file of its own."""
        path = self.folder / f"{label}.xyz"
        write(path, [structure for structure in nnpkit.read(source) if keep(structure)][::step])
        return str(path)

    def settings(self, *changes: Mapping[str, Any]) -> dict[str, Any]:
        """``training.yaml`` with `changes`, one after the other."""
        values = self.base
        for change in changes:
            values = merge(values, change)
        return values

    def train(self, label: str, *changes: Mapping[str, Any]) -> Training:
        """A training with the settings of ``training.yaml`` and `changes`."""
        return Training.read(self._run(label, self.settings(*changes)))

    def train_many(self, label: str, members: int, *changes: Mapping[str, Any]) -> list[Training]:
        """Trainings that differ in the first weights and the order of the data."""
        group = {"members": members, "resample": "seeds", "processes": self.options.processes}
        folder = self._run(label, self.settings(*changes, {"committee": group}))
        return [Training.read(folder / f"member-{m:02d}") for m in range(members)]

    def _run(self, label: str, values: dict[str, Any]) -> Path:
        folder = self.folder / f"{label}-{_digest(values)}"
        if (folder / "summary.json").exists():
            return folder
        print(f"training {label}", flush=True)
        config = config_from_mapping(copy.deepcopy(values), self.home)
        config.output = str(folder)
        with self.quiet(label):
            nnpkit.train(config, overwrite=True)
        return folder

    @contextlib.contextmanager
    def quiet(self, label: str) -> Iterator[None]:
        """Let what is printed go to a file."""
        path = self.folder / f"{label}.log"
        with open(path, "w", encoding="utf-8") as log, contextlib.redirect_stdout(log):
            yield

    def simulate(self, label: str, model: Path, start: str | Path, *options: object) -> Simulation:
        """``nnpkit md`` with `options`; a run that goes wrong is a result, too."""
        words = [str(start), *map(str, options)]
        folder = self.folder / f"{label}-{_digest([str(model), *words])}"
        if not (folder / "summary.json").exists():
            print(f"simulating {label}", flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            command = [sys.executable, "-m", "nnpkit", "md", str(model), *words, "-o", str(folder)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if not (folder / "summary.json").exists():
                message = (done.stderr.strip() or "no output").splitlines()[-1]
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "summary.json").write_text(json.dumps({"unstable": message}), encoding="utf-8")
        return Simulation(folder, json.loads((folder / "summary.json").read_text(encoding="utf-8")))

    def update_seconds(self, *changes: Mapping[str, Any], updates: int = 60) -> float:
        """Processor seconds of an update with the settings of ``training.yaml`` and `changes`, measured once.

        A mean of so many, in this process and without evaluations: times of curves are made of it, so that they do not
        depend on what else the machine does.
        """
        values = self.settings(*changes)
        path = self.folder / f"cost-{_digest(values)}.json"
        if not path.exists():
            path.write_text(json.dumps(measure_update(values, self.home, updates)), encoding="utf-8")
        return float(json.loads(path.read_text(encoding="utf-8")))

    def claim(self, claim: str, paper: str, here: str, rule: str, /, **numbers: Any) -> None:
        """Add a row of the table. `rule` is one of `rules.RULES`, `numbers` what it is given."""
        found = _finite(numbers)
        judge(rule, found)  # a rule without its numbers is a mistake here, not when the table is written
        self.claims.append(Claim(claim, paper, here, rule, found))

    def figure(self, name: str = "figure.png") -> Path:
        """Where a figure goes."""
        return self.folder / name

    def finish(self) -> dict[str, Any]:
        """Print the table and the line ``RESULT {json}``; write ``result.json``."""
        used = os.times()
        seconds = sum(used[:4]) - sum(self._cpu[:4])
        result = {
            "study": self.name, "quick": self.quick, "claims": [shown(claim) for claim in self.claims],
            "numbers": _finite(self.numbers), "cpu_seconds": round(seconds, 1), "machine": machine(),
        }  # fmt: skip
        with atomic_write(self.folder / "result.json") as stream:
            json.dump(result, stream, indent=1, ensure_ascii=False)
            stream.write("\n")
        if self.options.record:
            record(self.home, result, self.folder)
        print(table(result["claims"]))
        print(f"figures and result.json are in {self.folder}")
        print("RESULT " + json.dumps(result))
        return result


def merge(values: Mapping[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings with `change` in them; a section of a named `kind` replaces the old one."""
    result = dict(values)
    for key, value in change.items():
        old = result.get(key)
        together = isinstance(value, Mapping) and isinstance(old, Mapping) and "kind" not in value
        result[key] = merge(old, value) if together and old is not None else copy.deepcopy(value)
    return result


def measure_update(values: Mapping[str, Any], home: Path, updates: int) -> float:
    """Processor seconds of an update, the mean of `updates` after a few others."""
    config = config_from_mapping(copy.deepcopy(dict(values)), home)
    loaded = assemble.load_data(config)
    model, _ = make_model(config, loaded)
    schedule = assemble.make_schedule(config, loaded.learnt)
    budget = 4e9 if config.training.keeps_derivatives else 0.0
    splits = assemble.make_splits(model, loaded.splits, budget, additional=loaded.additional)
    update = assemble.make_update(config, splits["train"].store, updates)
    done, spent, warm = 0, 0.0, min(5, updates)
    for epoch in itertools.count():
        update.begin_epoch(epoch)
        for labels in schedule.epoch():
            start = time.process_time()
            update.apply(labels)
            spent += time.process_time() - start if done >= warm else 0.0
            done += 1
            if done == warm + updates:
                return spent / updates
    raise AssertionError("epochs do not end")


def shown(claim: Claim) -> dict[str, Any]:
    """A row of the table with what its rule says."""
    words, agrees = judge(claim.rule, claim.numbers)
    return {**claim._asdict(), "words": words, "agrees": agrees}


def verdict(agrees: bool | None) -> str:
    """The last column of a table."""
    return "cannot tell" if agrees is None else "yes" if agrees else "no"


def table(claims: Sequence[Mapping[str, Any]]) -> str:
    """Markdown table of claims."""
    rows = [[c["claim"], c["paper"], c["here"], c["words"], verdict(c["agrees"])] for c in claims]
    lines = [["claim", "paper", "here", "rule", "agrees"], ["---"] * 5, *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def record(home: Path, result: Mapping[str, Any], folder: Path) -> None:
    """Put the table of `result` between the marks in ``README.md``, ``result.json`` and figures beside it."""
    path = home / "README.md"
    before, _, rest = path.read_text(encoding="utf-8").partition(_BEGIN)
    _, _, after = rest.partition(_END)
    with atomic_write(path) as stream:
        stream.write(f"{before}{_BEGIN}\n\n{table(result['claims'])}\n\n{_END}{after}")
    for name in (folder / "result.json", *sorted(folder.glob("*.png"))):
        shutil.copyfile(name, home / name.name)


def recorded(home: Path) -> str:
    """The table in ``README.md``."""
    text = (home / "README.md").read_text(encoding="utf-8")
    return text.partition(_BEGIN)[2].partition(_END)[0].strip()


@contextlib.contextmanager
def panels(path: Path, columns: int, rows: int = 1, size: tuple[float, float] | None = None) -> Iterator[Any]:
    """Axes side by side, a flat list, in the house style; the PNG is written when the block ends."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with matplotlib.rc_context(plots.STYLE):
        figure = Figure(figsize=size or (4.2 * columns, 3.6 * rows), layout="constrained")
        FigureCanvasAgg(figure)
        yield list(figure.subplots(rows, columns, squeeze=False).flat)
        with atomic_write(path, "wb") as stream:
            figure.savefig(stream, format="png", dpi=110)


def compare_bars(axis: Any, names: Sequence[str], paper: Sequence[float], here: Sequence[float]) -> None:
    """Numbers quoted in a paper beside those found here."""
    places = np.arange(len(names))
    axis.bar(places - 0.2, paper, 0.38, color=plots.COLORS[5], label="paper")
    axis.bar(places + 0.2, here, 0.38, color=plots.COLORS[3], label="here")
    axis.set_xticks(places, names)
    axis.legend(fontsize=8)


def machine() -> dict[str, Any]:
    """What figures depend on."""
    import torch

    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        processor = names[0] if names else platform.machine()
    return {
        "processor": processor, "cores": os.cpu_count(), "python": platform.python_version(),
        "torch": str(torch.__version__), "nnpkit": nnpkit.__version__,
    }  # fmt: skip


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _finite(values: Any) -> Any:
    """`values` with None for what JSON does not know."""
    if isinstance(values, Mapping):
        return {key: _finite(value) for key, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not np.isfinite(values) else values


def _digest(values: Any) -> str:
    text = json.dumps([values, nnpkit.__version__], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:10]
