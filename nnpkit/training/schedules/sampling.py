"""How often the structures of each group come in an epoch."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

__all__ = ["EXPONENT", "MOST_REPEATS", "Sampler", "balanced_numbers", "draw"]

EXPONENT = 0.5
"""The share of a group in an epoch is proportional to this power of the number of its structures."""
MOST_REPEATS = 10
"""No structure comes more often than that in an epoch."""


def balanced_numbers(sizes: Sequence[int]) -> list[float]:
    """How many structures of each group an epoch has, as many in all as there are structures.

    Proportional to the square root of the `sizes`, so that one in a hundred becomes one in eleven, and no structure
    comes more than ten times: what a group has too little for is left to the others.
    """
    total, numbers = float(sum(sizes)), [0.0] * len(sizes)
    free = set(range(len(sizes)))
    while free:
        rest = total - sum(numbers[g] for g in range(len(sizes)) if g not in free)
        whole = sum(sizes[g] ** EXPONENT for g in free)
        wanted = {g: rest * sizes[g] ** EXPONENT / whole for g in free}
        full = {g for g in free if wanted[g] > MOST_REPEATS * sizes[g]}
        for g in full or free:
            numbers[g] = float(MOST_REPEATS * sizes[g]) if g in full else wanted[g]
        free = free - full if full else set()
    return numbers


class Sampler:
    """Draws the structures of an epoch so that no group is lost among the others.

    Parameters
    ----------
    groups : sequence of str
        Of each structure.
    """

    def __init__(self, groups: Sequence[str]) -> None:
        members: dict[str, list[int]] = {}
        for index, name in enumerate(groups):
            members.setdefault(name, []).append(index)
        numbers = balanced_numbers([len(own) for own in members.values()])
        self.group_of = list(groups)
        self.times = {name: n / len(own) for (name, own), n in zip(members.items(), numbers, strict=True)}

    def weights(self, indices: Sequence[int]) -> Tensor:
        """How often (M,) each of these structures comes in an epoch, on average."""
        return torch.tensor([self.times[self.group_of[index]] for index in indices], dtype=torch.float64)

    def strata(self, indices: Sequence[int], kinds: Sequence[Hashable]) -> list[tuple[list[int], int]]:
        """Structures of one group and kind, and how many of them an epoch has: at least one, as many in all as given.

        So the kinds of an epoch, on which the number of its updates depends, are the same in every one.
        """
        strata: dict[Hashable, list[int]] = {}
        for index, kind in zip(indices, kinds, strict=True):
            strata.setdefault((self.group_of[index], kind), []).append(index)
        members = list(strata.values())
        wanted = [len(own) * self.times[self.group_of[own[0]]] for own in members]
        return list(zip(members, _whole_numbers(wanted, len(indices)), strict=True))


def draw(strata: Sequence[tuple[list[int], int]], generator: torch.Generator) -> list[int]:
    """The structures of an epoch in random order: of each stratum all as often as they fit, and some once more."""
    chosen: list[int] = []
    for members, number in strata:
        times, rest = divmod(number, len(members))
        more = torch.randperm(len(members), generator=generator)[:rest].tolist()
        chosen += members * times + [members[k] for k in more]
    return [chosen[k] for k in torch.randperm(len(chosen), generator=generator).tolist()]


def _whole_numbers(wanted: Sequence[float], total: int) -> list[int]:
    """Whole numbers, at least one each, in proportion to those `wanted`, with this sum."""
    scale = total / sum(wanted)
    numbers = [max(1, int(scale * value)) for value in wanted]
    while (missing := total - sum(numbers)) != 0:
        step = 1 if missing > 0 else -1
        candidates = [k for k in range(len(numbers)) if step > 0 or numbers[k] > 1]
        farthest = max(candidates, key=lambda k: step * (scale * wanted[k] - numbers[k]))
        numbers[farthest] += step
    return numbers
