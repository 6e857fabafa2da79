"""What rows of a measurement are: kind, size and structure of their labels, for a filter that judges them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nnpkit.optim.measurement import Origin

__all__ = ["energy_origin", "force_origin", "virial_origin"]


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
