"""Weights for another scaling of the features: the same function of the raw ones."""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor

from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.networks import AtomicNetwork
from nnpkit.models.scaling import Scaling

__all__ = ["WeightChange", "keep_varying", "weight_change"]


def keep_varying(old: Scaling, new: Scaling) -> None:
    """Give `new` the map of `old` for features that were scaled and do not vary any more.

    A constant feature has the factor 0: what the network learnt of it could not be expressed.
    """
    lost = (new.factor == 0.0) & (old.factor != 0.0)
    # (raw - shift) factor + lower is the same with another `lower` if the shift makes up for it
    moved = old.shift - (old.lower - new.lower) / torch.where(lost, old.factor, torch.ones_like(old.factor))
    new.shift.copy_(torch.where(lost, moved, new.shift))
    new.factor.copy_(torch.where(lost, old.factor, new.factor))


class WeightChange:
    """Linear map w' = A w of all weights: ``W' = W diag(gain)``, ``b' = b + W move`` in first layers.

    With old scaled features ``x = gain x' + move`` the networks are the same functions of the raw ones. A covariance
    P of the weights becomes ``A P A^T``.

    Parameters
    ----------
    parts : list of (int, int, Tensor, Tensor)
        Of each network: position of W in the vector of weights, number of its rows (b follows it), gain and move,
        (n_inputs,) each.
    """

    def __init__(self, parts: list[tuple[int, int, Tensor, Tensor]]) -> None:
        self.parts = parts

    def __call__(self, rows: Tensor) -> Tensor:
        """``rows @ A^T`` for vectors of weights (M, P): each of them changed."""
        changed = rows.clone()
        for start, n_nodes, gain, move in self.parts:
            bias = start + n_nodes * len(gain)
            weights = rows[:, start:bias].reshape(len(rows), n_nodes, len(gain))
            changed[:, start:bias] = (weights * gain.to(rows)).reshape(len(rows), -1)
            changed[:, bias : bias + n_nodes] += weights @ move.to(rows)
        return changed


def weight_change(model: AtomicModel, old: Scaling, new: Scaling) -> WeightChange | None:
    """What keeps `model` the same function when its scaling becomes `new`; None where `old` is the same.

    Call `keep_varying` before. Networks are those of fixed descriptors.
    """
    same = (torch.equal(getattr(old, name), getattr(new, name)) for name in ("shift", "factor", "lower"))
    if all(same):
        return None
    divisor = torch.where(new.factor == 0.0, torch.ones_like(new.factor), new.factor)
    gain = old.factor / divisor
    move = (new.shift - new.lower / divisor - old.shift) * old.factor + old.lower
    sizes = [parameter.numel() for parameter in model.parameters()]
    starts = {id(p): at for p, at in zip(model.parameters(), accumulate(sizes, initial=0), strict=False)}
    parts = []
    for t, network in enumerate(model.networks.networks):
        assert isinstance(network, AtomicNetwork)
        n, layer = network.n_inputs, network.layers[0]
        parts.append((starts[id(layer.weight)], len(layer.bias), gain[t, :n].clone(), move[t, :n].clone()))
    return WeightChange(parts)
