"""The cell as LAMMPS wants it: lower triangular, little tilted, atoms inside; and the data file.

LAMMPS takes cell vectors a = (lx, 0, 0), b = (xy, ly, 0), c = (xz, yz, lz) with positive diagonal
(https://docs.lammps.org/Howto_triclinic.html). Any cell H (rows) gets there by H = L Q with L lower
triangular and Q orthogonal; the atoms turn with it, r -> r Q^T. Adding lattice vectors to b and c then
brings every tilt to at most half of the edge it leans along, which is the same crystal in a rounder box.
A left-handed cell makes Q a rotation with mirror: energies and |forces| do not know.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.md.atoms import atom_types

__all__ = ["LammpsBox", "data_text", "lammps_box"]

_TILTS = ((1, 0), (2, 1), (2, 0))  # xy, yz, xz: yz before xz, because adding b to c changes both
_MARGIN = 2.0  # Å of empty space around the atoms along directions without periodicity


@dataclass(frozen=True)
class LammpsBox:
    """A structure in LAMMPS' frame.

    Parameters
    ----------
    cell : (3, 3) float64
        Lower triangular, Å; along directions without periodicity just large enough for the atoms.
    origin : (3,) float64
        Lower corner, Å.
    positions : (N, 3) float64
        Inside the box, Å.
    images : (N, 3) int64
        ``positions + images @ cell`` are the (turned) positions of the structure.
    rotation : (3, 3) float64
        Q: ``vector @ Q.T`` turns a vector of the structure into LAMMPS' frame.
    """

    cell: np.ndarray
    origin: np.ndarray
    positions: np.ndarray
    images: np.ndarray
    rotation: np.ndarray

    @property
    def tilted(self) -> bool:
        """Whether the box is triclinic."""
        return any(self.cell[i, j] != 0.0 for i, j in _TILTS)


def _complete(cell: np.ndarray, periodic: np.ndarray) -> np.ndarray:
    """Replace the vectors along open directions by unit vectors orthogonal to the periodic ones."""
    from ase.geometry import complete_cell

    return complete_cell(np.where(periodic[:, None], cell, 0.0))


def _lower_triangular(cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """L, Q with cell = L Q, L lower triangular with positive diagonal, Q orthogonal."""
    q, r = np.linalg.qr(cell.T)
    sign = np.where(np.diag(r) < 0.0, -1.0, 1.0)
    lower = np.tril((sign[:, None] * r).T)
    for i, j in _TILTS:  # rounding of an orthogonal cell is not a tilt
        if abs(lower[i, j]) < 1e-12 * lower[i, i]:
            lower[i, j] = 0.0
    return lower, (q * sign).T


def lammps_box(structure: Structure) -> LammpsBox:
    """Turn a structure into LAMMPS' frame, reduce the tilts and put the atoms into the box.

    Raises
    ------
    InputError
        If periodic cell vectors are missing or linearly dependent, or positions are not finite.
    """
    periodic = np.asarray(structure.pbc, dtype=bool)
    if not (np.isfinite(structure.positions).all() and np.isfinite(structure.cell).all()):
        raise InputError("positions or cell are not finite", where=structure.name or None)
    if not structure.n_atoms:
        raise InputError("there are no atoms", where=structure.name or None)
    cell = _complete(structure.cell, periodic)
    missing = periodic & ~structure.cell.any(axis=1)
    scale = np.prod(np.linalg.norm(cell, axis=1))
    if missing.any() or not abs(np.linalg.det(cell)) > 1e-6 * scale:
        raise InputError(
            "the periodic cell vectors do not span a volume", where=structure.name or None,
            hint="check cell and pbc of this frame",
        )  # fmt: skip
    lower, rotation = (cell, np.eye(3)) if not periodic.any() else _lower_triangular(cell)
    for i, j in _TILTS:
        if periodic[i] and periodic[j]:
            lower[i] -= np.round(lower[i, j] / lower[j, j]) * lower[j]

    turned = structure.positions @ rotation.T
    origin = np.zeros(3)
    for k in np.flatnonzero(~periodic):  # orthogonal to the others: the coordinate is Cartesian
        origin[k] = turned[:, k].min() - _MARGIN
        lower[k, k] = turned[:, k].max() + _MARGIN - origin[k]
    fractional = np.linalg.solve(lower.T, (turned - origin).T).T
    images = np.where(periodic, np.floor(fractional), 0.0)
    inside = turned - images @ lower
    return LammpsBox(lower, origin, inside, images.astype(np.int64), rotation)


def data_text(structure: Structure, elements: list[str], triclinic: bool = False) -> str:
    """Text of the LAMMPS data file of a structure (atom_style atomic, units metal).

    Parameters
    ----------
    structure : Structure
        Atom k becomes atom id k + 1.
    elements : list of str
        In the order of their LAMMPS types; see `nnpkit.md.atoms.atom_types` for those of several masses.
    triclinic : bool
        Write tilt factors even if all are zero, for runs that change the shape of the cell.

    Raises
    ------
    InputError
        See `lammps_box`.
    """
    box = lammps_box(structure)
    types, numbers = atom_types(structure, elements)
    lines = [f"{structure.name or 'structure'}: units metal, atom_style atomic", ""]
    lines += [f"{structure.n_atoms} atoms", f"{len(types)} atom types", ""]
    for k, axis in enumerate("xyz"):
        low, high = float(box.origin[k]), float(box.origin[k] + box.cell[k, k])
        lines.append(f"{low!r} {high!r} {axis}lo {axis}hi")
    if triclinic or box.tilted:
        tilts = (float(box.cell[i, j]) for i, j in ((1, 0), (2, 0), (2, 1)))
        lines.append(" ".join(map(repr, tilts)) + " xy xz yz")
    lines += ["", "Masses", ""]
    for index, (element, mass) in enumerate(types, 1):
        lines.append(f"{index} {mass:.6f}  # {element}")
    lines += ["", "Atoms  # atomic", ""]
    atoms = zip(numbers.tolist(), box.positions.tolist(), box.images.tolist(), strict=True)
    for index, (number, (x, y, z), (i, j, k)) in enumerate(atoms, 1):
        lines.append(f"{index} {number} {x!r} {y!r} {z!r} {i} {j} {k}")
    return "\n".join(lines) + "\n"
