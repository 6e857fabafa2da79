"""Extended XYZ as other people write it, and the notes that reading it gives."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np

from nnpkit.data.formats.reading import read
from nnpkit.data.notes import DataWarning
from nnpkit.data.structure import Structure

FORCES = np.array([[0.25, 0.0, -0.5], [-0.25, 0.0, 0.5]])
STRESS = np.array([[0.01, 0.002, 0.0], [0.002, -0.02, 0.001], [0.0, 0.001, 0.03]])


def frame(
    header: str, columns: str = "forces:R:3", forces: np.ndarray = FORCES, lattice: str = "4 0 0 0 5 0 0 0 6"
) -> str:
    """A frame of two atoms in a cell of 120 Å³ whose second line ends with `header`."""
    rows = [
        f"{symbol} 0 0 {z} {' '.join(map(str, f))}"
        for symbol, z, f in zip("OH", (0.0, 0.97), forces, strict=True)
    ]
    cell = f'Lattice="{lattice}" pbc="T T T" ' if lattice else 'pbc="F F F" '
    return f"2\n{cell}Properties=species:S:1:pos:R:3:{columns} {header}\n" + "\n".join(rows) + "\n"


def file(folder: Path, text: str | bytes, name: str = "data.xyz") -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read_with_notes(path: Path, **arguments: object) -> tuple[list[Structure], str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        frames = read(path, **arguments)
    return frames, "\n".join(str(w.message) for w in caught if issubclass(w.category, DataWarning))
