"""One block of the covariance, changed lazily; the formulas are in `nnpkit.optim.covariance`."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nnpkit.errors import DivergedError
from nnpkit.optim.partition import Block
from nnpkit.optim.symmetric import SymmetricMatrix

__all__ = ["LazyBlock"]

_LARGEST_SCALE = 2.0**20


class LazyBlock:
    """One block ``P = c E (S - U^T U) E`` of n weights. `rows` and `y` are tensors (M, n)."""

    def __init__(self, block: Block, matrix: SymmetricMatrix, pending: Tensor, initial: float) -> None:
        self.name, self.where = block.name, slice(block.start, block.stop)
        self.matrix = matrix  # S
        self.buffer = pending  # (k, n)
        self.count = 0  # rows of the buffer in use
        self.scale = 1.0  # c
        self.stretch: Tensor | None = None  # diagonal (n,) of E; None: ones
        matrix.diagonal().fill_(initial)
        self.variances = matrix.diagonal().clone()  # diag(S), side by side
        self.active: Tensor | None = None  # (n,) False of weights that are known; None: all are active

    @property
    def pending(self) -> Tensor:
        """U."""
        return self.buffer[: self.count]

    def product(self, rows: Tensor) -> Tensor:
        """``rows @ P`` (M, n)."""
        rows = rows if self.stretch is None else rows * self.stretch
        result = self.matrix.product(rows, self.scale)  # c S h ...
        if self.count:
            result.addmm_(rows @ self.pending.T, self.pending, alpha=-self.scale)  # ... - c U^T (U h)
        return result if self.stretch is None else result.mul_(self.stretch)

    def subtract(self, y: Tensor) -> None:
        """``P <- P - y^T y``."""
        y = y if self.stretch is None else y / self.stretch
        if self.count + len(y) > len(self.buffer):
            self.fold()
        if len(y) >= len(self.buffer):
            self.matrix.rank_update(y, -1.0 / self.scale, 1.0)
            self._after_fold()
            return
        self.buffer[self.count : self.count + len(y)] = y / math.sqrt(self.scale)
        self.count += len(y)
        if self.count == len(self.buffer):
            self.fold()

    def multiply(self, factor: float) -> None:
        """``P <- factor P``."""
        self.scale *= factor
        if self.scale > _LARGEST_SCALE:
            self.fold()

    def inflate(self, factor: float, most: float) -> None:
        """``P <- D P D`` with ``D^2`` as large as `factor`, where that does not make a variance larger than `most`."""
        if self.stretch is None and float(self.variances.max()) * self.scale * factor <= most:
            self.multiply(factor)  # diag(S) is at least diag(S - U^T U), which takes a pass over U to know
            return
        square = (most / self.diagonal().clamp(min=1e-300)).clamp(1.0, factor)
        if bool((square == factor).all()):
            self.multiply(factor)
            return
        root = square.sqrt()
        self.stretch = root if self.stretch is None else self.stretch * root
        if float(self.stretch.max()) > _LARGEST_SCALE:
            self.unstretch()

    def unstretch(self) -> None:
        """``S <- E S E`` and ``E <- I``; P stays what it is."""
        if self.stretch is not None:
            self.fold()
            self.matrix.scale(self.stretch)
            self.stretch = None
            self._after_fold()

    def add_to_diagonal(self, variance: float) -> None:
        """``P <- P + variance I``."""
        increment: float | Tensor = variance / self.scale
        if self.stretch is not None:
            increment = increment / self.stretch.square()
        self.variances.add_(increment if self.active is None else increment * self.active.to(self.variances))
        self.matrix.diagonal().copy_(self.variances)

    def restart(self, initial: float) -> None:
        """``P <- initial I`` for active weights, S being zero."""
        self.variances.fill_(initial)
        if self.active is not None:
            self.variances[~self.active] = 0.0
        self.matrix.diagonal().copy_(self.variances)
        self.count, self.scale, self.stretch = 0, 1.0, None

    def freeze(self, initial: float) -> None:
        """Clear what is not active, and let what was cleared before and is active begin with the variance `initial`."""
        self.unstretch()
        awake = torch.ones_like(self.variances, dtype=torch.bool) if self.active is None else self.active
        for index in torch.nonzero(~awake).squeeze(1).tolist():
            self.matrix.clear(index)
        self.variances.copy_(self.matrix.diagonal())
        self.variances[(self.variances == 0.0) & awake] = initial / self.scale
        self.matrix.diagonal().copy_(self.variances)

    def fold(self) -> None:
        """``S <- S - U^T U`` and, if c is large, ``S <- c S`` and ``c <- 1``; P stays what it is."""
        beta = self.scale if self.scale > _LARGEST_SCALE else 1.0
        self.matrix.rank_update(self.pending, -beta, beta)
        self.scale /= beta
        self.count = 0
        self._after_fold()

    def restore(self, pending: Tensor, scale: float, stretch: Tensor | None = None) -> None:
        """Take over U, c and E; S has its content already."""
        self.scale, self.count, self.stretch = scale, 0, stretch
        if len(pending) < len(self.buffer):
            self.count = len(pending)
            self.pending.copy_(pending)
        else:  # written with a larger lazy rank
            self.matrix.rank_update(pending, -1.0, 1.0)
        self._after_fold()

    def _after_fold(self) -> None:
        self.variances.copy_(self.matrix.diagonal())
        least = self.variances if self.active is None else self.variances[self.active]
        if not bool((least > 0.0).all()):
            single = "" if self.variances.dtype == torch.float64 else ", or keep the covariance in float64"
            raise DivergedError(
                f"the Kalman filter lost its way: the covariance of {self.name} is not positive definite any more",
                where="training.optimizer",
                hint=f"lower initial_covariance{single}",
            )

    def magnitude(self, rows: Tensor) -> Tensor:
        """``c sum_i S_ii h_i^2`` (M,), the size of the numbers of which ``h^T P h`` is a difference."""
        rows = rows if self.stretch is None else rows * self.stretch
        return rows.square() @ self.variances.to(rows) * self.scale

    def diagonal(self) -> Tensor:
        """Diagonal (n,) of P, a copy."""
        diagonal = (self.variances - self.pending.square().sum(0)).mul_(self.scale)
        return diagonal if self.stretch is None else diagonal.mul_(self.stretch.square())

    def dense(self) -> Tensor:
        """The whole block (n, n), a copy."""
        whole = self.matrix.dense().addmm_(self.pending.T, self.pending, alpha=-1.0).mul_(self.scale)
        if self.stretch is not None:
            whole.mul_(self.stretch).mul_(self.stretch[:, None])
        return (whole + whole.T) / 2
