"""Groups of frames as the configuration asks for them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from nnpkit.config.schema import Config
from nnpkit.config.schema_schedules import FullSchedule
from nnpkit.data.groups import Grouping, find_grouping
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.training.schedules.sampling import Sampler

__all__ = ["groups_of", "make_sampler", "weights_of_groups"]

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
        return None, []
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
    return grouping, [*lines, *_rare(config, learnt)]


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


def weights_of_groups(config: Config, groups: Sequence[str] | None) -> list[float] | None:
    """Weight of each structure, None where all have the same."""
    given = config.training.group_weights
    return None if not given or groups is None else [given.get(name, 1.0) for name in groups]
