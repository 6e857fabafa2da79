"""Melting by coexistence: a crystal beside its melt grows below the melting point and melts above."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from nnpkit.analysis.averages import block_average
from nnpkit.analysis.properties.thermal import run_simulation
from nnpkit.data.formats.reading import read
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import LoadedModel
from nnpkit.errors import InputError
from nnpkit.md.simulation_settings import Simulation
from nnpkit.md.thermo import Thermo

__all__ = ["Melting", "melting"]

_HOT = 2.0  # times the highest temperature, where half of the crystal is melted at the volume that it has
_PRECISION = 0.02  # of the melting point; the bracket is halved until it is as narrow
_FUSION = (
    0.2  # k T by which a melt has more energy than the crystal at least; the entropy of fusion is about 1 k
)
_LAST = 5  # part of a run by which it is judged
_WHOLE = 0.8  # part of the cell that is all of it
_CERTAIN = 3.0  # standard errors by which crystal has to grow or shrink
_KB = 8.617333262e-5  # eV/K


@dataclass
class Melting:
    """The melting point between the highest temperature at which the crystal grew and the lowest at which it melted.

    Where both stay beside each other, it is that temperature, and the error is half of the bracket before it.
    """

    temperature: float  # K
    error: float  # K, half of the bracket
    temperatures: list[float] = field(default_factory=list)  # K, of the runs of crystal beside melt
    shares: list[float] = field(default_factory=list)  # of crystal at their ends: 1 is a crystal, 0 a melt
    fusion: float = (
        0.0  # eV/atom, potential energy of the melt less that of the crystal, at the middle of the range
    )
    n_atoms: int = 0
    notes: list[str] = field(default_factory=list)  # what cannot be trusted


class _Phases:
    """Potential energies of crystal and melt, as lines through two temperatures each."""

    def __init__(self, temperatures: tuple[float, float], crystal: list[float], melt: list[float]) -> None:
        self.crystal, self.melt = (np.polynomial.Polynomial.fit(temperatures, e, 1) for e in (crystal, melt))

    def share(self, energies: np.ndarray, temperature: float) -> np.ndarray:
        """The part that is crystal."""
        crystal, melt = float(self.crystal(temperature)), float(self.melt(temperature))
        return np.asarray((melt - energies) / (melt - crystal))


class _Runs:
    """Runs of one potential at one pressure, each in a folder of its own."""

    def __init__(
        self, model: LoadedModel, folder: Path, settings: Simulation, ranks: int, overwrite: bool,
        tell: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.model, self.folder, self.settings, self.ranks = model, folder, settings, ranks
        self.overwrite, self.tell, self.notes = overwrite, tell, list[str]()

    def run(
        self, name: str, start: Structure, temperature: float, ensemble: str = "npt"
    ) -> tuple[Structure, np.ndarray]:
        """The last frame, and the potential energies of the run, eV/atom."""
        self.tell(f"melting: {name.replace('-', ' ')} at {temperature:.0f} K")
        place = self.folder / f"melting-{name}-{temperature:.0f}"
        settings = replace(self.settings, ensemble=ensemble, temperature=temperature, coupling="aniso")
        summary = run_simulation(self.model, start, place, settings, self.ranks, self.overwrite)
        if summary.get("outside"):
            self.notes.append(f"{name.replace('-', ' ')} at {temperature:.0f} K: {summary['outside']}")
        energies = Thermo.read_csv(place / "thermo.csv")["potential_energy_eV"] / start.n_atoms
        return read(place / "final.extxyz")[-1], energies


def _late(energies: np.ndarray) -> float:
    """Mean of the last fifth."""
    return float(energies[-max(1, len(energies) // _LAST) :].mean())


def _trend(shares: np.ndarray) -> float:
    """By how many standard errors the last fifth of a series exceeds the middle one."""
    n = max(1, len(shares) // _LAST)
    late, middle = (block_average(part) for part in (shares[-n:], shares[2 * n : 3 * n]))
    error = float(np.hypot(late.error, middle.error))
    return (late.mean - middle.mean) / error if error > 0.0 else 0.0


def melting(
    model: LoadedModel, start: Structure, folder: Path, settings: Simulation, between: tuple[float, float],
    ranks: int = 1, overwrite: bool = False, tell: Callable[[str], None] = lambda _: None,
) -> Melting:  # fmt: skip
    """The melting point at the pressure of `settings`, by halving a range of temperatures.

    The cell is doubled along its longest edge and half of its atoms are melted while the others are held. From there
    runs at constant pressure end as crystal or melt, which their potential energy tells: those of pure crystal and
    pure melt are known from runs at the lower end, the middle, and the upper end of the range.

    Parameters
    ----------
    model : LoadedModel
        A potential for LAMMPS.
    start : Structure
        A crystal in a cell with right angles.
    folder : path
        Of the runs, ``melting-crystal-300`` and so on.
    settings : Simulation
        Of each run: they have to be long enough for the crystal to grow or melt.
    between : (float, float)
        K, in which the melting point is sought.
    ranks, overwrite
        As of `nnpkit.analysis.simulation.simulate`.
    tell : callable
        Told what is simulated next.

    Raises
    ------
    InputError
        If the cell has other angles, the crystal does not melt in half of the cell, or the melting point is not in the
        range; if a run is not stable.
    """
    low, high = between
    middle = (low + high) / 2.0
    edges = np.linalg.norm(start.cell, axis=1)
    if np.abs(start.cell - np.diag(np.diag(start.cell))).max() > 1e-4 * edges.max():
        raise InputError(
            "melting needs a cell with right angles along x, y and z", where=start.name,
            hint="install spglib (`pip install nnpkit[report]`), or give a conventional cell",
        )  # fmt: skip
    runs = _Runs(model, folder, settings, ranks, overwrite, tell)
    axis = int(np.argmax(edges))
    crystal = Structure.from_atoms(
        start.to_atoms().repeat([2 if k == axis else 1 for k in range(3)]), start.name
    )
    crystal = crystal.replace(energy=None, forces=None, stress=None, info={}, arrays={})
    cold = _late(runs.run("crystal", crystal, low)[1])
    warm, energies = runs.run("crystal", crystal, middle)
    crystal_middle = _late(energies)
    melt, _ = runs.run("melt", warm, _HOT * high, "nvt")
    melt_high, melt_middle = (_late(runs.run("melt", melt, t)[1]) for t in (high, middle))
    fusion = melt_middle - crystal_middle
    if fusion < _FUSION * _KB * middle:
        raise InputError(
            f"at {_HOT * high:.0f} K the crystal did not melt, or at {middle:.0f} K it does not live: they differ by "
            f"{fusion:.3g} eV/atom", where="--temperatures", hint="take higher, or lower, temperatures",
        )  # fmt: skip
    # the line of the crystal is one through `low` and the middle, that of the melt through the middle and `high`
    slope_crystal, slope_melt = (
        (crystal_middle - cold) / (middle - low),
        (melt_high - melt_middle) / (high - middle),
    )
    phases = _Phases(
        (low, high),
        [cold, cold + slope_crystal * (high - low)],
        [melt_high - slope_melt * (high - low), melt_high],
    )
    half = _half_melted(runs, warm, axis, _HOT * high)
    return _bracket(runs, half, phases, (low, high), fusion)


def _half_melted(runs: _Runs, crystal: Structure, axis: int, temperature: float) -> Structure:
    """The crystal whose upper half along `axis` has melted."""
    heights = np.linalg.solve(crystal.cell.T, crystal.positions.T)[axis] % 1.0
    held = crystal.replace(arrays={"move_mask": heights >= 0.5})
    found, _ = runs.run("half", held, temperature, "nvt")
    return found.replace(energy=None, forces=None, stress=None, info={}, arrays={})


def _bracket(
    runs: _Runs, half: Structure, phases: _Phases, between: tuple[float, float], fusion: float
) -> Melting:
    """Halve the range until it is narrow enough."""
    found = Melting(0.0, 0.0, fusion=fusion, n_atoms=half.n_atoms)

    def grows(temperature: float) -> float:
        """Positive if the crystal grows, negative if it melts, 0 if neither can be told."""
        _, energies = runs.run("coexistence", half, temperature)
        shares = phases.share(energies, temperature)
        found.temperatures.append(temperature)
        found.shares.append(_late(shares))
        if not 1.0 - _WHOLE < found.shares[-1] < _WHOLE:
            return found.shares[-1] - 0.5
        trend = _trend(shares)
        return trend if abs(trend) > _CERTAIN else 0.0

    low, high = between
    for temperature, sign in ((low, 1.0), (high, -1.0)):
        if grows(temperature) * sign <= 0.0:
            words = ("melts", "above") if sign > 0.0 else ("grows", "below")
            raise InputError(
                f"at {temperature:.0f} K the crystal {words[0]}, or does not change: the melting point is not safely "
                f"{words[1]}", where="--temperatures",
                expected="two temperatures with the melting point between them", hint="or take more --steps",
            )  # fmt: skip
    found.temperature = (low + high) / 2.0
    while high - low > _PRECISION * (high + low) / 2.0:
        found.temperature = (low + high) / 2.0
        change = grows(found.temperature)
        if change == 0.0:
            found.notes.append(
                f"at {found.temperature:.0f} K crystal and melt stay beside each other for the whole run: more steps "
                "would narrow the error"
            )
            break
        low, high = (found.temperature, high) if change > 0.0 else (low, found.temperature)
    else:
        found.temperature = (low + high) / 2.0
    found.error = (high - low) / 2.0
    found.notes += runs.notes
    return found
