"""The blocks of a covariance as pieces: what a checkpoint keeps of each, in files of their own.

The piece of a block is its lower triangle, row by row, with what is pending and the scale; see
`nnpkit.optim.covariance`. It says nothing of processes, devices or of where in memory the block was. If several
processes share a block by its rows each has a piece with its own ones, which is named after the first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from nnpkit.errors import InputError
from nnpkit.optim.late_tensors import LateTensors
from nnpkit.optim.lazy_block import LazyBlock
from nnpkit.optim.partition import Partition
from nnpkit.optim.symmetric import packed_numbers

__all__ = ["blocks_of", "pieces_of", "require_same_blocks", "restore_pieces"]

_TRIANGLE = re.compile(r"(block-(\d{5,})(?:-row-(\d{6,}))?)/triangle$")


def blocks_of(partition: Partition) -> Tensor:
    """First weights of the blocks and the ones behind the last, (blocks, 2)."""
    return torch.tensor([(block.start, block.stop) for block in partition.blocks])


def pieces_of(blocks: Sequence[LazyBlock], numbers: Sequence[int], writes: bool = True) -> LateTensors:
    """What a checkpoint keeps of `blocks`, which have these numbers.

    Of those that are kept whole nothing if this process does not write: then another one has the same.
    """
    makers: dict[str, Callable[[], Tensor]] = {}
    for number, lazy in zip(numbers, blocks, strict=True):
        first, stop = lazy.matrix.kept
        whole = stop - first == lazy.where.stop - lazy.where.start
        if first == stop or (whole and not writes):
            continue
        name = f"block-{number:05d}" + (f"-row-{first:06d}" if first else "")
        makers[f"{name}/triangle"] = lazy.matrix.packed
        if first == 0:
            makers[f"{name}/pending"] = lambda lazy=lazy: lazy.pending.clone()  # type: ignore[misc]
            if lazy.stretch is not None:
                makers[f"{name}/stretch"] = lambda lazy=lazy: lazy.stretch.clone()  # type: ignore[misc]
            makers[f"{name}/scale"] = lambda lazy=lazy: torch.tensor(lazy.scale, dtype=torch.float64)  # type: ignore[misc]
    return LateTensors(makers)


def restore_pieces(blocks: Sequence[LazyBlock], numbers: Sequence[int], state: Mapping[str, Tensor]) -> None:
    """Take over `pieces_of`, of any number of processes; only pieces that belong to `blocks` are read.

    Raises
    ------
    InputError
        If one is missing, or of higher precision.
    """
    pieces: dict[int, dict[int, str]] = {}
    for name in state:
        if match := _TRIANGLE.match(name):
            pieces.setdefault(int(match[2]), {})[int(match[3] or 0)] = match[1]
    for number, lazy in zip(numbers, blocks, strict=True):
        own = pieces.get(number, {})
        size = lazy.where.stop - lazy.where.start
        lazy.matrix.unpack(
            _rows(own, size, *lazy.matrix.kept, state, lazy.buffer.dtype).to(lazy.buffer.device)
        )
        pending = state[f"{own[0]}/pending"].to(lazy.buffer)
        stretch = state.get(f"{own[0]}/stretch")
        stretch = None if stretch is None else stretch.to(lazy.buffer)
        lazy.restore(pending, float(state[f"{own[0]}/scale"]), stretch)


def _rows(
    pieces: Mapping[int, str],
    size: int,
    first: int,
    stop: int,
    state: Mapping[str, Tensor],
    dtype: torch.dtype,
) -> Tensor:
    """The packed rows from `first` to before `stop` of a block of this size, whose pieces begin with these rows."""
    begins = [*sorted(pieces), size]
    found = []
    for begin, end in pairwise(begins):
        low, high = max(begin, first), min(end, stop)
        if low >= high:
            continue
        packed = state[f"{pieces[begin]}/triangle"]
        if packed.dtype != dtype and dtype == torch.float32:
            raise InputError(
                "the checkpoint's covariance is stored in another way", where="training.optimizer",
                expected="float32", hint="precision can be raised but not lowered",
            )  # fmt: skip
        if len(packed) == packed_numbers(begin, end):
            found.append(packed[packed_numbers(begin, low) : packed_numbers(begin, high)].to(dtype))
    rows = torch.cat(found) if found else torch.zeros(0, dtype=dtype)
    if 0 not in pieces or len(rows) != packed_numbers(first, stop):
        raise _unreadable()
    return rows


def _unreadable() -> InputError:
    return InputError(
        "the checkpoint has no covariance that this version can read", where="training.optimizer",
        hint="start a new run",
    )  # fmt: skip


def require_same_blocks(state: Mapping[str, Tensor], partition: Partition) -> None:
    """Refuse the state of the covariance of another partition.

    Raises
    ------
    InputError
        With the sizes of the blocks of both.
    """
    if "blocks" not in state:
        raise _unreadable()
    blocks, found = blocks_of(partition), state["blocks"].cpu()
    if not torch.equal(found, blocks):
        raise InputError(
            f"the checkpoint's covariance is of another partition: {_in_words(found)}",
            where="training.optimizer", expected=_in_words(blocks),
            hint="restore partition, block_size and the model of the run that wrote the checkpoint",
        )  # fmt: skip


def _in_words(blocks: Tensor) -> str:
    sizes = (blocks[:, 1] - blocks[:, 0]).tolist()
    text = ", ".join(map(str, sizes[:6])) + (", ..." if len(sizes) > 6 else "")
    return (
        f"{sum(sizes)} weights in blocks of {text}"
        if len(sizes) > 1
        else f"{sum(sizes)} weights in one block"
    )
