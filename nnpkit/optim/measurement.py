"""Labels as a Kalman filter sees them, and how many of them become one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["KINDS", "Measurement", "Origin", "batch_mean", "reduced_variance", "signed_mean", "signed_sum"]


KINDS = ("energy", "force", "virial")
NO_LABEL = -1
"""In place of a kind: rows that are no labels, such as those of a ridge."""


class Origin(NamedTuple):
    """What the rows of a measurement are, (M,) each."""

    kind: Tensor  # index into KINDS, or NO_LABEL
    unit: Tensor  # what a residual is divided by to be comparable: number of atoms (energies, virials), 1 (forces)
    size: Tensor  # magnitude of the label in that unit, without reference energies
    structure: Tensor  # index of the structure

    @classmethod
    def joined(cls, parts: Sequence[Origin]) -> Origin:
        """All rows of `parts`."""
        return cls(*(torch.cat(column) for column in zip(*parts, strict=True)))

    @classmethod
    def of(cls, kind: str, n_rows: int, unit: float, size: Tensor, structure: int) -> Origin:
        """Rows of one kind of label of one structure."""
        return cls(
            torch.full((n_rows,), KINDS.index(kind)),
            torch.full((n_rows,), float(unit), dtype=torch.float64),
            size.to(torch.float64).expand(n_rows),
            torch.full((n_rows,), structure),
        )

    def and_no_labels(self, n_rows: int) -> Origin:
        """With so many rows that are no labels behind the others."""
        nothing = torch.zeros(n_rows, dtype=torch.float64)
        more = torch.full((n_rows,), NO_LABEL)
        return Origin.joined([self, Origin(more, torch.ones_like(nothing), nothing, more)])


class Measurement(NamedTuple):
    """M labels at once, as the optimizer sees them, in float64."""

    residual: Tensor  # (M,) label minus prediction
    jacobian: Tensor  # (M, P) d prediction / d weights
    noise: Tensor  # (M,) variance of the observation noise
    origin: Origin | None = None  # what the rows are, where that is known

    @classmethod
    def joined(cls, parts: Sequence[Measurement]) -> Measurement:
        """All rows of `parts`."""
        residual, jacobian, noise = (torch.cat([part[column] for part in parts]) for column in range(3))
        origins = [part.origin for part in parts if part.origin is not None]
        return cls(residual, jacobian, noise, Origin.joined(origins) if len(origins) == len(parts) else None)


def reduced_variance(weights: Tensor, noise: Tensor) -> Tensor:
    """Variance (0-dim) with which the signed mean ``sum_i w_i |y_i - y_hat_i|`` of labels is believed.

    With signs given in advance it would be ``sum_i w_i^2 R_i``. But they are those of the residuals, which are those
    of the noise where a model is as good as its labels, and a mean of absolute errors does not vanish with
    their number: for independent Gaussian errors of variances R_i = sigma_i^2 its mean square is

        2/pi (sum_i w_i sigma_i)^2 + (1 - 2/pi) sum_i w_i^2 R_i,

    R for one label and 0.66 R for the mean of 18. With this variance the innovation of a perfect model is 1.

    Parameters
    ----------
    weights : Tensor
        The w_i (M,) without their signs.
    noise : Tensor
        The R_i (M,).
    """
    common = (weights * noise.sqrt()).sum().square()
    return 2.0 / math.pi * common + (1.0 - 2.0 / math.pi) * (weights.square() * noise).sum()


def signed_mean(measurement: Measurement) -> Measurement:
    """One label made of all: the mean of ``s_i y_i`` with ``s_i = sign(y_i - y_hat_i)``.

    Lines 1 to 7 of algorithm 2 of Hu et al. (2023): predictions above their labels are reflected, so that the
    residual becomes the mean absolute one and the Jacobian the signed mean of the rows. The labels of the
    measurement are one group (one energy, or the components of a group of atoms). Its noise: `reduced_variance`.
    """
    residual, jacobian, noise, _ = measurement
    weight = torch.where(residual > 0.0, 1.0, -1.0).to(residual) / len(residual)  # s_i / M
    return Measurement(
        (weight * residual).sum()[None],
        (weight @ jacobian)[None],
        reduced_variance(weight.abs(), noise)[None],
    )


def batch_mean(measurement: Measurement) -> tuple[Measurement, int]:
    """The labels of the structures of a batch averaged, as many as one structure has; and how many structures it has.

    The first label of each kind of all structures becomes one, then the second, and so on: the mean of their absolute
    errors, as in `signed_mean`, with the signed mean of their rows and its `reduced_variance`. That is how FEKF treats
    a batch (Hu et al., PPoPP 2024), whose steps are then longer, see `nnpkit.optim.kalman_settings.KalmanSettings`. A
    mean belongs to the structure with the largest error in it; rows that are no labels stay as they are.

    Raises
    ------
    ValueError
        If it is not known what the rows are.
    """
    residual, jacobian, noise, origin = measurement
    if origin is None:
        raise ValueError("labels of structures are averaged by what they are, which is not known")
    mine = torch.nonzero(origin.kind >= 0).squeeze(1)
    rest = torch.nonzero(origin.kind < 0).squeeze(1)
    kind, structure = origin.kind[mine], origin.structure[mine]
    n_structures = len(structure.unique())
    # Which one of its kind a label is in its structure: its place less that of the first of them.
    owner = structure * len(KINDS) + kind
    order = torch.argsort(owner, stable=True)
    _, counts = torch.unique_consecutive(owner[order], return_counts=True)
    first = torch.repeat_interleave(torch.cumsum(counts, 0) - counts, counts)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order)) - first
    _, group, sizes = torch.unique(kind * (len(order) + 1) + place, return_inverse=True, return_counts=True)
    error = residual[mine]
    part = 1.0 / sizes[group].to(residual)

    def added(values: Tensor) -> Tensor:
        return values.new_zeros(len(sizes), *values.shape[1:]).index_add(0, group, values)

    signed = torch.where(error > 0.0, part, -part)
    common, alone = added(part * noise[mine].sqrt()).square(), added(part.square() * noise[mine])
    ascending = torch.argsort(error.abs(), stable=True)
    last = torch.zeros_like(sizes).scatter_reduce(0, group[ascending], torch.arange(len(ascending)), "amax")
    chosen = ascending[last]  # the largest error of each mean
    averaged = Measurement(
        added(part * error.abs()),
        added(signed[:, None] * jacobian[mine]),
        2.0 / math.pi * common + (1.0 - 2.0 / math.pi) * alone,
        Origin(
            kind[chosen], added(part * origin.unit[mine]), added(part * origin.size[mine]), structure[chosen]
        ),
    )
    if len(rest) == 0:
        return averaged, n_structures
    others = Measurement(
        residual[rest], jacobian[rest], noise[rest], Origin(*(column[rest] for column in origin))
    )
    return Measurement.joined([averaged, others]), n_structures


def signed_sum(measurement: Measurement) -> Measurement:
    """One label made of M as the program of Hu et al. does with the M structures of a batch.

    Its residual is ``sqrt(M)`` times that of `signed_mean`, its Jacobian M times. These do not go together as a sum and
    its derivative do (for four structures the step is twice as long as the residual asks for), but so it is
    published; for one label it is the `signed_mean`. The noise counts like the residual.
    """
    m = len(measurement.residual)
    residual, jacobian, noise, _ = signed_mean(measurement)
    return Measurement(math.sqrt(m) * residual, m * jacobian, m * noise)
