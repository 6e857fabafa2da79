"""Which files of a folder hold data: files beside each other, or one folder for each calculation."""

from __future__ import annotations

import os
from collections.abc import Sequence
from glob import escape, glob, has_magic
from pathlib import Path

from nnpkit.data.formats.reading import detect_format
from nnpkit.data.formats.text_files import bare_name
from nnpkit.errors import InputError

__all__ = ["as_patterns", "data_files"]

_NOT_DATA = (".yaml", ".yml", ".json", ".pt", ".md", ".log", ".html", ".py", ".txt", ".png", ".pdf")
_ONE_CALCULATION = ("vasprun.xml", "OUTCAR")  # of the same steps: the first that is there
_INPUTS = ("POSCAR", "CONTCAR", "XDATCAR", "CHGCAR", "WAVECAR")  # and copies of what these say
_MANY = 8  # files of one name that a pattern says shorter


def data_files(sources: Sequence[str | Path]) -> list[str]:
    """Files and folders with data; of a folder that is no data itself, those in it and in its folders.

    Of a calculation of VASP one of its outputs counts, which have the same steps.

    Raises
    ------
    InputError
        Where there are none.
    """
    found: list[str] = []
    for source in map(Path, sources):
        found += map(str, _inside(source)) if source.is_dir() else [str(source)]
    if not found:
        raise InputError(
            "no data in this folder", where=str(sources[0]), expected="files that nnpkit convert reads"
        )
    return found


def _inside(folder: Path) -> list[Path]:
    if _is_data(folder):
        return [folder]
    entries = [p for p in sorted(folder.iterdir()) if not p.name.startswith(".")]
    names = {bare_name(p) for p in entries}
    outputs = [name for name in _ONE_CALCULATION if name in names]
    left = {*outputs[1:], *(_INPUTS if outputs else ())}
    found: list[Path] = []
    for entry in entries:
        if entry.is_dir():
            found += _inside(entry)
        elif bare_name(entry) not in left and entry.suffix not in _NOT_DATA and _is_data(entry):
            found.append(entry)
    return found


def _is_data(path: Path) -> bool:
    try:
        return bool(detect_format(path))
    except InputError:
        return False


def as_patterns(files: Sequence[str]) -> list[str]:
    """The same files in fewer words: many of one name in folders beside each other as a pattern."""
    patterns: list[str] = []
    groups: dict[tuple[str, int], list[str]] = {}
    for file in files:
        groups.setdefault((Path(file).name, len(Path(file).parts)), []).append(file)
    for (name, depth), group in groups.items():
        if len(group) < _MANY or has_magic(group[0]):
            patterns += group
            continue
        root = Path(os.path.commonpath([Path(file).parent for file in group]))
        stars = ["*"] * (depth - len(root.parts) - 1)
        pattern = os.path.join(escape(str(root)), *stars, name)
        patterns += [pattern] if sorted(glob(pattern)) == sorted(group) else group
    return patterns
