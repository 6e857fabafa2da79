"""Many small tensors that stay lie close together."""

from __future__ import annotations

import pytest
import torch
from test_packed_frames import make_model, structures

from nnpkit.measure import arena
from nnpkit.measure.arena import Arena
from nnpkit.measure.frames import FrameStore
from nnpkit.measure.packed_frames import PackedFrame


def test_copies_have_the_bits_and_kind_of_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one block after the other, and in memory of their own where one is larger than a block."""
    monkeypatch.setattr(arena, "_BLOCK", 1024)
    given = [
        torch.randn(n, 3).to(kind)
        for n in (0, 1, 5, 30, 200)
        for kind in (torch.float64, torch.float32, torch.int8, torch.int64)
    ]
    memory = Arena()
    kept = [memory.keep(tensor) for tensor in given]
    for copy, tensor in zip(kept, given, strict=True):
        assert copy.dtype == tensor.dtype
        assert torch.equal(copy, tensor)
        assert copy.is_contiguous()
        assert copy.data_ptr() % 64 == 0
    blocks = {copy.untyped_storage().data_ptr() for copy in kept if 0 < copy.nbytes <= 1024}
    assert 1 < len(blocks) < 10
    kept[4].zero_()
    assert torch.equal(kept[5], given[5])


def test_structures_of_a_set_are_kept_in_one_block() -> None:
    store = FrameStore(make_model(), structures(), 0.0)
    blocks = set()
    for packed in store.kept.values():
        assert isinstance(packed, PackedFrame)
        own = (packed.neighbor, packed.counts, *packed.sites, packed.rest.features, packed.rest.forces)
        blocks |= {tensor.untyped_storage().data_ptr() for tensor in own}
    assert len(blocks) == 1
