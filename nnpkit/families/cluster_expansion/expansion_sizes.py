"""How large a cluster expansion the data support."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["ExpansionSize", "supported_expansion"]

_LABELS_PER_WEIGHT = 10
_BASIS, _INVARIANTS = 8, 9  # of the default settings


class ExpansionSize(NamedTuple):
    """Channels of the radial and of the angular functions, and nodes of each of two hidden layers."""

    channels: int
    nodes: int

    def n_weights(self, n_elements: int) -> int:
        """Weights of all elements together, about."""
        inputs = self.channels * (1 + _INVARIANTS)
        network = self.nodes * (inputs + self.nodes + 3) + 1
        return n_elements * network + 2 * n_elements**2 * self.channels * _BASIS


_SIZES = (ExpansionSize(8, 16), ExpansionSize(6, 14), ExpansionSize(5, 12), ExpansionSize(4, 10))


def supported_expansion(labels: Mapping[str, int]) -> ExpansionSize:
    """The largest of four sizes for which there are ten times as many labels as weights.

    That for two elements begins with the second one, and so on: an update of all weights of a filter costs their
    square, and every element brings a network and coefficients of its pairs.

    Parameters
    ----------
    labels : mapping
        Labels of each element, see `nnpkit.models.sizes.count_labels`.
    """
    n = len(labels)
    for size in _SIZES[min(n, len(_SIZES)) - 1 :]:
        if _LABELS_PER_WEIGHT * size.n_weights(n) <= sum(labels.values()):
            return size
    return _SIZES[-1]
