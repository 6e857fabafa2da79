"""Groups of structures: bulk, surfaces, defects, as a key of the frames or their files name them."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nnpkit.data.store.stored_frames import joined_frames
from nnpkit.data.structure import Structure
from nnpkit.data.trajectories import file_of
from nnpkit.errors import InputError

__all__ = ["FILE", "KEYS", "Grouping", "find_grouping", "kinds_of"]

KEYS = ("config_type", "group")
"""Keys of frames that usually name groups."""
FILE = "file"
_MOST = 50
"""More groups than that are not looked for: names of frames are no names of groups."""


@dataclass(frozen=True)
class Grouping:
    """What names the group of a structure.

    Attributes
    ----------
    key : str
        A key of the frames' `info`, or ``file``.
    folder : str
        What the paths of all files begin with, which is left out of the names of groups.
    """

    key: str
    folder: str = ""

    def of(self, structure: Structure) -> str:
        """Name of the group of a structure; ``no KEY`` without the key.

        Raises
        ------
        InputError
            If its value is neither a word nor a number.
        """
        if self.key == FILE:
            file = file_of(structure)
            return (os.path.relpath(file, self.folder) if self.folder else file) or f"no {FILE}"
        name = _name(structure.info.get(self.key))
        if name is None:
            raise InputError(
                f"the {self.key} of the frame names no group: it is an array", where=structure.name,
                expected="a word or a number", hint="set data.groups to another key, file or none",
            )  # fmt: skip
        return name or f"no {self.key}"

    def names(self, structures: Sequence[Structure]) -> list[str]:
        """Name of the group of each structure."""
        return [self.of(structure) for structure in structures]


def find_grouping(
    parts: Mapping[str, Sequence[Structure]], wanted: str = "auto", where: str = "data.groups"
) -> Grouping | None:
    """What names the groups of the structures of several sets.

    Parameters
    ----------
    parts : mapping
        Structures of each set.
    wanted : str
        A key of the frames or ``file``; ``none`` for no groups; ``auto`` for ``config_type``, ``group`` or, if a set
        has several files, ``file``: the first that gives 2 to 50 groups of two structures on average, or more.
    where : str
        Named by messages.

    Raises
    ------
    InputError
        For a key that no frame has, that is not a word or a number, or that gives a single group.
    """
    if wanted == "none":
        return None
    structures = joined_frames(parts.values())
    files = Grouping(FILE, _common_folder(structures))
    if wanted != "auto":
        grouping = files if wanted == FILE else Grouping(wanted)
        if wanted != FILE and not any(wanted in s.info for s in structures):
            known = sorted({str(key) for s in structures for key in s.info})
            raise InputError(
                f"no frame has {wanted!r}", where=where,
                expected=f"a key of the frames ({', '.join(known) or 'they have none'}), file, auto or none",
            )  # fmt: skip
        if len(names := set(grouping.names(structures))) < 2:
            raise InputError(
                f"all frames are of one group: {next(iter(names), 'there are none')}", where=where,
                expected="a key with several values, or none",
            )  # fmt: skip
        return grouping
    for key in KEYS:
        if _tells(set(map(_name, (s.info.get(key) for s in structures))), len(structures)):
            return Grouping(key)
    several = (len({*map(file_of, part)}) > 1 for part in parts.values())
    return files if any(several) and _tells(set(map(file_of, structures)), len(structures)) else None


def kinds_of(structures: Sequence[Structure], wanted: str = "auto") -> list[str]:
    """What each structure is: the name of its group, as `find_grouping` finds it, and without groups its composition.

    Raises
    ------
    InputError
        See `Grouping.of`.
    """
    if wanted in ("auto", "none"):
        grouping = find_grouping({"all": structures}, wanted)
    else:  # the key that is given may tell these structures from others only, in files of their own
        grouping = Grouping(wanted, _common_folder(structures) if wanted == FILE else "")
    return grouping.names(structures) if grouping is not None else [_composition(s) for s in structures]


def _composition(structure: Structure) -> str:
    """Elements and their shares: the same for a cell and its supercells."""
    counts = structure.composition
    divisor = math.gcd(*counts.values())
    return " ".join(f"{element}{counts[element] // divisor}" for element in sorted(counts))


def _tells(names: set[str | None], n_structures: int) -> bool:
    """Whether these names are those of groups."""
    return None not in names and 2 <= len(names) <= min(_MOST, n_structures // 2)


def _name(value: object) -> str | None:
    """A value as the name of a group; empty without one, None if it cannot be one."""
    if value is None:
        return ""
    return str(value).strip() if isinstance(value, (str, int, float, np.generic)) else None


def _common_folder(structures: Sequence[Structure]) -> str:
    """Folder that all files are in, empty if there is none."""
    try:
        return os.path.commonpath({os.path.dirname(os.path.abspath(file_of(s))) for s in structures})
    except ValueError:  # no structures
        return ""
