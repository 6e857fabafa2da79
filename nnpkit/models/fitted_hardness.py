"""Electronegativity and hardness of elements that suit charges best: where an equilibration of charges begins.

Charges that equilibrate are ``q = Q u - P chi`` with a matrix P that only the hardness J of the elements changes. Which
elements are soft decides which atoms take what the others leave, and so how a charge comes from far away. A training
finds that badly, because electronegativities that are still wrong look like the wrong hardness and the other way
round. Here they are not searched together: with electronegativities that are linear in the features,
``chi_i = (J_t + 1 / (sigma_t sqrt(pi))) w_t . (1, z_i)``, and normal priors of w, those that suit the charges follow
in closed form, and what is left says how probable the charges are for every J (D. J. C. MacKay, Neural Comput. 4, 415
(1992), the evidence). The factor makes w charges, for which one prior suits hard and soft elements alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

__all__ = ["ChargedEnvironments", "fit_hardness"]

_GRID = tuple((10.0 ** np.arange(-0.5, 3.1, 0.5)).tolist())  # eV/e²; above, charges do not yield at all
_FINER = (10.0**0.25, 10.0**0.0625)
_ROUNDS = 10
_COMPONENTS = 30  # of the features of an element
_OFFSET, _LINEAR, _NOISE = 0.3, 0.15, 0.005  # e: constants, what features change, what is not explained
_NOTHING = 1e-6  # e: what charges scatter by that are all the same
_WORTH = (
    0.75  # of what the usual hardness leaves; training finds smaller gains, and softness that overfits less
)
_DOUBT = 3.0  # in ln J: how far from the usual one a hardness may be without much reason


class ChargedEnvironments(NamedTuple):
    """What one structure says."""

    matrix: np.ndarray  # (N, N) eV/e², interactions of the atoms and with themselves, without hardness
    types: np.ndarray  # (N,)
    features: np.ndarray  # (N, D)
    charges: np.ndarray  # (N,) e


class _Evidence(NamedTuple):
    """How well a hardness suits charges."""

    logarithm: float  # of the probability of the charges and of the hardness, without constants
    left: float  # in units of `_NOISE`: what is not explained, and what weights cost that explain the rest
    offsets: np.ndarray  # (T,) e


class _Rows(NamedTuple):
    """What one structure says, with the columns of all weights."""

    matrix: np.ndarray
    types: np.ndarray
    columns: np.ndarray  # (N, W) e
    charges: np.ndarray


def fit_hardness(
    structures: Sequence[ChargedEnvironments], own: np.ndarray, usual: float
) -> tuple[np.ndarray, np.ndarray]:
    """Electronegativities (T,), V, and hardness (T,), eV/e², of elements under which the charges are most probable.

    Parameters
    ----------
    structures : sequence of ChargedEnvironments
        At least one.
    own : np.ndarray
        (T,) eV/e², ``1 / (sigma_t sqrt(pi))``: interactions of the charges of each element with themselves.
    usual : float
        eV/e²: hardness of elements of which the structures say nothing, and of all, with electronegativities of
        zero, where another would not leave much less of the charges.
    """
    rows = _with_columns(structures, len(own))
    present = np.unique(np.concatenate([one.types for one in rows]))
    hardness = np.full(len(own), usual)
    if float(np.ptp(np.concatenate([one.charges for one in rows]))) < _NOTHING:
        return np.zeros(len(own)), hardness

    def probable(tried: np.ndarray) -> float:
        return _evidence(rows, tried, own, usual).logarithm

    alike = [np.where(np.isin(np.arange(len(own)), present), value, usual) for value in _GRID]
    found = _climbed(max([hardness, *alike], key=probable), present, probable)
    better, plain = _evidence(rows, found, own, usual), _evidence(rows, hardness, own, usual)
    if better.left > _WORTH * plain.left:
        return np.zeros(len(own)), hardness
    return better.offsets * (found + own), found


def _climbed(
    hardness: np.ndarray, present: np.ndarray, probable: Callable[[np.ndarray], float]
) -> np.ndarray:
    """The most probable hardness that is reached by changing one element after the other."""
    best = probable(hardness)
    for finer in (None, *_FINER):
        for _ in range(_ROUNDS):
            before = best
            for t in present:
                near = _GRID if finer is None else (hardness[t] * finer, hardness[t] / finer)
                for value in np.clip(near, _GRID[0], _GRID[-1]):
                    tried = hardness.copy()
                    tried[t] = value
                    found = probable(tried)
                    if found > best:
                        best, hardness = found, tried
            if best == before:
                break
    return hardness


def _with_columns(structures: Sequence[ChargedEnvironments], n_elements: int) -> list[_Rows]:
    """Constants and leading principal components of the features of each element, in units of their priors."""
    types, features = (
        np.concatenate([getattr(s, name) for s in structures]) for name in ("types", "features")
    )
    columns = []
    for t in range(n_elements):
        mine = features[types == t]
        own = np.zeros((len(features), 1))
        own[types == t] = _OFFSET
        columns.append(own)
        if len(mine) < 2:
            continue
        centred = mine - mine.mean(axis=0)
        spread = centred.std(axis=0)
        varied = spread > 1e-6 * spread.max()
        if not spread.max() > 0.0:
            continue
        u, s, _ = np.linalg.svd(centred[:, varied] / spread[varied], full_matrices=False)
        own = np.zeros((len(features), min(_COMPONENTS, len(s))))
        own[types == t] = (u * s)[:, : own.shape[1]] * _LINEAR / math.sqrt(np.count_nonzero(varied))
        columns.append(own)
    ends = np.cumsum([len(s.types) for s in structures])[:-1]
    parts = np.split(np.concatenate(columns, axis=1), ends)
    return [_Rows(s.matrix, s.types, part, s.charges) for s, part in zip(structures, parts, strict=True)]


def _evidence(rows: Sequence[_Rows], hardness: np.ndarray, own: np.ndarray, usual: float) -> _Evidence:
    """What the charges say of `hardness`.

    The ratio of priors and noise is given, their common scale what suits the charges best.
    """
    by_weight, left = [], []
    for matrix, types, columns, charges in rows:
        n = len(types)
        bordered = np.ones((n + 1, n + 1))
        bordered[:n, :n], bordered[n, n] = matrix + np.diag(hardness[types]), 0.0
        if not _has_minimum(bordered[:n, :n]):
            return _Evidence(-math.inf, math.inf, np.zeros(len(own)))
        inverse = np.linalg.inv(bordered)
        by_weight.append(-inverse[:n, :n] @ (columns * (hardness + own)[types][:, None]))
        left.append(charges - inverse[:n, n] * charges.sum())
    jacobian, residual = np.concatenate(by_weight) / _NOISE, np.concatenate(left) / _NOISE
    factor = np.linalg.cholesky(jacobian.T @ jacobian + np.eye(jacobian.shape[1]))
    score = np.linalg.solve(factor, jacobian.T @ residual)
    square = max(1e-12, float(residual @ residual - score @ score) / len(residual))
    weights = np.linalg.solve(factor.T, score)
    offsets = np.array([_offset(rows, weights, t) for t in range(len(own))])
    doubt = 0.5 * float(np.square(np.log(hardness / usual) / _DOUBT).sum())
    logarithm = -0.5 * len(residual) * math.log(square) - float(np.log(np.diag(factor)).sum()) - doubt
    return _Evidence(logarithm, math.sqrt(square), offsets)


def _has_minimum(matrix: np.ndarray) -> bool:
    """Whether charges of a given sum have an energy that is lowest; a constant decides nothing."""
    try:
        np.linalg.cholesky(matrix + np.abs(matrix).max())
    except np.linalg.LinAlgError:
        return False
    return True


def _offset(rows: Sequence[_Rows], weights: np.ndarray, t: int) -> float:
    """Mean of what the weights say of the atoms of an element, e."""
    said = np.concatenate([(one.columns @ weights)[one.types == t] for one in rows])
    return float(said.mean()) if len(said) else 0.0
