"""Uncertainty of one potential from the covariance of its Kalman filter.

The filter keeps the covariance P of the weights, given the labels it has seen. A prediction f(w) then has the
variance ``J P J^T`` with ``J = df/dw``. It costs one Jacobian and no second potential; unlike the disagreement of a
committee it knows the weights near one solution only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from nnpkit.data.structure import Structure
from nnpkit.families.registered import family_of
from nnpkit.measure.contract import Measures
from nnpkit.measure.label_choice import Labels
from nnpkit.measure.observations import LossWeights, Noise
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.optim.kalman import KalmanOptimizer

__all__ = ["KalmanPosterior", "PosteriorStd"]

_ROWS = 96  # of the Jacobian at a time


@dataclass
class PosteriorStd:
    """Standard deviations of the predictions for one structure."""

    energy: float  # eV/atom
    forces: np.ndarray  # (N,) eV/Å: root of the sum of the variances of the three components


class KalmanPosterior:
    """Variance of the predictions of a potential of any family, with or without charges.

    Charges that were learnt before energies are taken to be known.

    Parameters
    ----------
    model : AtomicModel
        As it was when the filter made its last update.
    filter : KalmanOptimizer
        With the covariance of its weights.
    """

    def __init__(self, model: AtomicModel, filter: KalmanOptimizer) -> None:
        self.model, self.filter = model, filter

    @torch.no_grad()
    def of(self, structures: Iterable[Structure]) -> Iterator[PosteriorStd]:
        """Standard deviations for structures one after the other; their labels do not matter."""
        family = family_of(self.model.spec)
        for structure in structures:
            n = structure.n_atoms
            blank = structure.replace(energy=0.0, forces=np.zeros((n, 3)), stress=None, charges=None)
            with torch.enable_grad():
                store = family.preparation(self.model, [blank])([blank], np.inf, None, [])
                observer = family.observer(store, Noise(), LossWeights())
                energy = self._variances(observer, None)
                parts = torch.arange(3 * n).split(_ROWS)
                forces = torch.cat([self._variances(observer, part) for part in parts])
            std = forces.reshape(n, 3).sum(1).sqrt().numpy()
            yield PosteriorStd(float(energy.sqrt()) / n, std)

    def _variances(self, observer: Measures, components: torch.Tensor | None) -> torch.Tensor:
        """Diagonal of ``J P J^T``: of the energy, or of some force components."""
        labels = Labels([0], components is None, None if components is None else [components], False)
        jacobian = observer.measure(labels).jacobian.detach()
        return (self.filter.covariance.product(jacobian) * jacobian).sum(1).clamp_min(0.0)
