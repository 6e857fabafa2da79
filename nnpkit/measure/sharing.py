"""The rows of one update, measured by several processes, each of which gets the columns that it needs.

Of many structures every rank measures some. Of few ones it measures what some of their atoms add to every label, where
labels are sums over atoms (`nnpkit.measure.divided`); where they are not, it measures some of the labels. What it finds
is sent where it is needed: residuals, noise and origins to all ranks, of the Jacobian to each rank the columns whose
block of the covariance that rank keeps, in one exchange.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from nnpkit.measure.contract import Measures
from nnpkit.measure.label_choice import Labels
from nnpkit.optim.measurement import Measurement, Origin
from nnpkit.parallel import Ranks

__all__ = ["measure_together", "shares_of"]


_VIRIAL_OF_AN_ATOM = 0.8
"""Time that the six rows of a virial take for each atom, over that of a row of a force: 100 atoms of copper."""


def shares_of(labels: Labels, size: int) -> list[Labels | None]:
    """`labels` in `size` parts, None where there is nothing left; together they are all of them, once.

    Of many structures each part has some; of few ones all parts have some components of each, the first one their
    energies and the last one their virials, and fewer components for it.
    """
    n = len(labels.structures)
    if n >= 2 * size:
        bounds = [n * k // size for k in range(size + 1)]
        return [_some(labels, a, b) for a, b in pairwise(bounds)]
    shares: list[Labels | None] = []
    for rank in range(size):
        parts = None
        if labels.components is not None:
            parts = [
                _chunk(components, labels.group or 1, rank, size, labels.virial)
                for components in labels.components
            ]
            parts = parts if any(len(part) for part in parts) else None
        energy, virial = labels.energy and rank == 0, labels.virial and rank == size - 1
        share = Labels(labels.structures, energy, parts, virial, labels.group)
        shares.append(share if energy or virial or parts is not None else None)
    return shares


def _some(labels: Labels, first: int, last: int) -> Labels:
    components = None if labels.components is None else labels.components[first:last]
    return labels._replace(structures=labels.structures[first:last], components=components)


def _chunk(components: Tensor, group: int, rank: int, size: int, virial: bool) -> Tensor:
    """Part of the components of a structure; groups stay together.

    A virial is a sum over all atoms: the last part has as many components fewer as that takes. The number of atoms is
    told from the largest index of a component.
    """
    n_groups = -(-len(components) // group)
    if not virial or len(components) == 0:
        first, last = (n_groups * k // size * group for k in (rank, rank + 1))
        return components[first:last]
    beside = _VIRIAL_OF_AN_ATOM * (float(components.max()) + 1.0) / 3.0 / group
    others = n_groups - round(max(0.0, (n_groups + beside) / size - beside))  # of all but the last part
    bounds = [others * k // (size - 1) * group for k in range(size)] + [len(components)]
    return components[bounds[rank] : bounds[rank + 1]]


def measure_together(
    observer: Measures, labels: Labels, ranks: Ranks, columns: Sequence[Tensor | slice]
) -> Measurement:
    """The measurement of all `labels`, with the columns of the Jacobian that this rank needs.

    Parameters
    ----------
    columns : sequence
        For each rank the indices of its columns.

    Returns
    -------
    Measurement
        Rows in the same order on all ranks.
    """
    part = None
    if labels.group is None and len(labels.structures) < 2 * ranks.size:
        part = observer.of_part(ranks.rank, ranks.size)
    if part is not None:
        return _added(part.measure(labels), ranks, columns)
    mine = shares_of(labels, ranks.size)[ranks.rank]
    found = _nothing(observer.n_parameters) if mine is None else observer.measure(mine)
    counts = torch.zeros(ranks.size, dtype=torch.int64)
    counts[ranks.rank] = len(found.residual)
    rows = ranks.add(counts).tolist()
    small = _packed(found)
    parts = [torch.cat([small, found.jacobian[:, own]], dim=1) for own in columns]
    width = parts[ranks.rank].shape[1]
    received = torch.cat(ranks.exchange(parts, [(n, width) for n in rows]))
    return _unpacked(received, small.shape[1])


def _added(found: Measurement, ranks: Ranks, columns: Sequence[Tensor | slice]) -> Measurement:
    """The sum of what all ranks have found of the same labels, whose origins the first of them knows."""
    small = _packed(found)
    if not ranks.leads:
        small[:, 1:] = 0.0
    if all(isinstance(own, slice) for own in columns):  # every rank needs all columns
        return _unpacked(ranks.add(torch.cat([small, found.jacobian], dim=1)), small.shape[1])
    parts = [torch.cat([small, found.jacobian[:, own]], dim=1) for own in columns]
    received = ranks.exchange(parts, [tuple(parts[ranks.rank].shape)] * ranks.size)
    return _unpacked(torch.stack(received).sum(0), small.shape[1])


def _nothing(n_parameters: int) -> Measurement:
    none = torch.zeros(0, dtype=torch.float64)
    whole = torch.zeros(0, dtype=torch.int64)
    return Measurement(none, none.new_zeros(0, n_parameters), none, Origin(whole, none, none, whole))


def _packed(found: Measurement) -> Tensor:
    """Columns: residual, noise, whether there is an origin, and this."""
    origin = found.origin
    known = torch.full_like(found.residual, float(origin is not None))
    four = (
        [found.residual.new_zeros(len(known))] * 4 if origin is None else [part.to(known) for part in origin]
    )
    return torch.stack([found.residual, found.noise.to(known), known, *four], dim=1)


def _unpacked(rows: Tensor, n_small: int) -> Measurement:
    residual, noise, known, kind, unit, size, structure = rows[:, :n_small].unbind(1)
    origin = Origin(kind.long(), unit.contiguous(), size.contiguous(), structure.long())
    whole = bool(known.all()) and len(known) > 0
    return Measurement(
        residual.contiguous(), rows[:, n_small:].contiguous(), noise.contiguous(), origin if whole else None
    )
