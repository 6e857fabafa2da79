"""The best potential within a budget: a ladder of models, successive halving, costs measured in LAMMPS.

All candidates train for a short time. Their costs are measured, those above the budget leave, and so does the worse
half of the others. The rest train anew for twice the time, and so on (K. Jamieson, A. Talwalkar, AISTATS 2016).
"""

from __future__ import annotations

import json
import math
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from nnpkit._version import __version__
from nnpkit.config.config_file import config_from_mapping
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.files import atomic_write
from nnpkit.md.lammps import pair_commands
from nnpkit.md.lammps_run import lammps_command
from nnpkit.md.step_cost import step_cost, system_of_size
from nnpkit.workflow.data_sets import read_splits
from nnpkit.workflow.studies import train_once
from nnpkit.workflow.tuning_ladder import Candidate, candidates
from nnpkit.workflow.tuning_page import write_tuning_page

__all__ = ["Goal", "Trial", "front_of", "tune"]

_ATOMS = 1000
_LEAST_SECONDS = 2.0  # of a training: in less, nothing but the start is measured


@dataclass(frozen=True)
class Goal:
    """What is asked for.

    Attributes
    ----------
    budget : float or None
        Microseconds per atom and step on one core; the best potential within it is wanted.
    target : float or None
        Validation error, eV/Å of forces (eV/atom of energies where there are no forces); the cheapest potential that
        reaches it is wanted.
    seconds : float
        Of all trainings together.
    precision : {'float64', 'mixed'}
        Of the kernels in LAMMPS.
    """

    budget: float | None = None
    target: float | None = None
    seconds: float = 600.0
    precision: str = "float64"

    def __post_init__(self) -> None:
        if (self.budget is None) == (self.target is None):
            raise InputError("a budget or a target error", expected="one of --budget and --target")
        for name in ("budget", "target", "seconds"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0.0):
                raise InputError(f"{name} is {value}", where=f"--{name}", expected="a number above 0")
        if self.precision not in ("float64", "mixed"):
            raise InputError(f"precision {self.precision!r}", expected="float64 or mixed")


@dataclass
class Trial:
    """A candidate and what is known of it."""

    candidate: Candidate
    rounds: list[dict[str, Any]] = field(default_factory=list)  # seconds, errors and folder of each training
    us_per_atom_step: float | None = None
    left: str | None = None  # why it was given up

    @property
    def error(self) -> float:
        """Validation error of the last training; infinite if it failed."""
        last = self.rounds[-1]["error"] if self.rounds else None
        return math.inf if last is None else float(last)

    def row(self) -> dict[str, Any]:
        """For ``tune.json``."""
        c = self.candidate
        return {
            "name": c.name, "kind": c.kind, "size": c.size, "cutoff_factor": c.shortened,
            "us_per_atom_step": self.us_per_atom_step, "rounds": self.rounds, "left": self.left, "model": c.model,
        }  # fmt: skip


def tune(
    data: Mapping[str, Any],
    goal: Goal,
    output: str | Path,
    families: Sequence[str] = ("acsf", "cluster_expansion"),
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Find a potential and write ``tune.json``, ``chosen.yaml``, ``model.pt`` and the trainings into `output`.

    Trainings that are complete are not repeated.

    Parameters
    ----------
    data : mapping
        The section ``data`` of the trainings.
    goal : Goal
        What is asked for.
    output : path
        Folder.
    families : sequence of str
        Those that are tried, of `LADDERS`.
    seed : int
        Of the trainings.
    say : callable
        Gets lines on the progress.

    Returns
    -------
    dict
        The content of ``tune.json``.

    Raises
    ------
    InputError
        For data without validation structures, a time too short for the ladder, no LAMMPS, or a goal that no candidate
        reaches; the file is written then, too, without a choice.
    """
    folder = Path(output).absolute()
    trials = [Trial(candidate) for candidate in candidates(families)]
    seconds = _seconds_of_rounds(len(trials), goal.seconds)
    absolute = config_from_mapping({"data": dict(data)}).data
    settings = {"seed": seed, "data": absolute.model_dump(exclude_unset=True)}
    system = system_of_size(_largest(settings), _ATOMS)
    lammps_command(1)  # before anything is trained
    alive = list(trials)
    for number, own in enumerate(seconds):
        say(f"round {number + 1} of {len(seconds)}: {len(alive)} trainings of {own:.0f} s")
        for trial in alive:
            trial.rounds.append(_train(settings, trial, own, folder, number))
            if trial.us_per_atom_step is None and math.isfinite(trial.error):
                potential = folder / trial.rounds[-1]["folder"] / "model.pt"
                trial.us_per_atom_step = _cost(potential, system, goal.precision)
            say(_line(trial))
        alive = _kept(alive, goal, last=number == len(seconds) - 1)
    chosen = _choice(trials, goal)
    found = _record(trials, goal, chosen, system)
    _write_files(folder, found, settings, chosen, seconds[-1])
    if chosen is None:
        raise InputError(
            _unreached(trials, goal), where=str(folder / "tune.json"), hint="all figures are there"
        )
    return found


def _seconds_of_rounds(n: int, total: float) -> list[float]:
    """Seconds of a training in each round: half as many twice as long, until there are no more than three."""
    counts = [n]
    while counts[-1] > 3:
        counts.append(math.ceil(counts[-1] / 2))
    unit = total / sum(count * 2**k for k, count in enumerate(counts))
    if unit < _LEAST_SECONDS:
        raise InputError(
            f"{total:.0f} s for {n} candidates are {unit:.1f} s for each of the first trainings", where="--time",
            expected=f"at least {math.ceil(total * _LEAST_SECONDS / unit)} s, or fewer --families",
        )  # fmt: skip
    return [unit * 2**k for k in range(len(counts))]


def _largest(settings: Mapping[str, Any]) -> Structure:
    """The largest structure of the data, for the measurement of costs."""
    splits = read_splits(config_from_mapping({**settings, "output": "unused"}))
    if not splits.get("validation"):
        raise InputError(
            "there are no validation structures to compare potentials by", where="data.validation_fraction"
        )
    return max((s for part in splits.values() for s in part), key=lambda s: s.n_atoms)


def _train(
    settings: Mapping[str, Any], trial: Trial, seconds: float, folder: Path, number: int
) -> dict[str, Any]:
    """One training of a candidate: its seconds, errors and folder."""
    run = folder / "trainings" / f"{trial.candidate.name}-{number + 1}"
    training = {"time": f"{seconds:.3f}s"}
    config = config_from_mapping(
        {**settings, "model": trial.candidate.model, "training": training, "output": str(run)}
    )
    done = train_once(config, Console(quiet=True))
    errors = {part: done.get(part) for part in ("train", "validation", "test")}
    judged = errors["validation"] or {}
    return {
        "seconds": done.get("seconds", seconds), "folder": str(run.relative_to(folder)), "failure": done["failure"],
        "error": judged.get("force_rmse", judged.get("energy_rmse")), **errors,
    }  # fmt: skip


def _cost(model_file: Path, system: Structure, precision: str) -> float:
    """Measured cost of a potential, microseconds per atom and step."""
    pair = pair_commands(model_file.name, sorted(set(system.symbols)))
    if precision != "float64":
        pair[0] += f" precision {precision}"
    return step_cost(system, pair, {model_file.name: model_file.read_bytes()})


def _line(trial: Trial) -> str:
    """What a person wants to read while it goes on."""
    last = trial.rounds[-1]
    if last["error"] is None:
        return f"  {trial.candidate.name}: {last['failure'] or 'no error is known'}"
    cost = f"{trial.us_per_atom_step:.2f} us/atom/step" if trial.us_per_atom_step else "cost not measured"
    return f"  {trial.candidate.name}: {last['error']:.4f}, {cost}, {last['seconds']:.0f} s"


def front_of(trials: Sequence[Trial]) -> list[Trial]:
    """Those that no other one beats in error and in cost, the cheapest first."""
    found: list[Trial] = []
    for trial in sorted(trials, key=lambda t: (t.us_per_atom_step or math.inf, t.error)):
        if trial.us_per_atom_step is not None and (not found or trial.error < found[-1].error):
            found.append(trial)
    return found


def _kept(alive: Sequence[Trial], goal: Goal, last: bool) -> list[Trial]:
    """Those that go on: within the budget, then the better half; in search of a target the front comes first."""
    able = []
    for trial in alive:
        if trial.us_per_atom_step is None:
            trial.left = trial.rounds[-1]["failure"] or "no error is known"
        elif goal.budget is not None and trial.us_per_atom_step > goal.budget:
            trial.left = f"above {goal.budget:g} us/atom/step"
        else:
            able.append(trial)
    if last:
        return able
    front = front_of(able) if goal.target is not None else []
    able.sort(key=lambda t: (not any(t is other for other in front), t.error))
    for trial in able[math.ceil(len(alive) / 2) :]:
        trial.left = "others were better"
    return able[: math.ceil(len(alive) / 2)]


def _choice(trials: Sequence[Trial], goal: Goal) -> Trial | None:
    """The best one within the budget, or the cheapest one that reaches the target."""
    able = [t for t in trials if t.left is None and t.us_per_atom_step is not None]
    if goal.target is not None:
        able = [t for t in able if t.error <= goal.target]
        return min(able, key=lambda t: t.us_per_atom_step or math.inf, default=None)
    return min(able, key=lambda t: t.error, default=None)


def _unreached(trials: Sequence[Trial], goal: Goal) -> str:
    """Why there is no choice."""
    measured = [t for t in trials if t.us_per_atom_step is not None]
    if not measured:
        return "no training succeeded: " + str(trials[0].rounds[-1]["failure"])
    if goal.budget is not None:
        cheapest = min(measured, key=lambda t: t.us_per_atom_step or math.inf)
        return (
            f"no candidate is within {goal.budget:g} us/atom/step: the cheapest, {cheapest.candidate.name}, takes "
            f"{cheapest.us_per_atom_step:.2f}"
        )
    best = min(measured, key=lambda t: t.error)
    return (
        f"no candidate has an error of {goal.target:g}: the best, {best.candidate.name}, has {best.error:.4f}"
    )


def _record(trials: Sequence[Trial], goal: Goal, chosen: Trial | None, system: Structure) -> dict[str, Any]:
    """The content of ``tune.json``."""
    return {
        "goal": asdict(goal),
        "chosen": None if chosen is None else chosen.candidate.name,
        "front": [t.candidate.name for t in front_of([t for t in trials if t.rounds])],
        "measured": {"structure": system.name, "atoms": system.n_atoms, "cores": 1, "processor": platform.processor()
                     or platform.machine(), "version": __version__},
        "rows": [t.row() for t in trials],
    }  # fmt: skip


def _write_files(
    folder: Path, found: Mapping[str, Any], settings: Mapping[str, Any], chosen: Trial | None, seconds: float
) -> None:
    """``tune.json``; of a choice its potential and the YAML that trains it again, for as long as the last time."""
    with atomic_write(folder / "tune.json") as stream:
        json.dump(found, stream, indent=1, allow_nan=False)
        stream.write("\n")
    write_tuning_page(folder / "tune.html", found)
    if chosen is None:
        return
    with atomic_write(folder / "model.pt", "wb") as stream:
        stream.write((folder / chosen.rounds[-1]["folder"] / "model.pt").read_bytes())
    again = {
        **settings,
        "model": chosen.candidate.model,
        "training": {"time": f"{seconds:.0f}s"},
        "output": "run",
    }
    with atomic_write(folder / "chosen.yaml") as stream:
        stream.write(yaml.safe_dump(again, sort_keys=False))
