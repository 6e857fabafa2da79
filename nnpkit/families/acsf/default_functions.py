"""Symmetry functions chosen from the data, with reasons.

The recipe is Box 3 of Tokita and Behler, J. Chem. Phys. 159, 121501 (2023): radial functions whose inflection
points divide the range between the shortest distance in the data and the widest function evenly, angular functions
with ``zeta = 1, 2, 4, 16`` and ``lambda = +-1``, and no function whose values hardly vary over the data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import combinations_with_replacement

import numpy as np
import torch
from scipy.optimize import brentq
from torch import Tensor

from nnpkit.families.acsf.symmetry_functions import SymmetryFunction
from nnpkit.models.cutoff import cutoff_function

__all__ = ["default_functions", "narrow_functions", "radial_etas"]


@lru_cache
def _cutoff_derivatives(cutoff: float, kind: str, inner: float) -> tuple[np.ndarray, ...]:
    """Distances (Å) across the cutoff, and the cutoff function with two derivatives there."""
    x = torch.linspace(0.02 * cutoff, 0.98 * cutoff, 2001, dtype=torch.float64, requires_grad=True)
    value = cutoff_function(x, cutoff, kind, inner)
    (first,) = torch.autograd.grad(value.sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    return tuple(t.detach().numpy() for t in (x, value, first, second))


def _inflection(eta: float, cutoff: float, kind: str, inner: float) -> float:
    """First distance where the curvature of ``exp(-eta r^2) fc(r)`` turns positive; 0 if it nowhere does."""
    r, f, df, ddf = _cutoff_derivatives(cutoff, kind, inner)
    curvature = ddf - 4.0 * eta * r * df + (4.0 * eta * eta * r * r - 2.0 * eta) * f  # over exp(-eta r^2)
    turning = np.nonzero((curvature[:-1] < 0.0) & (curvature[1:] >= 0.0))[0]
    if len(turning) == 0:
        return 0.0
    n = turning[0]
    return float(r[n] + (r[n + 1] - r[n]) * curvature[n] / (curvature[n] - curvature[n + 1]))


def radial_etas(shortest: float, count: int, cutoff: float, kind: str, inner: float = 0.0) -> list[float]:
    """Exponents (1/Å²) of `count` radial functions of an element pair, from 0 (widest) upwards.

    Parameters
    ----------
    shortest : float
        Shortest distance of the pair in the data, Å: the inflection point of the narrowest function.
    count, cutoff, kind, inner
        Number of functions, cutoff radius (Å) and cutoff function. Where the cutoff function itself turns
        closer than `shortest` (tanh3 does), the inflection points are those of the Gaussian alone. A pair
        that only meets in the outer half of the sphere gets the exponents of one that meets at 0.45 cutoff.
    """
    shortest = min(shortest, 0.45 * cutoff)
    widest = _inflection(0.0, cutoff, kind, inner)
    targets = np.linspace(max(widest, 0.5 * cutoff), shortest, count)[1:]
    if widest < 0.45 * cutoff:
        return [0.0, *(float(0.5 / target**2) for target in targets)]
    return [0.0, *(_eta_for_inflection(float(target), cutoff, kind, inner) for target in targets)]


def _eta_for_inflection(target: float, cutoff: float, kind: str, inner: float) -> float:
    """Exponent that puts the inflection point at `target`."""

    def distance(eta: float) -> float:
        return _inflection(eta, cutoff, kind, inner) - target

    upper = 1.0 / target**2
    while distance(upper) > 0.0:
        upper *= 2.0
    return float(brentq(distance, 0.0, upper, xtol=1e-6))


def default_functions(
    elements: Sequence[str],
    minimum_distance: Mapping[str, float],
    *,
    cutoff: float,
    angular_cutoff: float,
    kind: str,
    inner: float = 0.0,
    radial: int = 8,
    zetas: Sequence[float] = (1.0, 2.0, 4.0, 16.0),
    angular_etas: Sequence[float] | None = None,
    wide: bool = False,
) -> tuple[list[SymmetryFunction], list[str]]:
    """Box 3's default set for data with the given shortest distances, before pruning, and a report.

    Parameters
    ----------
    minimum_distance : mapping
        Shortest distance in the data, Å, of each pair ``"A-B"``; a pair that is missing never meets inside
        the cutoff and gets no functions.
    cutoff, angular_cutoff : float
        Cutoff radii of radial and angular functions, Å.
    kind, inner : str, float
        Cutoff function.
    radial : int
        Radial functions per element pair.
    zetas, angular_etas : sequence of float
        Angular exponents, and Gaussian exponents in 1/Å²; by default 0.02 and 0.1 for one element, whose angular
        functions are few, and 0.05 for several.
    wide : bool
        G9 instead of G3.
    """
    if angular_etas is None:
        angular_etas = (0.02, 0.1) if len(elements) == 1 else (0.05,)
    functions: list[SymmetryFunction] = []
    report: list[str] = []
    shortest: dict[frozenset[str], float] = {frozenset(p.split("-")): d for p, d in minimum_distance.items()}
    angular_kind = "G9" if wide else "G3"
    for center in elements:
        for neighbor in elements:
            distance = shortest.get(frozenset((center, neighbor)), cutoff)
            if distance >= cutoff:
                report.append(f"{center}-{neighbor}: no such pair within {cutoff:.2f} Å, no radial functions")
                continue
            etas = radial_etas(distance, radial, cutoff, kind, inner)
            functions += [SymmetryFunction("G2", center, (neighbor,), cutoff, eta=eta) for eta in etas]
            shown = ", ".join(f"{eta:.4f}" for eta in etas)
            report.append(
                f"{center}-{neighbor}: shortest distance {distance:.3f} Å, G2 with eta = {shown} 1/Å²"
            )
        for pair in combinations_with_replacement(elements, 2):
            reachable = all(
                shortest.get(frozenset((center, e)), angular_cutoff) < angular_cutoff for e in pair
            )
            if not reachable:
                report.append(f"{center}-{'-'.join(pair)}: no such triplet within {angular_cutoff:.2f} Å")
                continue
            functions += [
                SymmetryFunction(angular_kind, center, pair, angular_cutoff, eta=eta, zeta=zeta, lam=lam)
                for eta in angular_etas
                for zeta in zetas
                for lam in (1.0, -1.0)
            ]
            report.append(
                f"{center}-{'-'.join(pair)}: {angular_kind} with eta = {list(angular_etas)} 1/Å², "
                f"zeta = {list(zetas)}, lambda = +-1"
            )
    return functions, report


def narrow_functions(
    functions: Sequence[SymmetryFunction],
    elements: Sequence[str],
    minimum: Tensor,
    maximum: Tensor,
    threshold: float,
) -> tuple[list[SymmetryFunction], list[str]]:
    """Functions worth keeping, and for each dropped one the reason.

    A function whose range over the data is below `threshold` cannot be scaled to a sensible input.

    Parameters
    ----------
    minimum, maximum : Tensor
        Range (n_elements, D) of the features of each element in the order of `functions`.
    threshold : float
        Smallest range to keep.
    """
    keep: list[SymmetryFunction] = []
    report: list[str] = []
    position = dict.fromkeys(elements, 0)
    for function in functions:
        t, column = elements.index(function.center), position[function.center]
        position[function.center] += 1
        spread = float(maximum[t, column] - minimum[t, column])
        if spread < threshold:
            report.append(f"dropped {function}: its range over the data is {spread:.2e} < {threshold:g}")
        else:
            keep.append(function)
    return keep, report
