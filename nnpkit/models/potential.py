"""From a graph to energies, forces and virial by one gradient with respect to the edge vectors."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nnpkit.data.graph import Graph, edge_centers, edge_vectors
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.stages import evaluate_stages

__all__ = ["Potential", "Prediction", "forces_from_edges", "virial_from_edges"]


class Prediction(NamedTuple):
    """What a potential says about B structures with N atoms."""

    energy: Tensor  # (B,) eV
    atomic_energy: Tensor  # (N,) eV
    forces: Tensor  # (N, 3) eV/Å
    virial: Tensor  # (B, 3, 3) eV, W = -dE/dstrain (see nnpkit.units)
    charges: Tensor | None = None  # (channels, N) e, of a potential with charges
    fields: Mapping[str, Tensor] = MappingProxyType(
        {}
    )  # (N, width) each: what a model with stages says of atoms


def forces_from_edges(edge_gradient: Tensor, center: Tensor, neighbor: Tensor, n_atoms: int) -> Tensor:
    """Forces (N, 3): with ``g = dE/d edge_vec``, ``F_i += g`` and ``F_j -= g`` for every edge (i, j)."""
    zeros = torch.zeros((n_atoms, 3), dtype=edge_gradient.dtype, device=edge_gradient.device)
    return zeros.index_add(0, center, edge_gradient).index_add(0, neighbor, -edge_gradient)


def virial_from_edges(
    edge_gradient: Tensor, edge_vec: Tensor, structure: Tensor, n_structures: int
) -> Tensor:
    """Virial (B, 3, 3): ``W = -sum_e r_e (x) g_e`` over the edges of each structure."""
    zeros = torch.zeros((n_structures, 3, 3), dtype=edge_gradient.dtype, device=edge_gradient.device)
    return zeros.index_add(0, structure, -edge_vec.unsqueeze(2) * edge_gradient.unsqueeze(1))


class Potential(nn.Module):
    """An `AtomicModel` on graphs."""

    def __init__(self, model: AtomicModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, graph: Graph, create_graph: bool = False) -> Prediction:
        """Prediction for all structures of `graph`; with `create_graph` it can be differentiated again."""
        center = edge_centers(graph.offsets)
        edge_vec = edge_vectors(graph).detach().requires_grad_(True)
        with torch.enable_grad():
            arguments = (graph.types[graph.neighbor], graph.offsets, graph.types)
            fields = getattr(self.model, "fields", ())
            if fields:
                *values, atomic_energy = self.model.stages(edge_vec, graph.neighbor, *arguments)
            else:
                values, atomic_energy = [], self.model(edge_vec, *arguments)
            (gradient,) = torch.autograd.grad(atomic_energy.sum(), edge_vec, create_graph=create_graph)
        n_atoms, n_structures = len(graph.types), len(graph.cells)
        energy = atomic_energy.new_zeros(n_structures).index_add(0, graph.structure, atomic_energy)
        return Prediction(
            energy if create_graph else energy.detach(),
            atomic_energy if create_graph else atomic_energy.detach(),
            forces_from_edges(gradient, center, graph.neighbor, n_atoms),
            virial_from_edges(gradient, edge_vec.detach(), graph.structure[center], n_structures),
            fields={
                name: v if create_graph else v.detach() for (name, _), v in zip(fields, values, strict=True)
            },
        )

    def energy_and_gradient(
        self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Atomic energies (n_local,) and their derivative by the edge vectors (E, 3); see `AtomicModel.forward`."""
        with torch.enable_grad():
            edge_vec = edge_vec.detach().requires_grad_(True)
            energy = self.model(edge_vec, neighbor_type, offsets, types)
            (gradient,) = torch.autograd.grad(energy.sum(), edge_vec)
        return energy.detach(), gradient

    def member_energies_and_gradients(
        self, edge_vec: Tensor, neighbor_type: Tensor, offsets: Tensor, types: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The same of every member of a committee: (M, n_local) and (M, E, 3)."""
        with torch.enable_grad():
            edge_vec = edge_vec.detach().requires_grad_(True)
            energies = self.model.members(edge_vec, neighbor_type, offsets, types)
            gradients = [torch.autograd.grad(row.sum(), edge_vec, retain_graph=True)[0] for row in energies]
        return energies.detach(), torch.stack(gradients)

    @torch.no_grad()
    def predict(self, graph: Graph, atoms_per_chunk: int = 128) -> Prediction:
        """The same numbers as `forward`, evaluated for a few centres at a time so that memory is bounded."""
        center, edge_vec = edge_centers(graph.offsets), edge_vectors(graph)
        fields: Mapping[str, Tensor] = {}
        if getattr(self.model, "fields", ()):
            fields, atomic_energy, gradient = evaluate_stages(self.model, graph, atoms_per_chunk)
        else:
            atomic_energy, gradient = self._by_chunks(graph, edge_vec, atoms_per_chunk)
        n_atoms, n_structures = len(graph.types), len(graph.cells)
        return Prediction(
            edge_vec.new_zeros(n_structures).index_add(0, graph.structure, atomic_energy),
            atomic_energy,
            forces_from_edges(gradient, center, graph.neighbor, n_atoms),
            virial_from_edges(gradient, edge_vec, graph.structure[center], n_structures),
            fields=fields,
        )

    def _by_chunks(self, graph: Graph, edge_vec: Tensor, atoms_per_chunk: int) -> tuple[Tensor, Tensor]:
        """Atomic energies (N,) and their derivative by the edge vectors (E, 3)."""
        neighbor_type, n_atoms = graph.types[graph.neighbor], len(graph.types)
        energies, gradients = [edge_vec.new_zeros(0)], [edge_vec.new_zeros(0, 3)]
        for start in range(0, n_atoms, atoms_per_chunk):
            stop = min(start + atoms_per_chunk, n_atoms)
            first, last = int(graph.offsets[start]), int(graph.offsets[stop])
            energy, gradient = self.energy_and_gradient(
                edge_vec[first:last], neighbor_type[first:last],
                graph.offsets[start : stop + 1] - first, graph.types[start:stop],
            )  # fmt: skip
            energies.append(energy)
            gradients.append(gradient)
        return torch.cat(energies), torch.cat(gradients)
