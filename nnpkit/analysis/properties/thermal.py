"""Properties of matter that moves: simulations in LAMMPS at one or several temperatures, and what they say."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nnpkit.analysis.averages import block_average, equilibration
from nnpkit.analysis.properties import heat_conduction
from nnpkit.analysis.properties.heat_conduction import Conductivity, conductivity
from nnpkit.analysis.properties.transport import (
    LEAST_SAMPLES,
    Diffusion,
    Spectrum,
    Viscosity,
    diffusion,
    finite_size,
    vibrations,
    viscosity,
)
from nnpkit.analysis.simulation import simulate
from nnpkit.data.formats.lammps_dump import iterate_dump
from nnpkit.data.formats.reading import read
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import LoadedModel
from nnpkit.errors import InputError
from nnpkit.md.heat_flux import CURRENT, FLUX
from nnpkit.md.lammps import FILES
from nnpkit.md.simulation_settings import Simulation
from nnpkit.md.thermo import Thermo

__all__ = [
    "Expansion",
    "Motion",
    "expansion",
    "expansion_of",
    "motion",
    "require_long_enough",
    "run_simulation",
]

_PRESSURE = ("xx", "yy", "zz", "xy", "xz", "yz")
_LEAST = {**LEAST_SAMPLES, "conductivity": heat_conduction.LEAST_SAMPLES}
_FASTEST = 4.0  # fs between samples of velocities and pressures


@dataclass
class Expansion:
    """Volumes along a ladder of temperatures at constant pressure."""

    temperatures: np.ndarray  # (K,) K, as simulated
    volumes: np.ndarray  # (K,) Å³/atom
    errors: np.ndarray  # (K,) Å³/atom
    coefficient: float  # of the volume, 1e-6/K, at the middle of the ladder
    error: float  # 1e-6/K
    notes: list[str]  # what cannot be trusted


@dataclass
class Motion:
    """What one simulation at constant volume says of how atoms move."""

    diffusion: list[Diffusion]
    viscosity: Viscosity | None
    spectrum: Spectrum | None
    conductivity: Conductivity | None
    correction: float | None  # 1e-9 m²/s, to be added to the diffusion coefficients for the size of the box
    volume: float  # Å³
    temperature: float  # K
    notes: list[str]


def _between_samples(settings: Simulation) -> int:
    """Steps between samples of velocities and pressures."""
    return max(1, int(_FASTEST / settings.timestep))


def require_long_enough(settings: Simulation, kinds: Sequence[str]) -> None:
    """Refuse a run of `settings` from which one of `kinds` (as of `motion`) could not be computed.

    Raises
    ------
    InputError
        With the steps that it takes.
    """
    often = _between_samples(settings)
    for kind in kinds:
        least = often * _LEAST[kind]
        if settings.steps < least:
            raise InputError(
                f"{settings.steps} steps of {settings.timestep:g} fs are too few for {kind}", where="--steps",
                expected=f"at least {least}, and many times that for small errors",
            )  # fmt: skip


def run_simulation(
    model: LoadedModel, start: Structure, folder: Path, settings: Simulation, ranks: int, overwrite: bool,
    on_row: Callable[[Any], None] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The summary of a simulation of `model`, which must be stable.

    Raises
    ------
    InputError
        If it is not.
    """
    settings = replace(
        settings, committee=model.n_members > 1, ranges=bool(model.metadata.get("feature_ranges"))
    )
    summary = simulate(model, start, folder, settings, ranks=ranks, overwrite=overwrite, on_row=on_row)
    if summary["unstable"]:
        raise InputError(f"the simulation is not stable: {summary['unstable']}", where=str(folder))
    return summary


def expansion(
    model: LoadedModel, start: Structure, folder: Path, settings: Simulation, temperatures: Sequence[float],
    ranks: int = 1, overwrite: bool = False,
) -> Expansion:  # fmt: skip
    """Thermal expansion from runs at constant pressure, each beginning where the one before has ended.

    Parameters
    ----------
    model : LoadedModel
        A potential for LAMMPS.
    start : Structure
        Periodic in three directions.
    folder : path
        Of the runs, ``npt-300`` and so on.
    settings : Simulation
        Of each run but for the temperature; npt.
    temperatures : sequence of float
        K, at least two, rising.
    ranks, overwrite
        As of `nnpkit.analysis.simulation.simulate`.

    Raises
    ------
    InputError
        If there are too few temperatures, or a run is not stable.
    """
    if len(set(temperatures)) < 2:
        raise InputError("thermal expansion needs a ladder", where="--temperatures", expected="at least two")
    found, errors, means, notes = [], [], [], []
    for temperature in temperatures:
        place = folder / f"npt-{temperature:g}"
        summary = run_simulation(
            model, start, place, replace(settings, ensemble="npt", temperature=temperature), ranks, overwrite
        )
        volumes = Thermo.read_csv(place / "thermo.csv")["volume_A3"] / start.n_atoms
        kept = volumes[max(len(volumes) // 10, equilibration(volumes)) :]
        average = block_average(kept)
        found.append(average.mean)
        errors.append(average.error)
        means.append(float(summary["temperature"]))
        for name, why in summary["not_settled"].items():
            notes.append(f"{temperature:g} K: {name.replace('_', ' ')}: {why}")
        if summary.get("outside"):
            notes.append(f"{temperature:g} K: {summary['outside']}")
        start = read(place / "final.extxyz")[-1]
    return expansion_of(np.array(means), np.array(found), np.array(errors), notes)


def expansion_of(
    temperatures: np.ndarray, volumes: np.ndarray, errors: np.ndarray, notes: Sequence[str] = ()
) -> Expansion:
    """Coefficient of thermal expansion ``d ln V / d T`` by a straight line through volumes with errors.

    Parameters
    ----------
    temperatures, volumes, errors : (K,) array
        K, and means and standard errors of the volume per atom, Å³.
    notes : sequence of str
        What the runs said.
    """
    weights = 1.0 / np.maximum(errors, 1e-6 * volumes)
    t = temperatures - temperatures.mean()
    design = np.stack([np.ones_like(t), t], axis=1)
    covariance = np.linalg.inv((design * weights[:, None] ** 2).T @ design)
    offset, slope = covariance @ (design.T @ (weights**2 * volumes))
    left = (volumes - design @ np.array([offset, slope])) * weights
    freedom = len(t) - 2
    scale = max(1.0, float(left @ left) / freedom) if freedom > 0 else 1.0  # a bad line has larger errors
    error = float(1e6 * np.sqrt(covariance[1, 1] * scale) / offset)
    return Expansion(
        temperatures, volumes, errors, float(1e6 * slope / offset), error, list(notes)
    )  # fmt: skip


def motion(
    model: LoadedModel, start: Structure, folder: Path, settings: Simulation, ranks: int = 1, overwrite: bool = False,
    kinds: Sequence[str] = ("diffusion", "viscosity", "vibrations"),
) -> Motion:  # fmt: skip
    """Diffusion, viscosity, vibrations, conductivity from one run at constant volume after one that equilibrates it.

    Where the conductivity is wanted that run has no thermostat, which would carry heat.

    Parameters
    ----------
    model : LoadedModel
        A potential for LAMMPS.
    start : Structure
        Periodic in three directions.
    folder : path
        Of the runs ``equilibration`` and ``production``.
    settings : Simulation
        Temperature, time step and number of steps of the production run; a quarter of them equilibrate.
    ranks, overwrite
        As of `nnpkit.analysis.simulation.simulate`.
    kinds : sequence of str
        What is wanted.

    Raises
    ------
    InputError
        If a run is not stable or too short.
    """
    from ase.data import atomic_masses, atomic_numbers

    often = _between_samples(settings)
    before = replace(settings, ensemble="nvt", steps=max(1, settings.steps // 4), dump_every=settings.steps)
    run_simulation(model, start, folder / "equilibration", before, ranks, overwrite)
    begin = read(folder / "equilibration" / "final.extxyz")[-1]
    frames = often if "vibrations" in kinds else max(often, settings.steps // 5000)
    heat = "conductivity" in kinds
    during = replace(
        settings, ensemble="nve" if heat else "nvt", every=often, dump_every=frames,
        tdamp=max(settings.tdamp, 500.0), heat_flux=heat,
    )  # fmt: skip
    place = folder / "production"
    summary = run_simulation(model, begin, place, during, ranks, overwrite)
    thermo = Thermo.read_csv(place / "thermo.csv")
    temperature, volume = float(summary["temperature"]), float(thermo["volume_A3"].mean())
    interval = frames * settings.timestep / 1000.0
    masses = np.array([atomic_masses[atomic_numbers[s]] for s in begin.symbols])
    found = Motion([], None, None, None, None, volume, temperature, [])
    if "viscosity" in kinds:
        tensor = {name: thermo[f"pressure_{name}_bar"] for name in _PRESSURE}
        found.viscosity = viscosity(tensor, often * settings.timestep / 1000.0, volume, temperature)
    if heat:
        flux, currents = _heat(thermo)
        spacing = often * settings.timestep / 1000.0
        found.conductivity = conductivity(flux, spacing, volume, temperature, currents)
    if {"diffusion", "vibrations"} & set(kinds):
        positions, velocities = _trajectory(place)
        if "diffusion" in kinds:
            found.diffusion = diffusion(positions, begin.symbols, interval, masses)
        if "vibrations" in kinds:
            found.spectrum = vibrations(velocities, begin.symbols, masses, interval)
    if (
        found.diffusion
        and found.viscosity is not None
        and found.viscosity.value > 2.0 * found.viscosity.error
    ):
        found.correction = finite_size(temperature, found.viscosity.value, volume)
    if summary.get("outside"):
        found.notes.append(summary["outside"])
    return found


def _heat(thermo: Thermo) -> tuple[np.ndarray, np.ndarray | None]:
    """Heat flux (T, 3), eV Å/ps, and, of several elements, their currents (T, K, 3), Å/ps."""
    flux = np.stack([thermo[name] for name in FLUX], axis=1)
    currents: list[np.ndarray] = []
    while CURRENT.format(type=len(currents) + 1, axis="x") in thermo:
        names = [CURRENT.format(type=len(currents) + 1, axis=axis) for axis in "xyz"]
        currents.append(np.stack([thermo[name] for name in names], axis=1))
    return flux, np.stack(currents, axis=1) if currents else None


def _trajectory(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Unwrapped positions and velocities, both (F, N, 3), of the frames of a run."""
    frames = [(f.positions, f.arrays["velocities"]) for f in iterate_dump(folder / FILES["trajectory"])]
    return np.array([f[0] for f in frames]), np.array([f[1] for f in frames])
