"""Properties of one structure by their names: numbers with units, notes and figures, of a potential and a reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ase.calculators.calculator import CalculatorError

from nnpkit.analysis.crystal_figures import phonon_figure, state_figure
from nnpkit.analysis.phonons import has_phonopy, phonons
from nnpkit.analysis.plots import COLORS, canvas, png
from nnpkit.analysis.properties import thermal
from nnpkit.analysis.properties.defects import (
    Compression,
    compression,
    relaxed,
    require_element,
    surface_energies,
    vacancies,
)
from nnpkit.analysis.properties.hot_elastic import HotElastic, hot_elastic, independent
from nnpkit.analysis.properties.interstitials import interstitials
from nnpkit.analysis.properties.stacking import StackingFault, require_fcc, stacking_fault
from nnpkit.analysis.solids import elastic_constants, equation_of_state
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import LoadedModel
from nnpkit.errors import InputError, NnpkitError
from nnpkit.md.simulation_settings import Simulation

__all__ = [
    "MOVING",
    "STATIC",
    "Options",
    "Result",
    "moving_properties",
    "require_possible",
    "static_properties",
    "wanted_properties",
]

STATIC = ("eos", "compression", "elastic", "vacancy", "interstitial", "surfaces", "stacking", "phonons")
"""Properties of a crystal at rest, by any calculator."""
MOVING = ("expansion", "hot-elastic", "diffusion", "viscosity", "vibrations")
"""Properties that need simulations."""
_REFUSED = {
    "conductivity": "thermal conductivity is not among them; LAMMPS computes it with compute heat/flux from "
    "compute centroid/stress/atom, which pair_style nnpkit supports",
}
_VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")


@dataclass(frozen=True)
class Options:
    """How properties are computed.

    Attributes
    ----------
    pressure_max : float
        GPa, of the compression.
    surfaces : sequence of str
        Their indices.
    extent : float
        Å; supercells of vacancies, interstitials and phonons are at least that wide.
    temperatures : sequence of float
        K, rising, of thermal expansion.
    """

    pressure_max: float = 50.0
    surfaces: Sequence[str] = ("111", "100", "110")
    extent: float = 10.0
    temperatures: Sequence[float] = (200.0, 400.0, 600.0)


@dataclass
class Result:
    """Numbers of one property."""

    values: dict[str, tuple[float, str]] = field(default_factory=dict)  # by name: value and unit
    errors: dict[str, float] = field(default_factory=dict)  # standard errors, where there are some
    curves: dict[str, Any] = field(default_factory=dict)  # plain lists, for JSON
    figures: list[tuple[str, bytes]] = field(default_factory=list)  # caption and PNG
    notes: list[str] = field(default_factory=list)
    failed: str = ""  # why there are no numbers

    def plain(self) -> dict[str, Any]:
        """Everything but the figures, for JSON."""
        content: dict[str, Any] = {
            name: {"value": value, "unit": unit} for name, (value, unit) in self.values.items()
        }
        for name, error in self.errors.items():
            content[name]["error"] = error
        more = (("curves", self.curves), ("notes", self.notes), ("failed", self.failed))
        return content | {k: v for k, v in more if v}


def wanted_properties(text: str) -> list[str]:
    """Names of properties in ``eos,elastic``, each once.

    Raises
    ------
    InputError
        If there is no such property.
    """
    names = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    for name in names:
        if name in _REFUSED:
            raise InputError(_REFUSED[name], where="--what")
    unknown = [name for name in names if name not in (*STATIC, *MOVING)]
    if unknown or not names:
        raise InputError(
            f"unknown property {(unknown or [''])[0]!r}",
            where="--what",
            expected=", ".join((*STATIC, *MOVING)),
        )
    return names


def require_possible(
    structure: Structure, names: Sequence[str], options: Options, settings: Simulation
) -> None:
    """Say before anything is computed what cannot be.

    Raises
    ------
    InputError
        For point defects of a compound, stacking faults of a crystal that is not fcc, phonons without phonopy, a
        ladder of one temperature, and simulations too short for what is asked.
    """
    for defect in {"vacancy", "interstitial"} & set(names):
        require_element(structure, defect)
    if "stacking" in names:
        require_fcc(structure)
    if "phonons" in names and not has_phonopy():
        raise InputError("phonopy is not installed", hint="install it with `pip install nnpkit[report]`")
    if "expansion" in names and len(options.temperatures) < 2:
        raise InputError("thermal expansion needs a ladder", where="--temperatures", expected="at least two")
    thermal.require_long_enough(settings, [name for name in names if name in _MOTION])


def _attempt(action: Callable[[], Result]) -> Result:
    """What an action finds, or why it does not: what has been computed before shall not be lost with it."""
    try:
        return action()
    except (NnpkitError, CalculatorError, RuntimeError) as error:
        return Result(
            failed=str(error) if isinstance(error, NnpkitError) else f"{type(error).__name__}: {error}"
        )


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
        found[name] = _attempt(actions[name])
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


def moving_properties(
    model: LoadedModel, structure: Structure, names: Sequence[str], options: Options, folder: Path,
    settings: Simulation, ranks: int = 1, overwrite: bool = False, tell: Callable[[str], None] = lambda _: None,
) -> dict[str, Result]:  # fmt: skip
    """Properties from simulations of `model` in LAMMPS, in folders below `folder`.

    Parameters
    ----------
    model, structure
        The potential, and where simulations begin.
    names : sequence of str
        Of `MOVING`.
    options : Options
        How.
    folder : path
        For the simulations.
    settings : Simulation
        Temperature, pressure, steps and time step.
    ranks, overwrite
        As of `nnpkit.analysis.simulation.simulate`.
    tell : callable
        Told what is simulated next.

    Returns
    -------
    dict of str to Result
        Those that were asked for; one whose runs are not stable, or too short, says so in ``failed``.
    """
    found: dict[str, Result] = {}
    place = (model, structure, folder, settings)
    if "expansion" in names:
        tell("thermal expansion")
        found["expansion"] = _attempt(
            lambda: _expansion(thermal.expansion(*place, options.temperatures, ranks, overwrite))
        )
    if "hot-elastic" in names:
        tell(f"elastic constants at {settings.temperature:g} K")
        found["hot-elastic"] = _attempt(lambda: _hot_elastic(hot_elastic(*place, ranks, overwrite)))
    kinds = [name for name in names if name in _MOTION]
    if kinds:
        tell(" and ".join(kinds))
        try:
            seen = thermal.motion(*place, ranks, overwrite, kinds)
        except NnpkitError as error:
            return found | {name: Result(failed=str(error)) for name in kinds}
        for name in kinds:
            found[name] = _attempt(partial(_MOTION[name], seen))
            found[name].notes += seen.notes
    return found


def _expansion(found: thermal.Expansion) -> Result:
    with canvas((5.4, 3.7)) as fig:
        ax = fig.subplots()
        ax.errorbar(
            found.temperatures, found.volumes, found.errors, fmt="o", color=COLORS[0], ms=4, capsize=3
        )
        ax.set(xlabel="Temperature (K)", ylabel="Volume (Å³/atom)")
        drawn = png(fig)
    name = "expansion of the volume"
    return Result(
        {name: (found.coefficient, "1e-6/K"), "of a length, isotropic": (found.coefficient / 3.0, "1e-6/K")},
        {name: found.error, "of a length, isotropic": found.error / 3.0},
        {
            "temperatures": found.temperatures.tolist(), "volumes": found.volumes.tolist(),
            "errors": found.errors.tolist(),
        },
        [("Volume and temperature", drawn)], found.notes,
    )  # fmt: skip


def _hot_elastic(found: HotElastic) -> Result:
    names = {f"C{i + 1}{j + 1}": (i, j) for i, j in independent(found)}
    how = "a cubic crystal: two strains, the rest by symmetry" if found.cubic else "six strains"
    return Result(
        {name: (float(found.constants[at]), "GPa") for name, at in names.items()}
        | {"bulk modulus (Voigt)": (float(found.constants[:3, :3].mean()), "GPa")},
        {name: float(found.errors[at]) for name, at in names.items()},
        {
            "order": list(_VOIGT), "constants": found.constants.tolist(), "errors": found.errors.tolist(),
            "temperature": found.temperature, "volume": found.volume,
        },
        [("Isothermal elastic constants", _hot_elastic_figure(found, names))],
        [f"isothermal, at {found.temperature:.0f} K; {how}", *found.notes],
    )  # fmt: skip


def _hot_elastic_figure(found: HotElastic, names: Mapping[str, tuple[int, int]]) -> bytes:
    with canvas((5.4, 3.7)) as fig:
        ax = fig.subplots()
        values = [found.constants[at] for at in names.values()]
        ax.bar(
            list(names), values, color=COLORS[0], yerr=[found.errors[at] for at in names.values()], capsize=3
        )
        ax.axhline(0.0, color=COLORS[5], linewidth=0.7)
        ax.set(ylabel=f"GPa, at {found.temperature:.0f} K")
        return png(fig)


def _diffusion(seen: thermal.Motion) -> Result:
    result = Result()
    with canvas((5.4, 3.7)) as fig:
        ax = fig.subplots()
        for color, found in zip(COLORS, seen.diffusion, strict=False):
            ax.plot(found.time, found.displacement, color=color, label=found.element)
            result.values[found.element] = (found.coefficient, "1e-9 m²/s")
            result.errors[found.element] = found.error
            result.curves[found.element] = {
                "time": found.time.tolist(), "displacement": found.displacement.tolist(),
            }  # fmt: skip
        ax.set(xlabel="Time (ps)", ylabel="Mean squared displacement (Å²)")
        ax.legend()
        result.figures = [("Mean squared displacements", png(fig))]
    if seen.correction is not None:
        result.values["to add for the size of the box"] = (seen.correction, "1e-9 m²/s")
    else:
        result.notes.append(
            "a small box slows diffusion down: ask for the viscosity too, and the correction is given"
        )
    return result


def _viscosity(seen: thermal.Motion) -> Result:
    found = seen.viscosity
    assert found is not None
    with canvas((5.4, 3.7)) as fig:
        ax = fig.subplots()
        ax.plot(found.time, found.integral, color=COLORS[0])
        low, high = found.integral - found.spread, found.integral + found.spread
        ax.fill_between(found.time, low, high, color=COLORS[0], alpha=0.25, linewidth=0)
        ax.axvline(found.cutoff, color=COLORS[5], linewidth=0.8)
        ax.set(xlabel="Time (ps)", ylabel="Running integral (mPa s)")
        drawn = png(fig)
    notes = []
    if not found.value > 2.0 * found.error:
        notes.append("the run is too short: the error is as large as the viscosity")
    return Result(
        {"shear viscosity": (found.value, "mPa s")}, {"shear viscosity": found.error},
        {"time": found.time.tolist(), "integral": found.integral.tolist(), "error": found.spread.tolist()},
        [("Integral of the autocorrelation of the pressure; read at the line", drawn)], notes,
    )  # fmt: skip


def _vibrations(seen: thermal.Motion) -> Result:
    found = seen.spectrum
    assert found is not None
    result = Result()
    with canvas((5.4, 3.7)) as fig:
        ax = fig.subplots()
        top = 0.0
        for color, (element, density) in zip(COLORS, found.density.items(), strict=False):
            ax.plot(found.frequency, density, color=color, label=element)
            result.values[f"highest peak of {element}"] = (float(found.frequency[np.argmax(density)]), "THz")
            top = max(top, float(found.frequency[density > 1e-3 * density.max()].max()))
        ax.set(xlabel="Frequency (THz)", ylabel="Density of states (1/THz)", xlim=(0.0, 1.1 * top))
        ax.legend()
        result.figures = [("Vibrational spectrum from velocities", png(fig))]
    result.curves = {
        "frequency": found.frequency.tolist(),
        **{k: v.tolist() for k, v in found.density.items()},
    }
    return result


_MOTION: dict[str, Callable[[thermal.Motion], Result]] = {
    "diffusion": _diffusion, "viscosity": _viscosity, "vibrations": _vibrations,
}  # fmt: skip
