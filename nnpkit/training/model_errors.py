"""Errors of a model in training, and which of them decide."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from nnpkit.data.structure import Structure
from nnpkit.measure.ahead import PreparesAhead
from nnpkit.measure.contract import Predicts
from nnpkit.measure.metrics import ErrorSums
from nnpkit.models.charged_potential import charges_and_dipole
from nnpkit.parallel import ALONE, Ranks
from nnpkit.units import stress_from_virial

__all__ = ["FEW_ENERGIES", "Split", "count_energies", "deciding", "errors_of", "judged", "monitored"]

FEW_ENERGIES = 40
"""Energies of validation structures below which those of training structures are judged by, too."""

NO_FORCE = 1e-5
"""eV/Å, root mean square: labels below are zeros with the rounding of whatever computed them."""


class Split(NamedTuple):
    """A set of structures and the same structures prepared for training."""

    structures: Sequence[Structure]
    store: Predicts
    groups: list[str] | None = None  # of each structure


def errors_of(split: Split, which: Sequence[int] | None = None, ranks: Ranks = ALONE) -> dict[str, Any]:
    """Summary (keys of `nnpkit.measure.metrics.METRICS`) of the errors of the model now, of all or `which`.

    With them that of most energies, see `nnpkit.measure.metrics.ErrorSums.of_most`. Each of the `ranks` evaluates some
    of them.
    """
    sums = ErrorSums()
    indices = range(len(split.structures)) if which is None else which
    mine, store = indices[ranks.rank :: ranks.size], split.store
    for place, index in enumerate(mine):
        if isinstance(store, PreparesAhead):
            store.ahead.expect([index], mine[place + 1 : place + 3], for_update=False)
        structure = split.structures[index]
        prediction = store.predict(index)
        stress = None
        if structure.stress is not None:
            stress = stress_from_virial(prediction.virial[0].numpy(), structure.volume)
        group = None if split.groups is None else split.groups[index]
        stated = charges_and_dipole(prediction, structure)
        sums.add(structure, float(prediction.energy), prediction.forces.numpy(), stress, group, *stated)
    sums = sums.shared(ranks)
    return {**sums.summary(), **sums.of_most()}


def deciding(structures: Sequence[Structure]) -> set[str]:
    """Which errors may choose the best epoch: ``energy_rmse``, ``force_rmse``.

    Those of labels that the structures have. Forces that are zero by symmetry, as in a volume scan of a crystal, do not
    count: any potential gets them right up to rounding, and the noise of that must not choose.
    """
    square, count, found = 0.0, 0, set()
    for structure in structures:
        if structure.energy is not None:
            found.add("energy_rmse")
        if structure.forces is not None:
            square, count = square + float((structure.forces**2).sum()), count + structure.forces.size
    size = math.sqrt(square / max(1, count))
    return found | ({"force_rmse"} if size > NO_FORCE else set())


def monitored(errors: Mapping[str, Any], monitor: str, counting: Collection[str] | None = None) -> float:
    """The number that makes one epoch better than another.

    ``energy_rmse``, ``force_rmse``, or ``energy_force``: their geometric mean, for which halving either error
    is worth the same whatever their units. A kind of label that the data lack, or that is not in `counting` (see
    `deciding`), does not count; without any the result is not a number.
    """
    names = ("energy_rmse", "force_rmse") if monitor == "energy_force" else (monitor,)
    counted = [n for n in names if errors[n] is not None and (counting is None or n in counting)]
    values = [float(errors[name]) for name in counted]
    return math.prod(values) ** (1.0 / len(values)) if values else math.nan


def count_energies(structures: Sequence[Structure], which: Sequence[int]) -> int:
    """How many of `which` structures have an energy."""
    return sum(structures[index].energy is not None for index in which)


def judged(errors: Mapping[str, Mapping[str, Any]], judge: str, n_energies: int) -> Mapping[str, Any]:
    """Errors that choose the best epoch: those of the `judge`, and of energies of the training set if it has few.

    Structures whose energies are predicted worst, one in twenty, have no say: a strained cell that is like no other is
    predicted well in one early epoch by chance, and would choose it. Forces all count: those of few atoms that are far
    off are what a best epoch must not have. The error of one or two energies passes through zero by
    chance, too. So squares of the energy errors of `n_energies` validation structures below `FEW_ENERGIES` are averaged
    with that of the training structures, which takes the place of those that are missing.
    """
    found = _of_most(errors[judge])
    if judge == "train" or not 0 < n_energies < FEW_ENERGIES or errors["train"]["energy_rmse"] is None:
        return found
    part = n_energies / FEW_ENERGIES
    own, learnt = float(found["energy_rmse"]), float(_of_most(errors["train"])["energy_rmse"])
    return {**found, "energy_rmse": math.sqrt(part * own**2 + (1.0 - part) * learnt**2)}


def _of_most(errors: Mapping[str, Any]) -> dict[str, Any]:
    """The errors, that of energies without the structures that are predicted worst, where there are enough."""
    return {name: errors.get(f"{name}_of_most", value) for name, value in errors.items()}
