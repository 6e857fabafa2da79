"""How much memory a training needs, and how much there is."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from nnpkit.data.neighbors import neighbor_pairs
from nnpkit.data.structure import Structure

__all__ = ["available_memory", "derivative_bytes", "moment_bytes"]

_SAMPLE = 5
_TYPICAL_MOMENTS = 48
_EDGE_NUMBERS = 5  # times three


def available_memory() -> int:
    """Bytes that this process can still get, container limits included."""
    candidates = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")]
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        if "MemAvailable" in fields:
            candidates = [int(fields["MemAvailable"].split()[0]) * 1024]
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (group / "memory.max").read_text(), (group / "memory.current").read_text()
        candidates.append(int(limit) - int(used))  # "max" where there is no limit
    except (OSError, ValueError):
        pass
    return max(0, min(candidates))


def derivative_bytes(structures: Sequence[Structure], cutoff: float, n_features: int) -> int:
    """Estimate of the memory for the derivatives of `n_features` features of all `structures`."""
    if not structures:
        return 0
    step = max(1, len(structures) // _SAMPLE)
    sample = structures[::step][:_SAMPLE]
    per_atom = sum(len(neighbor_pairs(s, cutoff).center) for s in sample) / sum(s.n_atoms for s in sample)
    return round(per_atom * sum(s.n_atoms for s in structures) * n_features * 3 * 8)


def moment_bytes(structures: Sequence[Structure], cutoff: float, n_elements: int) -> int:
    """Estimate of the memory for the edges and moments of all `structures` of a Deep Potential."""
    per_atom = 4 * n_elements * _TYPICAL_MOMENTS * 8
    return derivative_bytes(structures, cutoff, _EDGE_NUMBERS) + per_atom * sum(s.n_atoms for s in structures)
