"""What CP2K prints: energies, tables of forces, stress tensors, the cell; several versions of the program.

CP2K prints the negative of ASE's stress, in GPa or bar.  Its ``Total FORCE_EVAL energy`` is the free energy where
electrons are smeared: the one that the forces belong to.
"""

from __future__ import annotations

import re

import numpy as np

from nnpkit.units import BOHR, EV_PER_A3_IN_BAR, EV_PER_A3_IN_GPA, HARTREE

__all__ = ["ENERGY", "cell_vectors", "forces_table", "stress_tensor"]

ENERGY = re.compile(r"ENERGY\| Total FORCE_EVAL \( \w+ \) energy \[.*?\]:?\s+(\S+)")
"""Energy in hartree."""
_STRESS = re.compile(r"STRESS\| Analytical stress tensor \[(GPa|bar)\]")
_FORCES = re.compile(r"ATOMIC FORCES in \[a\.u\.\]|FORCES\| Atomic forces \[(?:hartree/bohr|a\.u\.)\]")
_VECTOR = re.compile(r"CELL\| Vector ([abc]) \[angstrom\]:\s+(\S+)\s+(\S+)\s+(\S+)")
_PERIODIC = re.compile(r"CELL\| Periodicity\s+(\w+)")


def forces_table(text: str, n_atoms: int) -> np.ndarray | None:
    """Forces (N, 3) in eV/Å of the last table; None without a table.

    Raises
    ------
    ValueError
        If the table has other rows than atoms.
    """
    tables = list(_FORCES.finditer(text))
    if not tables:
        return None
    rows = [line.replace("FORCES|", "").split() for line in text[tables[-1].end() :].splitlines()]
    new = tables[-1].group().startswith("FORCES|")  # atom x y z |f|; before, atom kind element x y z
    width, columns = (5, slice(1, 4)) if new else (6, slice(3, 6))
    numbers: list[list[str]] = []
    for row in rows:
        if len(row) == width and row[0].isdigit():
            numbers.append(row[columns])
        elif numbers or row[:1] == ["SUM"]:
            break
    forces = np.array(numbers, dtype=np.float64)
    if forces.shape != (n_atoms, 3):
        raise ValueError(f"forces of {len(numbers)} atoms instead of {n_atoms}")
    return forces * (HARTREE / BOHR)


def stress_tensor(text: str) -> np.ndarray | None:
    """Stress (3, 3) in eV/Å³ and ASE's sign of the last analytical tensor; None without one.

    Raises
    ------
    ValueError
        If the tensor is cut off.
    """
    found = list(_STRESS.finditer(text))
    if not found:
        return None
    rows = [line.split() for line in text[found[-1].end() :].splitlines()[1:6]]
    numbers = [row[2:5] for row in rows if len(row) == 5 and row[0] == "STRESS|" and row[1] in "xyz"]
    tensor = np.array(numbers, dtype=np.float64)
    if tensor.shape != (3, 3):
        raise ValueError("a stress tensor that is cut off")
    return -tensor / {"GPa": EV_PER_A3_IN_GPA, "bar": EV_PER_A3_IN_BAR}[found[-1][1]]


def cell_vectors(text: str) -> tuple[np.ndarray, np.ndarray] | None:
    """First cell (3, 3) in Å and its periodic directions (3,); None if the text has none."""
    vectors = {match[1]: match.groups()[1:] for match in reversed(list(_VECTOR.finditer(text)))}
    if set(vectors) != set("abc"):
        return None
    periodic = _PERIODIC.search(text)
    axes = periodic[1].upper() if periodic else "XYZ"
    return np.array([vectors[a] for a in "abc"], dtype=np.float64), np.array([a in axes for a in "XYZ"])
