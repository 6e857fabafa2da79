"""Errors of the committees of all rounds on data that no round has seen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from nnpkit.active.store import Store
from nnpkit.data.dataset import data_sha256
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import load
from nnpkit.files import atomic_write
from nnpkit.measure.metrics import ErrorSums

__all__ = ["curve"]

_FILE = "curve.json"


def curve(store: Store, structures: Sequence[Structure]) -> dict[int, dict[str, Any]]:
    """Errors of the committee of every round, as of `nnpkit.measure.metrics.ErrorSums`.

    What was computed is kept in the folder of the project, and nothing there depends on it.

    Parameters
    ----------
    store : Store
        The project.
    structures : sequence of Structure
        With labels.

    Returns
    -------
    dict
        By round, only those with a committee of their own.
    """
    path, data = store.folder / _FILE, data_sha256(structures)
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    found: dict[int, dict[str, Any]] = {}
    seen: set[str] = set()
    for row in store.query("SELECT round, path, time FROM models ORDER BY round"):
        if row["path"] in seen:
            continue
        seen.add(row["path"])
        name = f"{row['path']} {row['time']!r} {data}"
        if name not in kept:
            model, sums = load(store.folder / row["path"] / "committee.pt"), ErrorSums()
            for structure in structures:
                result = model.predict(structure)
                sums.add(structure, result.energy, result.forces, result.stress)
            kept[name] = sums.summary()
            with atomic_write(path) as stream:
                json.dump(kept, stream, indent=1)
        found[row["round"]] = kept[name]
    return found
