"""Errors of predictions, summed up structure by structure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from nnpkit.data.structure import Structure
from nnpkit.parallel import Ranks
from nnpkit.units import BOHR, EV_PER_A3_IN_GPA, HARTREE

__all__ = ["CHARGE_METRICS", "METRICS", "ErrorSums"]

METRICS = {
    "n_structures": "structures",
    "n_atoms": "atoms",
    "energy_rmse": "energy RMSE, eV/atom",
    "energy_mae": "energy MAE, eV/atom",
    "force_rmse": "force RMSE, eV/Å",
    "force_mae": "force MAE, eV/Å",
    "force_vector_rmse": "force vector RMSE, eV/Å",
    "stress_rmse": "stress RMSE, GPa",
}
"""Keys of a summary, with their meaning for a person."""
CHARGE_METRICS = {"charge_rmse": "charge RMSE, e", "dipole_rmse": "dipole RMSE, e Å"}
"""Further keys of the summary of a potential with charges, as far as there are labels."""

_ENERGY_UNITS = {"hartree": HARTREE, "rydberg": HARTREE / 2, "kcal/mol": 0.0433641153, "kJ/mol": 0.0103642697}
_FORCE_UNITS = {
    "hartree/bohr": HARTREE / BOHR, "hartree/Å": HARTREE, "rydberg/bohr": HARTREE / 2 / BOHR,
    "eV/bohr": 1 / BOHR, "kcal/mol/Å": 0.0433641153, "kJ/mol/nm": 0.00103642697,
}  # fmt: skip
_MIN_CORRELATION = 0.95
_LEFT_OUT = 20
_OFFSET_RATIO = 5.0  # mean error over its scatter from which on energies count as shifted
_MIN_OFFSET = 0.02  # eV/atom


class ErrorSums:
    """Running sums from which the errors of any number of structures follow.

    Energy errors are per atom and every structure counts alike; force errors are per component and every atom
    counts alike; ``force_vector_rmse`` is the root of the mean squared length of the error vector. The stress
    error is over the nine components, so it does not depend on the orientation of the axes. Charges count atom by atom,
    dipoles component by component; a potential without charges has no such errors. `groups` has the same of
    the structures that were added with the name of a group.
    """

    def __init__(self) -> None:
        self.n_structures = self.n_atoms = 0
        self.energies = self.components = self.stresses = 0
        self.energy_square = self.energy_absolute = self.force_square = self.force_absolute = 0.0
        self.stress_square = self.force_product = self.force_label_square = self.force_prediction_square = 0.0
        self.charges = self.dipoles = 0
        self.charge_square = self.dipole_square = 0.0
        self.energy_pairs: list[tuple[float, float]] = []  # prediction and label, eV/atom
        self.groups: dict[str, ErrorSums] = {}

    def add(
        self,
        structure: Structure,
        energy: float,
        forces: np.ndarray,
        stress: np.ndarray | None = None,
        group: str | None = None,
        charges: np.ndarray | None = None,
        dipole: np.ndarray | None = None,
    ) -> None:
        """Compare one structure's labels, as far as it has them, with a prediction.

        Parameters
        ----------
        structure : Structure
            With labels.
        energy : float
            Total energy, eV.
        forces : array
            (N, 3), eV/Å.
        stress : array, optional
            (3, 3), eV/Å³, ASE's sign.
        group : str, optional
            Name of the group of the structure.
        charges, dipole : array, optional
            (N,), e, and (3,), e Å.
        """
        if group is not None:
            self.groups.setdefault(group, ErrorSums()).add(
                structure, energy, forces, stress, None, charges, dipole
            )
        self.n_structures += 1
        self.n_atoms += structure.n_atoms
        if structure.energy is not None:
            error = (energy - structure.energy) / structure.n_atoms
            self.energies += 1
            self.energy_square += error * error
            self.energy_absolute += abs(error)
            self.energy_pairs.append((energy / structure.n_atoms, structure.energy / structure.n_atoms))
        if structure.forces is not None:
            errors = forces - structure.forces
            self.components += errors.size
            self.force_square += float(np.sum(errors * errors))
            self.force_absolute += float(np.sum(np.abs(errors)))
            self.force_product += float(np.sum(forces * structure.forces))
            self.force_label_square += float(np.sum(structure.forces**2))
            self.force_prediction_square += float(np.sum(forces**2))
        if structure.stress is not None and stress is not None:
            errors = (stress - structure.stress) * EV_PER_A3_IN_GPA
            self.stresses += errors.size
            self.stress_square += float(np.sum(errors * errors))
        if structure.charges is not None and charges is not None:
            self.charges += structure.n_atoms
            self.charge_square += float(np.sum((charges - structure.charges) ** 2))
        if structure.dipole is not None and dipole is not None:
            self.dipoles += 3
            self.dipole_square += float(np.sum((dipole - structure.dipole) ** 2))

    def merge(self, other: ErrorSums) -> None:
        """Add the structures that `other` has seen."""
        for name, value in vars(other).items():
            if name != "groups":
                setattr(self, name, getattr(self, name) + value)
        for name, part in other.groups.items():
            self.groups.setdefault(name, ErrorSums()).merge(part)

    def shared(self, ranks: Ranks) -> ErrorSums:
        """The sums of all ranks, each of which has seen other structures; the same bits on all of them."""
        if ranks.size == 1:
            return self
        whole = ErrorSums()
        for values in ranks.collect(self._plain()):
            whole.merge(ErrorSums._from_plain(values))
        return whole

    def _plain(self) -> dict[str, Any]:
        return {**vars(self), "groups": {name: part._plain() for name, part in self.groups.items()}}

    @classmethod
    def _from_plain(cls, values: Mapping[str, Any]) -> ErrorSums:
        sums = cls()
        vars(sums).update(values)
        sums.energy_pairs = [(predicted, label) for predicted, label in values["energy_pairs"]]
        sums.groups = {name: cls._from_plain(part) for name, part in values["groups"].items()}
        return sums

    def summary(self) -> dict[str, Any]:
        """Counts and errors with the keys of `METRICS`, None where there are no labels; ``groups``: those of each.

        Those of `CHARGE_METRICS` are there where charges or dipoles were compared.

        The latter only if structures were added with the names of their groups.
        """
        groups = {name: self.groups[name].summary() for name in sorted(self.groups)}
        return {
            **({"groups": groups} if groups else {}),
            "n_structures": self.n_structures,
            "n_atoms": self.n_atoms,
            "energy_rmse": _root(self.energy_square, self.energies),
            "energy_mae": self.energy_absolute / self.energies if self.energies else None,
            "force_rmse": _root(self.force_square, self.components),
            "force_mae": self.force_absolute / self.components if self.components else None,
            "force_vector_rmse": _root(3.0 * self.force_square, self.components),
            "stress_rmse": _root(self.stress_square, self.stresses),
            **({"charge_rmse": _root(self.charge_square, self.charges)} if self.charges else {}),
            **({"dipole_rmse": _root(self.dipole_square, self.dipoles)} if self.dipoles else {}),
        }

    def of_most(self) -> dict[str, float]:
        """``energy_rmse_of_most``: without the structures, one in twenty, whose energies are predicted worst.

        It is not here if there are less than twenty, or errors that are not finite.
        """
        squares = sorted((predicted - label) * (predicted - label) for predicted, label in self.energy_pairs)
        left_out = len(squares) // _LEFT_OUT
        if not left_out or not all(map(math.isfinite, squares)):
            return {}
        return {"energy_rmse_of_most": math.sqrt(math.fsum(squares[:-left_out]) / (len(squares) - left_out))}

    def suspicions(self) -> list[str]:
        """What looks like a difference of units or of the zero of energy rather than an error of the model."""
        found = []
        if unit := self.force_unit():
            found.append(
                f"the reference forces look as if they were in {unit}; give --units or convert the file"
            )
        predicted, label = np.array(self.energy_pairs, dtype=np.float64).reshape(-1, 2).T
        if not len(label):
            return found
        typical = float(np.median(np.abs(predicted)))
        for unit, factor in _ENERGY_UNITS.items():
            if typical > 0.0 and abs(float(np.median(np.abs(label))) * factor / typical - 1.0) < 0.02:
                text = f"the reference energies look as if they were in {unit}"
                return [*found, f"{text}; give --units or convert the file"]
        offset, scatter = float(np.mean(predicted - label)), float(np.std(predicted - label))
        if len(label) > 1 and abs(offset) > max(_MIN_OFFSET, _OFFSET_RATIO * scatter):
            found.append(
                f"the reference energies differ from the predictions by a constant {offset:.4f} eV/atom (scatter "
                f"{scatter:.4f}); the model may have been trained against another zero of energy or method"
            )
        return found

    def force_unit(self, of_predictions: bool = False, correlation: float = _MIN_CORRELATION) -> str | None:
        """Unit of the labels, or of the predictions, that would explain their ratio, if the two are correlated so."""
        norm = math.sqrt(self.force_label_square * self.force_prediction_square)
        if norm == 0.0 or self.force_product / norm < correlation:
            return None
        ratio = math.sqrt(self.force_prediction_square / self.force_label_square)
        ratio = 1.0 / ratio if of_predictions else ratio
        near = [unit for unit, factor in _FORCE_UNITS.items() if abs(ratio / factor - 1.0) < 0.1]
        return near[0] if near else None


def _root(square: float, count: int) -> float | None:
    return math.sqrt(square / count) if count else None
