"""XSF files of ænet: one structure each, with the energy in a comment and forces in eV/Å.

ASE reads XSF too, but as XCrySDen defines it: no energy, and forces in hartree/Å.

Reference: ænet documentation, "Structural energy data" (http://ann.atomistic.net).
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from nnpkit.data.formats.contract import DataFormat
from nnpkit.data.formats.text_files import bare_name, read_text
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

__all__ = ["ENERGY_COMMENT", "FORMAT", "read_aenet"]

ENERGY_COMMENT = re.compile(r"#\s*total\s+energy\s*=\s*(\S+)(?:\s+eV)?", re.IGNORECASE)


def read_aenet(path: str | Path) -> list[Structure]:
    """The structure of an ænet XSF file, or those of all ``*.xsf`` of a folder sorted by name.

    Raises
    ------
    InputError
        With file and line for anything that is not understood.
    """
    if Path(path).is_dir():
        return [structure for file in sorted(Path(path).glob("*.xsf*")) for structure in read_aenet(file)]
    lines = read_text(path).splitlines()
    energy = next((match[1] for line in lines if (match := ENERGY_COMMENT.match(line.strip()))), None)
    content = [
        (k, line.split()) for k, line in enumerate(lines, start=1) if line.strip() and line.strip()[0] != "#"
    ]
    keywords = {words[0].upper(): at for at, (_, words) in enumerate(content) if words[0].isalpha()}
    if "PRIMCOORD" in keywords:
        vectors = content[keywords["PRIMVEC"] + 1 :][:3] if "PRIMVEC" in keywords else []
        cell = _numbers(vectors, slice(0, 3), 3, path)
        start = keywords["PRIMCOORD"] + 1
        count = _count(content[start : start + 1], path)
        rows = content[start + 1 :][:count]
    elif "ATOMS" in keywords:
        cell, rows = np.zeros((3, 3)), content[keywords["ATOMS"] + 1 :]
        count = len(rows)
    else:
        raise InputError("neither PRIMCOORD nor ATOMS", where=str(path), expected="an ænet XSF file")
    positions = _numbers(rows, slice(1, 4), count, path)
    return [
        Structure(
            symbols=[_symbol(words[0]) for _, words in rows],
            positions=positions,
            cell=cell,
            pbc=np.full(3, "PRIMCOORD" in keywords),
            energy=None if energy is None else _energy(energy, path),
            forces=_numbers(rows, slice(4, 7), count, path) if rows and len(rows[0][1]) >= 7 else None,
            name=f"{path}#0",
        )
    ]


def _numbers(rows: list[tuple[int, list[str]]], columns: slice, count: int, path: str | Path) -> np.ndarray:
    if len(rows) != count:
        raise InputError(
            f"the file ends after {len(rows)} of {count} lines of a block", where=str(path),
            hint="the file is truncated",
        )  # fmt: skip
    values = []
    for line, words in rows:
        try:
            values.append([float(word) for word in words[columns]])
        except ValueError:
            raise InputError(f"{' '.join(words)!r} is not understood", where=f"{path}, line {line}") from None
        if len(values[-1]) != columns.stop - columns.start:
            raise InputError(
                f"{len(words)} columns", where=f"{path}, line {line}", expected=f"{columns.stop}"
            )
    return np.array(values)


def _count(rows: list[tuple[int, list[str]]], path: str | Path) -> int:
    word = rows[0][1][0] if rows else "nothing"
    if not (word.isascii() and word.isdigit()):
        raise InputError(f"{word!r} after PRIMCOORD", where=str(path), expected="the number of atoms")
    return int(word)


def _energy(word: str, path: str | Path) -> float:
    try:
        return float(word)
    except ValueError:
        raise InputError(f"the total energy {word!r} is not a number", where=str(path)) from None


def _symbol(word: str) -> str:
    """Element of the first column, which may be an atomic number."""
    if not word.isdigit():
        return word.capitalize()
    from ase.data import chemical_symbols

    return chemical_symbols[int(word)] if 0 < int(word) < len(chemical_symbols) else word


def _recognises(path: Path) -> bool:
    """A folder with such files, or a file with the comment that holds the energy."""
    if path.is_dir():
        return any(path.glob("*.xsf*"))
    of_name = bare_name(path).lower().endswith(".xsf")
    return of_name and any(map(ENERGY_COMMENT.match, read_text(path).splitlines()))


FORMAT = DataFormat(
    "ænet XSF file, or folder of them",
    read=lambda path, options: read_aenet(path),
    recognises=_recognises,
    order=30,
    aliases=("aenet-xsf",),
    is_folder=True,
)
