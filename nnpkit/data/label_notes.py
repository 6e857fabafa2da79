"""Names of labels, and what is said about them: names taken for them, names left aside, look-alikes."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from nnpkit.data.electronic import CHARGE_NAMES, MULTIPLICITY_NAMES
from nnpkit.data.notes import choice_needed, note, note_source

__all__ = ["LABEL_NAMES", "PATTERNS", "note_comment", "note_left_over", "note_taken"]

PATTERNS = ("{}", "ref_{}", "dft_{}", "{}_ref", "{}_dft")
"""What may stand before or after a name, in the order of preference."""


def _variants(*bases: str) -> tuple[str, ...]:
    """The bases, then each pattern of prefix or suffix applied to all of them."""
    return tuple(pattern.format(base) for pattern in PATTERNS for base in bases)


LABEL_NAMES: dict[str, tuple[str, ...]] = {
    "energy": (*_variants("energy", "total_energy"), "free_energy"),
    "forces": _variants("forces", "force"),
    "stress": _variants("stress"),
    "virial": _variants("virial", "virials"),
    "charges": _variants("charges", "charge", "atomic_charges", "atomic_charge"),
    "dipole": _variants("dipole", "dipole_moment"),
    "total_charge": CHARGE_NAMES,
    "multiplicity": MULTIPLICITY_NAMES,
}
"""Names looked for, best first, in lower case."""

_LOOK_ALIKES = {  # of a label that the frame does not have
    "energy": re.compile(
        r".*(energy|enthalpy|energie).*|e|e_?(tot|pot|0|dft|ref|scf|ks)|e_\w+|(tot|pot)_?eng?|pe|toten"
    ),
    "forces": re.compile(r".*(forces?|grad|gradients?).*|f|f_?(dft|ref|xyz)|f_\w+|frc"),
    "stress": re.compile(r".*(stress|virial|pressure).*"),
    "total_charge": re.compile(r".*(net|total|tot|molecular|system|cell).?charge.*|charge.?(total|tot|net)"),
}
_NOT_MEANT = re.compile(
    r".*(kinetic|unit|cutoff|_std|error|weight|mask|norm|max|method|label|key|lammps_pressure|expected|sigma0).*|e_?(f|fermi|gap|field|hull|vac).*"
)
_COMMENT_ENERGY = re.compile(
    r"\b(energy|etot|e)\b\s*(\(\w+\)|\[\w+\])?\s*[:=]?\s*[-+]?\d+\.\d+"
    r"|^\s*[-+]?\d+\.\d+\s*(ev|ha|hartree|au|a\.u\.)?\s*$",
    re.IGNORECASE,
)


def note_taken(taken: Mapping[str, str], keys: Mapping[str, str], name: str) -> None:
    """Say which names were taken for which labels, where they are not the labels' own and not the user's."""
    for label, key in taken.items():
        note_source("stress" if label == "virial" else label, key)
    others = {label: key for label, key in taken.items() if label not in keys and key.lower() != label}
    plain = {"force", "charge", "virials", "dipole_moment", *CHARGE_NAMES, *MULTIPLICITY_NAMES}
    if said := [f"{key} as {label}" for label, key in others.items() if key.lower() not in plain]:
        note(f"taken: {', '.join(said)}", name)


def note_left_over(
    info: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    n_atoms: int,
    labels: Mapping[str, Any],
    taken: Mapping[str, str],
    keys: Mapping[str, str],
    name: str,
    complete: Collection[str] = (),
) -> None:
    """Say which extras are labels under another name, or look like a label that the frame does not have.

    Parameters
    ----------
    info, arrays : mapping
        What is left of a frame once the labels are taken out.
    n_atoms : int
        Number of atoms.
    labels, taken : mapping
        Labels that were taken, and the names they had.
    keys : mapping
        Names that the user gave, of labels of which nothing needs to be said.
    name : str
        Name of the frame.
    complete : collection of str
        Names, in lower case, of other sets of labels that are as complete as the one that was taken: the user has to
        choose.
    """
    aside: dict[str, list[str]] = {}
    for label, of_label in LABEL_NAMES.items():
        if label in ("total_charge", "multiplicity"):  # `nnpkit.data.electronic` refuses contradictions
            continue
        source = arrays if label == "forces" else info
        for key in source:
            if str(key).lower() in of_label and _differs(source[key], labels.get(label), label):
                aside.setdefault(label, []).append(str(key))
    for label, names in aside.items():
        if label in labels and label not in keys:
            text = f"{' and '.join(names)} left aside, which differs from the {label} that is taken"
            rivals = [key for key in names if key.lower() in complete]
            rivals += ["free_energy"] if label == "energy" and _apart(info, labels, n_atoms) else []
            if not rivals:
                note(text, name)
                continue
            first = taken.get(label, label)
            hint = f"say which counts: labels: {{{label}: {first}}} or labels: {{{label}: {rivals[0]}}}"
            choice_needed(f"the {label} could be {first} or {rivals[0]}, which differ", hint, name)
    if "forces" not in labels and {"fx", "fy", "fz"} <= {key.lower() for key in arrays}:
        note("columns fx, fy and fz look like the forces but are not used; call them forces:R:3", name)
    for label, pattern in _LOOK_ALIKES.items():
        if label in keys or label in labels or (label == "stress" and "virial" in {**labels, **keys}):
            continue
        for key, value in {**info, **arrays}.items():
            if pattern.fullmatch(str(key).lower()) and not _NOT_MEANT.fullmatch(str(key).lower()):
                _note_look_alike(label, str(key), value, n_atoms, name)


def _apart(info: Mapping[str, Any], labels: Mapping[str, Any], n_atoms: int) -> bool:
    """Whether a free energy that is left aside differs by more than 1 meV/atom, a smearing that a potential learns."""
    found = next((value for key, value in info.items() if str(key).lower() == "free_energy"), None)
    try:
        return found is not None and abs(float(found) - float(labels["energy"])) > 1e-3 * n_atoms
    except (TypeError, ValueError):
        return False


def _differs(value: Any, taken: Any, label: str) -> bool:
    if taken is None:
        return True
    try:
        a, b = np.ravel(np.asarray(value, dtype=np.float64)), np.ravel(np.asarray(taken, dtype=np.float64))
    except (TypeError, ValueError):
        return False
    if label == "energy" and a.size == b.size == 1:
        return bool(abs(a[0] - b[0]) > 1e-3)  # eV; the free energy of a small smearing
    return a.size == b.size and not np.allclose(a, b, rtol=1e-5, atol=1e-8)


def _note_look_alike(label: str, key: str, value: Any, n_atoms: int, name: str) -> None:
    sizes = {"energy": (1,), "forces": (3 * n_atoms,), "stress": (6, 9), "total_charge": (1,)}[label]
    try:
        numbers = np.asarray(value)
    except ValueError:
        return
    if isinstance(value, str):
        numbers = np.array(re.findall(r"[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?", value))
        if not re.match(r"\s*[\[(]*\s*[-+.\d]", value):
            return
    elif numbers.dtype.kind not in "fiu":
        return
    per_atom = label in ("energy", "stress") and numbers.shape[:1] == (n_atoms,) and n_atoms > 1
    if per_atom and numbers.size in (n_atoms, 6 * n_atoms, 9 * n_atoms):
        note(f"{key} is per atom and not used: the frame has no {label}", name)
    elif numbers.size in sizes:
        note(
            f"{key} looks like the {label} but is not used; if it is one, name it: labels: {{{label}: {key}}}",
            name,
        )


def note_comment(comment: str, name: str) -> None:
    """Say that an energy in a comment without ``key=value``, or a number alone, is not read."""
    if _COMMENT_ENERGY.search(comment):
        note("the comment line mentions an energy, which is not read; write it as energy=... (eV)", name)
