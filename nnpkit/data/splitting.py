"""Training, validation and test set out of one list of structures.

What belongs together stays together: copies of a geometry always; frames of a trajectory, or with the same value of a
key, as the rule says. Nothing depends on anything but the structures, the rule and the seed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Literal

from nnpkit.data.dataset import structure_sha256
from nnpkit.data.structure import Structure
from nnpkit.data.trajectories import file_of, trajectories
from nnpkit.errors import InputError

__all__ = ["FEWEST", "Division", "SplitRule", "divide"]

FEWEST = 6
"""Different geometries below which no set is taken away from the training data."""

_NAMES = {"test": "data.test_fraction", "validation": "data.validation_fraction"}


@dataclass(frozen=True)
class SplitRule:
    """How a list of structures is divided.

    Attributes
    ----------
    kind : str
        ``auto``, ``random``, ``by_group`` or ``sequential``, see `divide`.
    group : str or None
        For ``by_group``: a key of the frames' `info`, or ``file``.
    validation, test : float
        Part of the structures in these sets, rounded, at least one if not 0.
    folds, fold : int or None, int
        Cross-validation: the structures are dealt into `folds` test sets, and the one of number `fold` is tested on.
    """

    kind: Literal["auto", "random", "by_group", "sequential"] = "auto"
    group: str | None = None
    validation: float = 0.1
    test: float = 0.1
    folds: int | None = None
    fold: int = 0


@dataclass
class Division:
    """Which structures are in which set, by index and in ascending order.

    Attributes
    ----------
    train, validation, test : list of int
        The sets; one that was not asked for, or for which there are too few structures, is empty.
    trajectories, groups : int
        Trajectories recognised; groups that were dealt as wholes, single structures not counted.
    cut : int
        Trajectories of which every set has a part, in sequence, because they are longer than the set.
    spread : int
        Trajectories whose frames are in several sets because the rule does not look at them.
    words : str
        The same for a person.
    """

    train: list[int]
    validation: list[int] = field(default_factory=list)
    test: list[int] = field(default_factory=list)
    trajectories: int = 0
    groups: int = 0
    cut: int = 0
    spread: int = 0
    words: str = ""

    def warnings(self, kind: str) -> list[str]:
        """That frames of a trajectory are in several sets, if the rule `kind` was asked for and does this."""
        if not self.spread:
            return []
        count = "1 trajectory" if self.spread == 1 else f"{self.spread} trajectories"
        return [
            f"Warning: data.split={kind} spreads the sequential frames of {count} over the sets, so that validation "
            "and test errors are too good; set data.split=auto, which keeps them together or cuts them in sequence"
        ]


@dataclass
class _Group:
    """Structures that stay together: for every geometry the indices of its copies, by first occurrence."""

    copies: list[list[int]]
    whole: bool = True  # never cut
    is_cut: bool = False
    size: int = 0  # structures before anything was cut off

    def __post_init__(self) -> None:
        self.size = self.size or len(self)

    def __len__(self) -> int:
        return sum(map(len, self.copies))

    @property
    def indices(self) -> list[int]:
        return [index for same in self.copies for index in same]


def divide(
    structures: Sequence[Structure], rule: SplitRule, seed: int, kinds: Sequence[str] | None = None
) -> Division:
    """Divide structures into training, validation and test set, reproducibly.

    ``auto``
        Frames of a trajectory (`nnpkit.data.trajectories`) are a group; so is every other structure. Groups go to the
        sets at random. A trajectory with more frames than the set that is taken is cut: its last part is tested on, the
        part before validates, the first part trains.
    ``random``
        Every structure by itself.
    ``by_group``
        Structures with the same value of a key are a group, which is never cut.
    ``sequential``
        All structures, in their order, are cut: the first part trains, then comes validation, then test.

    Random means by a pseudo-random number from the content and the seed. So a set does not depend on the order of files
    or frames, adding structures moves few of the others, and copies of a geometry stay on one side.

    Parameters
    ----------
    structures : sequence of Structure
        All of them.
    rule : SplitRule
        How.
    seed : int
        Another seed, another division.
    kinds : sequence of str, optional
        What each structure is (bulk, surface, gas ...): what is dealt at random by ``auto`` and ``random`` then has
        every kind in proportion, so that one more or fewer of a rare kind does not decide what a set says.

    Raises
    ------
    InputError
        If the structures cannot be divided in this way.
    """
    found = [] if rule.kind == "sequential" else trajectories(structures)
    groups = _groups(structures, rule, seed, found)
    if kinds is not None and rule.kind in ("auto", "random"):
        groups = _by_kind(groups, kinds, seed, rule.folds is not None)
    different = sum(len(group.copies) for group in groups)
    division = Division([], trajectories=len(found))
    division.groups = sum(len(group.copies) > 1 for group in groups)
    if rule.folds is not None:
        division.test, groups = _take_fold(groups, rule, different)
    elif different >= FEWEST:
        division.test, groups = _take(groups, rule.test, len(structures), "test")
    left = sum(len(group.copies) for group in groups)
    if (different >= FEWEST) if rule.folds is None else (left >= FEWEST - 1):
        division.validation, groups = _take(groups, rule.validation, len(structures), "validation")
    division.train = sorted(index for group in groups for index in group.indices)
    division.cut = sum(group.is_cut for group in groups)
    division.spread = 0 if rule.kind == "auto" else _spread(division, found)
    division.words = _words(rule, division, different, len(groups))
    if not division.train:
        raise InputError(
            f"{len(structures)} structures cannot be split: nothing is left to train on",
            where="data.validation_fraction, data.test_fraction", expected="smaller fractions, or more structures",
        )  # fmt: skip
    return division


def _spread(division: Division, found: Sequence[Sequence[int]]) -> int:
    """How many of these trajectories have frames in more than one set."""
    parts = (division.train, division.validation, division.test)
    part_of = {index: number for number, part in enumerate(parts) for index in part}
    return sum(len({part_of[index] for index in trajectory}) > 1 for trajectory in found)


def _groups(
    structures: Sequence[Structure], rule: SplitRule, seed: int, found: Sequence[Sequence[int]]
) -> list[_Group]:
    """Groups in a random order that depends on seed and content alone, given the trajectories that were found."""
    geometries = [structure_sha256(structure, labels=False, state=False) for structure in structures]
    if rule.kind == "sequential":
        return [_Group([[index] for index in range(len(structures))], whole=False)]
    if rule.kind == "by_group":
        values = [_value(structure, rule.group) for structure in structures]
        labels = [hashlib.sha256(f"{seed}:{value}".encode()).hexdigest() for value in values]
        return _gathered(labels, geometries, whole=True)
    labels = [hashlib.sha256(f"{seed}:{geometry}".encode()).hexdigest() for geometry in geometries]
    if rule.kind == "random":
        return _gathered(labels, geometries, whole=True)
    return _gathered(_joined(labels, found), geometries, whole=False)


def _by_kind(groups: Sequence[_Group], kinds: Sequence[str], seed: int, dealt: bool) -> list[_Group]:
    """Groups in an order whose every beginning has the kinds in proportion; kind after kind if they will be `dealt`.

    The order within a kind stays. A group is of the kind of its first structure.
    """
    of_kind: dict[str, list[_Group]] = {}
    for group in groups:
        of_kind.setdefault(kinds[group.copies[0][0]], []).append(group)
    if dealt:
        return [group for kind in sorted(of_kind) for group in of_kind[kind]]
    placed: list[tuple[float, str, _Group]] = []
    for kind, own in of_kind.items():
        draw = hashlib.sha256(f"{seed}:{kind}".encode()).digest()
        before = int.from_bytes(draw[:7], "big") / 2**56  # else the first of every rare kind would come first
        total = sum(map(len, own))
        for group in own:
            placed.append((before / total, kind, group))
            before += len(group)
    return [group for _, _, group in sorted(placed, key=lambda item: item[:2])]


def _value(structure: Structure, key: str | None) -> str:
    """Value of the key by which a structure is grouped."""
    if key == "file":
        return file_of(structure)
    if key not in structure.info:
        known = ", ".join(sorted(map(str, structure.info))) or "none"
        raise InputError(
            f"the frame has no {key!r}, by which data.group groups", where=structure.name,
            expected=f"a key that all frames have, or file (keys of this frame: {known})",
        )  # fmt: skip
    return str(structure.info[key])


def _joined(labels: Sequence[str], found: Sequence[Sequence[int]]) -> list[str]:
    """Labels by which the frames of a trajectory, and trajectories that share a geometry, are one group."""
    root = {label: label for label in labels}

    def top(label: str) -> str:
        while root[label] != label:
            root[label] = root[root[label]]
            label = root[label]
        return label

    for trajectory in found:
        for index in trajectory[1:]:
            first, other = sorted((top(labels[trajectory[0]]), top(labels[index])))
            root[other] = first
    return [top(label) for label in labels]


def _gathered(labels: Sequence[str], geometries: Sequence[str], whole: bool) -> list[_Group]:
    groups: dict[str, dict[str, list[int]]] = {}
    for index, (label, geometry) in enumerate(zip(labels, geometries, strict=True)):
        groups.setdefault(label, {}).setdefault(geometry, []).append(index)
    lists = [list(groups[label].values()) for label in sorted(groups)]
    return [_Group(copies, whole or len(copies) == 1) for copies in lists]


def _take(
    groups: list[_Group], fraction: float, n_structures: int, name: str
) -> tuple[list[int], list[_Group]]:
    """Indices, ascending, of a set with this part of all structures, and the groups without them."""
    if fraction == 0.0:
        return [], groups
    wanted = max(1, round(fraction * n_structures))
    taken: list[int] = []
    left, short = [], []
    for group in groups:
        if group.whole or len(group) <= wanted:
            short.append(group)
            continue
        here = max(1, round(fraction * group.size))
        first, last = _cut(group, here)
        taken += last.indices
        left.append(first)
    room = wanted - len(taken)
    smallest = min(short, key=len) if short and not taken else None
    some = [group for group in _fitting(short, room)] or ([smallest] if smallest is not None else [])
    taken += [index for group in some for index in group.indices]
    left += [group for group in short if all(group is not other for other in some)]
    if not left:
        raise InputError(
            f"{n_structures} structures in {len(groups)} groups cannot be split: nothing is left to train on",
            where=_NAMES[name], expected="a smaller fraction, more groups, or the set in files of its own",
        )  # fmt: skip
    return sorted(taken), left


def _fitting(groups: Sequence[_Group], room: int) -> list[_Group]:
    """The first groups, in their order, that have room."""
    some: list[_Group] = []
    for group in groups:
        if len(group) <= room:
            some.append(group)
            room -= len(group)
    return some


def _cut(group: _Group, n_last: int) -> tuple[_Group, _Group]:
    """First part and last part, which has about `n_last` structures; copies stay together."""
    at = len(group.copies)
    while at > 1 and n_last > 0:
        at -= 1
        n_last -= len(group.copies[at])
    first, last = group.copies[:at], group.copies[at:]
    return replace(group, copies=first, is_cut=True), replace(group, copies=last, is_cut=True)


def _take_fold(groups: list[_Group], rule: SplitRule, different: int) -> tuple[list[int], list[_Group]]:
    """Indices of the test set of a fold, and the groups without them.

    Groups go one by one to the fold that has the fewest structures; a trajectory longer than a fold is cut into as
    many parts as there are folds.
    """
    folds, number = rule.folds or 1, rule.fold
    units = different if rule.kind == "random" else sum(1 if g.whole else len(g.copies) for g in groups)
    if not 0 <= number < folds:
        raise InputError(f"fold {number} of {folds}", where="data.fold", expected=f"0 to {folds - 1}")
    if not 2 <= folds <= units:
        what = "groups" if rule.kind == "by_group" else "different geometries"
        raise InputError(
            f"{units} {what} cannot be divided into {folds} folds",
            where="data.folds",
            expected=f"2 to {units}",
        )
    total = sum(map(len, groups))
    sizes, test, left = [0] * folds, [], []
    for group in groups:
        if not group.whole and len(group) * folds > total and len(group.copies) >= folds:
            bounds = [len(group.copies) * k // folds for k in range(folds + 1)]
            parts = [group.copies[a:b] for a, b in pairwise(bounds)]
            test += [index for same in parts[number] for index in same]
            others = [same for k, part in enumerate(parts) if k != number for same in part]
            left.append(replace(group, copies=others, is_cut=True))
            sizes = [size + sum(map(len, part)) for size, part in zip(sizes, parts, strict=True)]
            continue
        own = sizes.index(min(sizes))
        sizes[own] += len(group)
        if own == number:
            test += group.indices
        else:
            left.append(group)
    if not test or not left:
        raise InputError(
            f"fold {number} of {folds} would be empty", where="data.folds", expected="fewer folds"
        )
    return sorted(test), left


def _words(rule: SplitRule, division: Division, different: int, n_groups: int) -> str:
    """What was done, for a person."""
    if rule.folds is None and different < FEWEST:
        return f"{rule.kind}: {different} different structures are too few to take any away"
    if rule.kind == "sequential":
        return "sequential: in the order of the files"
    if rule.kind == "by_group":
        return f"by_group: whole groups by {rule.group}, {division.groups} with several structures, at random"
    if rule.kind == "random":
        return "random: structure by structure, copies together"
    if not division.trajectories:
        return "auto: no trajectory recognised, structures at random"
    plural = "ies" if division.trajectories > 1 else "y"
    words = f"auto: {division.trajectories} trajector{plural} recognised"
    if division.cut:
        words += f", {division.cut} cut in sequence"
    rest = n_groups > division.cut
    return words + (", whole ones and single structures at random" if rest else "")
