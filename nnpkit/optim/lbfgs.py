"""L-BFGS with a strong Wolfe line search, for losses that are the same function at every update.

The search direction is ``d = -H g`` with g the gradient and H the inverse Hessian that the last m pairs of steps
``s_k = w_{k+1} - w_k`` and changes of the gradient ``y_k = g_{k+1} - g_k`` describe: the two-loop recursion of
algorithm 7.4 in Nocedal and Wright, Numerical Optimization (2006), with ``H_0 = (s.y / y.y) I`` of the last pair
(eq. 7.20). The step length satisfies the strong Wolfe conditions (their eq. 3.7)::

    f(w + a d) <= f(w) + c1 a g.d      |g(w + a d).d| <= c2 |g.d|

and is found by bracketing and cubic interpolation (their algorithms 3.5 and 3.6). Nothing here depends on the units
of the loss. Method: Liu and Nocedal, Math. Program. 45, 503 (1989).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Lbfgs", "LbfgsReport"]

_C1, _C2 = 1e-4, 0.9  # sufficient decrease, curvature: as usual for quasi-Newton directions
_LARGEST_CHANGE = 0.5  # of a weight in the first trial of a line search
_FURTHEST = 10.0  # times the last trial: next one while the minimum is not yet bracketed
_MARGIN = 0.1  # of the bracket: new trials keep this distance from its ends
_ROUNDING = 4.0 * torch.finfo(torch.float64).eps  # of a loss: changes below are none

Evaluate = Callable[[Tensor], tuple[float, Tensor]]
"""Weights (P,) to loss and its gradient (P,)."""


class LbfgsReport(NamedTuple):
    """How one iteration went."""

    loss: float  # after it
    gradient: float  # Euclidean norm, after it
    step: float  # Euclidean norm of the change of the weights
    evaluations: int  # of loss and gradient


class _Point(NamedTuple):
    """A point on the line of a search."""

    step: float  # a
    value: float
    slope: float  # derivative with respect to a
    gradient: Tensor  # (P,)


class Lbfgs:
    """L-BFGS; the formulas are in the module.

    Parameters
    ----------
    history : int
        Pairs of steps and changes of the gradient that are kept, m.
    max_evaluations : int
        Most evaluations of loss and gradient in one line search.
    """

    def __init__(self, history: int = 50, max_evaluations: int = 20) -> None:
        self.history, self.max_evaluations = history, max_evaluations
        self.steps: list[Tensor] = []  # s, oldest first
        self.changes: list[Tensor] = []  # y
        self.value = math.nan
        self.gradient: Tensor | None = None  # at the present weights, None before the first step
        self.finished = False  # no smaller loss can be found

    def step(self, weights: Tensor, evaluate: Evaluate) -> tuple[Tensor, LbfgsReport]:
        """New weights (P,) after one iteration from `weights`, and a report.

        Where no smaller loss can be found, first along the quasi-Newton direction and then along the gradient, the
        weights stay as they are: that is a minimum as far as rounding lets one see, and later steps do nothing.

        Parameters
        ----------
        weights : Tensor
            (P,), those that the last step returned.
        evaluate : callable
            The loss, the same function every time.
        """
        count = 0
        if self.gradient is None:
            self.value, self.gradient = evaluate(weights)
            count = 1
        if self.finished:
            return weights, LbfgsReport(self.value, float(self.gradient.norm()), 0.0, count)
        while True:
            direction = self._direction(self.gradient)
            start = _Point(0.0, self.value, float(self.gradient @ direction), self.gradient)
            found, tried = self._search(weights, direction, start, evaluate)
            count += tried
            if found.step > 0.0 or not self.steps:
                break
            self.steps, self.changes = [], []
        change = found.step * direction
        self.finished = found.step == 0.0
        if not self.finished:
            self._remember(change, found.gradient - self.gradient)
            self.value, self.gradient = found.value, found.gradient
        report = LbfgsReport(self.value, float(self.gradient.norm()), float(change.norm()), count)
        return weights + change, report

    def _direction(self, gradient: Tensor) -> Tensor:
        """``-H g``."""
        direction = -gradient
        inverse = [1.0 / float(s @ y) for s, y in zip(self.steps, self.changes, strict=True)]
        alphas = []
        for s, y, rho in reversed(list(zip(self.steps, self.changes, inverse, strict=True))):
            alphas.append(rho * float(s @ direction))
            direction = direction - alphas[-1] * y
        if self.steps:
            direction = direction / (inverse[-1] * float(self.changes[-1] @ self.changes[-1]))
        for s, y, rho, alpha in zip(self.steps, self.changes, inverse, reversed(alphas), strict=True):
            direction = direction + (alpha - rho * float(y @ direction)) * s
        return direction

    def _search(
        self, weights: Tensor, direction: Tensor, start: _Point, evaluate: Evaluate
    ) -> tuple[_Point, int]:
        """Point with strong Wolfe conditions, or the lowest one found; and the number of evaluations."""
        if not start.slope < 0.0:
            return start, 0
        trial = min(1.0, _LARGEST_CHANGE / float(direction.abs().max()))
        if not self.steps:  # the length of the gradient says nothing about that of the step
            trial = min(trial, 1.0 / float(direction.abs().sum()))
        low, high = start, None
        for count in range(1, self.max_evaluations + 1):
            value, gradient = evaluate(weights + trial * direction)
            point = _Point(trial, value, float(gradient @ direction), gradient)
            allowed = start.value + _C1 * point.step * start.slope + _ROUNDING * abs(start.value)
            if not (math.isfinite(value) and value <= allowed) or (low.step > 0.0 and value >= low.value):
                high = point
            elif abs(point.slope) <= -_C2 * start.slope:
                return point, count
            else:
                towards_high = 1.0 if high is None else high.step - low.step
                if point.slope * towards_high >= 0.0:
                    high = low
                elif high is None:
                    trial = _beyond(low, point)
                low = point
            if high is not None:
                trial = _between(low, high)
        return low, self.max_evaluations

    def _remember(self, step: Tensor, change: Tensor) -> None:
        """Keep a pair, if the curvature along it is positive: then H stays positive definite."""
        if float(step @ change) > torch.finfo(torch.float64).eps * float(step.norm() * change.norm()):
            self.steps = [*self.steps, step][-self.history :]
            self.changes = [*self.changes, change][-self.history :]

    def state_dict(self) -> dict[str, Tensor]:
        """Everything that the next step depends on beside the weights, exactly; empty before the first step."""
        if self.gradient is None:
            return {}
        empty = self.gradient.new_zeros(0, len(self.gradient))
        return {
            "value": torch.tensor(self.value, dtype=torch.float64),
            "finished": torch.tensor(self.finished),
            "gradient": self.gradient,
            "steps": torch.stack(self.steps) if self.steps else empty,
            "changes": torch.stack(self.changes) if self.changes else empty,
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore `state_dict`."""
        self.gradient = None
        if state:
            self.value, self.gradient = float(state["value"]), state["gradient"].clone()
            self.finished = bool(state["finished"])
            self.steps = list(state["steps"].clone().unbind())
            self.changes = list(state["changes"].clone().unbind())


def _cubic(a: _Point, b: _Point) -> float:
    """Minimum of the cubic with the values and slopes of two points (eq. 3.59), not a number if there is none."""
    d1 = a.slope + b.slope - 3.0 * (a.value - b.value) / (a.step - b.step)
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0.0:
        return math.nan
    d2 = math.copysign(math.sqrt(square), b.step - a.step)
    denominator = b.slope - a.slope + 2.0 * d2
    return b.step - (b.step - a.step) * (b.slope + d2 - d1) / denominator if denominator else math.nan


def _between(low: _Point, high: _Point) -> float:
    """Next trial in the bracket; `low` has the lower value of its ends."""
    width = high.step - low.step
    if not math.isfinite(high.value):
        return low.step + _MARGIN * width
    fraction = (_cubic(low, high) - low.step) / width
    if not math.isfinite(fraction):
        fraction = 0.5
    return low.step + min(max(fraction, _MARGIN), 1.0 - _MARGIN) * width


def _beyond(last: _Point, point: _Point) -> float:
    """Next trial while the loss still falls: extrapolated, two to ten times as far as `point`."""
    step = _cubic(last, point)
    if not step > point.step:
        step = math.inf
    return min(max(step, 2.0 * point.step), _FURTHEST * point.step)
