"""Where the covariance of a training is, what is refused, and how often an update would wait for a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nnpkit.config.schema import Config
from nnpkit.errors import InputError
from nnpkit.optim.covariance import Covariance
from nnpkit.optim.kalman import KalmanOptimizer, KalmanSettings, Measurement
from nnpkit.optim.partition import Layer, make_partition
from nnpkit.parallel import Ranks
from nnpkit.workflow.devices import covariance_device


class Two(Ranks):
    """The first of two processes."""

    size = 2


def config(device: str, kind: str = "ekf") -> Config:
    return Config.model_validate(
        {"data": {"train": "a.xyz"}, "training": {"device": device, "optimizer": {"kind": kind}}}
    )


@pytest.mark.parametrize(("gpus", "asked", "found"), [
    (0, "auto", "cpu"), (0, "cpu", "cpu"), (2, "auto", "cuda"), (2, "cuda", "cuda"), (2, "cuda:1", "cuda:1"),
    (2, "cpu", "cpu"),
])  # fmt: skip
def test_the_device_of_a_training(monkeypatch: pytest.MonkeyPatch, gpus: int, asked: str, found: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert str(covariance_device(config(asked))) == found
    if asked == "auto":
        assert str(covariance_device(config(asked), Two())) == "cpu"


@pytest.mark.parametrize(("gpus", "asked", "words"), [
    (0, "cuda", "training.device: cuda: PyTorch sees no GPU"),
    (2, "cuda:2", "training.device: cuda:2: PyTorch sees 2 GPUs"),
])  # fmt: skip
def test_a_gpu_that_is_not_there_is_refused(
    monkeypatch: pytest.MonkeyPatch, gpus: int, asked: str, words: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(InputError, match=words):
        covariance_device(config(asked))
    with pytest.raises(InputError, match="2 processes share a covariance in the memory of CPUs only"):
        covariance_device(config(asked), Two())


@pytest.mark.parametrize(("asked", "kind", "words"), [
    ("cuda", "adam", "adam has none and trains on the CPU"), ("auto", "lbfgs", "lbfgs has none"),
    ("gpu", "ekf", "device"), ("cuda:", "ekf", "device"),
])  # fmt: skip
def test_a_device_without_effect_is_refused(asked: str, kind: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config(asked, kind)


class Waits(TorchDispatchMode):
    """Counts the operations for whose result the host waits."""

    NAMES = ("_local_scalar_dense", "nonzero", "equal", "is_nonzero")

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        if name in self.NAMES and args[0].device.type != "meta" and args[0].numel() > 0:
            self.found.append(name)
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("blocks", [1, 6])
def test_an_update_waits_once_for_its_check_however_many_blocks_there_are(blocks: int) -> None:
    partition = make_partition("layer", [Layer(str(k), 5) for k in range(blocks)])
    optimizer = KalmanOptimizer(partition, KalmanSettings(process_noise=1e-4))
    optimizer.covariance = Covariance(partition, 1.0, triangles=False)  # as on a GPU
    rows = torch.randn(3, partition.n_parameters, dtype=torch.float64)
    measurement = Measurement(rows.sum(1), rows, torch.full((3,), 0.1, dtype=torch.float64))
    optimizer.step(measurement)
    with Waits() as waits:
        optimizer.step(measurement)
    own = [name for name in waits.found if name == "_local_scalar_dense"]
    # The noise that is given, lambda twice and once more in the report are of the host; what is left is the check.
    assert len(waits.found) == len(own) <= 5, waits.found
