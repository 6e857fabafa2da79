"""How wrong the potential is at a moment of its training: for schedules that look before they choose."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nnpkit.data.structure import Structure
from nnpkit.training.observations import require_label

if TYPE_CHECKING:
    from nnpkit.training.trainer import Predicts

__all__ = ["StoreJudge"]


class StoreJudge:
    """Errors of the structures of a store, predicted when they are asked for.

    Parameters
    ----------
    store : Predicts
        Prepared structures.
    structures : sequence of Structure
        The same structures with their labels.
    """

    def __init__(self, store: Predicts, structures: Sequence[Structure]) -> None:
        self.store, self.structures = store, structures

    def energy_error(self, index: int) -> float:
        """Error of the energy, eV/atom, without sign."""
        structure = self.structures[index]
        label = float(require_label(structure, "energy"))
        return abs(float(self.store.predict(index).energy) - label) / structure.n_atoms

    def force_errors(self, index: int) -> Tensor:
        """Errors of the force components (3N,), eV/Å, without sign."""
        label = torch.as_tensor(require_label(self.structures[index], "forces"))
        return (self.store.predict(index).forces - label).abs().reshape(-1)
