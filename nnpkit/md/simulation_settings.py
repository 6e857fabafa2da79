"""What a simulation is: ensemble, thermostat and barostat, steps, output."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nnpkit.errors import InputError

__all__ = ["COUPLINGS", "ENSEMBLES", "HOTTEST", "Simulation"]

ENSEMBLES = {
    "npt": "Constant pressure and temperature (NPT)",
    "nvt": "Constant volume and temperature (NVT)",
    "nve": "Constant volume and energy (NVE)",
    "minimize": "Energy minimisation at constant cell",
}
COUPLINGS = ("iso", "aniso", "tri")

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
    pressure : float
        bar; used with npt.
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
        if not np.isfinite(self.pressure):
            raise InputError(f"pressure is {self.pressure}", where="--pressure", expected="a number in bar")
        if self.watch is not None and not self.committee:
            raise InputError(
                "one potential cannot disagree with itself", where="--watch", expected="a committee",
                hint="make one with nnpkit export --committee",
            )  # fmt: skip
        if self.watch is not None and not 0.0 <= self.watch[0] <= self.watch[1]:
            raise InputError(
                f"bounds {self.watch}", where="--watch", expected="two numbers, the smaller first"
            )

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
        return max(factor * self.temperature, least)

    @property
    def duration(self) -> float:
        """Length of the run, ps."""
        return self.steps * self.timestep / 1000.0
