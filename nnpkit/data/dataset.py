"""Data sets: loading several files, identity, reference energies of the elements."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from glob import glob, has_magic
from pathlib import Path
from typing import Any

import numpy as np

from nnpkit.data.formats.reading import parse_frames, read
from nnpkit.data.outliers import inliers
from nnpkit.data.store.stored_frames import DataStore, is_store, joined_frames
from nnpkit.data.structure import LABELS, Structure
from nnpkit.errors import InputError

__all__ = [
    "data_sha256", "describe_labels", "elements_of", "expanded_paths", "fit_reference_energies", "load_dataset",
    "reference_energy_note", "structure_sha256",
]  # fmt: skip


def load_dataset(
    paths: str | Path | Sequence[str | Path],
    format: str | None = None,
    units: str | None = None,
    frames: str | int | slice | None = None,
    keys: Mapping[str, str] | None = None,
    labels_matter: bool = True,
) -> Sequence[Structure]:
    """Structures of one or several files, in the order of the files; those of a data store are not held in memory.

    Parameters
    ----------
    paths : path or sequence of paths
        Files and folders; patterns like ``data/*.xyz`` stand for the files they match, sorted.
    format, units, frames, keys, labels_matter
        As for `nnpkit.data.formats.reading.read`; they apply to each file.

    Raises
    ------
    InputError
        As `read`; also for a pattern that matches nothing and for no paths at all.
    """
    listed = [paths] if isinstance(paths, (str, Path)) else list(paths)
    if not listed:
        raise InputError("no data files given")
    parts: list[Sequence[Structure]] = []
    for path in listed:
        for file in expanded_paths(path):
            if is_store(file):
                parts.append(_of_store(file, frames, {"format": format, "units": units, "labels": keys}))
            else:
                parts.append(read(file, format, units, frames, keys, labels_matter=labels_matter))
    return joined_frames(parts)


def _of_store(path: str, frames: str | int | slice | None, given: Mapping[str, Any]) -> Sequence[Structure]:
    """Frames of a store, which are made when they are asked for."""
    for name, value in given.items():
        if value:
            raise InputError(
                f"{name} do not apply to a data store", where=path,
                expected="it to have been built with them" if name != "format" else "none",
            )  # fmt: skip
    stored, selected = DataStore(path), parse_frames(frames)
    found = stored[selected] if selected != slice(None) else stored
    if not len(found):
        raise InputError(f"frames {frames} selects none of {len(stored)} frames", where=path)
    return found


def expanded_paths(path: str | Path) -> list[str]:
    """The path itself, or the files that a pattern stands for, sorted.

    Raises
    ------
    InputError
        If the pattern matches nothing.
    """
    if Path(path).exists() or not has_magic(str(path)):
        return [str(path)]
    if not (found := sorted(glob(str(path), recursive=True))):
        raise InputError("the pattern matches no file", where=str(path))
    return found


def describe_labels(structures: Sequence[Structure], sources: Mapping[str, Mapping[str, int]]) -> str:
    """Which labels there are, in how many frames if not in all, and what the files call them.

    Parameters
    ----------
    structures : sequence of Structure
        What was read.
    sources : mapping
        As `nnpkit.data.notes.label_sources` counts them; formats without names have none.
    """
    words = []
    for label in ("energy", "forces", "stress", "charges", "total_charge", "multiplicity"):
        if not (number := sum(getattr(s, label) is not None for s in structures)):
            continue
        names = " or ".join(sources.get(label, ()))
        words.append(label + (f" (called {names})" if names not in ("", label) else ""))
        if number < len(structures):
            words[-1] += f" of {number} frames"
    return f"labels: {', '.join(words)}" if words else "no labels"


def elements_of(structures: Sequence[Structure]) -> list[str]:
    """Elements present, by atomic number."""
    from ase.data import atomic_numbers

    return sorted({symbol for s in structures for symbol in s.symbols}, key=atomic_numbers.__getitem__)


def _canonical(array: np.ndarray | float) -> bytes:
    """Bytes of float64 numbers, little endian, without negative zeros."""
    return (np.asarray(array, dtype="<f8") + 0.0).tobytes()


def structure_sha256(structure: Structure, labels: bool = True, state: bool = True) -> str:
    """Hash of what a structure says: elements, positions, cell, periodicity, charge, spin and the labels.

    Names, extras and the file's format do not enter; a number that differs in its last bit does.

    Parameters
    ----------
    structure : Structure
        What is hashed.
    labels : bool
        Whether energy, forces, stress, charges of the atoms and dipole enter.
    state : bool
        Whether total charge and multiplicity enter: they decide the labels of a geometry. Without `labels`, no
        charge is the same as a charge of zero.
    """
    digest = hashlib.sha256(" ".join(structure.symbols).encode())
    periodic = structure.pbc.astype(np.uint8).tobytes()
    digest.update(_canonical(structure.positions) + _canonical(structure.cell) + periodic)
    if labels:
        for label in (*LABELS, "total_charge"):
            value = getattr(structure, label)
            if label == "dipole" and value is None:
                continue
            digest.update(label.encode() + (b"-" if value is None else _canonical(value)))
    elif state and structure.total_charge:
        digest.update(b"total_charge" + _canonical(structure.total_charge))
    if state and structure.multiplicity is not None:
        digest.update(b"multiplicity" + _canonical(structure.multiplicity))
    return digest.hexdigest()


def data_sha256(structures: Sequence[Structure]) -> str:
    """Hash of the contents of a data set, whatever the order, names and formats of its files."""
    hashes = sorted(structure_sha256(structure) for structure in structures)
    return hashlib.sha256("\n".join(hashes).encode()).hexdigest()


def _composition_matrix(structures: Sequence[Structure], elements: Sequence[str]) -> np.ndarray:
    """(frames, elements): fraction of the atoms of each element."""
    known = set(elements)
    for structure in structures:
        if unknown := set(structure.symbols) - known:
            raise InputError(
                f"no reference energy is fitted for {sorted(unknown)[0]}", where=structure.name,
                expected=f"elements {', '.join(elements)}",
            )  # fmt: skip
    counts = [[s.composition[element] / s.n_atoms for element in elements] for s in structures]
    return np.array(counts, dtype=np.float64).reshape(-1, len(elements))


def fit_reference_energies(structures: Sequence[Structure], elements: Sequence[str]) -> dict[str, float]:
    """Energy per atom of each element (eV) by least squares of the energies per atom, outliers left out.

    Minimises ``sum_s (E_s/N_s - sum_a n_sa/N_s e_a)^2`` over the structures that are not far from a fit of least
    absolute errors: in another unit, say, or never converged; see `_plausible`.  Where the compositions do not
    determine every element (water only, say) it is the solution of least norm: the sum over any composition of
    the data is right, single values have no meaning; `reference_energy_note` says so.  Elements without atoms get 0.

    Raises
    ------
    InputError
        If no structure has an energy or one has an element that is not listed.
    """
    labelled = [structure for structure in structures if structure.energy is not None]
    if not labelled:
        raise InputError("no structure has an energy to fit reference energies to")
    fractions = _composition_matrix(labelled, elements)
    energies = np.array([structure.energy / structure.n_atoms for structure in labelled])  # type: ignore[operator]
    kept = _plausible(fractions, energies)
    solution = np.linalg.lstsq(fractions[kept], energies[kept], rcond=1e-8)[0]
    return {element: float(value) for element, value in zip(elements, solution, strict=True)}


def _plausible(fractions: np.ndarray, energies: np.ndarray) -> np.ndarray:
    """Which energies (S,) to fit: all, or those within some deviations if the others are few.

    Deviations are from a fit of least absolute errors, by least squares whose weights are the inverse errors of the
    last one (Huber, Robust Statistics, 1981). Those without which a composition would be unknown are kept.
    """
    scale = float(np.median(np.abs(energies - np.median(energies)))) + 1e-12
    weight, errors = np.ones(len(energies)), energies
    for _ in range(30):
        root = np.sqrt(weight)
        solution = np.linalg.lstsq(fractions * root[:, None], energies * root, rcond=1e-8)[0]
        errors = np.abs(energies - fractions @ solution)
        weight = 1.0 / np.maximum(errors, 1e-6 * scale)
    kept = inliers(np.maximum(errors, 1e-3 * scale))
    same = np.linalg.matrix_rank(fractions[kept], tol=1e-8) == np.linalg.matrix_rank(fractions, tol=1e-8)
    return kept if same else np.ones(len(energies), dtype=bool)


def reference_energy_note(structures: Sequence[Structure], elements: Sequence[str]) -> str | None:
    """One sentence if the compositions with energies leave reference energies undetermined, else None."""
    fractions = _composition_matrix([s for s in structures if s.energy is not None], elements)
    absent = [element for k, element in enumerate(elements) if not fractions[:, k].any()]
    present = [element for element in elements if element not in absent]
    rank = int(np.linalg.matrix_rank(fractions, tol=1e-8 * max(1.0, np.sqrt(len(fractions)))))
    notes = [f"no atoms of {', '.join(absent)}: reference energy 0"] if absent else []
    if rank < len(present):
        notes.append(
            f"the compositions determine {rank} of {len(present)} reference energies ({', '.join(present)}); "
            "of all that fit, those of least norm are taken: right together, without meaning one by one"
        )
    return "; ".join(notes) or None
