"""Labels as a Kalman filter sees them, and how many of them become one."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Measurement", "reduced_variance", "signed_mean", "signed_sum"]


class Measurement(NamedTuple):
    """M labels at once, as the optimizer sees them, in float64."""

    residual: Tensor  # (M,) label minus prediction
    jacobian: Tensor  # (M, P) d prediction / d weights
    noise: Tensor  # (M,) variance of the observation noise


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
    residual, jacobian, noise = measurement
    weight = torch.where(residual > 0.0, 1.0, -1.0).to(residual) / len(residual)  # s_i / M
    return Measurement(
        (weight * residual).sum()[None],
        (weight @ jacobian)[None],
        reduced_variance(weight.abs(), noise)[None],
    )


def signed_sum(measurement: Measurement) -> Measurement:
    """One label made of M as the program of Hu et al. does with the M structures of a batch.

    Its residual is ``sqrt(M)`` times that of `signed_mean`, its Jacobian M times. These do not go together as a sum and
    its derivative do (for four structures the step is twice as long as the residual asks for), but so it is
    published; for one label it is the `signed_mean`. The noise counts like the residual.
    """
    m = len(measurement.residual)
    residual, jacobian, noise = signed_mean(measurement)
    return Measurement(math.sqrt(m) * residual, m * jacobian, m * noise)
