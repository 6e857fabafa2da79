"""What rows of a measurement are: kind, size and structure of their labels, for a filter that judges them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from nnpkit.data.structure import Structure
from nnpkit.optim.measurement import KINDS, Origin

__all__ = ["energy_origin", "force_origin", "ordinary_sizes", "virial_origin"]

_ORDINARY = 0.9


def energy_origin(energy: float, n_atoms: int, structure: int) -> Origin:
    """What the row of an `energy` (eV, without reference energies) is."""
    return Origin.of("energy", 1, n_atoms, torch.tensor([abs(energy) / n_atoms]), structure)


def force_origin(vectors: Tensor, structure: int) -> Origin:
    """What the rows of force components are, given the forces (M, 3) on their atoms.

    Their size is that of an average component of the whole force: a small component of a large one is no surer.
    """
    return Origin.of("force", len(vectors), 1.0, vectors.norm(dim=1) / math.sqrt(3.0), structure)


def virial_origin(virial: Tensor, n_atoms: int, structure: int) -> Origin:
    """What the six rows of a `virial` (3, 3) are."""
    return Origin.of("virial", 6, n_atoms, virial.norm()[None] / (3.0 * n_atoms), structure)


def ordinary_sizes(structures: Sequence[Structure], reference: Mapping[str, float]) -> Tensor:
    """Size (3,) of the labels of each kind that nine of ten structures do not exceed, as `Origin.size` has it.

    Of the forces of a structure it is their root mean square that counts. Infinite where there are none but zeros.

    Parameters
    ----------
    structures : sequence of Structure
        With labels; any may be missing.
    reference : mapping
        Reference energy of each element, eV.
    """
    sizes: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for structure in structures:
        n_atoms = structure.n_atoms
        if structure.energy is not None:
            rest = sum(reference[element] * count for element, count in structure.composition.items())
            sizes["energy"].append(abs(structure.energy - rest) / n_atoms)
        if structure.forces is not None:
            sizes["force"].append(float(np.sqrt(np.mean(np.square(structure.forces)))))
        if structure.virial is not None:
            sizes["virial"].append(float(np.linalg.norm(structure.virial)) / (3.0 * n_atoms))
    ordinary = [float(np.quantile(own, _ORDINARY)) if any(own) else math.inf for own in sizes.values()]
    return torch.tensor(ordinary, dtype=torch.float64)
