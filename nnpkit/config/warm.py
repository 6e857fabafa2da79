"""A training that begins where another ended."""

from __future__ import annotations

from pathlib import Path

import torch

from nnpkit.config.assemble import LoadedData
from nnpkit.config.schema_committee import Start
from nnpkit.errors import InputError
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.deep_descriptor import DeepDescriptor
from nnpkit.models.prepare import data_statistics
from nnpkit.training.checkpoint import Checkpoint, latest_checkpoint, model_from, read_checkpoint
from nnpkit.training.updates import KalmanUpdate, Update

__all__ = ["continue_update", "earlier_checkpoint", "earlier_model"]


def earlier_checkpoint(start: Start, member: int | None = None) -> Checkpoint:
    """The last checkpoint of the run to begin with.

    Raises
    ------
    InputError
        If that run has none.
    """
    run = Path(start.run) if member is None else Path(start.run) / f"member-{member:02d}"
    path = latest_checkpoint(run)
    if path is None:
        raise InputError("no run to begin with: there is no checkpoint", where=f"start.run: {run}")
    return read_checkpoint(path)


def earlier_model(checkpoint: Checkpoint, data: LoadedData, where: str) -> tuple[AtomicModel, list[str]]:
    """Model of the best epoch of an earlier run, its feature ranges widened by the new data; and a report.

    Raises
    ------
    InputError
        If the new data have other elements.
    """
    model = model_from(checkpoint, where, best=True)
    if model.elements != data.elements:
        raise InputError(
            f"the run to begin with knows {' '.join(model.elements)}, the data have {' '.join(data.elements)}",
            where=f"start.run: {where}", expected="the same elements", hint="begin from scratch",
        )  # fmt: skip
    if not isinstance(model.descriptor, DeepDescriptor):
        found = data_statistics(model.descriptor, model.elements, data.train)
        model.scaling.minimum.copy_(torch.minimum(model.scaling.minimum, found.minimum))
        model.scaling.maximum.copy_(torch.maximum(model.scaling.maximum, found.maximum))
    return model, [f"begins with the potential of {where}"]


def continue_update(update: Update, checkpoint: Checkpoint) -> None:
    """Give a Kalman filter the covariance of an earlier run; other optimizers begin anew."""
    if isinstance(update, KalmanUpdate):
        update.load_state_dict(checkpoint.tensors["update"])
