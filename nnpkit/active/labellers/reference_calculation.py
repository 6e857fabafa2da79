"""Reference calculations: what they have in common, what makes a label acceptable, and retries.

A `ReferenceCalculator` gets a structure and a folder to work in and returns the structure with labels. It raises
`CalculationError` when the calculation itself says that it failed; what a result must further satisfy is checked
here, the same for every program.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nnpkit.data.electronic import ElectronicState, electronic_state
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError, NnpkitError
from nnpkit.md.atoms import of_motion

__all__ = [
    "CalculationError",
    "Limits",
    "ReferenceCalculator",
    "check_label",
    "compute_label",
    "require_state",
    "state_of",
]

EXPECTED_ENERGY = "expected_energy"
"""Key in `Structure.info` of the energy (eV) that a potential expects; it is no part of the structure."""


class CalculationError(NnpkitError):
    """A reference calculation gave no label that can be believed."""


class ReferenceCalculator(Protocol):
    """Computes labels.

    Attributes
    ----------
    identity : mapping
        JSON-able: everything that decides the numbers. Its hash is the address of the labels.
    """

    identity: Mapping[str, Any]

    def require(self, state: ElectronicState) -> None:
        """Accept the charge and multiplicity of a structure.

        Raises
        ------
        InputError
            If the labels would be of another state.
        """
        ...

    def compute(self, structure: Structure, folder: Path, changes: Mapping[str, Any]) -> Structure:
        """The structure with energy and forces, and stress if it is periodic in three dimensions.

        Charges of the atoms, and the dipole of a structure that is not periodic, if the program gives them.

        Parameters
        ----------
        structure : Structure
            To be labelled.
        folder : path
            Empty; inputs and outputs are left there, for a person to look at if something fails.
        changes : mapping
            Settings that differ in this attempt.

        Raises
        ------
        CalculationError
            If the calculation fails or does not converge.
        """
        ...


@dataclass(frozen=True)
class Limits:
    """What a label must satisfy.

    Attributes
    ----------
    net_force : float
        Largest norm of the sum of all forces, eV/Å, divided by the square root of the number of atoms.
    max_force : float
        Largest force on an atom, eV/Å.
    energy_jump : float
        Largest difference, eV/atom, from the energy that the potential expected, where one is known.
    """

    net_force: float = 0.01
    max_force: float = 100.0
    energy_jump: float = 2.0


def check_label(label: Structure, limits: Limits) -> None:
    """Accept a label or raise a `CalculationError` that says why not."""
    if label.energy is None or label.forces is None:
        missing = "energy" if label.energy is None else "forces"
        raise CalculationError(f"the calculation gave no {missing}")
    stress = np.zeros(1) if label.stress is None else label.stress
    others = [(name, value) for name in ("charges", "dipole") if (value := getattr(label, name)) is not None]
    values = [("energy", np.asarray(label.energy)), ("forces", label.forces), ("stress", stress), *others]
    for name, value in values:
        if not np.isfinite(value).all():
            raise CalculationError(f"the {name} holds values that are not finite")
    net = float(np.linalg.norm(label.forces.sum(axis=0))) / np.sqrt(label.n_atoms)
    if net > limits.net_force:
        raise CalculationError(
            f"the forces do not add up to zero: {net:.3g} eV/Å per root of the number of atoms, "
            f"allowed {limits.net_force:g}"
        )
    largest = float(np.linalg.norm(label.forces, axis=1).max())
    if largest > limits.max_force:
        raise CalculationError(f"a force of {largest:.3g} eV/Å, allowed {limits.max_force:g}")
    if (expected := label.info.get(EXPECTED_ENERGY)) is not None:
        jump = abs(label.energy - float(expected)) / label.n_atoms
        if jump > limits.energy_jump:
            raise CalculationError(
                f"the energy is {jump:.3g} eV/atom from what the potential expects, allowed {limits.energy_jump:g}: "
                "another electronic state?"
            )


def state_of(structure: Structure) -> ElectronicState:
    """Charge and multiplicity that the label of a structure is to have; errors of `electronic_state`."""
    return electronic_state(
        structure.symbols, structure.total_charge, structure.multiplicity, structure.info, structure.name
    )


def require_state(reference: ReferenceCalculator, structure: Structure) -> None:
    """Refuse a structure whose charge or spin is not understood, or does not reach the reference calculation.

    Raises
    ------
    InputError
        Naming the structure, its state and what to do.
    """
    state = state_of(structure)
    try:
        reference.require(state)
    except InputError as error:
        where = f"{structure.name} ({error.where})" if error.where else structure.name
        raise InputError(error.what, where=where or None, expected=error.expected, hint=error.hint) from None


def compute_label(
    reference: ReferenceCalculator,
    structure: Structure,
    folder: Path,
    limits: Limits,
    changes: Mapping[str, Any],
) -> Structure:
    """One attempt: label of a structure, checked; `CalculationError` says why there is none.

    The result holds the structure exactly as it was given, with masses and fixed atoms, the time in ``label_seconds``
    and, where settings were changed for this attempt, what in ``label_changes``.
    """
    began = time.monotonic()
    require_state(reference, structure)
    bare = structure.replace(
        energy=None, forces=None, stress=None, charges=None, dipole=None, info={}, arrays={}
    )
    try:
        result = reference.compute(bare, folder, changes)
    except (CalculationError, OSError, MemoryError):
        raise
    except InputError as error:  # from a reader of the output: garbage
        raise CalculationError(str(error)) from None
    if result.symbols != structure.symbols or not np.allclose(
        result.positions, structure.positions, atol=1e-4
    ):
        raise CalculationError("the result is of another structure than the one that was asked for")
    for what in ("total_charge", "multiplicity"):
        asked, got = getattr(structure, what), getattr(result, what)
        if asked is not None and got is not None and abs(asked - got) > 1e-6:
            raise CalculationError(f"the result has {what} {got:g} instead of {asked:g}")
    keep = {EXPECTED_ENERGY: structure.info[EXPECTED_ENERGY]} if EXPECTED_ENERGY in structure.info else {}
    info = {**keep, "label_seconds": round(time.monotonic() - began, 3)}
    if changes:
        info["label_changes"] = dict(changes)
    label = bare.replace(
        energy=result.energy,
        forces=result.forces,
        stress=result.stress,
        charges=result.charges,
        dipole=result.dipole,
        info=info,
        arrays=of_motion(structure),
    )
    check_label(label, limits)
    return label
