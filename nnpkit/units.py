"""Units and sign conventions: the one place that defines them.

Internal units everywhere: length Å, energy eV, mass amu, time fs, force eV/Å, stress eV/Å³.
Everything else is converted where it enters or leaves the program.

Sign convention of the virial and the stress (strain ``e`` maps ``r`` to ``(1 + e) r``)::

    virial W = -dE/de            (eV)
    stress s = +1/V dE/de = -W/V (eV/Å³; ASE's sign: a compressed sample has negative stress)
    pressure p = -trace(s)/3 = trace(W)/(3 V)   (static part)

With ``g = dE/d(edge_vec)`` the virial is ``W = -sum_e r_e (x) g_e``.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = [
    "ANGSTROM_EV", "BOHR", "BOHR_HARTREE", "EV_PER_A3_IN_BAR", "EV_PER_A3_IN_GPA", "HARTREE", "KCAL_PER_MOL",
    "UnitSystem", "stress_from_virial", "unit_system", "virial_from_stress",
]  # fmt: skip

BOHR = 0.529177210903
"""Å per bohr (CODATA 2018)."""
HARTREE = 27.211386245988
"""eV per hartree (CODATA 2018)."""
KCAL_PER_MOL = 0.043364104241800934
"""eV per kcal/mol."""
EV_PER_A3_IN_GPA = 160.21766339999998
"""GPa per eV/Å³."""
EV_PER_A3_IN_BAR = 1.602176634e6
"""bar per eV/Å³."""


class UnitSystem(NamedTuple):
    """Multiply a value given in this system by these factors to get internal units."""

    name: str
    length: float  # Å per unit of length
    energy: float  # eV per unit of energy

    @property
    def force(self) -> float:
        """Factor from this system's force to eV/Å."""
        return self.energy / self.length

    @property
    def stress(self) -> float:
        """Factor from this system's energy per volume to eV/Å³."""
        return self.energy / self.length**3


ANGSTROM_EV = UnitSystem("angstrom-ev", 1.0, 1.0)
BOHR_HARTREE = UnitSystem("bohr-hartree", BOHR, HARTREE)
_SYSTEMS = {system.name: system for system in (ANGSTROM_EV, BOHR_HARTREE)}


def unit_system(name: str) -> UnitSystem:
    """Unit system called `name`: ``angstrom-ev`` or ``bohr-hartree``; KeyError for any other."""
    return _SYSTEMS[name]


def virial_from_stress(stress, volume):
    """Virial W (eV) of a stress in ASE's sign (eV/Å³): ``W = -stress * volume``."""
    return -stress * volume


def stress_from_virial(virial, volume):
    """Stress in ASE's sign (eV/Å³) of a virial (eV): ``stress = -W / volume``."""
    return -virial / volume
