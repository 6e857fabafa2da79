"""Weights of a potential: how far training has moved them, and how they are distributed.

Shao et al., J. Chem. Phys. 155, 204108 (2021), Fig. 8.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nnpkit.errors import InputError
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.training.checkpoint import latest_checkpoint, model_from, read_checkpoint

__all__ = ["WeightChange", "distance_curve", "layer_table", "weight_change", "weight_vector"]


class WeightChange(NamedTuple):
    """Weights of a run at its best epoch and at its beginning."""

    names: list[str]  # of the parameters
    weights: list[np.ndarray]  # of each parameter, flat
    initial: list[np.ndarray]

    @property
    def distance(self) -> float:
        """Euclidean distance of all weights from their beginning."""
        return float(
            np.sqrt(sum(float(((w - i) ** 2).sum()) for w, i in zip(self.weights, self.initial, strict=True)))
        )


def weight_vector(model: AtomicModel) -> np.ndarray:
    """All trainable weights (P,), in the order of the model's parameters."""
    return np.concatenate([p.detach().numpy().reshape(-1) for p in model.parameters()])


def distance_curve(run: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Epochs (K,) and the distance (K,) of the weights from their beginning after each.

    Raises
    ------
    InputError
        If the run has no such record.
    """
    path, found = Path(run) / "metrics.jsonl", []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            entry = json.loads(line)
        except ValueError:  # the last one is being written
            break
        distance = (entry.get("weights") or {}).get("distance")
        if distance is not None:
            found.append((entry["epoch"], distance))
    if not found:
        raise InputError("no record of the weights", where=str(path), expected="the folder of a run")
    epochs, distances = np.array(found, dtype=np.float64).T
    return epochs, distances


def weight_change(run: str | Path) -> WeightChange:
    """Weights of the last checkpoint of a run: at its best epoch, and at its beginning.

    Raises
    ------
    InputError
        If there is no checkpoint, or it does not know the beginning.
    """
    path = latest_checkpoint(run)
    if path is None:
        raise InputError("there is no checkpoint", where=str(run), expected="the folder of a run")
    checkpoint = read_checkpoint(path)
    flat = checkpoint.tensors.get("initial", {}).get("weights")
    if flat is None:
        raise InputError("the checkpoint does not know the weights that the run began with", where=str(path))
    names, weights, initial, first = [], [], [], 0
    for name, parameter in model_from(checkpoint, str(path), best=True).named_parameters():
        size = parameter.numel()
        names.append(name)
        weights.append(parameter.detach().numpy().reshape(-1))
        initial.append(flat[first : first + size].numpy())
        first += size
    return WeightChange(names, weights, initial)


def layer_table(change: WeightChange) -> list[dict[str, Any]]:
    """Of each parameter: name, number, mean, standard deviation, largest, and distance from the beginning."""
    return [
        {
            "name": name, "number": len(w), "mean": float(w.mean()), "std": float(w.std()),
            "largest": float(np.abs(w).max()), "distance": float(np.linalg.norm(w - i)),
        }
        for name, w, i in zip(change.names, change.weights, change.initial, strict=True)
    ]  # fmt: skip
