"""What a format of reference data is: how it is recognised, read and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nnpkit.data.structure import Structure
from nnpkit.units import ANGSTROM_EV, UnitSystem

__all__ = ["DataFormat", "ReadOptions"]


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
    """

    units: str | None = None
    system: UnitSystem = ANGSTROM_EV
    keys: Mapping[str, str] | None = None
    species: Sequence[str] | None = None


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
