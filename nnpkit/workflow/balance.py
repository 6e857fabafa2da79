"""What a training weighs its labels by, in words."""

from __future__ import annotations

from collections.abc import Sequence

from nnpkit.config.schema import Config
from nnpkit.config.schema_schedules import PinnSchedule
from nnpkit.config.schema_training import Ekf
from nnpkit.data.structure import Structure
from nnpkit.workflow.learned_labels import (
    contradictory_stresses,
    force_components,
    learns_virials,
    ridge_strength,
)

__all__ = ["balance", "learns_stress"]


def learns_stress(config: Config, structures: Sequence[Structure]) -> bool:
    """Whether a training on `structures` sees any of their stresses."""
    return learns_virials(config, structures) and any(s.stress is not None for s in structures)


def balance(config: Config, structures: Sequence[Structure], n_weights: int) -> str:
    """One line: how many structures have labels of each kind that are learnt, how much these count, and the ridge."""
    training = config.training
    optimizer, schedule = training.optimizer, training.schedule
    learnt = {
        "energy": getattr(schedule, "energy", True) is not False,
        "force": training.force_training.kind in ("direct", "subset")
        and force_components(config, structures) != 0,
        "virial": learns_virials(config, structures),
    }
    if isinstance(schedule, PinnSchedule) and schedule.energy_probability == 1.0:
        learnt["force"] = False
    counts = {
        "energy": sum(s.energy is not None for s in structures),
        "force": sum(s.forces is not None for s in structures),
        "virial": sum(s.stress is not None for s in structures),
    }
    words = []
    for kind, unit in (("energy", "eV/atom"), ("force", "eV/Å"), ("virial", "eV/atom")):
        name = {"energy": "energies", "force": "forces", "virial": "stresses"}[kind]
        if not learnt[kind] or counts[kind] == 0:
            reason = "there are none" if counts[kind] == 0 else "not learnt"
            automatic = kind == "virial" and getattr(schedule, "virial", False) == "auto"
            if automatic and counts[kind] and contradictory_stresses(structures):
                reason = (
                    "not learnt, they contradict the energies (training.schedule.virial=true learns them yet)"
                )
            words.append(f"{name}: {reason}")
        elif isinstance(optimizer, Ekf) and optimizer.learning_rate is None:
            least = "at least " if optimizer.robust else ""
            words.append(
                f"{name} of {counts[kind]} structures, noise {least}{getattr(optimizer.noise, kind):g} {unit}"
            )
        else:
            words.append(f"{name} of {counts[kind]} structures, weight {getattr(training.weights, kind):g}")
    ridge = ridge_strength(config, structures, n_weights)
    return "labels: " + "; ".join(words) + (f"; ridge {ridge:.2g}" if ridge else "")
