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

from nnpkit.optim.covariance import Covariance
from nnpkit.optim.covariance_pieces import blocks_of, pieces_of, require_same_blocks, restore_pieces
from nnpkit.optim.late_tensors import joined, only
from nnpkit.optim.partition import Block, Partition
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
        return own if self.ranks.size == 1 else self.ranks.add(self._widened(own))

    def _widened(self, own: Tensor) -> Tensor:
        """What this rank adds to a vector of all weights (P,)."""
        if not self.shared:
            return own if self.ranks.leads else torch.zeros_like(own)
        whole = own.new_zeros(self.partition.n_parameters)
        whole[self.columns[self.ranks.rank]] = own
        return whole

    def conclude(self, own: Tensor, square: Tensor, failed: bool) -> tuple[Tensor, Tensor, bool]:
        """What all ranks have to know at the end of an update, in one call.

        Parameters
        ----------
        own : Tensor
            Change of the weights of this rank.
        square : Tensor
            A sum (0-dim) over these weights.
        failed : bool
            Whether this rank cannot go on.

        Returns
        -------
        tuple
            Change of all weights (P,), the sum over all, and whether some rank cannot go on.
        """
        if self.ranks.size == 1:
            return own, square, failed
        numbers = [square if self.shared or self.ranks.leads else 0.0, failed]
        small = torch.stack([torch.as_tensor(number).to(own) for number in numbers])
        total = self.ranks.add(torch.cat([self._widened(own), small]))
        return total[:-2], total[-2], bool(total[-1] > 0.0)

    def state_dict(self, covariance: Covariance) -> Mapping[str, Tensor]:
        """State of the covariance, without the blocks that other processes keep; all call this together."""
        if not self.shared:
            replicas = covariance.state_dict()
            own = pieces_of(covariance.lazy_blocks, self.owned, self.ranks.leads)
            return joined(only(replicas, lambda name: "/" not in name), own)
        small, drift = {"blocks": blocks_of(self.partition)}, covariance.drift
        if drift is not None:
            small |= {"probe": self.spread(drift.probe), "image": self.spread(drift.image)}
        if self.ranks.any(covariance.active is not None):
            active = covariance.active
            active = torch.ones(self.mine.n_parameters, dtype=torch.bool) if active is None else active
            small["active"] = self.spread(active.to(torch.float64)) > 0.5
        return joined(small, pieces_of(covariance.lazy_blocks, self.owned))

    def load_state_dict(self, covariance: Covariance, state: Mapping[str, Tensor]) -> None:
        """Restore what all processes together gave in `state_dict`, whatever their number was.

        Raises
        ------
        InputError
            If it belongs to another partition or to a higher precision.
        """
        require_same_blocks(state, self.partition)
        active = state.get("active")
        covariance.know(None if active is None else self.narrow(active))
        restore_pieces(covariance.lazy_blocks, self.owned, state)
        if covariance.drift is not None and "probe" in state:
            covariance.drift.probe.copy_(self.narrow(state["probe"]))
            covariance.drift.image.copy_(self.narrow(state["image"]))
