"""Fisher information of a potential: how sharply its labels determine its weights.

Shao et al., J. Chem. Phys. 155, 204108 (2021), eq. 1: the mean over updates t of the tensor square of the gradient of
the L1 loss with respect to all weights w,

    I = < (grad_w L1(t)) (x) (grad_w L1(t)) >_t,     L1(t) = sum over its n labels of sqrt(c/n) |label - prediction|

in eV for energies (of whole structures) and eV/Å for force components, with a weight c for each kind of label (their
section II A; an update with several kinds has one such sum for each). Its eigenvalues tell good minima from others
where errors do not (Fig. 9): they are larger where a potential is better determined.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.families.registered import family_of
from nnpkit.measure.contract import Measures
from nnpkit.measure.label_choice import Available, Labels
from nnpkit.measure.observations import LossWeights, Noise
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.sum_model import SumModel
from nnpkit.training.health import kinds_of_labels
from nnpkit.training.schedules.random_order import PinnSchedule

__all__ = ["Spectrum", "fisher_matrix", "fisher_spectrum", "loss_gradients", "model_spectrum", "observer_of"]


class Spectrum(NamedTuple):
    """Eigenvalues of a Fisher information matrix."""

    eigenvalues: np.ndarray  # (min(T, P),) descending; (eV or eV/Å per unit of weight) squared
    n_batches: int  # T, updates averaged over
    n_weights: int  # P; with fewer batches than weights, P - T further eigenvalues are not resolved
    trace: float  # sum of all eigenvalues

    @property
    def resolved(self) -> np.ndarray:
        """The eigenvalues above rounding."""
        if not len(self.eigenvalues):
            return self.eigenvalues
        floor = (np.finfo(float).eps * max(self.n_batches, self.n_weights)) ** 2 * self.eigenvalues[0]
        return self.eigenvalues[self.eigenvalues > floor]

    def summary(self) -> dict[str, Any]:
        """JSON-able description; logarithms are decadic, ``effective_rank`` is ``trace^2 / sum lambda^2``."""
        logs = np.log10(self.resolved) if len(self.resolved) else np.full(1, np.nan)
        counts, edges = np.histogram(logs, bins=30)
        peak = int(counts.argmax())
        square = float(self.eigenvalues @ self.eigenvalues)
        return {
            "n_batches": self.n_batches, "n_weights": self.n_weights, "n_resolved": len(self.resolved),
            "trace": self.trace, "largest": float(self.eigenvalues[0]) if len(self.eigenvalues) else 0.0,
            "log10_median": float(np.median(logs)), "log10_mean": float(logs.mean()),
            "log10_peak": float(edges[peak : peak + 2].mean()),
            "effective_rank": self.trace**2 / square if square else 0.0,
        }  # fmt: skip


def loss_gradients(
    observer: Measures, batches: Iterable[Labels], weights: Mapping[str, float] | None = None
) -> Tensor:
    """Gradients (T, P) of the L1 losses of T batches of labels with respect to the P weights.

    Parameters
    ----------
    observer : Measures
        Measures the labels with the model as it is now, e.g. `nnpkit.measure.observations.Observer`.
    batches : iterable of Labels
        One per update t, e.g. ``schedule.epoch()``.
    weights : mapping of str to float, optional
        Weights c of ``energy``, ``force`` and ``virial``, by default 1.

    Raises
    ------
    InputError
        If a structure lacks a label that is asked for.
    """
    rows = []
    for labels in batches:
        row = torch.zeros(observer.n_parameters, dtype=torch.float64)
        for kind in kinds_of_labels(labels):
            measured = observer.measure(
                labels._replace(
                    energy=kind == "energy",
                    components=labels.components if kind == "force" else None,
                    virial=kind == "virial",
                )
            )
            weight = 1.0 if weights is None else weights[kind]
            row -= math.sqrt(weight / len(measured.residual)) * (measured.residual.sign() @ measured.jacobian)
        rows.append(row)
    return torch.stack(rows) if rows else torch.zeros((0, observer.n_parameters), dtype=torch.float64)


def fisher_matrix(gradients: Tensor) -> Tensor:
    """Fisher information matrix (P, P) of the `gradients` (T, P): the mean of their tensor squares (eq. 1)."""
    return gradients.T @ gradients / len(gradients)


def fisher_spectrum(gradients: Tensor) -> Spectrum:
    """Eigenvalues of `fisher_matrix`, from the singular values of the `gradients` (T, P): no (P, P) matrix is made."""
    n_batches, n_weights = gradients.shape
    singular = torch.linalg.svdvals(gradients) if n_batches else gradients.new_zeros(0)
    values = (singular.square() / max(1, n_batches)).numpy()
    return Spectrum(values, n_batches, n_weights, float(values.sum()))


def observer_of(model: AtomicModel, structures: Sequence[Structure], budget: float = 1e9) -> Measures:
    """What measures the labels of `structures` with `model`, keeping up to `budget` bytes of derivatives."""
    family = family_of(model.spec)
    store = family.preparation(model, list(structures))(list(structures), budget)
    return family.observer(store, Noise(), LossWeights())


def model_spectrum(
    model: AtomicModel,
    structures: Sequence[Structure],
    batches: int = 500,
    *,
    seed: int = 1,
    force_labels: int = 10,
    energy_probability: float = 0.5,
) -> Spectrum:
    """Fisher spectrum of `model` on labelled structures with the batches of Shao et al.

    Each batch is the energy of one random structure, with `energy_probability`, or else `force_labels` random force
    components of one. Where the structures have one kind of label only, that is used.

    Parameters
    ----------
    model : AtomicModel
        Trained, with weights that require gradients (`nnpkit.deploy.load.LoadedModel.atomic_model`).
    structures : sequence of Structure
        With energies or forces.
    batches : int
        Number T of updates averaged over; more resolve more eigenvalues.
    seed, force_labels, energy_probability
        Of `nnpkit.training.schedules.random_order.PinnSchedule`.

    Raises
    ------
    InputError
        If no structure has a label.
    """
    if isinstance(model, SumModel):
        raise InputError(
            "the Fisher information is of one trained potential", where="baseline",
            hint="take a checkpoint's correction and labels less the baseline",
        )  # fmt: skip
    available = [
        Available(s.energy is not None, 0 if s.forces is None else 3 * s.n_atoms, False, s.name)
        for s in structures
    ]
    if not any(a.energy for a in available):
        energy_probability = 0.0
    elif not any(a.components for a in available):
        energy_probability = 1.0
    schedule = PinnSchedule(available, seed, energy_probability, force_labels, batches)
    drawn = list(schedule.epoch())
    used = sorted({index for labels in drawn for index in labels.structures})
    place = {index: n for n, index in enumerate(used)}
    observer = observer_of(model, [structures[index] for index in used])
    moved = (labels._replace(structures=[place[i] for i in labels.structures]) for labels in drawn)
    return fisher_spectrum(loss_gradients(observer, moved))
