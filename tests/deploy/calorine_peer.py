"""The numbers of calorine, an independent program for neuroevolution potentials, where it is installed.

It is the extra ``peers``, or lives in an environment of its own: ``NNPKIT_CALORINE`` is the path of its Python.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from nnpkit.data.structure import Structure

_SCRIPT = """
import json, os, sys
import _nepy
results = []
sink, real = os.open(os.devnull, os.O_WRONLY), os.dup(1)
for file, cell, symbols, positions in json.load(sys.stdin):
    os.dup2(sink, 1)
    columns = [row[k] for k in range(3) for row in cell]
    flat = [row[k] for k in range(3) for row in positions]
    nep = _nepy.NEPY(file, len(symbols), columns, symbols, flat, [1.0] * len(symbols))
    results.append(nep.get_potential_forces_and_virials())
    os.dup2(real, 1)
print("RESULTS " + json.dumps(results))
"""


class Peer(NamedTuple):
    """What calorine says of a structure."""

    energies: np.ndarray  # (N,) eV
    forces: np.ndarray  # (N, 3) eV/Å
    virial: np.ndarray  # (3, 3) eV, -dE/dstrain


def calorine(cases: list[tuple[Path, Structure]]) -> list[Peer]:
    """Numbers for structures with the potentials in files; skips the test where calorine is not."""
    python = os.environ.get("NNPKIT_CALORINE") or (sys.executable if find_spec("_nepy") else None)
    if python is None:
        pytest.skip("calorine is not installed (pip install nnpkit[peers], or NNPKIT_CALORINE=its Python)")
    told = [(str(file), s.cell.tolist(), list(s.symbols), s.positions.tolist()) for file, s in cases]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [python, "-c", _SCRIPT], input=json.dumps(told), env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    line = next(line for line in done.stdout.splitlines() if "RESULTS " in line)
    peers = []
    for (_, structure), (energies, forces, virials) in zip(
        cases, json.loads(line.split("RESULTS ", 1)[1]), strict=True
    ):
        n = structure.n_atoms
        virial = np.reshape(virials, (9, n)).sum(1).reshape(3, 3)
        peers.append(Peer(np.array(energies), np.reshape(forces, (3, n)).T, virial))
    return peers
