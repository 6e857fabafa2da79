"""``train.xyz`` and ``test.xyz`` of GPUMD: extended XYZ with the words that its program ``nep`` understands.

It is read as any extended XYZ is. Written for ``nep``, a frame must have an energy, forces and a cell, the keys are
those of its manual (https://gpumd.org), and labels that it does not know are left out. It takes every frame as periodic
in all directions, whatever ``pbc`` says.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from nnpkit.data.formats.contract import DataFormat, ReadOptions
from nnpkit.data.formats.extxyz import read_extxyz
from nnpkit.data.formats.text_files import open_for_writing
from nnpkit.data.notes import note
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.units import UnitSystem, virial_from_stress

__all__ = ["FORMAT", "write_gpumd"]

_VACUUM = 40.0  # Å that part a frame from its images, more than any cutoff
_WEIGHTS = (0.0, 100.0)  # that a frame may have, the former excluded
_KEPT = ("config_type", "weight", "energy_weight")
_COLUMNS = "species:S:1:pos:R:3:forces:R:3"


def write_gpumd(path: str | Path, structures: Iterable[Structure]) -> None:
    """Write frames as ``train.xyz``; numbers have all their digits.

    Raises
    ------
    InputError
        For a frame without energy or forces, or with a weight that GPUMD refuses.
    """
    with open_for_writing(path) as stream:
        for structure in structures:
            stream.write(_text(structure))


def _text(structure: Structure) -> str:
    if structure.energy is None or structure.forces is None:
        missing = "energy" if structure.energy is None else "forces"
        raise InputError(
            f"the frame has no {missing}", where=structure.name or None, expected="energy and forces in every frame",
            hint="GPUMD trains nothing less",
        )  # fmt: skip
    cell = _cell(structure)
    pairs = [f"energy={structure.energy!r}", f'lattice="{_words(cell)}"', 'pbc="T T T"']
    if structure.stress is not None and structure.pbc.all():
        virial = virial_from_stress(structure.stress, structure.volume)
        pairs.append(f'virial="{_words(virial)}"')
    pairs += [f"{key}={value}" for key, value in _extras(structure).items()]
    numbers = np.column_stack([structure.positions, structure.forces]).tolist()
    rows = [
        f"{symbol} {' '.join(map(repr, row))}\n"
        for symbol, row in zip(structure.symbols, numbers, strict=True)
    ]
    return f"{structure.n_atoms}\n{' '.join(pairs)} properties={_COLUMNS}\n{''.join(rows)}"


def _words(matrix: np.ndarray) -> str:
    return " ".join(map(repr, np.asarray(matrix, dtype=float).ravel().tolist()))


def _cell(structure: Structure) -> np.ndarray:
    """The cell, along directions without periodicity so long that no atom sees an image."""
    if structure.pbc.all():
        return structure.cell
    note(
        f"GPUMD takes all frames as periodic: {_VACUUM:g} Å of vacuum along the directions that are not",
        structure.name,
    )
    cell = structure.cell.copy()
    reach = np.ptp(structure.positions, axis=0)
    length = float(np.linalg.norm(reach)) + _VACUUM
    if not structure.pbc.any():
        return np.eye(3) * (reach + _VACUUM)
    known = list(cell[structure.pbc])
    for axis in np.flatnonzero(~structure.pbc):
        cell[axis] = _across(known) * length
        known.append(cell[axis])
    return cell


def _across(vectors: list[np.ndarray]) -> np.ndarray:
    """A unit vector at right angles to one or two vectors."""
    if len(vectors) == 2:
        normal = np.cross(vectors[0], vectors[1])
    else:
        trial = np.eye(3)[int(np.argmin(np.abs(vectors[0])))]
        normal = np.cross(vectors[0], trial)
    return np.asarray(normal / np.linalg.norm(normal))


def _extras(structure: Structure) -> dict[str, str]:
    """What else GPUMD reads: weights, and a word for people."""
    found = {}
    for key in _KEPT:
        value = structure.info.get(key)
        if value is None:
            continue
        if key != "config_type" and not (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and _WEIGHTS[0] < value <= _WEIGHTS[1]
        ):
            raise InputError(
                f"{key} is {str(value)[:40]}", where=structure.name or None,
                expected=f"a number above {_WEIGHTS[0]:g} and at most {_WEIGHTS[1]:g}, as GPUMD does",
            )  # fmt: skip
        found[key] = "_".join(str(value).split()) if key == "config_type" else repr(value)
    return found


def _read(path: Path, options: ReadOptions) -> list[Structure]:
    return read_extxyz(path, options.keys, options.system if options.units else None)


def _write(path: Path, structures: Sequence[Structure], units: UnitSystem) -> None:
    write_gpumd(path, structures)


FORMAT = DataFormat(
    "train.xyz of GPUMD, an extended XYZ",
    read=_read,
    write=_write,
    recognises=lambda path: False,  # it reads like any extended XYZ
    converts=True,
    has_keys=True,
)
