"""Groups of frames as the configuration asks for them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from nnpkit.config.schema import Config
from nnpkit.config.schema_schedules import FullSchedule
from nnpkit.data.groups import Grouping, find_grouping
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.training.schedules.sampling import Sampler

__all__ = ["groups_of", "make_sampler", "weights_of_structures"]

_SHOWN = 12
_RARE = 0.05  # of the training structures


def groups_of(config: Config, splits: Mapping[str, Sequence[Structure]]) -> tuple[Grouping | None, list[str]]:
    """What names the groups of the structures of all sets, None for none; and a line for a person.

    Raises
    ------
    InputError
        If the configuration names groups that there are not, or asks for something that needs several.
    """
    training, grouping = config.training, find_grouping(splits, config.data.groups)
    weights_of_structures(config, splits["train"], None)  # says what is wrong with them
    advice = _unused_weights(config, splits["train"])
    if grouping is None:
        for name, given in (
            ("training.sampling: balanced", training.sampling == "balanced"),
            ("training.group_weights", bool(training.group_weights)),
        ):
            if given:
                raise InputError(
                    f"{name} has no effect: there are no groups", where=f"data.groups: {config.data.groups}",
                    expected="a key of the frames with several values, or file",
                )  # fmt: skip
        return None, advice
    counts = {name: Counter(grouping.names(part)) for name, part in splits.items()}
    learnt = counts["train"]
    if training.sampling == "balanced" and len(learnt) < 2:
        raise InputError(
            f"training.sampling: balanced has no effect: all training structures are of the group {min(learnt)}",
            where=f"data.groups: {config.data.groups}", expected="several groups, or sampling: proportional",
        )  # fmt: skip
    weighed = learnt if config.data.folds is None else sum(counts.values(), Counter())
    for name in training.group_weights:
        if name not in weighed:
            known = ", ".join(sorted(weighed))
            raise InputError(
                f"no training structure is of the group {name!r}", where="training.group_weights",
                expected=f"names of groups by {grouping.key}: {known}",
            )  # fmt: skip
    names = [name for name, _ in learnt.most_common(_SHOWN)]
    words = ", ".join(f"{name} {learnt[name]}" for name in names)
    more = f" and {len(learnt) - len(names)} more" if len(learnt) > len(names) else ""
    lines = [f"groups of training structures by {grouping.key}: {words}{more}"]
    return grouping, [*lines, *_rare(config, learnt), *advice]


def _rare(config: Config, learnt: Counter[str]) -> list[str]:
    """A line of advice if a small group may be lost among the others."""
    few = [name for name, number in learnt.items() if number < _RARE * learnt.total()]
    plain = config.training.sampling == "proportional" and not config.training.group_weights
    if not few or not plain or isinstance(config.training.schedule, FullSchedule):
        return []
    which = f"the group {few[0]} is" if len(few) == 1 else f"{len(few)} groups are each"
    return [
        f"{which} less than {100 * _RARE:g} % of the training structures: training.sampling=balanced lets rare groups "
        "come more often"
    ]


def make_sampler(config: Config, groups: Sequence[str] | None) -> Sampler | None:
    """What draws structures by their groups, None where every structure comes once."""
    balanced = config.training.sampling == "balanced" and groups is not None and len(set(groups)) > 1
    return Sampler(groups or ()) if balanced else None


def weights_of_structures(
    config: Config, structures: Sequence[Structure], groups: Sequence[str] | None
) -> list[float] | None:
    """Weight of each structure, that of its group times its own; None where nobody asked for any.

    Raises
    ------
    InputError
        If the frames have no numbers above 0 under the key of ``training.frame_weights``.
    """
    training = config.training
    if not (training.group_weights and groups is not None) and training.frame_weights is None:
        return None
    weights = [1.0] * len(structures)
    if training.group_weights and groups is not None:
        weights = [training.group_weights.get(name, 1.0) for name in groups]
    if training.frame_weights is not None:
        own = _frame_weights(training.frame_weights, structures)
        weights = [a * b for a, b in zip(weights, own, strict=True)]
    return weights


def _frame_weights(key: str, structures: Sequence[Structure]) -> list[float]:
    """What the frames have under `key`, 1 where they have nothing."""
    if not any(key in s.info for s in structures):
        raise InputError(
            f"no training structure has a {key}", where="training.frame_weights",
            expected="a key of the frames with a number",
        )  # fmt: skip
    weights = []
    for structure in structures:
        value = structure.info.get(key, 1.0)
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < math.inf:
            raise InputError(
                f"{key} is {str(value)[:40]}", where=structure.name, expected="a number above 0",
                hint="it is the weight of the frame, by training.frame_weights",
            )  # fmt: skip
        weights.append(float(value))
    return weights


def _unused_weights(config: Config, structures: Sequence[Structure]) -> list[str]:
    """A line of advice if the frames have weights that have no effect."""
    if config.training.frame_weights is not None:
        return []
    found = Counter(str(s.info["weight"]) for s in structures if "weight" in s.info)
    if len(found) < 2 and (not found or found.total() == len(structures)):
        return []
    return [
        f"{found.total()} training structures have a weight, which has no effect: training.frame_weights=weight lets "
        "it count"
    ]
