"""Melting point: a crystal beside its melt at constant enthalpy comes to the temperature at which both live."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nnpkit.analysis.averages import block_average, equilibration, settled
from nnpkit.analysis.properties.crystal_order import CrystalOrder
from nnpkit.analysis.properties.thermal import run_simulation
from nnpkit.data.formats.reading import read
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import LoadedModel
from nnpkit.errors import InputError
from nnpkit.md.simulation_settings import Simulation
from nnpkit.md.thermo import Thermo

__all__ = ["PARTS", "Coexistence", "Melting", "melting"]

_HOT = 2.0  # times the highest temperature, where half of the crystal is melted
_ROOM = 0.1  # of its length, that the melted half is given
_PART = 4  # of the steps of a run, for each of those that make crystal beside melt
PARTS = 2 * (1.0 + 3.0 / _PART)
"""Steps until the melting point is known from both sides, in those of a run."""
_JOIN = 3.0  # relaxation times of the barostat in which crystal and melt are joined at constant temperature
_TRIES = 8  # temperatures
_LONGER = 3  # times that a run goes on which has not settled, or has not come to where the other side has
_WHOLE = 0.85  # part of the cell that is all of it
_MELTED = 0.75  # part of the cell that is crystal at most after half of it was melted
_CLOSE = 0.01  # of the temperature: ends of a bracket that need no middle
_OTHER_SIDE = (0.03, 0.05)  # of the melting point, by which the second run begins at the other side of it
_DISAGREE = 3.0  # standard errors
_LATE = 1e9  # fs, relaxation time of a thermostat that has no time to act: enthalpy is constant


@dataclass
class Coexistence:
    """A run of crystal beside melt."""

    start: float  # K, at which crystal and melt were prepared
    share: float  # of the cell that is crystal at the end
    time: np.ndarray  # (T,) ps
    temperatures: np.ndarray  # (T,) K
    begin: int  # row from which the mean is taken
    mean: float  # K
    error: (
        float  # K, statistical; at least half of what the halves of the mean differ by, if it has not settled
    )
    why: str | None  # the temperature has not settled
    outside: list[str]  # where it left the training data
    end: Structure
    parts: int = 1  # of which this is the last

    @property
    def both(self) -> bool:
        """Whether some of each is left."""
        return 1.0 - _WHOLE <= self.share <= _WHOLE


@dataclass
class Melting:
    """The mean temperature of crystal beside melt, and its error."""

    temperature: float  # K
    error: float  # K; at least half of what both sides differ by, and of one side only the way to where the other began
    runs: list[Coexistence]  # which it is the mean of: from below and from above
    notes: list[str]  # what cannot be trusted


def melting(
    model: LoadedModel, start: Structure, folder: Path, settings: Simulation, between: tuple[float, float],
    ranks: int = 1, overwrite: bool = False, tell: Callable[[str], None] = lambda _: None,
) -> Melting:  # fmt: skip
    """The melting point at the pressure of `settings` by coexistence.

    The cell is doubled along its longest edge, heated at constant pressure, and half of its atoms are melted while the
    others are held. After a while of all atoms at constant pressure and temperature, enthalpy and pressure are
    constant: if it is too hot, crystal melts, which takes heat, else melt freezes, which gives some (Morris and Song,
    J. Chem. Phys. 116, 9352 (2002)). If none of either is left, the temperature was too far away, and the middle of
    what remains of the range is tried. From the temperature that is found a second run begins at its other side: what
    has come to the same from below and from above has not only stayed where it began.

    Parameters
    ----------
    model : LoadedModel
        A potential for LAMMPS.
    start : Structure
        A crystal in a cell with right angles.
    folder : path
        Of the runs, ``melting-650-crystal``, ``melting-650-hot``, ``melting-650-beside`` and ``melting-650-both``;
        ``melting-650-both-2`` where that has not settled.
    settings : Simulation
        Of a run at constant enthalpy; a quarter of its steps heat, as many melt, and as many join crystal and melt.
    between : (float, float)
        K, in which the melting point is sought; runs begin in the middle.
    ranks, overwrite
        As of `nnpkit.analysis.simulation.simulate`.
    tell : callable
        Told what is simulated next.

    Raises
    ------
    InputError
        If the cell has other angles, half of it does not melt, or the melting point is not in the range; if a run is
        not stable.
    """
    search = _Search(model, start, folder, settings, _HOT * max(between), ranks, overwrite, tell)
    low, high = min(between), max(between)
    ends: list[Coexistence | None] = [None, None]  # what froze and what melted last
    known = [False, False]  # whether an end of the range was seen to be one
    for _ in range(_TRIES):
        middle = (low + high) / 2.0
        found = search.coexistence(middle, settings.seed)
        if found is not None and found.both:
            return _from_both_sides(search, found, settings.seed + 1)
        # the temperature where it ends says nothing: a crystal alone lives above its melting point, a melt below
        freezes = found is not None and found.share > _WHOLE
        low, high = (middle, high) if freezes else (low, middle)
        known[not freezes], ends[not freezes] = True, found
        if high - low < _CLOSE * middle:
            break
    if not all(known):
        words = f"melt freezes at {low:.0f} K" if known[0] else f"the crystal does not last at {high:.0f} K"
        raise InputError(
            f"{words}, at the end of the range", where="--temperatures",
            expected="two temperatures with the melting point between them",
        )  # fmt: skip
    runs = [run for run in ends if run is not None]
    error = max((high - low) / 2.0, float(np.ptp([run.mean for run in runs])) / 2.0)
    notes = [search.size, *(note for run in runs for note in run.outside)]
    why = "no run kept crystal and melt: this is where one begins to freeze or to melt; take more --atoms"
    return Melting((low + high) / 2.0, error, runs, [*notes, why])


class _Search:
    """Runs of crystal beside melt of one potential at one pressure."""

    def __init__(
        self, model: LoadedModel, start: Structure, folder: Path, settings: Simulation, hot: float, ranks: int,
        overwrite: bool, tell: Callable[[str], None],
    ) -> None:  # fmt: skip
        edges = np.linalg.norm(start.cell, axis=1)
        if np.abs(start.cell - np.diag(np.diag(start.cell))).max() > 1e-4 * edges.max():
            raise InputError(
                "melting needs a cell with right angles along x, y and z", where=start.name,
                hint="install spglib (`pip install nnpkit[report]`), or give a conventional cell",
            )  # fmt: skip
        self.axis = int(np.argmax(edges))
        doubled = start.to_atoms().repeat([2 if k == self.axis else 1 for k in range(3)])
        self.crystal = _plain(Structure.from_atoms(doubled, start.name))
        self.order = CrystalOrder(self.crystal, self.axis)
        self.model, self.folder, self.hot = model, folder, hot
        self.settings = replace(settings, ensemble="npt", coupling="aniso")
        self.ranks, self.overwrite, self.tell = ranks, overwrite, tell
        self.outside = list[str]()
        self.size = (
            f"{self.crystal.n_atoms} atoms: the error is not that of the size of the cell; try two sizes"
        )

    def _run(
        self, kind: str, temperature: float, begin: Structure, how: Simulation
    ) -> tuple[Structure, Thermo]:
        self.tell(f"melting: {kind} at {temperature:.0f} K")
        place = self.folder / f"melting-{temperature:g}-{kind}"
        summary = run_simulation(self.model, begin, place, how, self.ranks, self.overwrite)
        if summary.get("outside") and kind != "hot":  # how half of the crystal was melted does not matter
            self.outside.append(f"{kind} at {temperature:.0f} K: {summary['outside']}")
        return _plain(read(place / "final.extxyz")[-1]), Thermo.read_csv(place / "thermo.csv")

    def coexistence(self, temperature: float, seed: int) -> Coexistence | None:
        """Crystal beside melt that begin at a temperature; nothing if the crystal does not last there."""
        self.outside = []
        long = replace(self.settings, temperature=temperature, seed=seed)
        short = replace(long, steps=max(100, self.settings.steps // _PART))
        warm, _ = self._run("crystal", temperature, self.crystal, short)
        if self.order.share(warm) < _WHOLE:
            return None
        self.order.learn(warm)
        # The melt is cooled at constant volume: a hot one would blow up the cell where it is let go.
        hot = replace(short, ensemble="nvt", temperature=self.hot, temperature_end=temperature)
        half, _ = self._run("hot", temperature, _with_room(warm, self.axis), hot)
        if self.order.share(half) > _MELTED:
            raise InputError(
                f"in {short.steps} steps at {self.hot:.0f} K half of the crystal did not melt",
                where="--temperatures", hint="take a higher one, or more --steps",
            )  # fmt: skip
        # Crystal and melt find their volumes and lose the heat of melting before the enthalpy is kept. Not longer:
        # at constant temperature the front wanders, and where little of one is left a small cell loses it.
        joining = min(short.steps, max(1, round(_JOIN * long.pdamp / long.timestep)))
        begin, _ = self._run("beside", temperature, half, replace(short, steps=joining))
        found = self._constant_enthalpy(temperature, begin, long, 1)
        while found.both and found.why is not None and found.parts <= _LONGER:
            found = self.longer(found)
        return found

    def longer(self, run: Coexistence) -> Coexistence:
        """The next part of a run, at its mean temperature."""
        self.outside = run.outside
        warmth = replace(self.settings, temperature=run.mean, seed=self.settings.seed + run.parts + 1)
        return self._constant_enthalpy(run.start, run.end, warmth, run.parts + 1)

    def _constant_enthalpy(
        self, temperature: float, begin: Structure, how: Simulation, part: int
    ) -> Coexistence:
        """How a run ends. Its share of crystal has settled where the temperature has: each is paid for by the other."""
        kind = "both" if part == 1 else f"both-{part}"
        end, thermo = self._run(kind, temperature, begin, replace(how, tdamp=_LATE))
        values = thermo["temperature_K"]
        first = max(len(values) // 3, equilibration(values))
        average, why = block_average(values[first:]), settled(values, first)
        error = average.error
        if why is not None:
            earlier, later = (float(part.mean()) for part in np.array_split(values[first:], 2))
            error = float(np.nanmax([error, abs(later - earlier) / 2.0]))
        return Coexistence(
            temperature, self.order.share(end), thermo["time_ps"], values, first, average.mean, error, why,
            self.outside, end, part,
        )  # fmt: skip


def _from_both_sides(search: _Search, found: Coexistence, seed: int) -> Melting:
    """The mean of a run and of one that begins at the other side of its temperature."""
    least, most = (part * found.mean for part in _OTHER_SIDE)
    away = min(most, max(least, abs(found.mean - found.start)))
    for distance in (away, away / 2.0):
        start = found.mean + (distance if found.mean > found.start else -distance)
        try:
            other, why = search.coexistence(start, seed), "not both were left"
        except InputError as error:  # what was found from the first side shall not be lost with it
            other, why = None, str(error)
        if other is not None and other.both:
            break
    two = other is not None and other.both
    runs = [found, other] if other is not None and two else [found]
    while two and _differ(runs) and min(run.parts for run in runs) <= _LONGER:
        longer = [search.longer(run) if run.parts <= _LONGER else run for run in runs]
        if not all(run.both for run in longer):
            break
        runs = longer
    notes = [search.size, *(note for run in runs for note in run.outside)]
    for run in runs:
        if run.why:
            notes.append(f"begun at {run.start:.0f} K, the temperature: {run.why}; take more --steps")
    mean, apart = float(np.mean([run.mean for run in runs])), float(np.ptp([run.mean for run in runs]))
    if not two:
        notes.append(f"begun at {start:.0f} K: {why.rstrip('.')}; one side only, take more --atoms")
        return Melting(mean, max(found.error, abs(start - mean)), runs, notes)
    if _differ(runs):
        begun, ended = (" and ".join(f"{value:.0f}" for value in values) for values in (
            [run.start for run in runs], [run.mean for run in runs]
        ))  # fmt: skip
        notes.append(
            f"begun at {begun} K they end at {ended} K: crystal and melt grow slowly; take more --steps"
        )
    return Melting(mean, max(float(np.linalg.norm([run.error for run in runs])), apart) / 2.0, runs, notes)


def _differ(runs: list[Coexistence]) -> bool:
    """Whether two runs come to different temperatures."""
    return bool(np.ptp([run.mean for run in runs]) > _DISAGREE * np.linalg.norm([run.error for run in runs]))


def _with_room(crystal: Structure, axis: int) -> Structure:
    """The crystal with its lower half held and the upper one stretched, as a melt takes more room and else freezes."""
    scaled = np.linalg.solve(crystal.cell.T, crystal.positions.T).T
    scaled[:, axis] %= 1.0
    upper, wider = scaled[:, axis] >= 0.5, 1.0 + _ROOM / 2.0
    scaled[:, axis] = np.where(upper, 0.5 + (scaled[:, axis] - 0.5) * (1.0 + _ROOM), scaled[:, axis]) / wider
    cell = crystal.cell.copy()
    cell[axis] *= wider
    return crystal.replace(cell=cell, positions=scaled @ cell, arrays={"move_mask": upper})


def _plain(structure: Structure) -> Structure:
    return structure.replace(energy=None, forces=None, stress=None, info={}, arrays={})
