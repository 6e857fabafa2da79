"""Whether the charges of the atoms add up to the charge of the structure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from nnpkit.data.structure import Structure

__all__ = ["ChargeSum", "charge_sums"]

_ROUNDING = 1e-3  # e per atom: what a few printed digits explain


class ChargeSum(NamedTuple):
    """A structure whose charges add up to something else than its total charge."""

    structure: str
    deviation: float  # e: sum minus total charge
    message: str


def charge_sums(structures: Sequence[Structure]) -> Iterator[ChargeSum]:
    """Structures whose atomic charges do not add up to their total charge; without one that is taken to be zero."""
    for structure in structures:
        if structure.charges is None:
            continue
        total, stated = structure.total_charge or 0.0, structure.total_charge is not None
        deviation = float(structure.charges.sum()) - total
        if abs(deviation) <= _ROUNDING * structure.n_atoms:
            continue
        says = f"a total charge of {total:+g} e" if stated else "no total charge, which counts as neutral"
        yield ChargeSum(
            structure.name, deviation,
            f"the charges of its atoms add up to {total + deviation:+.4f} e, but the frame has {says}: off by "
            f"{deviation:+.4f} e; repair the one or write total_charge=",
        )  # fmt: skip
