"""What a potential says about a structure before anyone has computed it: disagreement, extrapolation, sanity."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnpkit.data.dataset import structure_sha256
from nnpkit.data.distances import shortest_distances
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import LoadedModel
from nnpkit.errors import InputError
from nnpkit.families.registered import function_names

__all__ = ["Assessment", "Extrapolation", "assess", "describe", "without_elements"]


@dataclass(frozen=True)
class Extrapolation:
    """The feature furthest outside the range of the training data."""

    element: str
    function: str
    amount: float  # in units of the width of the range
    count: int  # pairs of an atom and a feature outside, in the whole structure

    def __str__(self) -> str:
        return (
            f"{self.element} {self.function} is {self.amount:.3g} of its range outside ({self.count} in all)"
        )


@dataclass
class Assessment:
    """A structure as a potential sees it. Energies in eV, forces in eV/Å, distances in Å."""

    structure: Structure
    key: str
    energy: float
    max_force: float
    disagreement: float | None  # largest force disagreement of an atom, None without a committee
    energy_std: float | None  # eV/atom
    extrapolation: Extrapolation | None  # None if nothing is outside, or no range is known
    min_distance: dict[str, float]  # by pair of elements
    vector: np.ndarray = field(repr=False)  # (D,) of `describe`

    @property
    def name(self) -> str:
        """Name of the structure."""
        return self.structure.name


def assess(
    model: LoadedModel, structures: Iterable[Structure], without: Sequence[str] = ()
) -> Iterator[Assessment]:
    """Assess structures one after the other.

    Parameters
    ----------
    model : LoadedModel
        A committee, or one potential: then there is no disagreement.
    structures : iterable of Structure
        Their labels are ignored.
    without : sequence of str
        Elements that the potential does not see, ``NULL`` in LAMMPS.

    Raises
    ------
    InputError
        If the potential lacks another element of a structure, or sees none of its atoms.
    """
    names = function_names(_first_spec(model), model.elements)
    for structure in structures:
        seen = without_elements(structure, without)
        result = model.predict(seen, members=model.n_members > 1)
        spread = result.disagreement
        features, types = model.features(seen), _types(model, seen)
        shortest = shortest_distances([seen])
        yield Assessment(
            structure=structure,
            key=structure_sha256(structure, labels=False),
            energy=result.energy,
            max_force=float(np.linalg.norm(result.forces, axis=1).max()),
            disagreement=None if spread is None else float(spread.forces_std.max()),
            energy_std=None if spread is None else spread.energy_std,
            extrapolation=_extrapolation(model, features, types, names),
            min_distance={pair: found.distance for pair, found in shortest.items()},
            vector=_vector(model, features, types),
        )


def without_elements(structure: Structure, elements: Sequence[str]) -> Structure:
    """The bare structure without the atoms of `elements`; itself if it has none of them.

    Raises
    ------
    InputError
        If nothing is left.
    """
    left = [k for k, symbol in enumerate(structure.symbols) if symbol not in elements]
    if len(left) == structure.n_atoms:
        return structure
    if not left:
        raise InputError(f"there are only atoms of {', '.join(elements)}", where=structure.name)
    return Structure(
        [structure.symbols[k] for k in left], structure.positions[left], structure.cell, structure.pbc,
        name=structure.name,
    )  # fmt: skip


def describe(model: LoadedModel, structures: Iterable[Structure]) -> np.ndarray:
    """Vectors (n, D) of structures: mean and spread over the atoms of each element of every feature.

    Features are taken in units of the width of their range in the training data, so that vectors of one potential
    can be compared with each other and with nothing else.
    """
    rows = [_vector(model, model.features(s), _types(model, s)) for s in structures]
    return np.array(rows) if rows else np.zeros((0, 0))


def _types(model: LoadedModel, structure: Structure) -> np.ndarray:
    """Which of the elements of the model each atom is (N,)."""
    return np.array([model.elements.index(symbol) for symbol in structure.symbols])


def _ranges(model: LoadedModel, element: str) -> tuple[np.ndarray, np.ndarray] | None:
    ranges: Mapping[str, Any] | None = model.metadata.get("feature_ranges")
    return None if ranges is None else (np.array(ranges[element]["min"]), np.array(ranges[element]["max"]))


def _extrapolation(
    model: LoadedModel, features: np.ndarray, types: np.ndarray, names: Mapping[str, list[str]]
) -> Extrapolation | None:
    worst, count = None, 0
    for index, element in enumerate(model.elements):
        ranges, mine = _ranges(model, element), features[types == index]
        if ranges is None or not len(mine):
            continue
        low, high = ranges
        width = np.where(high > low, high - low, np.inf)
        mine = mine[:, : len(low)]
        outside = np.maximum(low - mine, mine - high)
        outside = np.where(outside > 1e-10 * np.maximum(1.0, np.abs(high)), outside, 0.0)
        count += int((outside > 0.0).sum())
        amount = outside / width
        function = int(amount.max(axis=0).argmax())
        largest = float(amount[:, function].max())
        if largest > 0.0 and (worst is None or largest > worst[2]):
            known = names.get(element, [])
            worst = (
                element,
                known[function] if function < len(known) else f"feature {function + 1}",
                largest,
            )
    return None if worst is None else Extrapolation(*worst, count)


def _vector(model: LoadedModel, features: np.ndarray, types: np.ndarray) -> np.ndarray:
    parts = []
    for index, element in enumerate(model.elements):
        mine, ranges = features[types == index], _ranges(model, element)
        if ranges is not None:
            low, high = ranges
            width = np.where(high > low, high - low, 1.0)
            mine = (mine[:, : len(low)] - low) / width
        if len(mine):
            parts += [mine.mean(axis=0), mine.std(axis=0)]
        else:
            parts += [np.zeros(mine.shape[1])] * 2
    return np.concatenate(parts)


def _first_spec(model: LoadedModel) -> Mapping[str, Any]:
    """Description of a potential, or of the first member of a committee."""
    spec: Mapping[str, Any] = (model.metadata.get("members") or [model.metadata])[0]["spec"]
    return spec
