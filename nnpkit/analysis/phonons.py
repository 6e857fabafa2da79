"""Phonons of a crystal with any ASE calculator, by phonopy (Togo, Tanaka, Scr. Mater. 108, 1 (2015)) if it is there."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

__all__ = ["Phonons", "has_phonopy", "phonons"]

_DISPLACEMENT = 0.01  # Å
_MESH = 12


@dataclass
class Phonons:
    """Phonon bands and density of states; imaginary frequencies are negative."""

    labels: list[tuple[float, str]]  # positions of the special points along the path, and their names
    distance: np.ndarray  # (Q,) along the path, rad/Å
    bands: np.ndarray  # (Q, 3 n) THz
    frequency: np.ndarray  # (F,) THz, of the density of states
    density: np.ndarray  # (F,) states per THz and primitive cell
    lowest: float  # THz, on a mesh that includes the zone centre; slightly negative by rounding
    supercell: tuple[int, int, int]

    @property
    def stable(self) -> bool:
        """Whether no frequency is imaginary beyond rounding."""
        return self.lowest > -0.05


def has_phonopy() -> bool:
    """Whether phonopy is installed."""
    return find_spec("phonopy") is not None


def phonons(
    structure: Structure, calculator: Any, volume: float | None = None, extent: float = 10.0
) -> Phonons:
    """Phonons from the forces on displaced atoms in a supercell.

    Parameters
    ----------
    structure : Structure
        Periodic in three directions, its atoms at rest.
    calculator : ase.calculators.calculator.Calculator
        Of forces.
    volume : float, optional
        Å³/atom to scale the crystal to first.
    extent : float
        Å; the supercell is at least that wide in each direction.

    Raises
    ------
    InputError
        If phonopy is not installed, or the structure is not periodic.
    """
    if not has_phonopy():
        raise InputError("phonopy is not installed", hint="install it with `pip install nnpkit[report]`")
    if not structure.pbc.all():
        raise InputError("phonons need a crystal", where=structure.name, expected="3 periodic directions")
    from phonopy import Phonopy
    from phonopy.structure.atoms import PhonopyAtoms

    factor = 1.0 if volume is None else (volume * structure.n_atoms / structure.volume) ** (1.0 / 3.0)
    cell = structure.cell * factor
    fractional = np.linalg.solve(structure.cell.T, structure.positions.T).T
    unit = PhonopyAtoms(symbols=structure.symbols, cell=cell, scaled_positions=fractional)
    widths = 1.0 / np.linalg.norm(np.linalg.inv(cell), axis=0)
    a, b, c = (int(n) for n in np.maximum(1, np.ceil(extent / widths - 1e-6)))
    phonon = Phonopy(unit, np.diag([a, b, c]), primitive_matrix="auto", log_level=0)
    phonon.generate_displacements(distance=_DISPLACEMENT)
    phonon.forces = [_forces(displaced, calculator) for displaced in phonon.supercells_with_displacements]
    phonon.produce_force_constants()
    phonon.symmetrize_force_constants()
    labels, distance, bands = _bands(phonon)
    phonon.run_mesh([_MESH] * 3, is_gamma_center=True)
    phonon.run_total_dos()
    dos = phonon.total_dos
    return Phonons(
        labels, distance, bands, np.asarray(dos.frequency_points), np.asarray(dos.dos),
        float(phonon.mesh.frequencies.min()), (a, b, c),
    )  # fmt: skip


def _forces(cell: Any, calculator: Any) -> np.ndarray:
    from ase import Atoms

    atoms = Atoms(cell.symbols, cell=cell.cell, scaled_positions=cell.scaled_positions, pbc=True)
    atoms.calc = calculator
    return np.asarray(atoms.get_forces())


def _bands(phonon: Any) -> tuple[list[tuple[float, str]], np.ndarray, np.ndarray]:
    """Special points, distances and frequencies along the path that ASE suggests for the primitive cell."""
    from ase.cell import Cell

    path = Cell(phonon.primitive.cell).bandpath(npoints=120)
    distance, places, names = path.get_linear_kpoint_axis()
    phonon.run_qpoints(path.kpts)
    bands = np.asarray(phonon.qpoints.frequencies)
    return [(float(x), str(n)) for x, n in zip(places, names, strict=True)], np.asarray(distance), bands
