"""Names the structures whose labels a robust filter kept finding too far from everything else, and says why."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
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
_RATIO = 3.0
"""How many times as large as predictions labels in proportion to them are wrong: no model errs like that in a few."""
_PART, _ATOMS, _LOOKED_AT, _FEW = 0.5, 4, 100, 0.1
"""Mean error in sizes of the forces from which on they are compared with the prediction, of how many atoms at least, of
how many structures at most, and the share of all structures beyond which it is the model that is poor."""


class _Predicts(Protocol):
    def predict(self, index: int) -> Prediction:
        """Prediction for one structure."""
        ...


def named_outliers(record: Tensor, structures: Sequence[Structure], store: _Predicts) -> list[dict[str, Any]]:
    """The structures with labels that were outliers in most of their measurements, worst first.

    A training of few epochs has measured everything a few times only, before anything counts as an outlier. Forces with
    the pattern of the prediction and many times its size are found all the same.

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
    found: list[dict[str, Any]] = []
    named: set[int] = set()
    for index, structure in enumerate(structures):
        for kind, label in enumerate(KINDS):
            times, outlying, error = record[index, kind].tolist()
            if times >= _TIMES and outlying >= _SHARE * times:
                found.append({
                    "structure": structure.name, "label": label, "error": error / times,
                    "reason": _reason(label, structure, store.predict(index), round(outlying), round(times)),
                })  # fmt: skip
                named |= {index} if label == "force" else set()
    found += _out_of_proportion(record, structures, store, named)
    return sorted(found, key=lambda one: -one["error"])


def _out_of_proportion(
    record: Tensor, structures: Sequence[Structure], store: _Predicts, named: Collection[int]
) -> list[dict[str, Any]]:
    """Structures that are not `named` yet whose forces are a multiple of the prediction, if they are few."""
    times, _, sums = record[: len(structures), KINDS.index("force")].unbind(1)
    errors = sums / times.clamp(min=1.0)
    if not bool((times > 0.0).any()):
        return []
    usual = float(errors[times > 0.0].median())
    suspects = []
    for index, structure in enumerate(structures):
        error = float(errors[index])
        if structure.forces is None or structure.n_atoms < _ATOMS or index in named or error < _RATIO * usual:
            continue
        size = float(np.sqrt(np.square(structure.forces).mean()))
        if size > 0.0 and error > _PART * size:
            suspects.append((error / size, error, index))
    found = []
    for _, error, index in sorted(suspects, reverse=True)[:_LOOKED_AT]:
        structure = structures[index]
        similar, ratio = _compared("force", structure, store.predict(index))
        if similar >= _SIMILAR and not 1.0 / _RATIO < ratio < _RATIO:
            found.append({
                "structure": structure.name, "label": "force", "error": error,
                "reason": f"its forces are {ratio:.3g} times those of the potential",
            })  # fmt: skip
    return found if len(found) <= max(1.0, _FEW * len(structures)) else []


def _given(label: str, structure: Structure) -> np.ndarray | None:
    return structure.forces if label == "force" else structure.virial


def _compared(label: str, structure: Structure, prediction: Prediction) -> tuple[float, float]:
    """Correlation of the forces or virial with what is predicted, and how many times as large they are."""
    given = _given(label, structure)
    assert given is not None
    found = prediction.forces if label == "force" else prediction.virial[0]
    ours, theirs = np.asarray(found).ravel(), np.asarray(given).ravel()
    norm = float(np.linalg.norm(ours) * np.linalg.norm(theirs))
    correlation = float(ours @ theirs) / norm if norm > 0.0 else 0.0
    return correlation, float(np.linalg.norm(theirs) / max(float(np.linalg.norm(ours)), 1e-12))


def _reason(label: str, structure: Structure, prediction: Prediction, outlying: int, times: int) -> str:
    """How the labels of a structure differ from what the trained potential makes of it."""
    seen = f"an outlier in {outlying} of {times} updates"
    if label == "energy":
        assert structure.energy is not None
        error = (structure.energy - float(prediction.energy)) / structure.n_atoms
        return f"{seen}: {error:+.3g} eV/atom from the potential"
    correlation, ratio = _compared(label, structure, prediction)
    name = "forces" if label == "force" else "stress"
    if abs(correlation) >= _SIMILAR and not math.isclose(ratio, 1.0, rel_tol=0.5):
        return f"{seen}: its {name}: {math.copysign(ratio, correlation):.3g} times what the potential says"
    return (
        f"{seen}: between its {name} and what the potential says there is a correlation of {correlation:.2f}, and the "
        f"ratio of their sizes is {ratio:.3g}"
    )


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
