"""LAMMPS data files (``read_data``, ``write_data``): one structure, its masses, and where elements come from."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import numpy as np

from nnpkit.data.formats.contract import DataFormat
from nnpkit.data.formats.text_files import read_text
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

__all__ = ["FORMAT", "is_lammps_data", "read_lammps_data"]

UNITS = ("metal", "real", "si", "cgs", "electron", "micro", "nano")
_BOX = re.compile(r"^\s*(\S+\s+\S+\s+xlo\s+xhi|\S+\s+\S+\s+\S+\s+avec)\b", re.MULTILINE)
_SECTION = r"^\s*{}\s*(?:#.*)?\n\s*\n((?:[ \t]*\S.*\n?)+)"
_STATED = re.compile(r"\bunits\s*=?\s+(\w+)")
_GRAMS_PER_MOL = ("metal", "real")
_SAME = 0.6  # g/mol; a mass this far from every element's says nothing
_HYDROGEN = (1.9, 3.1)  # g/mol; its heavy isotopes


def is_lammps_data(path: str | Path) -> bool:
    """Whether a text file begins like a LAMMPS data file: numbers of atoms and types, then the box."""
    try:
        head = read_text(path)[:20000]
    except InputError:
        return False
    return bool(_BOX.search(head)) and re.search(r"^\s*\d+\s+atoms\b", head, re.MULTILINE) is not None


def read_lammps_data(
    path: str | Path, species: Sequence[str] | None = None, units: str | None = None
) -> list[Structure]:
    """The structure of a LAMMPS data file, periodic in all directions.

    The element of a type is that of `species`, else of ``Atom Type Labels`` or of the comment beside its mass, if that
    is an element, else the one nearest to its mass. Masses are kept in ``arrays["masses"]``, velocities (Å/fs) in
    ``arrays["velocities"]``. The atom style is that of the comment behind ``Atoms``, else it is guessed.

    Parameters
    ----------
    path : path
        Plain or compressed.
    species : sequence of str, optional
        Element of type 1, 2, ...
    units : str, optional
        LAMMPS' name of the units; by default those that the first line states, as ``write_data`` does, else metal.

    Raises
    ------
    InputError
        If it cannot be read, a type has no element, or the units are unknown.
    """
    from ase.calculators.lammps import convert
    from ase.data import atomic_numbers
    from ase.io.lammpsdata import read_lammps_data as read_with_ase

    text = read_text(path)
    first = text.splitlines()[0] if text else ""
    stated = _STATED.search(first)
    units = units or (stated[1] if stated else "metal")
    if units not in UNITS:
        raise InputError(
            f"units {units!r}", where=str(path), expected=" or ".join(UNITS), hint="give --units"
        )
    n_types = _n_types(text, str(path))
    elements = (
        _species(species, n_types, str(path)) if species else _elements(text, n_types, units, str(path))
    )
    numbers = {k + 1: atomic_numbers[element] for k, element in enumerate(elements)}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            bare = re.sub(
                _SECTION.format("Masses"), "\n", text, flags=re.MULTILINE
            )  # ASE knows no type labels there
            atoms = read_with_ase(StringIO(bare), Z_of_type=numbers, units=units)
    except Exception as error:  # ASE's parser raises whatever the line at hand makes it raise
        words = " ".join(str(error).split())[:150]
        raise InputError(
            f"ASE cannot read it as lammps-data: {type(error).__name__}: {words}", where=str(path),
            hint="write the atom style behind the section's name, as in `Atoms # full`",
        ) from error  # fmt: skip
    arrays: dict[str, np.ndarray] = {}
    if masses := _masses(text):
        try:
            per_atom = np.array([float(masses[number][0]) for number in atoms.arrays["type"].tolist()])
        except (KeyError, ValueError):
            raise InputError("a type has no mass, or one that is no number", where=str(path)) from None
        arrays["masses"] = per_atom if units in _GRAMS_PER_MOL else convert(per_atom, "mass", units, "ASE")
    if atoms.has("momenta"):
        from ase.units import fs

        arrays["velocities"] = atoms.get_velocities() * fs
    positions = atoms.positions - atoms.get_celldisp().reshape(3)
    return [
        Structure(
            list(atoms.symbols),
            positions,
            atoms.cell.array,
            np.ones(3, bool),
            name=f"{path}#0",
            arrays=arrays,
        )
    ]


def _n_types(text: str, where: str) -> int:
    found = re.search(r"^\s*(\d+)\s+atom\s+types\b", text, re.MULTILINE)
    if not _BOX.search(text) or found is None:
        raise InputError("this is no LAMMPS data file", where=where, expected="`N atom types` and `xlo xhi`")
    return int(found[1])


def _table(text: str, name: str) -> dict[str, tuple[str, str]]:
    """Second word and comment of the rows of a section, by their first word; empty if there is none."""
    section = re.search(_SECTION.format(name.replace(" ", r"\s+")), text, re.MULTILINE)
    rows = {}
    for line in section[1].splitlines() if section else ():
        words, _, comment = line.partition("#")
        if len(parts := words.split()) >= 2:
            rows[parts[0]] = (parts[1], comment.strip())
    return rows


def _species(species: Sequence[str], n_types: int, where: str) -> list[str]:
    from ase.data import atomic_numbers

    if len(species) != n_types or any(atomic_numbers.get(element, 0) == 0 for element in species):
        raise InputError(
            f"species {' '.join(species)}",
            where=where,
            expected=f"{n_types} elements, one for each atom type",
        )
    return list(species)


def _elements(text: str, n_types: int, units: str, where: str) -> list[str]:
    from ase.calculators.lammps import convert
    from ase.data import atomic_masses, atomic_numbers, chemical_symbols

    masses, labels = _masses(text), _table(text, "Atom Type Labels")
    elements = []
    for number in range(1, n_types + 1):
        names = (labels.get(str(number), ("", ""))[0], masses.get(number, ("", ""))[1])
        named = next((name for name in names if atomic_numbers.get(name, 0)), None)
        if named is None and number in masses:
            mass = float(convert(float(masses[number][0]), "mass", units, "ASE"))
            nearest = int(np.nanargmin(np.abs(atomic_masses[1:] - mass))) + 1
            if _HYDROGEN[0] < mass < _HYDROGEN[1]:
                nearest = 1
            elif abs(atomic_masses[nearest] - mass) > _SAME:
                nearest = 0
            named = chemical_symbols[nearest] if nearest else None
        if named is None:
            raise InputError(
                f"the element of atom type {number} is unknown", where=where,
                expected="Masses or Atom Type Labels that say it", hint="name the elements of all types: --species",
            )  # fmt: skip
        elements.append(named)
    return elements


def _masses(text: str) -> dict[int, tuple[str, str]]:
    """Mass and comment of every type, whose rows begin with its number or its label."""
    number_of = {label: number for number, (label, _) in _table(text, "Atom Type Labels").items()}
    rows = {number_of.get(key, key): row for key, row in _table(text, "Masses").items()}
    return {int(key): row for key, row in rows.items() if key.isdigit()}


FORMAT = DataFormat(
    "LAMMPS data file of read_data",
    read=lambda path, options: read_lammps_data(path, options.species, options.units),
    recognises=lambda path: path.is_file() and is_lammps_data(path),
    order=60,
    converts=True,
    has_species=True,
)
