"""Exact electrostatics of point and Gaussian charges: open boundaries, and crystals by Ewald's sum.

The energy of charges q is ``1/2 q^T A q``; this module makes the matrix A with its derivatives by positions and strain,
from which forces, stresses and the response of charges follow. Two Gaussian charges with widths s_i and s_j (density
``q (2 pi s^2)^(-3/2) exp(-r^2 / (2 s^2))``) interact by ``erf(r / (sqrt(2) g)) / r`` with ``g^2 = s_i^2 + s_j^2``, a
point charge has s = 0. The diagonal of A holds the interaction with a charge's own images, not with itself.

P. P. Ewald, Ann. Phys. 369, 253 (1921); Gaussian charges as in T. W. Ko, J. A. Finkler, S. Goedecker, J. Behler,
Nat. Commun. 12, 398 (2021); screening as in A. Tokita, J. Behler, J. Chem. Phys. 159, 121501 (2023), eq. 19.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from nnpkit.data.neighbors import neighbor_pairs
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.models.short_range import COULOMB

__all__ = [
    "ACCURACY", "Interaction", "LatticeSum", "coulomb_interaction", "lattice_sum", "screened_interaction", "screening",
]  # fmt: skip

ACCURACY = 1e-12
"""Relative size of the terms that an Ewald sum leaves out."""
_BALANCE = (
    0.6  # of work in real and reciprocal space: sums over wave vectors are products of matrices, and fast
)
_SQRT2 = math.sqrt(2.0)


class Interaction(NamedTuple):
    """Interactions of unit charges at N atoms, eV/e², and their derivatives."""

    matrix: Tensor  # (N, N)
    slope: Tensor  # (N, N, 3) eV/e²/Å: d matrix[i, j] / d position[i], minus that by position[j]
    strain: Tensor  # (N, N, 3, 3): d matrix[i, j] / d strain, positions and cell deformed together

    def less(self, other: Interaction) -> Interaction:
        """The interactions without those of `other`."""
        return Interaction(*(a - b for a, b in zip(self, other, strict=True)))

    def moved(self, displacement: Tensor, strain: Tensor) -> Tensor:
        """The matrix (N, N) as a linear function of displacements (N, 3) and a strain (3, 3), zero here.

        Its derivatives by them are the exact ones, whatever it is multiplied by.
        """
        apart = displacement[:, None, :] - displacement[None, :, :]
        return self.matrix + (self.slope * apart).sum(2) + (self.strain * strain).sum((2, 3))


class LatticeSum(NamedTuple):
    """What is summed over."""

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
        All directions or none; slabs are made of crystals, see `nnpkit.models.slab_electrostatics`.
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
            expected="periodic in three directions, in two or in none",
            hint="put the wire into a cell with vacuum and make it periodic in all directions",
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
    bare = Structure(["X"] * n, where, lattice, np.full(3, True), name=name)
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


class _Pairs(NamedTuple):
    """Vectors (P, 3) and lengths (P,) of pairs, and the square (P,) of their joint width."""

    first: Tensor
    second: Tensor
    vector: Tensor
    length: Tensor
    square: Tensor

    def gathered(self, value: Tensor, slope: Tensor, n: int) -> Interaction:
        """Sums over the pairs of their interactions `value` (P,), which change by `slope` (P,) with the distance."""
        along = slope[:, None] * self.vector / self.length[:, None]
        columns = [value[:, None], -along, (along[:, :, None] * self.vector[:, None, :]).reshape(-1, 9)]
        place = self.first * n + self.second
        flat = torch.zeros(n * n, 13, dtype=value.dtype).index_add(0, place, torch.cat(columns, dim=1))
        return Interaction(
            flat[:, 0].reshape(n, n), flat[:, 1:4].reshape(n, n, 3), flat[:, 4:].reshape(n, n, 3, 3)
        )


def _pairs(positions: Tensor, cell: Tensor, widths: Tensor, lattice: LatticeSum, reach: float) -> _Pairs:
    """The pairs of a lattice sum that are closer than `reach`."""
    vector = positions[lattice.second] + lattice.shift @ cell - positions[lattice.first]
    length = torch.linalg.vector_norm(vector, dim=1)
    kept = torch.nonzero(length < reach).squeeze(1)
    first, second, squares = lattice.first[kept], lattice.second[kept], widths.square()
    return _Pairs(first, second, vector[kept], length[kept], squares[first] + squares[second])


def _with_slope(function: Callable[[Tensor], Tensor], r: Tensor) -> tuple[Tensor, Tensor]:
    """Values and derivatives of a function of every distance by itself."""
    with torch.enable_grad():
        r = r.detach().requires_grad_(True)
        value = function(r)
        (slope,) = torch.autograd.grad(value.sum(), r)
    return value.detach(), slope


def _gaussian(r: Tensor, square: Tensor) -> Tensor:
    """Interaction (P,) of Gaussian charges of a joint width, of point charges where that is 0, times r."""
    joint = torch.where(square > 0.0, square, torch.ones_like(square)).sqrt()
    return torch.where(square > 0.0, torch.erf(r / (_SQRT2 * joint)), torch.ones_like(r))


@torch.no_grad()
def coulomb_interaction(positions: Tensor, cell: Tensor, widths: Tensor, lattice: LatticeSum) -> Interaction:
    """Interactions of unit charges, without that of a charge with itself.

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
    n, eta = len(positions), lattice.splitting
    pairs = _pairs(positions, cell, widths, lattice, math.inf)

    def near(r: Tensor) -> Tensor:
        long = 0.0 if eta == 0.0 else torch.erf(r / (_SQRT2 * eta))
        return COULOMB * (_gaussian(r, pairs.square) - long) / r

    found = pairs.gathered(*_with_slope(near, pairs.length), n)
    if eta == 0.0:
        return found
    far = _reciprocal(positions, cell, widths, lattice)
    return Interaction(*(a + b for a, b in zip(found, far, strict=True)))


def _reciprocal(positions: Tensor, cell: Tensor, widths: Tensor, lattice: LatticeSum) -> Interaction:
    """Sum over wave vectors, less the charge's own part of it, and the background."""
    n, eta, volume = len(positions), lattice.splitting, torch.linalg.det(cell).abs()
    k = 2.0 * math.pi * lattice.waves @ torch.linalg.inv(cell).T
    k2 = k.square().sum(1)
    weight = COULOMB * 8.0 * math.pi / volume * torch.exp(-0.5 * eta**2 * k2) / k2
    phase = positions @ k.T
    cosine, sine = torch.cos(phase), torch.sin(phase)

    def even(w: Tensor) -> Tensor:
        return (cosine * w) @ cosine.T + (sine * w) @ sine.T

    matrix = even(weight)
    slope = torch.stack([(cosine * (weight * a)) @ sine.T - (sine * (weight * a)) @ cosine.T for a in k.T], 2)
    stretch = weight * (2.0 / k2 + eta**2)
    strain = matrix.new_zeros(n, n, 3, 3)
    for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)):
        strain[:, :, a, b] = strain[:, :, b, a] = even(stretch * k[:, a] * k[:, b])
    own = torch.full((n,), COULOMB * 2.0 / (math.sqrt(2.0 * math.pi) * eta), dtype=positions.dtype)
    squares = widths.square()
    background = COULOMB * 2.0 * math.pi / volume * (eta**2 - squares[:, None] - squares[None, :])
    strain = strain - torch.eye(3, dtype=matrix.dtype) * (matrix - background)[:, :, None, None]
    return Interaction(matrix - torch.diag(own) - background, slope, strain)


def screening(r: Tensor, inner: float, outer: float) -> Tensor:
    """Factor that takes the interaction of close charges away: 0 up to `inner`, 1 from `outer` on.

    ``(1 - cos(pi (r - inner) / (outer - inner))) / 2`` between; Tokita and Behler (2023), eq. 19, with `inner` 0.
    """
    x = ((r - inner) / (outer - inner)).clamp(0.0, 1.0)
    return 0.5 * (1.0 - torch.cos(math.pi * x))


@torch.no_grad()
def screened_interaction(
    positions: Tensor, cell: Tensor, widths: Tensor, lattice: LatticeSum, inner: float, outer: float
) -> Interaction:
    """What `screening` takes away from `coulomb_interaction`; arguments as there.

    The `reach` of the lattice sum is `outer` or more.
    """
    pairs = _pairs(positions, cell, widths, lattice, outer)

    def away(r: Tensor) -> Tensor:
        return COULOMB * (1.0 - screening(r, inner, outer)) * _gaussian(r, pairs.square) / r

    return pairs.gathered(*_with_slope(away, pairs.length), len(positions))
