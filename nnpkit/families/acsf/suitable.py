"""Whether the symmetry functions of an earlier potential suit new data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nnpkit.families.acsf.default_functions import narrow_functions
from nnpkit.families.acsf.given_functions import generated_functions
from nnpkit.families.acsf.settings import AcsfModel
from nnpkit.families.acsf.symmetry_functions import Acsf, SymmetryFunction
from nnpkit.families.contract import TrainingData
from nnpkit.families.feature_selection import sample_features, unexplained
from nnpkit.families.prepare import data_statistics
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.sizes import most_functions

__all__ = ["unsuitable"]

_CLEARLY = 10.0
"""A function that the earlier potential lacks is missed if its range is so many times `minimum_range`."""
_TOLD = 0.05  # part of the variance of a function that others may leave unexplained
_ETA_TOLERANCE = 0.1
"""Relative difference of exponents that is the same function: 5 % of a distance."""


def unsuitable(settings: AcsfModel, data: TrainingData, old: AtomicModel) -> str | None:
    """Why the functions of the earlier potential do not suit the data, None if they do."""
    if settings.descriptor.functions != "auto":
        return None
    descriptor = settings.descriptor
    wanted, _ = generated_functions(descriptor, data)
    acsf = Acsf(data.elements, wanted, descriptor.cutoff_function, descriptor.cutoff_inner)
    found = data_statistics(acsf, data.elements, data.train)
    needed, _ = narrow_functions(
        wanted, data.elements, found.minimum, found.maximum, max(_CLEARLY * descriptor.minimum_range, 1e-3)
    )
    known = [SymmetryFunction(**f) for f in old.spec["functions"]]
    missing = [f for f in needed if not any(_alike(f, k) for k in known)]
    most = descriptor.functions_per_element or most_functions(len(data.elements))
    missing = _not_told_by(known, missing, most, data, old) if missing else []
    if not missing:
        return None
    return (
        f"for these data {len(missing)} of {len(needed)} symmetry functions are others, the first: {missing[0]} "
        "(shorter distances, or features that did not vary before)"
    )


def _not_told_by(
    known: Sequence[SymmetryFunction],
    missing: Sequence[SymmetryFunction],
    most: int,
    data: TrainingData,
    old: AtomicModel,
) -> list[SymmetryFunction]:
    """Those of the `missing` functions that do not follow from the `known` ones where these were chosen from more."""
    kind, inner = old.spec["cutoff_kind"], old.spec.get("cutoff_inner", 0.0)
    found: list[SymmetryFunction] = []
    for element in data.elements:
        lacking = [f for f in missing if f.center == element]
        own = [f for f in known if f.center == element]
        if lacking and len(own) >= most:
            others = [f for f in known if f.center != element]
            samples = sample_features(
                Acsf(data.elements, [*own, *lacking, *others], kind, inner), data.elements, data.train
            )
            values = samples[data.elements.index(element)]
            left = unexplained(values[:, : len(own)], values[:, len(own) : len(own) + len(lacking)])
            lacking = [f for f, part in zip(lacking, left, strict=True) if part > _TOLD]
        found += lacking
    return found


def _alike(a: SymmetryFunction, b: SymmetryFunction) -> bool:
    """Whether two functions are the same but for a small difference in width."""
    return replace(a, eta=b.eta) == b and abs(a.eta - b.eta) <= _ETA_TOLERANCE * max(a.eta, b.eta)
