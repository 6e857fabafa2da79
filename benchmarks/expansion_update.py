"""Processor time of one update of the Kalman filter for a cluster expansion with default settings.

Data: NNPKIT_DATA/mlearn. An update learns the energy, 30 force components and the stress of one structure; its parts
are timed one by one, in processor time, on one thread.

    NNPKIT_DATA=... python benchmarks/expansion_update.py [Cu Si Li] [--updates 30]

The last line is ``RESULT {json}``: milliseconds by element.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

import nnpkit
from nnpkit.config.schema import Config
from nnpkit.families.factory import build_model, count_parameters, initialise
from nnpkit.families.registered import family_of
from nnpkit.measure.label_choice import Labels
from nnpkit.measure.observations import LossWeights, Noise
from nnpkit.measure.structure_memory import keep_freed_memory
from nnpkit.models.sizes import count_labels
from nnpkit.optim.kalman import KalmanOptimizer
from nnpkit.workflow.update_makers import covariance_partition, kalman_settings

STRUCTURES, COMPONENTS = 30, 30


class Data:
    """What a family looks at."""

    def __init__(self, path: Path, element: str) -> None:
        self.elements, self.min_distance = [element], {}
        self.train = nnpkit.read(path)


def milliseconds(action: Callable[[int], object], updates: int) -> float:
    """Processor time of `action` of an index, on average."""
    action(0)
    start = time.process_time()
    for index in range(updates):
        action(index % STRUCTURES)
    return 1e3 * (time.process_time() - start) / updates


def measure(element: str, folder: Path, updates: int) -> dict[str, float]:
    """Milliseconds of the parts of an update."""
    data = Data(folder / f"{element}_train.xyz.xz", element)
    config = Config.model_validate({"data": {"train": "-"}, "model": {"kind": "cluster_expansion"}})
    spec = {
        "kind": "cluster_expansion",
        "elements": [element],
        "reference_energies": {element: 0.0},
        "wall": {},
    }
    family = family_of(spec)
    spec |= family.describe(config.model, data)[0]
    d = spec["descriptor"]
    inputs = d["radial_channels"] + d["angular_channels"] * len(d["invariants"])
    hidden = family.supported_nodes({element: inputs}, count_labels(data.train, [element], forces=True))[
        element
    ]
    spec["networks"] = {element: family.describe_network(config.model.network, hidden, "tanh")}
    model = build_model(spec)
    family.fit(model, config.model, data)
    initialise(model, "xavier", 1)
    some = data.train[:: max(1, len(data.train) // STRUCTURES)][:STRUCTURES]
    store = family.preparation(model, some)(some, 4e9)
    observer = family.observer(store, Noise(), LossWeights())
    generator = torch.Generator().manual_seed(0)
    chosen = [torch.randperm(3 * s.n_atoms, generator=generator)[:COMPONENTS] for s in some]
    optimizer = config.training.optimizer
    kalman = KalmanOptimizer(covariance_partition(optimizer, model), kalman_settings(optimizer))
    labels = [Labels([i], True, [own], some[i].stress is not None) for i, own in enumerate(chosen)]
    found = [observer.measure(own) for own in labels]
    return {
        "weights": count_parameters(model),
        "atoms": sum(s.n_atoms for s in some) / len(some),
        "energy": milliseconds(lambda i: observer.measure(Labels([i], True, None, False)), updates),
        "forces": milliseconds(lambda i: observer.measure(Labels([i], False, [chosen[i]], False)), updates),
        "all labels": milliseconds(lambda i: observer.measure(labels[i]), updates),
        "filter": milliseconds(lambda i: kalman.step(found[i]), updates),
        "prediction": milliseconds(store.predict, updates),
    }


def main() -> None:
    """Print a line for every element and RESULT {json}."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("elements", nargs="*", default=["Cu", "Si", "Li"])
    parser.add_argument("--updates", type=int, default=30)
    options = parser.parse_args()
    if "NNPKIT_DATA" not in os.environ:
        sys.exit("set NNPKIT_DATA to the folder that holds mlearn/Cu_train.xyz.xz")
    torch.set_num_threads(1)
    keep_freed_memory()
    folder, result = Path(os.environ["NNPKIT_DATA"]) / "mlearn", {}
    for element in options.elements:
        result[element] = measure(element, folder, options.updates)
        print(element, ", ".join(f"{name} {value:.3g}" for name, value in result[element].items()))
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
