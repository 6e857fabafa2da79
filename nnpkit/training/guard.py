"""Takes back a training that has diverged, and never hands out a potential that is worse than none.

A filter or an optimizer that has lost its way is noticed in one of three ways: it says so itself (`DivergedError`), the
residuals of its updates have become much larger than the labels that they are of, or the errors at the end of an epoch
are larger than those of predicting nothing and than the best ones so far. Then the weights and the state of the
optimizer are those of the best epoch again, and the training goes on with more caution.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnpkit.data.graph import build_graph, edge_vectors
from nnpkit.data.structure import Structure
from nnpkit.measure.metrics import ErrorSums
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.charged_model import ChargedModel
from nnpkit.training.model_errors import monitored

__all__ = ["RETREATS", "Guard", "errors_of_nothing", "silence", "without_learning"]

RETREATS = 12
"""After so many without an epoch in between that was sound the training ends with what it has."""
_NO_ENERGY = 1e-6  # eV/atom
_STRUCTURES = 100  # so many are enough for a mean energy
_WINDOW = 24
_EXCESS = 6.0
_WORSE = 2.0


def errors_of_nothing(model: AtomicModel, structures: Sequence[Structure]) -> dict[str, Any]:
    """Errors of the reference energies of `model` and no forces, as `nnpkit.measure.metrics.ErrorSums` has them."""
    reference = dict(zip(model.elements, model.reference_energies, strict=True))
    sums = ErrorSums()
    for structure in structures:
        energy = sum(reference[element] * count for element, count in structure.composition.items())
        sums.add(structure, energy, np.zeros((structure.n_atoms, 3)), np.zeros((3, 3)))
    return {**sums.summary(), **sums.of_most()}


def without_learning(nothing: Mapping[str, Any], monitor: str, counting: set[str]) -> tuple[set[str], float]:
    """Which errors decide and what their monitored value is for nothing learnt; see `nnpkit.training.model_errors`.

    Energies that those of the elements alone give exactly, as of a single structure, leave nothing to judge by.

    Parameters
    ----------
    nothing : mapping
        Errors of what nothing learnt predicts, see `errors_of_nothing`.
    """
    exact = nothing["energy_rmse"] is not None and nothing["energy_rmse"] < _NO_ENERGY
    if exact and monitor == "energy_force" and "force_rmse" in counting:
        counting = {"force_rmse"}
    return counting, monitored(nothing, monitor, counting)


@torch.no_grad()
def silence(model: AtomicModel, structures: Sequence[Structure]) -> None:
    """Let all networks of `model` say nothing: its energies are those of the elements, and of the repulsion.

    Networks for energies say one constant, minus the mean energy per atom of the repulsion in these `structures`, those
    for charges zero, so that a neutral structure has none.
    """
    charged = model.charge_networks if isinstance(model, ChargedModel) else []
    constant = 0.0
    if model.terms is not None:
        some = structures[:: -(-len(structures) // _STRUCTURES) or 1]
        graphs = [build_graph(structure, model.elements, model.terms.cutoff) for structure in some]
        total = sum(
            float(model.terms(edge_vectors(g), g.types[g.neighbor], g.offsets, g.types).sum()) for g in graphs
        )
        constant = -total / max(1, sum(len(g.types) for g in graphs)) / model.energy_scale
    for network in model.networks.networks:
        network.shift_and_stretch(0.0, constant, 0.0)
    for networks in charged:
        for network in networks.networks:
            network.shift_and_stretch(0.0, 0.0, 0.0)


class Guard:
    """Judges updates and epochs.

    Parameters
    ----------
    nothing : mapping
        Errors on the training structures of predicting nothing, see `errors_of_nothing`.
    """

    def __init__(self, nothing: Mapping[str, Any]) -> None:
        self.scale = {
            kind: max(float(nothing[key] or 0.0), smallest)
            for kind, key, smallest in (("energy", "energy_rmse", 0.05), ("force", "force_rmse", 0.2))
        }
        self.recent: dict[str, deque[float]] = {kind: deque(maxlen=_WINDOW) for kind in self.scale}

    def update_is_wild(self, numbers: Mapping[str, float]) -> str | None:
        """What is wrong with the last updates, given what each reports (``residual_force`` and so on), or None."""
        for kind, scale in self.scale.items():
            if (value := numbers.get(f"residual_{kind}")) is None:
                continue
            if not math.isfinite(value):
                return f"the residuals of the {kind} labels are not finite"
            recent = self.recent[kind]
            recent.append(value / scale)
            if len(recent) == _WINDOW and sorted(recent)[_WINDOW // 4] > _EXCESS:
                return f"errors of the {kind} labels are {sorted(recent)[_WINDOW // 2]:.0f} times those of no potential"
        return None

    def epoch_is_wild(self, error: float, best: float, nothing: float) -> str | None:
        """What is wrong with the monitored `error` after an epoch, or None."""
        if not math.isfinite(error):
            return "the errors are not finite"
        if error > _WORSE * best and error > _WORSE * nothing:
            return f"the error is {error / best:.1f} times that of the best epoch"
        return None

    def state_dict(self) -> dict[str, Tensor]:
        """The last updates of each kind of label."""
        return {kind: torch.tensor(list(recent), dtype=torch.float64) for kind, recent in self.recent.items()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore `state_dict`."""
        self.forget()
        for kind, recent in state.items():
            self.recent[kind].extend(recent.tolist())

    def forget(self) -> None:
        """Begin to watch anew."""
        for recent in self.recent.values():
            recent.clear()
