"""Time one update of the Kalman filter: the lazy covariance against the textbook formula.

Lazy is a whole step of `nnpkit.optim.kalman.KalmanOptimizer` with one block, averaged over folds. Textbook is the
formula as published (Hu et al. 2023, algorithm 2, lines 8 to 13), in torch, P out of place. Both take the
same gradients; rounds of the two alternate, and medians over rounds are reported, so that a machine that is busy
at times still gives a fair ratio. The last line is ``RESULT {json}``.

    python benchmarks/kalman_update.py --block 8192 --dtype float64
"""

from __future__ import annotations

import os

# Threads that wait for work sleep, see `nnpkit.optim.blas.follow_torch`; to be set before torch is imported.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from nnpkit.optim.covariance import DTYPES, LAZY_RANK
from nnpkit.optim.kalman import KalmanOptimizer, KalmanSettings, Measurement

FORGETTING = 0.99


def seconds(work: Callable[[], object], n: int) -> float:
    """Mean time of `n` calls."""
    start = time.perf_counter()
    for _ in range(n):
        work()
    return (time.perf_counter() - start) / n


def copy_bandwidth(n_bytes: int) -> float:
    """Bytes per second, read and written, of the fastest of a few copies of `n_bytes`."""
    source = torch.ones(n_bytes // 8, dtype=torch.float64)
    target = torch.zeros_like(source)
    return 2 * source.numel() * 8 / min(seconds(lambda: target.copy_(source), 1) for _ in range(10))


class Textbook:
    """Algorithm 2 of Hu et al. for one block, P rewritten at every step."""

    def __init__(self, n: int, dtype: torch.dtype) -> None:
        self.covariance = torch.eye(n, dtype=dtype)

    def step(self, gradient: Tensor, error: float) -> Tensor:
        """Change of the weights."""
        a = 1.0 / (FORGETTING + gradient.T @ self.covariance @ gradient)
        gain = self.covariance @ gradient
        self.covariance = (1.0 / FORGETTING) * (self.covariance - a * gain @ gain.T)
        return a * gain * error


def traffic(n: int, rows: int, lazy_rank: int, itemsize: int) -> float:
    """Bytes that one lazy step moves: the triangle read once per row, U on average half full, folds."""
    triangle = n * n / 2
    fold = (2 * triangle + lazy_rank * n) * rows / lazy_rank  # read, written
    return itemsize * (rows * triangle + 2 * n * lazy_rank / 2 + fold)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--block", type=int, default=8192, help="weights in the block")
    parser.add_argument("--dtype", choices=DTYPES, default="float64", help="of the covariance")
    parser.add_argument(
        "--rows", type=int, default=1, help="labels of a measurement (textbook: as many steps)"
    )
    parser.add_argument(
        "--lazy-rank", type=int, default=LAZY_RANK, help="updates kept before they are folded in"
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds of both; medians are reported")
    parser.add_argument("--steps", type=int, default=2 * LAZY_RANK, help="lazy steps in a round")
    parser.add_argument("--textbook-steps", type=int, default=2, help="textbook steps in a round")
    arguments = parser.parse_args()
    n, rows, dtype = arguments.block, arguments.rows, DTYPES[arguments.dtype]

    torch.manual_seed(0)
    settings = KalmanSettings(
        forgetting=FORGETTING, forgetting_rate=1.0, dtype=arguments.dtype, lazy_rank=arguments.lazy_rank
    )
    lazy, textbook = KalmanOptimizer(n, settings), Textbook(n, dtype)
    jacobian = torch.randn(64, rows, n, dtype=torch.float64) / n**0.5
    measurements = [Measurement(h.new_ones(rows), h, h.new_ones(rows)) for h in jacobian]
    gradients = [h[:1].T.to(dtype).contiguous() for h in jacobian]
    count = 0

    def lazy_step() -> None:
        nonlocal count
        lazy.step(measurements[count % 64])
        count += 1

    def textbook_step() -> None:
        nonlocal count
        for _ in range(rows):
            textbook.step(gradients[count % 64], 1.0)
            count += 1

    times: dict[str, list[float]] = {"lazy": [], "textbook": []}
    seconds(lazy_step, arguments.lazy_rank), seconds(textbook_step, 1)
    bandwidth = 0.0
    for _ in range(arguments.rounds):
        bandwidth = max(bandwidth, copy_bandwidth(n * n // 2 * dtype.itemsize))
        times["lazy"].append(seconds(lazy_step, arguments.steps))
        times["textbook"].append(seconds(textbook_step, arguments.textbook_steps))
        print("  ".join(f"{name} {1e3 * values[-1]:8.2f} ms" for name, values in times.items()), flush=True)

    moved = traffic(n, rows, arguments.lazy_rank, dtype.itemsize)
    milliseconds = {name: 1e3 * statistics.median(values) for name, values in times.items()}
    result = {
        "benchmark": "kalman_update",
        "block": n,
        "dtype": arguments.dtype,
        "rows": rows,
        "lazy_rank": arguments.lazy_rank,
        "lazy_ms": round(milliseconds["lazy"], 3),
        "lazy_fastest_ms": round(1e3 * min(times["lazy"]), 3),
        "textbook_ms": round(milliseconds["textbook"], 2),
        "textbook_fastest_ms": round(1e3 * min(times["textbook"]), 2),
        "ratio": round(milliseconds["textbook"] / milliseconds["lazy"], 1),
        "traffic_gb": round(moved / 1e9, 4),
        "copy_gb_per_s": round(bandwidth / 1e9, 1),
        "bandwidth_fraction": round(moved / (milliseconds["lazy"] / 1e3) / bandwidth, 2),
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 1),
        "machine": platform.processor() or platform.machine(),
        "torch": torch.__version__,
    }
    print(
        f"block {n} {arguments.dtype}: lazy {result['lazy_ms']} ms, textbook {result['textbook_ms']} ms, "
        f"ratio {result['ratio']}; the lazy step moves {result['traffic_gb']} GB at "
        f"{100 * float(result['bandwidth_fraction']):.0f} % of {result['copy_gb_per_s']} GB/s (copy)"
    )
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
