"""`nnpkit train --plan`: what a training will be and what its time buys, before anything is trained or written."""

from __future__ import annotations

import time
from itertools import islice
from typing import Any

from rich.console import Console

from nnpkit.config.schema import Config
from nnpkit.config.schema_optimizer import Ekf
from nnpkit.errors import InputError
from nnpkit.families.factory import count_parameters
from nnpkit.optim.covariance_memory import covariance_bytes
from nnpkit.training.budget import part_seconds, some_structures
from nnpkit.training.model_errors import errors_of
from nnpkit.workflow.assemble import connect, load_data, make_schedule, make_update
from nnpkit.workflow.duration import planned, time_budget
from nnpkit.workflow.new_model import make_model
from nnpkit.workflow.run_steps import announce_memory, memory_of, prepare, prepares_ahead
from nnpkit.workflow.update_makers import covariance_partition

__all__ = ["plan_training"]

_TRIALS = 20
_SECONDS = 5.0
_STRUCTURES = 20
_RANKS = (2, 4, 8)
_MEASURED = 3
_EXCHANGE = 1e-3  # seconds of the collective calls of an update, measured with gloo on one node


def plan_training(config: Config, console: Console | None = None) -> dict[str, Any]:
    """Print and return what a training would be; nothing is written and no weight outlives the plan.

    Parameters
    ----------
    config : Config
        Of the training.

    Returns
    -------
    dict
        ``n_parameters``, ``features`` (of each element), ``updates_per_second``, ``updates_per_pass`` (over the data),
        ``evaluation_seconds``, ``seconds``, ``updates`` and ``passes`` that the training would have, ``gigabytes``, and
        ``ranks``: by number of processes ``seconds_per_update`` and ``gigabytes`` of covariance of each.

    Raises
    ------
    InputError
        For data or settings that cannot be used, and for a training that begins with the weights of another one.
    """
    console = console or Console()
    if config.start is not None:
        raise InputError(
            "--plan is of trainings from scratch", where="start", hint="leave start out for the plan"
        )
    data = load_data(config)
    model, report = make_model(config, data)
    schedule = make_schedule(config, data.learnt, data.groups)
    memory = memory_of(config, model, data)
    announce_memory(console, model, [*report, *data.notes], memory, prepares_ahead(config))
    splits = prepare(model, data, memory["budget"], console)
    connect(schedule, splits["train"].store)
    length = schedule.epoch_length(0)
    budget = time_budget(config, False)
    epochs, total = planned(config, schedule, False)
    update = make_update(config, splits["train"].store, max(1, total), data.groups)
    update.begin_epoch(0)
    trials = list(islice(schedule.epoch(), _TRIALS))
    speed = _updates_per_second(update, trials)
    evaluation = sum(_evaluation_seconds(split, budget is not None) for split in splits.values())
    if budget is None:
        updates = float(total)
        seconds = updates / speed + evaluation * (1 + epochs // config.training.evaluate_every)
    else:
        seconds, part = budget, part_seconds(budget, evaluation)
        updates = speed * budget * part / (part + evaluation)
    plan = {
        "n_parameters": count_parameters(model),
        "features": dict(zip(model.elements, model.descriptor.n_features, strict=True)),
        "updates_per_second": round(speed, 2),
        "updates_per_pass": length,
        "evaluation_seconds": round(evaluation, 3),
        "seconds": round(seconds, 1),
        "updates": round(updates),
        "passes": round(updates / max(1, length), 2),
        "gigabytes": round((min(memory["derivatives"], memory["budget"]) + memory["covariance"]) / 1e9, 3),
    }
    optimizer = config.training.optimizer
    ranks = _on_ranks(update, trials[0], 1.0 / speed) if isinstance(optimizer, Ekf) else {}
    plan["ranks"] = ranks
    blocks = [covariance_partition(optimizer, model).note] if isinstance(optimizer, Ekf) else []
    lines = [
        *blocks,
        f"Plan: {speed:.3g} updates a second, {length} for a pass over the data; {evaluation:.2g} s to evaluate",
        f"{'budget' if budget is not None else 'about'} {seconds:.0f} s buy {updates:.0f} updates, {plan['passes']:g} "
        f"passes over the data; about {plan['gigabytes']:.2f} GB beside the data themselves. Nothing was written.",
    ]
    if ranks:
        words = "; ".join(
            f"{r}: {1e3 * own['seconds_per_update']:.3g} ms, {own['gigabytes']:.3g} GB"
            for r, own in ranks.items()
        )
        lines.append(f"on several processes, about, an update and the covariance of each: {words}")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return plan


def _updates_per_second(update: Any, labels: list[Any]) -> float:
    """Speed of a few updates, the first not counted."""
    update.apply(labels[0])
    done, began = 0, time.monotonic()
    for one in labels[1:] or labels:
        update.apply(one)
        done += 1
        if time.monotonic() - began > _SECONDS:
            break
    return done / max(1e-9, time.monotonic() - began)


def _on_ranks(update: Any, labels: Any, seconds: float) -> dict[int, dict[str, float]]:
    """What an update with `labels` takes, and its covariance, on some numbers of processes.

    Rows of the Jacobian are divided evenly, the filter as the blocks are; an exchange takes `_EXCHANGE` seconds.
    """
    began = time.monotonic()
    for _ in range(_MEASURED):
        update.observer.measure(labels)
    measuring = min(seconds, (time.monotonic() - began) / _MEASURED)
    partition, settings = update.optimizer.partition, update.optimizer.settings
    work = [size**2 for size in partition.sizes]
    found = {}
    for ranks in _RANKS:
        share, owned = 1.0, list(range(len(work)))
        if len(work) >= ranks:
            owners = partition.owners(ranks)
            parts = [[k for k, owner in enumerate(owners) if owner == rank] for rank in range(ranks)]
            owned = max(parts, key=lambda part: sum(work[k] for k in part))
            share = sum(work[k] for k in owned) / sum(work)
        taken = measuring / ranks + (seconds - measuring) * share + _EXCHANGE
        gigabytes = covariance_bytes(partition, settings.dtype, settings.lazy_rank, owned=owned) / 1e9
        found[ranks] = {"seconds_per_update": round(taken, 6), "gigabytes": round(gigabytes, 4)}
    return found


def _evaluation_seconds(split: Any, in_parts: bool) -> float:
    """Time to evaluate a set, from some of its structures."""
    n = len(split.structures)
    all_ = some_structures([s.n_atoms for s in split.structures]) if in_parts else list(range(n))
    some = all_[:: max(1, len(all_) // _STRUCTURES)]
    began = time.monotonic()
    errors_of(split, some)
    return (time.monotonic() - began) * len(all_) / max(1, len(some))
