"""Units of a RuNNer or n2p2 potential: the folder does not say, so somebody has to, or they are inferred."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from nnpkit.errors import InputError
from nnpkit.families.acsf.runner_settings import RunnerSettings
from nnpkit.units import ANGSTROM_EV, BOHR, BOHR_HARTREE, UnitSystem, unit_system

__all__ = ["OWN_COMMENT", "UNIT_NAMES", "RunnerUnits", "find_units", "given_units"]

UNIT_NAMES = ("angstrom-ev", "bohr-hartree")
OWN_COMMENT = "nnpkit units:"
"""Start of the comment in which nnpkit says the units of the files it writes."""
_LONGEST_IN_ANGSTROM = 9.0
_SHORTEST_IN_BOHR = 5.5
_HINT = (
    "say which: units angstrom-ev or bohr-hartree, or cflength and cfenergy as in LAMMPS' pair_style hdnnp"
)
_COMMENT = re.compile(r"(length|energy) unit\s*[:=]\s*([a-zA-ZÅå]+)", re.IGNORECASE)
_WORDS = {
    "length": {
        "bohr": "bohr",
        "a": "angstrom",
        "å": "angstrom",
        "angstrom": "angstrom",
        "angstroem": "angstrom",
    },
    "energy": {"ha": "hartree", "hartree": "hartree", "ev": "ev"},
}


class RunnerUnits(NamedTuple):
    """Units of a potential and how they are known."""

    system: UnitSystem
    reason: str
    inferred: bool  # neither the user nor the file says so in words made for it


def given_units(units: str | None, cflength: float | None, cfenergy: float | None) -> UnitSystem | None:
    """Units that the user names, None if there are none.

    Parameters
    ----------
    units : {"angstrom-ev", "bohr-hartree"}, optional
        By name, or
    cflength, cfenergy : float, optional
        the potential's units of length per Å and of energy per eV: LAMMPS' numbers for ``units metal``.

    Raises
    ------
    InputError
        For another name, or numbers without a partner.
    """
    if cflength is not None or cfenergy is not None:
        if (
            units is not None
            or cflength is None
            or cfenergy is None
            or not (cflength > 0.0 and cfenergy > 0.0)
        ):
            raise InputError(
                "units of the potential", expected="a name, or both of cflength and cfenergy, positive"
            )
        return UnitSystem(f"cflength={cflength!r} cfenergy={cfenergy!r}", 1.0 / cflength, 1.0 / cfenergy)
    if units is None:
        return None
    try:
        return unit_system(units)
    except KeyError:
        raise InputError(f"unknown units {units!r}", expected=" or ".join(UNIT_NAMES)) from None


def find_units(settings: RunnerSettings, cutoffs: Iterable[float], given: UnitSystem | None) -> RunnerUnits:
    """Units of a potential: as given, as a comment in the settings says, or inferred from the cutoffs.

    A cutoff beyond 9 is in bohr, one below 5.5 in Å. One that becomes round only when converted (7.7478771
    bohr = 4.1 Å) tells its unit too. What remains open is refused rather than guessed.

    Raises
    ------
    InputError
        If the units cannot be told.
    """
    if given is not None:
        return RunnerUnits(given, "as given", False)
    for comment in settings.comments:
        if comment.startswith(OWN_COMMENT):
            return RunnerUnits(_own(comment, settings), "as written in input.nn", False)
    named = {kind.lower(): word for comment in settings.comments for kind, word in _COMMENT.findall(comment)}
    system = _of_words(named)
    if system is not None:
        words = f"length unit {named['length']}, energy unit {named['energy']}"
        return RunnerUnits(system, f"its comments say {words}", True)
    longest = max(cutoffs)
    if longest > _LONGEST_IN_ANGSTROM:
        return RunnerUnits(BOHR_HARTREE, f"its cutoff {longest:g} is too long to be in Å", True)
    if longest < _SHORTEST_IN_BOHR:
        return RunnerUnits(ANGSTROM_EV, f"its cutoff {longest:g} is too short to be in bohr", True)
    if not _is_round(longest):
        if _is_round(longest * BOHR):
            return RunnerUnits(BOHR_HARTREE, f"its cutoff {longest:g} bohr is {longest * BOHR:.4g} Å", True)
        if _is_round(longest / BOHR):
            return RunnerUnits(ANGSTROM_EV, f"its cutoff {longest:g} Å is {longest / BOHR:.4g} bohr", True)
    raise InputError(
        f"the units of this potential cannot be told from its cutoff {longest:g}",
        where=str(settings.path),
        hint=_HINT,
    )


def _own(comment: str, settings: RunnerSettings) -> UnitSystem:
    name = comment[len(OWN_COMMENT) :].split()[:1]
    try:
        return unit_system(name[0])
    except (IndexError, KeyError):
        raise InputError(
            f"comment {comment!r}", where=str(settings.path), expected=" or ".join(UNIT_NAMES)
        ) from None


def _of_words(named: dict[str, str]) -> UnitSystem | None:
    length, energy = (_WORDS[kind].get(named.get(kind, "").lower()) for kind in ("length", "energy"))
    if (length, energy) == ("bohr", "hartree"):
        return BOHR_HARTREE
    return ANGSTROM_EV if (length, energy) == ("angstrom", "ev") else None


def _is_round(length: float) -> bool:
    """Whether `length` is a multiple of 0.05, as far as the digits in such files go."""
    return abs(20.0 * length - round(20.0 * length)) < 1e-5
