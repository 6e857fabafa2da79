"""Constants and conventions of the Kalman filter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nnpkit.errors import InputError
from nnpkit.optim.covariance import DTYPES, LAZY_RANK

__all__ = ["WHERE", "KalmanSettings"]

WHERE = "training.optimizer"


@dataclass(frozen=True)
class KalmanSettings:
    """Constants and conventions of the filter.

    Attributes
    ----------
    initial_covariance : float
        p0 in ``P(0) = p0 I``.
    process_noise, process_noise_decay, process_noise_minimum : float
        Q = q I with ``q = max(minimum, q0 exp(-decay * epoch))``, none if q0 is 0.
    noise_decay, noise_minimum : float
        The observation noise is multiplied by ``max(noise_minimum, exp(-noise_decay * epoch))``.
    noise_growth, noise_maximum : float
        After n updates it is also multiplied by ``min(noise_maximum, 1 + noise_growth n)``. P of a linear model falls
        like 1/n by itself; the blocks of a network are never that sure, and go on shifting what others have fixed.
    forgetting, forgetting_rate : float
        lambda(0) and nu of ``lambda <- nu lambda + 1 - nu``. Without nu it follows the length T of the training in
        updates, ``1 / (1 - nu) = max(500, T / 5)``, and 1 - lambda is at most 750 (1 - nu) of its first value. So what
        is never observed becomes less certain by a factor of exp(15) at most where lambda(0) is 0.98, however long the
        training is; by the published 0.98 and 0.9987 it is as much.
    forget : str
        What is forgotten: ``all``, as published, or only what is ``observed``.
    covariance_limit : float or None
        Forgetting makes no variance of a weight larger than this, in units of that of a weight of which nothing is
        known: p0 with what the first updates have made of it. None: no limit, as published. In float64 only.
    observation_noise : str
        Where R comes from. ``given``: from the measurement, which is where target accuracies and learning
        rates (``R = I/eta``) are turned into variances. ``blocks``: ``R = L lambda I`` with L the number
        of blocks (in which not all weights are frozen), whatever the labels (Hu et al.).
    reduction : str
        ``none``: M labels are a vector observation. ``signed_mean``, ``signed_sum``: they are reduced to one;
        ``batch_mean``: those of the structures of a batch are averaged, see `nnpkit.optim.measurement`.
    batch_exponent : float
        With ``batch_mean`` the change of the weights is multiplied by the number of structures to this power.
    dtype : str
        Of the stored covariance, ``float64`` or ``float32``.
    lazy_rank : int
        Updates of P that are kept beside it before they are folded in; see `nnpkit.optim.covariance`.
    """

    initial_covariance: float = 1.0
    process_noise: float = 0.0
    process_noise_decay: float = 2.302
    process_noise_minimum: float = 0.0
    noise_decay: float = 0.0
    noise_minimum: float = 1.0
    noise_growth: float = 0.0
    noise_maximum: float = 100.0
    forgetting: float = 1.0
    forgetting_rate: float | None = 0.9987
    forget: str = "all"
    covariance_limit: float | None = None
    observation_noise: str = "given"
    reduction: str = "none"
    batch_exponent: float = 0.5
    dtype: str = "float64"
    lazy_rank: int = LAZY_RANK

    def __post_init__(self) -> None:
        """Refuse what makes no filter."""
        for name in ("initial_covariance", "noise_minimum", "forgetting", "lazy_rank"):
            _require(name, getattr(self, name), getattr(self, name) > 0, "a positive number")
        for name in (
            "process_noise",
            "process_noise_decay",
            "process_noise_minimum",
            "noise_decay",
            "noise_growth",
        ):
            _require(name, getattr(self, name), getattr(self, name) >= 0, "a number that is not negative")
        if (limit := self.covariance_limit) is not None:
            _require("covariance_limit", limit, limit >= 1, "a number of at least 1, or none")
            _require("covariance_limit", limit, self.dtype == "float64", "none for a covariance in float32")
        _require("forgetting", self.forgetting, self.forgetting <= 1, "at most 1")
        _require("batch_exponent", self.batch_exponent, 0 <= self.batch_exponent <= 1, "a number from 0 to 1")
        if (nu := self.forgetting_rate) is not None:
            _require("forgetting_rate", nu, 0 < nu <= 1, "a positive number, at most 1")
        for name, choices in (
            ("observation_noise", ("given", "blocks")),
            ("reduction", ("none", "signed_mean", "signed_sum", "batch_mean")),
            ("dtype", tuple(DTYPES)), ("forget", ("all", "observed")),
        ):  # fmt: skip
            _require(
                name, getattr(self, name), getattr(self, name) in choices, "one of " + ", ".join(choices)
            )

    @classmethod
    def shao(cls, **changes: Any) -> KalmanSettings:
        """Algorithm 2 of Shao et al. (2021): P(0) = I, no process noise, nothing forgotten; R = I/eta is given."""
        return cls(**changes)

    @classmethod
    def rlekf(cls, **changes: Any) -> KalmanSettings:
        """Algorithm 2 of Hu et al. (2023): P(0) = I, lambda(1) = 0.98, nu = 0.9987, signed mean, R = L lambda."""
        published = {"forgetting": 0.98, "forgetting_rate": 0.9987, "observation_noise": "blocks"}
        return cls(**{**published, "reduction": "signed_mean", **changes})


def _require(name: str, value: object, fine: bool, expected: str) -> None:
    if not fine:
        raise InputError(f"is {value!r}", where=f"{WHERE}.{name}", expected=expected)
