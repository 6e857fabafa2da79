"""Charge and spin of a structure: their names in files, and what a reference calculation is asked for.

The charge is that of the whole structure (e), the spin is its multiplicity 2S + 1. Names are compared without regard
to case, the first one found counts, and two that contradict each other are refused.

================  ====================================================================================================
what              names and how they become charge and multiplicity
================  ====================================================================================================
charge            ``total_charge``, ``tot_charge``, ``net_charge``, ``system_charge``, ``charge`` of a frame; the sum of
                  a column ``initial_charges`` (ASE)
multiplicity      ``multiplicity``, ``spin_multiplicity``, ``spin_mult``, ``mult``: 2S + 1
unpaired          ``unpaired_electrons``, ``n_unpaired``, ``nunpaired``, ``uhf``, ``nupdown``: 2S, plus 1
moment            ``magmom``, ``total_magmom``, ``magnetization`` (μB), and the sum of a column ``initial_magmoms``
                  (ASE): 2S if it is a whole number other than zero; zero asks for nothing
spin              ``spin`` means 2S + 1, 2S or S to different people: taken where the number of electrons leaves one
                  of them, else it stays an extra, and a reference calculation refuses the structure
================  ====================================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from nnpkit.errors import InputError

__all__ = ["CHARGE_NAMES", "MULTIPLICITY_NAMES", "ElectronicState", "electronic_state", "take_state"]

CHARGE_NAMES = ("total_charge", "tot_charge", "net_charge", "system_charge", "charge")
MULTIPLICITY_NAMES = ("multiplicity", "spin_multiplicity", "spin_mult", "mult")
_UNPAIRED = ("unpaired_electrons", "n_unpaired", "nunpaired", "uhf", "nupdown")
_MOMENTS = ("magmom", "total_magmom", "magnetization")
_UNCLEAR = ("spin", "total_spin")
_WHOLE = 0.01  # a moment this close to a whole number is one


class ElectronicState(NamedTuple):
    """Charge and multiplicity that a calculation is to have.

    Attributes
    ----------
    charge : float
        e; 0 where the structure says nothing.
    multiplicity : int
        2S + 1; the lowest that the number of electrons allows where the structure says nothing.
    stated_charge, stated_multiplicity : bool
        Whether the structure said it.
    lowest : bool
        Whether the multiplicity is the lowest possible one, which programs take by themselves.
    """

    charge: float
    multiplicity: int
    stated_charge: bool
    stated_multiplicity: bool
    lowest: bool

    @property
    def special(self) -> bool:
        """Whether a program that knows of neither charge nor spin would compute another state."""
        return self.charge != 0.0 or not self.lowest

    def __str__(self) -> str:
        return f"charge {self.charge:+g}, multiplicity {self.multiplicity}"


def take_state(
    labels: dict[str, Any],
    info: dict[str, Any],
    arrays: Mapping[str, Any],
    symbols: list[str],
    name: str,
    keys: Mapping[str, str] | None = None,
) -> None:
    """Complete ``labels["total_charge"]`` and ``labels["multiplicity"]`` from the names of the module.

    Parameters
    ----------
    labels : dict
        Of `nnpkit.data.labels.extract_labels`; may hold either already. Changed.
    info : dict
        Extras of the frame; what is used is removed.
    arrays : mapping
        Per-atom extras, which stay.
    symbols : list of str
        Of the atoms.
    name : str
        Of the frame, for messages.
    keys : mapping, optional
        Labels whose names the user gave; other names of them do not count.

    Raises
    ------
    InputError
        If two names contradict each other.
    """
    if "total_charge" not in (keys or {}):
        _settle(labels, "total_charge", _found(info, CHARGE_NAMES), info, name)
        total = float(np.sum(arrays["initial_charges"])) if _numeric(arrays, "initial_charges") else 0.0
        if labels.get("total_charge") is None and abs(total) > _WHOLE:
            labels["total_charge"] = float(round(total)) if abs(total - round(total)) < _WHOLE else total
    if "multiplicity" in (keys or {}):
        return
    stated = _found(info, MULTIPLICITY_NAMES)
    stated |= {key: value + 1.0 for key, value in _found(info, _UNPAIRED).items()}
    moments = _found(info, _MOMENTS)
    if _numeric(arrays, "initial_magmoms"):
        moments[""] = float(np.sum(arrays["initial_magmoms"]))
    for moment in map(abs, moments.values()):
        if round(moment) and abs(moment - round(moment)) < _WHOLE and not stated:
            labels.setdefault("multiplicity", round(moment) + 1.0)
    n_electrons = _electrons(symbols, labels.get("total_charge"))
    for key, value in _found(info, _UNCLEAR).items():
        if (meant := _meaning(value, n_electrons)) is not None:
            stated[key] = meant
    _settle(labels, "multiplicity", stated, info, name)


def _settle(
    labels: dict[str, Any], label: str, found: Mapping[str, float], info: dict[str, Any], name: str
) -> None:
    """Give `label` the value that all names agree on; they leave `info`."""
    for key, value in found.items():
        known = labels.get(label)
        if known is not None and abs(float(np.asarray(known).reshape(())) - value) > 1e-6:
            what = label.replace("_", " ")
            raise InputError(
                f"{key}={info[key]} contradicts the {what} {float(np.asarray(known).reshape(())):g}",
                where=name or None, hint="remove one of them",
            )  # fmt: skip
        labels[label] = value
        info.pop(key)


def _numeric(arrays: Mapping[str, Any], key: str) -> bool:
    """Whether there is a column of one number per atom under this name."""
    return key in arrays and np.ndim(arrays[key]) == 1 and np.asarray(arrays[key]).dtype.kind in "iuf"


def _found(info: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, float]:
    """Keys of `info` among `names`, and their numbers; words and arrays are no numbers."""
    found = {}
    for name in names:
        for key, value in info.items():
            number = np.size(value) == 1 and np.asarray(value).dtype.kind in "iuf"
            if str(key).lower() == name and number and np.isfinite(value).all():
                found[key] = float(np.asarray(value).reshape(()))
    return found


def _electrons(symbols: list[str], charge: Any) -> int | None:
    """Number of electrons with those of the cores; None with a fractional charge or unknown elements."""
    from ase.data import atomic_numbers

    total = 0.0 if charge is None else float(np.asarray(charge).reshape(()))
    if abs(total - round(total)) > 1e-6 or any(symbol not in atomic_numbers for symbol in symbols):
        return None
    return sum(atomic_numbers[symbol] for symbol in symbols) - round(total)


def _meaning(spin: float, n_electrons: int | None) -> float | None:
    """2S + 1 of a number called spin, if one reading of it alone suits the number of electrons."""
    readings = {spin, spin + 1.0, 2.0 * spin + 1.0}  # 2S + 1, 2S, S
    possible = [
        m for m in readings
        if m >= 1.0 and m == round(m) and (n_electrons is None or (m - 1.0 - n_electrons) % 2.0 == 0.0)
    ]  # fmt: skip
    return possible[0] if len(possible) == 1 else None


def electronic_state(
    symbols: list[str],
    total_charge: float | None,
    multiplicity: float | None,
    info: Mapping[str, Any],
    name: str,
) -> ElectronicState:
    """What a reference calculation of a structure is asked for.

    Raises
    ------
    InputError
        If a charge or spin of the structure is not understood, or no state has them.
    """
    where = name or None
    for key, value in info.items():
        lower = str(key).lower()
        if lower in (*CHARGE_NAMES, *MULTIPLICITY_NAMES, *_UNPAIRED, *_UNCLEAR) and value is not None:
            hint = (
                "write it as multiplicity=, which is 2S + 1"
                if lower in _UNCLEAR
                else "write total_charge= and multiplicity= with one number each"
            )
            raise InputError(f"{key}={value} can mean different things", where=where, hint=hint)
        moment = _found({lower: value}, _MOMENTS).get(lower, 0.0)
        if multiplicity is None and abs(moment) > _WHOLE:
            raise InputError(
                f"{key}={value} is not a whole number of unpaired electrons", where=where,
                hint="write the multiplicity= that the calculation shall have, or remove it",
            )  # fmt: skip
    charge = 0.0 if total_charge is None else float(total_charge)
    n_electrons = _electrons(symbols, charge)
    if n_electrons is not None and n_electrons < 0:
        raise InputError(
            f"a charge of {charge:+g} takes away more electrons than the atoms have", where=where,
            expected=f"at most {n_electrons + round(charge):+d}",
        )  # fmt: skip
    lowest = 1 if n_electrons is None else 1 + n_electrons % 2
    spin = lowest if multiplicity is None else round(multiplicity)
    if multiplicity is not None and (
        multiplicity != spin
        or spin < 1
        or (n_electrons is not None and ((spin - lowest) % 2 or spin > n_electrons + 1))
    ):
        highest = lowest + 6 if n_electrons is None else n_electrons + 1
        possible = [str(m) for m in range(lowest, highest + 1, 2)]
        raise InputError(
            f"a multiplicity of {multiplicity:g} is impossible with "
            f"{'this number of' if n_electrons is None else n_electrons} electrons",
            where=where, expected=", ".join(possible[:3]) + (" ..." if len(possible) > 3 else ""),
        )  # fmt: skip
    whole = float(round(charge)) if abs(charge - round(charge)) < 1e-6 else charge
    return ElectronicState(whole, spin, total_charge is not None, multiplicity is not None, spin == lowest)
