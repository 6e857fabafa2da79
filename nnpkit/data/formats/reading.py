"""Reading and writing reference data: the format is found by its name or by looking at the file.

    read(path)                         # format detected
    read(path, "runner", units="angstrom-ev")
    write(path, structures)            # format by the name of the file

Formats with a reader of their own are those of `nnpkit.data.formats.registered`; any other name is taken as one of
ASE's.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from nnpkit.data.formats.contract import DataFormat, Piece, ReadOptions
from nnpkit.data.formats.convergence import converged_only, unconverged_images
from nnpkit.data.formats.program_outputs import correct_abinit_cells, program_format
from nnpkit.data.formats.registered import FORMATS
from nnpkit.data.formats.text_files import bare_name, decompressed, require_path
from nnpkit.data.labels import extra_names, take_free_energies
from nnpkit.data.notes import gathered_notes, note, refuse_open_choices
from nnpkit.data.structure import Structure
from nnpkit.data.validation import require_valid
from nnpkit.errors import InputError
from nnpkit.units import ANGSTROM_EV, UnitSystem, unit_system

__all__ = [
    "detect_format", "has_label", "parse_frames", "read", "read_ase", "read_own", "require_keys", "resolve_format",
    "usable", "write",
]  # fmt: skip


_REFUSED_FROM_ASE = ("mysql", "postgresql", "bundletrajectory")


_WITH_TWO_ENERGIES = ("vasp-out", "vasp-xml")  # ASE's energy is that of sigma -> 0 only here


def _ase_formats(mode: str) -> list[str]:
    from ase.io.formats import ioformats

    return sorted(name for name, f in ioformats.items() if mode in f.modes and name not in _REFUSED_FROM_ASE)


def _aliases() -> dict[str, str]:
    """Other names of the formats."""
    return {alias: name for name in FORMATS for alias in FORMATS.get(name).aliases}


def resolve_format(name: str, mode: str = "r") -> str:
    """Canonical name of a format given by the user."""
    aliases = _aliases()
    name = aliases.get(name.lower(), name)
    ase_formats = _ase_formats(mode)
    if name in FORMATS or name in ase_formats:
        return name
    near = get_close_matches(name, [*FORMATS, *aliases, *ase_formats], n=1)
    raise InputError(
        f"unknown format {name!r}",
        expected=f"{', '.join(FORMATS)} or one of ASE's ({', '.join(ase_formats)})",
        hint=f"did you mean {near[0]}?" if near else None,
    )  # fmt: skip


def detect_format(path: str | Path) -> str:
    """Format of a file or folder that exists, by its name and first lines.

    Raises
    ------
    InputError
        If nothing is there or nothing recognises it; the message lists the formats.
    """
    path = require_path(path)
    name = bare_name(path).lower()
    if path.is_file() and (
        name.endswith((".vasp", ".poscar", ".contcar")) or name.startswith(("poscar", "contcar"))
    ):
        return "vasp"
    if path.is_file() and name.endswith((".db", ".aselmdb")):
        return "db"
    for known in sorted(FORMATS, key=lambda known: FORMATS.get(known).order):
        if FORMATS.get(known).recognises(path):
            return known
    if path.is_dir():
        raise _unknown(path)
    if name.endswith(".xsf"):
        return "xsf"
    from ase.io.formats import UnknownFileTypeError, filetype

    if path.stat().st_size == 0:
        raise InputError("the file is empty", where=str(path), expected="at least one frame")
    if found := program_format(path):
        return found
    try:
        found = filetype(str(path), guess=False)
    except (UnknownFileTypeError, OSError, EOFError):
        raise _unknown(path) from None
    return "extxyz" if found == "xyz" else found


def _unknown(path: Path) -> InputError:
    return InputError(
        "the format is not recognised", where=str(path), hint="name the format",
        expected=f"{', '.join(FORMATS)} or one that ASE reads",
    )  # fmt: skip


def parse_frames(frames: str | int | slice | None) -> slice:
    """Slice of ``"start:stop:step"``, one number (that frame alone) or None (all frames).

    Raises
    ------
    InputError
        If it is none of these.
    """
    if frames is None:
        return slice(None)
    if isinstance(frames, slice):
        return frames
    try:
        parts = [int(part) if part.strip() else None for part in str(frames).split(":")]
        if len(parts) == 1 and parts[0] is not None:
            return slice(parts[0], parts[0] + 1 or None)
        return slice(*parts) if 2 <= len(parts) <= 3 else _refuse_frames(frames)
    except ValueError:
        return _refuse_frames(frames)


def _refuse_frames(frames: Any) -> Any:
    raise InputError(f"frames {frames!r} is not understood", expected="start:stop:step like 0:100, ::10 or 5")


def read(
    path: str | Path,
    format: str | None = None,
    units: str | None = None,
    frames: str | int | slice | None = None,
    keys: Mapping[str, str] | None = None,
    species: Sequence[str] | None = None,
    labels_matter: bool = True,
) -> list[Structure]:
    """Structures of a file or folder, checked, in Å and eV.

    Parameters
    ----------
    path : path
        File or folder.
    format : str, optional
        Name from `FORMATS` or of ASE; detected if not given.
    units : {"angstrom-ev", "bohr-hartree"}, optional
        Units of a file that does not say (extxyz, runner, deepmd, aenet); default as in `FORMATS`. Of a LAMMPS data
        file: ``metal``, ``real`` and so on, as LAMMPS calls them.
    frames : str, int or slice, optional
        Which frames: ``"0:100"``, ``"::10"``, ``5``.  Names keep the number of the frame in the file.
    keys : mapping, optional
        Names of labels other than those of `nnpkit.data.labels`, e.g. ``{"energy": "my_energy"}``.
    species : sequence of str, optional
        Elements of the atom types of a LAMMPS data file, if it does not say them.
    labels_matter : bool
        Whether a file is refused whose labels could be one of two; otherwise a note says which were taken.

    Raises
    ------
    InputError
        One message with file and line or frame: missing, empty or truncated file, unknown format or units,
        a label that is not finite or has the wrong shape, a degenerate cell.
    """
    with gathered_notes(str(path)), refuse_open_choices() if labels_matter else nullcontext():
        return _read(require_path(path), format, units, frames, keys, species)


def _read(
    path: Path,
    format: str | None,
    units: str | None,
    frames: str | int | slice | None,
    keys: Mapping[str, str] | None,
    species: Sequence[str] | None,
) -> list[Structure]:
    name = resolve_format(format) if format else detect_format(path)
    selected = parse_frames(frames)
    entry = FORMATS.get(name) if name in FORMATS else None
    if species and not (entry and entry.has_species):
        raise InputError("species do not apply", where=str(path), expected="them for a LAMMPS data file")
    if entry is None:
        structures = read_ase(path, name, units, ReadOptions(units, keys=keys))
    else:
        structures = read_own(path, name, entry, ReadOptions(units, keys=keys, species=species))
    if not structures:
        raise InputError("no frame in this file", where=str(path), expected=f"{name} with at least one frame")
    n = len(structures)
    structures = structures[selected]
    if not structures:
        raise InputError(f"frames {frames} selects none of {n} frames", where=str(path))
    structures = usable(structures, path)
    require_keys(structures, path, keys)
    return structures


def usable(structures: Sequence[Structure], path: Path) -> list[Structure]:
    """The structures of a file whose electronic structure converged, each looked at.

    Raises
    ------
    InputError
        If one cannot be used, or none is left.
    """
    structures = converged_only(structures, path)
    for structure in structures:
        require_valid(structure)
    return structures


def require_keys(structures: Sequence[Structure], path: Path, keys: Mapping[str, str] | None) -> None:
    """Refuse names of labels that no frame has; a note about the frames that lack one if others have it.

    Raises
    ------
    InputError
        Naming the first such name.
    """
    for label, key in (keys or {}).items():
        without = [structure for structure in structures if not has_label(structure, label)]
        if len(without) == len(structures):
            raise InputError(f"no frame has {key!r}", where=str(path), expected=f"it to be the {label}")
        for structure in without:
            note(f"no {key!r} to be the {label}", structure.name)


def has_label(structure: Structure, label: str) -> bool:
    """Whether a structure has a label; ``virial`` stands for its stress."""
    return getattr(structure, "stress" if label == "virial" else label) is not None


def read_own(
    path: Path, name: str, entry: DataFormat, options: ReadOptions, piece: Piece | None = None
) -> list[Structure]:
    """Structures of a path, or of a piece of it, by the reader of a format of ours, in Å and eV.

    Raises
    ------
    InputError
        As `read`; also for options that do not apply to the format.
    """
    if not (entry.is_folder if path.is_dir() else entry.is_file):
        raise InputError(f"{name} is a {'file' if path.is_dir() else 'folder'}", where=str(path))
    if options.keys and not entry.has_keys:
        raise InputError(
            f"keys do not apply to {name}", where=str(path), expected="them for extxyz or ASE's formats"
        )
    known = (
        not options.units or entry.has_species
    )  # files with such types have units of their own, read with them
    system = entry.units if known else _units(str(options.units))
    options = replace(options, system=system)
    if piece is None or entry.read_piece is None:
        structures = entry.read(path, options)
    else:
        structures = entry.read_piece(path, piece, options)
    return (
        structures if entry.converts or system == ANGSTROM_EV else [_converted(s, system) for s in structures]
    )


def _units(name: str) -> UnitSystem:
    try:
        return unit_system(name)
    except KeyError:
        raise InputError(f"unknown units {name!r}", expected="angstrom-ev or bohr-hartree") from None


def _converted(structure: Structure, units: UnitSystem) -> Structure:
    """The structure with its numbers taken as being in `units`."""

    def scaled(value: Any, factor: float) -> Any:
        return None if value is None else value * factor

    return structure.replace(
        positions=structure.positions * units.length, cell=structure.cell * units.length,
        energy=scaled(structure.energy, units.energy), forces=scaled(structure.forces, units.force),
        stress=scaled(structure.stress, units.stress), dipole=scaled(structure.dipole, units.length),
    )  # fmt: skip


def read_ase(
    path: Path, name: str, units: str | None, options: ReadOptions, piece: Piece | None = None
) -> list[Structure]:
    """Structures of a path, or of a piece of it, by one of ASE's readers.

    Raises
    ------
    InputError
        As `read`; in one line whatever ASE raises.
    """
    if units and units != "angstrom-ev":
        raise InputError(f"units do not apply to {name}, which ASE converts itself", where=str(path))
    import ase.io

    if path.is_file() and path.stat().st_size == 0:
        raise InputError("the file is empty", where=str(path), expected="at least one frame")
    with decompressed(path) as plain:
        try:
            index = ":" if piece is None else slice(piece.first, piece.stop)
            images = ase.io.read(plain, index=index, format=name)
        except ModuleNotFoundError as error:
            raise InputError(f"this format needs the package {error.name}", where=str(path)) from None
        except Exception as error:  # ASE's parsers raise whatever the line at hand makes them raise
            raise InputError(
                f"ASE cannot read it as {name}: {type(error).__name__}: {' '.join(str(error).split())[:200]}",
                where=str(path), hint="the file may be truncated or of another format",
            ) from error  # fmt: skip
        if name == "abinit-out":
            correct_abinit_cells(images, plain)
        if name in _WITH_TWO_ENERGIES and "energy" not in (options.keys or {}):
            take_free_energies(images, str(path))
        names, first = (
            options.names_of([extra_names(atoms) for atoms in images], str(path)),
            piece.first if piece else 0,
        )
        structures = [
            Structure.from_atoms(atoms, f"{path}#{k}", options.keys, names)
            for k, atoms in enumerate(images, first)
        ]
        if not plain.is_file():
            return structures
        try:
            unconverged = unconverged_images(plain, name, [s.energy is not None for s in structures])
        except InputError as error:
            raise InputError(error.what, where=str(path), hint=error.hint) from None
    for k in unconverged & set(range(len(structures))):
        structures[k].info["scf_converged"] = False
    return structures


def write(
    path: str | Path,
    structures: Iterable[Structure],
    format: str | None = None,
    units: str | None = None,
) -> None:
    """Write structures; the file appears only once it is complete.

    The format is that of the name (``.xyz``, ``.extxyz``, ``.data``, each also with .xz, .gz or .bz2, others
    as ASE knows them) unless given; a name without suffix becomes a DeePMD folder.

    Raises
    ------
    InputError
        Unknown format, no structures, or something the format cannot say.
    """
    structures = list(structures)
    if not structures:
        raise InputError("no structures to write", where=str(path))
    name = resolve_format(format, "w") if format else _format_for_writing(Path(path))
    entry = FORMATS.get(name) if name in FORMATS else None
    if entry is None or (entry.write is None and name in _ase_formats("w")):
        _write_ase(Path(path), structures, name, units)
        return
    if entry.write is None:
        known = ", ".join(n for n in FORMATS if FORMATS.get(n).write is not None)
        raise InputError(f"{name} can be read but not written", where=str(path), expected=known)
    system = _units(units) if units else entry.units
    if system != ANGSTROM_EV and not entry.writes_units:
        raise InputError(f"{name} is written in Å and eV only", where=str(path))
    with gathered_notes(str(path)):
        entry.write(Path(path), structures, system)


def _format_for_writing(path: Path) -> str:
    name = bare_name(path).lower()
    if name.endswith((".xyz", ".extxyz")):
        return "extxyz"
    if name.endswith(".data") or name.startswith("input.data"):
        return "runner"
    from ase.io.formats import UnknownFileTypeError, filetype

    try:
        return resolve_format(filetype(str(path), read=False), "w")
    except (UnknownFileTypeError, InputError):
        if "." not in name:
            return "deepmd"
        raise _unknown(path) from None


def _write_ase(path: Path, structures: list[Structure], name: str, units: str | None) -> None:
    import ase.io

    if units and units != "angstrom-ev":
        raise InputError(f"units do not apply to {name}, which ASE converts itself", where=str(path))
    if len(structures) > 1 and ase.io.formats.ioformats[name].single:
        raise InputError(
            f"{name} holds one structure, not {len(structures)}", where=str(path), hint="write extxyz instead"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=".write-") as folder:
        temporary = Path(folder) / path.name  # under its own name, which ASE may look at
        try:
            options: dict[str, Any] = (
                {"masses": True} if name == "lammps-data" else {}
            )  # else types have no element
            ase.io.write(temporary, [s.to_atoms() for s in structures], format=name, **options)
            os.replace(temporary, path)
        except Exception as error:  # as for reading
            raise InputError(
                f"ASE cannot write it as {name}: {type(error).__name__}: {error}", where=str(path)
            ) from error
