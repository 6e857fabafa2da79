"""Charges that move far: how well the third and the fourth generation learn those of published examples.

    NNPKIT_DATA=/path/to/data python benchmarks/charge_transfer.py

Of the examples of n2p2 for the fourth generation (T. W. Ko et al., Nat. Commun. 12, 398 (2021)), which are not part of
the repository: carbon chains with hydrogen at one end or both (128 structures), and gold on MgO with and without
aluminium below (18). Only charges are learnt. For each seed the structures are divided at random into folds, the same
for both generations; each fold is tested once, by a potential that learnt the others but for those that decide when it
stops and which of its ``SETTINGS`` it has: the pass and the setting with the smallest error on these. The last line is
``RESULT {json}``: root mean square errors in e over all structures, of each seed, and of the atoms of each element.
"""

from __future__ import annotations

import argparse
import io
import json
import lzma
import os
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nnpkit.config.config_file import config_from_mapping
from nnpkit.data.formats.reading import read, write
from nnpkit.data.graph import build_graph
from nnpkit.data.structure import Structure
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.sum_potential import potential_of
from nnpkit.workflow.assemble import load_data
from nnpkit.workflow.new_model import make_model


class Example(NamedTuple):
    """A set of structures, and into how many folds it is divided."""

    file: str
    folds: int
    tested: int  # folds of these that are tested, all or the first ones
    validation: int  # structures that decide when a training stops


SETS = {
    "carbon_chain": Example("Carbon_chain_4G_128.xyz.xz", 5, 1, 13),
    "gold_on_oxide": Example("AlAuMgO_4G_18.xyz.xz", 6, 6, 3),
}
SETTINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "stiff": {"initial_covariance": 0.05},  # weights that move less: smoother functions of the surroundings
    "stiffer": {"initial_covariance": 0.01},
    "stiffest": {"initial_covariance": 0.005},
}


def trained(
    folder: Path,
    parts: dict[str, list[Structure]],
    generation: str,
    passes: int,
    seed: int,
    optimizer: dict[str, Any],
) -> AtomicModel:
    """A potential that has learnt charges of ``train``, as far as they are good on ``validation``."""
    for name, structures in parts.items():
        write(folder / f"{name}.xyz", structures)
    settings = {
        "seed": seed, "output": str(folder / "run"), "training": {"optimizer": {"kind": "ekf", **optimizer}},
        "data": {"train": ["train.xyz"], "validation": ["validation.xyz"], "suspicious": "ignore"},
        "model": {
            "kind": "chebyshev", "wall": "off",
            "descriptor": {"radial_order": 10, "radial_cutoff": 4.2, "angular_order": 3, "angular_cutoff": 3.2},
            "charges": {"generation": generation, "passes": passes},
        },
    }  # fmt: skip
    config = config_from_mapping(settings, folder)
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        return make_model(config, load_data(config))[0]


def errors(model: AtomicModel, structures: list[Structure]) -> dict[str, list[float]]:
    """Errors of charges, e, of the atoms of each element."""
    found: dict[str, list[float]] = {}
    for structure in structures:
        graph = build_graph(structure, model.elements, model.cutoff)
        charges = potential_of(model).predict(graph).charges
        assert charges is not None
        assert structure.charges is not None
        for symbol, error in zip(structure.symbols, charges[0].numpy() - structure.charges, strict=True):
            found.setdefault(symbol, []).append(float(error))
    return found


def rms(by_element: dict[str, list[float]]) -> float:
    """Root mean square over all atoms."""
    return float(np.sqrt(np.mean(np.square(np.concatenate([*by_element.values()])))))


def crossed(
    structures: list[Structure], example: Example, generation: str, passes: int, seed: int
) -> dict[str, list[float]]:
    """Errors on all folds that are tested."""
    order = np.random.default_rng([17, seed]).permutation(len(structures))
    pooled: dict[str, list[float]] = {}
    for fold in range(example.tested):
        test = order[fold :: example.folds]
        rest = [k for k in order if k not in test]
        parts = {
            "validation": [structures[k] for k in rest[: example.validation]],
            "train": [structures[k] for k in rest[example.validation :]],
        }
        found = []
        for optimizer in SETTINGS.values():
            with tempfile.TemporaryDirectory() as scratch:
                model = trained(Path(scratch), parts, generation, passes, seed, optimizer)
            found.append((rms(errors(model, parts["validation"])), model))
        best = min(found, key=lambda pair: pair[0])[1]
        for symbol, values in errors(best, [structures[k] for k in test]).items():
            pooled.setdefault(symbol, []).extend(values)
    return pooled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--passes", type=int, default=5)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    arguments = parser.parse_args()
    examples = Path(os.environ["NNPKIT_DATA"]) / "n2p2_examples"
    result: dict[str, dict[str, Any]] = {}
    for name in arguments.sets:
        example = SETS[name]
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "data.xyz"
            path.write_bytes(lzma.decompress((examples / example.file).read_bytes()))
            structures = read(path)
        result[name] = {}
        for generation in ("third", "fourth"):
            seeds = []
            together: dict[str, list[float]] = {}
            for seed in arguments.seeds:
                found = crossed(structures, example, generation, arguments.passes, seed)
                seeds.append(round(rms(found), 5))
                print(f"{name:14} {generation:7} seed {seed} {seeds[-1]:.4f} e", flush=True)
                for symbol, values in found.items():
                    together.setdefault(symbol, []).extend(values)
            elements = {
                symbol: round(rms({symbol: values}), 5) for symbol, values in sorted(together.items())
            }
            result[name][generation] = {"seeds": seeds, "all": round(rms(together), 5), "elements": elements}
            print(f"{name:14} {generation:7} {result[name][generation]}", flush=True)
    print("RESULT", json.dumps(result))


if __name__ == "__main__":
    main()
