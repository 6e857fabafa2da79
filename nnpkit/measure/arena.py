"""Memory for many small tensors that stay."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["Arena"]

_BLOCK = 64 << 20  # bytes; large enough to come from the kernel, which gives pages when they are written
_ALIGNED = 64  # bytes


class Arena:
    """Blocks in which tensors lie close together.

    Allocated one by one among temporary tensors, those that stay leave holes between them that the next temporary ones
    do not fit into: ten thousand structures took 1.8 times the memory of their tensors.
    """

    def __init__(self) -> None:
        self._block = torch.empty(0, dtype=torch.uint8)
        self._used = 0

    def keep(self, tensor: Tensor) -> Tensor:
        """A copy of a `tensor` of the CPU, of any shape and kind."""
        size = tensor.nbytes
        if size == 0 or size > _BLOCK:
            return tensor.clone()
        if self._used + size > len(self._block):
            self._block, self._used = torch.empty(_BLOCK, dtype=torch.uint8), 0
        kept = self._block[self._used : self._used + size].view(tensor.dtype).view(tensor.shape)
        self._used += -(-size // _ALIGNED) * _ALIGNED
        return kept.copy_(tensor)
