"""Which models are tried when somebody asks for the best one within a budget: sizes and cutoffs of the families."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from nnpkit.errors import InputError
from nnpkit.workflow.learned_labels import CHOSEN_CUTOFF

__all__ = ["LADDERS", "Candidate", "candidates"]


class Candidate(NamedTuple):
    """A model that may be trained."""

    name: str
    kind: str
    size: str
    shortened: float  # factor of the default cutoffs
    model: dict[str, Any]  # the section ``model``


_MORE_INVARIANTS = [
    [1, 1], [2, 2], [3, 3], [4, 4], [1, 1, 2], [2, 2, 2], [1, 2, 3], [2, 2, 4], [1, 3, 4], [2, 3, 3], [1, 1, 2, 2],
    [1, 1, 1, 1], [2, 2, 2, 2],
]  # fmt: skip

LADDERS: dict[str, dict[str, dict[str, Any]]] = {
    "acsf": {
        "small": {"descriptor": {"radial": 5, "zetas": [1.0, 4.0]}},
        "medium": {},
        "large": {"descriptor": {"radial": 12, "zetas": [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]}},
    },
    "cluster_expansion": {
        "tiny": {
            "descriptor": {"radial_channels": 4, "angular_channels": 4, "radial_basis": 6, "angular_basis": 6,
                           "invariants": [[1, 1], [2, 2]]}
        },
        "small": {
            "descriptor": {"radial_channels": 6, "angular_channels": 4, "radial_basis": 8, "angular_basis": 8,
                           "invariants": [[1, 1], [2, 2], [3, 3], [2, 2, 2]]}
        },
        "medium": {},
        "large": {
            "descriptor": {"radial_channels": 12, "angular_channels": 12, "radial_basis": 12, "angular_basis": 12,
                           "invariants": _MORE_INVARIANTS}
        },
    },
    "nep": {
        "small": {"descriptor": {"n_max_radial": 4, "n_max_angular": 3, "l_max": 2}},
        "medium": {},
        "large": {"descriptor": {"n_max_radial": 8, "n_max_angular": 8, "l_max": 4, "five_body": True}},
    },
}  # fmt: skip
"""By family and size: what differs from the default settings."""
_SHORTENED = (1.0, 0.8)


def candidates(families: Sequence[str]) -> list[Candidate]:
    """Every size of the families, each with the default cutoffs and with shorter ones.

    Raises
    ------
    InputError
        For a family without a ladder, or the same one twice.
    """
    if not families or len(set(families)) < len(families):
        raise InputError(f"families {' '.join(families)}", where="--families", expected="each once")
    found = []
    for kind in families:
        if kind not in LADDERS:
            raise InputError(
                f"nothing is known of sizes of the family {kind!r}", where="--families",
                expected=", ".join(LADDERS),
            )  # fmt: skip
        for (size, changes), factor in product(LADDERS[kind].items(), _SHORTENED):
            descriptor = {**changes.get("descriptor", {}), **_cutoffs(kind, factor)}
            name = f"{kind}-{size}" + ("" if factor == 1.0 else "-short")
            found.append(
                Candidate(name, kind, size, factor, {**changes, "kind": kind, "descriptor": descriptor})
            )
    return found


def _cutoffs(kind: str, factor: float) -> Mapping[str, float]:
    """The default cutoffs of a family, shortened; nothing where they stay as they are."""
    from nnpkit.families.registered import FAMILIES

    if factor == 1.0:
        return {}
    defaults = FAMILIES.get(kind).settings().descriptor
    names = [n for n in ("cutoff", "radial_cutoff", "angular_cutoff") if n in type(defaults).model_fields]
    if names == ["radial_cutoff", "angular_cutoff"]:  # where the data choose, it is the least that they would
        return {name: round(factor * (getattr(defaults, name) or CHOSEN_CUTOFF), 3) for name in names}
    return {name: round(factor * getattr(defaults, name), 3) for name in names if getattr(defaults, name)}
