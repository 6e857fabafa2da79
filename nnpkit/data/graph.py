"""The graph: the only thing that models see of a structure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nnpkit.data.neighbors import neighbor_pairs
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

__all__ = ["Graph", "build_graph", "collate", "edge_centers", "edge_vectors", "pair_vectors", "type_indices"]


class Graph(NamedTuple):
    """B structures with N atoms and E edges in all; edges are sorted by their centre."""

    positions: Tensor  # (N, 3) Å
    types: Tensor  # (N,) int64, index into the model's elements
    cells: Tensor  # (B, 3, 3) Å, lattice vectors as rows
    neighbor: Tensor  # (E,) int64, atom j of each edge
    offsets: Tensor  # (N + 1,) int64: edges of centre i are offsets[i]:offsets[i+1]
    shifts: Tensor  # (E, 3) periodic image of j in lattice vectors
    structure: Tensor  # (N,) int64, the structure each atom belongs to
    periodic: Tensor  # (B, 3) bool
    total_charge: Tensor  # (B,) e; 0 where a structure does not say


def type_indices(symbols: Sequence[str], elements: Sequence[str], where: str) -> np.ndarray:
    """Index of each symbol in `elements`; InputError naming the first unknown one."""
    index = {element: t for t, element in enumerate(elements)}
    try:
        return np.array([index[symbol] for symbol in symbols], dtype=np.int64)
    except KeyError as missing:
        raise InputError(
            f"element {missing.args[0]} is unknown to the model",
            where=where, expected="one of " + ", ".join(elements),
            hint="add it to model.elements and train, or remove the frame",
        ) from None  # fmt: skip


def build_graph(structure: Structure, elements: Sequence[str], cutoff: float) -> Graph:
    """Graph of one structure with every pair closer than `cutoff` (Å), in float64."""
    pairs = neighbor_pairs(structure, cutoff)
    n_atoms = len(structure.symbols)
    counts = np.bincount(pairs.center, minlength=n_atoms)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return Graph(
        positions=torch.as_tensor(structure.positions, dtype=torch.float64),
        types=torch.as_tensor(type_indices(structure.symbols, elements, structure.name)),
        cells=torch.as_tensor(structure.cell, dtype=torch.float64).reshape(1, 3, 3),
        neighbor=torch.as_tensor(pairs.neighbor),
        offsets=torch.as_tensor(offsets, dtype=torch.int64),
        shifts=torch.as_tensor(pairs.shift, dtype=torch.float64),
        structure=torch.zeros(n_atoms, dtype=torch.int64),
        periodic=torch.as_tensor(np.array(structure.pbc, dtype=bool)).reshape(1, 3),
        total_charge=torch.tensor([structure.total_charge or 0.0], dtype=torch.float64),
    )


def collate(graphs: Sequence[Graph]) -> Graph:
    """One graph of several: atoms, edges and structures renumbered in order."""
    neighbor, offsets, structure = [], [torch.zeros(1, dtype=torch.int64)], []
    n_atoms = n_edges = n_structures = 0
    for graph in graphs:
        neighbor.append(graph.neighbor + n_atoms)
        offsets.append(graph.offsets[1:] + n_edges)
        structure.append(graph.structure + n_structures)
        n_atoms += len(graph.types)
        n_edges += len(graph.neighbor)
        n_structures += len(graph.cells)
    return Graph(
        positions=torch.cat([g.positions for g in graphs]),
        types=torch.cat([g.types for g in graphs]),
        cells=torch.cat([g.cells for g in graphs]),
        neighbor=torch.cat(neighbor),
        offsets=torch.cat(offsets),
        shifts=torch.cat([g.shifts for g in graphs]),
        structure=torch.cat(structure),
        periodic=torch.cat([g.periodic for g in graphs]),
        total_charge=torch.cat([g.total_charge for g in graphs]),
    )


def edge_centers(offsets: Tensor) -> Tensor:
    """Centre atom (E,) of each edge from the CSR `offsets` (N+1,)."""
    counts = offsets[1:] - offsets[:-1]
    return torch.repeat_interleave(torch.arange(counts.shape[0], device=offsets.device), counts)


def edge_vectors(graph: Graph) -> Tensor:
    """Vectors (E, 3) from centre to neighbour, Å: ``x[j] + shift @ cell - x[i]``."""
    center = edge_centers(graph.offsets)
    if len(graph.cells) == 1:
        return pair_vectors(graph.positions, graph.cells[0], graph.shifts, center, graph.neighbor)
    lattice_shift = torch.einsum("ea,eab->eb", graph.shifts, graph.cells[graph.structure[center]])
    return graph.positions[graph.neighbor] + lattice_shift - graph.positions[center]


def pair_vectors(positions: Tensor, cell: Tensor, shifts: Tensor, center: Tensor, neighbor: Tensor) -> Tensor:
    """Vectors (E, 3) between the atoms of one structure at `positions` (N, 3), Å; see `edge_vectors`."""
    lattice_shift = shifts.to(positions) @ cell
    return positions.index_select(0, neighbor) + lattice_shift - positions.index_select(0, center)
