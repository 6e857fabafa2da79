"""The blocks of a covariance, shared by processes: who keeps which, and how they become one again.

Every block belongs to one rank. A rank sees the columns of its blocks side by side, as a partition of their own; what
is a sum over all weights is added up over the ranks. If there are fewer blocks than ranks, large blocks are spread by
their rows and all ranks keep the small ones; the first rank says how the weights change, so that processors of
different kinds cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from itertools import accumulate

import torch
from torch import Tensor

from nnpkit.optim.covariance import Covariance, require_same_blocks, require_same_storage
from nnpkit.optim.partition import Block, Partition
from nnpkit.optim.symmetric import allocate, matrices_in
from nnpkit.parallel import Ranks

__all__ = ["SharedBlocks"]


class SharedBlocks:
    """Which rank keeps which blocks of a partition.

    Parameters
    ----------
    partition : Partition
        All blocks.
    ranks : Ranks
        Who shares them.

    Attributes
    ----------
    shared : bool
        Whether each rank keeps some of the blocks only.
    owned : list of int
        Blocks that this rank keeps.
    mine : Partition
        These, side by side.
    columns : list
        For each rank the indices of its weights, ascending.
    spread_over : Ranks or None
        Who shares the rows of large blocks, if that is how they are shared.
    """

    def __init__(self, partition: Partition, ranks: Ranks) -> None:
        self.partition, self.ranks = partition, ranks
        self.shared = ranks.size > 1 and len(partition.blocks) >= ranks.size
        self.owned, self.mine = list(range(len(partition.blocks))), partition
        self.columns: list[Tensor | slice] = [slice(None)] * ranks.size
        self.spread_over = ranks if ranks.size > 1 and not self.shared else None
        if not self.shared:
            return
        self.owners = partition.owners(ranks.size)
        self.owned = self._of(ranks.rank)
        blocks = [partition.blocks[index] for index in self.owned]
        stops = accumulate(block.size for block in blocks)
        own = tuple(Block(stop - b.size, stop, b.name) for b, stop in zip(blocks, stops, strict=True))
        self.mine = replace(partition, blocks=own)
        self.columns = [
            torch.cat([torch.arange(b.start, b.stop) for b in (partition.blocks[i] for i in self._of(rank))])
            for rank in range(ranks.size)
        ]

    def _of(self, rank: int) -> list[int]:
        return [index for index, owner in enumerate(self.owners) if owner == rank]

    def narrow(self, tensor: Tensor) -> Tensor:
        """The columns of this rank of a tensor (..., P)."""
        return tensor[..., self.columns[self.ranks.rank]] if self.shared else tensor

    def add(self, tensor: Tensor) -> Tensor:
        """Sum over the ranks of something to which each adds its blocks' part."""
        return self.ranks.add(tensor) if self.shared else tensor

    def spread(self, own: Tensor) -> Tensor:
        """A vector of all weights (P,) from the parts that the ranks have."""
        if not self.shared:
            return (
                own
                if self.ranks.size == 1
                else self.ranks.add(own if self.ranks.leads else torch.zeros_like(own))
            )
        whole = own.new_zeros(self.partition.n_parameters)
        whole[self.columns[self.ranks.rank]] = own
        return self.ranks.add(whole)

    def state_dict(self, covariance: Covariance) -> dict[str, Tensor]:
        """State of the covariance of all blocks, as one process would have it; empty on all ranks but the first."""
        if covariance.is_spread:
            return self._whole_state(covariance)
        if not self.shared:
            return covariance.state_dict()
        sizes, first = self.partition.sizes, self.ranks.leads
        arrays, matrices = allocate(
            sizes if first else [], covariance.triangles, covariance.dtype, covariance.device
        )
        scales = torch.zeros(len(sizes), dtype=torch.float64)
        state: dict[str, Tensor] = {}
        rows: list[list[float]] = [
            [index, lazy.count, lazy.scale]
            for index, lazy in zip(self.owned, covariance.lazy_blocks, strict=True)
        ]
        counts = {
            int(index): (count, scale) for own in self.ranks.collect(rows) for index, count, scale in own
        }
        for index, size in enumerate(sizes):
            count, scales[index] = counts[index]
            shape = (size + int(count), size)
            sent = torch.zeros(0, dtype=covariance.dtype)
            if index in self.owned:
                lazy = covariance.lazy_blocks[self.owned.index(index)]
                sent = torch.cat([lazy.matrix.dense(), lazy.pending])
            parts = [sent if rank == 0 else sent[:0] for rank in range(self.ranks.size)]
            shapes = [
                shape if first and rank == self.owners[index] else (0, size)
                for rank in range(self.ranks.size)
            ]
            received = torch.cat(self.ranks.exchange(parts, shapes))
            if first:
                matrices[index].assign(received[:size])
                state[f"pending.{index}"] = received[size:].clone()
        drift = covariance.drift
        vectors = (
            {} if drift is None else {"probe": self.spread(drift.probe), "image": self.spread(drift.image)}
        )
        active = None
        if self.ranks.any(covariance.active is not None):
            own = covariance.active
            own = torch.ones(self.mine.n_parameters, dtype=torch.bool) if own is None else own
            active = self.spread(own.to(torch.float64)) > 0.5
        if not first:
            return {}
        return {
            "blocks": torch.tensor([(b.start, b.stop) for b in self.partition.blocks]),
            "owned": torch.arange(len(sizes)),
            "scale": scales,
            **{f"matrix.{index}": array for index, array in enumerate(arrays)},
            **state, **vectors,
            **({} if active is None else {"active": active}),
        }  # fmt: skip

    def _whole_state(self, covariance: Covariance) -> dict[str, Tensor]:
        """State of a covariance whose large blocks are spread by their rows, one block at a time."""
        first = self.ranks.leads
        sizes = self.partition.sizes if first else []
        arrays, matrices = allocate(sizes, covariance.triangles, covariance.dtype, covariance.device)
        for index, lazy in enumerate(covariance.lazy_blocks):
            dense = lazy.matrix.dense()
            if first:
                matrices[index].assign(dense)
        own = covariance.state_dict()
        whole = {name: value for name, value in own.items() if not name.startswith("matrix.")}
        return whole | {f"matrix.{index}": array for index, array in enumerate(arrays)} if first else {}

    def load_state_dict(self, covariance: Covariance, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` gave on the first rank, here or for another number of processes.

        Raises
        ------
        InputError
            If it belongs to another partition, precision or kind of device.
        """
        if not self.shared and not covariance.is_spread:
            covariance.load_state_dict(state)
            return
        require_same_blocks(state, self.partition)
        sizes = self.partition.sizes
        names = [name for name in state if name.startswith("matrix.")]
        arrays = [state[f"matrix.{index}"] for index in range(len(names))]
        require_same_storage(arrays, sizes, covariance)
        matrices = matrices_in(arrays, sizes, covariance.triangles)
        active = state.get("active")
        covariance.know(None if active is None else self.narrow(active))
        for own, index in enumerate(self.owned):
            lazy = covariance.lazy_blocks[own]
            lazy.matrix.assign(matrices[index].dense().to(covariance.dtype))
            lazy.restore(state[f"pending.{index}"].to(lazy.buffer), float(state["scale"][index]))
        if covariance.drift is not None and "probe" in state:
            covariance.drift.probe.copy_(self.narrow(state["probe"]))
            covariance.drift.image.copy_(self.narrow(state["image"]))
