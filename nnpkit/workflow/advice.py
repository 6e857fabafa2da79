"""What a person should know about a training: too few labels, too good to be true, not trained at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nnpkit.config.schema import Config
from nnpkit.config.schema_training import Ekf
from nnpkit.data.structure import Structure
from nnpkit.measure.metrics import METRICS
from nnpkit.workflow.learned_labels import count_labels

__all__ = ["OVERFITTED", "few_labels", "few_updates", "overfitting", "tested", "untrained"]

_FEW_UPDATES = 1000
OVERFITTED = 3.0
"""Validation over training error from which on a potential is said to overfit."""
_UNIMPORTANT = {
    "energy_rmse": 1e-4,
    "force_rmse": 1e-3,
}  # eV/atom, eV/Å: validation errors that need no warning


def _remedy(config: Config) -> str:
    """Which settings make a potential err less between its labels.

    With trained features neither fewer weights nor a filter that forgets less changed errors of forces of small sets
    by more than a tenth; the mean of trainings with other first weights did. See ``docs/benchmarks.md``.
    """
    if config.model.trained_descriptor:
        return "more data" if config.committee else "more data, or a committee (committee.members=4)"
    now, kalman = config.training.ridge, isinstance(config.training.optimizer, Ekf)
    most = 0.1 if now == "auto" and kalman else 0.0 if now == "auto" else now
    more = max(0.1 if kalman else 1e-4, 3.0 * most)
    return (
        f"more data, training.ridge={more:g} (now {now}), a smaller model.network.hidden or fewer functions"
    )


def _listed(labels: Mapping[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in labels.items() if number) or "no labels"


def few_labels(config: Config, structures: Sequence[Structure], n_weights: int) -> list[str]:
    """A line of advice if there are fewer labels than weights."""
    labels = count_labels(config, structures)
    total = sum(labels.values())
    if total >= n_weights:
        return []
    return [
        f"Warning: {n_weights} weights are to be found from {total} labels ({_listed(labels)}): the potential can "
        f"follow every one of them and be wrong between. What helps: {_remedy(config)}"
    ]


def few_updates(config: Config, n_updates: int) -> list[str]:
    """A line of advice if a Kalman filter is to find its way from scratch in too few steps."""
    from_scratch = isinstance(config.training.optimizer, Ekf) and config.start is None
    if not from_scratch or n_updates >= _FEW_UPDATES:
        return []
    return [
        f"{n_updates} updates of the weights are few for a Kalman filter: training.min_updates={2 * _FEW_UPDATES} asks "
        "for more epochs"
    ]


def overfitting(
    config: Config, summary: Mapping[str, Any], structures: Sequence[Structure]
) -> tuple[dict[str, float], str | None]:
    """Validation over training errors that are at least `OVERFITTED`, by name, and what to say of them.

    Parameters
    ----------
    config : Config
        Of the training.
    summary : mapping
        Its ``train`` and ``validation`` errors and ``n_parameters``.
    structures : sequence of Structure
        What it has learnt from.
    """
    train, validation = summary.get("train") or {}, summary.get("validation") or {}
    ratios: dict[str, float] = {}
    for name, floor in _UNIMPORTANT.items():
        seen, unseen = train.get(name), validation.get(name)
        if seen and unseen and unseen > floor and unseen >= OVERFITTED * seen:
            ratios[name] = round(unseen / seen, 2)
    if not ratios:
        return {}, None
    words = [
        f"{METRICS[name]}: {validation[name]:.3g} on validation against {train[name]:.3g} on training structures, "
        f"{ratio:.3g} times"
        for name, ratio in ratios.items()
    ]
    labels = count_labels(config, structures)
    return ratios, (
        f"this potential overfits: {'; '.join(words)} ({_listed(labels)} for {summary['n_parameters']} weights). What "
        f"helps: {_remedy(config)}"
    )


def untrained(config: Config, ended: str, silenced: bool) -> str:
    """What to say when the exported weights are those that the training began with, or say nothing (`silenced`)."""
    began = "random weights of epoch 0" if config.start is None else "the weights of start.run"
    if silenced:
        began = "the energies of the elements alone"
    why = "it was interrupted too early" if ended.startswith("SIG") else "no epoch was better on validation"
    return f"this potential is not trained: model.pt has {began}, because {why}"


def tested(errors: Mapping[str, Any] | None, elsewhere: int) -> str:
    """The errors of the test set in one line, or that there was none; `elsewhere`: structures in other sets too."""
    if errors is None:
        return "Nothing was tested: all structures were used in the training, and its errors are no measure of others"
    shown = [f"{METRICS[n]} {errors[n]:.3g}" for n in ("energy_rmse", "force_rmse") if errors[n] is not None]
    if not shown:
        return "Nothing was tested: no test structure has energies or forces"
    said = "that decided nothing"
    if elsewhere:
        said = f"of which {elsewhere} are in the other sets too, which is no test"
    return f"Tested on {errors['n_structures']} structures {said}: {', '.join(shown)}"
