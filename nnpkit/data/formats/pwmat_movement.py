"""PWmat's MOVEMENT (and ``atom.config``): one block per step, fractional positions, minus the forces.

A block begins with ``N atoms,Iteration (fs) = ..., Etot,Ep,Ek (eV) = ...`` and ends with a line of dashes.  Its
sections are found by their headings.  ``Ep`` is the energy; ``Force`` is ``dE/dx``, minus the force, whether the
heading says so or not; the columns behind the cell vectors, ``stress (eV)``, are ``dE/dstrain``, so that the stress is
their quotient by the volume.

References: PWmat manual, "MOVEMENT"; the signs are those of PWMLFF's own converter pwdata, and those of the forces were
checked against differences of energy.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from nnpkit.data.formats.contract import DataFormat
from nnpkit.data.formats.text_files import bare_name, open_text, read_text
from nnpkit.data.notes import note
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

__all__ = ["FORMAT", "read_movement"]

_BEGIN = re.compile(r"\s*(\d+)\s*(atoms?\b.*)?$", re.IGNORECASE)
_NUMBER = r"[-+]?\d+(?:\.\d*)?(?:[EeDd][-+]?\d+)?"
_ENERGIES = re.compile(rf"Etot\s*,\s*Ep\s*,\s*Ek\s*\(eV\)\s*=\s*({_NUMBER})\s+({_NUMBER})\s+({_NUMBER})")
_CYCLES = re.compile(r"SCF\s*=\s*(\d+)")
_STRESS = re.compile(r"stress\s*\(eV\)\s*:?\s*(.*)", re.IGNORECASE)
_LIMITS = (40, 100)  # PWmat's own limits of SCF iterations, of later steps and of the first one


def read_movement(path: str | Path) -> list[Structure]:
    """Steps of a MOVEMENT file, or the one structure of an ``atom.config``; Å, eV.

    Raises
    ------
    InputError
        With file and line for anything that is not understood, such as a step that is cut off.
    """
    structures = [_structure(lines, first, path, k) for k, (first, lines) in enumerate(_blocks(path))]
    if any(s.stress is not None for s in structures):
        note("stress (eV) taken as dE/dstrain, the opposite of a virial, as PWMLFF reads it", str(path))
    return structures


def _blocks(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """Number of the first line and lines of each step."""
    block: list[str] = []
    first = 1
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if re.match(r"\s*-{8,}", line):
            if block:
                yield first, block
            block = []
        elif line.strip() or block:
            if not block:
                first = number
            block.append(line)
    if any(line.strip() for line in block):
        yield first, block


def _structure(lines: list[str], first: int, path: str | Path, k: int) -> Structure:
    name = f"{path}#{k}"
    begin = _BEGIN.match(lines[0])
    if begin is None:
        raise InputError(
            f"{lines[0].strip()[:40]!r} begins a step", where=f"{path}, line {first}",
            expected="the number of atoms",
        )  # fmt: skip
    n, headings = int(begin[1]), {_heading(line): at for at, line in reversed(list(enumerate(lines)))}
    for needed in ("lattice", "position"):
        if needed not in headings:
            raise InputError(f"the step has no section {needed.capitalize()}", where=f"{path}, line {first}")

    def rows(heading: str, count: int, columns: slice) -> np.ndarray:
        start = headings[heading] + 1
        return _numbers(lines[start : start + count], count, columns, path, first + start)

    cell = rows("lattice", 3, slice(0, 3))
    table = rows("position", n, slice(0, 4))
    energies, cycles = _ENERGIES.search(lines[0]), _CYCLES.search(lines[0])
    if "Iteration" in lines[0] and energies is None:
        raise InputError(
            "the energies are not understood", where=f"{path}, line {first}", expected="Etot,Ep,Ek (eV) = ..."
        )
    if cycles and int(cycles[1]) in _LIMITS:
        note(
            f"SCF = {cycles[1]}, PWmat's limit: the step may not have converged; leave it out with frames:",
            name,
        )
    forces = None
    if "force" in headings:
        force_table = rows("force", n, slice(0, 4))
        if (force_table[:, 0] != table[:, 0]).any():
            raise InputError("forces and positions have other elements", where=name)
        forces = -force_table[:, 1:]
    return Structure(
        symbols=_symbols(table[:, 0], name),
        positions=table[:, 1:] @ cell,
        cell=cell,
        pbc=np.full(3, True),
        energy=None if energies is None else float(energies[2].replace("D", "E").replace("d", "e")),
        forces=forces,
        stress=_stress(lines[headings["lattice"] + 1 :][:3], cell, path, first),
        name=name,
    )


def _heading(line: str) -> str:
    """Name of the section that a line begins, '' for any other line."""
    word = line.strip().split(" ")[0].split(",")[0].lower()
    return word if word in ("lattice", "position", "force") else ""


def _numbers(lines: list[str], count: int, columns: slice, path: str | Path, first: int) -> np.ndarray:
    if len(lines) < count:
        raise InputError(
            f"the step ends after {len(lines)} of {count} lines of a section", where=f"{path}, line {first}",
            hint="the file is truncated: copy it again or remove its last step",
        )  # fmt: skip
    values = []
    for number, line in enumerate(lines, start=first):
        try:
            row = [float(word) for word in line.split()[columns]]
        except ValueError:
            row = []
        if len(row) != columns.stop - columns.start:
            raise InputError(f"{line.strip()[:60]!r} is not understood", where=f"{path}, line {number}")
        values.append(row)
    return np.array(values, dtype=np.float64)


def _stress(lines: list[str], cell: np.ndarray, path: str | Path, first: int) -> np.ndarray | None:
    """Stress (3, 3), eV/Å³, from what stands behind the cell vectors."""
    found = [_STRESS.search(line) for line in lines]
    if not all(found):
        return None
    words = [match[1].split() for match in found if match]
    try:
        tensor = np.array(words, dtype=np.float64).reshape(3, 3)
    except ValueError:
        raise InputError("the stress is not understood", where=f"{path}, line {first}") from None
    return (tensor + tensor.T) / 2.0 / abs(float(np.linalg.det(cell)))


def _symbols(numbers: np.ndarray, name: str) -> list[str]:
    from ase.data import chemical_symbols

    if ((numbers < 1) | (numbers >= len(chemical_symbols)) | (numbers % 1 != 0)).any():
        raise InputError("an atomic number is none", where=name)
    return [chemical_symbols[int(number)] for number in numbers]


def _recognises(path: Path) -> bool:
    """Whether the first line counts atoms and a heading of PWmat follows."""
    if not path.is_file() or bare_name(path).lower().endswith((".xyz", ".extxyz")):
        return False
    try:
        with open_text(path) as stream:
            lines = [stream.readline(400) for _ in range(12)]
    except InputError:
        return False
    return bool(_BEGIN.match(lines[0].rstrip("\n"))) and any(
        line.strip().lower().startswith("lattice vector") for line in lines
    )


FORMAT = DataFormat(
    "PWmat's MOVEMENT or atom.config",
    read=lambda path, options: read_movement(path),
    recognises=_recognises,
    order=40,
    aliases=("movement", "pwmat/movement", "pwmat-movement"),
)
