"""DeePMD-kit's npy folders, the mixed-type ones included.

A system is a folder with ``type.raw`` (type of each atom), ``type_map.raw`` (element of each type), an empty
file ``nopbc`` if it is not periodic, and ``set.*/{coord,box,energy,force,virial}.npy`` with one row per frame
(float32 or float64; Å, eV, eV/Å, eV), and perhaps ``dipole.npy`` (e Å) and charges of the atoms as ``charges.npy``,
``atomic_charge.npy`` or ``atom_charge.npy``; without sets the same as text, ``coord.raw`` and so on.  In a mixed system
``set.*/real_atom_types.npy`` has the types of every frame, -1 for padding.  DeePMD's virial is ``-dE/dstrain``, so
``stress = -virial / volume``.

Reference: DeePMD-kit documentation, "System" (https://docs.deepmodeling.com/projects/deepmd).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from nnpkit.data.formats.contract import PIECE_ATOMS, DataFormat, Piece, ReadOptions
from nnpkit.data.labels import stress_of_virial
from nnpkit.data.notes import note
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.files import atomic_folder

__all__ = ["FORMAT", "find_systems", "load_array", "read_deepmd", "write_deepmd"]

_PER_ATOM = ("coord", "force", "charges")
_OPTIONAL = ("box", "energy", "force", "virial", "charges", "dipole", "total_charge", "multiplicity")
_OTHER_NAMES = {"charges": ("atomic_charge", "atomic_charges", "atom_charge", "atom_charges")}


def find_systems(folder: str | Path) -> list[Path]:
    """Folders with a ``type.raw`` within `folder`, itself included, sorted.

    Symbolic links are followed; a folder that is reached twice counts once, under its own name if it has one there.
    """
    found: dict[Path, Path] = {}
    seen: set[Path] = set()
    linked: list[Path] = []
    waiting = [Path(folder)]
    while waiting or linked:  # what is no link comes first
        path = waiting.pop() if waiting else linked.pop(0)
        if (real := path.resolve()) in seen:
            if real in found:
                note(f"{path} and {found[real]} are the same folder, read once", str(folder))
            continue
        seen.add(real)
        try:
            entries = sorted(path.iterdir(), reverse=True)
        except OSError:
            continue
        if (path / "type.raw").exists():
            found[real] = path
        for entry in entries:
            if entry.is_symlink() and not entry.exists():
                note(f"{entry} is a link to nothing", str(folder))
            elif entry.is_dir():
                linked.append(entry) if entry.is_symlink() else waiting.append(entry)
        linked.sort()
    return sorted(found.values())


def read_deepmd(folder: str | Path) -> list[Structure]:
    """Frames of a system, or of all systems in a folder of systems, in the order of their names.

    Raises
    ------
    InputError
        Missing or damaged file, wrong shape (with the shape expected), type without an element.
    """
    systems = find_systems(folder)
    if not systems:
        raise InputError(
            "no type.raw in this folder or below it", where=str(folder), expected="DeePMD npy data"
        )
    return [structure for system in systems for structure in _read_system(system)]


def _pieces(path: Path) -> Iterator[Piece]:
    """Pieces of so many atoms, each of one set of one system."""
    systems = find_systems(path)
    if not systems:
        raise InputError(
            "no type.raw in this folder or below it", where=str(path), expected="DeePMD npy data"
        )
    for system in systems:
        first, step = 0, max(1, PIECE_ATOMS // len(_words(system / "type.raw")))
        for folder in _sets(system):
            stop = first + len(load_array(folder / f"coord{_suffix(folder)}"))
            for at in range(first, stop, step):
                yield Piece(at, part=str(folder), line=first, stop=min(at + step, stop))
            first = stop


def _read_piece(path: Path, piece: Piece, options: ReadOptions) -> list[Structure]:
    """Some frames of the set `piece.part`, which begins with frame `piece.line` of its system."""
    folder = Path(piece.part)
    system = folder if _suffix(folder) == ".raw" else folder.parent
    types, type_map, periodic = _system(system)
    rows = slice(piece.first - piece.line, (piece.stop or 0) - piece.line)
    return _read_set(folder, types, type_map, periodic, f"{system}", piece.line, rows)


def _sets(system: Path) -> list[Path]:
    sets = sorted(path for path in system.glob("set.*") if path.is_dir())
    if not sets and (system / "coord.raw").is_file():
        return [system]
    if not sets:
        raise InputError(
            "no folder set.* and no coord.raw", where=str(system), expected="set.000/coord.npy and so on"
        )
    return sets


def _suffix(folder: Path) -> str:
    """How the files of a set end: text files stand beside ``type.raw``."""
    return ".raw" if (folder / "type.raw").exists() else ".npy"


def _system(system: Path) -> tuple[np.ndarray, list[str], bool]:
    """Type of each atom, element of each type, whether it is periodic."""
    type_map = _words(system / "type_map.raw")
    types = np.array([_type(word, system) for word in _words(system / "type.raw")])
    return types, type_map, not (system / "nopbc").exists()


def _read_system(system: Path) -> list[Structure]:
    types, type_map, periodic = _system(system)
    structures: list[Structure] = []
    for folder in _sets(system):
        structures += _read_set(folder, types, type_map, periodic, f"{system}", len(structures))
    return structures


def _words(path: Path) -> list[str]:
    hint = (
        "write the element of type 0, 1, ... into it, one per line" if path.name == "type_map.raw" else None
    )
    if not path.is_file():
        raise InputError("no such file", where=str(path), hint=hint)
    words = path.read_text(encoding="utf-8", errors="replace").split()
    if not words:
        raise InputError("the file is empty", where=str(path), hint=hint)
    return words


def _type(word: str, system: Path) -> int:
    if not (word.isascii() and word.isdigit() and len(word) < 7):
        raise InputError(f"{word!r} is not a type", where=str(system / "type.raw"), expected="0, 1, ...")
    return int(word)


def load_array(path: Path) -> np.ndarray:
    """The array of a .npy file, mapped into memory, or of a text file .raw with one row per frame.

    Raises
    ------
    InputError
        If it is damaged or holds anything but numbers.
    """
    try:
        text = path.suffix == ".raw"
        array = np.loadtxt(path, ndmin=2) if text else np.load(path, allow_pickle=False, mmap_mode="r")
    except Exception as error:  # numpy parses the header with whatever raises whatever
        raise InputError(
            f"cannot read the array: {' '.join(str(error).split())[:200]}",
            where=str(path),
            expected="a complete .npy file of numbers",
        ) from None
    if array.dtype.kind not in "fiu":
        raise InputError(f"an array of {array.dtype}", where=str(path), expected="numbers")
    return array


def _read_set(
    folder: Path,
    types: np.ndarray,
    type_map: list[str],
    periodic: bool,
    system: str,
    first: int,
    rows: slice = slice(None),
) -> list[Structure]:
    """Frames of a set, those of `rows`; the first of the set is number `first` of its system."""
    n_atoms = len(types)
    suffix = _suffix(folder)
    arrays = {"coord": load_array(folder / f"coord{suffix}")}
    files = {key: _file_of(folder, key) for key in _OPTIONAL}
    arrays |= {key: load_array(path) for key, path in files.items() if path is not None}
    if periodic and "box" not in arrays:
        raise InputError(
            f"no box{suffix}", where=str(folder), hint="put an empty file nopbc beside type.raw for clusters"
        )
    read = {
        "coord",
        "real_atom_types",
        "type",
        "type_map",
        *(path.stem for path in files.values() if path is not None),
    }
    if others := sorted(
        path.name
        for path in folder.iterdir()
        if path.name != "nopbc" and (path.stem not in read or path.suffix != suffix)
    ):
        note(f"not read in {folder.parent.name}/{folder.name}: {', '.join(others)}", str(folder))
    mixed = folder / "real_atom_types.npy"
    n_frames = len(arrays["coord"])
    widths = {
        "box": 9,
        "virial": 9,
        "energy": 1,
        "total_charge": 1,
        "multiplicity": 1,
        "dipole": 3,
        "coord": 3 * n_atoms,
        "force": 3 * n_atoms,
    }
    for key, array in arrays.items():
        width = widths.get(key, n_atoms)
        if array.size != n_frames * width or len(array) != n_frames:
            raise InputError(
                f"{key}{suffix} has shape {array.shape}", where=str(folder),
                expected=f"({n_frames}, {width}) for {n_frames} frames of {n_atoms} atoms",
            )  # fmt: skip
        per_frame = (n_atoms, -1) if key in _PER_ATOM else (width,)
        some = array[rows].astype(np.float64)
        arrays[key] = some.reshape(len(some), *per_frame)
    frame_types = np.broadcast_to(types, (n_frames, n_atoms))
    if mixed.exists():
        frame_types = load_array(mixed).astype(np.int64)
        if frame_types.shape != (n_frames, n_atoms):
            raise InputError(
                f"shape {frame_types.shape}", where=str(mixed), expected=f"{(n_frames, n_atoms)}"
            )
    return [
        _frame(arrays, at, frame_types[k], type_map, periodic, f"{system}#{first + k}")
        for at, k in enumerate(range(n_frames)[rows])
    ]


def _file_of(folder: Path, key: str) -> Path | None:
    """The file of a label, whichever of its names it has; None without one."""
    found = [
        path
        for name in (key, *_OTHER_NAMES.get(key, ()))
        if (path := folder / f"{name}{_suffix(folder)}").exists()
    ]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise InputError(f"{names} are the same label", where=str(folder), expected="one of them")
    return found[0] if found else None


def _frame(
    arrays: dict[str, np.ndarray], k: int, types: np.ndarray, type_map: list[str], periodic: bool, name: str
) -> Structure:
    real = types >= 0
    if types.max(initial=-1) >= len(type_map):
        raise InputError(
            f"type {types.max()} has no element", where=name, hint=f"type_map.raw has {len(type_map)} lines"
        )
    row = {key: array[k] for key, array in arrays.items()}
    cell = row["box"].reshape(3, 3) if "box" in row else np.zeros((3, 3))
    stress = None if "virial" not in row else stress_of_virial(row["virial"].reshape(3, 3), cell, name)
    return Structure(
        symbols=[type_map[t] for t in types[real]],
        positions=row["coord"][real],
        cell=cell,
        pbc=np.full(3, periodic),
        energy=row.get("energy"),
        forces=row["force"][real] if "force" in row else None,
        stress=stress,
        charges=row["charges"][real, 0] if "charges" in row else None,
        dipole=row.get("dipole"),
        total_charge=row.get("total_charge"),
        multiplicity=row.get("multiplicity"),
        name=name,
    )


def write_deepmd(folder: str | Path, structures: Iterable[Structure]) -> None:
    """Write one system per sequence of elements, set of labels and periodicity; float64.

    A single system is written into `folder` itself, several into ``folder/000-H64O32`` and so on, the frames
    of each in their order.  Extras (`info`, `arrays`) have no place in the format and are left out; charges,
    dipole and spin go into files of their own (``charges.npy``, ``dipole.npy``, ``total_charge.npy``,
    ``multiplicity.npy``) that DeePMD-kit does not look at.

    Raises
    ------
    InputError
        If a frame is periodic in one or two directions only, which the format cannot say, or if the folder
        has content already.
    """
    if Path(folder).exists() and (not Path(folder).is_dir() or any(Path(folder).iterdir())):
        raise InputError(
            "exists and is not empty", where=str(folder), hint="choose another name or remove it"
        )
    systems: dict[tuple, list[Structure]] = {}
    for structure in structures:
        if structure.pbc.any() != structure.pbc.all():
            raise InputError(
                f"pbc {structure.pbc.tolist()} cannot be written as DeePMD data", where=structure.name,
                expected="all directions periodic or none", hint="write extxyz instead",
            )  # fmt: skip
        state = (structure.total_charge is not None, structure.multiplicity is not None)
        labels = (*structure.labels, *state, bool(structure.pbc.all()))
        systems.setdefault((tuple(structure.symbols), labels), []).append(structure)
    with atomic_folder(folder) as temporary:
        for k, system in enumerate(systems.values()):
            formula = "".join(f"{element}{n}" for element, n in sorted(system[0].composition.items()))
            _write_system(temporary if len(systems) == 1 else temporary / f"{k:03d}-{formula}", system)


def _write_system(folder: Path, structures: Sequence[Structure]) -> None:
    first = structures[0]
    type_map = sorted(first.composition)
    frames = folder / "set.000"
    frames.mkdir(parents=True)
    (folder / "type_map.raw").write_text("".join(f"{element}\n" for element in type_map), encoding="utf-8")
    types = "".join(f"{type_map.index(symbol)}\n" for symbol in first.symbols)
    (folder / "type.raw").write_text(types, encoding="utf-8")
    if not first.pbc.any():
        (folder / "nopbc").touch()
    columns = {
        "coord": "positions", "box": "cell", "energy": "energy", "force": "forces", "virial": "virial",
        "charges": "charges", "dipole": "dipole", "total_charge": "total_charge", "multiplicity": "multiplicity",
    }  # fmt: skip
    for key, attribute in columns.items():
        if getattr(first, attribute) is not None:
            rows = np.array([getattr(structure, attribute) for structure in structures])
            np.save(frames / f"{key}.npy", rows.reshape(len(rows), -1) if rows.ndim > 1 else rows)


FORMAT = DataFormat(
    "DeePMD-kit npy folder, mixed types too",
    read=lambda path, options: read_deepmd(path),
    write=lambda path, structures, units: write_deepmd(path, structures),
    recognises=lambda path: path.is_dir() and bool(find_systems(path)),
    order=20,
    aliases=("deepmd/npy", "deepmd-npy", "deepmd/npy/mixed", "deepmd-mixed"),
    is_folder=True,
    is_file=False,
    pieces=_pieces,
    read_piece=_read_piece,
)
