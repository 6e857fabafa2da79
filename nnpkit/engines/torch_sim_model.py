"""A model for torch-sim: all systems of a state in one evaluation by the processor's kernel.

    model = TorchSimModel(nnpkit.load("model.pt"))
    torch_sim.integrate(system=atoms_list, model=model, ...)

Reference: torch-sim's ``ModelInterface`` (https://radical-ai.github.io/torch-sim).
"""

from __future__ import annotations

from typing import Any

import torch
from ase.data import chemical_symbols
from torch_sim.models.interface import ModelInterface

from nnpkit.data.structure import Structure
from nnpkit.deploy.load import LoadedModel
from nnpkit.engines.evaluation import BatchEvaluator
from nnpkit.errors import InputError

__all__ = ["TorchSimModel"]


class TorchSimModel(ModelInterface):
    """Energies (eV), forces (eV/Å) and stresses (eV/Å³, positive under tension) of the systems of a state.

    Parameters
    ----------
    model : LoadedModel
        A potential or committee, of which it is the mean.
    compute_stress : bool
        Whether there are stresses; all systems then need a cell.
    dtype : torch.dtype
        Of what is returned; the kernel computes in its own precision.
    **options
        Of `nnpkit.engines.evaluation.BatchEvaluator`.

    Raises
    ------
    InputError
        For an element that the model lacks, and for stresses of systems without a volume.
    """

    def __init__(
        self,
        model: LoadedModel,
        compute_stress: bool = True,
        dtype: torch.dtype = torch.float64,
        **options: Any,
    ) -> None:
        super().__init__()
        self._device, self._dtype = torch.device("cpu"), dtype
        self._compute_stress, self._compute_forces = compute_stress, True
        self._evaluator = BatchEvaluator(model, **options)

    def forward(self, state: Any, **kwargs: Any) -> dict[str, torch.Tensor]:
        """Predictions for all systems of a ``SimState``; see the class."""
        structures = _structures(state)
        found = self._evaluator.predict(structures)
        result = {"energy": found.energy.to(self._dtype), "forces": found.forces.to(self._dtype)}
        if self._compute_stress:
            volumes = torch.tensor([s.volume for s in structures], dtype=torch.float64)
            if (volumes < 1e-10).any():
                raise InputError("a system without a cell has no stress", hint="compute_stress=False")
            result["stress"] = (-found.virial / volumes[:, None, None]).to(self._dtype)
        return result


def _structures(state: Any) -> list[Structure]:
    """The systems of a state; its cells have vectors as columns."""
    positions = state.positions.detach().double().cpu().numpy()
    cells = state.row_vector_cell.detach().double().cpu().numpy()
    numbers, system = state.atomic_numbers.cpu().numpy(), state.system_idx.cpu().numpy()
    pbc = torch.as_tensor(state.pbc).cpu().expand(3).numpy().copy()
    structures = []
    for k, cell in enumerate(cells):
        own = system == k
        symbols = [chemical_symbols[number] for number in numbers[own]]
        structures.append(Structure(symbols, positions[own], cell=cell, pbc=pbc, name=f"system {k}"))
    return structures
