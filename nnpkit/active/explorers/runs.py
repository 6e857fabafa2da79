"""Runs that look for what a committee does not know: what is run, and the LAMMPS input of it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nnpkit.active.explorers.registered import EXPLORERS
from nnpkit.active.programs import python
from nnpkit.active.selection import Bounds
from nnpkit.active.task import prepare_task
from nnpkit.data.formats.extxyz import write_extxyz
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.files import atomic_folder
from nnpkit.md.atoms import fixed_atoms, group_commands, id_ranges, masses_of, of_motion

__all__ = ["Condition", "Exploration", "exploration_input", "prepare_run", "require_runnable", "strained"]


@dataclass(frozen=True)
class Condition:
    """Conditions of a run: temperatures (K) and pressures (bar) at its beginning and end; see the YAML reference.

    ``starts`` are the structures that these runs start from, if others than those of all runs.
    """

    ensemble: str = "nvt"
    temperature: tuple[float, float] = (300.0, 300.0)
    pressure: tuple[float, float] = (1.0, 1.0)
    steps: int = 2000
    runs: int = 1
    strain: float = 0.0
    deformation: tuple[float, float, float] | None = None
    starts: tuple[Structure, ...] | None = None


@dataclass(frozen=True)
class Exploration:
    """How the runs are made and watched; see the YAML reference.

    Attributes
    ----------
    engine : str
        ``lammps``, ``ase`` or another of `nnpkit.active.explorers.registered`.
    conditions : tuple of Condition
    timestep : float
        fs.
    every, interval, max_frames : int
        Steps between looks, least steps between collected frames, most frames of a run.
    min_distance : float
        In units of the shortest distance of the training data; closer ends the run.
    max_force : float
        eV/Å; larger ends the run.
    extrapolation : bool
        Whether frames are also collected where features are outside their range.
    input : str or None
        Text of a LAMMPS input of the user.
    ranks : int
        MPI ranks of a run.
    """

    engine: str = "lammps"
    conditions: tuple[Condition, ...] = (Condition(),)
    timestep: float = 0.5
    every: int = 10
    interval: int = 50
    max_frames: int = 50
    min_distance: float = 0.7
    max_force: float = 50.0
    extrapolation: bool = True
    input: str | None = None
    ranks: int = 1


def strained(structure: Structure, largest: float, random: np.random.Generator) -> Structure:
    """The structure with a random symmetric strain of its cell, each component at most `largest`."""
    if largest <= 0.0 or not structure.pbc.all():
        return structure
    strain = random.uniform(-largest, largest, (3, 3))
    deformation = np.eye(3) + (strain + strain.T) / 2
    return structure.replace(positions=structure.positions @ deformation, cell=structure.cell @ deformation)


def prepare_run(
    folder: Path,
    start: Structure,
    condition: Condition,
    exploration: Exploration,
    model: Path,
    bounds: Bounds,
    shortest: Mapping[str, float] | None,
    seed: int,
) -> None:
    """Write the folder of one run and its task; a folder that exists is left as it is.

    Parameters
    ----------
    folder : path
        Of the run.
    start : Structure
        Where it starts; its labels are ignored.
    condition, exploration
        What is run and how.
    model : path
        The committee.
    bounds : Bounds
        Of the disagreement, for collecting frames and for ending the run.
    shortest : mapping, optional
        Shortest distance of each pair of elements in the training data, Å.
    seed : int
        Of the velocities.
    """
    if (folder / "task.json").exists():
        return
    require_runnable(start, condition)
    bare = start.replace(
        energy=None, forces=None, stress=None, charges=None, dipole=None, info={}, arrays=of_motion(start)
    )
    nearest = exploration.min_distance * min(shortest.values(), default=0.0) if shortest else 0.0
    job: dict[str, Any] = {
        "model": os.path.relpath(model, folder), "condition": _without_starts(condition), "seed": seed,
        "lower": bounds.lower, "upper": bounds.upper, "min_distance": nearest,
        **{name: getattr(exploration, name) for name in (
            "engine", "timestep", "every", "interval", "max_frames", "max_force", "extrapolation", "ranks"
        )},
    }  # fmt: skip
    with atomic_folder(folder) as new:
        (new / "job.json").write_text(json.dumps(job, indent=1), encoding="utf-8")
        write_extxyz(new / "start.xyz", [bare])
        EXPLORERS.get(exploration.engine).prepare(new, bare, job, exploration.input)
        environment = {"OMP_NUM_THREADS": "1", "HYDRA_LAUNCHER": "fork"}
        prepare_task(new, python("nnpkit.active.explore_worker", folder.absolute()), environment=environment)


def require_runnable(start: Structure, condition: Condition) -> None:
    """Refuse a start whose masses or constraints a run under these conditions cannot respect.

    Raises
    ------
    InputError
        For masses that are none, constraints of other kinds, and atoms that are fixed while the cell changes.
    """
    masses_of(start)
    fixed = fixed_atoms(start)
    if fixed.any() and (fixed.all() or condition.ensemble == "npt" or condition.deformation is not None):
        raise InputError(
            "all atoms are fixed" if fixed.all() else "atoms cannot be fixed where the cell changes",
            where=start.name or None, expected="nvt without deformation", hint="release them, or change the conditions",
        )  # fmt: skip


def _without_starts(condition: Condition) -> dict[str, Any]:
    return asdict(replace(condition, starts=None))


def exploration_input(
    structure: Structure, elements: Sequence[str], job: Mapping[str, Any], own: str | None = None
) -> str:
    """LAMMPS input of a run: variables for everything, then the commands, or the user's `own`."""
    condition = job["condition"]
    (t0, t1), (p0, p1) = condition["temperature"], condition["pressure"]
    watch = f"watch force_std_max {job['lower']:.8g} {job['upper']:.8g}"
    watch += " watch extrapolations 1 INF" if job["extrapolation"] else ""
    watch += f" min_distance {job['min_distance']:.6g} max_force {job['max_force']:.8g} frames watch.xyz"
    watch += f" interval {job['interval']} limit {job['max_frames']} restart NULL"
    variables = {
        "seed": job["seed"], "steps": condition["steps"], "timestep": f"{job['timestep'] / 1000:g}",
        "temperature_start": f"{t0:g}", "temperature_stop": f"{t1:g}", "pressure_start": f"{p0:g}",
        "pressure_stop": f"{p1:g}", "every": job["every"],
    }  # fmt: skip
    fixed = fixed_atoms(structure)
    lines = [f"variable {name} index {value}" for name, value in variables.items()]
    if fixed.any():
        lines.append(f'variable fixed string "{" ".join(id_ranges(fixed))}"')
    lines += [
        f'variable watch string "{watch}"',
        f'variable model string "{job["model"]}"',
        f'variable elements string "{" ".join(elements)}"',
        "",
    ]
    if own is not None:
        return "\n".join(lines) + "\n" + own
    if condition["ensemble"] == "npt" and not structure.pbc.all():
        raise InputError("npt needs a periodic structure", where=structure.name, hint="use nvt")
    group, temperature = ("mobile", " temp mobile_temp") if fixed.any() else ("all", "")
    boundary = " ".join("p" if p else "m" for p in structure.pbc)
    fix = "nvt temp ${temperature_start} ${temperature_stop} 0.1"
    if condition["ensemble"] == "npt":
        fix = "npt temp ${temperature_start} ${temperature_stop} 0.1 aniso ${pressure_start} ${pressure_stop} 1.0"
    now = "c_mobile_temp" if fixed.any() else "c_thermo_temp"
    hottest = (
        "5*ternary(v_temperature_start > v_temperature_stop, v_temperature_start, v_temperature_stop) + 1000"
    )
    lines += [
        "units           metal",
        "atom_style      atomic",
        "newton          on",
        f"boundary        {boundary}",
        "read_data       structure.data",
        *(group_commands(fixed) if fixed.any() else []),
        "pair_style      nnpkit every 0",
        "pair_coeff      * * ${model} ${elements}",
        "fix             watch all nnpkit/watch ${every} ${watch}",
        "compute         watched all nnpkit force_std_max extrapolations",
        "neighbor        1.0 bin",
        "neigh_modify    every 1 delay 0 check yes",
        "thermo_style    custom step temp pe press vol c_watched[1] c_watched[2]",
        "thermo_modify   flush yes lost error",
        "thermo          ${every}",
        f"velocity        {group} create ${{temperature_start}} ${{seed}} mom {'no' if fixed.any() else 'yes'} dist "
        f"gaussian{temperature}",
        "timestep        ${timestep}",
        f"fix             integrate {group} {fix}",
        *(["compute_modify  integrate_temp extra/dof 0"] if fixed.any() else []),
        *_deform(structure, condition["deformation"]),
        f'variable        too_hot equal "!({now} < {hottest})"',
        "fix             halt all halt 10 v_too_hot != 0 error soft message yes",
        "run             ${steps}",
    ]
    return "\n".join(lines) + "\n"


def _deform(structure: Structure, factors: Sequence[float] | None) -> list[str]:
    """The command that changes the lengths of the cell during the run, if there is anything to change."""
    if factors is None:
        return []
    words = [
        f"{x} scale {f:g}" for x, f, p in zip("xyz", factors, structure.pbc, strict=True) if p and f != 1.0
    ]
    return [f"fix             deform all deform 10 {' '.join(words)} remap x"] if words else []
