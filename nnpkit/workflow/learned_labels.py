"""Which labels a training learns, how many they are, and what follows from that."""

from __future__ import annotations

from collections.abc import Sequence

from nnpkit.config.schema import Config
from nnpkit.config.schema_schedules import GroupSchedule
from nnpkit.config.schema_training import Adam, Ekf
from nnpkit.data.checks.strain import strain_tests
from nnpkit.data.store.frame_sample import CHECKED, sampled
from nnpkit.data.structure import Structure
from nnpkit.training.ridge import automatic_strength

__all__ = [
    "CHOSEN_CUTOFF",
    "contradictory_stresses",
    "count_labels",
    "force_components",
    "largest_cutoff",
    "learns_virials",
    "ridge_strength",
]

CHOSEN_CUTOFF = 5.0
"""Å, the least that data choose for a cluster expansion."""
_FORCES = 30  # of a structure; with three times as many an update takes 1.6 times as long and learns no more by then


def contradictory_stresses(structures: Sequence[Structure]) -> bool:
    """Whether stresses have an offset that energies do not have, see `nnpkit.data.checks.strain`."""
    return any(test.contradicts for test in strain_tests(sampled(structures, CHECKED)))


def learns_virials(config: Config, structures: Sequence[Structure]) -> bool:
    """Whether virials of `structures` are labels: as the schedule says, or by what there is."""
    training = config.training
    wanted = getattr(training.schedule, "virial", False)
    if wanted != "auto":
        return bool(wanted)
    optimizer = training.optimizer
    prefactors = optimizer.prefactors if isinstance(optimizer, Adam) else None
    if (
        isinstance(optimizer, Ekf)
        and optimizer.reduction not in ("none", "batch_mean")
        and not isinstance(training.schedule, GroupSchedule)
    ):
        return False  # all labels of an update become one
    weightless = prefactors is not None and not any(prefactors.virial)
    forces = training.force_training.kind in ("direct", "subset")
    there = any(structure.stress is not None for structure in structures)
    return forces and not weightless and there and not contradictory_stresses(structures)


def largest_cutoff(config: Config) -> float:
    """Radius, Å, beyond which an atom sees nothing; 5 Å where the data will choose one, which is no less."""
    names = ("cutoff", "radial_cutoff", "angular_cutoff")
    settings = getattr(config.model, "descriptor", config.model)
    return max(getattr(settings, name, None) or 0.0 for name in names) or CHOSEN_CUTOFF


def force_components(config: Config, structures: Sequence[Structure]) -> int | None:
    """Force components of a structure that an update learns from, as `schedule.forces` says; None: all."""
    wanted = getattr(config.training.schedule, "forces", "all")
    if wanted == "all":
        return None
    if wanted != "auto":
        return int(wanted)
    if not any(structure.forces is not None for structure in structures):
        return 0
    return _FORCES


def count_labels(config: Config, structures: Sequence[Structure]) -> dict[str, int]:
    """Numbers of energies, force components and virial components that a training learns from."""
    forces = config.training.force_training.kind not in ("taylor", "none")
    virial = learns_virials(config, structures)
    return {
        "energies": sum(s.energy is not None for s in structures),
        "force components": sum(3 * s.n_atoms for s in structures if forces and s.forces is not None),
        "virial components": sum(6 for s in structures if virial and s.stress is not None),
    }


def ridge_strength(config: Config, structures: Sequence[Structure], n_weights: int) -> float:
    """Strength of the ridge for a training on `structures`, as it is given or by how much there is to learn from."""
    ridge, optimizer = config.training.ridge, config.training.optimizer
    if ridge != "auto":
        return ridge
    if not isinstance(optimizer, Ekf) or not optimizer.robust:
        return 0.0
    return automatic_strength(n_weights, sum(count_labels(config, structures).values()))
