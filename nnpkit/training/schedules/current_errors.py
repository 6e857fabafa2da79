"""How wrong the potential is at a moment of its training: for schedules that look before they choose."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from nnpkit.data.structure import Structure
from nnpkit.measure.label_choice import LabelErrors

if TYPE_CHECKING:
    from nnpkit.measure.contract import Predicts

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

    def errors(self, index: int) -> LabelErrors:
        """Errors of a structure with the weights as they are now; not a number and nothing where labels are missing."""
        structure, prediction = self.structures[index], self.store.predict(index)
        energy, forces = math.nan, torch.zeros(0, dtype=torch.float64)
        if structure.energy is not None:
            energy = abs(float(prediction.energy) - structure.energy) / structure.n_atoms
        if structure.forces is not None:
            forces = (prediction.forces - torch.as_tensor(structure.forces)).abs().reshape(-1)
        return LabelErrors(energy, forces)
