"""Units that the header of a frame states (``energy_unit=kcal/mol``, ``units=metal``): converted or refused."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.units import BOHR, EV_PER_A3_IN_BAR, HARTREE, KCAL_PER_MOL, UnitSystem

__all__ = ["StatedUnits", "converted", "is_unit", "take_units"]

_ENERGIES = {
    "ev": 1.0, "electronvolt": 1.0, "mev": 1e-3, "hartree": HARTREE, "ha": HARTREE, "eh": HARTREE,
    "ry": HARTREE / 2, "rydberg": HARTREE / 2, "kcal/mol": KCAL_PER_MOL, "kj/mol": KCAL_PER_MOL / 4.184,
}  # fmt: skip
_LENGTHS = {"angstrom": 1.0, "ang": 1.0, "a": 1.0, "bohr": BOHR, "a0": BOHR, "nm": 10.0, "pm": 0.01}
_STRESSES = {
    "gpa": 1e4 / EV_PER_A3_IN_BAR, "kbar": 1e3 / EV_PER_A3_IN_BAR, "bar": 1.0 / EV_PER_A3_IN_BAR,
    "mpa": 10.0 / EV_PER_A3_IN_BAR, "pa": 1e-5 / EV_PER_A3_IN_BAR, "atm": 1.01325 / EV_PER_A3_IN_BAR,
}  # fmt: skip
_ATOMIC = ("au", "atomic", "atomicunits", "hartreebohr")
_SYSTEMS = {"metal": (1.0, 1.0), "ase": (1.0, 1.0), "real": (KCAL_PER_MOL, 1.0)} | dict.fromkeys(
    _ATOMIC, (HARTREE, BOHR)
)  # energy, length
_QUANTITIES = {
    "energy": "energy", "energies": "energy", "virial": "energy", "length": "length", "distance": "length",
    "pos": "length", "position": "length", "positions": "length", "coordinates": "length", "cell": "length",
    "lattice": "length", "force": "force", "forces": "force", "stress": "stress", "": "",
}  # fmt: skip
_KEY = re.compile(
    rf"(?:({'|'.join(filter(None, _QUANTITIES))})[_-]?)?units?"
    r"|units?[_-](?:of[_-])?(energy|length|forces?|stress|positions?)",
    re.IGNORECASE,
)


class StatedUnits(NamedTuple):
    """Factors to eV, Å, eV/Å and eV/Å³; None where the header does not say."""

    energy: float | None = None
    length: float | None = None
    force: float | None = None
    stress: float | None = None


def _normal(word: str) -> str:
    """A unit in one spelling: lower case, no blanks, dots or signs of powers, exponents as divisions."""
    word = re.sub(r"å|ångströms?|ångstroms?|\bangstroems?|angstroms\b", "angstrom", word.strip().lower())
    word = re.sub(r"\s*[·*]?\s*(mol|angstrom|ang|a|bohr|a0|nm)\^?\{?-(\d)\}?", r"/\1\2", word)
    word = re.sub(r"/(\w+?)1(?=/|$)", r"/\1", word) if "/" in word else word
    return re.sub(r"\*\*|[\s.^()]|³", lambda found: "3" if found[0] == "³" else "", word).removesuffix("s")


def _energy(word: str) -> float | None:
    return HARTREE if word in _ATOMIC else _ENERGIES.get(word)


def _length(word: str) -> float | None:
    return BOHR if word in _ATOMIC else _LENGTHS.get(word)


def _quotient(word: str, power: str) -> float | None:
    """Factor of ``energy/length`` with the length to the power ``''`` or ``'3'``."""
    if word in _ATOMIC:
        return HARTREE / BOHR ** int(power or 1)
    energy, _, length = word.rpartition("/")
    if not (length.endswith(power) and energy in _ENERGIES and length.removesuffix(power) in _LENGTHS):
        return None
    return _ENERGIES[energy] / _LENGTHS[length.removesuffix(power)] ** int(power or 1)


def _factor(quantity: str, text: str) -> float | None:
    word = _normal(text)
    if quantity == "energy":
        return _energy(word)
    if quantity == "length":
        return _length(word)
    return _quotient(word, "") if quantity == "force" else _STRESSES.get(word, _quotient(word, "3"))


def is_unit(word: str) -> bool:
    """Whether a word is a unit of energy, force or stress (not of length: A and Å are too short to tell)."""
    return any(_factor(quantity, word) is not None for quantity in ("energy", "force", "stress"))


def take_units(info: dict[str, Any], where: str) -> StatedUnits | None:
    """Remove the units that a header states; None if it states none.

    Parameters
    ----------
    info : dict
        ``key=value`` pairs of a frame; those that are units are removed.
    where : str
        File and line for messages.

    Raises
    ------
    InputError
        For a unit that is not known, or two that contradict each other.
    """
    found: dict[str, float] = {}
    stated = False
    for key in list(info):
        match = _KEY.fullmatch(str(key))
        quantity = ((match[1] or match[2] or "") if match else "?").lower()
        if quantity not in _QUANTITIES:
            continue
        stated = True
        value = info.pop(key)
        parts = value.items() if isinstance(value, Mapping) else [(quantity, value)]
        for name, text in parts:
            for kind, factor in _parsed(str(key), _QUANTITIES.get(str(name).lower(), "?"), str(text), where):
                if abs(found.setdefault(kind, factor) / factor - 1.0) > 1e-6:
                    raise InputError(f"the units of the {kind} contradict each other", where=where)
    return StatedUnits(**found) if stated else None


def _parsed(key: str, quantity: str, text: str, where: str) -> list[tuple[str, float]]:
    """Quantities and factors of one value: one unit, or for ``units`` a system or several units."""
    if quantity not in ("", "?"):
        factor = _factor(quantity, text)
        if factor is not None:
            return [(quantity, factor)]
    elif quantity == "":
        if (system := _SYSTEMS.get(_normal(text))) is not None:
            return [("energy", system[0]), ("length", system[1])]
        found = []
        for word in re.split(r"[,;]\s*|\s+(?=[A-Za-zÅå])|-(?=[a-z])", text.strip().strip("[]()")):
            factors = [
                (kind, f) for kind in ("energy", "length", "force", "stress") if (f := _factor(kind, word))
            ]
            if not factors:
                break
            found.append(factors[0])
        else:
            return found
    raise InputError(
        f"{key}={text} is not a unit that can be converted", where=where,
        expected="eV, hartree, Ry, kcal/mol, kJ/mol; Å, bohr, nm; their quotients; GPa, kbar, bar",
    )  # fmt: skip


def converted(
    structure: Structure, stated: StatedUnits | None, given: UnitSystem | None, where: str
) -> Structure:
    """The structure in eV and Å, from the units that its header states or that the user gave.

    Raises
    ------
    InputError
        If the two contradict each other, or if the header leaves the unit of a label open.
    """
    if stated is None:
        stated = StatedUnits() if given is None else StatedUnits(given.energy, given.length)
    elif given is not None:
        for kind in ("energy", "length"):
            if abs((getattr(stated, kind) or 1.0) / getattr(given, kind) - 1.0) > 1e-6:
                raise InputError(
                    f"the header states other units of {kind} than {given.name}", where=where,
                    hint="leave units to the file",
                )  # fmt: skip
    energy, length, force, stress = stated
    if energy is not None and length is not None:
        force = energy / length if force is None else force
        stress = energy / length**3 if stress is None else stress
    if any(factor not in (None, 1.0) for factor in stated):
        energy = _determined("energy", energy, structure.energy, where)
        force = _determined("force", force, structure.forces, where)
        stress = _determined("stress", stress, structure.stress, where)
    if {energy, length, force, stress} <= {None, 1.0}:
        return structure
    return structure.replace(
        positions=structure.positions * (length or 1.0), cell=structure.cell * (length or 1.0),
        energy=None if structure.energy is None else structure.energy * (energy or 1.0),
        forces=None if structure.forces is None else structure.forces * (force or 1.0),
        stress=None if structure.stress is None else structure.stress * (stress or 1.0),
        dipole=None if structure.dipole is None else structure.dipole * (length or 1.0),
    )  # fmt: skip


def _determined(kind: str, factor: float | None, label: Any, where: str) -> float | None:
    if factor is None and label is not None:
        raise InputError(
            f"the header states some units but leaves that of the {kind} open", where=where,
            expected=f"{kind}_unit=... too, or units of both energy and length",
        )  # fmt: skip
    return factor
