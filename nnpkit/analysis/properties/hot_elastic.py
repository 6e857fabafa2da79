"""Isothermal elastic constants at a temperature: differences of the mean stress of strained cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nnpkit.analysis.averages import block_average, equilibration
from nnpkit.analysis.properties.thermal import run_simulation
from nnpkit.data.formats.reading import read
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import LoadedModel
from nnpkit.md.simulation_settings import Simulation
from nnpkit.md.thermo import Thermo

__all__ = ["HotElastic", "at_rest", "hot_elastic", "independent", "number_of_runs", "strained_cell"]

_NAMES = ("xx", "yy", "zz", "yz", "xz", "xy")
_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
_BAR_IN_GPA = 1e-4
_LEAST = 10  # per cent of each run that equilibrates at least
_CUBIC = 1e-4  # of a length, by which edges of a cubic cell may differ


@dataclass
class HotElastic:
    """Isothermal elastic constants with standard errors, in axes with the cell's first vector along x."""

    constants: np.ndarray  # (6, 6) GPa, Voigt order xx yy zz yz xz xy, symmetrised
    errors: np.ndarray  # (6, 6) GPa
    temperature: float  # K, of the runs
    volume: float  # Å³/atom
    cubic: bool  # whether two strains were applied and the rest follows from symmetry
    notes: list[str]  # what cannot be trusted


def strained_cell(cell: np.ndarray, component: int, strain: float) -> np.ndarray:
    """The cell under one component of strain, a shear as its whole angle.

    Shears leave a cell whose matrix has zeros above the diagonal so, as LAMMPS wants cells: the rotation in them does
    not count where the stress before was that of a fluid.

    Parameters
    ----------
    cell : (3, 3) array
        Rows are vectors, Å.
    component : int
        Voigt, 0 to 5.
    strain : float
        Relative change of a length, or the angle.
    """
    a, b = _VOIGT[component]
    deformation = np.eye(3)
    deformation[b, a] += strain
    return np.asarray(cell @ deformation)


def hot_elastic(
    model: LoadedModel, start: Structure, folder: Path, settings: Simulation, ranks: int = 1, overwrite: bool = False,
    strain: float = 0.01,
) -> HotElastic:  # fmt: skip
    """Elastic constants at the temperature of `settings`, from a run at constant pressure and runs of strained cells.

    A cell with three equal edges at right angles is taken for that of a cubic crystal: two strains, up and down, are
    four runs; else there are twelve.

    Parameters
    ----------
    model : LoadedModel
        A potential for LAMMPS.
    start : Structure
        A crystal.
    folder : path
        Of the runs, ``elastic-npt``, ``elastic-xx-up`` and so on.
    settings : Simulation
        Of each run.
    ranks, overwrite
        As of `nnpkit.analysis.simulation.simulate`.
    strain : float
        Of every component, up and down.

    Raises
    ------
    InputError
        If a run is not stable.
    """
    start = _in_standard_axes(start)
    right, cubic = _shape(start)
    settings = replace(settings, coupling="iso" if cubic else "aniso" if right else "tri")
    notes: list[str] = []
    rest = at_rest(model, start, folder / "elastic-npt", settings, ranks, overwrite, notes)
    columns = (0, 3) if cubic else range(6)
    slopes, errors, temperatures = np.zeros((6, 6)), np.zeros((6, 6)), []
    for column in columns:
        found = []
        for sign, name in ((1.0, "up"), (-1.0, "down")):
            place = folder / f"elastic-{_NAMES[column]}-{name}"
            cell = strained_cell(rest.cell, column, sign * strain)
            moved = rest.replace(cell=cell, positions=rest.positions @ np.linalg.solve(rest.cell, cell))
            summary = run_simulation(model, moved, place, replace(settings, ensemble="nvt"), ranks, overwrite)
            temperatures.append(float(summary["temperature"]))
            found.append(_pressures(Thermo.read_csv(place / "thermo.csv")))
            if summary.get("outside"):
                notes.append(f"{_NAMES[column]} {name}: {summary['outside']}")
        (up, up_error), (down, down_error) = found
        slopes[:, column] = -(up - down) / (2.0 * strain) * _BAR_IN_GPA
        errors[:, column] = np.hypot(up_error, down_error) / (2.0 * strain) * _BAR_IN_GPA
    constants, spread = _cubic(slopes, errors) if cubic else _symmetric(slopes, errors)
    return HotElastic(
        constants, spread, float(np.mean(temperatures)), rest.volume / rest.n_atoms, cubic, notes
    )


def number_of_runs(start: Structure) -> int:
    """Simulations that `hot_elastic` makes of `start`."""
    return 5 if _shape(_in_standard_axes(start))[1] else 13


def _shape(start: Structure) -> tuple[bool, bool]:
    """Whether the edges of a cell in standard axes are at right angles, and equal, too."""
    edges = np.linalg.norm(start.cell, axis=1)
    right = bool(np.abs(start.cell - np.diag(np.diag(start.cell))).max() < _CUBIC * edges.max())
    return right, right and bool(np.ptp(edges) < _CUBIC * edges.max())


def _in_standard_axes(structure: Structure) -> Structure:
    """Turned so that the first vector lies along x and the second in the plane of x and y."""
    from ase.cell import Cell

    cell, turn = Cell(structure.cell).standard_form()
    return structure.replace(cell=np.asarray(cell), positions=structure.positions @ turn.T)


def at_rest(
    model: LoadedModel, start: Structure, folder: Path, settings: Simulation, ranks: int, overwrite: bool,
    notes: list[str],
) -> Structure:  # fmt: skip
    """The last frame at constant pressure, in the mean cell of the run."""
    summary = run_simulation(model, start, folder, replace(settings, ensemble="npt"), ranks, overwrite)
    for name, why in summary["not_settled"].items():
        notes.append(f"the cell: {name.replace('_', ' ')}: {why}")
    last = read(folder / "final.extxyz")[-1]
    thermo = Thermo.read_csv(folder / "thermo.csv")
    kept = slice(_begin(thermo["volume_A3"]), None)
    if settings.coupling == "tri":  # angles are those of the start, lengths the mean ones
        factors = np.full(3, (float(thermo["volume_A3"][kept].mean()) / start.volume) ** (1.0 / 3.0))
    else:
        factors = np.array([thermo[f"l{x}_A"][kept].mean() for x in "xyz"]) / np.diag(start.cell)
        factors = np.full(3, factors.mean()) if settings.coupling == "iso" else factors
    cell = start.cell * factors
    return last.replace(cell=cell, positions=last.positions @ np.linalg.solve(last.cell, cell))


def _begin(series: np.ndarray) -> int:
    return max(len(series) * _LEAST // 100, equilibration(series))


def _pressures(thermo: Thermo) -> tuple[np.ndarray, np.ndarray]:
    """Means and standard errors of the pressure tensor, (6,) each, bar."""
    averages = []
    for name in _NAMES:
        values = thermo[f"pressure_{''.join(sorted(name))}_bar"]
        averages.append(block_average(values[_begin(values) :]))
    return np.array([a.mean for a in averages]), np.array([a.error for a in averages])


def _symmetric(slopes: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    spread = np.hypot(errors, errors.T) / 2.0
    np.fill_diagonal(spread, np.diag(errors))
    return (slopes + slopes.T) / 2.0, spread


def _cubic(slopes: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All constants from the columns of xx and yz."""
    c11, c12, c44 = slopes[0, 0], slopes[1:3, 0].mean(), slopes[3, 3]
    d11, d12, d44 = errors[0, 0], float(np.hypot(*errors[1:3, 0])) / 2.0, errors[3, 3]
    return _filled(c11, c12, c44), _filled(d11, d12, d44)


def _filled(c11: float, c12: float, c44: float) -> np.ndarray:
    values: Any = np.zeros((6, 6))
    values[:3, :3] = c12
    values[range(3), range(3)] = c11
    values[range(3, 6), range(3, 6)] = c44
    return np.asarray(values)


def independent(found: HotElastic) -> Sequence[tuple[int, int]]:
    """Indices of the constants to be shown: three of a cubic crystal, else those that exceed their errors."""
    if found.cubic:
        return ((0, 0), (0, 1), (3, 3))
    pairs = [(i, j) for i in range(6) for j in range(i, 6)]
    return [(i, j) for i, j in pairs if i == j or abs(found.constants[i, j]) > 2.0 * found.errors[i, j]]
