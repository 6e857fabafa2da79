"""Commands of LAMMPS for the heat flux, and for the currents of elements that it is measured against."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["CURRENT", "FLUX", "Output", "heat_flux_output"]

FLUX = tuple(f"heat_flux_{x}_eV_A_ps" for x in "xyz")
"""Columns of ``thermo.csv``: the heat flux of the whole cell, eV Å/ps."""
CURRENT = "v_current_{type}_{axis}"
"""Columns of ``thermo.csv``: the sum of the velocities of the atoms of a type, Å/ps."""


class Output(NamedTuple):
    """Commands, and the columns of `thermo_style` that they make."""

    commands: list[str]
    columns: list[str]


def heat_flux_output(types: Sequence[str]) -> Output:
    """What LAMMPS computes for a thermal conductivity.

    The virial of an atom is the centroid one, which is right for potentials of many bodies (Surblys et al., Phys. Rev.
    E 99, 051301 (2019)). Where there are several elements their currents belong to it: how energies are divided between
    elements is arbitrary, and moves as much heat as they do.

    Parameters
    ----------
    types : sequence of str
        Element of atom type 1, 2, ...
    """
    commands = [
        "compute         flux_kinetic all ke/atom",
        "compute         flux_potential all pe/atom",
        "compute         flux_virial all centroid/stress/atom NULL virial",
        "compute         heat_flux all heat/flux flux_kinetic flux_potential flux_virial  # eV Angstrom/ps",
    ]
    columns = [f"c_heat_flux[{n}]" for n in (1, 2, 3)]
    for number in range(1, len(types) + 1) if len(types) > 1 else ():
        commands.append(f"group           flux_{number} type {number}")
        for axis in "xyz":
            columns.append(CURRENT.format(type=number, axis=axis))
            name = columns[-1].removeprefix("v_")
            commands.append(f"variable        {name} equal count(flux_{number})*vcm(flux_{number},{axis})")
    return Output(commands, columns)
