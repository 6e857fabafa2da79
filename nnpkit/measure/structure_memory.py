"""How much memory the prepared structures of a training need, and what becomes of memory that is freed."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from nnpkit.data.neighbors import neighbor_pairs
from nnpkit.data.structure import Structure

__all__ = ["derivative_bytes", "keep_freed_memory"]

_SAMPLE = 5
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_MEGABYTE = 1 << 20


def keep_freed_memory() -> bool:
    """Let the process keep what it frees, where the C library is glibc; whether that could be asked for.

    Updates allocate and free tens of MB. By default that is given back to the kernel each time, and half of the
    time of a Kalman training of a Deep Potential goes into page faults.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):
        return False
    kept = mallopt(_M_TRIM_THRESHOLD, 1024 * _MEGABYTE)
    return bool(kept and mallopt(_M_MMAP_THRESHOLD, 32 * _MEGABYTE))


def derivative_bytes(structures: Sequence[Structure], cutoff: float, n_features: int) -> int:
    """Estimate of the memory for the derivatives of `n_features` features of all `structures`."""
    if not structures:
        return 0
    step = max(1, len(structures) // _SAMPLE)
    sample = structures[::step][:_SAMPLE]
    per_atom = sum(len(neighbor_pairs(s, cutoff).center) for s in sample) / sum(s.n_atoms for s in sample)
    return round(per_atom * sum(s.n_atoms for s in structures) * n_features * 3 * 8)
