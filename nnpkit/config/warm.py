"""A training that begins where another ended."""

from __future__ import annotations

from pathlib import Path

import torch

from nnpkit.config.assemble import LoadedData
from nnpkit.config.schema import Config
from nnpkit.config.schema_committee import Start
from nnpkit.deploy.load import load
from nnpkit.errors import InputError
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.deep_descriptor import DeepDescriptor
from nnpkit.models.prepare import data_statistics
from nnpkit.models.total import TotalModel
from nnpkit.training.checkpoint import Checkpoint, latest_checkpoint, model_from, read_checkpoint
from nnpkit.training.updates import KalmanUpdate, Update

__all__ = ["continue_update", "earlier_checkpoint", "earlier_model", "require_same_baseline"]


def earlier_checkpoint(start: Start, member: int | None = None) -> Checkpoint:
    """The last checkpoint of the run to begin with.

    Raises
    ------
    InputError
        If that run has none.
    """
    if Path(start.run).is_file():
        return _of_file(start.run)
    run = Path(start.run) if member is None else Path(start.run) / f"member-{member:02d}"
    path = latest_checkpoint(run)
    if path is None:
        raise InputError("no run to begin with: there is no checkpoint", where=f"start.run: {run}")
    return read_checkpoint(path)


def _of_file(file: str) -> Checkpoint:
    """What a model.pt knows of its training: the weights."""
    loaded = load(file)
    model, baseline = loaded.atomic_model(), loaded.metadata.get("baseline")
    model = model.correction if isinstance(model, TotalModel) else model
    weights = model.state_dict()
    data = {"baseline": None if baseline is None else baseline["spec"]}
    state = {"epoch": 0, "spec": model.spec, "config": {"data": data}}
    return Checkpoint({"model": weights, "best": weights, "update": {}, "schedule": {}}, state)


def require_same_baseline(checkpoint: Checkpoint, config: Config) -> None:
    """Refuse to go on with weights that learnt something else.

    Raises
    ------
    InputError
        If the earlier labels were less another baseline than the new ones, or one of them none.
    """
    before = (checkpoint.state.get("config") or {}).get("data", {}).get("baseline")
    now = None if config.data.baseline is None else config.data.baseline.model_dump(mode="json")
    if before != now:
        raise InputError(
            f"the potential to begin with corrects {before or 'nothing'}, the labels are less {now or 'nothing'}",
            where="start.run", expected="the same data.baseline",
        )  # fmt: skip


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
    if isinstance(update, KalmanUpdate) and "forgetting" in checkpoint.tensors["update"]:
        covariance = update.optimizer.covariance
        active = covariance.active
        update.load_state_dict(checkpoint.tensors["update"])
        covariance.freeze(active)  # the earlier run may have frozen others
