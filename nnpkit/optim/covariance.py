"""The covariance P of the weights: symmetric blocks, changed lazily.

The textbook updates ``P <- (P - Y^T Y) / lambda + q I`` rewrite P at every step. Instead each block is kept as ::

    P = c E (S - U^T U) E

with a scalar c, a diagonal matrix E, a symmetric matrix S and U of at most k rows. This is exact, here with E = I:

- ``P h = c S h - c U^T (U h)`` reads one triangle of S once; the rest is thin.
- ``P <- P - Y^T Y`` appends the rows ``Y / sqrt(c)`` to U.
- ``P <- P / lambda`` changes c.
- ``P <- P + q I`` adds ``q / c`` to the diagonal of S.
- ``P <- D P D`` with a diagonal D changes E, in which h and Y are measured from then on.
- When U has k rows they are folded in, ``S <- S - U^T U``: one update of rank k, which the processor does at the
  speed of its arithmetic and not of its memory. When c has grown large it is folded in at the same time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from nnpkit.optim.covariance_pieces import blocks_of, pieces_of, require_same_blocks, restore_pieces
from nnpkit.optim.drift import NOISE_FLOOR, Drift
from nnpkit.optim.late_tensors import joined
from nnpkit.optim.lazy_block import LazyBlock
from nnpkit.optim.partition import Partition
from nnpkit.optim.slab import SMALLEST, Slab
from nnpkit.optim.symmetric import SymmetricMatrix, allocate
from nnpkit.parallel import ALONE, Ranks

__all__ = ["DTYPES", "LAZY_RANK", "Covariance"]

DTYPES = {"float64": torch.float64, "float32": torch.float32}
LAZY_RANK = 32
"""Rows k of U. With twice as many a step is hardly faster: folding is bound by arithmetic."""


class Covariance:
    """Block-diagonal covariance of the weights, at first ``initial * I``.

    Parameters
    ----------
    partition : Partition
        The blocks.
    initial : float
        Variance of every weight at the start.
    dtype : str
        Of the stored matrices, ``float64`` or ``float32``; vectors are float64 in either case. In single
        precision rounding is guarded against; see `nnpkit.optim.drift`.
    lazy_rank : int
        Rows k of U.
    device : str or torch.device
        Where the matrices live. On a CPU triangles are stored and BLAS does the work, elsewhere torch.
    owned : sequence of int, optional
        Indices of the blocks that this process keeps, by default all. The others count as zero.
    triangles : bool, optional
        Whether to store triangles; by default on a CPU.
    spread : Ranks, optional
        Processes that share each large block by its rows, see `nnpkit.optim.slab`; they make all calls together.
    """

    def __init__(
        self,
        partition: Partition,
        initial: float = 1.0,
        *,
        dtype: str = "float64",
        lazy_rank: int = LAZY_RANK,
        device: str | torch.device = "cpu",
        owned: Sequence[int] | None = None,
        triangles: bool | None = None,
        spread: Ranks | None = None,
    ) -> None:
        self.partition, self.device, self.dtype = partition, torch.device(device), DTYPES[dtype]
        self.owned = list(range(len(partition.blocks)) if owned is None else owned)
        blocks = [partition.blocks[index] for index in self.owned]
        self.triangles = self.device.type == "cpu" if triangles is None else triangles
        large = [b.size for b in blocks if spread is not None and b.size >= SMALLEST]
        self.is_spread = bool(large)
        slabs = [Slab(size, self.dtype, spread or ALONE) for size in large]
        rest = [b.size for b in blocks if spread is None or b.size < SMALLEST]
        self._arrays, whole = allocate(rest, self.triangles, self.dtype, self.device)
        self._arrays += [slab.rows for slab in slabs]
        parts: tuple[Iterator[SymmetricMatrix], Iterator[SymmetricMatrix]] = (iter(whole), iter(slabs))
        matrices = [next(parts[spread is not None and b.size >= SMALLEST]) for b in blocks]
        single = self.dtype == torch.float32
        self.drift = Drift(partition.n_parameters, self.device) if single else None
        self.lazy_blocks = []
        for block, matrix in zip(blocks, matrices, strict=True):
            buffer = torch.zeros(lazy_rank, block.size, dtype=self.dtype, device=self.device)
            self.lazy_blocks.append(LazyBlock(block, matrix, buffer, initial))
        self.initial = initial
        self.active: Tensor | None = None  # (P,) False of weights that are known, see `freeze`

    def freeze(self, active: Tensor | None) -> None:
        """Take weights for known: their rows and columns of P are zero, now and after every update.

        What is observed then says nothing of them, and they add nothing to the variance of a prediction. Active
        weights that were known until now get the variance `initial`.

        Parameters
        ----------
        active : Tensor or None
            Booleans (P,), False of weights that are known; None: all are active.
        """
        self.fold()
        self.know(active)
        for lazy in self.lazy_blocks:
            lazy.freeze(self.initial)
        if self.drift is not None:
            self.drift.image.copy_(self.product(self.drift.probe[None])[0])

    def restart(self) -> None:
        """``P <- initial I`` for weights that are not known."""
        for array in self._arrays:
            array.zero_()
        for lazy in self.lazy_blocks:
            lazy.restart(self.initial)
        if self.drift is not None:
            self.drift.image.copy_(self.product(self.drift.probe[None])[0])

    def know(self, active: Tensor | None) -> None:
        """Remember which weights are known, those whose `active` (P,) is False; P is as it should be already."""
        self.active = None if active is None or bool(active.all()) else active.to(self.device, torch.bool)
        for lazy in self.lazy_blocks:
            lazy.active = None if self.active is None else self.active[lazy.where]

    @property
    def n_bytes(self) -> int:
        """Memory that is in use for P."""
        tensors = [*self._arrays, *(lazy.buffer for lazy in self.lazy_blocks)]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    def product(self, rows: Tensor) -> Tensor:
        """``rows @ P`` (M, P) for `rows` (M, P), float64; each block is read once, or not where rows are zero."""
        result = torch.zeros_like(rows)
        for lazy in self.lazy_blocks:
            own = rows[:, lazy.where]
            if self._matters(own):
                result[:, lazy.where] = lazy.product(own.to(self.dtype))
        return result

    def subtract(self, y: Tensor) -> None:
        """``P <- P - y^T y``, block by block, for `y` (M, P) in float64.

        Raises
        ------
        InputError
            If a variance is not positive any more.
        """
        for lazy in self.lazy_blocks:
            own = y[:, lazy.where]
            if self._matters(own):
                if self.drift is not None:
                    self.drift.subtract(lazy.where, own)
                lazy.subtract(own.to(self.dtype))

    def _matters(self, rows: Tensor) -> bool:
        """Whether a block has anything to do for its part of the rows; on a GPU asking takes longer than doing it."""
        return not self.triangles or bool(rows.any())

    def multiply(self, factor: float) -> None:
        """``P <- factor P``."""
        if factor == 1.0:
            return
        if self.drift is not None:
            self.drift.multiply(factor)
        for lazy in self.lazy_blocks:
            lazy.multiply(factor)

    def inflate(self, factor: float, most: float) -> None:
        """``P <- D P D``: variances grow by `factor`, those that would become larger than `most` up to there only.

        In double precision: a probe of rounding, see `nnpkit.optim.drift`, would have to be measured anew.
        """
        assert self.drift is None, "only in double precision"
        for lazy in self.lazy_blocks:
            lazy.inflate(factor, most)

    def add_to_diagonal(self, variance: float) -> None:
        """``P <- P + variance I``."""
        if variance == 0.0:
            return
        if self.drift is not None:
            self.drift.add_to_diagonal(variance, self.active)
        for lazy in self.lazy_blocks:
            lazy.add_to_diagonal(variance)

    def fold(self) -> None:
        """Fold in all that is pending; P stays what it is."""
        for lazy in self.lazy_blocks:
            lazy.fold()

    def transform(self, change: Callable[[Tensor], Tensor]) -> None:
        """``P <- A P A^T``, of which the blocks are kept: the covariance of weights ``A w``.

        Parameters
        ----------
        change : callable
            Rows (M, P) in, ``rows @ A^T`` out.
        """
        n = self.partition.n_parameters
        results = [torch.zeros_like(lazy.dense(), dtype=torch.float64) for lazy in self.lazy_blocks]
        for lazy in self.lazy_blocks:
            rows = torch.zeros(lazy.where.stop - lazy.where.start, n, dtype=torch.float64, device=self.device)
            rows[:, lazy.where] = lazy.dense().to(rows)
            half = change(rows)  # P_k A^T
            for other, result in zip(self.lazy_blocks, results, strict=True):
                mixed = half[:, other.where]
                if bool(mixed.any()):
                    columns = torch.zeros(mixed.shape[1], n, dtype=torch.float64, device=self.device)
                    columns[:, lazy.where] = mixed.T
                    result += change(columns)[:, other.where]
        for lazy, result in zip(self.lazy_blocks, results, strict=True):
            lazy.matrix.assign(((result + result.T) / 2).to(self.dtype))
            lazy.restore(lazy.buffer[:0], 1.0)
        if self.drift is not None:
            self.drift.image.copy_(self.product(self.drift.probe[None])[0])

    def diagonal(self) -> Tensor:
        """Diagonal (P,) in float64, zero where another process keeps it."""
        result = torch.zeros(self.partition.n_parameters, dtype=torch.float64, device=self.device)
        for lazy in self.lazy_blocks:
            result[lazy.where] = lazy.diagonal().to(result)
        return result

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Deviations (count, P), float64, drawn from the normal distribution with covariance P."""
        result = torch.zeros(count, self.partition.n_parameters, dtype=torch.float64)
        for lazy in self.lazy_blocks:
            variances, axes = torch.linalg.eigh(lazy.dense().to("cpu", torch.float64))
            normal = torch.randn(count, len(variances), generator=generator, dtype=torch.float64)
            result[:, lazy.where] = (normal * variances.clamp_min(0.0).sqrt()) @ axes.T
        return result

    def dense(self) -> Tensor:
        """P as one matrix (P, P) in float64, with zeros between blocks: for tests and small networks."""
        n = self.partition.n_parameters
        result = torch.zeros(n, n, dtype=torch.float64, device=self.device)
        for lazy in self.lazy_blocks:
            result[lazy.where, lazy.where] = lazy.dense().to(result)
        return result

    def rounding(self, rows: Tensor) -> Tensor:
        """Noise floor (M,) of observations with Jacobian `rows` (M, P), see `nnpkit.optim.drift`; 0 in double."""
        floor = rows.new_zeros(len(rows))
        if self.drift is not None:
            for lazy in self.lazy_blocks:
                floor += NOISE_FLOOR * lazy.magnitude(rows[:, lazy.where])
        return floor

    def square_error(self, row: Tensor, seed: int) -> Tensor:
        """Mean square error (0-dim) of ``h^T P h'`` by rounding since the last call, for h as they were then.

        The next measurement is for vectors with the magnitudes of `row` (1, P). See `nnpkit.optim.drift`.
        """
        assert self.drift is not None, "only in single precision"
        error = self.drift.square_error(self.product(self.drift.probe[None])[0])
        self.drift.image.copy_(self.product(self.drift.begin(row, seed))[0])
        return error

    def state_dict(self) -> Mapping[str, Tensor]:
        """Everything, exactly; a block is copied when its triangle is asked for."""
        small = {"blocks": blocks_of(self.partition)}
        if self.active is not None:
            small["active"] = self.active
        if self.drift is not None:
            small |= {"probe": self.drift.probe, "image": self.drift.image}
        return joined(small, pieces_of(self.lazy_blocks, self.owned))

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore `state_dict`; a covariance in double precision also takes one in single precision.

        Raises
        ------
        InputError
            If it belongs to another partition or to a higher precision.
        """
        require_same_blocks(state, self.partition)
        self.know(state.get("active"))
        restore_pieces(self.lazy_blocks, self.owned, state)
        if self.drift is not None and "probe" in state:
            self.drift.probe.copy_(state["probe"])
            self.drift.image.copy_(state["image"])
