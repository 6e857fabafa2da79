"""Set the kernel of symmetry functions against what the processor can do.

    python benchmarks/roofline.py --precision float64

Compiles a loop of fused multiplications and additions and one that streams through memory, runs the kernel of the
published water potential on its own, and counts its operations: pairs, triplets and functions times what the stages
do for each (see ``count``). One thread. The last line is ``RESULT {json}``.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from itertools import pairwise
from pathlib import Path

import numpy as np
from md_speed import published, system

from nnpkit.data.graph import build_graph, edge_vectors
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import load
from nnpkit.deploy.metadata import model_metadata
from nnpkit.install.installed import find_compiler
from nnpkit.kernels.native import Kernel

PEAKS = r"""
#include <chrono>
#include <cstdio>
#include <vector>
typedef TYPE V __attribute__((vector_size(BYTES)));
static double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}
int main() {
  double flops = 0.0, bytes = 0.0;
  for (int repeat = 0; repeat < 10; repeat++) {
    V a = {}, b = a, c = a, d = a, e = a, f = a, g = a, h = a, i = a, j = a, x = a + TYPE(0.5), y = a + TYPE(1e-3);
    const double start = now();
    const int n = 20000000;
    for (int k = 0; k < n; k++) {
      a = a * x + y, b = b * x + y, c = c * x + y, d = d * x + y, e = e * x + y;
      f = f * x + y, g = g * x + y, h = h * x + y, i = i * x + y, j = j * x + y;
      asm volatile("" : "+REGISTER"(a), "+REGISTER"(b), "+REGISTER"(c), "+REGISTER"(d), "+REGISTER"(e));
      asm volatile("" : "+REGISTER"(f), "+REGISTER"(g), "+REGISTER"(h), "+REGISTER"(i), "+REGISTER"(j));
    }
    const double rate = 20.0 * n * (BYTES / sizeof(TYPE)) / (now() - start);
    flops = rate > flops ? rate : flops;
  }
  const size_t n = 1 << 24;
  std::vector<double> a(n, 1.0), b(n, 2.0), c(n, 3.0);
  for (int repeat = 0; repeat < 10; repeat++) {
    const double start = now();
    for (size_t k = 0; k < n; k++) a[k] = b[k] + 0.5 * c[k];
    asm volatile("" : : "r"(a.data()) : "memory");
    const double rate = 24.0 * n / (now() - start);
    bytes = rate > bytes ? rate : bytes;
  }
  printf("%.6g %.6g\n", flops, bytes);
}
"""
ISA = {
    "avx512": (64, "v", ["-mavx512f", "-mprefer-vector-width=512"]),
    "avx2": (32, "x", ["-mavx2", "-mfma"]),
    "portable": (16, "x", []),
}


def peaks(isa: str, real: str) -> tuple[float, float]:
    """Operations per second of one type of numbers, and bytes per second of a triad in memory."""
    size, register, flags = ISA[isa]
    text = PEAKS.replace("TYPE", real).replace("BYTES", str(size)).replace("REGISTER", register)
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "peaks.cpp"), Path(folder, "peaks")
        source.write_text(text)
        subprocess.run(
            [find_compiler().path, "-O3", "-ffp-contract=fast", *flags, "-o", str(program), str(source)],
            check=True,
        )
        flops, bandwidth = subprocess.run(
            [program], capture_output=True, text=True, check=True
        ).stdout.split()
    return float(flops), float(bandwidth)


def count(spec: dict, arguments: list[np.ndarray]) -> float:
    """Additions and multiplications of an evaluation of one potential, forces included; a division or root counts one.

    A pair that is tested: 10. A triplet: 5 for its cosine, 44 for the cutoff function of its third side, 28 for an
    exponential, 18 for each exponent with sum and forces, 4 for each function, 38 to add its forces. A
    neighbour: 40, and 36 for each radial function. Networks: 4 for each weight.
    """
    edge_vec, neighbor_type, offsets, types = arguments
    total = 0.0
    for center, element in enumerate(spec["elements"]):
        functions = [f for f in spec["functions"] if f["center"] == element]
        radial = {
            e: sum(f["kind"] == "G2" and f["neighbors"] == [e] for f in functions) for e in spec["elements"]
        }
        groups: dict[tuple[str, ...], list[dict]] = {}
        for f in functions:
            if f["kind"] != "G2":
                groups.setdefault(tuple(sorted(f["neighbors"])), []).append(f)
        nodes = [len(functions), *spec["networks"][element]["hidden"], 1]
        weights = sum(a * b for a, b in pairwise(nodes))
        for atom in np.flatnonzero(types == center):
            at = slice(offsets[atom], offsets[atom + 1])
            places = {e: edge_vec[at][neighbor_type[at] == t] for t, e in enumerate(spec["elements"])}
            total += 4 * weights + sum(len(places[e]) * (40 + 36 * n) for e, n in radial.items())
            for (a, b), members in groups.items():
                side2 = ((places[a][:, None] - places[b]) ** 2).sum(-1)
                share = 0.5 if a == b else 1.0
                inside = (side2 < members[0]["cutoff"] ** 2).sum() - (len(places[a]) if a == b else 0)
                n_eta = len({f["eta"] for f in members})
                total += share * (10 * side2.size + inside * (87 + 28 + 18 * n_eta + 4 * len(members)))
    return total


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--precision", choices=["float64", "mixed"], default="float64")
    parser.add_argument("--atoms", type=int, default=192)
    parser.add_argument("--repeats", type=int, default=50)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.pt")
        published("hdnnp_h2o", path)
        model = load(path).atomic_model()
    water = Structure.from_atoms(system("hdnnp_h2o", given.atoms), name="water")
    graph = build_graph(water, model.elements, model.cutoff)
    arguments = [
        a.numpy() for a in (edge_vectors(graph), graph.types[graph.neighbor], graph.offsets, graph.types)
    ]
    tensors = {name: values.detach().numpy() for name, values in model.state_dict().items()}
    kernel = Kernel([(json.dumps(model_metadata(model)), tensors)], given.precision)
    seconds = min(kernel.evaluate(*arguments).seconds.sum() for _ in range(given.repeats))
    flops, bandwidth = peaks(kernel.isa, "double" if given.precision == "float64" else "float")
    n_atoms, n_edges = len(graph.types), len(graph.neighbor)
    operations = count(model.spec, arguments)
    moved = n_edges * (24 + 8 + 24) + n_atoms * 24  # edges and types in, gradients and energies out
    result = {
        "benchmark": "roofline", "precision": given.precision, "isa": kernel.isa, "atoms": n_atoms,
        "us_per_atom": 1e6 * seconds / n_atoms, "operations_per_atom": operations / n_atoms,
        "gflops": 1e-9 * operations / seconds, "peak_gflops": 1e-9 * flops,
        "share_of_peak": operations / seconds / flops,
        "gbytes_per_s": 1e-9 * moved / seconds, "peak_gbytes_per_s": 1e-9 * bandwidth,
        "operations_per_byte": operations / moved,
    }  # fmt: skip
    print("RESULT", json.dumps(result))


if __name__ == "__main__":
    main()
