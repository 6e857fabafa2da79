"""Properties from simulations by their names, of a potential in LAMMPS."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from nnpkit.analysis.plots import COLORS, canvas, png
from nnpkit.analysis.properties import thermal
from nnpkit.analysis.properties.hot_elastic import HotElastic, hot_elastic, independent, number_of_runs
from nnpkit.analysis.properties.melting import PARTS, Melting, melting
from nnpkit.analysis.properties.results import Result, attempt
from nnpkit.analysis.properties.study_options import Options
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import LoadedModel
from nnpkit.errors import NnpkitError
from nnpkit.md.lammps import FILES, pair_commands
from nnpkit.md.simulation_settings import Simulation
from nnpkit.md.step_cost import step_cost

__all__ = ["MOVING", "expected_seconds", "moving_properties", "require_long_runs"]

MOVING = ("expansion", "hot-elastic", "melting", "diffusion", "viscosity", "vibrations", "conductivity")
"""Properties that need simulations."""
_STAYS = 1.0  # Å², mean squared displacement of atoms that have not left their places
_VOIGT = ("xx", "yy", "zz", "yz", "xz", "xy")


def require_long_runs(names: Sequence[str], settings: Simulation) -> None:
    """Say before anything is computed which property the runs of `settings` are too short for.

    Raises
    ------
    InputError
        With the steps that it takes.
    """
    thermal.require_long_enough(settings, [name for name in names if name in _MOTION])


def expected_seconds(
    model: LoadedModel, structure: Structure, names: Sequence[str], options: Options, settings: Simulation,
    ranks: int = 1,
) -> float:  # fmt: skip
    """How long the simulations of `moving_properties` take, from a few steps on one core.

    A melting point is expected to be found at the first temperature.
    """
    runs = {
        "expansion": float(len(options.temperatures)),
        "hot-elastic": float(number_of_runs(structure)),
        "melting": 2.0 * PARTS,
    }
    count = sum(runs.get(name, 0.0) for name in names) + 1.25 * any(name in _MOTION for name in names)
    with TemporaryDirectory(prefix="nnpkit-cost-") as folder:
        model.save(Path(folder) / FILES["model"], structure)
        content = (Path(folder) / FILES["model"]).read_bytes()
    pair = pair_commands(FILES["model"], sorted(set(structure.symbols)))
    cost = step_cost(structure, pair, {FILES["model"]: content})
    return 1e-6 * cost * structure.n_atoms * settings.steps * count / ranks


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
        found["expansion"] = attempt(
            lambda: _expansion(thermal.expansion(*place, options.temperatures, ranks, overwrite))
        )
    if "hot-elastic" in names:
        tell(f"elastic constants at {settings.temperature:g} K")
        found["hot-elastic"] = attempt(lambda: _hot_elastic(hot_elastic(*place, ranks, overwrite)))
    if "melting" in names:
        between = (min(options.temperatures), max(options.temperatures))
        found["melting"] = attempt(lambda: _melting(melting(*place, between, ranks, overwrite, tell)))
    kinds = [name for name in names if name in _MOTION]
    if kinds:
        tell(" and ".join(kinds))
        try:
            seen = thermal.motion(*place, ranks, overwrite, kinds)
        except NnpkitError as error:
            return found | {name: Result(failed=str(error)) for name in kinds}
        for name in kinds:
            found[name] = attempt(partial(_MOTION[name], seen))
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


def _melting(found: Melting) -> Result:
    with canvas((5.4, 3.7)) as fig:
        ax = fig.subplots()
        for run, color in zip(found.runs, COLORS[1:], strict=False):
            label = f"begun at {run.start:.0f} K"
            ax.plot(run.time, run.temperatures, color=color, linewidth=0.6, alpha=0.7, label=label)
            ax.plot(run.time[run.begin :], np.full(len(run.time) - run.begin, run.mean), color=color)
        ax.axhline(found.temperature, color=COLORS[0])
        ax.set(xlabel="Time (ps)", ylabel="Temperature (K)")
        ax.legend(frameon=False)
        drawn = png(fig)
    return Result(
        {"melting point": (found.temperature, "K")},
        {"melting point": found.error},
        {
            f"begun at {run.start:.0f} K": {
                "time": run.time.tolist(), "temperatures": run.temperatures.tolist(), "mean": run.mean,
                "error": run.error, "crystal": run.share,
            }
            for run in found.runs
        },
        [("Crystal beside melt at constant enthalpy, and the means that are taken", drawn)], found.notes,
    )  # fmt: skip


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
            if (reached := float(found.displacement[-1])) < _STAYS:
                result.notes.append(
                    f"{found.element} moved by {reached:.2g} Å² in {found.time[-1]:.2g} ps: atoms vibrate at their "
                    "places, of a crystal or in too short a run; this is no diffusion, nor a viscosity"
                )
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


def _conductivity(seen: thermal.Motion) -> Result:
    found = seen.conductivity
    assert found is not None
    with canvas((5.4, 3.7)) as fig:
        ax = fig.subplots()
        ax.semilogy(found.frequency, found.spectrum, color=COLORS[5], linewidth=0.5, label="run")
        ax.semilogy(
            found.frequency, found.smooth, color=COLORS[0], label=f"{found.coefficients} coefficients"
        )
        ax.set(xlabel="Frequency (THz)", ylabel="Spectrum of the heat flux (W/(m K))")
        ax.legend()
        drawn = png(fig)
    notes = ["of a cell of this size; larger ones have longer waves, which carry heat, too: try two"]
    if not found.value > 2.0 * found.error:
        notes.append("the run is too short: the error is as large as the conductivity")
    if found.several:
        notes.append("of a crystal: where elements diffuse, what they carry is not in it")
    name = "thermal conductivity"
    return Result(
        {name: (found.value, "W/(m K)")}, {name: found.error},
        {"frequency": found.frequency.tolist(), "smooth": found.smooth.tolist()},
        [("Its value at zero frequency is the conductivity", drawn)], notes,
    )  # fmt: skip


_MOTION: dict[str, Callable[[thermal.Motion], Result]] = {
    "diffusion": _diffusion, "viscosity": _viscosity, "vibrations": _vibrations,
    "conductivity": _conductivity,
}  # fmt: skip
