"""How large a model the data support: functions of each element and nodes of its network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nnpkit.data.structure import Structure

__all__ = ["count_labels", "hidden_nodes", "most_functions"]

_LABELS_PER_WEIGHT = 10
_WIDTHS = (25, 20, 15, 10)


def count_labels(structures: Sequence[Structure], elements: Sequence[str], forces: bool) -> dict[str, int]:
    """Labels that say something about each element: energies of structures that have it, forces on its atoms."""
    found = dict.fromkeys(elements, 0)
    for structure in structures:
        for element in set(structure.symbols):
            if structure.energy is not None:
                found[element] += 1
            if forces and structure.forces is not None:
                found[element] += 3 * structure.symbols.count(element)
    return found


def most_functions(n_elements: int) -> int:
    """Largest number of symmetry functions of an element.

    All that the recipe generates for one or two elements. Of more elements as many would tell environments apart
    no better, and the work of a filter grows with the square of the number of weights.
    """
    return 40 if n_elements <= 2 else 32


def hidden_nodes(n_inputs: Mapping[str, int], labels: Mapping[str, int]) -> dict[str, list[int]]:
    """Nodes of two hidden layers for each element.

    The widest of a few networks for which an element has ten times as many labels as weights, and which for many
    elements together stay as large as two for two elements: 25 nodes for up to two elements, 20 for three, else 15.

    Parameters
    ----------
    n_inputs : mapping
        Features of each element.
    labels : mapping
        Labels of each element, see `count_labels`.
    """
    n = len(n_inputs)
    limit = 25 if n <= 2 else 20 if n == 3 else 15
    found = {}
    for element, inputs in n_inputs.items():
        weights = {width: width * (inputs + width + 3) + 1 for width in _WIDTHS if width <= limit}
        fitting = [width for width, size in weights.items() if _LABELS_PER_WEIGHT * size <= labels[element]]
        found[element] = [max(fitting, default=min(weights))] * 2
    return found
