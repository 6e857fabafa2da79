"""Properties of a crystal at rest by their names, of any calculator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nnpkit.analysis.crystal_figures import phonon_figure, state_figure
from nnpkit.analysis.phonons import phonons
from nnpkit.analysis.plots import COLORS, canvas, png
from nnpkit.analysis.properties.defects import Compression, compression, relaxed, surface_energies, vacancies
from nnpkit.analysis.properties.interstitials import interstitials
from nnpkit.analysis.properties.results import Result, attempt
from nnpkit.analysis.properties.stacking import StackingFault, stacking_fault
from nnpkit.analysis.properties.study_options import Options
from nnpkit.analysis.solids import elastic_constants, equation_of_state
from nnpkit.data.structure import Structure

__all__ = ["STATIC", "static_properties"]

STATIC = ("eos", "compression", "elastic", "vacancy", "interstitial", "surfaces", "stacking", "phonons")
"""Properties of a crystal at rest, by any calculator."""
_VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")


def static_properties(
    structure: Structure, calculator: Any, names: Sequence[str], options: Options,
    tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Result]:  # fmt: skip
    """Properties of the crystal at rest that `calculator` makes of `structure`.

    Parameters
    ----------
    structure : Structure
        Periodic in three directions; its cell and ions are relaxed first.
    calculator : ase.calculators.calculator.Calculator
        Of energies, forces and stresses.
    names : sequence of str
        Of `STATIC`.
    options : Options
        How.
    tell : callable
        Told what is computed next.

    Returns
    -------
    dict of str to Result
        ``crystal``, the relaxed cell, and those that were asked for; one that cannot be computed says why in
        ``failed``.

    Raises
    ------
    InputError
        If the crystal cannot be relaxed.
    """
    tell("relaxing the crystal")
    rest = relaxed(structure, calculator)
    energy = _energy(rest, calculator)
    edges = [float(np.linalg.norm(edge)) for edge in rest.cell]
    found = {
        "crystal": Result(
            {
                "volume": (rest.volume / rest.n_atoms, "Å³/atom"),
                "energy": (energy / rest.n_atoms, "eV/atom"),
                **{name: (edge, "Å") for name, edge in zip("abc", edges, strict=True)},
            }
        )
    }
    actions: Mapping[str, Callable[[], Result]] = {
        "eos": lambda: _eos(rest, calculator),
        "compression": lambda: _compression(rest, calculator, options),
        "elastic": lambda: _elastic(rest, calculator),
        "vacancy": lambda: _vacancy(rest, calculator, options),
        "interstitial": lambda: _interstitial(rest, calculator, options),
        "stacking": lambda: _stacking(rest, calculator),
        "surfaces": lambda: _surfaces(rest, calculator, options),
        "phonons": lambda: _phonons(rest, calculator, options),
    }
    for name in names:
        tell(name)
        found[name] = attempt(actions[name])
    return found


def _energy(structure: Structure, calculator: Any) -> float:
    atoms = structure.to_atoms()
    atoms.calc = calculator
    return float(atoms.get_potential_energy())


def _eos(rest: Structure, calculator: Any) -> Result:
    state = equation_of_state(rest, calculator)
    return Result(
        {
            "bulk modulus": (state.bulk_modulus, "GPa"),
            "its derivative by pressure": (state.derivative, ""),
            "volume of the minimum": (state.volume, "Å³/atom"),
        },
        curves={"volumes": state.volumes.tolist(), "energies": state.energies.tolist()},
        figures=[("Equation of state", state_figure(state))],
        notes=[
            "the shape of the cell and fractional coordinates are kept; where they are free the crystal is softer: see "
            "elastic and compression"
        ],
    )


def _compression(rest: Structure, calculator: Any, options: Options) -> Result:
    found = compression(rest, calculator, np.linspace(0.0, options.pressure_max, 9).tolist())
    end = f"volume at {options.pressure_max:g} GPa, of that at 0"
    return Result(
        {end: (float(found.volumes[-1] / found.volumes[0]), "")},
        curves={
            "pressures": found.pressures.tolist(), "volumes": found.volumes.tolist(),
            "enthalpies": found.enthalpies.tolist(),
        },
        figures=[("Compression, cell and ions relaxed", _compression_figure(found))],
    )  # fmt: skip


def _compression_figure(found: Compression) -> bytes:
    with canvas((5.4, 3.7)) as fig:
        ax = fig.subplots()
        ax.plot(found.volumes, found.pressures, "o-", color=COLORS[0], ms=4)
        ax.set(xlabel="Volume (Å³/atom)", ylabel="Pressure (GPa)")
        return png(fig)


def _elastic(rest: Structure, calculator: Any) -> Result:
    found = elastic_constants(rest, calculator)
    c = found.constants
    largest = float(np.abs(c).max())
    values = {
        f"C{i + 1}{j + 1}": (float(c[i, j]), "GPa")
        for i in range(6)
        for j in range(i, 6)
        if abs(c[i, j]) > 1e-3 * largest
    }
    values |= {
        "bulk modulus (Voigt)": (found.bulk_modulus, "GPa"),
        "shear modulus (Voigt)": (found.shear_modulus, "GPa"),
    }
    notes = [] if found.stable else ["some small strain lowers the energy: the crystal is not stable"]
    return Result(values, curves={"order": list(_VOIGT), "constants": c.tolist()}, notes=notes)


def _vacancy(rest: Structure, calculator: Any, options: Options) -> Result:
    result = Result()
    for number, found in enumerate(vacancies(rest, calculator, options.extent), 1):
        name = f"vacancy {number} of {found.element}"
        result.values[name] = (found.energy, "eV")
        result.values[f"{name}, before relaxation"] = (found.unrelaxed, "eV")
        result.notes = [f"supercell of {found.n_atoms} atoms at constant volume"]
    return result


def _interstitial(rest: Structure, calculator: Any, options: Options) -> Result:
    result = Result()
    found = interstitials(rest, calculator, options.extent)
    for one in found:
        result.values[one.kind] = (one.energy, "eV")
        result.values[f"{one.kind}, before relaxation"] = (one.unrelaxed, "eV")
    result.notes = [
        f"supercell of {found[0].n_atoms} atoms at constant volume",
        "an interstitial with the energy of another one has relaxed into it",
    ]
    return result


def _stacking(rest: Structure, calculator: Any) -> Result:
    found = stacking_fault(rest, calculator)
    return Result(
        {
            "intrinsic stacking fault": (found.intrinsic, "mJ/m²"),
            "unstable stacking fault": (found.unstable, "mJ/m²"),
        },
        curves={
            "displacements": found.displacements.tolist(), "energies": found.energies.tolist(),
            "unrelaxed": found.unrelaxed.tolist(),
        },
        figures=[("Sliding along [11-2] on (111), in Burgers vectors of a partial", _stacking_figure(found))],
        notes=[f"{found.n_atoms} planes of (111), relaxed along the normal, at the height of the crystal"],
    )  # fmt: skip


def _stacking_figure(found: StackingFault) -> bytes:
    with canvas((5.4, 3.7)) as fig:
        ax = fig.subplots()
        ax.plot(found.displacements, found.energies, "o-", color=COLORS[0], ms=4, label="relaxed")
        ax.plot(found.displacements, found.unrelaxed, "--", color=COLORS[1], label="before")
        ax.axhline(0.0, color=COLORS[5], linewidth=0.7)
        ax.set(xlabel="Displacement (Burgers vector of a partial)", ylabel="Energy (mJ/m²)")
        ax.legend()
        return png(fig)


def _surfaces(rest: Structure, calculator: Any, options: Options) -> Result:
    result = Result()
    for found in surface_energies(rest, calculator, options.surfaces):
        result.values[f"({found.miller})"] = (found.energy, "J/m²")
        result.notes.append(f"({found.miller}): {found.n_atoms} atoms, {found.thickness:.3g} Å thick")
    return result


def _phonons(rest: Structure, calculator: Any, options: Options) -> Result:
    found = phonons(rest, calculator, extent=options.extent)
    notes = [] if found.stable else ["imaginary frequencies: the crystal is not stable"]
    return Result(
        {
            "highest frequency": (float(found.bands.max()), "THz"),
            "lowest frequency": (found.lowest, "THz"),
        },
        curves={
            "special_points": [[x, name] for x, name in found.labels], "distance": found.distance.tolist(),
            "bands": found.bands.tolist(), "frequency": found.frequency.tolist(), "density": found.density.tolist(),
        },
        figures=[("Phonons", phonon_figure(found))],
        notes=[*notes, f"supercell {'x'.join(map(str, found.supercell))}"],
    )  # fmt: skip
