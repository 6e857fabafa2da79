"""Symmetric matrices as the filter needs them: products with a few vectors, updates of low rank, the diagonal.

`Triangle` stores one triangle and calls BLAS; two or more triangles share an array, so that n weights take about
half of ``n * n`` numbers. `Square` stores the whole matrix and uses torch alone, on any device; on a GPU it reads
twice as much, but at ten times the speed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from nnpkit.optim.blas import symmetric_product, symmetric_rank_update

__all__ = [
    "Square", "SymmetricMatrix", "Triangle", "allocate", "pack", "packed_numbers", "stored_numbers", "unpack",
]  # fmt: skip

_PANEL = 1024
_PACKED_AT_ONCE = 64  # rows


def packed_numbers(first: int, stop: int) -> int:
    """Numbers in the rows of a lower triangle from `first` until before `stop`."""
    return stop * (stop + 1) // 2 - first * (first + 1) // 2


def pack(matrix: Tensor) -> Tensor:
    """The lower triangle of `matrix` (n, n), row by row, diagonal included."""
    packed, done = matrix.new_empty(packed_numbers(0, len(matrix))), 0
    for panel, below in _panels(matrix):
        values = panel[below]
        packed[done : done + len(values)] = values
        done += len(values)
    return packed


def unpack(packed: Tensor, matrix: Tensor) -> None:
    """Fill the lower triangle of `matrix` (n, n) with what `pack` gave; the rest stays."""
    done = 0
    for panel, below in _panels(matrix):
        count = int(below.sum())
        panel[below] = packed[done : done + count]
        done += count


def _panels(matrix: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Some rows at a time, as views, and where in them the lower triangle is."""
    for start in range(0, len(matrix), _PACKED_AT_ONCE):
        panel = matrix[start : start + _PACKED_AT_ONCE, : start + _PACKED_AT_ONCE]
        yield panel, torch.ones(panel.shape, dtype=torch.bool, device=matrix.device).tril(start)


class SymmetricMatrix(Protocol):
    """What `Triangle` and `Square` have in common; n is the number of rows."""

    def product(self, rows: Tensor, factor: float) -> Tensor:
        """``factor * rows @ S`` (M, n) for `rows` (M, n)."""
        ...

    def rank_update(self, rows: Tensor, alpha: float, beta: float) -> None:
        """``S <- beta S + alpha rows^T rows``."""
        ...

    def diagonal(self) -> Tensor:
        """Diagonal (n,), a view that may be written to."""
        ...

    def clear(self, index: int) -> None:
        """Set row and column `index` to zero."""
        ...

    def scale(self, factors: Tensor) -> None:
        """``S <- diag(factors) S diag(factors)`` for `factors` (n,)."""
        ...

    def dense(self) -> Tensor:
        """Copy (n, n) with both triangles."""
        ...

    def assign(self, dense: Tensor) -> None:
        """Become the symmetric matrix `dense` (n, n)."""
        ...

    @property
    def kept(self) -> tuple[int, int]:
        """First row of the lower triangle that this process keeps, and the one behind the last."""
        ...

    def packed(self) -> Tensor:
        """These rows one after the other, each up to the diagonal: `packed_numbers` numbers, a copy."""
        ...

    def unpack(self, packed: Tensor) -> None:
        """Take over what `packed` gave."""
        ...


class Triangle:
    """One triangle of `matrix`, a tensor (n, n) in Fortran's order; the other may belong to somebody else."""

    def __init__(self, matrix: Tensor, lower: bool) -> None:
        self.matrix, self.lower = matrix, lower

    def product(self, rows: Tensor, factor: float) -> Tensor:
        """See `SymmetricMatrix`."""
        return symmetric_product(self.matrix, self.lower, rows, factor)

    def rank_update(self, rows: Tensor, alpha: float, beta: float) -> None:
        """See `SymmetricMatrix`."""
        symmetric_rank_update(self.matrix, self.lower, rows, alpha, beta)

    def diagonal(self) -> Tensor:
        """See `SymmetricMatrix`."""
        return self.matrix.diagonal()

    def clear(self, index: int) -> None:
        """See `SymmetricMatrix`."""
        before, behind = slice(index + 1), slice(index, None)
        self.matrix[index, before if self.lower else behind] = 0.0
        self.matrix[behind if self.lower else before, index] = 0.0

    def scale(self, factors: Tensor) -> None:
        """See `SymmetricMatrix`."""
        for k, factor in enumerate(factors):
            rows = slice(k, None) if self.lower else slice(k + 1)
            self.matrix[rows, k] *= factor * factors[rows]

    def dense(self) -> Tensor:
        """See `SymmetricMatrix`."""
        half = self.matrix.tril() if self.lower else self.matrix.triu()
        return half + half.T - torch.diag(half.diagonal())

    def assign(self, dense: Tensor) -> None:
        """See `SymmetricMatrix`."""
        for k in range(len(dense)):
            if self.lower:
                self.matrix[k:, k] = dense[k:, k]
            else:
                self.matrix[: k + 1, k] = dense[: k + 1, k]

    @property
    def kept(self) -> tuple[int, int]:
        """See `SymmetricMatrix`."""
        return 0, len(self.matrix)

    def packed(self) -> Tensor:
        """See `SymmetricMatrix`."""
        return pack(self.matrix if self.lower else self.matrix.T)

    def unpack(self, packed: Tensor) -> None:
        """See `SymmetricMatrix`."""
        unpack(packed, self.matrix if self.lower else self.matrix.T)


class Square:
    """The whole matrix (n, n), by torch alone.

    A product ``U^T U`` is not symmetric to the last bit, and what is not symmetric about P is not damped by
    measurements as other errors are. So one triangle is updated, panel by panel, and the other one is a copy.
    """

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix

    def product(self, rows: Tensor, factor: float) -> Tensor:
        """See `SymmetricMatrix`."""
        if len(rows) == 1:
            return torch.mv(self.matrix, rows[0]).mul_(factor)[None]
        return (rows @ self.matrix).mul_(factor)

    def rank_update(self, rows: Tensor, alpha: float, beta: float) -> None:
        """See `SymmetricMatrix`."""
        n = len(self.matrix)
        for start in range(0, n, _PANEL):
            stop = min(start + _PANEL, n)
            panel = self.matrix[start:, start:stop]
            panel.addmm_(rows[:, start:].T, rows[:, start:stop], alpha=alpha, beta=beta)
            corner = panel[: stop - start]
            corner.copy_((corner + corner.T) / 2)
            self.matrix[start:stop, stop:] = panel[stop - start :].T

    def diagonal(self) -> Tensor:
        """See `SymmetricMatrix`."""
        return self.matrix.diagonal()

    def clear(self, index: int) -> None:
        """See `SymmetricMatrix`."""
        self.matrix[index] = 0.0
        self.matrix[:, index] = 0.0

    def scale(self, factors: Tensor) -> None:
        """See `SymmetricMatrix`."""
        self.matrix.mul_(factors[:, None] * factors)

    def dense(self) -> Tensor:
        """See `SymmetricMatrix`."""
        return self.matrix.clone()

    def assign(self, dense: Tensor) -> None:
        """See `SymmetricMatrix`."""
        self.matrix.copy_(dense)

    @property
    def kept(self) -> tuple[int, int]:
        """See `SymmetricMatrix`."""
        return 0, len(self.matrix)

    def packed(self) -> Tensor:
        """See `SymmetricMatrix`."""
        return pack(self.matrix)

    def unpack(self, packed: Tensor) -> None:
        """See `SymmetricMatrix`."""
        unpack(packed, self.matrix)
        self.matrix.copy_(self.matrix.tril() + self.matrix.tril(-1).T)


class _Place(NamedTuple):
    """Where a triangle lies: in which array, in which half of it, and from which column on."""

    array: int
    lower: bool
    column: int


def _places(sizes: Sequence[int]) -> tuple[list[int], list[_Place]]:
    """Sides of the arrays and places of triangles of `sizes`.

    The largest triangle that has no place yet opens an array and is its lower half; following ones go into upper
    halves, along the diagonal, as long as there is room.
    """
    sides: list[int] = []
    room: dict[int, int] = {}  # columns of the upper half that are free, of arrays that have any
    places: dict[int, _Place] = {}
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        size = sizes[index]
        array = next((a for a, free in room.items() if free >= size), None)
        if array is None:
            array = len(sides)
            places[index] = _Place(array, True, 0)
            sides.append(size)
            room[array] = size
        else:
            places[index] = _Place(array, False, sides[array] - room[array])
            room[array] -= size
            if room[array] == 0:
                del room[array]
    return sides, [places[index] for index in range(len(sizes))]


def stored_numbers(sizes: Sequence[int], triangles: bool) -> int:
    """How many numbers `allocate` allocates."""
    return (
        sum(side * (side + 1) for side in _places(sizes)[0])
        if triangles
        else sum(size * size for size in sizes)
    )


def allocate(
    sizes: Sequence[int], triangles: bool, dtype: torch.dtype, device: torch.device
) -> tuple[list[Tensor], list[SymmetricMatrix]]:
    """Arrays of zeros (one-dimensional) and the matrices of `sizes` that live in them.

    An array of side N has columns of N + 1 numbers: an upper triangle with its diagonal begins in row 0, the
    lower one in row 1, so that they do not touch.
    """
    sides = _places(sizes)[0] if triangles else sizes
    extra = 1 if triangles else 0
    arrays = [torch.zeros(side * (side + extra), dtype=dtype, device=device) for side in sides]
    return arrays, _matrices_in(arrays, sizes, triangles)


def _matrices_in(arrays: Sequence[Tensor], sizes: Sequence[int], triangles: bool) -> list[SymmetricMatrix]:
    """The matrices of `sizes` that live in these arrays."""
    if not triangles:
        return [Square(a.view(size, size)) for a, size in zip(arrays, sizes, strict=True)]
    sides, places = _places(sizes)
    matrices: list[SymmetricMatrix] = []
    for size, (array, lower, column) in zip(sizes, places, strict=True):
        ld = sides[array] + 1
        first = 1 if lower else column * (ld + 1)
        matrices.append(Triangle(arrays[array].as_strided((size, size), (1, ld), first), lower))
    return matrices
