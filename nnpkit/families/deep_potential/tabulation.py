"""Grids on which the fast kernels tabulate embedding networks.

An embedding network of a Deep Potential is a function of one number, the smooth weight s(r) of a neighbour. The
kernels replace it by a polynomial of fifth degree on each interval of a uniform grid, with the network's value and
first two derivatives at the nodes. Here the spacing of the grid is chosen and the deviation measured; the numbers
of the table itself are computed from the network by whoever uses them, so that no file can hold the one without
the other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from ase.data import atomic_numbers, covalent_radii
from torch import Tensor

from nnpkit.errors import InputError
from nnpkit.families.deep_potential.embedding import DeepDescriptor
from nnpkit.models.cutoff import cutoff_function
from nnpkit.models.residual_networks import ResidualNetwork

__all__ = ["DEFAULT_TOLERANCE", "Grid", "deviation", "hermite", "interpolate", "tabulation"]

DEFAULT_TOLERANCE = 1e-10
"""Deviation of the tables unless something else is asked for."""
_SMALLEST_TOLERANCE = 1e-12
_MAX_INTERVALS = 8192
_SAFETY = 2.0
"""Deviations between the points where they are measured are below this times the measured ones."""
_MARGIN = 0.8
"""Tables reach down to this fraction of the shortest distance in the data."""
_UNKNOWN = 0.6
"""Or, where that is not known, of the sum of covalent radii."""
_PROBES = (0.08, 0.2, 0.2764, 0.4, 0.5, 0.6, 0.7236, 0.8, 0.92)
"""Places within an interval; the error of the derivative is largest at (5 ± sqrt 5) / 10."""


class Grid(NamedTuple):
    """Where an embedding network is tabulated, in units of its argument."""

    start: float
    spacing: float
    intervals: int
    bound: float  # of the deviation, see `deviation`


def tabulation(
    descriptor: DeepDescriptor,
    elements: list[str],
    min_distance: Mapping[str, float] | None = None,
    tolerance: float = DEFAULT_TOLERANCE,
    *,
    insist: bool = False,
) -> dict[str, Any]:
    """Grids of all embedding networks, JSON-able: what the metadata of a model.pt have under ``tabulation``.

    Parameters
    ----------
    elements : list of str
        Elements of the type indices.
    min_distance : mapping, optional
        Shortest distance in the data, Å, of each pair ``"A-B"``. Neighbours that come closer than 0.8 of it are
        beyond the table, and the kernels evaluate the network itself for them.
    tolerance : float
        Largest deviation of values and of derivatives, each relative to the largest one on the grid.
    insist : bool
        Whether a network that cannot be tabulated so well is an error; otherwise it gets no intervals, and the
        kernels evaluate the network itself for all neighbours.

    Returns
    -------
    dict
        ``tolerance``, the largest ``bound`` and for each of the ``networks`` start, spacing, intervals and bound.

    Raises
    ------
    InputError
        If the tolerance is below 1e-12, or with `insist` cannot be kept.
    """
    if not _SMALLEST_TOLERANCE <= tolerance < 1.0:
        raise InputError(
            f"tolerance {tolerance:g} of tables", expected=f"a number between {_SMALLEST_TOLERANCE:g} and 1"
        )
    grids = []
    for index, network in enumerate(descriptor.embeddings):
        low, high = _range(descriptor, index, elements, min_distance or {})
        grid = _grid(network, low, high, tolerance)
        if insist and grid.intervals == 0:
            raise InputError(
                f"an embedding network cannot be tabulated to {tolerance:g}",
                hint="ask for less, or use a smooth activation function",
            )
        grids.append(grid)
    return {
        "tolerance": tolerance,
        "bound": max(grid.bound for grid in grids),
        "networks": [grid._asdict() for grid in grids],
    }


def _range(
    descriptor: DeepDescriptor, index: int, elements: list[str], min_distance: Mapping[str, float]
) -> tuple[float, float]:
    """Smallest and largest argument that embedding network `index` may be asked for."""
    n = descriptor.n_types
    pairs = [(c, index) for c in range(n)] if descriptor.one_side else [divmod(index, n)]
    lows, highs = [], []
    for center, neighbor in pairs:
        a, b = elements[center], elements[neighbor]
        shortest = min_distance.get(f"{a}-{b}", min_distance.get(f"{b}-{a}"))
        if shortest is not None and shortest > 0.0:
            closest = _MARGIN * shortest
        else:
            closest = _UNKNOWN * float(sum(covalent_radii[atomic_numbers[e]] for e in (a, b)))
        r = torch.tensor(closest, dtype=torch.float64)
        s = cutoff_function(r, descriptor.cutoff, descriptor.cutoff_kind, descriptor.inner) / r
        mean, std = float(descriptor.mean[center]), float(descriptor.std[center, 0])
        lows.append(-mean / std)
        highs.append((max(float(s), 1.0 / descriptor.cutoff) - mean) / std)
    low, high = min(lows), max(highs)
    margin = 1e-6 * (high - low)  # rounding must not push a neighbour at the cutoff off the table
    return low - margin, high + margin


def _grid(network: ResidualNetwork, low: float, high: float, tolerance: float) -> Grid:
    """The coarsest grid, about, that keeps the tolerance."""
    intervals = 16
    while intervals <= _MAX_INTERVALS:
        spacing = (high - low) / intervals
        bound = _SAFETY * deviation(network, low, spacing, intervals)
        if bound <= tolerance:
            return Grid(low, spacing, intervals, bound)
        # the error of the derivative falls with the fifth power of the spacing
        growth = (bound / tolerance) ** 0.2 if math.isfinite(bound) else 2.0
        if intervals * growth > 8 * _MAX_INTERVALS:
            break
        intervals = math.ceil(intervals * min(2.0, max(1.05, 1.02 * growth)))
    return Grid(low, high - low, 0, 0.0)


def deviation(network: ResidualNetwork, start: float, spacing: float, intervals: int) -> float:
    """Largest measured deviation of a table, of values or derivatives, relative to the largest of each."""
    table = hermite(network, start, spacing, intervals)
    place = torch.arange(intervals, dtype=torch.float64).unsqueeze(1) + torch.tensor(
        _PROBES, dtype=torch.float64
    )
    x = start + spacing * place.flatten()
    found, expected = interpolate(table, start, spacing, x), _derivatives(network, x)[:2]
    errors = [
        float((a - b).abs().max()) / max(float(b.abs().max()), 1e-300)
        for a, b in zip(found, expected, strict=True)
    ]
    return max(errors) if all(math.isfinite(e) for e in errors) else math.inf


def hermite(network: ResidualNetwork, start: float, spacing: float, intervals: int) -> Tensor:
    """Coefficients (intervals, 6, M) of ``sum_k c_k t^k``, t from 0 to 1 on each interval.

    The polynomial of fifth degree that has the network's value and first two derivatives at both ends.
    """
    x = start + spacing * torch.arange(intervals + 1, dtype=torch.float64)
    value, first, second = _derivatives(network, x)
    first, second = first * spacing, second * spacing**2
    a0, a1, a2, b1, b2 = value[:-1], first[:-1], second[:-1], first[1:], second[1:]
    jump = value[1:] - a0
    return torch.stack(
        [
            a0, a1, 0.5 * a2,
            10.0 * jump - 6.0 * a1 - 4.0 * b1 - 1.5 * a2 + 0.5 * b2,
            -15.0 * jump + 8.0 * a1 + 7.0 * b1 + 1.5 * a2 - b2,
            6.0 * jump - 3.0 * a1 - 3.0 * b1 - 0.5 * a2 + 0.5 * b2,
        ],
        dim=1,
    )  # fmt: skip


def interpolate(table: Tensor, start: float, spacing: float, x: Tensor) -> tuple[Tensor, Tensor]:
    """Values and derivatives (n, M) of a table of `hermite` at `x` (n,) within the grid."""
    place = (x - start) / spacing
    interval = place.floor().clamp(0, table.shape[0] - 1)
    t = (place - interval).unsqueeze(1)
    c = table.index_select(0, interval.long())
    value, slope = c[:, 5], torch.zeros_like(c[:, 5])
    for k in range(4, -1, -1):
        slope = slope * t + value
        value = value * t + c[:, k]
    return value, slope / spacing


def _derivatives(network: ResidualNetwork, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs (n, M) of a network of one number at `x` (n,), and their first two derivatives."""
    one = torch.ones_like(x).unsqueeze(1)

    def slope(y: Tensor) -> tuple[Tensor, Tensor]:
        value, first = torch.func.jvp(network, (y,), (one,))
        return first, value

    with torch.no_grad():
        first, second, value = torch.func.jvp(slope, (x.unsqueeze(1),), (one,), has_aux=True)
    return value, first, second
