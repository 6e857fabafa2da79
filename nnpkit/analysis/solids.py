"""Crystals: equation of state and elastic constants of any ASE calculator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np

from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.units import EV_PER_A3_IN_GPA

__all__ = [
    "ElasticConstants",
    "EquationOfState",
    "conventional",
    "crystals",
    "elastic_constants",
    "equation_of_state",
]

_VOIGT = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
_STILL = 0.05  # eV/Å: largest force of a structure that counts as a crystal at rest
_FORCE_TOLERANCE = 1e-3  # eV/Å, of relaxed ions
_RELAXATION_STEPS = 200


@dataclass
class EquationOfState:
    """Third order Birch-Murnaghan equation of state (Birch, Phys. Rev. 71, 809 (1947))."""

    volumes: np.ndarray  # (K,) Å³/atom
    energies: np.ndarray  # (K,) eV/atom
    volume: float  # of the minimum, Å³/atom
    energy: float  # there, eV/atom
    bulk_modulus: float  # GPa
    derivative: float  # of the bulk modulus by pressure
    residual: float  # root mean square deviation of the fit, eV/atom

    def __call__(self, volume: np.ndarray) -> np.ndarray:
        """Energy (eV/atom) at `volume` (Å³/atom)."""
        b = self.bulk_modulus / EV_PER_A3_IN_GPA
        x = (self.volume / np.asarray(volume)) ** (2.0 / 3.0) - 1.0
        return self.energy + 9.0 / 16.0 * self.volume * b * (
            x**3 * self.derivative + x**2 * (6.0 - 4.0 * (x + 1.0))
        )


@dataclass
class ElasticConstants:
    """Elastic constants with relaxed ions, in the axes of the cell that was given."""

    constants: np.ndarray  # (6, 6) GPa, Voigt order xx yy zz yz xz xy, symmetrised
    asymmetry: float  # GPa, largest |C_ij - C_ji| before that

    @property
    def bulk_modulus(self) -> float:
        """Voigt average, GPa."""
        return float(self.constants[:3, :3].mean())

    @property
    def shear_modulus(self) -> float:
        """Voigt average, GPa."""
        c = self.constants
        off = c[0, 1] + c[0, 2] + c[1, 2]
        return float((np.trace(c[:3, :3]) - off + 3.0 * np.trace(c[3:, 3:])) / 15.0)

    @property
    def stable(self) -> bool:
        """Whether every small strain costs energy (Born's criterion)."""
        return bool(np.linalg.eigvalsh(self.constants).min() > 0.0)


def crystals(structures: Sequence[Structure], number: int = 3) -> list[Structure]:
    """The structures that are crystals at rest: the lowest energy per atom of each composition.

    Periodic in three directions, labelled with an energy and forces of which none exceeds 0.05 eV/Å; up to `number`,
    those with fewest atoms first.
    """
    best: dict[str, Structure] = {}
    for s in structures:
        still = s.forces is not None and np.abs(s.forces).max() < _STILL
        if not (s.pbc.all() and still and s.energy is not None):
            continue
        key = repr(sorted((e, n / s.n_atoms) for e, n in s.composition.items()))
        known = best.get(key)
        if known is None or s.energy / s.n_atoms < (known.energy or 0.0) / known.n_atoms - 1e-6:
            best[key] = s
    return sorted(best.values(), key=lambda s: s.n_atoms)[:number]


def conventional(structure: Structure, tolerance: float = 0.01) -> Structure:
    """The conventional cell of a crystal in standard axes, by spglib if it is installed and finds a smaller cell.

    Parameters
    ----------
    structure : Structure
        Periodic in three directions.
    tolerance : float
        Å, by which atoms may be off their places.
    """
    if find_spec("spglib") is None or not structure.pbc.all():
        return structure
    import spglib
    from ase.data import atomic_numbers, chemical_symbols

    fractional = np.linalg.solve(structure.cell.T, structure.positions.T).T
    kinds = [atomic_numbers[symbol] for symbol in structure.symbols]
    found = spglib.standardize_cell(
        (structure.cell, fractional, kinds), to_primitive=False, symprec=tolerance
    )
    if found is None or len(found[2]) > structure.n_atoms:
        return structure
    cell, places, numbers = found
    symbols = [chemical_symbols[n] for n in numbers]
    return Structure(
        symbols, np.asarray(places) @ cell, np.asarray(cell), np.ones(3, dtype=bool), name=structure.name
    )


def equation_of_state(
    structure: Structure, calculator: Any, strain: float = 0.06, points: int = 9
) -> EquationOfState:
    """Energies of a crystal scaled to several volumes, fitted twice: about the given and about the found volume.

    Fractional coordinates are kept, so crystals with free internal coordinates look stiffer than they are.

    Parameters
    ----------
    structure : Structure
        Periodic in three directions.
    calculator : ase.calculators.calculator.Calculator
        Of energies.
    strain : float
        Largest relative change of the volume.
    points : int
        Number of volumes, at least 5.

    Raises
    ------
    InputError
        If the structure is not periodic, or there is no minimum to be found.
    """
    if not structure.pbc.all():
        raise InputError(
            "an equation of state needs a crystal", where=structure.name, expected="3 periodic directions"
        )
    center = structure.volume / structure.n_atoms
    fit = _fit(structure, calculator, center, max(strain, 0.1), points)
    return _fit(structure, calculator, fit.volume, strain, points)


def _fit(structure: Structure, calculator: Any, center: float, strain: float, points: int) -> EquationOfState:
    volumes = center * np.linspace(1.0 - strain, 1.0 + strain, points)
    energies = np.array([_scaled(structure, calculator, v).get_potential_energy() for v in volumes])
    energies /= structure.n_atoms
    polynomial = np.polynomial.Polynomial.fit(volumes ** (-2.0 / 3.0), energies, 3)
    roots = polynomial.deriv().roots()
    low, high = volumes[0] * 0.8, volumes[-1] * 1.25
    found = [
        float(r.real) ** -1.5
        for r in np.atleast_1d(roots)
        if abs(r.imag) < 1e-12 and r.real > 0.0 and polynomial.deriv(2)(r.real) > 0.0
    ]
    found = [v for v in found if low < v < high]
    if not found:
        raise InputError("the energy has no minimum near this volume", where=structure.name)
    v0 = min(found, key=lambda v: abs(v - center))
    x, first, second, third = v0 ** (-2.0 / 3.0), *(polynomial.deriv(n) for n in (1, 2, 3))
    # with x = V^(-2/3): dE/dV = 0 at V0, and B and B' from the derivatives by x
    b = 4.0 / 9.0 * second(x) * x**2 / v0
    derivative = 4.0 + 2.0 / 3.0 * third(x) * x / second(x) if second(x) else np.nan
    residual = float(np.sqrt(np.mean((polynomial(volumes ** (-2.0 / 3.0)) - energies) ** 2)))
    assert abs(first(x)) < 1e-6 * abs(second(x) * x) + 1e-9
    return EquationOfState(
        volumes, energies, v0, float(polynomial(x)), float(b) * EV_PER_A3_IN_GPA, float(derivative), residual
    )


def _scaled(structure: Structure, calculator: Any, volume: float) -> Any:
    """`ase.Atoms` with `volume` (Å³/atom) and the same fractional coordinates."""
    atoms = _bare(structure)
    factor = (volume * structure.n_atoms / structure.volume) ** (1.0 / 3.0)
    atoms.set_cell(atoms.cell * factor, scale_atoms=True)
    atoms.calc = calculator
    return atoms


def _bare(structure: Structure) -> Any:
    from ase import Atoms

    return Atoms(structure.symbols, structure.positions, cell=structure.cell, pbc=structure.pbc)


def elastic_constants(
    structure: Structure, calculator: Any, volume: float | None = None, strain: float = 0.005
) -> ElasticConstants:
    """Elastic constants from central differences of the stress, the ions relaxed in every strained cell.

    Parameters
    ----------
    structure : Structure
        Periodic in three directions; constants are those of its stress-free state only if it has no stress.
    calculator : ase.calculators.calculator.Calculator
        Of forces and stresses.
    volume : float, optional
        Å³/atom to scale the crystal to first, e.g. `EquationOfState.volume`.
    strain : float
        Of every component, plus and minus.

    Raises
    ------
    InputError
        If the structure is not periodic.
    """
    if not structure.pbc.all():
        raise InputError(
            "elastic constants need a crystal", where=structure.name, expected="3 periodic directions"
        )
    start = _scaled(structure, calculator, volume or structure.volume / structure.n_atoms)
    _relax(start)
    constants = np.zeros((6, 6))
    for k, (a, b) in enumerate(_VOIGT):
        stress = []
        for sign in (1.0, -1.0):
            deformation = np.eye(3)
            deformation[a, b] += sign * strain / 2.0  # half twice: off the diagonal gamma = strain
            deformation[b, a] += sign * strain / 2.0
            strained = start.copy()
            strained.set_cell(start.cell @ deformation, scale_atoms=True)
            strained.calc = calculator
            _relax(strained)
            stress.append(strained.get_stress())
        constants[:, k] = (stress[0] - stress[1]) / (2.0 * strain) * EV_PER_A3_IN_GPA
    return ElasticConstants((constants + constants.T) / 2.0, float(np.abs(constants - constants.T).max()))


def _relax(atoms: Any) -> None:
    """Move the ions until no force is larger than the tolerance, if any is."""
    if np.abs(atoms.get_forces()).max() < _FORCE_TOLERANCE:
        return
    from ase.optimize import LBFGS

    with LBFGS(atoms, logfile=None) as optimizer:
        optimizer.run(fmax=_FORCE_TOLERANCE, steps=_RELAXATION_STEPS)
