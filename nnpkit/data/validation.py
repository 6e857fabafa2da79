"""What every structure must satisfy before anything is computed with it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnpkit.data.structure import LABELS, Structure
from nnpkit.errors import InputError

__all__ = ["require_elements", "require_valid"]

_MIN_RELATIVE_VOLUME = 1e-6  # |det| of the normalised periodic vectors below which they are dependent


def require_valid(structure: Structure) -> None:
    """Refuse a structure that cannot be used.

    Raises
    ------
    InputError
        No atoms, a symbol that is no element, a number that is not finite (position, cell, label), or
        periodic cell vectors that are zero or linearly dependent.
    """
    if structure.n_atoms == 0:
        raise InputError("the frame has no atoms", where=structure.name, hint="remove this frame")
    _require_symbols(structure)
    for label in ("positions", "cell", *LABELS, "total_charge", "multiplicity"):
        value = getattr(structure, label)
        if value is not None and not np.all(np.isfinite(value)):
            _refuse_not_finite(structure, label, np.asarray(value))
    _require_cell(structure)


def _require_symbols(structure: Structure) -> None:
    from ase.data import atomic_numbers

    for index, symbol in enumerate(structure.symbols):
        if atomic_numbers.get(symbol, 0) == 0:
            hints = {"D": "write H, with the mass of each atom in a column masses", "X": "remove this atom"}
            raise InputError(
                f"{symbol!r} (atom {index}) is no chemical element", where=structure.name,
                expected="symbols like H, O, Cu", hint=(hints | {"T": hints["D"]}).get(symbol),
            )  # fmt: skip


def _refuse_not_finite(structure: Structure, label: str, value: np.ndarray) -> None:
    bad = np.argwhere(~np.isfinite(value))
    of_atom = f" of atom {bad[0][0]}" if label in ("positions", "forces", "charges") else ""
    raise InputError(
        f"{label}{of_atom} is {value[tuple(bad[0])]} ({len(bad)} such value{'s' if len(bad) > 1 else ''})",
        where=structure.name, expected="finite numbers", hint="remove this frame or repair its label",
    )  # fmt: skip


def _require_cell(structure: Structure) -> None:
    vectors = structure.cell[structure.pbc]
    if not len(vectors):
        return
    lengths = np.linalg.norm(vectors, axis=1)
    if lengths.min() < 1e-6:
        raise InputError(
            "a periodic cell vector has no length", where=structure.name,
            expected="a cell vector along every periodic direction",
            hint="give the cell, or set pbc to F along that direction",
        )  # fmt: skip
    unit = vectors / lengths[:, None]
    if np.sqrt(max(np.linalg.det(unit @ unit.T), 0.0)) < _MIN_RELATIVE_VOLUME:
        raise InputError(
            "the cell is degenerate: its periodic vectors are linearly dependent (zero volume)",
            where=structure.name, hint="check the lattice of this frame",
        )  # fmt: skip


def require_elements(structures: Sequence[Structure], elements: Sequence[str]) -> None:
    """Refuse structures with an element that is not in `elements`; the message names frame and element."""
    known = set(elements)
    for structure in structures:
        if unknown := sorted(set(structure.symbols) - known):
            raise InputError(
                f"the frame contains {', '.join(unknown)}", where=structure.name,
                expected=f"only {', '.join(elements)}",
                hint=f"add {unknown[0]} to the model's elements or remove this frame",
            )  # fmt: skip
