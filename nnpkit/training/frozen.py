"""Weights that a training leaves as they are: transfer learning (Tokita and Behler 2023, section V B)."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

import torch
from torch import Tensor

from nnpkit.errors import InputError
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.training.updates import KalmanUpdate, Update

__all__ = ["count_free", "freeze", "frozen_names"]

_WHERE = "start.freeze"


def frozen_names(model: AtomicModel, choices: Sequence[int | str]) -> set[str]:
    """Names of the parameters that `choices` freeze.

    Parameters
    ----------
    model : AtomicModel
        Whose ``named_parameters`` are meant.
    choices : sequence of int or str
        Layers of every atomic network, counted from 1 at the features, -1 being the output; or patterns such as
        ``descriptor.*`` for names of parameters.

    Raises
    ------
    InputError
        If a choice matches nothing, or nothing is left to train.
    """
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    layers: dict[str, list[str]] = {}  # of each network, in order
    for name in names:
        if name.startswith("networks.networks."):
            network, layer = ".".join(name.split(".")[:3]), name.rpartition(".")[0]
            if layer not in layers.setdefault(network, []):
                layers[network].append(layer)
    found: set[str] = set()
    for choice in choices:
        if isinstance(choice, int):
            index = choice - 1 if choice > 0 else choice
            chosen = {own[index] for own in layers.values() if choice and -len(own) <= index < len(own)}
            matched = {name for name in names if name.rpartition(".")[0] in chosen}
        else:
            matched = {name for name in names if fnmatchcase(name, choice)}
        if not matched:
            longest = max((len(own) for own in layers.values()), default=0)
            raise InputError(
                f"{choice!r} is no layer and no parameter", where=_WHERE,
                expected=f"1 to {longest}, or a pattern for {', '.join(names[:3])}, ...",
            )  # fmt: skip
        found |= matched
    if found and found == set(names):
        raise InputError("every weight is frozen: nothing is left to train", where=_WHERE)
    return found


def count_free(model: AtomicModel, choices: Sequence[int | str]) -> int:
    """How many weights of `model` a training finds when it leaves those of `choices` alone; see `frozen_names`."""
    names = frozen_names(model, choices)
    return sum(p.numel() for name, p in model.named_parameters() if p.requires_grad and name not in names)


def freeze(update: Update, model: AtomicModel, choices: Sequence[int | str]) -> int:
    """Have `update` leave weights of `model` alone; the number of these.

    A Kalman filter takes them for known: its covariance has no rows and columns for them, see
    `nnpkit.optim.covariance.Covariance.freeze`. Gradients of the others are not affected.

    Raises
    ------
    InputError
        As `frozen_names`.
    """
    names = frozen_names(model, choices)
    if not names:
        return 0
    frozen = {id(parameter) for name, parameter in model.named_parameters() if name in names}
    parameters: list[Tensor] = getattr(update, "parameters")  # noqa: B009  (of every update, in no protocol)
    masks = [torch.full((p.numel(),), id(p) not in frozen) for p in parameters]
    if isinstance(update, KalmanUpdate):
        update.freeze(torch.cat(masks))
    else:
        for parameter in parameters:
            if id(parameter) in frozen:
                parameter.register_hook(torch.zeros_like)
    return int(sum(int((~mask).sum()) for mask in masks))
