"""The blocks of weights between which the Kalman filter keeps no covariance.

The weights are one vector, a sequence of layers. A partition cuts it into contiguous blocks; the covariance P is
then block-diagonal, and its memory and the work of one update grow like the sum of the squares of the block
sizes. The four ways of Hu et al. (RLEKF, AAAI 2023, "The Splitting Strategy of RLEKF" and Fig. 2), with a block
size N_b, and that of their program:

``global`` (GEKF)
    One block: every covariance is kept.
``layer`` (LEKF)
    One block for each layer.
``split`` (SEKF)
    The vector is cut evenly, wherever layers begin and end: as few blocks as have no more than N_b weights, whose
    sizes differ by at most one ("a load balanced approximation of GEKF").
``reorganized`` (RLEKF)
    Layers larger than N_b are cut into blocks of N_b weights; what remains of them, and the layers that are
    smaller, are gathered with their neighbours as long as the sum does not exceed N_b.
``packed`` (RLEKF as it is programmed)
    Weight matrices and biases, each by itself, are gathered with their neighbours as long as the sum does not exceed
    N_b; one that is larger is cut into blocks of N_b weights and a remainder, with which nothing is gathered.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from nnpkit.errors import InputError

__all__ = ["BLOCK_SIZE", "KINDS", "Block", "Layer", "Partition", "layers_of", "make_partition"]

KINDS = ("global", "layer", "split", "reorganized", "packed")
BLOCK_SIZE = 10240
"""Block size N_b of Hu et al. (they use 5120 as well)."""

_ACRONYMS = {
    "global": "GEKF", "layer": "LEKF", "split": "SEKF", "reorganized": "RLEKF", "packed": "RLEKF as programmed",
}  # fmt: skip


class Layer(NamedTuple):
    """Weights that belong together: `size` consecutive entries of the vector."""

    name: str
    size: int


class Block(NamedTuple):
    """Entries ``start:stop`` of the vector of weights, and what they are."""

    start: int
    stop: int
    name: str

    @property
    def size(self) -> int:
        """Number of weights."""
        return self.stop - self.start


@dataclass(frozen=True)
class Partition:
    """Blocks that cover the vector of weights, in its order.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    block_size : int
        N_b, as it was asked for.
    layers : tuple of Layer
        What was cut.
    blocks : tuple of Block
        The result.
    note : str
        What was done, in one sentence for the person who asked for it.
    """

    kind: str
    block_size: int
    layers: tuple[Layer, ...]
    blocks: tuple[Block, ...]
    note: str

    @property
    def n_parameters(self) -> int:
        """Number of weights."""
        return sum(block.size for block in self.blocks)

    @property
    def sizes(self) -> list[int]:
        """Number of weights of each block."""
        return [block.size for block in self.blocks]

    def owners(self, n_ranks: int) -> list[int]:
        """Rank that keeps each block, so that the work (the squares of the sizes) is shared evenly.

        The largest blocks are given out first, each to the rank with the least work so far; every rank computes
        the same answer.
        """
        work = [0] * n_ranks
        owners = [0] * len(self.blocks)
        for index in sorted(range(len(self.blocks)), key=lambda i: (-self.blocks[i].size, i)):
            owners[index] = min(range(n_ranks), key=lambda rank: (work[rank], rank))
            work[owners[index]] += self.blocks[index].size ** 2
        return owners


def layers_of(parameters: Iterable[tuple[str, int]]) -> list[Layer]:
    """Layers of a network from the names and sizes of its parameters, in the order of the vector.

    Neighbours whose names differ only behind the last dot (``fit.0.weight``, ``fit.0.bias``) are one layer.
    """
    layers: list[Layer] = []
    for full_name, size in parameters:
        name = full_name.rpartition(".")[0] or full_name
        if layers and layers[-1].name == name:
            layers[-1] = Layer(name, layers[-1].size + size)
        else:
            layers.append(Layer(name, size))
    return layers


def make_partition(kind: str, layers: Sequence[Layer], block_size: int = BLOCK_SIZE) -> Partition:
    """Cut the weights of `layers` into blocks.

    Parameters
    ----------
    kind : str
        One of `KINDS`; see the module.
    layers : sequence of Layer
        In the order of the vector of weights; for ``packed`` single weight matrices and biases.
    block_size : int
        Largest number of weights N_b of a block; 0 is no limit. ``global`` and ``layer`` do not use it.

    Returns
    -------
    Partition
        Its `note` says what was done.

    Raises
    ------
    InputError
        If the kind is unknown, the block size is negative or there are no weights.
    """
    if kind not in KINDS:
        raise InputError(
            f"unknown partition {kind!r}",
            where="training.optimizer.partition",
            expected="one of " + ", ".join(KINDS),
        )
    if block_size < 0:
        raise InputError(
            f"the block size is {block_size}", where="training.optimizer.block_size",
            expected="a number of weights, or 0 for no limit",
        )  # fmt: skip
    layers = tuple(Layer(name, size) for name, size in layers if size > 0)
    n_parameters = sum(size for _, size in layers)
    if n_parameters == 0:
        raise InputError("there are no weights to train", where="training.optimizer.partition")
    limit = block_size or n_parameters
    cut = {
        "global": _one_block, "layer": _layers, "split": _split, "reorganized": _reorganized, "packed": _packed,
    }[kind]  # fmt: skip
    blocks = tuple(cut(layers, limit))
    return Partition(kind, block_size, layers, blocks, _note(kind, block_size, n_parameters, blocks))


def _pieces(layers: Sequence[Layer], limit: int) -> list[tuple[Block, bool]]:
    """Layers, cut where they are larger than `limit`; True marks pieces of full size that are not gathered."""
    pieces, start = [], 0
    for name, size in layers:
        for first in range(0, size, limit):
            last = min(first + limit, size)
            label = name if size <= limit else f"{name}[{first}:{last}]"
            pieces.append((Block(start + first, start + last, label), size > limit and last - first == limit))
        start += size
    return pieces


def _one_block(layers: Sequence[Layer], limit: int) -> list[Block]:
    return [Block(0, sum(size for _, size in layers), "all weights")]


def _layers(layers: Sequence[Layer], limit: int) -> list[Block]:
    return [block for block, _ in _pieces(layers, max(size for _, size in layers))]


def _split(layers: Sequence[Layer], limit: int) -> list[Block]:
    total = sum(size for _, size in layers)
    n_blocks = -(-total // limit)
    stops = [0, *((k + 1) * total // n_blocks for k in range(n_blocks))]
    return [Block(a, b, f"weights[{a}:{b}]") for a, b in pairwise(stops)]


def _packed(layers: Sequence[Layer], limit: int) -> list[Block]:
    gathered: list[Layer] = []
    for name, size in layers:
        if gathered and gathered[-1].size + size <= limit:
            gathered[-1] = Layer(f"{gathered[-1].name} + {name}", gathered[-1].size + size)
        else:
            gathered.append(Layer(name, size))
    return [block for block, _ in _pieces(gathered, limit)]


def _reorganized(layers: Sequence[Layer], limit: int) -> list[Block]:
    blocks: list[Block] = []
    gathering = False  # whether the last block may still grow
    for piece, complete in _pieces(layers, limit):
        if gathering and not complete and blocks[-1].size + piece.size <= limit:
            blocks[-1] = Block(blocks[-1].start, piece.stop, f"{blocks[-1].name} + {piece.name}")
        else:
            blocks.append(piece)
        gathering = not complete
    return blocks


def _note(kind: str, block_size: int, n_parameters: int, blocks: Sequence[Block]) -> str:
    """What became of the wish for `kind` and `block_size`."""
    sizes = [block.size for block in blocks]
    if len(sizes) == 1:
        result = f"one block of {n_parameters} weights"
    elif min(sizes) == max(sizes):
        result = f"{len(sizes)} blocks of {sizes[0]} weights"
    else:
        result = f"{len(sizes)} blocks of {min(sizes)} to {max(sizes)} weights"
    text = f"{kind} ({_ACRONYMS[kind]}): {result}"
    if kind in ("global", "layer"):
        return text
    if block_size == 0:
        text += "; block size 0 is no limit"
    elif block_size >= n_parameters:
        text += f"; the block size {block_size} is not less than the number of weights"
    else:
        return f"{text}, block size {block_size}"
    return f"{text}, so this is the partition global (GEKF)"
