"""What a simulation is: ensemble, thermostat and barostat, steps, output."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnpkit.errors import InputError

__all__ = ["COUPLINGS", "ENSEMBLES", "HOTTEST", "TRAJECTORIES", "Simulation"]

ENSEMBLES = {
    "npt": "Constant pressure and temperature (NPT)",
    "nvt": "Constant volume and temperature (NVT)",
    "nve": "Constant volume and energy (NVE)",
    "minimize": "Energy minimisation at constant cell",
}
COUPLINGS = ("iso", "aniso", "tri")
TRAJECTORIES = ("extxyz", "dcd", "xtc")
"""Formats of other programs in which LAMMPS writes frames too."""

HOTTEST = (10.0, 1000.0)
"""A run is stopped above so many times its temperature, and above so many K."""


@dataclass(frozen=True)
class Simulation:
    """What to simulate and how.

    Parameters
    ----------
    ensemble : {'npt', 'nvt', 'nve', 'minimize'}
    temperature : float
        K; thermostat target, and temperature of the initial velocities.
    temperature_end : float, optional
        K; the thermostat goes there in equal steps during the run.
    pressure : float
        bar; used with npt.
    pressure_end : float, optional
        bar; the barostat goes there during the run.
    timestep : float
        fs.
    steps : int
        Time steps, or the largest number of minimisation steps.
    seed : int
        Of the initial velocities.
    every, dump_every : int
        Steps between thermo rows, and between frames of the trajectory.
    tdamp, pdamp : float
        Relaxation times of thermostat and barostat, fs.
    coupling : {'iso', 'aniso', 'tri'}
        Which cell parameters npt changes: the volume, three edges, or edges and angles.
    relax : bool
        Minimise the energy a little before the dynamics.
    committee : bool
        The model is a committee: its disagreement is part of the thermodynamic output.
    ranges : bool
        The model knows the ranges of its training data: what is outside is counted, and part of the output.
    total_charge : float
        Of the atoms, e, for a model with charges.
    watch : (float, float), optional
        Of a committee: frames whose largest force disagreement (eV/Å) is between the two are collected, above the
        second the run ends.
    trajectories : tuple of {'extxyz', 'dcd', 'xtc'}
        Formats in which the frames are written as well.
    time_limit : float, optional
        s; the run ends there with all its files, to be continued.
    heat_flux : bool
        The heat flux is part of the thermodynamic output.

    Raises
    ------
    InputError
        If a value makes no sense.
    """

    ensemble: str = "npt"
    temperature: float = 300.0
    pressure: float = 1.0
    timestep: float = 0.5
    steps: int = 10000
    seed: int = 1
    every: int = 10
    dump_every: int = 100
    tdamp: float = 100.0
    pdamp: float = 1000.0
    coupling: str = "iso"
    relax: bool = False
    committee: bool = False
    ranges: bool = True
    total_charge: float = 0.0
    watch: tuple[float, float] | None = None
    temperature_end: float | None = None
    pressure_end: float | None = None
    trajectories: tuple[str, ...] = ()
    time_limit: float | None = None
    heat_flux: bool = False

    def __post_init__(self) -> None:
        for name, value, known in (
            ("ensemble", self.ensemble, ENSEMBLES),
            ("coupling", self.coupling, COUPLINGS),
        ):
            if value not in known:
                raise InputError(f"unknown {name} {value!r}", expected=", ".join(known))
        for name in ("timestep", "tdamp", "pdamp", "temperature", "steps", "every", "dump_every", "seed"):
            value = getattr(self, name)
            if not (np.isfinite(value) and value > 0):
                raise InputError(f"{name} is {value}", where=f"--{name.replace('_', '-')}", expected="> 0")
        self._check_ramps()
        if self.time_limit is not None and not self.time_limit > 0:
            raise InputError(f"limit {self.time_limit:g} s", where="--time-limit", expected="> 0")
        if unknown := sorted(set(self.trajectories) - set(TRAJECTORIES)):
            raise InputError(
                f"unknown trajectory format {unknown[0]!r}", where="--also", expected=", ".join(TRAJECTORIES)
            )
        if self.watch is not None and not self.committee:
            raise InputError(
                "one potential cannot disagree with itself", where="--watch", expected="a committee",
                hint="make one with nnpkit export --committee",
            )  # fmt: skip
        if self.watch is not None and not 0.0 <= self.watch[0] <= self.watch[1]:
            raise InputError(
                f"bounds {self.watch}", where="--watch", expected="two numbers, the smaller first"
            )

    def _check_ramps(self) -> None:
        for name in ("pressure", "pressure_end", "temperature_end"):
            value = getattr(self, name)
            if value is not None and not np.isfinite(value):
                raise InputError(f"{name} is {value}", where=f"--{name.split('_')[0]}", expected="a number")
        if self.temperature_end is not None and not self.temperature_end > 0:
            raise InputError(f"a ramp to {self.temperature_end:g} K", where="--temperature", expected="> 0")
        if self.temperature_end is not None and self.ensemble not in ("npt", "nvt"):
            raise InputError(
                f"there is no thermostat in {self.ensemble}", where="--temperature", expected="no ramp"
            )
        if self.pressure_end is not None and self.ensemble != "npt":
            raise InputError(
                f"there is no barostat in {self.ensemble}", where="--pressure", expected="no ramp"
            )

    @property
    def ramp(self) -> str | None:
        """What changes during the run, in words; None if nothing does."""
        parts = []
        if self.temperature_end is not None:
            parts.append(f"temperature from {self.temperature:g} to {self.temperature_end:g} K")
        if self.pressure_end is not None:
            parts.append(f"pressure from {self.pressure:g} to {self.pressure_end:g} bar")
        return ", ".join(parts) or None

    @property
    def dynamics(self) -> bool:
        """Whether atoms move in time (not a minimisation)."""
        return self.ensemble != "minimize"

    @property
    def own_conserved(self) -> bool:
        """Whether the input sums up the conserved energy, because LAMMPS' own drifts; see `conserved_commands`."""
        return self.ensemble == "npt" and self.coupling == "iso"

    @property
    def hottest(self) -> float:
        """Temperature (K) above which the run counts as unstable, see `HOTTEST`."""
        factor, least = HOTTEST
        return max(factor * max(self.temperature, self.temperature_end or 0.0), least)

    @property
    def duration(self) -> float:
        """Length of the run, ps."""
        return self.steps * self.timestep / 1000.0
