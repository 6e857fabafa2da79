"""Files piece by piece: one pass over a file that is never held whole, whose pieces any process can read.

for piece in pieces(path, format):
    structures = read_piece(path, format, piece, ReadOptions())
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from nnpkit.data.formats.contract import PIECE_ATOMS, Piece, ReadOptions
from nnpkit.data.formats.reading import read_ase, read_own, usable
from nnpkit.data.formats.registered import FORMATS
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

__all__ = ["pieces", "read_piece"]


def pieces(path: Path, format: str) -> Iterator[Piece]:
    """Pieces of a file or folder in their order; one for everything where the format cannot be cut.

    Parameters
    ----------
    format : str
        As `nnpkit.data.formats.reading.resolve_format` or `detect_format` give it.

    Raises
    ------
    InputError
        If the file cannot be read.
    """
    entry = FORMATS.get(format) if format in FORMATS else None
    if entry is not None:
        yield from entry.pieces(path) if entry.pieces is not None else [Piece()]
    elif format in ("db", "traj"):
        yield from _of_ase(path, format)
    else:
        yield Piece()


def _of_ase(path: Path, format: str) -> Iterator[Piece]:
    """Pieces of a data base or trajectory of ASE, which finds frames by number."""
    try:
        if format == "db":
            import ase.db

            with ase.db.connect(path, serial=True) as rows:
                n_frames, n_atoms = (
                    rows.count(),
                    next(iter(rows.select(limit=1))).natoms if rows.count() else 1,
                )
        else:
            from ase.io.trajectory import Trajectory

            with Trajectory(str(path)) as frames:
                n_frames, n_atoms = len(frames), len(frames[0]) if len(frames) else 1
    except ModuleNotFoundError as error:
        raise InputError(f"this format needs the package {error.name}", where=str(path)) from None
    except Exception as error:  # ASE's readers raise whatever the bytes at hand make them raise
        words = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise InputError(f"ASE cannot read it as {format}: {words}", where=str(path)) from error
    step = max(1, PIECE_ATOMS // max(1, n_atoms))
    for first in range(0, n_frames, step):
        yield Piece(first, stop=min(first + step, n_frames))


def read_piece(
    path: Path, format: str, piece: Piece, options: ReadOptions, wanted: slice = slice(None)
) -> list[Structure]:
    """The structures of a piece, looked at, in Å and eV; their names keep the number of the frame in the file.

    Parameters
    ----------
    wanted : slice
        Which of them; the others are not looked at.

    Raises
    ------
    InputError
        As `nnpkit.data.formats.reading.read`.
    """
    own = FORMATS.get(format) if format in FORMATS else None
    if own is not None:
        found = read_own(path, format, own, options, piece)
    else:
        part = piece if piece.stop is not None else None
        found = read_ase(path, format, options.units, options, part)
    found = found[wanted]
    return usable(found, path) if found else []
