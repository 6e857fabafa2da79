"""Reference energies of a potential that begins with the weights of another: they follow the labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from nnpkit.data.store.frame_sample import FITTED, sampled
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.families.prepare import predicted_energies
from nnpkit.models.atomic_model import AtomicModel

__all__ = ["set_reference_energies", "settle_energies", "typical_shift"]

_MOST_STRUCTURES = 1000
_REWEIGHTINGS = 30


def settle_energies(
    model: AtomicModel,
    wanted: Literal["fit", "none"] | Mapping[str, float],
    structures: Sequence[Structure],
) -> list[str]:
    """Give `model` the reference energies that belong to new labels, forces being what they were; a report.

    With ``fit`` they move by the typical difference between labels and predictions: that which makes the sum of
    absolute differences least, so that single bad predictions move nothing. With given ones (``none``: zero) the
    difference to the earlier ones is either one of the labels, or goes into the outputs' biases, whichever describes
    the labels, and the typical difference that is left goes into the biases too. In all cases a shift of the labels
    by constants of the elements changes nothing but these constants.

    Parameters
    ----------
    model : AtomicModel
        Is changed.
    wanted : str or mapping
        ``data.reference_energies``.
    structures : sequence of Structure
        Training structures; those without energies say nothing.

    Raises
    ------
    InputError
        If the energy of an element is not given.
    """
    labelled = [s for s in sampled(structures, FITTED) if s.energy is not None]
    labelled = labelled[:: max(1, len(labelled) // _MOST_STRUCTURES)]
    before = dict(zip(model.elements, model.reference_energies, strict=True))
    report: list[str] = []
    if wanted != "fit":
        given = dict.fromkeys(model.elements, 0.0) if isinstance(wanted, str) else dict(wanted)
        if missing := sorted(set(model.elements) - set(given)):
            raise InputError(f"no reference energy for {missing[0]}", where="data.reference_energies")
        moved = {e: given[e] - before[e] for e in model.elements}
        if any(moved.values()):
            set_reference_energies(model, given)
            kept = _typical(_residuals(model, labelled)) if labelled else np.inf
            _shift_outputs(model, {e: -d for e, d in moved.items()})
            if labelled and kept < _typical(_residuals(model, labelled)):
                _shift_outputs(model, moved)
            report.append(f"reference energies are those given: {_words(before, given)}")
    if not labelled:
        return report
    shift = typical_shift(_residuals(model, labelled), labelled, model.elements)
    if wanted == "fit":
        after = {e: before[e] + shift[e] for e in model.elements}
        set_reference_energies(model, after)
        return [f"reference energies follow the labels: {_words(before, after)}"]
    _shift_outputs(model, shift)
    words = ", ".join(f"{e} {d:+.6g}" for e, d in shift.items())
    return [*report, f"biases of the outputs follow the labels: {words} eV"]


def typical_shift(
    residuals: np.ndarray, structures: Sequence[Structure], elements: Sequence[str]
) -> dict[str, float]:
    """Energies (eV) of the elements that make the sum of absolute residuals (eV/atom) least.

    Least squares, reweighted until single large residuals count no more than others; of least norm where the
    compositions do not determine every element.
    """
    fractions = np.array([[s.composition[e] / s.n_atoms for e in elements] for s in structures])
    shift = np.linalg.lstsq(fractions, residuals, rcond=1e-8)[0]
    for _ in range(_REWEIGHTINGS):
        left = np.abs(residuals - fractions @ shift)
        weights = 1.0 / np.sqrt(np.maximum(left, 1e-3 * left.mean() + 1e-12))
        shift = np.linalg.lstsq(fractions * weights[:, None], residuals * weights, rcond=1e-8)[0]
    return dict(zip(elements, shift.tolist(), strict=True))


def _residuals(model: AtomicModel, structures: Sequence[Structure]) -> np.ndarray:
    """Label less prediction, eV/atom."""
    labels = np.array([s.energy for s in structures])
    return (labels - predicted_energies(model, structures)) / np.array([s.n_atoms for s in structures])


def _typical(residuals: np.ndarray) -> float:
    return float(np.median(np.abs(residuals)))


def set_reference_energies(model: AtomicModel, energies: Mapping[str, float]) -> None:
    """Replace the energies, eV, of all elements of `model`, also in its description."""
    model.reference_energies = [float(energies[e]) for e in model.elements]
    model.spec["reference_energies"] = {e: float(energies[e]) for e in model.elements}


def _shift_outputs(model: AtomicModel, shift: Mapping[str, float]) -> None:
    """Add energies, eV, to the output of each element's network."""
    for element, network in zip(model.elements, model.networks.networks, strict=True):
        network.shift_and_stretch(0.0, shift[element] / model.energy_scale, 1.0)


def _words(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    return ", ".join(f"{e} {before[e]:.6g} to {after[e]:.6g}" for e in after) + " eV"
