"""What training asks of whatever measures: prepared structures that predict, and labels as vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from torch import Tensor

from nnpkit.data.structure import Structure
from nnpkit.measure.observations import LossWeights, Noise
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.potential import Prediction
from nnpkit.optim.measurement import Measurement

if TYPE_CHECKING:
    from nnpkit.measure.label_choice import Labels

__all__ = ["Measures", "Predicts"]


class Predicts(Protocol):
    """Structures prepared for training."""

    model: AtomicModel
    structures: Sequence[Structure]  # with their labels
    kept_bytes: int  # of what is kept of them

    def predict(self, index: int) -> Prediction:
        """Prediction of the model, as it is now, for one structure."""
        ...


class Measures(Protocol):
    """What turns labels into vectors: `nnpkit.measure.observations.Observer` and its like."""

    parameters: list[Tensor]  # the weights, in the order of the columns of the Jacobian
    n_parameters: int
    noise: Noise
    weights: LossWeights
    energies_at_once: int  # structures of which only the energy is used that are best evaluated together
    atoms_at_once: int  # atoms of other structures

    def measure(self, labels: Labels) -> Measurement:
        """Residuals, Jacobian and noise of all `labels`."""
        ...

    def of_part(self, rank: int, size: int) -> Measures | None:
        """One that measures what the atoms of process `rank` of `size` add to every label; None if it cannot.

        Labels, noise and origins are those of the first process; residuals and rows of all processes add up. A store
        has `nnpkit.measure.divided.Divided` structures then.
        """
        ...

    def loss(self, labels: Labels) -> Tensor:
        """Squared errors of `labels`, weighted (0-dim), differentiable with respect to the weights."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """What later measurements depend on beside the weights."""
        ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict`."""
        ...
