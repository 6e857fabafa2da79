"""Averages over a run in time: temperature, density and the like with their errors, drift, radial distributions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from nnpkit.analysis import plots
from nnpkit.analysis.averages import block_average, equilibration, settled
from nnpkit.analysis.dynamics import energy_drift
from nnpkit.analysis.liquid import RadialDistribution, default_range, radial_distribution
from nnpkit.data.formats.lammps_dump import iterate_dump
from nnpkit.data.structure import Structure
from nnpkit.files import atomic_write
from nnpkit.md.lammps import FILES
from nnpkit.md.simulation_settings import Simulation
from nnpkit.md.thermo import Thermo

__all__ = ["QUANTITIES", "average_of_replicas", "averages_of_run", "run_verdict"]

_RDF_FRAMES = 200
_RDF_PAIRS = 1e7  # per frame, bounds the memory
_SHORTEST_RDF = 3.0  # Å

QUANTITIES = {
    "temperature": ("temperature_K", "Temperature (K)", "K"),
    "pressure": ("pressure_bar", "Pressure (bar)", "bar"),
    "density": ("density_g_cm3", "Density (g/cm³)", "g/cm³"),
    "potential_energy": ("potential_energy_eV", "Potential energy (eV/atom)", "eV/atom"),
}
"""Averaged quantities: column of the thermo table, label, unit."""


def averages_of_run(
    folder: Path, simulation: Simulation, structure: Structure, thermo: Thermo, stable: bool
) -> dict[str, Any]:
    """Averages, drift and plots of a run in time."""
    finite = np.isfinite(np.stack(list(thermo.columns.values()))).all(axis=0)
    table = Thermo({name: values[finite] for name, values in thermo.columns.items()})
    if len(table) < 2:
        return {}
    start = _start(table) if stable and simulation.ramp is None else 0
    begin, end = float(table["time_ps"][start]), float(table["time_ps"][-1])
    result = {"equilibration": begin, "averaged": end - begin}
    result |= _averages(folder, simulation, structure, table, start)
    if simulation.ramp is None:
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
    if simulation.ramp:
        targets = {}
    elif simulation.ensemble == "npt":
        targets["pressure"] = simulation.pressure
    result: dict[str, Any] = {}
    not_settled: dict[str, str] = {}
    for name, (column, label, unit) in QUANTITIES.items():
        if name in ("pressure", "density") and not structure.pbc.all():
            continue
        values = table[column] / (structure.n_atoms if name == "potential_energy" else 1)
        average = block_average(values[start:])
        reason = f"a ramp: {simulation.ramp}" if simulation.ramp else settled(values, start)
        if reason is not None:
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


def run_verdict(summary: dict[str, Any]) -> str:
    """One sentence: whether the averages of a run can be used, or all that speaks against it.

    Parameters
    ----------
    summary : dict
        Of the run, as in ``summary.json``.
    """
    against = []
    if summary["unstable"]:
        against.append(f"it is not stable ({summary['unstable']})")
    if summary.get("outside"):
        rate = summary["extrapolations_per_atom_step"]
        against.append(f"it has left the training data ({rate:.2g} extrapolations per atom and step)")
    if summary.get("ended"):
        against.append(f"the committee ended it ({summary['ended']})")
    if summary.get("converged") is False:
        against.append("the minimisation has not converged")
    if against:
        return "do not trust this run: " + "; ".join(against)
    words = "stable, " + (
        "inside the training data" if summary.get("extrapolations") is not None else "training data unknown"
    )
    open_questions = summary.get("not_settled") or {}
    if open_questions and not summary.get("ramp"):
        reasons = "; ".join(f"{name.replace('_', ' ')}: {why}" for name, why in open_questions.items())
        return f"{words}, but too short for its averages ({reasons})"
    return words


def average_of_replicas(folder: Path, summaries: Sequence[Mapping[str, Any]]) -> list[str]:
    """Write ``summary.json`` of several independent runs into the `folder` that holds theirs; its lines in words.

    The mean of a quantity is that of the runs, its error their standard deviation by the square root of their number:
    runs that begin alike but for their velocities do not know of each other. Runs that are too short have moved little
    from where they all began, and agree for that reason: a quantity that has not settled in some says so.
    """
    lines: list[str] = []
    settled_all = all(s.get("settled", False) for s in summaries)
    content: dict[str, Any] = {"replicas": len(summaries), "settled": settled_all}
    for name, (_, _, unit) in QUANTITIES.items():
        values = np.array([s[name] for s in summaries if s.get(name) is not None])
        if len(values) < len(summaries):
            continue
        error = float(values.std(ddof=1) / np.sqrt(len(values)))
        content |= {name: float(values.mean()), f"{name}_error": error}
        shown = plots.format_error(float(values.mean()), error)
        moving = sum(name in (s.get("not_settled") or {}) for s in summaries)
        doubt = f" (not settled in {moving} of them: the error says little)" if moving else ""
        lines.append(f"{name.replace('_', ' '):<17} {shown} {unit}, of {len(values)} runs{doubt}")
    with atomic_write(folder / "summary.json") as stream:
        json.dump(content, stream, indent=2)
        stream.write("\n")
    return lines
