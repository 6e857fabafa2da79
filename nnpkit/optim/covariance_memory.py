"""How much memory a covariance takes, and whether there is enough: asked before anything is allocated."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from nnpkit.errors import InputError
from nnpkit.memory import free_memory
from nnpkit.optim.covariance import DTYPES, LAZY_RANK
from nnpkit.optim.partition import Partition, make_partition
from nnpkit.optim.symmetric import stored_numbers

__all__ = ["available_memory", "covariance_bytes", "fitting_block_size", "require_memory"]


def covariance_bytes(
    partition: Partition,
    dtype: str = "float64",
    lazy_rank: int = LAZY_RANK,
    *,
    triangles: bool = True,
    owned: Sequence[int] | None = None,
) -> int:
    """Memory of a `Covariance` with these arguments.

    Without `triangles`, as on a GPU, blocks are stored whole; `owned` are the blocks of one process.
    """
    blocks = partition.blocks if owned is None else [partition.blocks[index] for index in owned]
    sizes = [block.size for block in blocks]
    return DTYPES[dtype].itemsize * (stored_numbers(sizes, triangles) + lazy_rank * sum(sizes))


def available_memory(device: str | torch.device = "cpu") -> int:
    """Bytes that this process can still get on `device`; limits of a container included."""
    device = torch.device(device)
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return free_memory()


def fitting_block_size(
    partition: Partition,
    available: int,
    dtype: str = "float64",
    lazy_rank: int = LAZY_RANK,
    *,
    triangles: bool = True,
) -> int | None:
    """A block size near the largest with which the same layers, ``reorganized``, fit; None if not even 16 does."""
    n = partition.n_parameters
    # N weights in blocks of size b take about N (b / 2 + k) numbers as triangles: begin somewhat above that.
    numbers = available / DTYPES[dtype].itemsize
    size = min(n, max(0, int(3.0 * (numbers / n - lazy_rank))))
    while size >= min(16, n):
        smaller = make_partition("reorganized", partition.layers, size)
        if covariance_bytes(smaller, dtype, lazy_rank, triangles=triangles) <= available:
            return size
        size = size * 15 // 16 // 16 * 16
    return None


def require_memory(
    partition: Partition,
    available: int,
    dtype: str = "float64",
    lazy_rank: int = LAZY_RANK,
    *,
    triangles: bool = True,
    owned: Sequence[int] | None = None,
) -> int:
    """Bytes that the covariance will take, if they are `available`.

    Raises
    ------
    InputError
        If they are not, with the numbers and with a block size that would fit.
    """
    needed = covariance_bytes(partition, dtype, lazy_rank, triangles=triangles, owned=owned)
    if needed <= available:
        return needed
    size = fitting_block_size(partition, available, dtype, lazy_rank, triangles=triangles)
    hint = "use a smaller network, or the optimizer adam"
    if size is not None:
        hint = f"partition: reorganized with block_size: {size} would fit"
    if dtype == "float64" and needed <= 2 * available:
        hint += ", or keep the covariance in float32, which takes half of it"
    raise InputError(
        f"the covariance of {partition.n_parameters} weights ({partition.kind}, {len(partition.blocks)} blocks, the "
        f"largest of {max(partition.sizes)}) needs {needed / 1e9:.2f} GB in {dtype}, {available / 1e9:.2f} GB are free",
        where="training.optimizer", hint=hint,
    )  # fmt: skip
