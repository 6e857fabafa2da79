"""A symmetric matrix that several processes share, each keeping some of its rows.

Rank r keeps the rows a to b of the lower triangle, columns 0 to b. The products of a rank are of its part and of the
part's transpose; their sum over the ranks, one call for a few vectors, is the product with the whole matrix. The
diagonal is short: every rank has all of it. Rows are given out so that all ranks store, and read, the same amount.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nnpkit.optim.symmetric import packed_numbers
from nnpkit.parallel import Ranks

__all__ = ["SMALLEST", "Slab", "slab_bounds"]

SMALLEST = 2048
"""Rows from which on a matrix is worth being spread: below, a sum over processes takes longer than the product."""

_PANEL = 64  # rows that stay in the cache between a product and that with the transpose


def slab_bounds(n: int, size: int) -> list[int]:
    """First rows of the slabs of `size` ranks, and n: ``(b - a) b`` is about the same for all."""
    low, high = 0.0, float(n * n)
    for _ in range(60):
        middle, b = (low + high) / 2, 0.0
        for _ in range(size):
            b = (b + math.sqrt(b * b + 4.0 * middle)) / 2
        low, high = (middle, high) if b < n else (low, middle)
    bounds, b = [0], 0.0
    for _ in range(size - 1):
        b = (b + math.sqrt(b * b + 4.0 * low)) / 2
        bounds.append(min(n, round(b)))
    return [*bounds, n]


class Slab:
    """Rows of the lower triangle of a symmetric matrix (n, n); see `nnpkit.optim.symmetric.SymmetricMatrix`.

    All ranks call its methods together and with the same arguments.

    Parameters
    ----------
    n : int
        Rows of the whole matrix, which is zero at first.
    dtype : torch.dtype
        Of its numbers.
    ranks : Ranks
        Who shares it.
    """

    def __init__(self, n: int, dtype: torch.dtype, ranks: Ranks) -> None:
        bounds = slab_bounds(n, ranks.size)
        self.n, self.ranks, self.first, self.stop = n, ranks, bounds[ranks.rank], bounds[ranks.rank + 1]
        self.rows = torch.zeros(self.stop - self.first, self.stop, dtype=dtype)  # without the diagonal
        self._diagonal = torch.zeros(n, dtype=dtype)

    def _clean(self) -> None:
        """Keep zeros on and above the diagonal."""
        self.rows[:, self.first :].tril_(-1)

    def product(self, rows: Tensor, factor: float) -> Tensor:
        """See `SymmetricMatrix`."""
        result = torch.zeros_like(rows)
        before = rows[:, : self.stop]
        for start in range(0, len(self.rows), _PANEL):
            panel = self.rows[start : start + _PANEL]
            here = slice(self.first + start, self.first + start + len(panel))
            result[:, here] += before @ panel.T
            result[:, : self.stop] += rows[:, here] @ panel
        return self.ranks.add(result).addcmul_(rows, self._diagonal).mul_(factor)

    def rank_update(self, rows: Tensor, alpha: float, beta: float) -> None:
        """See `SymmetricMatrix`."""
        self.rows.addmm_(rows[:, self.first : self.stop].T, rows[:, : self.stop], alpha=alpha, beta=beta)
        self._clean()
        self._diagonal.mul_(beta).add_(rows.square().sum(0), alpha=alpha)

    def diagonal(self) -> Tensor:
        """See `SymmetricMatrix`."""
        return self._diagonal

    def clear(self, index: int) -> None:
        """See `SymmetricMatrix`."""
        if self.first <= index < self.stop:
            self.rows[index - self.first] = 0.0
        if index < self.stop:
            self.rows[:, index] = 0.0
        self._diagonal[index] = 0.0

    def scale(self, factors: Tensor) -> None:
        """See `SymmetricMatrix`."""
        self.rows.mul_(factors[self.first : self.stop, None]).mul_(factors[: self.stop])
        self._diagonal.mul_(factors.square())

    def dense(self) -> Tensor:
        """See `SymmetricMatrix`."""
        whole = self.rows.new_zeros(self.n, self.n)
        whole[self.first : self.stop, : self.stop] = self.rows
        whole = self.ranks.add(whole)
        whole += whole.T.clone()
        whole.diagonal().copy_(self._diagonal)
        return whole

    def assign(self, dense: Tensor) -> None:
        """See `SymmetricMatrix`."""
        self.rows.copy_(dense[self.first : self.stop, : self.stop])
        self._clean()
        self._diagonal.copy_(dense.diagonal())

    @property
    def kept(self) -> tuple[int, int]:
        """See `SymmetricMatrix`."""
        return self.first, self.stop

    def packed(self) -> Tensor:
        """See `SymmetricMatrix`."""
        packed, done = self.rows.new_empty(packed_numbers(self.first, self.stop)), 0
        for index, row in enumerate(self.rows, self.first):
            packed[done : done + index] = row[:index]
            packed[done + index] = self._diagonal[index]
            done += index + 1
        return packed

    def unpack(self, packed: Tensor) -> None:
        """See `SymmetricMatrix`."""
        done, own = 0, torch.zeros_like(self._diagonal)
        for index, row in enumerate(self.rows, self.first):
            row[:index] = packed[done : done + index]
            own[index] = packed[done + index]
            done += index + 1
        self._diagonal.copy_(self.ranks.add(own))
