"""The Kalman filter of a finished run, for the uncertainty of its predictions."""

from __future__ import annotations

from pathlib import Path

from nnpkit.config.schema import Config
from nnpkit.config.schema_training import Ekf
from nnpkit.errors import InputError
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.optim.kalman import KalmanOptimizer
from nnpkit.optim.late_tensors import only
from nnpkit.training.checkpoint import latest_checkpoint, model_from, read_checkpoint
from nnpkit.training.posterior import KalmanPosterior
from nnpkit.training.updates import RIDGE
from nnpkit.workflow.update_makers import covariance_partition, kalman_settings

__all__ = ["load_filter", "load_posterior"]


def load_filter(run: str | Path) -> tuple[AtomicModel, KalmanOptimizer]:
    """Model and Kalman filter of the last checkpoint of a run.

    Raises
    ------
    InputError
        If there is no checkpoint, or the run was not trained by a Kalman filter.
    """
    path = latest_checkpoint(run)
    if path is None:
        raise InputError("no checkpoint in this folder", where=str(run), expected="the folder of a run")
    checkpoint = read_checkpoint(path)
    model = model_from(checkpoint, str(path))
    optimizer = Config.model_validate(checkpoint.state["config"]).training.optimizer
    if not isinstance(optimizer, Ekf):
        raise InputError(
            "no covariance of its weights is known", where=str(run),
            expected="a potential trained by `optimizer: {kind: ekf}`",
        )  # fmt: skip
    partition = covariance_partition(optimizer, model)
    kalman = KalmanOptimizer(partition, kalman_settings(optimizer, len(partition.blocks)))
    update = checkpoint.tensors["update"]
    kalman.load_state_dict(only(update, lambda name: not name.startswith(("observer.", RIDGE))))
    return model, kalman


def load_posterior(run: str | Path) -> KalmanPosterior:
    """Posterior of the last checkpoint of a run.

    Raises
    ------
    InputError
        If there is no checkpoint, or the run was not trained by a Kalman filter.
    """
    return KalmanPosterior(*load_filter(run))
