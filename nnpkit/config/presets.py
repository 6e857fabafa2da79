"""Published trainings as sets of settings: what `optimizer: {preset: ...}` stands for."""

from __future__ import annotations

from typing import Any

__all__ = ["PRESETS", "expand_preset", "optimizer_of_preset"]

_RLEKF: dict[str, Any] = {
    "initial_covariance": 1.0,
    "observation_noise": "blocks",
    "process_noise": 0.0,
    "forgetting": 0.98,
    "forgetting_rate": 0.9987,
    "dtype": "float64",
}
_GROUPS: dict[str, Any] = {
    "kind": "groups", "energy_first": True, "group_atoms": 6, "groups": 4, "reduction": "signed_mean",
    "virial": False,
}  # fmt: skip

PRESETS: dict[str, dict[str, dict[str, Any]]] = {
    # The program of Hu et al. (PWMLFF, and LKF in DeePMD-kit, which has no prefactors by default)
    "rlekf": {
        "optimizer": {
            **_RLEKF, "partition": "packed", "block_size": 5120, "divide_by_atoms": True, "reduction": "signed_sum",
            "prefactors": {"energy": 1.0, "force": 2.0, "virial": 1.0},
        },
        "schedule": _GROUPS,
    },
    # Algorithms 1 and 2 of Hu et al. (2023) as they are printed
    "rlekf_paper": {
        "optimizer": {
            **_RLEKF, "partition": "reorganized", "block_size": 10240, "divide_by_atoms": False,
            "reduction": "signed_mean",
        },
        "schedule": _GROUPS,
    },
    # Algorithm 2 of Shao et al. (2021), with the updates of their Fig. 1 b
    "shao": {
        "optimizer": {
            "initial_covariance": 1.0, "learning_rate": 1000.0, "process_noise": 0.0, "forgetting": 1.0,
            "partition": "global", "dtype": "float64",
        },
        "schedule": {"kind": "pinn", "energy_probability": 0.5, "force_labels": 10},
    },
}  # fmt: skip
"""Settings of `training.optimizer` and `training.schedule`, by name."""


def optimizer_of_preset(values: dict[str, Any]) -> dict[str, Any]:
    """Settings of an optimizer with those of its preset, if it names one, where `values` has no others."""
    preset = PRESETS.get(str(values.get("preset")))
    if preset is None:
        return values
    expanded = {**preset["optimizer"], **values}
    own, given = preset["optimizer"].get("prefactors"), values.get("prefactors")
    if isinstance(own, dict) and isinstance(given, dict):
        expanded["prefactors"] = {**own, **given}
    if expanded.get("partition") in ("global", "layer") and "block_size" not in values:
        expanded.pop("block_size", None)
    if expanded.get("observation_noise") == "given":  # asked for beside the preset
        for name in {"divide_by_atoms", "prefactors"} - set(values):
            expanded.pop(name, None)
    return expanded


def expand_preset(training: dict[str, Any]) -> dict[str, Any]:
    """The section `training` with the schedule of the preset of its optimizer, where it has no other settings.

    Raises
    ------
    ValueError
        If it asks for another kind of schedule.
    """
    optimizer, schedule = training.get("optimizer"), training.get("schedule", {})
    if not isinstance(optimizer, dict) or not isinstance(schedule, dict):
        return training
    preset = PRESETS.get(str(optimizer.get("preset")))
    if preset is None:
        return training
    own = preset["schedule"]
    if schedule.get("kind", own["kind"]) != own["kind"]:
        raise ValueError(
            f"the preset {optimizer['preset']} is published with a schedule of kind {own['kind']}, not "
            f"{schedule['kind']}. Leave out the preset, and set what you want of it"
        )
    return {**training, "schedule": {**own, **schedule}}
