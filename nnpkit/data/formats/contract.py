"""What a format of reference data is: how it is recognised, read and written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnpkit.data.labels import choose_names
from nnpkit.data.structure import Structure
from nnpkit.units import ANGSTROM_EV, UnitSystem

__all__ = ["PIECE_ATOMS", "DataFormat", "Piece", "ReadOptions"]

PIECE_ATOMS = 50_000
"""Atoms after which a piece of a file ends."""


@dataclass(frozen=True)
class Piece:
    """Some consecutive frames of a file: their text, or where they are.

    Attributes
    ----------
    first : int
        Number of its first frame.
    text : str
        Of a text file; whole lines.
    line : int
        Number of the first of these, from 1.
    part : str
        Of a format of several files, which of them.
    stop : int or None
        Number of the frame behind the last one; None: all there are.
    """

    first: int = 0
    text: str = ""
    line: int = 1
    part: str = ""
    stop: int | None = None


@dataclass(frozen=True)
class ReadOptions:
    """What the user says about a file beside its format.

    Attributes
    ----------
    units : str or None
        Units as they are called by the user; None if nothing was said.
    system : UnitSystem
        The same; without them, the units of the format.
    keys : mapping
        Names of labels other than the usual ones.
    species : sequence of str or None
        Elements of the atom types of a file that does not say them.
    names : mapping or None
        Names under which the labels of the whole file are looked for, see `nnpkit.data.labels.choose_names`; None:
        chosen from the frames at hand.
    seen : set or None
        Where to put the names that frames carry, a frozen set for each different frame.
    """

    units: str | None = None
    system: UnitSystem = ANGSTROM_EV
    keys: Mapping[str, str] | None = None
    species: Sequence[str] | None = None
    names: Mapping[str, tuple[str, ...]] | None = None
    seen: set[frozenset[str]] | None = None

    def names_of(self, frames: Sequence[Iterable[str]], where: str) -> Mapping[str, tuple[str, ...]]:
        """Names of the labels of `frames`, each given as the names that it carries; see `names` and `seen`."""
        if self.seen is not None:
            self.seen.update(frozenset(map(str, frame)) for frame in frames)
        return choose_names(frames, self.keys, where) if self.names is None else self.names


@dataclass(frozen=True)
class DataFormat:
    """How a kind of file is read and written.

    Attributes
    ----------
    description : str
        A few words.
    read : callable
        Structures of a path and `ReadOptions`; messages name file and line.
    write : callable, optional
        Writes structures to a path in a `UnitSystem`; the file appears only once it is complete.
    recognises : callable
        Whether a file or folder that exists is of this format.
    order : int
        Formats with a smaller one are asked first.
    aliases : tuple of str
        Other names.
    units : UnitSystem
        Of a file that does not say.
    converts : bool
        Whether `read` gives Å and eV whatever the units; otherwise its numbers are converted afterwards.
    writes_units : bool
        Whether it is written in other units than Å and eV, too.
    has_keys, has_species : bool
        Whether these options apply.
    is_folder, is_file : bool
        What it may be.
    pieces : callable, optional
        Cuts a path into `Piece`s, reading on as they are asked for; without it a file is one piece.
    read_piece : callable, optional
        Structures of a path, one of these pieces and `ReadOptions`.
    """

    description: str
    read: Callable[[Path, ReadOptions], list[Structure]]
    recognises: Callable[[Path], bool]
    write: Callable[[Path, Sequence[Structure], UnitSystem], None] | None = None
    order: int = 100
    aliases: tuple[str, ...] = ()
    units: UnitSystem = ANGSTROM_EV
    converts: bool = False
    writes_units: bool = False
    has_keys: bool = False
    has_species: bool = False
    is_folder: bool = False
    is_file: bool = True
    pieces: Callable[[Path], Iterator[Piece]] | None = None
    read_piece: Callable[[Path, Piece, ReadOptions], list[Structure]] | None = None
