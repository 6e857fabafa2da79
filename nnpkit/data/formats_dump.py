"""LAMMPS dump files: text, ``dump custom`` with element names, units metal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np

from nnpkit.data.formats_text import open_text
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

__all__ = ["iterate_dump", "read_dump"]

_VELOCITY = 0.001  # Å/fs per Å/ps


class _Header(NamedTuple):
    step: int
    n_atoms: int
    bounds: np.ndarray  # (3, 2) low, high of the bounding box; (3, 3) with the tilts xy, xz, yz
    boundary: list[str]  # of x, y, z: pp, ff, ss, ...
    columns: list[str]


def read_dump(path: str | Path) -> list[Structure]:
    """All frames of a dump; see `iterate_dump`, which needs memory for one only."""
    return list(iterate_dump(path))


def iterate_dump(path: str | Path, every: int = 1) -> Iterator[Structure]:
    """Frames of a dump with columns ``id element xu yu zu`` (or ``x y z``), atoms in the order of their ids.

    Velocities become ``arrays["velocities"]`` (Å/fs), forces the label (eV/Å), the time step
    ``info["step"]``. An unfinished last frame, as a killed run leaves it, is not an error.

    Parameters
    ----------
    path : path
        Plain or compressed.
    every : int
        Give every such frame only; those between are passed over unparsed.

    Raises
    ------
    InputError
        If the file is missing, is no such dump, or lacks a column.
    """
    with open_text(path) as stream:
        index = 0
        while (header := _header(stream, f"{path}#{index}")) is not None:
            lines = [stream.readline() for _ in range(header.n_atoms)]
            if not (lines and lines[-1].endswith("\n")):
                return
            if index % every == 0:
                yield _frame(f"{path}#{index}", header, lines)
            index += 1


def _header(stream: IO[str], name: str) -> _Header | None:
    """Items before the atoms of the next frame; None at the end of the file."""
    items: dict[str, list[str]] = {}
    while line := stream.readline():
        if not line.startswith("ITEM: "):
            raise InputError("not a LAMMPS dump", where=name, expected="a line that starts with ITEM:")
        title = line[6:].strip()
        if not title.startswith("ATOMS"):
            items[title] = [stream.readline() for _ in range(3 if title.startswith("BOX BOUNDS") else 1)]
            continue
        try:
            box = next(key for key in items if key.startswith("BOX BOUNDS"))
            bounds = np.array([row.split() for row in items[box]], dtype=np.float64)
            step, n_atoms = int(items["TIMESTEP"][0]), int(items["NUMBER OF ATOMS"][0])
        except (KeyError, StopIteration, ValueError):
            raise InputError("the header of this frame is broken", where=name) from None
        return _Header(step, n_atoms, bounds, box.split()[-3:], title.split()[1:])
    return None


def _cell(bounds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cell and origin (https://docs.lammps.org/Howto_triclinic.html, bounds of a tilted box)."""
    low, high = bounds[:, 0].copy(), bounds[:, 1].copy()
    xy, xz, yz = bounds[:, 2] if bounds.shape[1] == 3 else (0.0, 0.0, 0.0)
    low[0] -= min(0.0, xy, xz, xy + xz)
    high[0] -= max(0.0, xy, xz, xy + xz)
    low[1] -= min(0.0, yz)
    high[1] -= max(0.0, yz)
    lx, ly, lz = high - low
    return np.array([[lx, 0.0, 0.0], [xy, ly, 0.0], [xz, yz, lz]]), low


def _frame(name: str, header: _Header, lines: list[str]) -> Structure:
    column = {key: k for k, key in enumerate(header.columns)}
    axes = next((axes for axes in (("xu", "yu", "zu"), ("x", "y", "z")) if set(axes) <= column.keys()), None)
    if axes is None or not {"id", "element"} <= column.keys():
        found = " ".join(header.columns)
        raise InputError(f"the columns are {found}", where=name, expected="id element xu yu zu (or x y z)")

    def vectors(keys: tuple[str, ...]) -> np.ndarray | None:
        if not set(keys) <= column.keys():
            return None
        return table[:, [column[key] for key in keys]].astype(np.float64)

    try:
        table = np.array([line.split() for line in lines])
        table = table[np.argsort(table[:, column["id"]].astype(np.int64), kind="stable")]
        positions = vectors(axes)
        velocities, forces = vectors(("vx", "vy", "vz")), vectors(("fx", "fy", "fz"))
    except (ValueError, IndexError):
        raise InputError("an atom line of this frame is broken", where=name) from None
    cell, origin = _cell(header.bounds)
    arrays = {} if velocities is None else {"velocities": velocities * _VELOCITY}
    return Structure(
        symbols=table[:, column["element"]].tolist(), positions=positions - origin, cell=cell,
        pbc=np.array([boundary == "pp" for boundary in header.boundary]), forces=forces, name=name,
        info={"step": header.step}, arrays=arrays,
    )  # fmt: skip
