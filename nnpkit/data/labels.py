"""Where the labels of an `ase.Atoms` are looked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["labels_of_atoms"]

_STRUCTURAL_ARRAYS = ("numbers", "positions")


def _calculator_results(atoms: Atoms) -> dict[str, Any]:
    """Results that the calculator holds for these positions, without computing anything."""
    if atoms.calc is None or atoms.calc.check_state(atoms):
        return {}
    return dict(atoms.calc.results)


def labels_of_atoms(atoms: Atoms, name: str = "") -> tuple[dict[str, Any], dict[str, Any], dict[str, np.ndarray]]:
    """Labels, remaining info and remaining per-atom arrays of `atoms`."""
    results = _calculator_results(atoms)
    labels = {key: results[key] for key in ("energy", "forces", "stress", "charges") if key in results}
    info = dict(atoms.info)
    if "total_charge" in info:
        labels["total_charge"] = info.pop("total_charge")
    arrays = {key: value.copy() for key, value in atoms.arrays.items() if key not in _STRUCTURAL_ARRAYS}
    return labels, info, arrays
