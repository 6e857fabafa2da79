"""Few features that say what many say: which symmetry functions to keep, from their values in the data.

The number of generated functions grows with the third power of the number of elements, and many of them are nearly
linear combinations of others: cos(theta) enters all functions of a triplet. From the pool the columns are chosen
one by one, each time the one with which a linear model of all columns leaves the least (Farahat, Ghodsi and
Kamel, Knowl. Inf. Syst. 35, 137 (2013), a greedy form of the CUR decomposition that Imbalzano et al., J. Chem. Phys.
148, 241730 (2018) proposed for symmetry functions; see also Tokita and Behler (2023), section IV B).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from nnpkit.data.graph import build_graph, edge_vectors
from nnpkit.data.structure import Structure
from nnpkit.models.descriptor import Descriptor

__all__ = ["choose_columns", "sample_features", "unexplained"]

_ENVIRONMENTS = 2000
_ROUNDING = 1e-10  # of a variance of one


def choose_columns(values: np.ndarray, candidates: np.ndarray, most: int) -> tuple[np.ndarray, float]:
    """Columns of `values` from which the others follow linearly, as well as so few can.

    Parameters
    ----------
    values : ndarray
        (N, D) features of N environments. Columns count alike, in units of their standard deviations.
    candidates : ndarray
        Columns that there are to choose from, of which none is constant.
    most : int
        Number of columns. If fewer explain all others to rounding, the first ones of the rest fill it up.

    Returns
    -------
    ndarray
        Columns, ascending.
    float
        Mean part of the variance of the candidates that is left by a linear model of the chosen ones.
    """
    centred = values[:, candidates] - values[:, candidates].mean(0)
    centred /= centred.std(0)
    residual = centred.T @ centred / len(values)
    open_ = np.ones(len(candidates), dtype=bool)
    chosen: list[int] = []
    while len(chosen) < most:
        own = residual.diagonal()
        alive = open_ & (own > _ROUNDING)
        if not alive.any():
            chosen += np.flatnonzero(open_)[: most - len(chosen)].tolist()
            break
        gain = np.divide((residual**2).sum(0), own, out=np.full(len(own), -1.0), where=alive)
        best = int(np.argmax(gain))
        residual = residual - np.outer(residual[:, best], residual[best]) / own[best]
        open_[best] = False
        chosen.append(best)
    left = max(0.0, float(np.trace(residual))) / len(candidates)
    return np.sort(candidates[chosen]), left


def unexplained(known: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Part (W,) of the variance of each column of `wanted` (N, W) that a linear model of `known` (N, K) leaves."""
    design = np.column_stack(
        [np.ones(len(known)), (known - known.mean(0)) / np.maximum(known.std(0), 1e-300)]
    )
    rest = wanted - design @ np.linalg.lstsq(design, wanted, rcond=1e-12)[0]
    variance = wanted.var(0)
    return np.divide(rest.var(0), variance, out=np.zeros(len(variance)), where=variance > 0.0)


@torch.no_grad()
def sample_features(
    descriptor: Descriptor, elements: Sequence[str], structures: Sequence[Structure]
) -> list[np.ndarray]:
    """Raw features (N, D) of up to some thousand atoms of each element, from structures all over the data."""
    descriptor = descriptor.fast()
    found: list[list[np.ndarray]] = [[] for _ in elements]
    wanted = dict.fromkeys(elements, _ENVIRONMENTS)
    for index in np.random.default_rng(0).permutation(len(structures)):
        structure = structures[int(index)]
        if not any(wanted[symbol] > 0 for symbol in set(structure.symbols)):
            continue
        graph = build_graph(structure, elements, descriptor.cutoff)
        features = descriptor(edge_vectors(graph), graph.types[graph.neighbor], graph.offsets, graph.types)
        for t, element in enumerate(elements):
            own = features[graph.types == t, : descriptor.n_features[t]].numpy()
            found[t].append(own)
            wanted[element] -= len(own)
    return [
        np.concatenate(parts) if parts else np.zeros((0, n))
        for parts, n in zip(found, descriptor.n_features, strict=True)
    ]
