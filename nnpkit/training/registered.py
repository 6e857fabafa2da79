"""Optimizers by name: ours, and those of other packages under the entry points ``nnpkit.optimizers``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnpkit.registry import Registry

if TYPE_CHECKING:
    from nnpkit.training.contract import OptimizerKind

__all__ = ["OPTIMIZERS", "OWN_OPTIMIZERS"]

OWN_OPTIMIZERS = {
    "ekf": "nnpkit.workflow.update_makers:EKF",
    "adam": "nnpkit.workflow.update_makers:ADAM",
    "lbfgs": "nnpkit.workflow.update_makers:LBFGS",
}

OPTIMIZERS: Registry[OptimizerKind] = Registry("optimizer", "nnpkit.optimizers", OWN_OPTIMIZERS)
