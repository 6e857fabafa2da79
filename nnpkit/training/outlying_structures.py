"""Names the structures whose labels a robust filter kept finding too far from everything else, and says why."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from nnpkit.data.structure import Structure
from nnpkit.models.potential import Prediction
from nnpkit.optim.measurement import KINDS

__all__ = ["lines_of_outliers", "named_outliers"]

_TIMES = 3
_SHARE = 0.6
_NAMED = 5
_SIMILAR = 0.9  # correlation from which on labels are in proportion to predictions


class _Predicts(Protocol):
    def predict(self, index: int) -> Prediction:
        """Prediction for one structure."""
        ...


def named_outliers(record: Tensor, structures: Sequence[Structure], store: _Predicts) -> list[dict[str, Any]]:
    """The structures with labels that were outliers in most of their measurements, worst first.

    Parameters
    ----------
    record : Tensor
        (S, 3, 3): measurements of each structure and kind of label, those that were outliers, sum of their errors; see
        `nnpkit.optim.robust.RobustNoise`.
    structures : sequence of Structure
        These S structures, or the first of them.
    store : object with ``predict``
        The same structures, with the trained model.

    Returns
    -------
    list of dict
        ``structure`` (its name), ``label`` (energy, force or virial), ``error`` (mean of the root mean square errors
        while it was learnt; eV/atom, eV/Å) and ``reason``.
    """
    found = []
    for index, structure in enumerate(structures):
        for kind, label in enumerate(KINDS):
            times, outlying, error = record[index, kind].tolist()
            if times >= _TIMES and outlying >= _SHARE * times:
                found.append({
                    "structure": structure.name, "label": label, "error": error / times,
                    "reason": _reason(label, structure, store.predict(index), round(outlying), round(times)),
                })  # fmt: skip
    return sorted(found, key=lambda one: -one["error"])


def _reason(label: str, structure: Structure, prediction: Prediction, outlying: int, times: int) -> str:
    """How the labels of a structure differ from what the trained potential makes of it."""
    seen = f"an outlier in {outlying} of {times} updates"
    if label == "energy":
        assert structure.energy is not None
        error = (structure.energy - float(prediction.energy)) / structure.n_atoms
        return f"{seen}: {error:+.3g} eV/atom from the potential"
    given, found = (
        (structure.forces, prediction.forces)
        if label == "force"
        else (structure.virial, prediction.virial[0])
    )
    assert given is not None
    ours, theirs = np.asarray(found).ravel(), np.asarray(given).ravel()
    norm = float(np.linalg.norm(ours) * np.linalg.norm(theirs))
    correlation = float(ours @ theirs) / norm if norm > 0.0 else 0.0
    ratio = float(np.linalg.norm(theirs) / max(float(np.linalg.norm(ours)), 1e-12))
    name = "forces" if label == "force" else "stress"
    if abs(correlation) >= _SIMILAR and not math.isclose(ratio, 1.0, rel_tol=0.5):
        return f"{seen}: its {name} are {math.copysign(ratio, correlation):.3g} times those of the potential"
    return f"{seen}: its {name} have a correlation of {correlation:.2f} with those of the potential"


def lines_of_outliers(found: Sequence[dict[str, Any]]) -> list[str]:
    """What to print."""
    if not found:
        return []
    names = {one["structure"] for one in found}
    lines = [
        f"{len(names)} training structures do not go with the others (all in summary.json); look at them:"
    ]
    lines += [f"  {one['structure']}: {one['label']}, {one['reason']}" for one in found[:_NAMED]]
    return lines
