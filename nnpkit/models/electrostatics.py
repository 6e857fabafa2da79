"""Exact electrostatics of point and Gaussian charges: open boundaries, and crystals by Ewald's sum.

The energy of charges q is ``1/2 q^T A q``; this module makes the matrix A, differentiable in positions and cell, so
that forces, stresses and the response of charges follow. Two Gaussian charges with widths s_i and s_j (density
``q (2 pi s^2)^(-3/2) exp(-r^2 / (2 s^2))``) interact by ``erf(r / (sqrt(2) g)) / r`` with ``g^2 = s_i^2 + s_j^2``, a
point charge has s = 0. The diagonal of A holds the interaction with a charge's own images, not with itself.

P. P. Ewald, Ann. Phys. 369, 253 (1921); Gaussian charges as in T. W. Ko, J. A. Finkler, S. Goedecker, J. Behler,
Nat. Commun. 12, 398 (2021); screening as in A. Tokita, J. Behler, J. Chem. Phys. 159, 121501 (2023), eq. 19.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nnpkit.data.neighbors import neighbor_pairs
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.models.short_range import COULOMB

__all__ = ["ACCURACY", "LatticeSum", "coulomb_matrix", "lattice_sum", "screened_part", "screening"]

ACCURACY = 1e-12
"""Relative size of the terms that an Ewald sum leaves out."""
_BALANCE = (
    0.6  # of work in real and reciprocal space: sums over wave vectors are products of matrices, and fast
)
_SQRT2 = math.sqrt(2.0)


class LatticeSum(NamedTuple):
    """What is summed over: nothing of it is differentiated."""

    first: Tensor  # (P,) atom i of every ordered pair of atoms or of an atom and an image of itself
    second: Tensor  # (P,) atom j
    shift: Tensor  # (P, 3) image of j in lattice vectors
    splitting: float  # Å, width of the Gaussian that divides the sum; 0: open boundaries, no reciprocal part
    waves: Tensor  # (K, 3) wave vectors in reciprocal lattice vectors, one of k and -k


def lattice_sum(
    positions: Tensor,
    cell: Tensor,
    periodic: tuple[bool, bool, bool],
    widest: float = 0.0,
    reach: float = 0.0,
    accuracy: float = ACCURACY,
    splitting: float | None = None,
    name: str = "",
) -> LatticeSum:
    """Pairs and wave vectors of the sum over a structure.

    Parameters
    ----------
    positions, cell : Tensor
        (N, 3) and (3, 3), Å.
    periodic : tuple of bool
        All directions or none.
    widest : float
        Largest width of a charge, Å.
    reach : float
        Distance up to which every pair is needed, Å: the end of a screening.
    accuracy : float
        Relative size of what is left out.
    splitting : float, optional
        Å; chosen from volume and number of atoms by default. The result does not depend on it.
    name : str
        Of the structure, for messages.

    Raises
    ------
    InputError
        If the structure is periodic in one or two directions, or two atoms are at the same place.
    """
    where, n = positions.detach().numpy(), len(positions)
    lattice = cell.detach().numpy()
    if any(periodic) and not all(periodic):
        raise InputError(
            f"electrostatics of a structure with pbc {' '.join('FT'[p] for p in periodic)}", where=name or None,
            expected="periodic in all three directions or in none",
            hint="put the slab or wire into a cell with vacuum and make it periodic in all directions",
        )  # fmt: skip
    if not any(periodic):
        first, second = torch.nonzero(~torch.eye(n, dtype=torch.bool), as_tuple=True)
        none = torch.zeros((0, 3), dtype=torch.float64)
        return LatticeSum(first, second, torch.zeros((len(first), 3), dtype=torch.float64), 0.0, none)
    volume = abs(float(np.linalg.det(lattice)))
    if splitting is None:
        splitting = _BALANCE * (volume**2 / n) ** (1.0 / 6.0) / math.sqrt(2.0 * math.pi)
        splitting = max(splitting, _SQRT2 * widest)
    steps = math.sqrt(-2.0 * math.log(accuracy))
    cutoff = max(steps * max(splitting, _SQRT2 * widest), reach)
    bare = Structure(["X"] * n, where, lattice, [True] * 3, name=name)
    pairs = neighbor_pairs(bare, cutoff)
    return LatticeSum(
        torch.as_tensor(pairs.center), torch.as_tensor(pairs.neighbor),
        torch.as_tensor(pairs.shift, dtype=torch.float64), splitting, _waves(lattice, steps / splitting),
    )  # fmt: skip


def _waves(cell: np.ndarray, longest: float) -> Tensor:
    """Wave vectors (K, 3), in reciprocal lattice vectors, up to the length `longest` (1/Å); one of k and -k."""
    most = np.ceil(longest * np.linalg.norm(cell, axis=1) / (2.0 * math.pi)).astype(int)
    axes = [np.arange(-m, m + 1) for m in most]
    axes[0] = axes[0][most[0] :]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    a, b, c = grid.T
    half = (a > 0) | ((a == 0) & ((b > 0) | ((b == 0) & (c > 0))))
    k = 2.0 * math.pi * grid @ np.linalg.inv(cell).T
    return torch.as_tensor(grid[half & ((k * k).sum(1) <= longest**2)], dtype=torch.float64)


def _distances(positions: Tensor, cell: Tensor, lattice: LatticeSum) -> Tensor:
    vectors = positions[lattice.second] + lattice.shift @ cell - positions[lattice.first]
    return torch.linalg.vector_norm(vectors, dim=1)


def _joint_squares(widths: Tensor, lattice: LatticeSum) -> Tensor:
    squares = widths.square()
    return squares[lattice.first] + squares[lattice.second]


def _gathered(values: Tensor, lattice: LatticeSum, n: int) -> Tensor:
    """Matrix (n, n) of the sums of the `values` of all pairs."""
    flat = torch.zeros(n * n, dtype=values.dtype).index_add(0, lattice.first * n + lattice.second, values)
    return flat.reshape(n, n)


def coulomb_matrix(positions: Tensor, cell: Tensor, widths: Tensor, lattice: LatticeSum) -> Tensor:
    """Interactions A (N, N) of unit charges, eV/e², without that of a charge with itself.

    In a crystal the average of the potential over the cell is zero: a cell that is charged as a whole stands in a
    uniform background that neutralises it.

    Parameters
    ----------
    positions, cell : Tensor
        (N, 3) and (3, 3), Å.
    widths : Tensor
        (N,) Å; 0 for a point charge.
    lattice : LatticeSum
        Of these positions.
    """
    n, r, square = len(positions), _distances(positions, cell, lattice), _joint_squares(widths, lattice)
    gaussian = square > 0.0
    joint = torch.where(gaussian, square, torch.ones_like(square)).sqrt()
    if lattice.splitting == 0.0:
        shape = torch.where(gaussian, torch.erf(r / (_SQRT2 * joint)), torch.ones_like(r))
        return COULOMB * _gathered(shape / r, lattice, n)
    eta = lattice.splitting
    overlap = torch.where(gaussian, torch.erfc(r / (_SQRT2 * joint)), torch.zeros_like(r))
    near = _gathered((torch.erfc(r / (_SQRT2 * eta)) - overlap) / r, lattice, n)
    volume = torch.linalg.det(cell).abs()
    k = 2.0 * math.pi * lattice.waves @ torch.linalg.inv(cell).T
    k2 = k.square().sum(1)
    weight = 8.0 * math.pi / volume * torch.exp(-0.5 * eta**2 * k2) / k2
    phase = positions @ k.T
    cosine, sine = torch.cos(phase), torch.sin(phase)
    far = (cosine * weight) @ cosine.T + (sine * weight) @ sine.T
    own = torch.full((n,), 2.0 / (math.sqrt(2.0 * math.pi) * eta), dtype=positions.dtype)
    squares = widths.square()
    background = 2.0 * math.pi / volume * (eta**2 - squares[:, None] - squares[None, :])
    return COULOMB * (near + far - torch.diag(own) - background)


def screening(r: Tensor, inner: float, outer: float) -> Tensor:
    """Factor that takes the interaction of close charges away: 0 up to `inner`, 1 from `outer` on.

    ``(1 - cos(pi (r - inner) / (outer - inner))) / 2`` between; Tokita and Behler (2023), eq. 19, with `inner` 0.
    """
    x = ((r - inner) / (outer - inner)).clamp(0.0, 1.0)
    return 0.5 * (1.0 - torch.cos(math.pi * x))


def screened_part(
    positions: Tensor, cell: Tensor, widths: Tensor, lattice: LatticeSum, inner: float, outer: float
) -> Tensor:
    """What `screening` takes away from `coulomb_matrix`: (N, N), eV/e²; arguments as there.

    The `reach` of the lattice sum is `outer` or more.
    """
    r = _distances(positions, cell, lattice)
    close = torch.nonzero(r < outer).squeeze(1)
    some = lattice._replace(first=lattice.first[close], second=lattice.second[close])
    r, square = r[close], _joint_squares(widths, some)
    gaussian = square > 0.0
    joint = torch.where(gaussian, square, torch.ones_like(square)).sqrt()
    shape = torch.where(gaussian, torch.erf(r / (_SQRT2 * joint)), torch.ones_like(r))
    return COULOMB * _gathered((1.0 - screening(r, inner, outer)) * shape / r, some, len(positions))
