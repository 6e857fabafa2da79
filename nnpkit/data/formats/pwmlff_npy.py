"""PWMLFF's npy folders (``PWdata``), as pwdata writes them.

A folder with ``position.npy`` (fractional), ``lattice.npy``, ``energies.npy``, ``forces.npy``, ``image_type.npy``
(atomic number of each atom) and, where there are any, ``virials.npy``, one row per frame; or a folder of such
folders, often ``train`` and ``valid``.  Å, eV, eV/Å; virials are ``-dE/dstrain``, so ``stress = -virial / volume``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase.data import chemical_symbols

from nnpkit.data.formats.contract import DataFormat
from nnpkit.data.formats.deepmd_npy import load_array
from nnpkit.data.labels import stress_of_virial
from nnpkit.data.notes import note
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

__all__ = ["FORMAT", "read_pwmlff"]

_NEEDED = ("position", "lattice", "image_type")
_READ = (*_NEEDED, "energies", "forces", "virials", "atom_type", "ei")


def _sets(folder: Path) -> list[Path]:
    """Folders that hold frames, `folder` itself included, sorted."""
    return sorted(path.parent for path in folder.rglob("image_type.npy"))


def read_pwmlff(folder: str | Path) -> list[Structure]:
    """Frames of a folder of PWMLFF, or of all such folders in it, in the order of their names.

    Raises
    ------
    InputError
        For a missing file, an array of the wrong shape (with the shape expected) or no atomic numbers.
    """
    sets = _sets(Path(folder))
    if not sets:
        raise InputError(
            "no image_type.npy in this folder or below it", where=str(folder), expected="PWMLFF npy data"
        )
    if {"train", "valid"} <= {path.name for path in sets}:
        note("train and valid are read together; name one of the folders to read it alone", str(folder))
    return [structure for path in sets for structure in _read_set(path)]


def _read_set(folder: Path) -> list[Structure]:
    for key in _NEEDED:
        if not (folder / f"{key}.npy").is_file():
            raise InputError(f"no {key}.npy", where=str(folder))
    if others := sorted(p.name for p in folder.iterdir() if p.is_file() and p.stem not in _READ):
        note(f"not read: {', '.join(others)}", str(folder))
    arrays = {
        key: load_array(path) for key in _READ[:-2] if (path := folder / f"{key}.npy").is_file()
    }  # fmt: skip
    if not arrays.get("virials", np.ones(1)).size:
        del arrays["virials"]
    n_frames = arrays["lattice"].size // 9
    numbers = arrays.pop("image_type").astype(np.int64)
    n_atoms = arrays["position"].size // (3 * max(n_frames, 1))
    if numbers.size not in (n_atoms, n_atoms * n_frames) or not n_frames:
        raise InputError(
            f"image_type.npy has shape {numbers.shape}", where=str(folder),
            expected=f"atomic numbers of {n_atoms} atoms",
        )  # fmt: skip
    if ((numbers < 1) | (numbers >= len(chemical_symbols))).any():
        raise InputError("image_type.npy has a number that is no element's", where=str(folder))
    widths = {"position": 3 * n_atoms, "lattice": 9, "energies": 1, "forces": 3 * n_atoms, "virials": 9}
    for key, array in arrays.items():
        if array.size != n_frames * widths[key]:
            raise InputError(
                f"{key}.npy has shape {array.shape}", where=str(folder),
                expected=f"({n_frames}, {widths[key]}) for {n_frames} frames of {n_atoms} atoms",
            )  # fmt: skip
        arrays[key] = array.astype(np.float64).reshape(n_frames, widths[key])
    rows = np.broadcast_to(numbers.reshape(-1, n_atoms), (n_frames, n_atoms))
    return [_frame(arrays, k, rows[k], f"{folder}#{k}") for k in range(n_frames)]


def _frame(arrays: dict[str, np.ndarray], k: int, numbers: np.ndarray, name: str) -> Structure:
    cell = arrays["lattice"][k].reshape(3, 3)
    virial = arrays["virials"][k].reshape(3, 3) if "virials" in arrays else None
    return Structure(
        symbols=[chemical_symbols[number] for number in numbers],
        positions=arrays["position"][k].reshape(-1, 3) @ cell,
        cell=cell,
        pbc=np.full(3, True),
        energy=float(arrays["energies"][k, 0]) if "energies" in arrays else None,
        forces=arrays["forces"][k].reshape(-1, 3) if "forces" in arrays else None,
        stress=None if virial is None else stress_of_virial((virial + virial.T) / 2.0, cell, name),
        name=name,
    )


FORMAT = DataFormat(
    "PWMLFF's npy folder (PWdata)",
    read=lambda path, options: read_pwmlff(path),
    recognises=lambda path: path.is_dir() and bool(_sets(path)),
    order=25,
    aliases=("pwdata", "pwmlff/npy", "pwmlff-npy"),
    is_folder=True,
    is_file=False,
)
