"""Crystals at zero temperature: relaxation, compression, vacancies and surfaces, with any ASE calculator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from math import gcd
from typing import Any

import numpy as np

from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.units import EV_PER_A3_IN_GPA

__all__ = [
    "J_PER_M2",
    "Compression",
    "Surface",
    "Vacancy",
    "compression",
    "miller",
    "optimise",
    "relaxed",
    "require_element",
    "supercell",
    "surface_energies",
    "vacancies",
]

_FORCE_TOLERANCE = 2e-3  # eV/Å
_STEPS = 500
J_PER_M2 = 16.02176634  # J/m² per eV/Å²


@dataclass
class Compression:
    """A crystal under hydrostatic pressure, its cell and ions relaxed."""

    pressures: np.ndarray  # (K,) GPa, asked for
    volumes: np.ndarray  # (K,) Å³/atom
    enthalpies: np.ndarray  # (K,) eV/atom


@dataclass
class Vacancy:
    """One atom taken out of a crystal at constant volume, the others relaxed."""

    element: str
    energy: float  # of formation, eV
    unrelaxed: float  # the same before the others move, eV
    n_atoms: int  # of the perfect supercell


@dataclass
class Surface:
    """A slab with two relaxed surfaces."""

    miller: str
    energy: float  # J/m²
    unrelaxed: float  # J/m²
    n_atoms: int
    thickness: float  # Å


def relaxed(structure: Structure, calculator: Any, pressure: float = 0.0) -> Structure:
    """The crystal at rest: cell and ions move until no force is left, under a `pressure` in GPa.

    Parameters
    ----------
    structure : Structure
        Periodic in three directions.
    calculator : ase.calculators.calculator.Calculator
        Of forces and stresses.
    pressure : float
        GPa.

    Raises
    ------
    InputError
        If the structure is not periodic, or does not come to rest.
    """
    if not structure.pbc.all():
        raise InputError("this needs a crystal", where=structure.name, expected="3 periodic directions")
    atoms = structure.to_atoms()
    atoms.calc = calculator
    optimise(atoms, structure.name, pressure)
    return Structure.from_atoms(_bare(atoms), structure.name)


def _bare(atoms: Any) -> Any:
    copy = atoms.copy()
    copy.calc = None
    return copy


def optimise(atoms: Any, name: str, pressure: float | None = None) -> float:
    """Relax ions, and with a `pressure` (GPa) the cell; the energy in eV.

    Raises
    ------
    InputError
        If they do not come to rest.
    """
    from ase.filters import FrechetCellFilter
    from ase.optimize import LBFGS

    system = (
        atoms if pressure is None else FrechetCellFilter(atoms, scalar_pressure=pressure / EV_PER_A3_IN_GPA)
    )
    with LBFGS(system, logfile=None) as optimizer:
        converged = optimizer.run(fmax=_FORCE_TOLERANCE, steps=_STEPS)
    energy = float(atoms.get_potential_energy())
    if not converged or not np.isfinite(energy):
        raise InputError(f"it does not come to rest in {_STEPS} steps", where=name)
    return energy


def compression(structure: Structure, calculator: Any, pressures: Sequence[float]) -> Compression:
    """Volumes and enthalpies at `pressures` (GPa, rising from zero), each relaxed from the one before.

    Raises
    ------
    InputError
        If the crystal does not come to rest under one of them.
    """
    volumes, enthalpies, current = [], [], structure
    for pressure in pressures:
        current = relaxed(current, calculator, float(pressure))
        atoms = current.to_atoms()
        atoms.calc = calculator
        energy = float(atoms.get_potential_energy())
        volumes.append(current.volume / current.n_atoms)
        enthalpies.append(energy / current.n_atoms + pressure / EV_PER_A3_IN_GPA * volumes[-1])
    return Compression(np.asarray(pressures, dtype=np.float64), np.array(volumes), np.array(enthalpies))


def require_element(structure: Structure, defect: str) -> None:
    """Refuse compounds, where the energy of a `defect` depends on what the other atoms are in.

    Raises
    ------
    InputError
        If there are several elements.
    """
    if len(set(structure.symbols)) > 1:
        raise InputError(
            f"of a compound the energy of {'an' if defect[0] in 'aeio' else 'a'} {defect} depends on where atoms go",
            where=structure.name, expected="a crystal of one element",
        )  # fmt: skip


def supercell(structure: Structure, extent: float) -> Any:
    """The crystal repeated until it is `extent` Å wide, as `ase.Atoms`."""
    widths = 1.0 / np.linalg.norm(np.linalg.inv(structure.cell), axis=0)
    return structure.to_atoms().repeat([int(n) for n in np.maximum(1, np.ceil(extent / widths - 1e-6))])


def vacancies(structure: Structure, calculator: Any, extent: float = 10.0) -> list[Vacancy]:
    """Formation energies of vacancies in a crystal of one element, one for each kind of site.

    ``E(N - 1) - (N - 1)/N E(N)``, at constant volume, the atoms relaxed.

    Parameters
    ----------
    structure : Structure
        At rest.
    calculator : ase.calculators.calculator.Calculator
        Of forces.
    extent : float
        Å; the supercell is at least that wide.

    Raises
    ------
    InputError
        If there are several elements: energies would depend on what the other atom is in.
    """
    require_element(structure, "vacancy")
    perfect = supercell(structure, extent)
    perfect.calc = calculator
    whole, number = float(perfect.get_potential_energy()), len(perfect)
    found: list[Vacancy] = []
    for site in _sites(structure):
        atoms = perfect.copy()
        del atoms[site]
        atoms.calc = calculator
        left = whole * (number - 1) / number
        first = float(atoms.get_potential_energy()) - left
        last = optimise(atoms, f"{structure.name}, vacancy {site}") - left
        found.append(Vacancy(structure.symbols[site], last, first, number))
    return found


def _sites(structure: Structure) -> list[int]:
    """One atom of each kind of site, by spglib if it is installed; else the first atom."""
    from importlib.util import find_spec

    if find_spec("spglib") is None:
        return [0]
    import spglib
    from ase.data import atomic_numbers

    fractional = np.linalg.solve(structure.cell.T, structure.positions.T).T
    kinds = [atomic_numbers[symbol] for symbol in structure.symbols]
    data = spglib.get_symmetry_dataset((structure.cell, fractional, kinds), symprec=1e-3)
    return [0] if data is None else sorted({int(n) for n in data.equivalent_atoms})


def surface_energies(
    structure: Structure,
    calculator: Any,
    millers: Sequence[str],
    thickness: float = 15.0,
    vacuum: float = 10.0,
) -> list[Surface]:
    """Energies of surfaces: half of what a slab has more than the crystal, by its area.

    Slabs are stoichiometric; of a compound both sides may differ, and the energy is their mean.

    Parameters
    ----------
    structure : Structure
        The conventional cell, at rest.
    calculator : ase.calculators.calculator.Calculator
        Of forces.
    millers : sequence of str
        As ``111`` or ``1 0 -1``.
    thickness, vacuum : float
        Å; the least thickness of the slab, and the vacuum between slabs.

    Raises
    ------
    InputError
        If an index is none, or a slab does not come to rest.
    """
    from ase.build import surface

    bulk = structure.to_atoms()
    bulk.calc = calculator
    per_atom = float(bulk.get_potential_energy()) / len(bulk)
    found = []
    for text in millers:
        indices = miller(text)
        layer = surface(_bare(bulk), indices, 1, vacuum=None, periodic=True)
        height = float(layer.get_volume() / np.linalg.norm(np.cross(*layer.cell[:2])))
        layers = max(1, int(np.ceil(thickness / height)))
        slab = surface(_bare(bulk), indices, layers, vacuum=vacuum / 2, periodic=True)
        slab.calc = calculator
        area = float(np.linalg.norm(np.cross(slab.cell[0], slab.cell[1])))
        first = float(slab.get_potential_energy()) - len(slab) * per_atom
        last = optimise(slab, f"{structure.name}, surface {text}") - len(slab) * per_atom
        scale = J_PER_M2 / (2.0 * area)
        found.append(Surface(text, last * scale, first * scale, len(slab), layers * height))
    return found


def miller(text: str) -> tuple[int, int, int]:
    """The three indices of ``111`` or ``1 0 -1``.

    Raises
    ------
    InputError
        If they are none, or all zero.
    """
    words = text.split() if " " in text.strip() else list(text.strip())
    try:
        h, k, l = (int(word) for word in words)  # noqa: E741
    except ValueError:
        h = k = l = 0  # noqa: E741
    if not reduce(gcd, (h, k, l)):
        raise InputError(
            f"surface {text!r}", where="--surfaces", expected="three indices, as 111 or '1 0 -1'"
        )
    return h, k, l
