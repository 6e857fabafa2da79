"""What a new model learns from the data before the first update: functions, scaling, output range."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from nnpkit.data.graph import build_graph, edge_centers, edge_vectors
from nnpkit.data.outliers import inliers
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.families.acsf.symmetry_functions import Acsf, SymmetryFunction
from nnpkit.families.deep_potential.embedding import DeepDescriptor, EnvironmentStatistics
from nnpkit.families.feature_selection import choose_columns, sample_features
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.cutoff import cutoff_function
from nnpkit.models.descriptor import Descriptor
from nnpkit.models.scaling import FeatureStatistics, feature_statistics

__all__ = ["data_statistics", "environment_statistics", "precondition", "predicted_energies", "select"]

_ATOMS_PER_CHUNK = 128
_MIN_STD = 0.01  # 1/Å


@torch.no_grad()
def data_statistics(
    descriptor: Descriptor, elements: Sequence[str], structures: Sequence[Structure]
) -> FeatureStatistics:
    """Statistics of the raw features of every atom in `structures`, evaluated a few atoms at a time."""
    features, types, descriptor = [], [], descriptor.fast()
    for structure in structures:
        graph = build_graph(structure, elements, descriptor.cutoff)
        vectors, neighbor_type = edge_vectors(graph), graph.types[graph.neighbor]
        for start in range(0, len(graph.types), _ATOMS_PER_CHUNK):
            stop = min(start + _ATOMS_PER_CHUNK, len(graph.types))
            first, last = int(graph.offsets[start]), int(graph.offsets[stop])
            offsets, own = graph.offsets[start : stop + 1] - first, graph.types[start:stop]
            features.append(descriptor(vectors[first:last], neighbor_type[first:last], offsets, own))
        types.append(graph.types)
    return feature_statistics(torch.cat(features), torch.cat(types), len(elements))


@torch.no_grad()
def environment_statistics(
    descriptor: DeepDescriptor, elements: Sequence[str], structures: Sequence[Structure]
) -> EnvironmentStatistics:
    """Mean and standard deviation of the environment matrix, and mean numbers of neighbours, over `structures`.

    The three angular components share one standard deviation about zero. No deviation is less than 0.01/Å, so
    that data in which all distances are equal do no harm.
    """
    n = len(elements)
    moments = torch.zeros((3, n), dtype=torch.float64)  # number of edges, sum of s, sum of s^2
    neighbors = torch.zeros((n, n), dtype=torch.float64)
    atoms = torch.zeros(n, dtype=torch.float64)
    for structure in structures:
        graph = build_graph(structure, elements, descriptor.cutoff)
        center_type = graph.types[edge_centers(graph.offsets)]
        r = edge_vectors(graph).norm(dim=1)
        s = cutoff_function(r, descriptor.cutoff, descriptor.cutoff_kind, descriptor.inner) / r
        moments.index_add_(1, center_type, torch.stack([torch.ones_like(s), s, s * s]))
        neighbors.index_put_((center_type, graph.types[graph.neighbor]), torch.ones_like(s), accumulate=True)
        atoms += torch.bincount(graph.types, minlength=n)
    count, total, square = moments[0].clamp(min=1.0), moments[1], moments[2]
    mean = total / count
    radial = (square / count - mean * mean).clamp(min=0.0).sqrt()
    angular = (square / count / 3.0).sqrt()
    std = torch.stack([radial, angular], dim=1).clamp(min=_MIN_STD)
    return EnvironmentStatistics(mean, std, neighbors / atoms.clamp(min=1.0).unsqueeze(1))


def select(
    elements: Sequence[str],
    functions: Sequence[SymmetryFunction],
    cutoff_kind: str,
    cutoff_inner: float,
    structures: Sequence[Structure],
    most: int,
    threshold: float,
) -> tuple[list[SymmetryFunction], list[str]]:
    """The functions that tell the environments in `structures` apart, and how many they are of how many.

    Parameters
    ----------
    most : int
        Largest number of functions of an element.
    threshold : float
        Smallest range of values of a function that is kept.

    Raises
    ------
    InputError
        If an element would be left without functions.
    """
    samples = sample_features(Acsf(elements, functions, cutoff_kind, cutoff_inner), elements, structures)
    keep: list[SymmetryFunction] = []
    report: list[str] = []
    for element, values in zip(elements, samples, strict=True):
        own = [f for f in functions if f.center == element]
        wide = np.ptp(values, axis=0) >= threshold if len(values) else np.zeros(len(own), dtype=bool)
        if not wide.any():
            raise InputError(
                f"no symmetry function of {element} varies by more than {threshold:g} over the data",
                where="model.descriptor.minimum_range", hint="lower it, or give structures that differ",
            )  # fmt: skip
        report += [
            f"dropped {own[column]}: over the data it varies by {np.ptp(values[:, column]):.2e} < {threshold:g}"
            for column in np.flatnonzero(~wide)
        ]
        columns = np.flatnonzero(wide)
        if len(columns) > most:
            columns, unexplained = choose_columns(values, columns, most)
            report.append(
                f"{element}: {len(columns)} of {int(wide.sum())} functions; a linear model of them leaves "
                f"{unexplained:.1e} of the variance of the others unexplained"
            )
        keep += [own[column] for column in columns]
    return keep, report


@torch.no_grad()
def predicted_energies(model: AtomicModel, structures: Sequence[Structure]) -> np.ndarray:
    """Energy of each structure, eV."""
    energies, descriptor = [], model.descriptor.fast()
    for structure in structures:
        graph = build_graph(structure, model.elements, model.cutoff)
        edges = (edge_vectors(graph), graph.types[graph.neighbor], graph.offsets, graph.types)
        energy = model.energy_of_features(descriptor(*edges), graph.types).sum()
        energies.append(float(energy if model.wall is None else energy + model.wall(*edges).sum()))
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
        raw = descriptor(vectors, neighbor_type, graph.offsets, graph.types)
        output = model.networks(model.scaling(raw, graph.types), graph.types)
        constant = sum(model.reference_energies[t] for t in graph.types.tolist())
        if model.wall is not None:
            constant += float(model.wall(vectors, neighbor_type, graph.offsets, graph.types).sum())
        predicted.append(float(output.mean()))
        target.append((energy - constant) / len(structure.symbols) / model.energy_scale)
    kept = inliers(np.abs(np.array(target) - np.median(target)))  # a wrong label must not stretch the network
    predicted, target = list(np.array(predicted)[kept]), list(np.array(target)[kept])
    spread = float(np.std(predicted))
    ratio = float(np.std(target)) / spread if stretch and spread > 0.0 and len(target) > 1 else 1.0
    for network in model.networks.networks:
        network.shift_and_stretch(float(np.mean(predicted)), float(np.mean(target)), ratio)
