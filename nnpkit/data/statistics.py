"""What is in a data set, in numbers: for the terminal before training and for ``data.json``."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nnpkit.data.distances import ShortestDistance, shortest_distances
from nnpkit.data.structure import LABELS, Structure
from nnpkit.units import EV_PER_A3_IN_GPA

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["DataSums", "Moments", "data_statistics", "statistics_table"]

_GRAM_PER_CM3 = 1.66053906660
"""g/cm³ per amu/Å³ (CODATA 2018)."""


class Moments:
    """Count, extremes, mean and sum of squared deviations of numbers that are not kept (Welford; Chan et al., 1979)."""

    def __init__(self, values: Iterable[float] = (0, math.inf, -math.inf, 0.0, 0.0)) -> None:
        self.n, self.min, self.max, self.mean, self.deviation = values

    def add(self, values: Any) -> None:
        """Count some numbers (any shape)."""
        array = np.asarray(values, dtype=np.float64)
        if array.size:
            mean = float(array.mean())
            squares = float(np.sum((array - mean) ** 2))
            self.merge(Moments((array.size, float(array.min()), float(array.max()), mean, squares)))

    def merge(self, other: Moments) -> None:
        """Count what `other` has counted."""
        if not other.n:
            return
        total, apart = self.n + other.n, other.mean - self.mean
        self.deviation += other.deviation + apart * apart * self.n * other.n / total
        self.mean += apart * other.n / total
        self.n, self.min, self.max = total, min(self.min, other.min), max(self.max, other.max)

    def named(self, *names: str) -> dict[str, float] | None:
        """Some of min, max, mean and std; None without numbers."""
        known = {"min": self.min, "max": self.max, "mean": self.mean}
        return (
            {n: math.sqrt(self.deviation / self.n) if n == "std" else float(known[n]) for n in names}
            if self.n
            else None
        )

    def to_json(self) -> list[float]:
        """What the constructor takes."""
        return [self.n, self.min, self.max, self.mean, self.deviation]

    def components(self) -> dict[str, float] | None:
        """Root mean square and largest magnitude; None without numbers."""
        if not self.n:
            return None
        rms = math.sqrt(self.deviation / self.n + self.mean**2)
        return {"component_rms": rms, "component_max": max(abs(self.min), abs(self.max))}


_MOMENTS = (
    "sizes",
    "energies",
    "forces",
    "vectors",
    "nets",
    "stresses",
    "pressures",
    "total_charges",
    "densities",
)


class DataSums:
    """Running sums from which the statistics of any number of structures follow; none of them is kept."""

    def __init__(self) -> None:
        self.n_periodic = 0
        self.elements: Counter[str] = Counter()
        self.labels: Counter[str] = Counter()
        self.shortest: dict[str, ShortestDistance] = {}
        self.moments = {name: Moments() for name in _MOMENTS}
        self.charges: dict[str, Moments] = {}  # of the atoms of each element

    def add(self, structures: Sequence[Structure]) -> None:
        """Count structures, which are gone through more than once."""
        of = self.moments
        for s in structures:
            of["sizes"].add(s.n_atoms)
            self.n_periodic += bool(s.pbc.any())
            self.elements += s.composition
            self.labels.update(s.labels)
            if s.energy is not None:
                of["energies"].add(s.energy / s.n_atoms)
            if s.forces is not None:
                of["forces"].add(s.forces)
                of["vectors"].add(np.linalg.norm(s.forces, axis=1))
                of["nets"].add(np.linalg.norm(s.forces.sum(axis=0)))
            if s.stress is not None:
                of["stresses"].add(s.stress * EV_PER_A3_IN_GPA)
                of["pressures"].add(-np.trace(s.stress) * EV_PER_A3_IN_GPA / 3)
            if s.total_charge is not None:
                of["total_charges"].add(s.total_charge)
            if s.charges is not None:
                for element in s.composition:
                    own = s.charges[[symbol == element for symbol in s.symbols]]
                    self.charges.setdefault(element, Moments()).add(own)
            if s.pbc.all():
                of["densities"].add(density(s))
        self._keep_shorter(shortest_distances(structures))

    def _keep_shorter(self, found: Mapping[str, ShortestDistance]) -> None:
        for pair, shortest in found.items():
            if pair not in self.shortest or shortest.distance < self.shortest[pair].distance:
                self.shortest[pair] = shortest

    def merge(self, other: DataSums) -> None:
        """Count what `other` has counted."""
        self.n_periodic += other.n_periodic
        self.elements += other.elements
        self.labels += other.labels
        self._keep_shorter(other.shortest)
        for name, moments in self.moments.items():
            moments.merge(other.moments[name])
        for element, moments in other.charges.items():
            self.charges.setdefault(element, Moments()).merge(moments)

    def summary(self) -> dict[str, Any]:
        """See `data_statistics`."""
        of = self.moments
        vectors, nets, forces = of["vectors"], of["nets"], of["forces"].components()
        return {
            "n_structures": of["sizes"].n,
            "n_atoms": round(of["sizes"].mean * of["sizes"].n),
            "n_periodic": self.n_periodic,
            "atoms_per_structure": of["sizes"].named("min", "max", "mean"),
            "elements": dict(sorted(self.elements.items())),
            "labels": {label: self.labels[label] for label in LABELS},
            "energy_per_atom": of["energies"].named("min", "max", "mean", "std"),
            "forces": None if forces is None else {**forces, "vector_max": vectors.max, "net_max": nets.max},
            "stress": of["stresses"].components(),
            "pressure": of["pressures"].named("min", "max", "mean", "std"),
            "min_distance": {pair: found._asdict() for pair, found in sorted(self.shortest.items())},
            "charges": {e: m.named("min", "max", "mean", "std") for e, m in sorted(self.charges.items())},
            "total_charge": of["total_charges"].named("min", "max", "mean"),
            "density": of["densities"].named("min", "max", "mean"),
        }

    def to_json(self) -> dict[str, Any]:
        """What `from_json` takes."""
        return {
            "n_periodic": self.n_periodic, "elements": self.elements, "labels": self.labels,
            "shortest": {pair: list(found) for pair, found in self.shortest.items()},
            "moments": {n: m.to_json() for n, m in self.moments.items() if m.n},
            "charges": {e: m.to_json() for e, m in self.charges.items()},
        }  # fmt: skip

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> DataSums:
        """The sums that `to_json` has written."""
        sums = cls()
        sums.n_periodic = values["n_periodic"]
        sums.elements, sums.labels = Counter(values["elements"]), Counter(values["labels"])
        sums.shortest = {pair: ShortestDistance(*found) for pair, found in values["shortest"].items()}
        sums.moments |= {name: Moments(numbers) for name, numbers in values["moments"].items()}
        sums.charges = {element: Moments(numbers) for element, numbers in values["charges"].items()}
        return sums


def data_statistics(structures: Sequence[Structure]) -> dict[str, Any]:
    """Statistics of structures as plain numbers, lists and dictionaries; see `DataSums` for sets that do not fit.

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
    sums = DataSums()
    sums.add(structures)
    return sums.summary()


def density(structure: Structure) -> float:
    """Mass density of a periodic structure, g/cm³."""
    from ase.data import atomic_masses, atomic_numbers

    mass = sum(n * atomic_masses[atomic_numbers[element]] for element, n in structure.composition.items())
    return float(mass / structure.volume * _GRAM_PER_CM3)


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
