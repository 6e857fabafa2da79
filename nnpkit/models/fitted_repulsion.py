"""Repulsion of pairs whose strength is fitted to forces, so that networks have to learn the rest only.

What two atoms do to each other when they come close is most of their force, and nearly the same in all surroundings.
A network that has to learn it from the few closest pairs of the data is steep where it knows least. Of the mean square
force in the published training sets of copper, lithium and silicon (Zuo et al., J. Phys. Chem. A 124, 731 (2020)) a
screened nuclear repulsion of the right strength leaves 9, 7 and 42 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from ase.data import atomic_numbers

from nnpkit.data.distances import close_pairs, pair_name
from nnpkit.data.structure import Structure
from nnpkit.models.electrostatics import Interaction
from nnpkit.models.fitted_charges import (
    fit_charges,
    labelled_forces,
    point_charges,
    product_forces,
    usual_charges,
)
from nnpkit.models.tabulated_zbl import UNIVERSAL_SCREENING, nep_wall, screened_repulsion

__all__ = ["Beside", "FittedRepulsion", "fit_repulsion", "is_fitted"]

_REACH = 2.1
"""Where the repulsion ends, in shortest distances; half of that is where its switch begins."""
_ATOMS = 10_000
"""Atoms whose forces are looked at."""
_MOST_PAIRS = 300
"""Pairs of elements whose factors are fitted, all of 24 elements; time goes with their third power."""
_TOUCHING = 1.25
"""Times the shortest distance that either atom has to any other: ions of the same sign do not touch.

What holds them apart is no repulsion of their shells: of eleven frames of 64 atoms of MgO a potential learnt the
energies of hot crystals to 130 and 230 meV/atom (two seeds) with it, to 10 and 21 without, and to 2.5 and 3 without any
fitted repulsion, which is why `FittedRepulsion.electrostatic` is there.
"""
_CHARGED_ATOMS, _LARGEST = 1000, 300
"""Atoms whose charges are looked at, and those of the largest such structure: the work grows with their square."""
_MOST_ELEMENTS = 8
"""Whose charges are looked at: the work grows with their number to the sixth power, and is a second for eight."""
_WEAK = 0.01  # of the universal repulsion: atoms of a molecule that are bound do not repel each other
_NOTHING = 0.01  # of the mean square force: nobody asks what would take that
_OUTLYING, _ROUNDS = 3.0, 4  # in 90th percentiles of the residuals, and how often they are looked at


class FittedRepulsion(NamedTuple):
    """Rows of `nnpkit.models.tabulated_zbl.TabulatedZbl` by pair, and the share of mean square forces they leave."""

    rows: dict[str, list[float]]
    left: float
    charges: dict[str, float] | None = None  # e, of each element, where these were fitted with it
    electrostatic: float = 0.0  # share of the squares left that point charges of the elements would take


class Beside(NamedTuple):
    """The charges beside which a repulsion is fitted."""

    interactions: Callable[[Structure], Interaction]  # that make the energy
    labelled: (
        bool  # the charges are those of the structures; otherwise each element has one that is fitted, too
    )


def fit_repulsion(
    structures: Sequence[Structure],
    elements: Sequence[str],
    shortest: Mapping[str, float],
    longest: float,
    beside: Beside | None = None,
) -> FittedRepulsion | None:
    """The repulsion of each pair that leaves the smallest forces; None if there are no forces to fit.

    It is the universal one times a factor, not below zero, of each pair of elements, all fitted together, and ends at
    2.1 times the shortest distance in the data. Pairs without a factor worth mentioning, as atoms that are bound in
    molecules, have the universal repulsion below their shortest distance; without charges, so have pairs that do not
    touch, as ions of the same sign. Forces far from the fit count less (M-estimator of Huber), so that wrong labels do
    not decide. Of more than 300 pairs the most frequent are fitted; the others are as those without a factor.

    Parameters
    ----------
    structures : sequence of Structure
        Training structures; about 10,000 atoms of them are looked at.
    elements : sequence of str
        Elements of the model.
    shortest : mapping
        Shortest distance in the data, Å, of each pair ``"A-B"``.
    longest : float
        No repulsion reaches beyond this distance, Å.
    beside : Beside, optional
        Charges whose forces are there, too.
    """
    some = [structure for structure in structures if structure.forces is not None]
    some = some[:: -(-sum(structure.n_atoms for structure in some) // _ATOMS) or 1]
    forces = np.concatenate(
        [np.asarray(s.forces, dtype=np.float64).reshape(-1) for s in some] or [np.zeros(0)]
    )
    names = [pair_name(a, b) for i, a in enumerate(elements) for b in elements[i:]]
    outer = {
        name: max(distance, min(_REACH * distance, longest)) if touching or beside is not None else distance
        for name, (distance, touching) in _contacts(names, shortest).items()
    }
    if not outer or not np.any(forces):
        return None
    rows: dict[str, list[float]] = {}
    if len(outer) > _MOST_PAIRS:
        frequent = _most_frequent(some, outer)
        rows = nep_wall({name: shortest[name] for name in outer if name not in frequent})
        outer = {name: outer[name] for name in outer if name in frequent}
    columns, known, products = _columns(some, outer), np.zeros_like(forces), None
    if beside is not None and beside.labelled:
        known = labelled_forces(some, beside.interactions)
    elif beside is not None:
        products = product_forces(some, elements, beside.interactions).reshape(len(forces), -1)
    factors, charges, left = _factors(columns, forces - known, products)
    for (name, end), factor in zip(outer.items(), factors.tolist(), strict=True):
        if factor < _WEAK:
            rows |= nep_wall({name: shortest[name]})
            continue
        scaled = [number * (1.0 if k % 2 else factor) for k, number in enumerate(UNIVERSAL_SCREENING)]
        rows[name] = [0.5 * end, end, *scaled]
    of_elements = None
    if charges is not None and np.any(charges):
        symbols = [symbol for structure in some for symbol in structure.symbols]
        of_elements = usual_charges(elements, charges, symbols)
    share = _electrostatic_share(some, elements, outer) if beside is None else 0.0
    return FittedRepulsion(rows, left / float(np.square(forces).mean()), of_elements, share)


def _electrostatic_share(
    structures: Sequence[Structure], elements: Sequence[str], outer: Mapping[str, float]
) -> float:
    """Share of the squares that the repulsion leaves which charges of the elements, fitted with it, would take.

    Of some structures, about 1000 atoms; 0 for a single element, for more than eight, or where no structure is small
    and periodic in all directions or in none.
    """
    if not 1 < len(elements) <= _MOST_ELEMENTS:
        return 0.0
    some = [s for s in structures if s.n_atoms <= _LARGEST and len({bool(p) for p in s.pbc}) == 1]
    some = some[:: -(-sum(structure.n_atoms for structure in some) // _CHARGED_ATOMS) or 1]
    forces = np.concatenate(
        [np.asarray(s.forces, dtype=np.float64).reshape(-1) for s in some] or [np.zeros(0)]
    )
    if not np.any(forces):
        return 0.0
    columns = _columns(some, outer)
    products = product_forces(some, elements, point_charges).reshape(len(forces), -1)
    without, with_them = (_factors(columns, forces, p)[2] for p in (None, products))
    if without < _NOTHING * float(np.square(forces).mean()):
        return 0.0
    return max(0.0, 1.0 - with_them / without)


def _contacts(names: Sequence[str], shortest: Mapping[str, float]) -> dict[str, tuple[float, bool]]:
    """Shortest distance of each pair, and whether such atoms touch: neither has neighbours that are much closer."""
    known = {name: shortest[name] for name in names if name in shortest}
    closest: dict[str, float] = {}
    for name, distance in known.items():
        for element in name.split("-"):
            closest[element] = min(distance, closest.get(element, distance))
    return {
        name: (distance, distance <= _TOUCHING * max(closest[element] for element in name.split("-")))
        for name, distance in known.items()
    }


def _most_frequent(structures: Sequence[Structure], outer: Mapping[str, float]) -> set[str]:
    """The pairs of elements that are closest to each other most often, `_MOST_PAIRS` of them."""
    counts = dict.fromkeys(outer, 0)
    for structure in structures:
        symbols, close = np.array(structure.symbols), close_pairs(structure, max(outer.values()))
        for a, b, distance in zip(
            symbols[close.first], symbols[close.second], close.distance.tolist(), strict=True
        ):
            name = pair_name(a, b)
            counts[name] = counts.get(name, 0) + (distance < outer.get(name, 0.0))
    return set(sorted(counts, key=lambda name: -counts[name])[:_MOST_PAIRS])


def _columns(structures: Sequence[Structure], outer: Mapping[str, float]) -> np.ndarray:
    """(3 N, pairs) forces of the universal repulsion of each pair that ends at its `outer` distance, eV/Å."""
    begin, parts = 0, []
    for structure in structures:
        symbols, close = np.array(structure.symbols), close_pairs(structure, max(outer.values()))
        parts.append((symbols[close.first], symbols[close.second], close.first + begin, close.second + begin,
                      close.vector, close.distance))  # fmt: skip
        begin += structure.n_atoms
    element, other, first, second, vector, distance = (
        np.concatenate(part) for part in zip(*parts, strict=True)
    )
    columns = np.zeros((begin, 3, len(outer)))
    for column, (name, end) in enumerate(outer.items()):
        a, b = name.split("-")
        of_pair = ((element == a) & (other == b)) | ((element == b) & (other == a))
        own = np.flatnonzero(of_pair & (distance < end))
        forces = _universal_forces(distance[own], a, b, end)[:, None] * vector[own] / distance[own, None]
        for axis in range(3):
            columns[:, axis, column] += np.bincount(second[own], forces[:, axis], begin)
            columns[:, axis, column] -= np.bincount(first[own], forces[:, axis], begin)
    return columns.reshape(3 * begin, -1)


def _universal_forces(distances: np.ndarray, a: str, b: str, end: float) -> np.ndarray:
    """Minus the derivative of the universal repulsion of two elements that ends at `end`, eV/Å."""
    r = torch.from_numpy(distances).requires_grad_()
    charges = float(atomic_numbers[a] * atomic_numbers[b])
    powers = float(atomic_numbers[a]) ** 0.23 + float(atomic_numbers[b]) ** 0.23
    amplitudes, exponents = (torch.tensor([UNIVERSAL_SCREENING[k::2]], dtype=torch.float64) for k in (0, 1))
    full = torch.ones_like(r)
    terms = screened_repulsion(r, charges * full, powers * full, 0.5 * end * full, end * full, exponents)
    (slope,) = torch.autograd.grad((terms * amplitudes).sum(), r)
    return -slope.numpy()


def _factors(
    columns: np.ndarray, target: np.ndarray, products: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray | None, float]:
    """Factors that are not negative and leave the smallest squares of what is no outlier; charges; their mean."""
    scale = np.sqrt(np.square(columns).sum(0))
    scale[scale == 0.0] = 1.0
    n, weights = columns.shape[1], np.ones(len(target))
    every = np.concatenate(
        [columns / scale, np.zeros((len(target), 0)) if products is None else products], axis=1
    )
    for _ in range(_ROUNDS):
        gram = (every * weights[:, None]).T @ every
        gram[np.arange(n), np.arange(n)] += 1e-6  # of 1: pairs that are never close have no column
        weighted = weights * target
        found = fit_charges(
            gram, every.T @ weighted, float(weighted @ target), math.isqrt(every.shape[1] - n)
        )
        both = np.concatenate([found.factors, np.outer(found.charges, found.charges).reshape(-1)])
        residual = target - every @ both
        rest = np.abs(residual)
        limit = _OUTLYING * float(np.quantile(rest, 0.9))
        weights = np.minimum(1.0, limit / np.maximum(rest, limit)) if limit > 0.0 else weights
    charges = None if products is None else found.charges
    return found.factors / scale, charges, float((weights * np.square(residual)).mean())


def is_fitted(wall: Mapping[str, Any] | None) -> bool:
    """Whether the repulsion of a model's description is a fitted one; see `nnpkit.models.short_range.make_wall`."""
    rows = [row for row in (wall or {}).values() if not isinstance(row, int | float)]
    return any(tuple(row[2:]) != UNIVERSAL_SCREENING for row in rows)
