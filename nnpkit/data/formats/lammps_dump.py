"""LAMMPS dump files: text, ``dump custom`` with element names; units metal unless the file says others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from nnpkit.data.formats.contract import DataFormat
from nnpkit.data.formats.text_files import first_line, open_text
from nnpkit.data.notes import note
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.units import BOHR, HARTREE, KCAL_PER_MOL

__all__ = ["FORMAT", "iterate_dump", "read_dump"]


class _Style(NamedTuple):
    """Factors of one of LAMMPS' unit styles to internal units (https://docs.lammps.org/units.html)."""

    length: float  # Å
    velocity: float  # Å/fs
    force: float  # eV/Å
    time: float  # fs


_STYLES = {
    "metal": _Style(1.0, 0.001, 1.0, 1000.0),
    "real": _Style(1.0, 1.0, KCAL_PER_MOL, 1.0),
    "electron": _Style(BOHR, BOHR / 1.03275, HARTREE / BOHR, 1.0),
}
_AXES = (
    ("xu", "yu", "zu"),
    ("x", "y", "z"),
    ("xsu", "ysu", "zsu"),
    ("xs", "ys", "zs"),
)  # the last two scaled
_BOUNDARIES = re.compile(r"[pfsm]{1,2}")


class _Header(NamedTuple):
    step: int
    time: float | None  # in the file's unit
    n_atoms: int
    cell: np.ndarray  # (3, 3), in the file's unit, as is the origin
    origin: np.ndarray
    boundary: list[str] | None  # of x, y, z: pp, ff, ss, ...; None if the file does not say
    columns: list[str]


def read_dump(path: str | Path, may_state_units: bool = True) -> list[Structure]:
    """All frames of a dump; see `iterate_dump`, which needs memory for one only."""
    return list(iterate_dump(path, may_state_units=may_state_units))


def iterate_dump(path: str | Path, every: int = 1, may_state_units: bool = True) -> Iterator[Structure]:
    """Frames of a dump with ids, elements and coordinates, atoms in the order of their ids.

    Coordinates are ``xu yu zu``, ``x y z``, ``xsu ysu zsu`` or ``xs ys zs``; the box may be orthogonal, tilted
    or general. Numbers are in the units of ``ITEM: UNITS`` (metal, real, electron), metal without it.
    Velocities become ``arrays["velocities"]`` (Å/fs), forces and charges (``fx fy fz``, ``q``) the labels, the
    step ``info["step"]``, the time ``info["time_fs"]``. Frames without atoms and an unfinished last frame, as
    a killed run leaves it, are left out with a note.

    Parameters
    ----------
    path : path
        Plain or compressed.
    every : int
        Give every such frame only; those between are passed over unparsed.
    may_state_units : bool
        False if the user has named units: then a dump that names its own is refused.

    Raises
    ------
    InputError
        If the file is missing, is no such dump, lacks a column, has an id twice or units that cannot be converted.
    """
    style = "metal"
    with open_text(path) as stream:
        index = 0
        while True:
            name = f"{path}#{index}"
            items, columns = _items(stream, name)
            if "UNITS" in items and not may_state_units:
                raise InputError(
                    f"units are given, and the dump states its own ({items['UNITS'][0].strip()})", where=name,
                    hint="leave units out",
                )  # fmt: skip
            style = _style(items.get("UNITS", [style])[0], name)
            if columns is None:
                if items.keys() - {"UNITS"}:
                    note("the unfinished last frame is left out", name)
                return
            header = _header(items, columns, name)
            lines = [stream.readline() for _ in range(header.n_atoms)]
            if lines and not _finished(lines[-1], len(columns), name):
                return
            if not lines:
                note("a frame without atoms is left out", name)
            elif index % every == 0:
                yield _frame(name, header, lines, _STYLES[style])
            index += 1


def _style(word: str, name: str) -> str:
    style = word.strip()
    if style not in _STYLES:
        raise InputError(
            f"the dump is in units {style!r}, which are not converted", where=name,
            expected=f"ITEM: UNITS {', '.join(_STYLES)}",
        )  # fmt: skip
    return style


def _finished(line: str, n_columns: int, name: str) -> bool:
    """Whether the last line of a frame is there; one without its end of line is believed if no column lacks."""
    if line.endswith("\n"):
        return True
    if len(line.split()) == n_columns:
        note("the file does not end with an end of line; its last frame is taken to be complete", name)
        return True
    note("the unfinished last frame is left out", name)
    return False


def _items(stream: IO[str], name: str) -> tuple[dict[str, list[str]], list[str] | None]:
    """Items before the atoms of the next frame and the columns of these; None at the end of the file."""
    items: dict[str, list[str]] = {}
    while line := stream.readline():
        if not line.strip():
            continue
        if "ITEM: ".startswith(line):  # cut off within the word
            return items | {line: []}, None
        if not line.startswith("ITEM: "):
            raise InputError("not a LAMMPS dump", where=name, expected="a line that starts with ITEM:")
        title = line[6:].strip()
        if title.split()[:1] == ["ATOMS"]:
            return items, title.split()[1:]
        items[title] = [stream.readline() for _ in range(3 if title.startswith("BOX BOUNDS") else 1)]
    return items, None


def _header(items: dict[str, list[str]], columns: list[str], name: str) -> _Header:
    try:
        box = next(key for key in items if key.startswith("BOX BOUNDS"))
        rows = np.array([row.split() for row in items[box]], dtype=np.float64)
        step, n_atoms = int(items["TIMESTEP"][0]), int(items["NUMBER OF ATOMS"][0])
        time = float(items["TIME"][0]) if "TIME" in items else None
        cell, origin, boundary = _box(box.split()[2:], rows)
    except (KeyError, StopIteration, ValueError):
        raise InputError("the header of this frame is broken", where=name) from None
    if boundary is None:
        note("BOX BOUNDS without boundary flags: taken as periodic in all directions", name)
    return _Header(step, time, n_atoms, cell, origin, boundary, columns)


def _box(words: list[str], rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[str] | None]:
    """Cell, origin and boundary flags (https://docs.lammps.org/dump.html and Howto_triclinic.html).

    Raises ValueError for anything that does not fit together.
    """
    keywords = 3 if words[:3] == ["xy", "xz", "yz"] else 2 if words[:2] == ["abc", "origin"] else 0
    flags = words[keywords:]
    if (flags and len(flags) != 3) or not all(map(_BOUNDARIES.fullmatch, flags)):
        raise ValueError(flags)
    if rows.shape != (3, {3: 3, 2: 4, 0: 2}[keywords]):
        raise ValueError(rows.shape)
    if keywords == 2:  # three vectors, each followed by a component of the origin
        return rows[:, :3], rows[:, 3], flags or None
    low, high = rows[:, 0].copy(), rows[:, 1].copy()
    xy, xz, yz = rows[:, 2] if keywords else (0.0, 0.0, 0.0)
    low[0] -= min(0.0, xy, xz, xy + xz)
    high[0] -= max(0.0, xy, xz, xy + xz)
    low[1] -= min(0.0, yz)
    high[1] -= max(0.0, yz)
    lx, ly, lz = high - low
    return np.array([[lx, 0.0, 0.0], [xy, ly, 0.0], [xz, yz, lz]]), low, flags or None


def _frame(name: str, header: _Header, lines: list[str], style: _Style) -> Structure:
    column = {key: k for k, key in enumerate(header.columns)}
    axes = next((axes for axes in _AXES if set(axes) <= column.keys()), None)
    if axes is None or not {"id", "element"} <= column.keys():
        found = " ".join(header.columns)
        raise InputError(
            f"the columns are {found}", where=name, expected="id element xu yu zu (or x y z, xs ys zs)",
            hint="dump_modify ... element gives the names of the elements" if "type" in column else None,
        )  # fmt: skip
    if len({"fx", "fy", "fz"} & column.keys()) in (1, 2):
        note("not all of fx fy fz are there: no forces", name)
    if computed := [key for key in header.columns if key.startswith(("c_", "f_", "v_"))]:
        note(f"columns {', '.join(computed)} are not read", name)

    def numbers(*keys: str) -> np.ndarray | None:
        if not set(keys) <= column.keys():
            return None
        return table[:, [column[key] for key in keys]].astype(np.float64)

    try:
        table = np.array([line.split() for line in lines])
        ids = table[:, column["id"]].astype(np.int64)
        table = table[np.argsort(ids, kind="stable")]
        positions = np.asarray(numbers(*axes))
        velocities, forces, charges = numbers("vx", "vy", "vz"), numbers("fx", "fy", "fz"), numbers("q")
    except (ValueError, IndexError):
        raise InputError("an atom line of this frame is broken", where=name) from None
    if len(np.unique(ids)) < len(ids):
        raise InputError("an id stands in more than one line of this frame", where=name, expected="it once")
    positions = positions @ header.cell if axes[0] in ("xs", "xsu") else positions - header.origin
    return Structure(
        symbols=table[:, column["element"]].tolist(), positions=positions * style.length,
        cell=header.cell * style.length, name=name,
        pbc=np.array([flag in ("p", "pp") for flag in header.boundary or ("pp", "pp", "pp")]),
        forces=None if forces is None else forces * style.force,
        charges=None if charges is None else charges[:, 0],
        info={"step": header.step} | ({} if header.time is None else {"time_fs": header.time * style.time}),
        arrays={} if velocities is None else {"velocities": velocities * style.velocity},
    )  # fmt: skip


FORMAT = DataFormat(
    "LAMMPS dump with element names",
    read=lambda path, options: read_dump(path, may_state_units=not options.units),
    recognises=lambda path: path.is_file() and first_line(path).startswith("ITEM: "),
    order=50,
)
