"""How much memory the prepared structures of a Deep Potential need."""

from __future__ import annotations

from collections.abc import Sequence

from nnpkit.data.structure import Structure
from nnpkit.measure.structure_memory import derivative_bytes

__all__ = ["moment_bytes"]

_TYPICAL_MOMENTS = 48
_EDGE_NUMBERS = 5  # times three


def moment_bytes(structures: Sequence[Structure], cutoff: float, n_elements: int) -> int:
    """Estimate of the memory for the edges and moments of all `structures` of a Deep Potential."""
    per_atom = 4 * n_elements * _TYPICAL_MOMENTS * 8
    return derivative_bytes(structures, cutoff, _EDGE_NUMBERS) + per_atom * sum(s.n_atoms for s in structures)
