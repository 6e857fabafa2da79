"""What a potential says about labelled structures, as arrays: the material of every comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnpkit.data.structure import Structure
from nnpkit.deploy.fused import fused_potential
from nnpkit.deploy.load import LoadedModel
from nnpkit.kernels.native import NoKernelError
from nnpkit.measure.metrics import ErrorSums
from nnpkit.units import EV_PER_A3_IN_GPA

__all__ = ["Outlier", "Predictions", "contradictions", "errors_summary", "outliers", "predict_all"]


@dataclass
class Predictions:
    """Labels and predictions of M structures with N atoms in all; NaN where there is no label.

    Attributes
    ----------
    structures : list of Structure
        With their labels.
    energy, energy_label : (M,) arrays
        eV/atom.
    forces, force_label : (N, 3) arrays
        eV/Å.
    stress, stress_label : (M, 3, 3) arrays
        GPa, ASE's sign; NaN too unless periodic in three directions.
    structure : (N,) array
        Index of the structure of each atom.
    energy_std, force_std : (M,), (N,) arrays
        Disagreement of a committee, eV/atom and eV/Å; NaN of a single potential.
    sums : ErrorSums
        The errors.
    """

    structures: list[Structure]
    energy: np.ndarray
    energy_label: np.ndarray
    forces: np.ndarray
    force_label: np.ndarray
    stress: np.ndarray
    stress_label: np.ndarray
    structure: np.ndarray
    energy_std: np.ndarray
    force_std: np.ndarray
    sums: ErrorSums

    @property
    def energy_error(self) -> np.ndarray:
        """(M,) prediction minus label, eV/atom."""
        return self.energy - self.energy_label

    @property
    def force_error(self) -> np.ndarray:
        """(N,) length of the error vector of each atom, eV/Å."""
        return np.linalg.norm(self.forces - self.force_label, axis=1)

    @property
    def largest_force_error(self) -> np.ndarray:
        """(M,) largest `force_error` of each structure; NaN without labels."""
        largest = np.full(len(self.structures), -np.inf)
        np.maximum.at(largest, self.structure, self.force_error)
        return np.where(np.isfinite(largest), largest, np.nan)


def predict_all(
    model: LoadedModel,
    structures: Sequence[Structure],
    progress: Callable[[], None] | None = None,
    groups: Sequence[str] | None = None,
) -> Predictions:
    """Predict all `structures` with `model`, by its kernel where there is one.

    Parameters
    ----------
    model : LoadedModel
        A potential or a committee.
    structures : sequence of Structure
        Labels may be missing.
    progress : callable, optional
        Called after every structure.
    groups : sequence of str, optional
        Group of each structure.

    Raises
    ------
    InputError
        If the model does not know an element.
    """
    try:
        potential: Any = fused_potential(model)
    except NoKernelError:
        potential = None
    m, sizes = len(structures), [s.n_atoms for s in structures]
    energy, energy_std = np.full((2, m), np.nan)
    stress, stress_label = np.full((2, m, 3, 3), np.nan)
    forces, force_label = np.full((2, sum(sizes), 3), np.nan)
    force_std, sums, first = np.full(sum(sizes), np.nan), ErrorSums(), 0
    for n, s in enumerate(structures):
        found, atoms = model.predict(s, potential=potential), slice(first, first + s.n_atoms)
        first += s.n_atoms
        energy[n], forces[atoms] = found.energy / s.n_atoms, found.forces
        if s.forces is not None:
            force_label[atoms] = s.forces
        if found.stress is not None:
            stress[n] = found.stress * EV_PER_A3_IN_GPA
            stress_label[n] = np.nan if s.stress is None else s.stress * EV_PER_A3_IN_GPA
        if found.disagreement is not None:
            energy_std[n], force_std[atoms] = found.disagreement.energy_std, found.disagreement.forces_std
        group = None if groups is None else groups[n]
        sums.add(s, found.energy, found.forces, found.stress, group, found.charges, found.dipole)
        if progress is not None:
            progress()
    label = np.array([np.nan if s.energy is None else s.energy / s.n_atoms for s in structures])
    index = np.repeat(np.arange(m), sizes)
    return Predictions(
        list(structures), energy, label, forces, force_label, stress, stress_label, index, energy_std, force_std, sums
    )  # fmt: skip


def errors_summary(predictions: Predictions) -> dict[str, Any]:
    """The errors of `nnpkit.measure.metrics.METRICS`, and the largest ones; None where there are no labels.

    ``force_rmse`` is over components and ``force_vector_rmse`` over vectors, eqs. 10 and 11 of Tokita and Behler
    (2023), ``energy_mae`` their mean absolute deviation, eq. 9.
    """

    def largest(values: np.ndarray) -> float | None:
        known = np.abs(values[np.isfinite(values)])
        return float(known.max()) if len(known) else None

    return {
        **predictions.sums.summary(),
        "energy_max": largest(predictions.energy_error),
        "force_max": largest(predictions.force_error),
    }


@dataclass
class Outlier:
    """A structure that a potential describes badly."""

    name: str
    index: int  # in the predictions
    error: float  # eV/atom, or the largest of the atoms in eV/Å
    ratio: float  # to the root mean square of all structures
    atom: int | None  # of the largest force error


def outliers(predictions: Predictions, kind: str = "energy", number: int = 10) -> list[Outlier]:
    """The `number` structures with the largest errors of ``energy`` or ``force``, the worst first.

    Raises
    ------
    ValueError
        For another `kind`.
    """
    if kind == "energy":
        values = np.abs(predictions.energy_error)
    elif kind == "force":
        values = predictions.largest_force_error
    else:
        raise ValueError(f"outliers of {kind!r}")
    known = np.flatnonzero(np.isfinite(values))
    if not len(known):
        return []
    typical = float(np.sqrt(np.mean(values[known] ** 2))) or 1.0
    found = []
    for index in known[np.argsort(-values[known])][:number]:
        atom = None
        if kind == "force":
            mine = np.flatnonzero(predictions.structure == index)
            atom = int(np.nanargmax(predictions.force_error[mine]))
        error = float(values[index])
        found.append(Outlier(predictions.structures[index].name, int(index), error, error / typical, atom))
    return found


def contradictions(
    first: np.ndarray, second: np.ndarray, factor: float = 3.0
) -> tuple[np.ndarray, float | None]:
    """Data that two potentials fail to learn alike, which speaks against the data.

    Tokita and Behler (2023), Fig. 20: a large error of one potential only is that potential's, a large error of
    both is a sign of contradictory data.

    Parameters
    ----------
    first, second : (M,) arrays
        Errors of the same M labels by two potentials trained independently; NaN where there is no label.
    factor : float
        In units of each one's root mean square error: from where on an error is large.

    Returns
    -------
    indices : array
        Where both errors are large, the largest geometric mean first.
    correlation : float or None
        Pearson correlation of the signed errors; None where it cannot be formed.
    """
    known = np.isfinite(first) & np.isfinite(second)
    if known.sum() < 3 or not first[known].any() or not second[known].any():
        return np.zeros(0, dtype=np.int64), None
    scaled = [np.abs(e) / np.sqrt(np.mean(e[known] ** 2)) for e in (first, second)]
    both = known & (np.minimum(*scaled) > factor)
    order = np.argsort(-(scaled[0] * scaled[1])[both])
    spread = min(np.ptp(first[known]), np.ptp(second[known]))
    correlation = float(np.corrcoef(first[known], second[known])[0, 1]) if spread > 0.0 else None
    return np.flatnonzero(both)[order], correlation
