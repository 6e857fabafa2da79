"""What a LAMMPS run says: was it stable, averages with errors, plots, summary.json."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nnpkit._version import __version__
from nnpkit.analysis import plots
from nnpkit.analysis.extrapolation import extrapolation_verdict
from nnpkit.analysis.run_averages import averages_of_run, run_verdict
from nnpkit.data.formats.lammps_dump import iterate_dump
from nnpkit.data.formats.reading import read, write
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import LoadedModel, load
from nnpkit.errors import InputError
from nnpkit.files import atomic_write
from nnpkit.lock import FolderLock
from nnpkit.md.lammps import FILES, VOLUME_FACTOR, input_files
from nnpkit.md.lammps_run import Row, lammps_command, prepare_folder, run_lammps
from nnpkit.md.restarts import (
    CONTINUED,
    continued_input,
    join_parts,
    newest_restart,
    put_log_aside,
    read_record,
    whole_output,
    write_record,
)
from nnpkit.md.simulation_settings import Simulation
from nnpkit.md.thermo import Thermo, ThermoReader

__all__ = ["continue_simulation", "instability", "report", "require_whole", "simulate"]

CONVERGED = ("force tolerance", "forces are zero")
"""Reasons of LAMMPS for ending a minimisation that has arrived."""


def instability(simulation: Simulation, reader: ThermoReader) -> str | None:
    """Say in words why a run cannot be trusted; None if nothing speaks against it."""
    thermo = reader.thermo()
    if not len(thermo):
        return None
    step, last = int(thermo["step"][-1]), {name: values[-1] for name, values in thermo.columns.items()}
    if not reader.finite:
        return f"the energy is not a number at step {step}"
    if not simulation.dynamics:
        return None
    if reader.halted == "guard_volume":
        change = last["volume_A3"] / thermo["volume_A3"][0]
        return f"the volume has changed by a factor {change:.3g} at step {step} (limit {VOLUME_FACTOR:g})"
    hottest = float(thermo["temperature_K"].max())
    if reader.halted or hottest > simulation.hottest:
        return (
            f"the temperature has reached {hottest:.0f} K by step {step} (limit {simulation.hottest:.0f} K)"
        )
    return None


def simulate(
    model: LoadedModel,
    structure: Structure,
    folder: str | Path,
    simulation: Simulation,
    *,
    ranks: int = 1,
    lmp: str | None = None,
    overwrite: bool = False,
    on_row: Callable[[Row], None] | None = None,
) -> dict[str, Any]:
    """Run LAMMPS in `folder` with `model` from `structure` on, and `report`; the summary.

    Parameters and errors are those of `nnpkit.md.lammps_run` and `nnpkit.md.lammps.input_files`.
    """
    require_whole(model)
    command = lammps_command(ranks, lmp)
    files = input_files(simulation, structure, ranks=ranks)
    with _alone(folder):
        prepare_folder(folder, files, overwrite)
        model.save(Path(folder) / FILES["model"], structure)
        write_record(Path(folder), simulation, ranks, structure.pbc)
        return _run(Path(folder), command, simulation, structure, ranks, model, on_row)


@contextmanager
def _alone(folder: str | Path) -> Iterator[None]:
    """Nobody else simulates in the folder; a lock file is only there meanwhile."""
    lock = FolderLock(Path(folder) / ".lock")
    fresh = not Path(folder).exists()
    if Path(folder).is_dir() or fresh:
        lock.require("another process simulates here", "wait for it, or choose another folder")
    try:
        yield
    finally:
        lock.release()
        lock.path.unlink(missing_ok=True) if Path(folder).is_dir() else None


def _run(
    folder: Path, command: Sequence[str], simulation: Simulation, structure: Structure, ranks: int, model: LoadedModel,
    on_row: Callable[[Row], None] | None,
) -> dict[str, Any]:  # fmt: skip
    """Run LAMMPS and report; an interrupted run is reported as far as it has come."""
    reader = ThermoReader()
    interrupted = False
    try:
        reader = run_lammps(folder, command, on_row, reader)
    except KeyboardInterrupt:
        interrupted = True
        if len(reader.thermo()) < 2:
            raise
    return report(folder, simulation, structure, reader, ranks, model, interrupted)


def continue_simulation(
    folder: str | Path,
    *,
    steps: int | None = None,
    ranks: int | None = None,
    time_limit: float | None = None,
    lmp: str | None = None,
    on_row: Callable[[Row], None] | None = None,
) -> dict[str, Any]:
    """Go on with the simulation in `folder`, from its newest restart file or, if there is none, from its beginning.

    Parameters
    ----------
    folder : path
        Of `simulate`, or prepared for it.
    steps : int, optional
        Of the whole run; by default what was asked for.
    ranks, time_limit, lmp, on_row
        As of `simulate`.

    Returns
    -------
    dict
        The summary of all parts of the run.

    Raises
    ------
    InputError
        If there is nothing to continue, or the run is complete, has failed or is a ramp that would become longer.
    """
    folder = Path(folder)
    simulation, asked, periodic = read_record(folder)
    ranks = ranks or asked
    command = lammps_command(ranks, lmp)
    structure = read(folder / FILES["data"], labels_matter=False)[0]
    structure = structure.replace(pbc=np.array(periodic))
    model = load(folder / FILES["model"])
    with _alone(folder):
        _require_sound(folder)
        if steps is not None and simulation.ramp and steps != simulation.steps:
            raise InputError(
                "a ramp cannot become longer", where="--steps", expected=f"{simulation.steps}",
                hint=f"begin a new run from {folder}/final.extxyz",
            )  # fmt: skip
        simulation = replace(simulation, steps=steps or simulation.steps, time_limit=time_limit)
        restart = newest_restart(folder, command)
        if restart is not None and restart[1] >= simulation.steps:
            raise InputError(
                f"the run is complete: {restart[1]} of {simulation.steps} steps", where=str(folder),
                hint="--steps N makes it N steps long in all",
            )  # fmt: skip
        text = (folder / FILES["input"]).read_text(encoding="utf-8")
        join_parts(folder, simulation.trajectories)
        if restart is not None:
            put_log_aside(folder)
        with atomic_write(folder / CONTINUED) as stream:
            stream.write(continued_input(text, restart[0] if restart else None, simulation))
        write_record(folder, replace(simulation, time_limit=None), ranks, periodic)
        command = [CONTINUED if word == FILES["input"] else word for word in command]
        return _run(folder, command, simulation, structure, ranks, model, on_row)


def _require_sound(folder: Path) -> None:
    try:
        unstable = json.loads((folder / "summary.json").read_text(encoding="utf-8"))["unstable"]
    except (OSError, ValueError, KeyError):
        return
    if unstable:
        raise InputError(
            f"the run is not stable: {unstable}",
            where=str(folder),
            hint="begin again from a frame before that",
        )


def require_whole(model: LoadedModel) -> None:
    """Refuse to run LAMMPS with a correction whose baseline the file does not hold.

    Raises
    ------
    InputError
        Saying what is missing, and how to run it by hand.
    """
    if (missing := model.missing_baseline) is not None:
        raise InputError(
            f"the potential is a correction to {missing['name']}, which LAMMPS does not know of", where=model.where,
            hint="write your own input that adds it with pair_style hybrid/overlay, or use the ASE calculator, which "
            "adds it by itself",
        )  # fmt: skip


def report(
    folder: str | Path, simulation: Simulation, structure: Structure, reader: ThermoReader, ranks: int = 1,
    model: LoadedModel | None = None, interrupted: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Write thermo.csv, final.extxyz, the plots and summary.json of a run into its folder.

    `model` names the features of an extrapolation; `interrupted` says that the run was ended by hand.

    Returns
    -------
    dict
        The summary; ``summary["unstable"]`` is None or says in words what went wrong.
    """
    folder = Path(folder)
    join_parts(folder, simulation.trajectories)
    reader = whole_output(folder, reader)
    thermo = reader.thermo()
    thermo.write_csv(folder / "thermo.csv")
    summary = _facts(simulation, structure, reader, ranks)
    final = _final_frame(folder, thermo)
    if final is not None:
        summary["max_force"] = float(np.abs(final.forces).max()) if final.forces is not None else None
    if simulation.dynamics:
        summary |= averages_of_run(folder, simulation, structure, thermo, summary["unstable"] is None)
    else:
        summary |= _minimisation(folder, structure, thermo, reader)
    summary |= extrapolation_verdict(simulation, structure, reader, model)
    summary["stopped_early"] = _stopped_early(simulation, summary, interrupted)
    summary["verdict"] = run_verdict(summary)
    summary = _without_nan(summary)
    with atomic_write(folder / "summary.json") as stream:
        json.dump(summary, stream, indent=2)
        stream.write("\n")
    return summary


def _facts(simulation: Simulation, structure: Structure, reader: ThermoReader, ranks: int) -> dict[str, Any]:
    thermo = reader.thermo()
    facts: dict[str, Any] = {
        "ensemble": simulation.ensemble, "n_atoms": structure.n_atoms,
        "composition": dict(sorted(structure.composition.items())),
        "unstable": instability(simulation, reader),
        "steps": int(thermo["step"][-1]) if len(thermo) else 0, "ranks": ranks, "seed": simulation.seed,
    }  # fmt: skip
    if simulation.dynamics:
        facts |= {
            "steps_asked": simulation.steps, "timestep": simulation.timestep,
            "temperature_target": simulation.temperature,
        }  # fmt: skip
        facts |= {"pressure_target": simulation.pressure} if simulation.ensemble == "npt" else {}
        facts |= {"ramp": simulation.ramp} if simulation.ramp else {}
    if reader.loops and reader.loops[-1].steps:
        loop = reader.loops[-1]
        facts["seconds"] = loop.seconds
        facts["us_per_atom_step"] = 1e6 * loop.seconds / (loop.steps * loop.atoms)
        if simulation.dynamics:
            facts["ns_per_day"] = loop.steps * simulation.timestep * 1e-6 * 86400.0 / loop.seconds
    if simulation.committee:
        facts["ended"] = reader.ended
    return facts | {"warnings": reader.warnings, "versions": {"nnpkit": __version__}}


def _stopped_early(simulation: Simulation, summary: dict[str, Any], interrupted: bool) -> str | None:
    """Why a run has fewer steps than asked for, if it is neither unstable nor ended by the potential."""
    done, asked = summary["steps"], simulation.steps
    if not simulation.dynamics or done >= asked or summary["unstable"] or summary.get("ended"):
        return None
    why = "interrupted" if interrupted else "the time limit" if simulation.time_limit else "LAMMPS stopped"
    return f"{done} of {asked} steps: {why}"


def _final_frame(folder: Path, thermo: Thermo) -> Structure | None:
    """Rewrite the last frame, which has the forces too, as extended XYZ with its energy."""
    dump = folder / FILES["final"]
    if not dump.exists():
        return None
    frame = next(iterate_dump(dump))
    if len(thermo) and int(thermo["step"][-1]) == frame.info["step"]:
        frame = frame.replace(energy=float(thermo["potential_energy_eV"][-1]))
    if np.isfinite(frame.positions).all():
        write(folder / "final.extxyz", [frame])
    dump.unlink()
    return frame


def _minimisation(folder: Path, structure: Structure, thermo: Thermo, reader: ThermoReader) -> dict[str, Any]:
    energy = thermo["potential_energy_eV"] / structure.n_atoms
    with plots.figure(folder / "energy.png", "Minimisation", "Step", "Energy above final (meV/atom)") as ax:
        ax.plot(thermo["step"], (energy - energy[-1]) * 1000.0, color=plots.COLORS[0])
        if len(energy) > 2 and energy[0] > energy[-2] > energy[-1]:
            ax.set_yscale("log")
    return {
        "energy_initial": float(energy[0]), "energy_final": float(energy[-1]),
        "converged": reader.stopping in CONVERGED, "stopped": reader.stopping,
    }  # fmt: skip


def _without_nan(value: Any) -> Any:
    """The value with NaN and infinities as None: JSON has neither."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value
