"""What a new model learns from the data before the first update: functions, scaling, output range."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from nnpkit.data.graph import build_graph, edge_vectors
from nnpkit.data.outliers import inliers
from nnpkit.data.store.frame_sample import FITTED, sampled
from nnpkit.data.structure import Structure
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.charged_model import ChargedModel
from nnpkit.models.charged_potential import electrostatics_of
from nnpkit.models.descriptor import Descriptor
from nnpkit.models.scaling import FeatureStatistics, feature_statistics

__all__ = ["data_statistics", "precondition", "predicted_energies"]

_ATOMS_PER_CHUNK = 128


@torch.no_grad()
def data_statistics(
    descriptor: Descriptor, elements: Sequence[str], structures: Sequence[Structure]
) -> FeatureStatistics:
    """Statistics of the raw features of every atom in `structures`, evaluated a few atoms at a time.

    Of structures that are not held in memory a sample is looked at, see `nnpkit.data.store.frame_sample`.
    """
    features, types, descriptor = [], [], descriptor.fast()
    for structure in sampled(structures, FITTED):
        graph = build_graph(structure, elements, descriptor.cutoff)
        types.append(graph.types)
        if descriptor.fields:  # no part of the atoms knows its features without the others
            features.append(descriptor.of_graph(graph))
            continue
        vectors, neighbor_type = edge_vectors(graph), graph.types[graph.neighbor]
        for start in range(0, len(graph.types), _ATOMS_PER_CHUNK):
            stop = min(start + _ATOMS_PER_CHUNK, len(graph.types))
            first, last = int(graph.offsets[start]), int(graph.offsets[stop])
            offsets, own = graph.offsets[start : stop + 1] - first, graph.types[start:stop]
            features.append(descriptor(vectors[first:last], neighbor_type[first:last], offsets, own))
    return feature_statistics(torch.cat(features), torch.cat(types), len(elements))


@torch.no_grad()
def predicted_energies(model: AtomicModel, structures: Sequence[Structure]) -> np.ndarray:
    """Energy of each structure, eV."""
    energies, descriptor = [], model.descriptor.fast()
    for structure in structures:
        graph = build_graph(structure, model.elements, model.cutoff)
        edges = (edge_vectors(graph), graph.types[graph.neighbor], graph.offsets, graph.types)
        raw = descriptor.of_graph(graph)
        if isinstance(model, ChargedModel):
            (found,) = electrostatics_of(model, graph)
            matrices = (found.bare.matrix, found.energy.matrix)
            scaled, charge = model.scaling(raw, graph.types), float(graph.total_charge[0])
            energy = model.outputs(scaled, graph.types, *matrices, charge).atomic_energy.sum()
        else:
            energy = model.energy_of_features(raw, graph.types).sum()
        energies.append(float(energy if model.terms is None else energy + model.terms(*edges).sum()))
    return np.array(energies)


@torch.no_grad()
def precondition(
    model: AtomicModel, structures: Sequence[Structure], energies: Sequence[float], stretch: bool = True
) -> None:
    """Shift and stretch the output nodes so that mean and spread of the predicted energies match the data.

    Tokita and Behler (2023), Fig. 7, with the energies per atom: the outputs of all elements are stretched by
    one ratio and shifted by one constant per atom.

    Parameters
    ----------
    structures : sequence of Structure
        Training structures, the scaling of the model is set.
    energies : sequence of float
        Label of each, eV.
    stretch : bool
        Otherwise shift only.
    """
    predicted, target, descriptor = [], [], model.descriptor.fast()
    for structure, energy in zip(structures, energies, strict=True):
        graph = build_graph(structure, model.elements, model.cutoff)
        vectors, neighbor_type = edge_vectors(graph), graph.types[graph.neighbor]
        raw = descriptor.of_graph(graph)
        constant = sum(model.reference_energies[t] for t in graph.types.tolist())
        if isinstance(model, ChargedModel):
            (found,) = electrostatics_of(model, graph)
            charge = float(graph.total_charge[0])
            matrices = (found.bare.matrix, found.energy.matrix)
            out = model.outputs(model.scaling(raw, graph.types), graph.types, *matrices, charge)
            output, constant = out.network, constant + float(out.electrostatic)
        else:
            output = model.networks(model.scaling(raw, graph.types), graph.types)
        if model.terms is not None:
            constant += float(model.terms(vectors, neighbor_type, graph.offsets, graph.types).sum())
        predicted.append(float(output.mean()))
        target.append((energy - constant) / len(structure.symbols) / model.energy_scale)
    kept = inliers(np.abs(np.array(target) - np.median(target)))  # a wrong label must not stretch the network
    predicted, target = list(np.array(predicted)[kept]), list(np.array(target)[kept])
    spread = float(np.std(predicted))
    ratio = float(np.std(target)) / spread if stretch and spread > 0.0 and len(target) > 1 else 1.0
    for network in model.networks.networks:
        network.shift_and_stretch(float(np.mean(predicted)), float(np.mean(target)), ratio)
