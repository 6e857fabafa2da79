"""What LAMMPS has to know of atoms beyond their element: masses, and which of them do not move."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

__all__ = ["atom_types", "fixed_atoms", "group_commands", "id_ranges", "masses_of", "of_motion"]

_SAME_MASS = 1e-6  # g/mol
_RANGES = 12  # of atom ids in one command


def atom_types(
    structure: Structure, elements: Sequence[str] | None = None
) -> tuple[list[tuple[str, float]], np.ndarray]:
    """LAMMPS types of a structure: one for each element, or more where its atoms have several masses.

    Parameters
    ----------
    structure : Structure
        ``arrays["masses"]`` (or ``"mass"``), as files and ASE have them, are its masses in g/mol, else ASE's.
    elements : sequence of str, optional
        Their order, and elements that need a type without atoms; by default those of the structure, sorted.

    Returns
    -------
    types : list of (str, float)
        Element and mass (g/mol) of type 1, 2, ...
    numbers : (N,) int64
        Type of every atom.

    Raises
    ------
    InputError
        If a mass is not a positive number.
    """
    masses = masses_of(structure)
    types: list[tuple[str, float]] = []
    numbers = np.zeros(structure.n_atoms, dtype=np.int64)
    symbols = np.array(structure.symbols)
    for element in elements or sorted(set(structure.symbols)):
        mine = symbols == element
        left = mine.copy()
        while left.any():
            mass = float(masses[left].min())
            same = left & (masses <= mass + _SAME_MASS)
            types.append((element, mass))
            numbers[same] = len(types)
            left &= ~same
        if not mine.any():
            types.append((element, _usual_mass(element)))
    return types, numbers


def of_motion(structure: Structure) -> dict[str, np.ndarray]:
    """The arrays of a structure that say how its atoms move: masses, and which are fixed."""
    return {key: structure.arrays[key] for key in ("masses", "mass", "move_mask") if key in structure.arrays}


def _usual_mass(element: str) -> float:
    from ase.data import atomic_masses, atomic_numbers

    return float(atomic_masses[atomic_numbers[element]])


def masses_of(structure: Structure) -> np.ndarray:
    """Masses of the atoms (N,), g/mol, as the structure says or those of its elements.

    Raises
    ------
    InputError
        If a mass is not a positive number.
    """
    key = next((key for key in ("masses", "mass") if key in structure.arrays), None)
    if key is None:
        return np.array([_usual_mass(symbol) for symbol in structure.symbols])
    masses = np.asarray(structure.arrays[key], dtype=np.float64).reshape(-1)
    if masses.shape != (structure.n_atoms,) or not (np.isfinite(masses) & (masses > 0.0)).all():
        raise InputError(
            f"the {key} are not positive numbers",
            where=structure.name or None,
            expected="g/mol, one per atom",
        )
    return masses


def fixed_atoms(structure: Structure) -> np.ndarray:
    """Which atoms do not move (N,), from ``arrays["move_mask"]`` as ASE writes `FixAtoms` into extended XYZ.

    Raises
    ------
    InputError
        If there is a constraint of another kind.
    """
    where = structure.name or None
    if others := structure.info.get("constraints"):
        raise InputError(
            f"the start has constraints ({others}) that are not taken over", where=where,
            expected="none, or FixAtoms", hint="remove them, or run LAMMPS with an input of your own",
        )  # fmt: skip
    mask = structure.arrays.get("move_mask")
    if mask is None:
        return np.zeros(structure.n_atoms, dtype=bool)
    fixed = np.asarray(mask, dtype=bool).reshape(structure.n_atoms, -1) == 0
    if (partly := fixed.any(axis=1) & ~fixed.all(axis=1)).any():
        raise InputError(
            f"atom {int(np.flatnonzero(partly)[0])} is fixed along some directions only", where=where,
            expected="whole atoms that are fixed", hint="remove the constraint, or write an input of your own",
        )  # fmt: skip
    return fixed.all(axis=1)


def id_ranges(chosen: np.ndarray) -> list[str]:
    """Ids of the atoms that are `chosen` (N,) as LAMMPS takes them, ``1:4`` or ``7``; atom k has id k + 1."""
    ids = np.flatnonzero(chosen) + 1
    parts = np.split(ids, np.flatnonzero(np.diff(ids) > 1) + 1)
    return [f"{part[0]}:{part[-1]}" if len(part) > 1 else str(part[0]) for part in parts]


def group_commands(fixed: np.ndarray) -> list[str]:
    """LAMMPS groups ``fixed`` and ``mobile``, and the temperature of the latter."""
    ranges = id_ranges(fixed)
    lines = [
        f"group           fixed id {' '.join(ranges[k : k + _RANGES])}"
        for k in range(0, len(ranges), _RANGES)
    ]
    return [
        *lines,
        "group           mobile subtract all fixed",
        "compute         mobile_temp mobile temp",
        "compute_modify  mobile_temp extra/dof 0  # fixed atoms take up momentum",
    ]
