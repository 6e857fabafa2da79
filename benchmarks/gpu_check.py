"""Everything that a GPU does here, in one command and about ten minutes: parity, training, MD, memory.

    python benchmarks/gpu_check.py             # on a machine with an NVIDIA GPU, after nnpkit build --cuda
    python benchmarks/gpu_check.py --dry-run   # the same steps with the processor in its place, small

prints a table, and as its last line ``RESULT {json}``. A step that fails is a row that says why, and the rest goes on.

- *parity*: energy, forces and stress of water and copper, GPU against processor, for symmetry functions, Deep
  Potentials, cluster expansions and NEP with drawn weights: largest difference over the largest number.
- *training*: updates of the Kalman filter with its covariance on the GPU against the processor, 32 rows, for one block
  of 1,600 and four of 5,120 weights: milliseconds of both, largest difference of the changes of the weights.
- *MD*: LAMMPS with ``device cuda``, from 192 to 98,304 atoms: microseconds per atom and step, and the largest memory of
  the GPU that ``nvidia-smi`` saw meanwhile, what others use included.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from md_speed import Bench, system

MODELS = ("ce_h2o", "ce_cu", "nep_cu", "dp_240", "dp_rlekf")
SIZES = (192, 1536, 12288, 98304)
FILTERS = {"1 x 1600": [1600], "4 x 5120": [5120] * 4}


def machine(device: str) -> dict[str, Any]:
    """What the figures depend on."""
    found = {"torch": torch.__version__, "cuda": torch.version.cuda, "processor": platform.processor()}
    if device != "cpu":
        properties = torch.cuda.get_device_properties(0)
        found |= {"gpu": properties.name, "gpu_gb": round(properties.total_memory / 1e9, 1)}
    return found


def parity(bench: Bench, device: str) -> dict[str, float]:
    """Largest differences between the two devices, of the largest number."""
    from nnpkit.md.calculator import NnpkitCalculator

    results = []
    for place in ("cpu", device):
        atoms = system(bench.name, 192)
        atoms.calc = NnpkitCalculator(bench.model, device=place)
        results.append([atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()])
    pairs = zip(("energy", "forces", "stress"), *results, strict=True)
    return {name: float(np.abs(np.subtract(b, a)).max() / np.abs(a).max()) for name, a, b in pairs}


def updates(sizes: list[int], device: str, n: int) -> dict[str, float]:
    """Milliseconds of an update on both devices, and how different the weights become."""
    from nnpkit.optim.kalman import KalmanOptimizer, KalmanSettings, Measurement
    from nnpkit.optim.partition import Layer, make_partition

    partition = make_partition("layer", [Layer(str(k), size) for k, size in enumerate(sizes)])
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(n + 2, 32, sum(sizes), generator=generator, dtype=torch.float64)
    noise = torch.full((32,), 0.1, dtype=torch.float64)
    seconds, totals = [], []
    for place in ("cpu", device):
        optimizer = KalmanOptimizer(partition, KalmanSettings(), device=place)
        total = torch.zeros(sum(sizes), dtype=torch.float64)
        for number, own in enumerate(rows):
            if number == 2:
                began = time.perf_counter()
            total += optimizer.step(Measurement(own.sum(1), own, noise))[0].cpu()
        seconds.append((time.perf_counter() - began) / n)
        totals.append(total)
    difference = float((totals[1] - totals[0]).abs().max() / totals[0].abs().max())
    return {"cpu_ms": 1e3 * seconds[0], "device_ms": 1e3 * seconds[1], "difference": difference}


def dynamics(bench: Bench, n_atoms: int, options: str) -> dict[str, float]:
    """Microseconds per atom and step of the best of three repeats, and the memory that it took."""
    n, steps = bench.write(n_atoms), 20
    with MemoryInUse() as memory:
        loops, peak, _ = bench.run(bench.nnpkit(options), steps, 3)
    found = {"atoms": n, "us_per_atom_step": 1e6 * min(loops) / (n * steps), "host_mb": peak / 1e6}
    return found if memory.largest is None else found | {"gpu_gb": memory.largest}


class MemoryInUse:
    """Within this context the largest memory of the first GPU is watched; None without nvidia-smi."""

    COMMAND = ("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--loop-ms=100")

    def __init__(self) -> None:
        self.largest: float | None = None

    def __enter__(self) -> MemoryInUse:
        self.process = None
        with contextlib.suppress(FileNotFoundError):
            self.process = subprocess.Popen([*self.COMMAND, "--id=0"], stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.terminate()
            text, _ = self.process.communicate()
            numbers = [float(line) for line in text.split() if line.replace(".", "").isdigit()]
            self.largest = max(numbers) * 1.048576e-3 if numbers else None  # MiB to GB


class Table:
    """Rows that are printed as they come; `rows` has them in the end."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, what: str, measure: Callable[..., dict[str, float]], *arguments: Any) -> None:
        """One row; why there are no figures if there are none."""
        began = time.monotonic()
        try:
            found: dict[str, Any] = measure(*arguments)
        except (Exception, SystemExit) as error:
            found = {"failed": " ".join(str(error).split())[:200]}
        words = ", ".join(
            f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in found.items()
        )
        print(f"{what:28s} {words}  ({time.monotonic() - began:.0f} s)", flush=True)
        self.rows.append({"what": what, **found})


def main() -> None:
    """All steps, one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dry-run", action="store_true", help="the processor in place of the GPU, small")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    options = parser.parse_args()
    dry = options.dry_run
    if not dry and not torch.cuda.is_available():
        parser.exit(1, "PyTorch sees no GPU here: --dry-run takes the processor in its place\n")
    device, table, torch_device = "cpu" if dry else "cuda:0", Table(), "cpu" if dry else "cuda"
    print(json.dumps(machine(device)))
    with tempfile.TemporaryDirectory() as name:
        benches = {}
        for model in options.models:
            folder = Path(name) / model
            folder.mkdir()
            benches[model] = Bench(model, folder)
            table.add(f"parity {model}", parity, benches[model], device)
        for label, sizes in FILTERS.items():
            if dry:
                sizes = [size // 8 for size in sizes]
            table.add(f"filter {label}", updates, sizes, torch_device, 3 if dry else 20)
        for model, bench in benches.items():
            for n_atoms in SIZES[:1] if dry else SIZES:
                keywords = "device cpu" if dry else "device cuda"
                table.add(f"MD {model} {n_atoms}", dynamics, bench, n_atoms, keywords)
    failed = [row["what"] for row in table.rows if "failed" in row]
    print("RESULT", json.dumps({**machine(device), "dry_run": dry, "failed": failed, "rows": table.rows}))


if __name__ == "__main__":
    main()
