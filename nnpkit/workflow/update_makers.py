"""Updates of our own optimizers, from their settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict

import torch

from nnpkit.config.schema_optimizer import Adam as AdamSettings
from nnpkit.config.schema_optimizer import Ekf
from nnpkit.config.schema_optimizer import Lbfgs as LbfgsSettings
from nnpkit.measure.observations import Noise, Prefactors
from nnpkit.measure.origins import ordinary_sizes
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.optim.adam import Adam
from nnpkit.optim.kalman import KalmanOptimizer, KalmanSettings
from nnpkit.optim.lbfgs import Lbfgs
from nnpkit.optim.partition import Layer, Partition, layers_of, make_partition
from nnpkit.optim.robust import RobustNoise
from nnpkit.training.contract import OptimizerKind, UpdateTask
from nnpkit.training.full_batch import FullBatchUpdate
from nnpkit.training.updates import GradientUpdate, KalmanUpdate, Update

__all__ = ["ADAM", "EKF", "LBFGS", "covariance_partition", "kalman_settings"]

_COVARIANCE_LIMIT = 1e4


def covariance_partition(optimizer: Ekf, model: AtomicModel) -> Partition:
    """Blocks of the covariance of the weights of `model`."""
    parameters = [Layer(name, p.numel()) for name, p in model.named_parameters() if p.requires_grad]
    layers = parameters if optimizer.partition == "packed" else layers_of(parameters)
    return make_partition(optimizer.partition, layers, optimizer.block_size)


def kalman_settings(optimizer: Ekf, n_blocks: int) -> KalmanSettings:
    """Constants of the filter, whose covariance has so many blocks, that the configuration describes."""
    given = optimizer.model_dump(include=set(asdict(KalmanSettings())))
    if given["forgetting_rate"] == "auto":
        given["forgetting_rate"] = None
    usual, forgets = optimizer.observation_noise == "given", optimizer.forgetting < 1.0
    if given["forget"] == "auto":
        given["forget"] = "observed" if usual and forgets and n_blocks > 1 else "all"
    if given["covariance_limit"] == "auto":
        limited = usual and forgets and given["forget"] == "all" and optimizer.dtype == "float64"
        given["covariance_limit"] = _COVARIANCE_LIMIT if limited else None
    return KalmanSettings(**given)


class EkfKind(OptimizerKind):
    """The extended Kalman filter."""

    settings = Ekf
    parallel = True

    def update(self, task: UpdateTask) -> Update:
        """See `OptimizerKind`."""
        optimizer, weights = task.settings, task.weights
        noise = Noise(
            **optimizer.noise.model_dump(), learning_rate=optimizer.learning_rate,
            energy_weight=weights.energy, force_weight=weights.force, virial_weight=weights.virial,
            divide_by_atoms=optimizer.divide_by_atoms, energy_factor=optimizer.prefactors.energy,
            force_factor=optimizer.prefactors.force, virial_factor=optimizer.prefactors.virial,
        )  # fmt: skip
        observer = task.observe(noise)
        robust, model, own = None, task.store.model, task.group_weights
        if optimizer.robust:
            reference = dict(zip(model.elements, model.reference_energies, strict=True))
            ordinary = ordinary_sizes(task.store.structures, reference)
            robust = RobustNoise(len(task.store.structures), groups=task.groups, ordinary=ordinary)
        partition = covariance_partition(optimizer, model)
        filter_ = KalmanOptimizer(
            partition, kalman_settings(optimizer, len(partition.blocks)), device=task.device, ranks=task.ranks,
            robust=robust, length=task.n_updates,
            weights=None if own is None else torch.tensor(own, dtype=torch.float64),
        )  # fmt: skip
        return KalmanUpdate(filter_, observer, task.ridge(observer))


class LbfgsKind(OptimizerKind):
    """L-BFGS of all labels at once."""

    settings = LbfgsSettings
    parallel = True

    def update(self, task: UpdateTask) -> Update:
        """See `OptimizerKind`."""
        observer = task.observe(Noise())
        lbfgs = Lbfgs(task.settings.history, task.settings.max_evaluations)
        return FullBatchUpdate(lbfgs, observer, task.available, task.ridge(observer), task.ranks)


class AdamKind(OptimizerKind):
    """Adam."""

    settings = AdamSettings
    parallel = True

    def update(self, task: UpdateTask) -> Update:
        """See `OptimizerKind`."""
        optimizer, n_updates, observer = task.settings, task.n_updates, task.observe(Noise())
        kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {
            "tensorflow": Adam,
            "torch": torch.optim.Adam,
        }
        adam = kinds[optimizer.epsilon_convention](
            observer.parameters,
            lr=optimizer.learning_rate, betas=tuple(optimizer.betas), eps=optimizer.epsilon,
        )  # fmt: skip
        decay, steps, last = optimizer.decay_factor, optimizer.decay_steps, optimizer.final_learning_rate
        if last is not None:
            steps = min(steps, max(1, n_updates // 100))  # at least a hundred steps down
            decay = (last / optimizer.learning_rate) ** (steps / max(1, n_updates))
        given = optimizer.prefactors
        prefactors = None
        if given is not None:
            energy, force, virial = ((pair[0], pair[1]) for pair in (given.energy, given.force, given.virial))
            prefactors = Prefactors(energy, force, virial)
        ratio = 0.01 if last is None else last / optimizer.learning_rate
        return GradientUpdate(
            adam,
            observer,
            optimizer.gradient_clip,
            decay,
            steps,
            prefactors,
            task.ridge(observer),
            ratio,
            task.ranks,
        )


ADAM, EKF, LBFGS = AdamKind(), EkfKind(), LbfgsKind()
