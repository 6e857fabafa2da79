"""Do energies, forces and stresses of a data set belong together?  A pair potential as witness.

A linear pair potential ``E = sum_p c_k phi_k(r_p)`` is fitted to the forces alone.  It cannot be accurate,
but what it predicts for differences of energies and for stresses rises and falls with the labels, with a
slope near one if units and signs are right: between 0.5 and 2.5 for energies and 0.9 and 1.2 for virials on
every set of liquids, molecules, metals, oxides and semiconductors tried, wherever the correlation was above
0.6.  A wrong unit puts the slope off by its factor (27.2 for hartree), a wrong sign makes it negative, and
neither changes the correlation.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nnpkit.data.distances import ClosePairs, close_pairs
from nnpkit.data.structure import Structure

__all__ = ["PairTest", "Slope", "forces_compared", "pair_potential_test"]

_CUTOFF = 5.0  # Å
_N_BASIS = 10
_FIRST_CENTER = 0.6  # Å
_MAX_STRUCTURES, _MAX_ATOMS = 40, 6000
_MIN_STRUCTURES = 8
_MIN_CORRELATION = 0.6
_MIN_FORCE = 1e-3  # RMS of a component, eV/Å, below which forces carry no information
# Pairs of elements with functions of their own; rarer ones share theirs, or sets of many elements would ask for
# gigabytes.
_MOST_KINDS = 60
_RIDGE = 1e-6  # of the mean diagonal of the normal equations


class Slope(NamedTuple):
    """Least-squares slope of labels against predictions, through the origin, and their correlation."""

    slope: float
    correlation: float

    @property
    def conclusive(self) -> bool:
        """Whether labels and predictions are related at all."""
        return abs(self.correlation) > _MIN_CORRELATION

    @property
    def spread_ratio(self) -> float:
        """Root mean square of the labels over that of the predictions."""
        return self.slope / self.correlation if self.correlation else float("inf")


class PairTest(NamedTuple):
    """Labels against the pair potential fitted to the forces: energies per atom, and virials if present."""

    energy: Slope | None
    virial: Slope | None


def pair_potential_test(structures: Sequence[Structure]) -> PairTest | None:
    """Fit a pair potential to forces and hold energies and stresses against it.

    Energies are compared after removing what the composition explains; virials by their deviatoric part,
    which needs no knowledge of the volume dependence that forces do not show.  At most 40 structures, evenly
    taken, are used.

    Returns
    -------
    PairTest or None
        None if fewer than 8 structures have energies and forces, or the forces vanish.
    """
    sample = _sample([s for s in structures if s.energy is not None and s.forces is not None])
    if len(sample) < _MIN_STRUCTURES or _force_rms(sample) < _MIN_FORCE:
        return None
    elements = sorted({symbol for structure in sample for symbol in structure.symbols})
    fitted = _fit(sample, elements)
    if fitted is None:
        return None
    predicted = np.array([design.energy for design in fitted.designs]) @ fitted.coefficients
    virials = [design.virial @ fitted.coefficients for design in fitted.designs]
    sizes = np.array([structure.n_atoms for structure in sample])
    fractions = np.array([[s.composition[e] / s.n_atoms for e in elements] for s in sample])
    labelled = np.array([structure.energy for structure in sample])
    energy = None
    if len(sample) - np.linalg.matrix_rank(fractions) >= _MIN_STRUCTURES - 2:
        energy = _slope(_residual(fractions, predicted / sizes), _residual(fractions, labelled / sizes))
    pairs = [(v, s.virial) for v, s in zip(virials, sample, strict=True) if s.virial is not None]
    virial = None
    if len(pairs) >= _MIN_STRUCTURES:
        virial = _slope(
            np.concatenate([_deviatoric(prediction) for prediction, _ in pairs]),
            np.concatenate([_deviatoric(label) for _, label in pairs]),
        )
    return PairTest(energy, virial)


def forces_compared(known: Sequence[Structure], other: Sequence[Structure]) -> Slope | None:
    """Forces of `other` against those of a pair potential that was fitted to the forces of `known`.

    Where both are of the same elements and in the same unit the slope is of the order of one; the correlation says
    whether they are like each other at all.

    Returns
    -------
    Slope or None
        None if either has fewer than 8 structures with forces that do not vanish, or `other` has a pair of elements
        that `known` has not.
    """
    samples = [_sample([s for s in part if s.forces is not None]) for part in (known, other)]
    if any(len(s) < _MIN_STRUCTURES or _force_rms(s) < _MIN_FORCE for s in samples):
        return None
    elements = sorted({symbol for structure in samples[0] for symbol in structure.symbols})
    if {symbol for structure in samples[1] for symbol in structure.symbols} - set(elements):
        return None
    fitted = _fit(samples[0], elements)
    if fitted is None:
        return None
    predicted = []
    for structure in samples[1]:
        pairs = close_pairs(structure, _CUTOFF)
        kinds = fitted.kind_of[_codes(structure, pairs, elements)]
        if (kinds < 0).any():
            return None
        predicted.append(_design(structure, pairs, kinds, fitted.n_kinds).forces @ fitted.coefficients)
    return _slope(np.concatenate(predicted), np.concatenate([_flat_forces(s) for s in samples[1]]))


class _Fit(NamedTuple):
    """The pair potential that fits the forces of some structures best."""

    designs: list[_Design]  # of these structures
    kind_of: np.ndarray  # by the code of a pair of elements; -1 where there is none
    n_kinds: int
    coefficients: np.ndarray


def _fit(structures: Sequence[Structure], elements: Sequence[str]) -> _Fit | None:
    """None if no two atoms are within the cutoff."""
    within = [close_pairs(structure, _CUTOFF) for structure in structures]
    codes = [_codes(s, pairs, elements) for s, pairs in zip(structures, within, strict=True)]
    found, counts = np.unique(np.concatenate(codes), return_counts=True)
    by_number = found[np.argsort(-counts, kind="stable")]
    n_kinds = min(len(found), _MOST_KINDS)
    own = by_number[: len(found) if len(found) <= _MOST_KINDS else _MOST_KINDS - 1]
    kind_of = np.full(len(elements) ** 2, -1)
    kind_of[found] = n_kinds - 1
    kind_of[own] = np.arange(len(own))
    size = n_kinds * _N_BASIS
    normal, right = np.zeros((size, size)), np.zeros(size)
    designs = []
    for structure, pairs, code in zip(structures, within, codes, strict=True):
        design = _design(structure, pairs, kind_of[code], n_kinds)
        normal += design.forces.T @ design.forces
        right += design.forces.T @ _flat_forces(structure)
        designs.append(design._replace(forces=design.forces[:0]))
    scale = np.trace(normal) / max(1, size)
    if not scale > 0.0:
        return None
    coefficients = np.linalg.solve(normal + _RIDGE * scale * np.eye(size), right)
    return _Fit(designs, kind_of, n_kinds, coefficients)


class _Design(NamedTuple):
    """What multiplies the coefficients in energy (K,), forces (3N, K) and virial (3, 3, K)."""

    energy: np.ndarray
    forces: np.ndarray
    virial: np.ndarray


def _sample(structures: list[Structure]) -> list[Structure]:
    """At most `_MAX_STRUCTURES` structures and about `_MAX_ATOMS` atoms, evenly taken."""
    if not structures:
        return []
    mean = sum(structure.n_atoms for structure in structures) / len(structures)
    count = min(len(structures), _MAX_STRUCTURES, max(_MIN_STRUCTURES, int(_MAX_ATOMS / mean)))
    return [structures[k] for k in np.linspace(0, len(structures) - 1, count).astype(int)]


def _force_rms(structures: Sequence[Structure]) -> float:
    return float(np.sqrt(np.mean(np.concatenate([_flat_forces(s) for s in structures]) ** 2)))


def _flat_forces(structure: Structure) -> np.ndarray:
    assert structure.forces is not None
    return structure.forces.ravel()


def _basis(distance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Gaussians under an envelope (1 - r/rc)², (P, n), and their derivatives."""
    width = (_CUTOFF - _FIRST_CENTER) / _N_BASIS
    x = (distance[:, None] - (_FIRST_CENTER + width * np.arange(_N_BASIS))) / width
    gaussian = np.exp(-0.5 * x**2)
    u = 1.0 - distance[:, None] / _CUTOFF
    return gaussian * u**2, gaussian * (-x / width * u**2 - 2.0 * u / _CUTOFF)


def _codes(structure: Structure, pairs: ClosePairs, elements: Sequence[str]) -> np.ndarray:
    """A number for the two elements of each pair, whatever their order."""
    types = np.array([elements.index(symbol) for symbol in structure.symbols])
    a, b = types[pairs.first], types[pairs.second]
    return np.asarray(np.minimum(a, b) * len(elements) + np.maximum(a, b))


def _design(structure: Structure, pairs: ClosePairs, kinds: np.ndarray, n_kinds: int) -> _Design:
    from scipy.sparse import csr_array

    phi, slope = _basis(pairs.distance)
    direction = pairs.vector / np.maximum(pairs.distance, 1e-9)[:, None]
    shape = (n_kinds, _N_BASIS)
    energy = np.zeros(shape)
    forces = np.zeros((structure.n_atoms * 3, *shape))
    virial = np.zeros((3, 3, *shape))
    for k in np.unique(kinds):
        own = np.flatnonzero(kinds == k)
        # dE/dr of `second` is phi' * direction, and so is the force on `first`
        gradient = slope[own, None, :] * direction[own, :, None]
        ones = np.ones(len(own))
        rows = np.concatenate([pairs.first[own], pairs.second[own]])
        sign = csr_array(
            (np.concatenate([ones, -ones]), (rows, np.tile(np.arange(len(own)), 2))),
            shape=(structure.n_atoms, len(own)),
        )
        energy[k] = phi[own].sum(axis=0)
        forces[:, k] = (sign @ gradient.reshape(len(own), -1)).reshape(-1, _N_BASIS)
        virial[:, :, k] = -np.einsum("px,pyk->xyk", pairs.vector[own], gradient)
    return _Design(energy.ravel(), forces.reshape(len(forces), -1), virial.reshape(3, 3, -1))


def _residual(columns: np.ndarray, values: np.ndarray) -> np.ndarray:
    return values - columns @ np.linalg.lstsq(columns, values, rcond=1e-8)[0]


def _deviatoric(matrix: np.ndarray) -> np.ndarray:
    return np.ravel(matrix - np.trace(matrix) / 3 * np.eye(3))


def _slope(x: np.ndarray, y: np.ndarray) -> Slope | None:
    xx, xy, yy = float(x @ x), float(x @ y), float(y @ y)
    if xx <= 0.0 or yy <= 0.0:
        return None
    return Slope(xy / xx, xy / float(np.sqrt(xx * yy)))
