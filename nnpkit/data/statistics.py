"""What is in a data set, in numbers: for the terminal before training and for ``data.json``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nnpkit.data.distances import shortest_distances
from nnpkit.data.structure import LABELS, Structure
from nnpkit.units import EV_PER_A3_IN_GPA

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["data_statistics", "statistics_table"]

_GRAM_PER_CM3 = 1.66053906660
"""g/cm³ per amu/Å³ (CODATA 2018)."""


def data_statistics(structures: Sequence[Structure]) -> dict[str, Any]:
    """Statistics of structures as plain numbers, lists and dictionaries.

    Returns
    -------
    dict
        ``n_structures``, ``n_atoms``, ``n_periodic``; ``atoms_per_structure`` (min, max, mean); ``elements``
        (atoms of each); ``labels`` (structures that have each); ``energy_per_atom`` (min, max, mean, std over
        structures; eV); ``forces`` (component_rms, component_max, vector_max, net_max; eV/Å); ``stress``
        (component_rms, component_max; GPa) and ``pressure`` (min, max, mean, std; GPa); ``min_distance`` by
        pair of elements (distance in Å, structure); ``charges`` of the atoms of each element (min, max, mean,
        std; e); ``total_charge`` (min, max, mean; e); ``density`` of the structures periodic in three directions
        (min, max, mean; g/cm³).  What no structure has is None.
    """
    sizes = np.array([structure.n_atoms for structure in structures])
    elements: Counter[str] = sum((structure.composition for structure in structures), Counter())
    energies = [s.energy / s.n_atoms for s in structures if s.energy is not None]
    stresses = np.array([s.stress for s in structures if s.stress is not None]) * EV_PER_A3_IN_GPA
    return {
        "n_structures": len(structures),
        "n_atoms": int(sizes.sum()),
        "n_periodic": sum(bool(structure.pbc.any()) for structure in structures),
        "atoms_per_structure": _range(sizes, "min", "max", "mean"),
        "elements": dict(sorted(elements.items())),
        "labels": {label: sum(label in s.labels for s in structures) for label in LABELS},
        "energy_per_atom": _range(energies, "min", "max", "mean", "std"),
        "forces": _force_statistics([s.forces for s in structures if s.forces is not None]),
        "stress": _component_statistics(stresses),
        "pressure": _range(
            -np.trace(stresses, axis1=1, axis2=2) / 3 if stresses.size else [], "min", "max", "mean", "std"
        ),
        "min_distance": {
            name: {"distance": shortest.distance, "structure": shortest.structure}
            for name, shortest in shortest_distances(structures).items()
        },
        "charges": _charges(structures),
        "total_charge": _range(
            [s.total_charge for s in structures if s.total_charge is not None], "min", "max", "mean"
        ),
        "density": _range([density(s) for s in structures if s.pbc.all()], "min", "max", "mean"),
    }


def _charges(structures: Sequence[Structure]) -> dict[str, dict[str, float]]:
    """Range of the charges (e) of the atoms of each element that has any."""
    found: dict[str, list[float]] = {}
    for structure in structures:
        values = [] if structure.charges is None else structure.charges.tolist()
        for symbol, charge in zip(structure.symbols, values, strict=False):
            found.setdefault(symbol, []).append(charge)
    ranges = {symbol: _range(values, "min", "max", "mean", "std") for symbol, values in sorted(found.items())}
    return {symbol: values for symbol, values in ranges.items() if values is not None}


def density(structure: Structure) -> float:
    """Mass density of a periodic structure, g/cm³."""
    from ase.data import atomic_masses, atomic_numbers

    mass = sum(n * atomic_masses[atomic_numbers[element]] for element, n in structure.composition.items())
    return float(mass / structure.volume * _GRAM_PER_CM3)


def _range(values: Any, *names: str) -> dict[str, float] | None:
    array = np.asarray(values, dtype=np.float64)
    return {name: float(getattr(array, name)()) for name in names} if array.size else None


def _component_statistics(array: np.ndarray) -> dict[str, float] | None:
    if not array.size:
        return None
    return {"component_rms": float(np.sqrt(np.mean(array**2))), "component_max": float(np.abs(array).max())}


def _force_statistics(forces: list[np.ndarray]) -> dict[str, float] | None:
    if not forces:
        return None
    net = max(float(np.linalg.norm(force.sum(axis=0))) for force in forces)
    everything = np.concatenate(forces)
    vector = float(np.linalg.norm(everything, axis=1).max())
    return {**_component_statistics(everything), "vector_max": vector, "net_max": net}  # type: ignore[dict-item]


def statistics_table(statistics: Mapping[str, Mapping[str, Any]]) -> Table:
    """Table of the statistics of several parts of a data set, e.g. ``{"train": ..., "test": ...}``."""
    from rich.table import Table

    table = Table("", *statistics, title="Data", title_justify="left")
    parts = list(statistics.values())
    for name in parts[0]:
        rows = (
            _nested_rows(name, parts)
            if name in ("elements", "labels", "min_distance", "charges")
            else [(_TITLES.get(name, name), [_cell(name, part[name]) for part in parts])]
        )
        for title, cells in rows:
            table.add_row(title, *cells)
    return table


_TITLES = {
    "n_structures": "structures",
    "n_atoms": "atoms",
    "n_periodic": "periodic structures",
    "atoms_per_structure": "atoms per structure",
    "energy_per_atom": "energy, eV/atom",
    "forces": "forces, eV/Å",
    "stress": "stress, GPa",
    "pressure": "pressure, GPa",
    "density": "density, g/cm³",
    "charges": "charge of {}, e",
    "total_charge": "total charge, e",
    "elements": "atoms of {}",
    "labels": "structures with {}",
    "min_distance": "shortest {}, Å",
}


def _nested_rows(name: str, parts: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    keys = list(dict.fromkeys(key for part in parts for key in part[name]))
    return [(_TITLES[name].format(key), [_cell(name, part[name].get(key)) for part in parts]) for key in keys]


def _cell(name: str, value: Any) -> str:
    """Text of one value: a number, a range or a few named numbers."""
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}".replace(",", " ")
    if name == "min_distance":
        return f"{value['distance']:.3f}"
    if name in ("forces", "stress"):
        text = f"RMS {value['component_rms']:.4g}, max |component| {value['component_max']:.4g}"
        return text + (f", max |sum| {value['net_max']:.2g}" if "net_max" in value else "")
    digits = 0 if name == "atoms_per_structure" else 3
    text = f"{value['min']:.{digits}f} to {value['max']:.{digits}f}, mean {value['mean']:.{digits + 1}f}"
    return text + (f" ± {value['std']:.4f}" if "std" in value else "")
