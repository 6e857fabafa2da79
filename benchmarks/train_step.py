"""Seconds per training sample of a Deep Potential, split into its parts.

The network is that of Hu et al. (RLEKF, AAAI 2023). A sample of the Kalman filter is one structure: an update with its
energy and one with each of four groups of six atoms. A group is one observation (``published``) or 18
(``sequential``); ``joint`` makes one update of everything. A sample of Adam is one structure with all its forces. What
does not change in training is prepared once per structure; ``graph`` says how long that takes. The potential is trained
for some samples before the clock starts, because networks that have learned need longer series than new ones. With
NNPKIT_DATA the structures are the published ones, otherwise made here, of the same size. The last line is
``RESULT {json}``. ::

    python benchmarks/train_step.py --system cu72|water192 --net rlekf --optimizer published --block 5120
"""

from __future__ import annotations

import os

# Threads that wait for work sleep, see `nnpkit.optim.blas.follow_torch`; to be set before torch is imported.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import argparse
import itertools
import json
import resource
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from deep_systems import OPTIMIZERS, SYSTEMS, load_system, machine, open_session, samples, synthetic_system

from nnpkit.training.updates import KalmanUpdate


class Clock:
    """Adds up the wall-clock time of calls."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """`call`, timed."""

        def timed(*arguments: Any) -> Any:
            start = time.perf_counter()
            result = call(*arguments)
            self.seconds += time.perf_counter() - start
            return result

        return timed


def main() -> None:
    """Train, time, print a table and one line RESULT {json}."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--system", choices=SYSTEMS, required=True)
    parser.add_argument("--net", choices=["rlekf"], default="rlekf")
    parser.add_argument("--optimizer", choices=OPTIMIZERS, default="published")
    parser.add_argument("--block", type=int, default=5120, help="N_b of the covariance (default 5120)")
    parser.add_argument(
        "--dtype", choices=["float64", "float32"], default="float64", help="of the covariance"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--samples", type=int, default=20, help="samples that are timed")
    parser.add_argument("--warm", type=int, default=20, help="samples before them")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)

    n_structures = options.samples + options.warm
    if "NNPKIT_DATA" in os.environ:
        train, _, test = load_system(options.system)
        data = train[:n_structures], test[:1]
    else:
        data = synthetic_system(options.system, n_structures)
    kalman = options.optimizer != "adam"
    changes = {"block_size": options.block, "dtype": options.dtype} if kalman else None
    session = open_session(data, options.optimizer, seed=1, epochs=100, changes=changes)
    graph = session.seconds / (len(data[0]) + len(data[1]))
    update, gradients, kalman_filter = session.update, Clock(), Clock()
    if isinstance(update, KalmanUpdate):
        update.observer.measure = gradients.around(update.observer.measure)  # type: ignore[method-assign]
        update.optimizer.step = kalman_filter.around(update.optimizer.step)  # type: ignore[method-assign]

    times: list[tuple[float, float, float]] = []
    n_updates = 0
    everything = itertools.chain.from_iterable(session.schedule.epoch() for _ in itertools.count())
    for number, sample in enumerate(itertools.islice(samples(everything), n_structures)):
        begin = time.perf_counter(), gradients.seconds, kalman_filter.seconds
        for labels in sample:
            update.apply(labels)
        end = time.perf_counter(), gradients.seconds, kalman_filter.seconds
        if number >= options.warm:
            times.append(tuple(b - a for a, b in zip(begin, end, strict=True)))  # type: ignore[arg-type]
            n_updates = len(sample)
    total, by_gradients, by_filter = (statistics.median(column) for column in zip(*times, strict=True))
    result = {
        "system": options.system,
        "data": "published" if "NNPKIT_DATA" in os.environ else "synthetic",
        "optimizer": options.optimizer,
        "block_size": options.block if kalman else None,
        "covariance_dtype": options.dtype if kalman else None,
        "n_parameters": session.n_parameters,
        "updates_per_sample": n_updates,
        "seconds_per_sample": total,
        "fastest_sample": min(t for t, *_ in times),
        "graph_seconds_once": graph,
        "gradient_seconds": by_gradients if kalman else total,
        "filter_seconds": by_filter,
        "max_rss_GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
        "machine": machine(options.threads),
    }
    print(
        f"{options.system}, {options.optimizer}: {session.n_parameters} weights, {n_updates} updates per sample"
    )
    print(f"  graph and moments, once per structure  {1e3 * graph:9.1f} ms")
    print(f"  forward and backward, per sample       {1e3 * float(result['gradient_seconds']):9.1f} ms")
    print(f"  filter, per sample                     {1e3 * by_filter:9.1f} ms")
    print(
        f"  sample                                 {1e3 * total:9.1f} ms, largest memory {result['max_rss_GB']:.2f} GB"
    )
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
