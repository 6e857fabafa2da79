"""What a ridge does to potentials of few structures, on structures unlike these.

    python benchmarks/small_sets.py --frames 64 --updates 2000 --ridge 0 0.1 --seeds 3

Potentials with the settings of ``examples/water/quickstart.yaml`` learn some of its frames, drawn at random, in an
equal number of updates. The test set has trajectories that none of them saw, at temperatures that a small draw may
lack. Beside the root mean square over all force components are the median and the largest of the frames' own. The last
line is ``RESULT {json}``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

import nnpkit
from nnpkit.data.formats.reading import read, write
from nnpkit.data.structure import Structure

WATER = Path(__file__).resolve().parents[1] / "examples" / "water"


def errors(model: Any, test: list[Structure]) -> dict[str, float]:
    """Force errors in eV/Å, and the root mean square of the weights of the first layers."""
    squares = [np.square(model.predict(s).forces - s.forces) for s in test]
    frames = np.sqrt([square.mean() for square in squares])
    first = [p for name, p in model.module.state_dict().items() if name.endswith("layers.0.weight")]
    return {
        "force_rmse": float(np.sqrt(np.concatenate(squares).mean())),
        "median_frame": float(np.median(frames)), "largest_frame": float(frames.max()),
        "first_weights": float(torch.cat([p.reshape(-1) for p in first]).square().mean().sqrt()),
    }  # fmt: skip


def learn(
    frames: list[Structure], test: list[Structure], ridge: float, updates: int, seed: int
) -> dict[str, float]:
    """Errors of one potential."""
    config = yaml.safe_load((WATER / "quickstart.yaml").read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, structures in (("train", frames), ("test", test)):
            write(folder / f"{part}.xyz", structures)
        config["data"] = {part: str(folder / f"{part}.xyz") for part in ("train", "test")}
        config["data"]["validation_fraction"] = 0.0  # every frame that was drawn trains
        config["training"] |= {"epochs": 1, "min_updates": updates, "evaluate_every": updates, "ridge": ridge}
        with (
            (folder / "log").open("w") as log,
            contextlib.redirect_stdout(log),
            contextlib.redirect_stderr(log),
        ):
            nnpkit.train(config | {"seed": seed, "output": str(folder / "run")})
        return errors(nnpkit.load(folder / "run"), test)


def main() -> None:
    """Train and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--frames", type=int, default=64)
    parser.add_argument("--updates", type=int, default=2000)
    parser.add_argument("--ridge", type=float, nargs="+", default=[0.0, 0.1])
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(1)
    pool, test = read(WATER / "train.xyz.xz"), read(WATER / "test.xyz.xz")
    found: dict[str, list[dict[str, float]]] = {}
    for seed in range(1, options.seeds + 1):
        drawn = [pool[i] for i in np.random.default_rng(seed).permutation(len(pool))[: options.frames]]
        for ridge in options.ridge:
            start = time.process_time()
            result = learn(drawn, test, ridge, options.updates, seed)
            found.setdefault(f"{ridge:g}", []).append(result)
            print(f"seed {seed}, ridge {ridge:g}: {result}, {time.process_time() - start:.0f} s", flush=True)
    print("RESULT " + json.dumps({
        "frames": options.frames, "updates": options.updates, "machine": platform.machine(), "ridge": found,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
