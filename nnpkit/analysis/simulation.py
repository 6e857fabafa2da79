"""What a LAMMPS run says: was it stable, averages with errors, plots, summary.json."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from nnpkit._version import __version__
from nnpkit.analysis import plots
from nnpkit.analysis.averages import block_average, equilibration, settled
from nnpkit.analysis.dynamics import energy_drift
from nnpkit.analysis.extrapolation import extrapolation_verdict
from nnpkit.analysis.liquid import RadialDistribution, default_range, radial_distribution
from nnpkit.data.formats.lammps_dump import iterate_dump
from nnpkit.data.formats.reading import write
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import LoadedModel
from nnpkit.errors import InputError
from nnpkit.files import atomic_write
from nnpkit.md.lammps import FILES, VOLUME_FACTOR, input_files
from nnpkit.md.lammps_run import Row, lammps_command, prepare_folder, run_lammps
from nnpkit.md.simulation_settings import Simulation
from nnpkit.md.thermo import Thermo, ThermoReader

__all__ = ["instability", "report", "require_whole", "simulate"]

_RDF_FRAMES = 200
_RDF_PAIRS = 1e7  # per frame, bounds the memory
_SHORTEST_RDF = 3.0  # Å

CONVERGED = ("force tolerance", "forces are zero")
"""Reasons of LAMMPS for ending a minimisation that has arrived."""

QUANTITIES = {
    "temperature": ("temperature_K", "Temperature (K)", "K"),
    "pressure": ("pressure_bar", "Pressure (bar)", "bar"),
    "density": ("density_g_cm3", "Density (g/cm³)", "g/cm³"),
    "potential_energy": ("potential_energy_eV", "Potential energy (eV/atom)", "eV/atom"),
}
"""Averaged quantities: column of the thermo table, label, unit."""


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
    prepare_folder(folder, input_files(simulation, structure, ranks=ranks), overwrite)
    model.save(Path(folder) / FILES["model"], structure)
    return report(folder, simulation, structure, run_lammps(folder, command, on_row), ranks, model)


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


def report(folder: str | Path, simulation: Simulation, structure: Structure, reader: ThermoReader,
           ranks: int = 1, model: LoadedModel | None = None) -> dict[str, Any]:  # fmt: skip
    """Write thermo.csv, final.extxyz, the plots and summary.json of a run into its folder.

    `model` names the features of an extrapolation.

    Returns
    -------
    dict
        The summary; ``summary["unstable"]`` is None or says in words what went wrong.
    """
    folder = Path(folder)
    thermo = reader.thermo()
    thermo.write_csv(folder / "thermo.csv")
    summary = _facts(simulation, structure, reader, ranks)
    final = _final_frame(folder, thermo)
    if final is not None:
        summary["max_force"] = float(np.abs(final.forces).max()) if final.forces is not None else None
    if simulation.dynamics:
        summary |= _dynamics(folder, simulation, structure, thermo, summary["unstable"] is None)
    else:
        summary |= _minimisation(folder, structure, thermo, reader)
    summary |= extrapolation_verdict(simulation, structure, reader, model)
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
        facts |= {"timestep": simulation.timestep, "temperature_target": simulation.temperature}
        facts |= {"pressure_target": simulation.pressure} if simulation.ensemble == "npt" else {}
    if reader.loops and reader.loops[-1].steps:
        loop = reader.loops[-1]
        facts["seconds"] = loop.seconds
        facts["us_per_atom_step"] = 1e6 * loop.seconds / (loop.steps * loop.atoms)
        if simulation.dynamics:
            facts["ns_per_day"] = loop.steps * simulation.timestep * 1e-6 * 86400.0 / loop.seconds
    if simulation.committee:
        facts["ended"] = reader.ended
    return facts | {"warnings": reader.warnings, "versions": {"nnpkit": __version__}}


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


def _dynamics(
    folder: Path, simulation: Simulation, structure: Structure, thermo: Thermo, stable: bool
) -> dict[str, Any]:
    """Averages, drift and plots of a run in time."""
    finite = np.isfinite(np.stack(list(thermo.columns.values()))).all(axis=0)
    table = Thermo({name: values[finite] for name, values in thermo.columns.items()})
    if len(table) < 2:
        return {}
    start = _start(table) if stable else 0
    begin, end = float(table["time_ps"][start]), float(table["time_ps"][-1])
    result = {"equilibration": begin, "averaged": end - begin}
    result |= _averages(folder, simulation, structure, table, start)
    result |= _conservation(folder, simulation, structure, table, start)
    if structure.pbc.all():
        _stress(folder, table)
    if simulation.committee:
        result |= _disagreement(folder, table, start)
    if structure.pbc.all() and stable:
        _rdf(folder, simulation, structure, begin)
    return result


def _start(table: Thermo) -> int:
    """Index where equilibrium begins: after a tenth of the run, later if a series says so."""
    columns = ("potential_energy_eV", "volume_A3", "temperature_K")
    return max(len(table) // 10, *(equilibration(table[column]) for column in columns))


def _averages(
    folder: Path, simulation: Simulation, structure: Structure, table: Thermo, start: int
) -> dict[str, Any]:
    """Mean and error of every quantity, each with a plot; what has not settled has no error, but a reason."""
    targets = {"temperature": simulation.temperature} if simulation.ensemble != "nve" else {}
    if simulation.ensemble == "npt":
        targets["pressure"] = simulation.pressure
    result: dict[str, Any] = {}
    not_settled: dict[str, str] = {}
    for name, (column, label, unit) in QUANTITIES.items():
        if name in ("pressure", "density") and not structure.pbc.all():
            continue
        values = table[column] / (structure.n_atoms if name == "potential_energy" else 1)
        average = block_average(values[start:])
        if (reason := settled(values, start)) is not None:
            not_settled[name] = reason
            average = average._replace(error=float("nan"))
        result |= {name: average.mean, f"{name}_error": average.error}
        if name == "density" and simulation.ensemble != "npt":
            continue
        plots.plot_series(
            folder / f"{name}.png", label.split(" (")[0], table["time_ps"], values, label, average,
            begin=float(table["time_ps"][start]), target=targets.get(name), unit=unit,
        )  # fmt: skip
    return result | {"settled": not not_settled, "not_settled": not_settled}


def _conservation(
    folder: Path, simulation: Simulation, structure: Structure, table: Thermo, start: int
) -> dict[str, Any]:
    time, energy = table["time_ps"][start:], table["conserved_energy_eV"][start:]
    drift = energy_drift(time, energy, structure.n_atoms)
    title = "Total energy" if simulation.ensemble == "nve" else "Conserved energy"
    plots.plot_drift(folder / "conserved_energy.png", title, time, energy / structure.n_atoms, drift)
    return {
        "energy_drift": drift.slope, "energy_drift_error": drift.error, "energy_fluctuation": drift.fluctuation,
    }  # fmt: skip


def _stress(folder: Path, table: Thermo) -> None:
    """Components of the pressure tensor: equal on the diagonal and zero beside it in a liquid."""
    names = {name: f"pressure_{name}_bar" for name in ("xx", "yy", "zz", "xy", "xz", "yz")}
    if any(column not in table for column in names.values()):
        return
    series = {name: table[column] / 1000.0 for name, column in names.items()}
    plots.plot_together(
        folder / "stress.png", "Pressure tensor", table["time_ps"], [("Pressure (kbar)", series)]
    )


def _disagreement(folder: Path, table: Thermo, start: int) -> dict[str, Any]:
    """Disagreement of the members of a committee after equilibration."""
    largest, mean = table["force_std_max_eV_A"], table["force_std_mean_eV_A"]
    energy = table["energy_std_eV_atom"] * 1000.0
    rows = [
        ("Force disagreement (eV/Å)", {"largest of the atoms": largest, "mean": mean}),
        ("Energy (meV/atom)", {"disagreement": energy}),
    ]
    plots.plot_together(folder / "disagreement.png", "Disagreement of the committee", table["time_ps"], rows)
    return {
        "force_std_max": float(largest[start:].max()),
        "force_std_mean": float(mean[start:].mean()),
        "energy_std": float(energy[start:].mean()) / 1000.0,
    }


def _rdf(folder: Path, simulation: Simulation, structure: Structure, begin: float) -> None:
    """Radial distribution functions of the trajectory after equilibration: plot and table."""
    trajectory = folder / FILES["trajectory"]
    pair_density = 2.0 * np.pi / 3.0 * structure.n_atoms**2 / structure.volume
    r_max = min(default_range(structure), (_RDF_PAIRS / pair_density) ** (1 / 3))
    if not trajectory.exists() or r_max < _SHORTEST_RDF:
        return
    stride = max(1, simulation.steps // simulation.dump_every // _RDF_FRAMES)
    frames = (
        frame
        for frame in iterate_dump(trajectory, stride)
        if frame.info["step"] * simulation.timestep / 1000.0 >= begin
    )
    first = next(frames, None)
    if first is None:
        return
    rdf = radial_distribution(chain([first], frames), r_max)
    plots.plot_radial_distribution(folder / "rdf.png", "Radial distribution functions", rdf)
    _write_rdf(folder / "rdf.csv", rdf)


def _write_rdf(path: Path, rdf: RadialDistribution) -> None:
    columns = {"r_A": rdf.r} | {f"g_{a}_{b}": g for (a, b), g in rdf.g.items()}
    columns |= {f"n_{a}_{b}": n for (a, b), n in rdf.coordination.items()}
    Thermo(columns).write_csv(path)


def _without_nan(value: Any) -> Any:
    """The value with NaN and infinities as None: JSON has neither."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and not np.isfinite(value) else value
