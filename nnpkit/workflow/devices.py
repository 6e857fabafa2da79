"""Which device the covariance of a training is on."""

from __future__ import annotations

import torch

from nnpkit.config.schema import Config
from nnpkit.config.schema_training import Ekf
from nnpkit.errors import InputError
from nnpkit.parallel import ALONE, Ranks

__all__ = ["covariance_device"]


def covariance_device(config: Config, ranks: Ranks = ALONE) -> torch.device:
    """The device that ``training.device`` comes to for one of the `ranks`.

    Raises
    ------
    InputError
        If it is a GPU that PyTorch does not see, or that this training cannot use.
    """
    asked = config.training.device
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    suits = isinstance(config.training.optimizer, Ekf) and ranks.size == 1
    if asked == "auto":
        asked = "cuda" if count and suits else "cpu"
    device = torch.device(asked)
    if device.type == "cpu":
        return device
    where = f"training.device: {asked}"
    if ranks.size > 1:
        raise InputError(f"{ranks.size} processes share a covariance in the memory of CPUs only", where=where)
    if (device.index or 0) >= count:
        raise InputError(
            f"PyTorch sees {count or 'no'} GPU{'s' * (count > 1)}", where=where,
            hint="set device: cpu, or install a PyTorch with CUDA on a machine with an NVIDIA GPU",
        )  # fmt: skip
    return device
