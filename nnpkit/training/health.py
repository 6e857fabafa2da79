"""What an epoch of updates says of itself: numbers for files, a few words for the screen, warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, median
from typing import TYPE_CHECKING, NamedTuple

from nnpkit.measure.observations import Noise
from nnpkit.optim.kalman import KalmanOptimizer

if TYPE_CHECKING:
    from nnpkit.measure.label_choice import Labels

__all__ = ["EpochReport", "average", "innovation_warnings", "kalman_health", "kinds_of_labels"]

_SETTLED = 2.0  # m of all kinds of labels, see `nnpkit.optim.robust`
TOO_SURE, TOO_CAREFUL = 100.0, 0.01
"""Innovations, 1 being expected, beyond which a whole epoch is worth a warning."""


class EpochReport(NamedTuple):
    """What an epoch of updates, or what was left of it, says of itself."""

    numbers: dict[str, float]
    short: str = ""  # for the display of the progress
    warnings: tuple[str, ...] = ()


def average(reports: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Means of the numbers that the updates reported, by name."""
    return {name: fmean(values) for name, values in reports.items() if values}


def kinds_of_labels(labels: Labels) -> list[str]:
    """Kinds of `labels`: ``energy``, ``force``, ``virial``."""
    forces = labels.components is not None and any(len(c) > 0 for c in labels.components)
    present = {"energy": labels.energy, "force": forces, "virial": labels.virial}
    return [kind for kind, there in present.items() if there]


def kalman_health(
    optimizer: KalmanOptimizer, noise: Noise, reports: Mapping[str, Sequence[float]], epoch: int
) -> EpochReport:
    """State of a Kalman filter after `epoch`, whose updates gave `reports`."""
    means, health = average(reports), optimizer.health()
    words = [
        f"P {health['smallest']:.1e} to {health['largest']:.1e}",
        f"|K| {means.get('gain', 0.0):.1e}",
        f"innovation {means.get('innovation', 0.0):.2g}",
    ]
    words += [f"drift {health['drift']:.1e}"] if "drift" in health else []
    physical = noise.learning_rate is None and optimizer.settings.observation_noise == "given"
    robust = optimizer.robust
    settled = robust is None or float(robust.scale.max()) < _SETTLED
    warnings = innovation_warnings(reports, noise if physical else None, epoch, settled)
    return EpochReport({**means, **health}, ", ".join(words), tuple(warnings))


def innovation_warnings(
    reports: Mapping[str, Sequence[float]], noise: Noise | None, epoch: int, settled: bool = True
) -> list[str]:
    """Warnings about innovations far from 1 during a whole epoch, with the settings to change.

    The innovation of an update is the squared residual in units of what the covariance of the weights and the
    observation noise let expect; which of these is most of it says what to change. Single outliers are no reason:
    medians count.

    Parameters
    ----------
    reports : mapping
        Of the updates: ``innovation``, ``noise_share`` and, for updates with one kind of label,
        ``innovation_force`` and so on.
    noise : Noise or None
        Target accuracies; None where R is no accuracy but a convention (a learning rate, the number of blocks), so
        that a small innovation means nothing.
    epoch : int
        Counted from 0. In the first one small innovations are normal: the weights are still uncertain.
    settled : bool
        Whether an estimated noise has come down to what was aimed at; until then small innovations are on their way.
    """
    kinds = [kind for kind in ("energy", "force", "virial") if reports.get(f"innovation_{kind}")] or [""]
    warnings = []
    for kind in kinds:
        suffix = f"_{kind}" if kind else ""
        typical = median(reports.get(f"innovation{suffix}") or [1.0])
        share = median(reports.get(f"noise_share{suffix}") or [1.0])
        if TOO_CAREFUL <= typical <= TOO_SURE or (
            typical < 1.0 and (noise is None or epoch == 0 or not settled)
        ):
            continue
        of = f"the innovation of {kind} updates" if kind else "the innovation"
        advice = _advice(typical > 1.0, share, _settings(kind, noise, typical if share > 0.5 else None))
        warnings.append(f"{of} was {typical:.2g} in this epoch, 1 is expected: {advice} (training.optimizer)")
    return warnings


def _advice(too_sure: bool, noise_share: float, noise: str) -> str:
    """What is wrong and which setting to change; `noise` are those of the observation noise."""
    if too_sure:
        return f"the filter is surer of itself than it should be; raise {noise} or process_noise"
    if noise_share > 0.5:
        return f"these labels are believed less than the model already follows them; lower {noise}"
    return "the weights are taken for more uncertain than they are; lower initial_covariance or process_noise"


def _settings(kind: str, noise: Noise | None, innovation: float | None) -> str:
    """The settings of the observation noise, with a value that would explain an `innovation`."""
    if noise is None:
        return "the observation noise (a lower learning_rate; noise_growth where R is the number of blocks)"
    if not kind:
        return "noise.energy and noise.force"
    sigma = getattr(noise, kind)
    value = "" if innovation is None else f"; {sigma * innovation**0.5:.1g} would explain it"
    return f"noise.{kind} ({sigma:.2g}{value})"
