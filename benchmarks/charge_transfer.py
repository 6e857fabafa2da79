"""Charges that move far: how well the third and the fourth generation learn those of published examples.

    NNPKIT_DATA=/path/to/data python benchmarks/charge_transfer.py --passes 25

Of the examples of n2p2 for the fourth generation (T. W. Ko et al., Nat. Commun. 12, 398 (2021)), which are not part of
the repository: carbon chains with hydrogen at one end or both (128 structures), and gold on MgO with and without
aluminium below (18). Only charges are learnt; a fifth of the structures, drawn with the seed, is kept apart and
compared. The last line is ``RESULT {json}``: root mean square errors in e.
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

import numpy as np
import torch

from nnpkit.config.config_file import config_from_mapping
from nnpkit.data.graph import build_graph
from nnpkit.models.charged_model import ChargedModel
from nnpkit.models.sum_potential import potential_of
from nnpkit.workflow.assemble import load_data
from nnpkit.workflow.new_model import make_model

SETS = {"carbon_chain": "Carbon_chain_4G_128.xyz.xz", "gold_on_oxide": "AlAuMgO_4G_18.xyz.xz"}


def charge_error(folder: Path, file: Path, generation: str, passes: int, seed: int) -> float:
    """Error of the charges, e, on the structures that were kept apart."""
    data = folder / "data.xyz"
    data.write_bytes(lzma.decompress(file.read_bytes()))
    settings = {
        "seed": seed, "output": str(folder / "run"),
        "data": {"train": [str(data)], "validation_fraction": 0.1, "test_fraction": 0.2, "suspicious": "ignore"},
        "model": {
            "kind": "chebyshev", "wall": "off",
            "descriptor": {"radial_order": 10, "radial_cutoff": 4.2, "angular_order": 3, "angular_cutoff": 3.2},
            "charges": {"generation": generation, "passes": passes},
        },
    }  # fmt: skip
    config = config_from_mapping(settings, folder)
    loaded = load_data(config)
    model, _ = make_model(config, loaded)
    assert isinstance(model, ChargedModel)
    test = loaded.splits["test"]
    errors = []
    for structure in test:
        found = potential_of(model).predict(build_graph(structure, model.elements, model.cutoff)).charges
        assert found is not None
        assert structure.charges is not None
        errors.append(found[0] - torch.as_tensor(structure.charges))
    return float(torch.cat(errors).square().mean().sqrt())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--passes", type=int, default=25)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", nargs="+", choices=list(SETS), default=list(SETS))
    arguments = parser.parse_args()
    examples = Path(os.environ["NNPKIT_DATA"]) / "n2p2_examples"
    result: dict[str, dict[str, float]] = {}
    for name in arguments.sets:
        result[name] = {}
        for generation in ("third", "fourth"):
            found = []
            for seed in range(1, arguments.seeds + 1):
                with (
                    tempfile.TemporaryDirectory() as scratch,
                    redirect_stdout(io.StringIO()),
                    redirect_stderr(io.StringIO()),
                ):
                    folder = Path(scratch)
                    found.append(
                        charge_error(folder, examples / SETS[name], generation, arguments.passes, seed)
                    )
            result[name][generation] = round(float(np.mean(found)), 5)
            print(f"{name:14} {generation:8} {result[name][generation]:.4f} e", flush=True)
    print("RESULT", json.dumps(result))


if __name__ == "__main__":
    main()
