"""Deviation of tabulated embedding networks from the networks themselves, on real frames, and what they cost.

Forces of a Deep Potential by PyTorch, with the networks as trained, against the fused kernel with tables of
several tolerances. The last line is ``RESULT {json}``.

    python benchmarks/deep_tables.py run/model.pt water.xyz.xz --frames 1000
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnpkit.data.formats.reading import read
from nnpkit.data.graph import Graph, build_graph, edge_centers, edge_vectors
from nnpkit.deploy.load import load
from nnpkit.families.deep_potential.tabulation import tabulation
from nnpkit.kernels.native import Kernel
from nnpkit.models.atomic_model import AtomicModel


def forces(graph: Graph, gradient: Tensor) -> np.ndarray:
    """Forces (N, 3) from the gradient with respect to edge vectors."""
    result = torch.zeros(len(graph.types), 3, dtype=torch.float64)
    result.index_add_(0, edge_centers(graph.offsets), gradient)
    return result.index_add_(0, graph.neighbor, -gradient).numpy()


def reference(model: AtomicModel, graph: Graph) -> np.ndarray:
    """Forces by PyTorch."""
    edge_vec = edge_vectors(graph).requires_grad_(True)
    energy = model(edge_vec, graph.types[graph.neighbor], graph.offsets, graph.types)
    return forces(graph, torch.autograd.grad(energy.sum(), edge_vec)[0])


def kernels(model: AtomicModel, metadata: dict[str, Any], tolerances: list[float]) -> dict[str, Kernel]:
    """Kernels by what is to be said about them."""
    tensors = {name: value.detach().numpy() for name, value in model.state_dict().items()}
    found = {}
    for tolerance in tolerances:
        grids = tabulation(model.descriptor, model.elements, metadata["min_distance"], tolerance)
        text = json.dumps({**metadata, "tabulation": grids})
        for precision in ("float64", "mixed"):
            found[f"{precision} {tolerance:g}"] = Kernel([(text, tensors)], precision)
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", help="model.pt of a Deep Potential")
    parser.add_argument("data", nargs="+", help="structures")
    parser.add_argument("--frames", type=int, default=1000, help="how many of them, the first ones")
    parser.add_argument("--tolerances", type=float, nargs="+", default=[1e-6, 1e-8, 1e-10])
    options = parser.parse_args()
    loaded = load(options.model)
    model = loaded.atomic_model().requires_grad_(False)
    judged = kernels(model, loaded.metadata, options.tolerances)
    structures = [s for path in options.data for s in read(path)][: options.frames]
    largest, squares = dict.fromkeys(judged, 0.0), dict.fromkeys(judged, 0.0)
    seconds: dict[str, list[float]] = {name: [] for name in judged}
    n_components, strongest = 0, 0.0
    for structure in structures:
        graph = build_graph(structure, model.elements, model.cutoff)
        exact = reference(model, graph)
        strongest, n_components = max(strongest, float(np.abs(exact).max())), n_components + exact.size
        edges = [t.numpy() for t in (edge_vectors(graph), graph.types[graph.neighbor])]
        for name, kernel in judged.items():
            start = time.process_time()
            found = kernel.evaluate(*edges, graph.offsets.numpy(), graph.types.numpy())
            seconds[name].append((time.process_time() - start) / len(graph.types))
            difference = np.abs(forces(graph, torch.from_numpy(found.gradient)) - exact)
            largest[name] = max(largest[name], float(difference.max()))
            squares[name] += float((difference**2).sum())
    result = {
        "frames": len(structures),
        "largest_force": strongest,
        "isa": next(iter(judged.values())).isa,
        "kernels": {
            name: {
                "largest_deviation": largest[name],
                "rms_deviation": (squares[name] / n_components) ** 0.5,
                "us_per_atom": 1e6 * min(seconds[name]),
            }
            for name in judged
        },
    }
    for name, row in result["kernels"].items():
        print(f"{name:16s}", *(f"{key} {value:.2e}" for key, value in row.items()))
    print("RESULT", json.dumps(result))


if __name__ == "__main__":
    main()
