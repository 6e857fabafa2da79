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

Where structures have groups, m and alpha are estimated for each group as well, from its innovations alone. They are
those of all structures until the group has been seen often enough, and go on from there.

In the first updates it is P that is made larger by the median of ``(xi_i^2 - R_i) / (H P H^T)_ii``, if that is above 1,
and of at least a tenth of ``xi_i^2 / (H P H^T)_ii``: P_0 is a guess that depends on the units of the features and the
depth of the networks.

Maximum likelihood alone has a second answer, that everything is noise and nothing can be learnt: the more a kind of
label is disbelieved, the larger its errors stay. So alpha has a limit for each kind, and m of energies and virials is
at most `balance` times that of forces, where there are any, and m of a group at most `apart` times that of all: the
ratios of what is aimed at hold within that.

An innovation beyond c of its standard deviations is an outlier: its variance S_i is multiplied by the ratio of
``xi_i^2`` to ``c^2 S_i``, to the power p/2, and so is that of all labels of this kind of a structure by their mean.
With p = 1 that is the M-estimator of Huber (Robust Statistics, 1981), whose influence is bounded; with p = 2 it falls
again like that of Student's t distribution, so that what is entirely wrong does not move the weights at all. What is
rare looks like what is wrong, until it has been learnt. So a structure's first `trusted` updates are no outliers, then
p is 1, and 2 for what has been an outlier `persistent` times while few others are, or is far larger than other labels.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from nnpkit.optim.measurement import KINDS, Origin

__all__ = ["RobustNoise", "RobustSettings"]

_FORCE = KINDS.index("force")
_SHARE = 0.1  # of an innovation that the weights explain at least, in the beginning


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
        p of what is taken for wrong.
    group_limit : float
        c for the root mean square of all labels of a kind of a structure.
    start : float
        Square root of the first m: large, as linearisations are poor in the beginning.
    settling : int
        Updates in which P becomes larger, by up to `settling_factor` in each, where it does not explain the errors.
    slope : float
        First alpha.
    slope_maximum : tuple of float
        Largest alpha of energies, forces and virials.
    balance : float
        Largest m of energies and virials in units of that of forces.
    trusted, persistent : int
        Updates with a structure in which nothing is an outlier; outliers after which it is taken for wrong.
    few_of : float
        Share of all updates of a kind up to which its outliers may be wrong labels; more of them are a poor model.
    gross : tuple of float
        Sizes of each kind, in units of what is ordinary, that are wrong at first sight.
    apart : float
        Largest m of a group in units of that of all: what is learnt worst is not to be given up first.
    few : int
        Updates with labels of a kind below which a group has no estimates of its own.
    """

    rate: float = 0.05
    limit: float = 3.0
    power: float = 2.0
    group_limit: float = 2.0
    start: float = 15.0
    settling: int = 16
    settling_factor: float = 10.0
    slope: float = 0.05
    slope_maximum: tuple[float, ...] = (0.02, 0.15, 0.05)
    balance: float = 4.0
    trusted: int = 4
    persistent: int = 3
    few_of: float = 0.15
    gross: tuple[float, ...] = (100.0, 30.0, 30.0)
    apart: float = 2.0
    few: int = 50


class _Rows(NamedTuple):
    """What is known of M labels, as numpy has it: of few numbers at a time its functions take a third of the time."""

    residual: np.ndarray
    expected: np.ndarray
    given: np.ndarray
    kind: np.ndarray
    unit: np.ndarray
    size: np.ndarray
    structure: np.ndarray

    @classmethod
    def of(cls, residual: Tensor, expected: Tensor, given: Tensor, origin: Origin) -> _Rows:
        return cls(*(column.numpy() for column in (residual, expected, given, *origin)))

    def some(self, which: np.ndarray) -> _Rows:
        """Those rows."""
        return _Rows(*(column[which] for column in self))

    def variance(self, scale: Any, slope: Any) -> tuple[np.ndarray, np.ndarray]:
        """R (M,) for m and alpha^2, and the part of it that is m R_0; rows that are no labels have the given one."""
        label = self.kind >= 0
        constant = np.where(label, scale, 1.0) * self.given
        return constant + np.where(label, slope * (self.size * self.unit) ** 2, 0.0), constant


class RobustNoise:
    """The estimates and what they make of R; see the module.

    Parameters
    ----------
    n_structures : int
        Of which labels may come.
    settings : RobustSettings, optional
        Constants.
    groups : sequence of str, optional
        Group of each structure.
    ordinary : Tensor, optional
        Size (3,) of an ordinary label of each kind, see `Origin.size`; without it nothing is trusted.
    """

    def __init__(
        self,
        n_structures: int,
        settings: RobustSettings | None = None,
        groups: Sequence[str] | None = None,
        ordinary: Tensor | None = None,
    ) -> None:
        self.settings = settings or RobustSettings()
        self.scale = torch.full((len(KINDS),), self.settings.start**2, dtype=torch.float64)  # m
        self.slope = torch.full((len(KINDS),), self.settings.slope**2, dtype=torch.float64)  # alpha^2
        self.ordinary = ordinary
        self.updates = 0  # those of the settling
        # Of each structure and kind: measurements, those that were outliers, and the sum of their root mean squares.
        self.record = torch.zeros(n_structures, len(KINDS), 3, dtype=torch.float64)
        # The sums of the first two over all structures.
        self._counts = torch.zeros(len(KINDS), 2, dtype=torch.float64)
        self.names = sorted(set(groups or ()))
        self.group_of = torch.tensor([self.names.index(name) for name in groups or ()], dtype=torch.int64)
        # Of each group and kind: m, alpha^2 and updates with such labels.
        self.own = torch.zeros(len(self.names), len(KINDS), 3, dtype=torch.float64)

    def variance(self, given: Tensor, origin: Origin) -> Tensor:
        """R (M,) without outliers for the variances aimed at."""
        return torch.from_numpy(self._variance(_Rows.of(given, given, given, origin)))

    def _variance(self, rows: _Rows) -> np.ndarray:
        kind = rows.kind.clip(min=0)
        scale, slope = self.scale.numpy()[kind], self.slope.numpy()[kind]
        if self.names:
            own = self.own.numpy()[self._group(rows), kind]
            known = own[:, 2] >= self.settings.few
            scale, slope = np.where(known, own[:, 0], scale), np.where(known, own[:, 1], slope)
        return rows.variance(scale, slope)[0]

    def _group(self, rows: _Rows) -> np.ndarray:
        """Group (M,) of the structure of each row."""
        return self.group_of.numpy()[rows.structure.clip(min=0)]

    def uncertainty(self, residual: Tensor, expected: Tensor, given: Tensor, origin: Origin) -> float:
        """Factor on P, at least 1: in the beginning, large innovations speak of the weights and not of noise."""
        if self.updates >= self.settings.settling:
            return 1.0
        self.updates += 1
        label, variance = origin.kind >= 0, self.variance(given, origin)
        unexplained = torch.maximum(residual.square() - variance, _SHARE * residual.square())
        needed = unexplained / expected.clamp(min=1e-300)
        return min(max(1.0, float(needed[label].median())), self.settings.settling_factor)

    def observed(self, residual: Tensor, expected: Tensor, given: Tensor, origin: Origin) -> Tensor:
        """R (M,) for innovations `residual` (M,) of which H P H^T explains `expected` (M,); the estimates follow."""
        rows = _Rows.of(residual, expected, given, origin)
        total = rows.expected + self._variance(rows)
        square = rows.residual**2 / total
        self._learn(rows)
        factor = np.ones_like(square)
        for structure in np.unique(rows.structure[rows.kind >= 0]):
            for kind in range(len(KINDS)):
                own = (rows.structure == structure) & (rows.kind == kind)
                if own.any():
                    gross = self._is_gross(kind, rows.size[own])
                    error = rows.residual[own] / rows.unit[own]
                    factor[own] = self._damping(structure, kind, gross, square[own], error)
        return torch.from_numpy(total * factor - rows.expected)

    def inflation(self, given: Tensor, origin: Origin) -> float:
        """How many times larger R is than the variances `given` (M,), without outliers: the geometric mean."""
        label = origin.kind >= 0
        return float((self.variance(given, origin) / given)[label].log().mean().exp())

    def _is_gross(self, kind: int, size: np.ndarray) -> bool:
        """Whether labels of these sizes (M,) are wrong at first sight."""
        return self.ordinary is not None and bool(
            size.max() > self.settings.gross[kind] * float(self.ordinary[kind])
        )

    def _damping(
        self, structure: int, kind: int, gross: bool, square: np.ndarray, error: np.ndarray
    ) -> np.ndarray:
        """Factors (M,) on the variances of the labels of a kind of a structure; what happened is recorded."""
        s, record, counts = self.settings, self.record.numpy()[structure, kind], self._counts.numpy()[kind]
        trusted = self.ordinary is not None and not gross and bool(record[0] < s.trusted)
        outlying = not trusted and float(square.mean()) > 4.0 * s.group_limit**2
        few = bool(counts[1] <= s.few_of * counts[0])
        wrong = gross or (few and bool(record[1] >= s.persistent))
        record += (1.0, outlying, math.sqrt((error**2).mean()))
        counts += (1.0, outlying)
        if trusted:
            return np.ones_like(square)
        half = (s.power if wrong else 1.0) / 2.0
        each = (square / s.limit**2).clip(min=1.0) ** half
        return each * max(1.0, float((square / each).mean()) / s.group_limit**2) ** half

    def _learn(self, rows: _Rows) -> None:
        """Move the estimates of the kinds of labels, and of their groups, that are there."""
        scale, slope, group = self.scale.numpy(), self.slope.numpy(), rows.structure
        if self.names:
            group = self._group(rows)
        for kind in range(len(KINDS)):
            mine = rows.kind == kind
            if not mine.any():
                continue
            scale[kind], slope[kind] = self._moved(kind, scale[kind], slope[kind], rows.some(mine))
            for g in np.unique(group[mine]) if self.names else ():
                own, here = self.own.numpy()[g, kind], mine & (group == g)
                if own[2] < self.settings.few:
                    own[0], own[1] = scale[kind], slope[kind]
                else:
                    own[0], own[1] = self._moved(kind, own[0], own[1], rows.some(here))
                own[2] += 1.0
        if bool(self._counts[_FORCE, 0] > 0.0):
            self._keep_balance(self.scale)
        for own in self.own:
            own[:, 0] = torch.minimum(own[:, 0], self.settings.apart * self.scale)
            if bool(own[_FORCE, 2] > 0.0):
                self._keep_balance(own[:, 0])

    def _keep_balance(self, scale: Tensor) -> None:
        """Hold m (3,) of energies and virials to that of forces."""
        scale.clamp_(max=self.settings.balance * float(scale[_FORCE]))

    def _moved(self, kind: int, scale: float, slope: float, rows: _Rows) -> tuple[float, float]:
        """m and alpha^2 after innovations of labels of one kind."""
        variance, constant = rows.variance(scale, slope)
        total, share = rows.expected + variance, constant / variance
        excess = (rows.residual**2 / total).clip(max=self.settings.limit**2) - 1.0
        excess = np.where(excess < 0.0, excess * variance / total, excess)
        moved = []
        for estimate, weight in ((scale, share), (slope, 1.0 - share)):
            whole, step = float(weight.sum()), 0.0
            if whole > 1e-3:
                trust = min(1.0, 3.0 * whole / len(weight))
                step = self.settings.rate * trust * float((weight * excess).sum()) / whole
            moved.append(estimate * math.exp(step))
        return max(1.0, moved[0]), min(max(1e-6, moved[1]), self.settings.slope_maximum[kind] ** 2)

    def restart(self) -> None:
        """Estimates as in the beginning; the record stays."""
        self.updates = 0
        self.own.zero_()
        self.scale.fill_(self.settings.start**2)
        self.slope.fill_(self.settings.slope**2)

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that later variances depend on, and the record."""
        updates = torch.tensor(self.updates)
        names = torch.tensor([zlib.crc32(name.encode()) for name in self.names], dtype=torch.int64)
        return {
            "scale": self.scale, "slope": self.slope, "record": self.record, "updates": updates,
            "own": self.own, "names": names,
        }  # fmt: skip

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict`; a record of other structures and estimates of other groups are left behind."""
        self.scale.copy_(state["scale"])
        self.slope.copy_(state["slope"])
        self.updates = int(state["updates"])
        if state["record"].shape == self.record.shape:
            self.record.copy_(state["record"])
            self._counts = self.record[:, :, :2].sum(0)
        self.own.zero_()
        known = {
            int(name): own for name, own in zip(state.get("names", ()), state.get("own", ()), strict=True)
        }
        for g, name in enumerate(self.names):
            if (own := known.get(zlib.crc32(name.encode()))) is not None:
                self.own[g].copy_(own)
