"""``input.data`` of RuNNer and n2p2.

One block per frame: ``begin``, any number of ``comment`` lines, three ``lattice`` lines for a periodic frame,
``atom x y z element charge atomic_energy fx fy fz`` for every atom, ``energy``, ``charge`` (of the whole
frame), ``end``.  RuNNer 2 may name the columns of the atom lines after ``begin``.  Units are bohr and
hartree unless the user says ``angstrom-ev``; the file itself does not say.

What the format has no place for (stress, dipole, labels that are missing rather than zero, extras) is written as one
comment line ``nnpkit {json}``, which other programs ignore and `read_runner` understands.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nnpkit.data.formats.contract import PIECE_ATOMS, DataFormat, Piece, ReadOptions
from nnpkit.data.formats.text_files import (
    bare_name,
    first_line,
    open_for_writing,
    open_text,
    read_text,
)
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.units import BOHR_HARTREE, UnitSystem

__all__ = ["FORMAT", "read_runner", "write_runner"]

_OWN_COMMENT = "nnpkit "
_DEFAULT_COLUMNS = {"charge": slice(4, 5), "force": slice(6, 9)}
_COLUMN_NAMES = {"charges": "charge", "forces": "force"}


@dataclass
class _Block:
    """What has been read of a frame so far."""

    line: int
    columns: dict[str, slice]
    symbols: list[str] = field(default_factory=list)
    atoms: list[list[str]] = field(default_factory=list)
    atom_lines: list[int] = field(default_factory=list)
    lattice: list[list[float]] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)
    extras: dict[str, Any] = field(default_factory=dict)
    energy: float | None = None
    charge: float | None = None


def read_runner(path: str | Path, units: UnitSystem = BOHR_HARTREE) -> list[Structure]:
    """All frames of an ``input.data`` file (.xz, .gz, .bz2 included), converted from `units` to Å and eV.

    Charges that are all zero count as absent, since the column is mandatory.

    Raises
    ------
    InputError
        With file and line for anything that is not understood.
    """
    return _structures(path, Piece(text=read_text(path)), units)


def _pieces(path: Path) -> Iterator[Piece]:
    """Pieces of so many lines, each ending with a frame."""
    path = _file_of(path)
    with open_text(path) as stream:
        lines: list[str] = []
        first = frames = 0
        begin = 1
        for number, line in enumerate(stream, start=1):
            lines.append(line)
            if line.split()[:1] == ["end"]:
                frames += 1
                if len(lines) >= PIECE_ATOMS:
                    yield Piece(first, "".join(lines), begin)
                    lines, first, begin = [], frames, number + 1
        if any(line.strip() for line in lines):
            yield Piece(first, "".join(lines), begin)


def _structures(path: str | Path, piece: Piece, units: UnitSystem) -> list[Structure]:
    """The frames of a piece of the file."""
    structures: list[Structure] = []
    block: _Block | None = None
    number = 0
    for number, line in enumerate(piece.text.splitlines(), start=piece.line):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        where = f"{path}, line {number} (frame {piece.first + len(structures)})"
        if words[0] == "begin":
            if block is not None:
                raise InputError(f"begin within the frame that begins at line {block.line}", where=where)
            block = _Block(number, _columns(words[1:], where))
        elif block is None:
            raise InputError(f"found {words[0]!r} outside a frame", where=where, expected="begin")
        elif words[0] == "end":
            structures.append(_structure(block, f"{path}#{piece.first + len(structures)}", path, units))
            block = None
        else:
            _read_line(block, words, line, number, where)
    if block is not None:
        raise InputError(
            f"the file ends within the frame that begins at line {block.line}",
            where=f"{path}, line {number}", expected="end", hint="the file is truncated; copy it again",
        )  # fmt: skip
    return structures


def _columns(names: list[str], where: str) -> dict[str, slice]:
    """Where charge and force are on the atom lines, from RuNNer 2's ``begin position(3) element ...``."""
    if not names:
        return _DEFAULT_COLUMNS
    columns, at = {}, 0
    for name in names:
        match = re.fullmatch(r"([\w-]+)(?:\((\d+)\))?", name)
        if match is None:
            raise InputError(
                f"the column {name!r} is not understood", where=where, expected="name or name(n)"
            )
        width = int(match[2] or 1)
        columns[_COLUMN_NAMES.get(match[1], match[1])] = slice(at, at + width)
        at += width
    return columns


def _read_line(block: _Block, words: list[str], line: str, number: int, where: str) -> None:
    keyword = words[0]
    if keyword == "atom":
        if len(words) < 5:
            raise InputError(f"{len(words) - 1} columns", where=where, expected="atom x y z element ...")
        block.symbols.append(words[4].capitalize())
        block.atoms.append(words[1:])
        block.atom_lines.append(number)
    elif keyword == "lattice":
        if len(words) < 4 or len(block.lattice) == 3:
            raise InputError("not understood", where=where, expected="three lines 'lattice x y z'")
        block.lattice.append([_number(word, where) for word in words[1:4]])
    elif keyword in ("energy", "charge"):
        if len(words) < 2:
            raise InputError(f"{keyword} without a value", where=where)
        setattr(block, keyword, _number(words[1], where))
    elif keyword == "comment":
        text = line.strip()[len("comment") :].strip()
        if text.startswith(_OWN_COMMENT):
            block.extras = _own_comment(text, where)
        elif text:
            block.comments.append(text)
    else:
        raise InputError(
            f"unknown keyword {keyword!r}",
            where=where,
            expected="atom, lattice, energy, charge, comment or end",
        )


def _own_comment(text: str, where: str) -> dict[str, Any]:
    try:
        extras = json.loads(text[len(_OWN_COMMENT) :])
    except ValueError as error:
        raise InputError(f"nnpkit's comment line is damaged: {error}", where=where) from None
    return extras if isinstance(extras, dict) else {}


def _number(word: str, where: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise InputError(f"{word!r} is not a number", where=where) from None


def _numbers(block: _Block, columns: slice, path: str | Path) -> np.ndarray:
    """(N, columns) of the atom lines."""
    try:
        return np.array([words[columns] for words in block.atoms], dtype=np.float64)
    except ValueError:
        for words, line in zip(block.atoms, block.atom_lines, strict=True):
            where = f"{path}, line {line}"
            if len(words[columns]) != columns.stop - columns.start:
                raise InputError(
                    f"{len(words)} columns",
                    where=where,
                    expected=f"{columns.stop} as on the other atom lines",
                ) from None
            for word in words[columns]:
                _number(word, where)
        raise


def _structure(block: _Block, name: str, path: str | Path, units: UnitSystem) -> Structure:
    if len(block.lattice) not in (0, 3):
        raise InputError(
            f"{len(block.lattice)} lattice lines", where=f"{path}, line {block.line} ({name})",
            expected="three or none",
        )  # fmt: skip
    if not block.atoms:
        raise InputError("the frame has no atoms", where=f"{path}, line {block.line} ({name})")
    try:
        return _assemble(block, name, path, units)
    except (AttributeError, TypeError, ValueError):
        if not block.extras:
            raise
        raise InputError("nnpkit's comment line is damaged", where=name, hint="remove that line") from None


def _assemble(block: _Block, name: str, path: str | Path, units: UnitSystem) -> Structure:
    width = max(len(words) for words in block.atoms)
    extras, columns = block.extras, block.columns
    labels = extras.get("labels")
    forces = _numbers(block, columns["force"], path) if _present(columns, "force", width) else None
    charges = _numbers(block, columns["charge"], path)[:, 0] if _present(columns, "charge", width) else None
    if charges is not None and not charges.any() and (labels is None or "charges" not in labels):
        charges = None
    cell = np.array(block.lattice or extras.get("cell") or np.zeros((3, 3)))
    info = dict(extras.get("info", {}))
    if block.comments:
        info["comment"] = "\n".join(block.comments)
    missing = set() if labels is None else {"energy", "forces", "total_charge"} - set(labels)
    stress, dipole = extras.get("stress"), extras.get("dipole")
    return Structure(
        symbols=block.symbols,
        positions=_numbers(block, slice(0, 3), path) * units.length,
        cell=cell * units.length,
        pbc=np.broadcast_to(extras.get("pbc", bool(block.lattice)), 3),
        energy=None if block.energy is None or "energy" in missing else block.energy * units.energy,
        forces=None if forces is None or "forces" in missing else forces * units.force,
        stress=None if stress is None else np.array(stress) * units.stress,
        charges=charges,
        dipole=None if dipole is None else np.array(dipole) * units.length,
        total_charge=None if "total_charge" in missing else block.charge,
        multiplicity=extras.get("multiplicity"),
        name=name,
        info=info,
        arrays={key: np.array(value) for key, value in extras.get("arrays", {}).items()},
    )


def _present(columns: dict[str, slice], name: str, width: int) -> bool:
    return name in columns and columns[name].stop <= width


def write_runner(path: str | Path, structures: Iterable[Structure], units: UnitSystem = BOHR_HARTREE) -> None:
    """Write ``input.data`` in the given units, 17 significant digits; compressed by the suffix of `path`."""
    with open_for_writing(path) as stream:
        for structure in structures:
            stream.write("\n".join(_lines(structure, units)) + "\n")


def _lines(structure: Structure, units: UnitSystem) -> list[str]:
    n = structure.n_atoms
    comment = str(structure.info.get("comment", ""))
    lines = ["begin"] + [f"comment {line}" for line in comment.splitlines()]
    if extras := _extras(structure, units):
        lines.append(f"comment {_OWN_COMMENT}{json.dumps(extras)}")
    if structure.pbc.any():
        lines += [f"lattice {x!r} {y!r} {z!r}" for x, y, z in (structure.cell / units.length).tolist()]
    positions = (structure.positions / units.length).tolist()
    forces = (np.zeros((n, 3)) if structure.forces is None else structure.forces / units.force).tolist()
    charges = ([0.0] * n) if structure.charges is None else structure.charges.tolist()
    for symbol, (x, y, z), q, (fx, fy, fz) in zip(structure.symbols, positions, charges, forces, strict=True):
        lines.append(f"atom {x!r} {y!r} {z!r} {symbol} {q!r} 0.0 {fx!r} {fy!r} {fz!r}")
    lines.append(f"energy {0.0 if structure.energy is None else structure.energy / units.energy!r}")
    return [*lines, f"charge {structure.total_charge or 0.0!r}", "end"]


def _extras(structure: Structure, units: UnitSystem) -> dict[str, Any]:
    """What the format cannot say about this structure, in the units of the file."""
    labels = [label for label in structure.labels if label not in ("stress", "dipole")]
    if structure.total_charge is not None:
        labels.append("total_charge")
    charged = structure.charges is not None and bool(structure.charges.any())
    extras: dict[str, Any] = {}
    if labels != ["energy", "forces", *(["charges"] if charged else []), "total_charge"]:
        extras["labels"] = labels
    if structure.multiplicity is not None:
        extras["multiplicity"] = structure.multiplicity
    if structure.stress is not None:
        extras["stress"] = (structure.stress / units.stress).tolist()
    if structure.dipole is not None:
        extras["dipole"] = (structure.dipole / units.length).tolist()
    if not structure.pbc.all() and (structure.pbc.any() or structure.cell.any()):
        extras["pbc"] = structure.pbc.tolist()
        extras["cell"] = (structure.cell / units.length).tolist()
    info = {key: value for key, value in structure.info.items() if key != "comment"}
    if info:
        extras["info"] = info
    if structure.arrays:
        extras["arrays"] = structure.arrays
    return json.loads(json.dumps(extras, default=_jsonable))


def _jsonable(value: Any) -> Any:
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else str(value)


def _recognises(path: Path) -> bool:
    """A folder with such a file, or a file that is called so or begins so."""
    if path.is_dir():
        return any(path.glob("input.data*"))
    return first_line(path).split()[:1] == ["begin"] or bare_name(path).lower().startswith("input.data")


def _file_of(path: Path) -> Path:
    file = next(iter(sorted(path.glob("input.data*"))), path) if path.is_dir() else path
    if file.is_dir():
        raise InputError("runner is a file", where=str(path))
    return file


def _read(path: Path, options: ReadOptions) -> list[Structure]:
    return read_runner(_file_of(path), options.system)


def _read_piece(path: Path, piece: Piece, options: ReadOptions) -> list[Structure]:
    return _structures(_file_of(path), piece, options.system)


FORMAT = DataFormat(
    "RuNNer and n2p2 input.data",
    read=_read,
    write=write_runner,
    recognises=_recognises,
    order=40,
    aliases=("n2p2", "runnerdata", "input.data"),
    units=BOHR_HARTREE,
    converts=True,
    writes_units=True,
    is_folder=True,
    pieces=_pieces,
    read_piece=_read_piece,
)
