"""Slabs: structures that are periodic in two directions, as crystals with vacuum whose images do not act on each other.

A sum over three directions has a slab repeated across a vacuum. Of the images only what is uniform along the slab
reaches far, and that is known: it is taken away (I.-C. Yeh and M. L. Berkowitz, J. Chem. Phys. 111, 3155 (1999); for
charged slabs V. Ballenegger, A. Arnold and J. J. Cerda, J. Chem. Phys. 131, 094107 (2009)). What varies along the slab
decays across the vacuum, which is as wide as the accuracy asks for.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from nnpkit.models.electrostatics import Interaction
from nnpkit.models.short_range import COULOMB

__all__ = ["SLABS", "with_vacuum", "without_images"]

SLABS = ((True, True, False), (True, False, True), (False, True, True))
"""Periodic directions of slabs."""


def with_vacuum(
    positions: Tensor, cell: Tensor, periodic: tuple[bool, bool, bool], widest: float, accuracy: float
) -> Tensor:
    """The cell (3, 3), Å, with a vector normal to the slab and so long that images are too far to matter.

    Parameters
    ----------
    positions, cell : Tensor
        (N, 3) and (3, 3), Å; the vector of the direction that is not periodic may be anything.
    periodic : tuple of bool
        One of `SLABS`.
    widest : float
        Largest width of a charge, Å.
    accuracy : float
        Relative size of what images still do.
    """
    (normal,) = (k for k in range(3) if not periodic[k])
    first, second = cell[(normal + 1) % 3], cell[(normal + 2) % 3]
    across = torch.linalg.cross(first, second)
    unit = across / torch.linalg.vector_norm(across)
    plane = torch.stack([first, second, unit])
    waves = 2.0 * math.pi * torch.linalg.inv(plane).T[:2]
    shortest = min(
        float(torch.linalg.vector_norm(m * waves[0] + n * waves[1]))
        for m in range(3) for n in range(-2, 3) if m or n
    )  # fmt: skip
    along = positions @ unit
    thickness = float(along.max() - along.min()) if len(along) else 0.0
    decay = -math.log(accuracy)
    vacuum = decay / shortest + 2.0 * widest * math.sqrt(2.0 * decay)
    made = cell.clone()
    made[normal] = unit * (thickness + vacuum)
    return made


@torch.no_grad()
def without_images(
    positions: Tensor, cell: Tensor, widths: Tensor, periodic: tuple[bool, bool, bool]
) -> Interaction:
    """What has to be added to `coulomb_interaction` in the cell `with_vacuum` for a slab to stand alone.

    Of two charges with distance z across the slab, in a cell of height h: ``-2 pi k / V (z^2 + s_i^2 + s_j^2 + h^2 /
    6)``. A slab that is charged as a whole has no background; the energy that remains is that for a potential
    ``-2 pi |z| / area`` of a charged plane.

    Parameters
    ----------
    positions, cell, widths : Tensor
        (N, 3), (3, 3) and (N,), Å.
    periodic : tuple of bool
        One of `SLABS`.
    """
    (normal,) = (k for k in range(3) if not periodic[k])
    n, volume = len(positions), float(torch.linalg.det(cell).abs())
    reciprocal = torch.linalg.inv(cell)[:, normal]  # its length is 1 / h
    height = 1.0 / float(torch.linalg.vector_norm(reciprocal))
    unit = reciprocal * height
    z = positions @ unit
    apart = z[None, :] - z[:, None]
    factor = -2.0 * math.pi * COULOMB / volume
    spread = widths.square()[:, None] + widths.square()[None, :]
    far = apart.square() + height**2 / 6.0
    matrix = factor * (far + spread)
    slope = -2.0 * factor * apart[:, :, None] * unit
    # z / h does not change with a strain, h^2 by twice its part along the normal
    strain = 2.0 * factor * far[:, :, None, None] * torch.outer(unit, unit)
    strain = strain - matrix[:, :, None, None] * torch.eye(3, dtype=matrix.dtype)
    return Interaction(matrix, slope.reshape(n, n, 3), strain)
