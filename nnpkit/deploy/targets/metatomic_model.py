"""A model as metatomic calls it: systems with neighbour lists in, a map of energies out.

TorchScript and metatomic compare annotations by value, so there is no ``from __future__ import annotations`` here.
"""

from typing import Any, Dict, List, Optional  # noqa: UP035

import torch
from metatensor.torch import Labels, TensorBlock, TensorMap
from metatomic.torch import (
    AtomisticModel,
    ModelCapabilities,
    ModelMetadata,
    ModelOutput,
    NeighborListOptions,
    System,
)
from torch import Tensor, nn

__all__ = ["EnergyModel", "atomistic_model"]


class EnergyModel(nn.Module):
    """Energies of atoms from metatomic's neighbour lists, summed over systems unless they are asked for by atom.

    Parameters
    ----------
    model : nn.Module
        With the arguments of `nnpkit.models.atomic_model.AtomicModel.forward`.
    numbers : list of int
        Atomic number of each type.
    cutoff : float
        Å.
    """

    def __init__(self, model: nn.Module, numbers: list[int], cutoff: float) -> None:
        super().__init__()
        self.model = model
        self.cutoff = cutoff
        types = torch.full((max(numbers) + 1,), -1, dtype=torch.int64)
        types[torch.tensor(numbers)] = torch.arange(len(numbers))
        self.register_buffer("type_of_number", types)

    def requested_neighbor_lists(self) -> List[NeighborListOptions]:  # noqa: UP006
        """Every pair from both sides, up to the cutoff."""
        return [NeighborListOptions(cutoff=self.cutoff, full_list=True, strict=True)]

    def forward(
        self,
        systems: List[System],  # noqa: UP006
        outputs: Dict[str, ModelOutput],  # noqa: UP006
        selected_atoms: Optional[Labels],  # noqa: UP045
    ) -> Dict[str, TensorMap]:  # noqa: UP006
        """The energy of each system, or of each selected atom."""
        results: Dict[str, TensorMap] = {}  # noqa: UP006
        if "energy" not in outputs:
            return results
        of_atoms = outputs["energy"].sample_kind == "atom"
        energies: List[Tensor] = []  # noqa: UP006
        samples: List[Tensor] = []  # noqa: UP006
        for k, system in enumerate(systems):
            energy = self.atomic_energies(system)
            chosen = torch.arange(energy.shape[0], device=energy.device)
            if selected_atoms is not None:
                of_system = selected_atoms.column("system") == k
                chosen = selected_atoms.column("atom")[of_system].to(torch.int64)
            energy = energy.index_select(0, chosen)
            if of_atoms:
                energies.append(energy.reshape(-1, 1))
                samples.append(torch.stack([torch.full_like(chosen, k), chosen], dim=1))
            else:
                energies.append(energy.sum().reshape(1, 1))
                samples.append(torch.full((1, 1), k, dtype=torch.int64, device=energy.device))
        names = ["system", "atom"] if of_atoms else ["system"]
        values = torch.cat(energies)
        zero = torch.zeros((1, 1), dtype=torch.int32, device=values.device)
        block = TensorBlock(
            values=values,
            samples=Labels(names, torch.cat(samples).to(torch.int32)),
            components=torch.jit.annotate(List[Labels], []),  # noqa: UP006
            properties=Labels(["energy"], zero),
        )
        results["energy"] = TensorMap(Labels(["_"], zero), [block])
        return results

    def atomic_energies(self, system: System) -> Tensor:
        """Energies (N,) of all atoms of a system; edges sorted by their centres as the model wants them."""
        pairs = system.get_neighbor_list(self.requested_neighbor_lists()[0])
        center = pairs.samples.column("first_atom").to(torch.int64)
        neighbor = pairs.samples.column("second_atom").to(torch.int64)
        order = torch.argsort(center, stable=True)
        types = self.type_of_number.index_select(0, system.types.to(torch.int64))
        counts = torch.bincount(center, minlength=types.shape[0])
        offsets = torch.cat([torch.zeros_like(counts[:1]), torch.cumsum(counts, 0)])
        edge_vec = pairs.values.reshape(-1, 3).index_select(0, order)
        return self.model(edge_vec, types.index_select(0, neighbor.index_select(0, order)), offsets, types)


def atomistic_model(
    model: nn.Module, numbers: list[int], cutoff: float, words: dict[str, Any]
) -> AtomisticModel:
    """What metatomic saves; `words` are fields of its ``ModelMetadata``."""
    energy = ModelOutput(unit="eV", sample_kind="system")
    capabilities = ModelCapabilities(
        outputs={"energy": energy}, atomic_types=list(numbers), interaction_range=cutoff, length_unit="angstrom",
        supported_devices=["cpu", "cuda"], dtype="float64",
    )  # fmt: skip
    return AtomisticModel(EnergyModel(model, numbers, cutoff).eval(), ModelMetadata(**words), capabilities)
