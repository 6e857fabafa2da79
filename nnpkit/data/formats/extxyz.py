"""Extended XYZ: read with line numbers in its messages, written without loss of a bit.

The format is the one of ASE and libAtoms (https://github.com/libAtoms/extxyz): number of atoms, a line of
``key=value``, one line per atom with the columns that ``Properties`` names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nnpkit.data.electronic import take_state
from nnpkit.data.formats.contract import PIECE_ATOMS, DataFormat, Piece, ReadOptions
from nnpkit.data.formats.extxyz_header import BOOLEANS, header_units, parse_key_values, take, value_of
from nnpkit.data.formats.stated_units import StatedUnits, converted
from nnpkit.data.formats.text_files import bare_name, open_for_writing, open_text, read_text
from nnpkit.data.label_notes import note_comment
from nnpkit.data.labels import extract_labels
from nnpkit.data.notes import note
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.units import UnitSystem

__all__ = ["FORMAT", "extxyz_text", "read_extxyz", "write_extxyz"]

_DEFAULT_PROPERTIES = "species:S:1:pos:R:3"
_KINDS = {"R": np.float64, "I": np.int64, "S": object, "L": bool}
_COLUMN_NAMES = {  # other programs' names of columns
    "species": ("species", "symbol", "symbols", "element", "elements", "atom"),
    "Z": ("z", "numbers", "atomic_numbers", "atomic_number"),
    "pos": ("pos", "positions", "position", "coordinates", "coords"),
}


class _Parsed(NamedTuple):
    """A frame as the file has it, before its labels are told from its extras."""

    name: str
    where: str
    symbols: list[str]
    positions: np.ndarray
    cell: np.ndarray
    pbc: Any
    info: dict[str, Any]
    arrays: dict[str, np.ndarray]
    units: StatedUnits | None


def read_extxyz(
    path: str | Path, keys: Mapping[str, str] | None = None, units: UnitSystem | None = None
) -> list[Structure]:
    """All frames of an extended (or plain) XYZ file, .xz, .gz and .bz2 included; eV, Å.

    Parameters
    ----------
    path : path
        The file.
    keys : mapping, optional
        Names of labels that differ from those of `nnpkit.data.labels`.
    units : UnitSystem, optional
        Of the numbers; otherwise what the headers state, Å and eV where they do not.

    Raises
    ------
    InputError
        With file and line (or frame) for anything that cannot be understood.
    """
    return _structures(path, Piece(text=read_text(path)), ReadOptions(keys=keys), units)


def _structures(
    path: str | Path, piece: Piece, options: ReadOptions, units: UnitSystem | None
) -> list[Structure]:
    """The frames of a piece of the file."""
    frames = _parse(path, piece, options.keys)
    names = options.names_of([[*f.info, *f.arrays] for f in frames], str(path))
    return [_structure(frame, options.keys, names, units) for frame in frames]


def _structure(
    frame: _Parsed,
    keys: Mapping[str, str] | None,
    names: Mapping[str, tuple[str, ...]],
    units: UnitSystem | None,
) -> Structure:
    virial = "stress" not in map(str.lower, frame.info)
    labels = extract_labels(
        frame.info, frame.arrays, len(frame.symbols), frame.cell, frame.name, keys, names
    )  # fmt: skip
    take_state(labels, frame.info, frame.arrays, frame.symbols, frame.name, keys)
    stated = frame.units
    if stated and stated.stress not in (None, 1.0) and "stress" in labels and virial:
        raise InputError("the header states a unit of stress but has a virial", where=frame.where)
    structure = Structure(
        symbols=frame.symbols, positions=frame.positions, cell=frame.cell, pbc=frame.pbc, name=frame.name,
        info=frame.info, arrays=frame.arrays, **labels,
    )  # fmt: skip
    return converted(structure, stated, units, frame.where)


def _pieces(path: Path) -> Iterator[Piece]:
    """Pieces of so many atoms; what cannot be understood is left to `_parse`, as the end of the last one."""
    with open_text(path) as stream:
        lines: list[str] = []
        first = frames = atoms = 0
        begin = number = 1
        for line in stream:
            lines.append(line)
            number += 1
            if line.strip():
                n = int(line) if line.strip().isdecimal() else 0
                rest = list(islice(stream, n + 1 if n else None))
                lines += rest
                number, frames, atoms = number + len(rest), frames + 1, atoms + n
            if atoms >= PIECE_ATOMS:
                yield Piece(first, "".join(lines), begin)
                lines, first, begin, atoms = [], frames, number, 0
        if any(line.strip() for line in lines):
            yield Piece(first, "".join(lines), begin)


def _parse(path: str | Path, piece: Piece, keys: Mapping[str, str] | None) -> list[_Parsed]:
    lines = piece.text.removesuffix("\n").split("\n")
    structures: list[_Parsed] = []
    at = 0
    while at < len(lines):
        if not lines[at].strip():
            at += 1
            continue
        number, line = piece.first + len(structures), piece.line + at
        where = f"{path}, line {line} (frame {number})"
        n = _atom_count(lines[at], where)
        if at + 2 + n > len(lines):
            raise InputError(
                f"the file ends after {max(len(lines) - at - 2, 0)} of {n} atoms", where=where,
                hint="the file is truncated; copy it again or remove its last frame",
            )  # fmt: skip
        name = f"{path}#{number}"
        structures.append(_frame(lines[at + 1], lines[at + 2 : at + 2 + n], name, f"{path}", line + 1, keys))
        at += 2 + n
    return structures


def _atom_count(line: str, where: str) -> int:
    try:
        n = int(line)
    except ValueError:
        raise InputError(
            f"found {line.strip()[:40]!r}", where=where, expected="the number of atoms of a frame",
            hint="the frame before it may have a wrong number of atoms",
        ) from None  # fmt: skip
    if n <= 0:
        raise InputError(f"the frame has {n} atoms", where=where, expected="at least one")
    return n


def _frame(
    comment: str, rows: list[str], name: str, path: str, line: int, keys: Mapping[str, str] | None
) -> _Parsed:
    """One frame; `line` is the number of the comment line."""
    where = f"{path}, line {line} ({name})"
    try:
        info = parse_key_values(comment)
    except ValueError as error:
        raise InputError(f"cannot understand the key=value line: {error}", where=where) from None
    arrays = _columns(rows, str(take(info, "properties") or _DEFAULT_PROPERTIES), where, path, line + 1)
    lattice, pbc = take(info, "lattice"), take(info, "pbc")
    if lattice is not None and (np.size(lattice) != 9 or np.asarray(lattice).dtype.kind not in "if"):
        raise InputError(
            f"the lattice {_short(lattice)} is not understood", where=where, expected="nine numbers"
        )
    cell = np.zeros((3, 3)) if lattice is None else np.asarray(lattice, dtype=np.float64).reshape(3, 3)
    symbols = _symbols(arrays, where)
    positions = _column(arrays, "pos")
    if positions is None:
        raise InputError("Properties has no pos", where=where, expected="species:S:1:pos:R:3 and more")
    if isinstance(info.get("comment"), str) and "=" not in comment:
        note_comment(comment, name)
    pbc = np.full(3, lattice is not None) if pbc is None else pbc
    units = header_units(info, arrays, keys, name, where)
    return _Parsed(name, where, symbols, positions, cell, pbc, info, arrays, units)


def _short(value: Any) -> str:
    """Text of any value for a message: one line, not long."""
    return " ".join(str(value).split())[:60]


def _column(arrays: dict[str, np.ndarray], kind: str) -> Any:
    """Remove the column that other programs may call otherwise; None if there is none."""
    for name in _COLUMN_NAMES[kind]:
        for key in list(arrays):
            if key.lower() == name:
                return arrays.pop(key)
    return None


def _symbols(arrays: dict[str, np.ndarray], where: str) -> list[str]:
    from ase.data import chemical_symbols

    def symbol(number: Any) -> str:
        if not 0 < (k := int(number)) < len(chemical_symbols):
            raise InputError(f"atomic number {k} is out of range", where=where)
        return chemical_symbols[k]

    species, numbers = _column(arrays, "species"), _column(arrays, "Z")
    if species is None and numbers is None:
        raise InputError("Properties has neither species nor Z", where=where)
    if numbers is not None and numbers.dtype.kind not in "iu":
        raise InputError("the atomic numbers are no integers", where=where, expected="Z:I:1")
    of_numbers = None if numbers is None else [symbol(number) for number in numbers]
    if species is None:
        return of_numbers or []
    words = [str(word) for word in species]
    symbols = [symbol(word) if word.isascii() and word.isdigit() else word.capitalize() for word in words]
    if of_numbers is not None and symbols != of_numbers:
        k = next(k for k, pair in enumerate(zip(symbols, of_numbers, strict=True)) if pair[0] != pair[1])
        raise InputError(f"atom {k} is {symbols[k]} by name and {of_numbers[k]} by number", where=where)
    return symbols


def _columns(rows: list[str], properties: str, where: str, path: str, first: int) -> dict[str, np.ndarray]:
    """Per-atom arrays by name; `first` is the line number of the first row."""
    fields = properties.split(":")
    try:
        layout = [(fields[k], fields[k + 1], int(fields[k + 2])) for k in range(0, len(fields), 3)]
        kinds = [_KINDS[kind] for _, kind, _ in layout]
    except (IndexError, KeyError, ValueError):
        raise InputError(
            f"Properties={properties} is not understood", where=where,
            expected="name:type:columns triples with type R, I, S or L",
        ) from None  # fmt: skip
    width = sum(count for *_, count in layout)
    words = [row.split() for row in rows]
    for offset, row in enumerate(words):
        if len(row) < width:
            raise InputError(
                f"{len(row)} columns", where=f"{path}, line {first + offset}",
                expected=f"{width} ({properties})", hint="the file may be truncated",
            )  # fmt: skip
    if (widest := max(map(len, words))) > width:
        note(f"{widest - width} columns without a name in Properties are not read", path)
    arrays: dict[str, np.ndarray] = {}
    start = 0
    for (key, _, count), kind in zip(layout, kinds, strict=True):
        block = [row[start : start + count] for row in words]
        array = _convert(block, kind, f"{path}", first, key)
        arrays[key] = array[:, 0] if count == 1 else array
        start += count
    return arrays


def _convert(block: list[list[str]], kind: Any, path: str, first: int, key: str) -> np.ndarray:
    """Array of the words of one property; the message of a failure has the line number."""
    try:
        if kind is bool:
            return np.array([[BOOLEANS[word] for word in row] for row in block])
        return np.array(block, dtype=kind)
    except (KeyError, ValueError):
        offset = next(i for i, row in enumerate(block) if not _convertible(row, kind))
        raise InputError(
            f"{' '.join(block[offset])!r} cannot be {key}", where=f"{path}, line {first + offset}"
        ) from None


def _convertible(row: list[str], kind: Any) -> bool:
    try:
        _ = [BOOLEANS[word] for word in row] if kind is bool else np.array(row, dtype=kind)
    except (KeyError, ValueError):
        return False
    return True


def write_extxyz(path: str | Path, structures: Iterable[Structure]) -> None:
    """Write frames so that reading them gives the same numbers; compressed by the suffix of `path`."""
    with open_for_writing(path) as stream:
        for structure in structures:
            stream.write(extxyz_text(structure))


def extxyz_text(structure: Structure) -> str:
    """The frame as text, every number with all its digits."""
    properties, words = _column_words(structure)
    pairs = _pairs(structure, properties).items()
    comment = " ".join(f"{_quoted(str(key))}={_text(value)}" for key, value in pairs)
    rows = "".join(" ".join(row) + "\n" for row in zip(*words, strict=True))
    return f"{structure.n_atoms}\n{comment}\n{rows}"


def _column_words(structure: Structure) -> tuple[str, list[list[str]]]:
    """``Properties`` and the words of every column."""
    columns: dict[str, np.ndarray] = {"species": np.array(structure.symbols), "pos": structure.positions}
    if structure.forces is not None:
        columns["forces"] = structure.forces
    if structure.charges is not None:
        columns["charges"] = structure.charges
    properties, words = [], []
    for key, array in (columns | {k: v for k, v in structure.arrays.items() if k not in columns}).items():
        flat = np.asarray(array).reshape(structure.n_atoms, -1)
        kind = {"f": "R", "i": "I", "u": "I", "b": "L"}.get(flat.dtype.kind, "S")
        properties.append(f"{key}:{kind}:{flat.shape[1]}")
        for column in flat.T.tolist():
            if kind == "S":
                words.append(["_".join(str(x).split()) or "_" for x in column])
            else:
                words.append([("T" if x else "F") if kind == "L" else str(x) for x in column])
    return ":".join(properties), words


def _pairs(structure: Structure, properties: str) -> dict[str, Any]:
    """The ``key=value`` pairs of a frame in the order they are written."""
    pairs: dict[str, Any] = {"Lattice": structure.cell.ravel()} if structure.cell.any() else {}
    pairs["Properties"] = properties
    if structure.energy is not None:
        pairs["energy"] = structure.energy
    if structure.dipole is not None:
        pairs["dipole"] = structure.dipole
    if structure.stress is not None:
        pairs["stress"] = structure.stress.ravel()
    if structure.total_charge is not None:
        pairs["total_charge"] = structure.total_charge
    if structure.multiplicity is not None:
        pairs["multiplicity"] = structure.multiplicity
    pairs["pbc"] = structure.pbc
    taken = {key.lower() for key in pairs} | {"lattice"}
    return pairs | {key: value for key, value in structure.info.items() if str(key).lower() not in taken}


def _text(value: Any) -> str:
    """Text of a value that `value_of` turns back into it."""
    if isinstance(value, np.ndarray) and value.ndim == 1 and value.size > 1 and value.dtype.kind in "ifb":
        return '"' + " ".join(_text(x) for x in value.tolist()) + '"'
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bool):
        return "T" if value else "F"
    if isinstance(value, (int, float)):
        return str(value)
    plain = isinstance(value, str) and value.isprintable() and not value.startswith("_JSON ")
    if plain and isinstance(value_of(value), str):
        return _quoted(value)
    return _quoted("_JSON " + json.dumps(value, default=_jsonable))


def _jsonable(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)


def _quoted(text: str) -> str:
    if text and not re.search(r"""[\s"'{}\[\]=\\]""", text):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _read(path: Path, options: ReadOptions) -> list[Structure]:
    return read_extxyz(path, options.keys, options.system if options.units else None)


def _read_piece(path: Path, piece: Piece, options: ReadOptions) -> list[Structure]:
    return _structures(path, piece, options, options.system if options.units else None)


FORMAT = DataFormat(
    "extended or plain XYZ",
    read=_read,
    write=lambda path, structures, units: write_extxyz(path, structures),
    recognises=lambda path: path.is_file() and bare_name(path).lower().endswith((".xyz", ".extxyz")),
    order=10,
    aliases=("xyz",),
    converts=True,
    has_keys=True,
    pieces=_pieces,
    read_piece=_read_piece,
)
