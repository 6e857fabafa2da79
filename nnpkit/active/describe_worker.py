"""The process that describes labelled structures with a committee.

It is ``python -m nnpkit.active.describe_worker FOLDER``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np

from nnpkit.active.assess import describe
from nnpkit.data.dataset import structure_sha256
from nnpkit.data.formats.extxyz import read_extxyz
from nnpkit.deploy.load import load
from nnpkit.files import atomic_write

__all__ = ["main"]


def main(folder: Path) -> None:
    """Write ``vectors.npy`` and ``keys.json`` of the structures of the files that ``job.json`` names."""
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    structures = [s for path in job["files"] for s in read_extxyz(path)]
    vectors = describe(load(job["model"]), structures)
    with atomic_write(folder / "vectors.npy", "wb") as stream:
        np.save(stream, vectors, allow_pickle=False)
    with atomic_write(folder / "keys.json") as stream:
        json.dump([structure_sha256(s, labels=False) for s in structures], stream)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
