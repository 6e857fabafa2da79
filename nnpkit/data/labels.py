"""Which names of a file's or an `ase.Atoms`' extras are labels, and what becomes of them.

Names are compared without regard to case, in the order below; the first one found is the label and the
others stay among the extras.  Results of an ASE calculator come before anything else.

=============  ==========================================================================
label          names, each also with ``ref_`` or ``dft_`` before it or ``_ref``, ``_dft`` after it
=============  ==========================================================================
energy         ``energy``, ``total_energy``; last of all ``free_energy``
forces         ``forces``, ``force``
stress         ``stress`` (ASE's sign), else ``virial``, ``virials`` (``W = -stress * volume``)
charges        ``charges``, ``charge`` with one value per atom
total_charge   ``total_charge``, ``tot_charge``, ``net_charge``, ``system_charge``, ``charge`` with one value per frame
multiplicity   ``multiplicity``, ``spin_multiplicity``, ``spin_mult``, ``mult``; others: `nnpkit.data.electronic`
=============  ==========================================================================

Where a frame has both ``energy`` and ``free_energy``, ``energy`` is taken.  (Forces of a calculation with
electronic smearing are the derivative of the free energy; name it in `keys` to train on it instead.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from nnpkit.data.electronic import CHARGE_NAMES, MULTIPLICITY_NAMES
from nnpkit.data.structure import symmetric_matrix
from nnpkit.errors import InputError
from nnpkit.units import stress_from_virial

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["LABEL_NAMES", "extract_labels", "labels_of_atoms"]


def _variants(*bases: str) -> tuple[str, ...]:
    """The bases, then each pattern of prefix or suffix applied to all of them."""
    patterns = ("{}", "ref_{}", "dft_{}", "{}_ref", "{}_dft")
    return tuple(pattern.format(base) for pattern in patterns for base in bases)


LABEL_NAMES: dict[str, tuple[str, ...]] = {
    "energy": (*_variants("energy", "total_energy"), "free_energy"),
    "forces": _variants("forces", "force"),
    "stress": _variants("stress"),
    "virial": _variants("virial", "virials"),
    "charges": _variants("charges", "charge"),
    "total_charge": CHARGE_NAMES,
    "multiplicity": MULTIPLICITY_NAMES,
}
"""Names looked for, best first, in lower case."""

_PER_ATOM = ("forces", "charges")
_STRESS_TOLERANCE = 1e-2  # relative disagreement of a stress with a virial that float32 and rounding explain


def extract_labels(
    info: dict[str, Any],
    arrays: dict[str, np.ndarray],
    n_atoms: int,
    cell: np.ndarray,
    name: str = "",
    keys: Mapping[str, str] | None = None,
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

    Returns
    -------
    dict
        Arguments of `Structure`: energy, forces, stress, charges, total_charge, multiplicity, as far as present.

    Raises
    ------
    InputError
        If a stress and a virial contradict each other, or a virial comes without a cell.
    """
    keys = dict(keys or {})
    if unknown := sorted(set(keys) - set(LABEL_NAMES)):
        raise InputError(f"unknown label {unknown[0]!r} in keys", expected=" or ".join(LABEL_NAMES))
    labels: dict[str, Any] = {}
    for label in LABEL_NAMES:
        if label in ("stress", "virial") and {"stress", "virial"} & set(keys) and label not in keys:
            continue
        source = arrays if label in _PER_ATOM else info
        names = [keys[label]] if label in keys else _matching(source, LABEL_NAMES[label])
        for key in names:
            if key in source and _fits(label, source[key], n_atoms):
                labels[label] = source.pop(key)
                break
    if "virial" in labels:
        _virial_to_stress(labels, cell, name)
    return labels


def _matching(source: Iterable[str], names: tuple[str, ...]) -> list[str]:
    """Keys of `source` that are one of `names`, in the order of `names`."""
    lower: dict[str, str] = {}
    for key in source:
        lower.setdefault(str(key).lower(), key)
    return [lower[name] for name in names if name in lower]


def _fits(label: str, value: Any, n_atoms: int) -> bool:
    """Whether a value found under a label's name can be that label at all (None and words cannot)."""
    if value is None or isinstance(value, (str, bool)):
        return False
    if label in ("total_charge", "multiplicity"):
        return np.size(value) == 1
    if label == "charges":
        return np.size(value) == n_atoms
    return True


def _virial_to_stress(labels: dict[str, Any], cell: np.ndarray, name: str) -> None:
    """Replace the virial among `labels` by a stress, or hold it against the stress that is there."""
    volume = abs(float(np.linalg.det(cell)))
    if volume < 1e-10:
        raise InputError(
            "a virial without a cell", where=name or None, hint="give the cell or drop the virial"
        )
    stress = stress_from_virial(symmetric_matrix(labels.pop("virial"), "virial", name), volume)
    if "stress" not in labels:
        labels["stress"] = stress
        return
    given = symmetric_matrix(labels["stress"], "stress", name)
    scale = max(np.abs(stress).max(), np.abs(given).max())
    if np.abs(stress - given).max() > _STRESS_TOLERANCE * scale + 1e-6:
        ratio = np.vdot(given, stress) / np.vdot(stress, stress)
        raise InputError(
            f"stress and virial contradict each other (stress = {ratio:.3g} * -virial/volume)",
            where=name or None, expected="stress = -virial/volume (eV/Å³, eV)",
            hint="remove one of them or name the right one in keys",
        )  # fmt: skip


def labels_of_atoms(
    atoms: Atoms, name: str = "", keys: Mapping[str, str] | None = None
) -> tuple[dict[str, Any], dict[str, Any], dict[str, np.ndarray]]:
    """Labels, remaining info and remaining per-atom arrays of `atoms`.

    Results of the calculator count only if they belong to these positions; nothing is computed.
    """
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
    labels = extract_labels(info, arrays, len(atoms), atoms.cell.array, name, keys)
    return labels, info, arrays
