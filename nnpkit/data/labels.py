"""Which names of a file's or an `ase.Atoms`' extras are labels, and what becomes of them.

Names are compared without regard to case.  Results of an ASE calculator come before anything else.

=============  ==========================================================================
label          names, each also with ``ref_`` or ``dft_`` before it or ``_ref``, ``_dft`` after it
=============  ==========================================================================
energy         ``energy``, ``total_energy``; last of all ``free_energy``
forces         ``forces``, ``force``
stress         ``stress`` (ASE's sign), else ``virial``, ``virials`` (``W = -stress * volume``)
charges        ``charges``, ``charge``, ``atomic_charges``, ``atomic_charge`` with one value per atom
dipole         ``dipole``, ``dipole_moment`` with three values per frame (e Å)
total_charge   ``total_charge``, ``tot_charge``, ``net_charge``, ``system_charge``, ``charge`` with one value per frame
multiplicity   ``multiplicity``, ``spin_multiplicity``, ``spin_mult``, ``mult``; others: `nnpkit.data.electronic`
=============  ==========================================================================

Energy, forces and stress of a file are taken under names with one prefix or suffix, the first of the order
above that has all that the file has: labels of two methods are not mixed (`choose_names`). Where another prefix has all
of them too, with other values, the user has to choose (`nnpkit.data.notes.choice_needed`). Other names left aside and
look-alikes that are no name of the table are said in a note (`nnpkit.data.label_notes`).

Where a file has both ``energy`` and ``free_energy``, ``energy`` is taken if they differ by at most 1 meV/atom;
otherwise the user has to choose.  (Forces of a calculation with electronic smearing are the derivative of the free
energy.)
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nnpkit.data.label_notes import LABEL_NAMES, PATTERNS, note_left_over, note_taken
from nnpkit.data.matrices import symmetric_matrix
from nnpkit.data.notes import note
from nnpkit.errors import InputError
from nnpkit.units import stress_from_virial

if TYPE_CHECKING:
    from ase import Atoms

__all__ = [
    "LABEL_NAMES",
    "choose_names",
    "extra_names",
    "extract_labels",
    "labels_of_atoms",
    "stress_of_virial",
]

_OF_ONE_METHOD = {"energy": ("energy",), "forces": ("forces",), "stress": ("stress", "virial")}
_OF_METHOD = ("energy", "forces", "stress", "virial")
_PER_ATOM = ("forces", "charges")
_EMPTY = ("", "none", "null", "n/a", "na", "-", "--")
_STRESS_TOLERANCE = 1e-2  # relative disagreement of a stress with a virial that float32 and rounding explain


def _pattern_of(name: str) -> str:
    """Pattern of prefix or suffix of a name of the table; ``{}`` for any other."""
    found = re.fullmatch(r"(ref_|dft_)?(.*?)(_ref|_dft)?", name.lower())
    return f"{(found[1] if found else None) or ''}{{}}{(found[3] if found else None) or ''}"


def choose_names(
    frames: Sequence[Iterable[str]], keys: Mapping[str, str] | None = None, where: str = ""
) -> dict[str, tuple[str, ...]]:
    """Names under which the frames of a file have their labels, so that those of two methods are not mixed.

    Parameters
    ----------
    frames : sequence of iterables of str
        Names that each frame carries.
    keys : mapping, optional
        Exact names that the user gave for some labels.
    where : str
        The file, for messages.

    Returns
    -------
    dict
        As `LABEL_NAMES`, restricted to the pattern that is taken; ``rivals`` are the names of other patterns that
        have as much.

    Raises
    ------
    InputError
        If a key is no label, or no pattern has all of energy, forces and stress that the file has.
    """
    keys = keys or {}
    if unknown := sorted(set(keys) - set(LABEL_NAMES)):
        raise InputError(f"unknown label {unknown[0]!r} in keys", expected=" or ".join(LABEL_NAMES))
    lowered = [{str(key).lower() for key in frame} for frame in frames]
    present = {str(key).lower(): str(key) for frame in frames for key in frame}
    chosen = dict(LABEL_NAMES)
    having: dict[str, dict[str, set[int]]] = {}  # by kind and pattern: the frames that have it
    for kind, labels in _OF_ONE_METHOD.items():
        if set(labels) & keys.keys():
            continue
        for name in (name for label in labels for name in LABEL_NAMES[label] if name in present):
            frames_with = {k for k, names in enumerate(lowered) if name in names}
            having.setdefault(kind, {}).setdefault(_pattern_of(name), set()).update(frames_with)
    if not having:
        return chosen
    named = {_pattern_of(name) for label, name in keys.items() if name.lower() in LABEL_NAMES[label]} - {"{}"}

    def has(pattern: str, kinds: Iterable[str]) -> bool:
        """Whether every frame that has one of `kinds` at all has it under this pattern."""
        return all(having[k].get(pattern, set()) == set().union(*having[k].values()) for k in kinds)

    if first := next((pattern for pattern in named or PATTERNS if has(pattern, having)), None):
        decisive = [kind for kind in having if kind != "stress"]  # which methods often have none of
        rivals = [p for p in PATTERNS if p != first and decisive and not named and has(p, decisive)]
        for label in _OF_METHOD:
            chosen[label] = tuple(n for n in LABEL_NAMES[label] if _pattern_of(n) == first)
        chosen["rivals"] = tuple(
            n for label in _OF_METHOD for n in LABEL_NAMES[label] if _pattern_of(n) in rivals
        )
        return chosen
    names = {
        kind: " and ".join(present[n] for label in labels for n in LABEL_NAMES[label] if n in present)
        for kind, labels in _OF_ONE_METHOD.items() if kind in having
    }  # fmt: skip
    raise InputError(
        "labels under different names may be of different methods: "
        + ", ".join(f"{kind} as {words}" for kind, words in names.items()),
        where=where or None, expected="one set of names that has them all, in every frame that has any",
        hint=f"say which count, e.g. labels: {{{', '.join(f'{k}: {w.split()[0]}' for k, w in names.items())}}}",
    )  # fmt: skip


def extract_labels(
    info: dict[str, Any],
    arrays: dict[str, np.ndarray],
    n_atoms: int,
    cell: np.ndarray,
    name: str = "",
    keys: Mapping[str, str] | None = None,
    names: Mapping[str, tuple[str, ...]] | None = None,
) -> dict[str, Any]:
    """Take the labels out of `info` (per frame) and `arrays` (per atom), which are changed.

    Parameters
    ----------
    info, arrays : dict
        What a frame carries; labels found are removed from them.
    n_atoms : int
        Number of atoms.
    cell : (3, 3) array
        Å; turns a virial into a stress.
    name : str
        Name of the frame for messages.
    keys : mapping, optional
        Exact name to use for a label instead of the table, e.g. ``{"energy": "REF_energy"}``.
    names : mapping, optional
        What `choose_names` found for the whole file; by default for this frame alone.

    Returns
    -------
    dict
        Arguments of `Structure`, as far as present: energy, forces, stress, charges, dipole, total_charge,
        multiplicity.

    Raises
    ------
    InputError
        If a label is no number, a stress and a virial contradict each other, one of them comes without a cell,
        or labels of different names would be mixed.
    """
    keys = dict(keys or {})
    names = choose_names([[*info, *arrays]], keys, name) if names is None else names
    labels: dict[str, Any] = {}
    taken: dict[str, str] = {}
    for label in LABEL_NAMES:
        if label in ("stress", "virial") and {"stress", "virial"} & set(keys) and label not in keys:
            continue
        for source in (arrays, info) if label in _PER_ATOM else (info,):
            candidates = [keys[label]] if label in keys else _matching(source, names[label])
            for key in candidates:
                if label not in labels and key in source and _fits(label, key, source[key], n_atoms, name):
                    labels[label], taken[label] = source.pop(key), key
    if "forces" in labels and np.size(labels["forces"]) == 3 * n_atoms:
        labels["forces"] = np.reshape(labels["forces"], (n_atoms, 3))
    if "charges" in labels:
        labels["charges"] = np.ravel(labels["charges"])
    if "dipole" in labels:
        labels["dipole"] = np.ravel(labels["dipole"])
    note_taken(taken, keys, name)
    rivals = () if set(keys) & set(_OF_METHOD) else names.get("rivals", ())
    note_left_over(info, arrays, n_atoms, labels, taken, keys, name, rivals)
    _check_stress(labels, cell, name)
    return labels


def _matching(source: Iterable[str], names: tuple[str, ...]) -> list[str]:
    """Keys of `source` that are one of `names`, in the order of `names`."""
    lower: dict[str, str] = {}
    for key in source:
        lower.setdefault(str(key).lower(), key)
    return [lower[name] for name in names if name in lower]


def _fits(label: str, key: str, value: Any, n_atoms: int, name: str) -> bool:
    """Whether a value found under a label's name is that label; InputError if it is meant to be and cannot."""
    if label in ("total_charge", "multiplicity") and np.size(value) != 1:
        return False
    if label == "dipole" and np.size(value) != 3:
        return False
    if label == "charges" and (np.size(value) != n_atoms or (n_atoms == 1 and np.ndim(value) == 0)):
        return False
    if value is None or (isinstance(value, str) and value.strip().lower() in _EMPTY):
        note(f"{key} is empty: no {label}", name)
        return False
    if np.asarray(value).dtype.kind not in "fiu":
        text = "without a value" if value is True else f"{' '.join(str(value).split())[:40]!r}"
        raise InputError(
            f"{key} is {text}, no number that could be the {label}", where=name or None,
            expected="numbers without units (eV, Å)",
        )  # fmt: skip
    return True


def _check_stress(labels: dict[str, Any], cell: np.ndarray, name: str) -> None:
    """Replace a virial among `labels` by a stress, hold it against one that is there; both need a cell."""
    if "virial" in labels:
        virial = symmetric_matrix(labels.pop("virial"), "virial", name)
        stress = stress_of_virial(virial, cell, name)
        if stress is None or "stress" not in labels:
            labels["stress"] = stress
        else:
            _compare(stress, symmetric_matrix(labels["stress"], "stress", name), name)
    elif "stress" in labels and _without_cell(labels["stress"], cell, "stress", name):
        labels["stress"] = None
    if labels.get("stress", 0) is None:
        del labels["stress"]


def stress_of_virial(virial: np.ndarray, cell: np.ndarray, name: str) -> np.ndarray | None:
    """Stress (eV/Å³) of a virial (3, 3; eV); None, with a note, for zeros without a cell.

    Raises
    ------
    InputError
        For any other virial without a cell.
    """
    if _without_cell(virial, cell, "virial", name):
        return None
    return stress_from_virial(virial, abs(float(np.linalg.det(cell))))


def _without_cell(value: Any, cell: np.ndarray, label: str, name: str) -> bool:
    """Whether there is no volume that a stress or virial could belong to; that it is zero then is said."""
    if abs(float(np.linalg.det(cell))) >= 1e-10:
        return False
    if np.any(value):
        raise InputError(
            f"a {label} without a cell", where=name or None, hint=f"give the cell or drop the {label}"
        )
    note(f"a {label} of zeros without a cell is left out", name)
    return True


def _compare(stress: np.ndarray, given: np.ndarray, name: str) -> None:
    scale = max(np.abs(stress).max(), np.abs(given).max())
    if np.abs(stress - given).max() > _STRESS_TOLERANCE * scale + 1e-6:
        ratio = np.vdot(given, stress) / np.vdot(stress, stress)
        raise InputError(
            f"stress and virial contradict each other (stress = {ratio:.3g} * -virial/volume)",
            where=name or None, expected="stress = -virial/volume (eV/Å³, eV)",
            hint="remove one of them or name the right one in keys",
        )  # fmt: skip


def _extras_of(atoms: Atoms) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Info and per-atom arrays, with what the calculator holds for these positions; nothing is computed."""
    info = dict(atoms.info)
    arrays = {key: value.copy() for key, value in atoms.arrays.items() if key not in ("numbers", "positions")}
    if not getattr(atoms.calc, "check_state", lambda _: True)(atoms):
        for key, value in atoms.calc.results.items():
            if value is None:
                continue
            per_atom = (
                np.ndim(value) in (1, 2) and len(value) == len(atoms) and key not in ("stress", "dipole")
            )
            (arrays if per_atom else info)[key] = np.array(value) if np.ndim(value) else value
    return info, arrays


def take_free_energies(images: Sequence[Atoms], path: str) -> None:
    """Make the free energy the energy of images that have forces; the other one is kept as ``energy_sigma0``.

    With smeared electrons forces and stress are derivatives of the free energy (``TOTEN`` of VASP), not of the energy
    extrapolated to no smearing that ASE calls ``energy``; what ASE reads of other programs are free energies.
    """
    apart = 0.0
    for atoms in images:
        results = getattr(atoms.calc, "results", {})
        energy, free = results.get("energy"), results.get("free_energy")
        if energy is None or free is None or results.get("forces") is None:
            continue
        results["energy"] = free
        if abs(energy - free) > 1e-6:
            apart = max(apart, abs(energy - free) / len(atoms))
            atoms.info["energy_sigma0"] = energy
        del results["free_energy"]
    if apart > 1e-5:
        note(
            "energies are free energies (TOTEN), which forces and stress belong to; those of sigma -> 0, up to "
            f"{1000 * apart:.3g} meV/atom away, are energy_sigma0; labels: {{energy: energy}} takes them",
            path,
        )


def extra_names(atoms: Atoms) -> list[str]:
    """Names among which the labels of `atoms` are looked for."""
    info, arrays = _extras_of(atoms)
    return [*info, *arrays]


def labels_of_atoms(
    atoms: Atoms,
    name: str = "",
    keys: Mapping[str, str] | None = None,
    names: Mapping[str, tuple[str, ...]] | None = None,
) -> tuple[dict[str, Any], dict[str, Any], dict[str, np.ndarray]]:
    """Labels, remaining info and remaining per-atom arrays of `atoms`; `keys` and `names` as of `extract_labels`.

    Results of the calculator count only if they belong to these positions; nothing is computed.
    """
    info, arrays = _extras_of(atoms)
    labels = extract_labels(info, arrays, len(atoms), atoms.cell.array, name, keys, names)
    return labels, info, arrays
