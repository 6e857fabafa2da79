"""How well the disagreement of a committee tells its errors, on labelled structures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from nnpkit.data.graph import build_graph
from nnpkit.data.structure import Structure
from nnpkit.measure.frames import FrameStore
from nnpkit.measure.metrics import ErrorSums
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.charged_potential import charges_and_dipole
from nnpkit.models.potential import Prediction
from nnpkit.models.sum_potential import potential_of
from nnpkit.units import stress_from_virial

__all__ = ["rank_correlation", "validation_report"]


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float | None:
    """Spearman's rank correlation; None for fewer than three numbers or constant ones."""
    if len(a) < 3 or np.ptp(a) == 0.0 or np.ptp(b) == 0.0:
        return None
    return float(spearmanr(a, b).statistic)


def validation_report(
    models: Sequence[AtomicModel],
    structures: Sequence[Structure],
    store: Any,
    groups: Sequence[str] | None = None,
    factor: float = 1.0,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Errors of the mean of a committee on labelled structures, and how its disagreement goes with them.

    Parameters
    ----------
    models : sequence of AtomicModel
        The members.
    structures : sequence of Structure
        With labels.
    store : FrameStore or None
        The same structures prepared, if the members have the same descriptor without weights.
    groups : sequence of str, optional
        Group of each structure.
    factor : float
        By which deviations are multiplied, ``spread_factor`` of the file.

    Returns
    -------
    report : dict
        ``errors`` (as of `nnpkit.measure.metrics.ErrorSums`), ``spearman_atoms``, ``spearman_frames`` and
        ``spearman_energy``: rank correlations of disagreement and error, None where they cannot be formed.
    arrays : dict
        Of all frames: ``n_atoms``, ``energy_error`` and ``energy_std`` (eV/atom), ``force_error`` and ``force_std``
        (largest of the atoms, eV/Å; NaN without a label); of all atoms of frames with forces:
        ``atom_force_error``, ``atom_force_std``.
    """
    sums = ErrorSums()
    rows: list[tuple[float, ...]] = []
    atom_error: list[np.ndarray] = [np.zeros(0)]
    atom_std: list[np.ndarray] = [np.zeros(0)]
    for index, structure in enumerate(structures):
        energy, forces, virial, stated = _members(models, store, index, structure)
        mean, spread = forces.mean(0), factor * np.sqrt(((forces - forces.mean(0)) ** 2).sum(2).mean(0))
        stress = None if structure.stress is None else stress_from_virial(virial, structure.volume)
        group = None if groups is None else groups[index]
        sums.add(structure, float(energy.mean()), mean, stress, group, *stated)
        n, error = structure.n_atoms, np.array([np.nan])
        if structure.forces is not None:
            error = np.linalg.norm(mean - structure.forces, axis=1)
            atom_error.append(error)
            atom_std.append(spread)
        off = np.nan if structure.energy is None else abs(energy.mean() - structure.energy) / n
        rows.append((n, off, factor * energy.std() / n, error.max(), spread.max()))
    names = ("n_atoms", "energy_error", "energy_std", "force_error", "force_std")
    arrays = dict(zip(names, np.array(rows).reshape(-1, 5).T, strict=True))
    arrays |= {"atom_force_error": np.concatenate(atom_error), "atom_force_std": np.concatenate(atom_std)}
    with_forces, with_energy = np.isfinite(arrays["force_error"]), np.isfinite(arrays["energy_error"])
    report = {
        "errors": sums.summary(),
        "spearman_atoms": rank_correlation(arrays["atom_force_std"], arrays["atom_force_error"]),
        "spearman_frames": rank_correlation(
            arrays["force_std"][with_forces], arrays["force_error"][with_forces]
        ),
        "spearman_energy": rank_correlation(
            arrays["energy_std"][with_energy], arrays["energy_error"][with_energy]
        ),
        "force_std_mean": float(arrays["atom_force_std"].mean()) if len(arrays["atom_force_std"]) else None,
    }
    return report, arrays


def _members(
    models: Sequence[AtomicModel], store: Any, index: int, structure: Structure
) -> tuple[np.ndarray, np.ndarray, np.ndarray, tuple[np.ndarray | None, np.ndarray | None]]:
    """Energies (M,) eV, forces (M, N, 3) and the mean virial (3, 3) of all members on one structure.

    Last the mean charges and dipole, of potentials with charges.
    """
    energies, forces, virials, predictions = [], [], [], []
    for model in models:
        if isinstance(store, FrameStore):
            prediction = store.view(model).predict(index)
        else:
            prediction = potential_of(model).predict(build_graph(structure, model.elements, model.cutoff))
        predictions.append(prediction)
        energies.append(float(prediction.energy))
        forces.append(prediction.forces.detach().numpy())
        virials.append(prediction.virial[0].detach().numpy())
    return np.array(energies), np.array(forces), np.mean(virials, axis=0), _stated(predictions, structure)


def _stated(
    predictions: Sequence[Prediction], structure: Structure
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Mean charges (N,) and dipole (3,) of the members; see `nnpkit.models.charged_potential.charges_and_dipole`."""
    each = zip(*(charges_and_dipole(one, structure) for one in predictions), strict=True)
    charges, dipoles = ([value for value in values if value is not None] for values in each)
    n = len(predictions)
    return (
        np.mean(charges, axis=0) if len(charges) == n else None,
        np.mean(dipoles, axis=0) if len(dipoles) == n else None,
    )
