"""The repulsion (ZBL) of neuroevolution potentials as one table: ten numbers for each pair of elements.

Inner and outer distance, Å, between which a cosine switches it off; then amplitude and exponent of each of the four
terms of the screening function. The universal repulsion is a table with the same screening everywhere.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase.data import atomic_numbers

from nnpkit.models.tabulated_zbl import UNIVERSAL_SCREENING

__all__ = ["covalent_radii", "flexible_zbl", "universal_zbl"]

# Covalent radii, Å, of DFT-D3: P. Pyykkö and M. Atsumi, Chem. Eur. J. 15, 186 (2009), those of metals shortened by
# a tenth; S. Grimme et al., J. Chem. Phys. 132, 154104 (2010). GPUMD has them times 4/3 with six digits.
_RADII = (
    "0.32 0.46 1.20 0.94 0.77 0.75 0.71 0.63 0.64 0.67 1.40 1.25 1.13 1.04 1.10 1.02 0.99 0.96 1.76 1.54 "
    "1.33 1.22 1.21 1.10 1.07 1.04 1.00 0.99 1.01 1.09 1.12 1.09 1.15 1.10 1.14 1.17 1.89 1.67 1.47 1.39 "
    "1.32 1.24 1.15 1.13 1.13 1.08 1.15 1.23 1.28 1.26 1.26 1.23 1.32 1.31 2.09 1.76 1.62 1.47 1.58 1.57 "
    "1.56 1.55 1.51 1.52 1.51 1.50 1.49 1.49 1.48 1.53 1.46 1.37 1.31 1.23 1.18 1.16 1.11 1.12 1.13 1.32 "
    "1.30 1.30 1.36 1.31 1.38 1.42 2.01 1.81 1.67 1.58 1.52 1.53 1.54 1.55"
)


def covalent_radii() -> np.ndarray:
    """The radii (94,) that the factor of the line ``zbl`` multiplies, Å."""
    return np.array([float(f"{float(word) * 4.0 / 3.0:.6g}") for word in _RADII.split()])


def universal_zbl(
    elements: Sequence[str], inner: float, outer: float, factor: float | None = None
) -> np.ndarray:
    """Table (T, T, 10) of the universal repulsion.

    Parameters
    ----------
    elements : sequence of str
        T elements.
    inner, outer : float
        Distances, Å, between which it is switched off.
    factor : float, optional
        Switch it off from the nuclei on, to `factor` times the sum of two covalent radii where that is shorter than
        `outer`.
    """
    n = len(elements)
    table = np.zeros((n, n, 10))
    table[..., 0], table[..., 1], table[..., 2:] = inner, outer, UNIVERSAL_SCREENING
    if factor is not None:
        radii = covalent_radii()[[atomic_numbers[e] - 1 for e in elements]]
        table[..., 0] = 0.0
        table[..., 1] = np.minimum(factor * (radii[:, None] + radii), outer)
    return table


def flexible_zbl(values: np.ndarray, n: int) -> np.ndarray:
    """Table (n, n, 10) of the numbers of each pair, in the order 00, 01, ..., 0n, 11, 12, ..."""
    table = np.zeros((n, n, 10))
    upper = np.triu_indices(n)
    table[upper] = values.reshape(-1, 10)
    table[upper[::-1]] = table[upper]
    return table
