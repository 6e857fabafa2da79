"""Energies, forces, virial and charges of potentials with charges, whose atoms see the whole structure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nnpkit.data.graph import Graph, edge_centers, edge_vectors
from nnpkit.data.structure import Structure
from nnpkit.models.charged_model import ChargedModel, Electrostatics
from nnpkit.models.potential import Potential, Prediction, forces_from_edges, virial_from_edges

__all__ = ["ChargedPotential", "Slopes", "charges_and_dipole", "electrostatics_of", "slopes"]


def electrostatics_of(model: ChargedModel, graph: Graph) -> list[Electrostatics]:
    """Interactions of the atoms of each structure of `graph`."""
    found = []
    for b in range(len(graph.cells)):
        mine = graph.structure == b
        periodic = tuple(bool(p) for p in graph.periodic[b])
        found.append(
            model.electrostatics(graph.positions[mine], graph.cells[b], periodic, graph.types[mine])  # type: ignore[arg-type]
        )
    return found


def charges_and_dipole(
    prediction: Prediction, structure: Structure
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Charges (N,), e, and dipole (3,), e Å about the origin, of the prediction for one structure.

    Neither of a potential without charges or with several of each atom; no dipole of a periodic structure.
    """
    if prediction.charges is None or len(prediction.charges) != 1:
        return None, None
    charges = prediction.charges[0].detach().numpy()
    return charges, None if structure.pbc.any() else charges @ structure.positions


class Slopes(NamedTuple):
    """Energies of B structures and their derivatives by all that they depend on."""

    energy: Tensor  # (B,) eV
    atomic_energy: Tensor  # (N,)
    charges: Tensor  # (channels, N)
    features: Tensor  # (N, D): by the scaled features
    forces: Tensor  # (N, 3) eV/Å, through the distances of charges alone
    virial: Tensor  # (B, 3, 3) eV, likewise


def slopes(
    model: ChargedModel,
    graph: Graph,
    features: Tensor,
    interactions: Sequence[Electrostatics],
    create_graph: bool = False,
    electrostatic: bool = False,
) -> Slopes:
    """Evaluate `model` for scaled `features` (N, D) that require gradients.

    With `electrostatic`, energies are those of the charges alone.

    The interactions of charges depend on positions and strain as linear functions do whose derivatives are the exact
    ones, so that the response of the charges is part of all derivatives.
    """
    moved = torch.zeros_like(graph.positions, requires_grad=True)
    strain = torch.zeros_like(graph.cells, requires_grad=True)
    energies, charges, atomic = [], [], []
    with torch.enable_grad():
        for b, found in enumerate(interactions):
            mine = torch.nonzero(graph.structure == b).squeeze(1)
            bare = found.bare.moved(moved[mine], strain[b])
            energy = bare if found.energy is found.bare else found.energy.moved(moved[mine], strain[b])
            out = model.outputs(features[mine], graph.types[mine], bare, energy, float(graph.total_charge[b]))
            energies.append(out.electrostatic if electrostatic else out.atomic_energy.sum())
            atomic.append(out.atomic_energy)
            charges.append(out.charges)
        total = torch.stack(energies)
        by_features, by_position, by_strain = torch.autograd.grad(
            total.sum(), (features, moved, strain), create_graph=create_graph, materialize_grads=True
        )
    found_charges = torch.cat(charges, dim=1)
    if not create_graph:
        total, atomic, found_charges = (
            total.detach(),
            [a.detach() for a in atomic],
            found_charges.detach(),
        )
    return Slopes(total, torch.cat(atomic), found_charges, by_features, -by_position, -by_strain)


class ChargedPotential(Potential):
    """A `ChargedModel` on graphs."""

    model: ChargedModel

    def forward(
        self,
        graph: Graph,
        create_graph: bool = False,
        interactions: Sequence[Electrostatics] | None = None,
    ) -> Prediction:
        """Prediction for all structures of `graph`, differentiable with `create_graph`; see `Potential.forward`.

        `interactions` are `electrostatics_of` the graph, where they are known.
        """
        model, types = self.model, graph.types
        edge_vec = edge_vectors(graph).detach().requires_grad_(True)
        edges = (edge_vec, types[graph.neighbor], graph.offsets, types)
        with torch.enable_grad():
            features = model.scaling(model.descriptor(*edges), types)
        known = electrostatics_of(model, graph) if interactions is None else interactions
        found = slopes(model, graph, features, known, create_graph)
        (gradient,) = torch.autograd.grad(
            features, edge_vec, found.features, create_graph=create_graph, materialize_grads=True
        )
        return self._assembled(graph, found, gradient, edge_vec.detach())

    @torch.no_grad()
    def predict(self, graph: Graph, atoms_per_chunk: int = 128) -> Prediction:
        """The same numbers as `forward`, with the features of a few centres at a time."""
        model, types, edge_vec = self.model, graph.types, edge_vectors(graph)
        descriptor, neighbor_type = model.descriptor.fast(), graph.types[graph.neighbor]
        chunks = []
        for start in range(0, len(types), atoms_per_chunk):
            stop = min(start + atoms_per_chunk, len(types))
            first, last = int(graph.offsets[start]), int(graph.offsets[stop])
            own = (graph.offsets[start : stop + 1] - first, types[start:stop])
            chunks.append((slice(start, stop), (edge_vec[first:last], neighbor_type[first:last], *own)))
        raw = torch.cat(
            [edge_vec.new_zeros(0, max(descriptor.n_features)), *(descriptor(*c) for _, c in chunks)]
        )
        features = model.scaling(raw, types).requires_grad_(True)
        found = slopes(model, graph, features, electrostatics_of(model, graph))
        cotangent = found.features * model.scaling.factor.index_select(0, types)
        parts = [descriptor.vjp(cotangent[atoms].contiguous(), *edges) for atoms, edges in chunks]
        return self._assembled(graph, found, torch.cat([edge_vec.new_zeros(0, 3), *parts]), edge_vec)

    def _assembled(self, graph: Graph, found: Slopes, gradient: Tensor, edge_vec: Tensor) -> Prediction:
        """Prediction of what was `found`, with the derivatives (E, 3) by the edges through the features."""
        center, n = edge_centers(graph.offsets), len(graph.types)
        energy, atomic = found.energy, found.atomic_energy
        if self.model.terms is not None:
            with torch.enable_grad():
                vectors = edge_vec.clone().requires_grad_(True)
                terms = self.model.terms(vectors, graph.types[graph.neighbor], graph.offsets, graph.types)
                (by_edge,) = torch.autograd.grad(terms.sum(), vectors)
            gradient, atomic = gradient + by_edge, atomic + terms.detach()
            energy = energy + torch.zeros_like(energy).index_add(0, graph.structure, terms.detach())
        return Prediction(
            energy,
            atomic,
            found.forces + forces_from_edges(gradient, center, graph.neighbor, n),
            found.virial + virial_from_edges(gradient, edge_vec, graph.structure[center], len(graph.cells)),
            found.charges,
        )
