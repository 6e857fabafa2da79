"""Observation noise that follows the errors, and outliers that cannot throw a Kalman filter.

The accuracy aimed at says which errors are small enough. Where a model cannot reach it, because the data are too
various, contradict each other or are wrong, a filter that believes them to that accuracy moves further with every
update than its linearisation holds. So the variance of a label of kind k is at least that, and ::

    R_i = m_k R_0i + (alpha_k a_i u_i)^2

with R_0 the variance aimed at, a_i the size of the label (of the force on the atom, the energy per atom without its
reference energy, the virial per atom), u_i its unit (the number of atoms for energies and virials), and both m_k >= 1
and alpha_k estimated from the innovations xi, whose variance should be ``S_i = (H P H^T)_ii + R_i``. They are moved
along the gradient of the logarithm of the likelihood of the innovations with respect to their own logarithms, as far
as each is responsible for R::

    ln m_k     <- ln m_k     + eta mean_i[ w_i (min(xi_i^2 / S_i, c^2) - 1) ] / mean_i[ w_i ],   w_i = m_k R_0i / R_i
    ln alpha^2 <- ...                                                                          with 1 - w_i

where what speaks for less noise counts only as far as R is part of S: innovations that are small because the weights
are uncertain say nothing of the noise. That is Mehra's adaptive filtering (IEEE Trans. Autom. Control 17, 693 (1972))
in a form that keeps variances positive.

In the first updates it is P that is made larger by the median of ``(xi_i^2 - R_i) / (H P H^T)_ii``, if that is above 1:
P_0 is a guess that depends on the units of the features and the depth of the networks.

An innovation beyond c of its standard deviations is an outlier: its variance S_i is multiplied by the ratio of
``xi_i^2`` to ``c^2 S_i``, to the power p/2, and so is that of all labels of this kind of a structure by their mean.
With p = 1 that is the M-estimator of Huber (Robust Statistics, 1981), whose influence is bounded; with p = 2 it falls
again like that of Student's t distribution, so that what is entirely wrong does not move the weights at all.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from nnpkit.optim.measurement import KINDS, Origin

__all__ = ["RobustNoise", "RobustSettings"]


@dataclass(frozen=True)
class RobustSettings:
    """Constants of `RobustNoise`, chosen on the sets of ``benchmarks/gauntlet.py``.

    Attributes
    ----------
    rate : float
        eta.
    limit : float
        c, in standard deviations.
    power : float
        p.
    group_limit : float
        c for the root mean square of all labels of a kind of a structure.
    start : float
        Square root of the first m: large, as linearisations are poor in the beginning.
    settling : int
        Updates in which P becomes larger, by up to `settling_factor` in each, where it does not explain the errors.
    slope, slope_maximum : float
        First and largest alpha.
    """

    rate: float = 0.05
    limit: float = 3.0
    power: float = 2.0
    group_limit: float = 2.0
    start: float = 5.0
    settling: int = 16
    settling_factor: float = 10.0
    slope: float = 0.05
    slope_maximum: float = 1.0


class RobustNoise:
    """The estimates and what they make of R; see the module.

    Parameters
    ----------
    n_structures : int
        Of which labels may come.
    settings : RobustSettings, optional
        Constants.
    """

    def __init__(self, n_structures: int, settings: RobustSettings | None = None) -> None:
        self.settings = settings or RobustSettings()
        self.scale = torch.full((len(KINDS),), self.settings.start**2, dtype=torch.float64)  # m
        self.slope = torch.full((len(KINDS),), self.settings.slope**2, dtype=torch.float64)  # alpha^2
        self.updates = 0  # those of the settling
        # Of each structure and kind: measurements, those that were outliers, and the sum of their root mean squares.
        self.record = torch.zeros(n_structures, len(KINDS), 3, dtype=torch.float64)

    def variance(self, given: Tensor, origin: Origin) -> tuple[Tensor, Tensor]:
        """R (M,) without outliers for the variances aimed at, and the part of it that is m R_0."""
        kind, label = origin.kind.clamp(min=0), origin.kind >= 0
        constant = torch.where(label, self.scale[kind], 1.0) * given
        sloping = torch.where(label, self.slope[kind] * (origin.size * origin.unit).square(), 0.0)
        return constant + sloping, constant

    def uncertainty(self, residual: Tensor, expected: Tensor, given: Tensor, origin: Origin) -> float:
        """Factor on P, at least 1: in the beginning, large innovations speak of the weights and not of noise."""
        if self.updates >= self.settings.settling:
            return 1.0
        self.updates += 1
        label, variance = origin.kind >= 0, self.variance(given, origin)[0]
        needed = (residual.square() - variance).clamp(min=0.0) / expected.clamp(min=1e-300)
        return min(max(1.0, float(needed[label].median())), self.settings.settling_factor)

    def observed(self, residual: Tensor, expected: Tensor, given: Tensor, origin: Origin) -> Tensor:
        """R (M,) for innovations `residual` (M,) of which H P H^T explains `expected` (M,); the estimates follow."""
        variance, constant = self.variance(given, origin)
        total = expected + variance
        square = residual.square() / total
        self._learn(square, constant / variance, variance / total, origin)
        limit, half = self.settings.limit, self.settings.power / 2.0
        label = origin.kind >= 0
        factor = torch.where(label, (square / limit**2).clamp(min=1.0) ** half, 1.0)
        for structure in origin.structure[label].unique().tolist():
            for kind in range(len(KINDS)):
                own = (origin.structure == structure) & (origin.kind == kind)
                if bool(own.any()):
                    factor[own] *= self._group(
                        structure,
                        kind,
                        square[own],
                        square[own] / factor[own],
                        residual[own] / origin.unit[own],
                    )
        return total * factor - expected

    def _group(self, structure: int, kind: int, square: Tensor, left: Tensor, error: Tensor) -> float:
        """Factor on the variances of all labels of a kind of a structure; what happened is recorded."""
        limit = self.settings.group_limit**2
        outlying = float(square.mean()) > limit * 4.0
        self.record[structure, kind] += torch.tensor([1.0, outlying, float(error.square().mean().sqrt())])
        return max(1.0, float(left.mean()) / limit) ** (self.settings.power / 2.0)

    def _learn(self, square: Tensor, share: Tensor, noise_share: Tensor, origin: Origin) -> None:
        """Move the estimates, given squared innovations in units of S, and the shares of m R_0 in R and of R in S."""
        excess = square.clamp(max=self.settings.limit**2) - 1.0
        excess = torch.where(excess < 0.0, excess * noise_share, excess)
        for kind in range(len(KINDS)):
            own = origin.kind == kind
            if not bool(own.any()):
                continue
            for estimate, weight in ((self.scale, share[own]), (self.slope, 1.0 - share[own])):
                total = float(weight.sum())
                if total > 1e-3:
                    trust = min(1.0, 3.0 * float(weight.mean()))
                    step = self.settings.rate * trust * float((weight * excess[own]).sum()) / total
                    estimate[kind] *= torch.exp(torch.tensor(step, dtype=torch.float64))
        self.scale.clamp_(min=1.0)
        self.slope.clamp_(min=1e-6, max=self.settings.slope_maximum**2)

    def restart(self) -> None:
        """Estimates as in the beginning; the record stays."""
        self.updates = 0
        self.scale.fill_(self.settings.start**2)
        self.slope.fill_(self.settings.slope**2)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that later variances depend on, and the record."""
        updates = torch.tensor(self.updates)
        return {"scale": self.scale, "slope": self.slope, "record": self.record, "updates": updates}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict`; a record of other structures is left behind."""
        self.scale.copy_(state["scale"])
        self.slope.copy_(state["slope"])
        self.updates = int(state["updates"])
        if state["record"].shape == self.record.shape:
            self.record.copy_(state["record"])
