"""The potential of a training that is not at its end: ``model.pt`` of the best epoch so far."""

from __future__ import annotations

import copy
from collections.abc import Mapping

from torch import Tensor

from nnpkit.data.dataset import data_sha256
from nnpkit.deploy.load import whole_model
from nnpkit.deploy.targets.scripting import frame_of_test
from nnpkit.deploy.targets.torchscript import export_model
from nnpkit.families.prepare import data_statistics
from nnpkit.families.registered import family_of
from nnpkit.training.trainer import Trainer
from nnpkit.workflow.assemble import LoadedData

__all__ = ["write_interim_model"]

_STRUCTURES = 100


def write_interim_model(trainer: Trainer, data: LoadedData, weights: Mapping[str, Tensor]) -> None:
    """Write the model of `trainer` with other `weights` as ``model.pt``; the trainer does not notice."""
    model = copy.deepcopy(trainer.model)
    model.load_state_dict(weights)
    folder, state = trainer.folder.path, trainer.state
    if family_of(model.spec).trained_descriptor:
        some = data.train[:: max(1, len(data.train) // _STRUCTURES)]
        model.scaling.observe(data_statistics(model.descriptor, model.elements, some))
    metadata = {
        "data_sha256": data_sha256(data.train),
        "min_distance": data.min_distance,
        "training": {**state.errors, "epochs": state.epoch, "best_epoch": state.best_epoch},
    }
    baseline = None if data.baseline is None else data.baseline.spec
    with_all = frame_of_test(data.train, model.elements)
    model, of_baseline = whole_model(model, baseline, folder / "baseline.pt")
    export_model(model, folder / "model.pt", metadata | of_baseline, with_all)
