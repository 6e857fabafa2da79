"""One reference structure: atoms, cell and the labels a calculation gave it (numpy only)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nnpkit.errors import InputError
from nnpkit.units import virial_from_stress

if TYPE_CHECKING:
    from ase import Atoms

from nnpkit.data.matrices import symmetric_matrix

__all__ = ["LABELS", "Structure"]

LABELS = ("energy", "forces", "stress", "charges", "dipole")
"""Names of the labels a structure may carry, each optional."""


@dataclass(eq=False)
class Structure:
    """Atoms in a cell with optional reference labels.

    Parameters
    ----------
    symbols : list of str
        Chemical symbols, N of them.
    positions : (N, 3) float64
        Å; not wrapped into the cell.
    cell : (3, 3) float64
        Cell vectors in rows, Å; zeros where there is none.
    pbc : (3,) bool
        Periodic directions.
    energy : float, optional
        Total energy, eV.
    forces : (N, 3) float64, optional
        eV/Å.
    stress : (3, 3) float64, optional
        Symmetric, eV/Å³, ``+1/V dE/dstrain`` (ASE's sign). Voigt order xx yy zz yz xz xy is accepted.
    charges : (N,) float64, optional
        Atomic charges, e.
    dipole : (3,) float64, optional
        Dipole moment, e Å, about the origin of the coordinates; of a structure that is not periodic.
    total_charge : float, optional
        Charge of the whole structure, e.
    multiplicity : float, optional
        2S + 1 of the whole structure. Like the total charge it says which state the labels are of; a potential
        without charges knows of neither, one with charges of the total charge.
    name : str
        ``file#frame``, used in messages.
    info, arrays : dict
        Extras of the frame and, with N rows each, of its atoms.

    Raises
    ------
    InputError
        If an array does not have the shape above.
    """

    symbols: list[str]
    positions: np.ndarray
    cell: np.ndarray = field(default_factory=lambda: np.zeros((3, 3)))
    pbc: np.ndarray = field(default_factory=lambda: np.zeros(3, dtype=bool))
    energy: float | None = None
    forces: np.ndarray | None = None
    stress: np.ndarray | None = None
    charges: np.ndarray | None = None
    dipole: np.ndarray | None = None
    total_charge: float | None = None
    multiplicity: float | None = None
    name: str = ""
    info: dict[str, Any] = field(default_factory=dict)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.symbols = [str(symbol) for symbol in self.symbols]
        n = len(self.symbols)
        self.positions = self._array("positions", self.positions, (n, 3))
        self.cell = self._array("cell", self.cell, (3, 3))
        self.pbc = np.array(np.broadcast_to(np.asarray(self.pbc, dtype=bool), (3,)))
        self.energy = None if self.energy is None else self._scalar("energy", self.energy)
        self.forces = None if self.forces is None else self._array("forces", self.forces, (n, 3))
        self.stress = None if self.stress is None else symmetric_matrix(self.stress, "stress", self.name)
        self.charges = None if self.charges is None else self._array("charges", self.charges, (n,))
        self.dipole = None if self.dipole is None else self._array("dipole", self.dipole, (3,))
        if self.total_charge is not None:
            self.total_charge = self._scalar("total charge", self.total_charge)
        if self.multiplicity is not None:
            self.multiplicity = self._scalar("multiplicity", self.multiplicity)

    def _scalar(self, label: str, value: Any) -> float:
        try:
            return float(np.asarray(value, dtype=np.float64).reshape(()))
        except (TypeError, ValueError):
            raise InputError(
                f"the {label} {' '.join(str(value).split())[:60]} is not one number",
                where=self.name or None,
                expected="a single number",
            ) from None

    def _array(self, label: str, value: Any, shape: tuple[int, ...]) -> np.ndarray:
        expected = f"{label} of shape {shape} for {len(self.symbols)} atoms"
        try:
            array = np.array(value, dtype=np.float64)
        except (TypeError, ValueError):
            raise InputError(
                f"the {label} are not numbers", where=self.name or None, expected=expected
            ) from None
        if array.shape != shape:
            raise InputError(
                f"the {label} have shape {array.shape}", where=self.name or None, expected=expected
            )
        return array

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.symbols)

    @property
    def volume(self) -> float:
        """Volume of the cell, Å³ (0 without a cell)."""
        return float(abs(np.linalg.det(self.cell)))

    @property
    def virial(self) -> np.ndarray | None:
        """Virial ``W = -dE/dstrain`` (3, 3), eV; None without a stress."""
        return None if self.stress is None else virial_from_stress(self.stress, self.volume)

    @property
    def composition(self) -> Counter[str]:
        """Number of atoms of each element."""
        return Counter(self.symbols)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels present, in the order of `LABELS`."""
        return tuple(label for label in LABELS if getattr(self, label) is not None)

    def replace(self, **changes: Any) -> Structure:
        """Copy with some fields changed."""
        return replace(self, **changes)

    @classmethod
    def from_atoms(
        cls,
        atoms: Atoms,
        name: str = "",
        keys: Mapping[str, str] | None = None,
        names: Mapping[str, tuple[str, ...]] | None = None,
    ) -> Structure:
        """Structure of an `ase.Atoms`, labels taken from its calculator and its info and arrays.

        Nothing is computed: only results that the attached calculator already holds for these very
        positions count.  `nnpkit.data.labels` has the names looked for, which `keys` can override; `names`
        are those chosen for all frames of a file.
        """
        from nnpkit.data.electronic import take_state
        from nnpkit.data.labels import labels_of_atoms

        labels, info, arrays = labels_of_atoms(atoms, name, keys, names)
        take_state(labels, info, arrays, list(atoms.symbols), name, keys)
        _take_constraints(atoms, info, arrays)
        return cls(
            symbols=list(atoms.symbols), positions=atoms.positions, cell=atoms.cell.array, pbc=atoms.pbc,
            name=name, info=info, arrays=arrays, **labels,
        )  # fmt: skip

    @classmethod
    def without_labels(cls, atoms: Atoms) -> Structure:
        """`atoms` alone, with their total charge; see `nnpkit.data.electronic` for where that stands."""
        from nnpkit.data.electronic import CHARGE_NAMES, take_state

        labels: dict[str, Any] = {}
        symbols, name = list(atoms.symbols), str(atoms.symbols)
        info = {key: value for key, value in atoms.info.items() if str(key).lower() in CHARGE_NAMES}
        arrays = {key: atoms.arrays[key] for key in ("initial_charges",) if key in atoms.arrays}
        take_state(labels, info, arrays, symbols, name)
        return cls(
            symbols,
            atoms.positions,
            atoms.cell.array,
            atoms.pbc,
            name=name,
            total_charge=labels.get("total_charge"),
        )

    def to_atoms(self) -> Atoms:
        """`ase.Atoms` with the labels as results of a `SinglePointCalculator`."""
        from ase import Atoms
        from ase.calculators.singlepoint import SinglePointCalculator

        atoms = Atoms(self.symbols, positions=self.positions, cell=self.cell, pbc=self.pbc)
        atoms.info.update(self.info)
        if self.total_charge is not None:
            atoms.info["total_charge"] = self.total_charge
        if self.multiplicity is not None:
            atoms.info["multiplicity"] = self.multiplicity
        for key, values in self.arrays.items():
            atoms.set_array(key, np.asarray(values))
        results = {label: getattr(self, label) for label in self.labels}
        if self.stress is not None:
            results["stress"] = self.stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]
        if results:
            atoms.calc = SinglePointCalculator(atoms, **results)
        return atoms


def _take_constraints(atoms: Atoms, info: dict[str, Any], arrays: dict[str, np.ndarray]) -> None:
    """Fixed atoms as ``arrays["move_mask"]``, other constraints by name in ``info["constraints"]``."""
    fixed = np.zeros((len(atoms), 3), dtype=bool)
    others = []
    for constraint in atoms.constraints:
        kind = type(constraint).__name__
        if kind == "FixAtoms":
            fixed[constraint.index] = True
        elif kind in ("FixCartesian", "FixScaled"):
            fixed[constraint.index] |= np.asarray(constraint.mask, dtype=bool)
        else:
            others.append(kind)
    if fixed.any():
        whole = bool((fixed.all(axis=1) == fixed.any(axis=1)).all())
        arrays["move_mask"] = np.logical_not(fixed[:, 0] if whole else fixed)
    if others:
        info["constraints"] = " ".join(others)
