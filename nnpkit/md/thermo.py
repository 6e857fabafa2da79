"""Thermodynamic output of LAMMPS: read from the log, line by line, and kept as CSV with units."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nnpkit.errors import InputError
from nnpkit.files import atomic_write
from nnpkit.md.heat_flux import FLUX, Output

if TYPE_CHECKING:
    from nnpkit.md.simulation_settings import Simulation

__all__ = ["Loop", "Thermo", "ThermoReader", "conserved_commands", "read_log", "thermo_commands"]

COLUMNS = {
    "Step": "step",
    "Time": "time_ps",
    "Temp": "temperature_K",
    "PotEng": "potential_energy_eV",
    "KinEng": "kinetic_energy_eV",
    "TotEng": "total_energy_eV",
    "Econserve": "conserved_energy_eV",
    "Press": "pressure_bar",
    "Volume": "volume_A3",
    "Density": "density_g_cm3",
    "Lx": "lx_A",
    "Ly": "ly_A",
    "Lz": "lz_A",
    "Fmax": "max_force_eV_A",
    **{f"P{ij}": f"pressure_{ij}_bar" for ij in ("xx", "yy", "zz", "xy", "xz", "yz")},
    "c_disagreement[1]": "force_std_max_eV_A",
    "c_disagreement[2]": "force_std_mean_eV_A",
    "c_disagreement[3]": "energy_std_eV_atom",
    "c_extrapolation[1]": "extrapolations",
    "f_watch[3]": "extrapolations_total",
    "c_mobile_temp": "temperature_K",
    "v_conserved": "conserved_energy_eV",
    **{f"c_heat_flux[{n}]": name for n, name in enumerate(FLUX, 1)},
}
"""LAMMPS' name of a thermo column (units metal) and ours; others keep their name."""


_OUTSIDE = re.compile(r"nnpkit: \d+ extrapolations? until step \d+:(.*)")


def thermo_commands(
    simulation: Simulation, pair: Sequence[str], temperature: str, flux: Output | None = None
) -> list[str]:
    """Commands of the thermodynamic output; `temperature` is the column of that of the atoms that move."""
    before = [] if flux is None else list(flux.commands)
    if simulation.dynamics:
        conserved = "v_conserved" if simulation.own_conserved else "econserve"
        columns = f"step time {temperature} pe ke etotal {conserved} press vol density lx ly lz pxx pyy pzz pxy pxz pyz"
        comment = f"# {conserved}: what exact integration keeps constant, thermostat and barostat included."
        if simulation.own_conserved:
            before.append("variable        conserved equal etotal  # until there is a barostat")
    else:
        columns = "step pe fmax press vol density lx ly lz"
        comment = "# fmax: largest component of a force."
    if simulation.committee:
        columns += " &\n                c_disagreement[1] c_disagreement[2] c_disagreement[3]"
        comment += "\n# c_disagreement: of forces, largest and mean over atoms; of the energy per atom."
    if any("extrapolation all nnpkit" in line for line in pair):
        columns += " &\n                c_extrapolation[1] f_watch[3]"
        comment += (
            "\n# c_extrapolation, f_watch: features outside the range of the training data, now and since the"
        )
        comment += " run began."
    if flux is not None:
        names = flux.columns
        lines = [" ".join(names[n : n + 6]) for n in range(0, len(names), 6)]
        columns += "".join(f" &\n                {line}" for line in lines)
        comment += "\n# c_heat_flux: of the whole cell, for thermal conductivity."
    return [
        *before,
        comment,
        f"thermo_style    custom {columns}",
        "thermo_modify   format float %.15g flush yes",
        "thermo          ${every}",
    ]


def conserved_commands() -> list[str]:
    """The conserved quantity of isotropic NPT, from the parts that `fix npt` reports.

    LAMMPS' own sum (econserve) drifts with the thermostat of the barostat whatever the potential and the time step:
    it counts that thermostat for three degrees of freedom, where an isotropic barostat has one. The parts are right:
    energies of thermostat (2 x 3), volume (2) and thermostat of the barostat (2 x 3) follow 14 other numbers.
    """
    parts = [f"f_integrate[{n}]" for n in range(15, 29)]
    return [
        "# econserve would drift: for an isotropic barostat it counts the barostat's own thermostat three times.",
        f"variable        conserved equal etotal+{'+'.join(parts[:6])}+&",
        f"{'+'.join(parts[6:])}",
    ]


class Loop(NamedTuple):
    """What LAMMPS reports at the end of a run or minimisation."""

    seconds: float
    steps: int
    atoms: int


@dataclass
class Thermo:
    """Columns of one run: name with unit -> (T,) float64."""

    columns: dict[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.columns[name]

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def write_csv(self, path: str | Path) -> None:
        """Write the columns with a header line; numbers keep the digits of the log."""
        with atomic_write(path) as stream:
            rows = csv.writer(stream, lineterminator="\n")
            rows.writerow(self.columns)
            for row in zip(*self.columns.values(), strict=True):
                rows.writerow(f"{value:.15g}" for value in row)

    @classmethod
    def read_csv(cls, path: str | Path) -> Thermo:
        """Read what `write_csv` wrote.

        Raises
        ------
        InputError
            If the file is no table of numbers.
        """
        with open(path, encoding="utf-8", newline="") as stream:
            names, *rows = [row for row in csv.reader(stream) if row] or [[]]
        try:
            table = np.array(rows, dtype=np.float64).reshape(len(rows), len(names))
        except ValueError:
            raise InputError("not a table of numbers", where=str(path)) from None
        return cls(dict(zip(names, table.T, strict=True)))


@dataclass
class ThermoReader:
    """Reads LAMMPS output as it comes: `feed` it lines, look at the attributes.

    Attributes
    ----------
    tables : list of (names, rows)
        One per run or minimisation, in their order.
    loops : list of Loop
        Closing reports of those that ended.
    halted : str or None
        Id of the `fix halt` that ended the run early.
    ended : str or None
        Why the pair style ended the run early.
    outside : str or None
        What the pair style said last of features outside the range of the training data.
    stopping : str or None
        Why the last minimisation stopped.
    errors, warnings : list of str
        What LAMMPS said after ``ERROR`` and ``WARNING``, each text once.
    """

    tables: list[tuple[list[str], list[list[float]]]] = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)
    halted: str | None = None
    ended: str | None = None
    outside: str | None = None
    stopping: str | None = None
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _open: bool = False

    def feed(self, line: str) -> dict[str, float] | None:
        """Take one line of output; the thermo row it holds, if it does."""
        words = line.split()
        if not words:
            return None
        if words[0] == "Step":
            self.tables.append(([COLUMNS.get(word, word) for word in words], []))
            self._open = True
        elif line.startswith("Loop time of"):
            self.loops.append(Loop(float(words[3]), int(words[8]), int(words[11])))
            self._open = False
        elif line.startswith("ERROR"):
            self._note(self.errors, line)
        elif line.startswith("WARNING"):
            self._note(self.warnings, line)
        elif line.startswith("Fix halt condition"):
            self.halted = words[words.index("fix-id") + 1]
        elif line.startswith("nnpkit: run ends at step"):
            self.ended = line.split(":", 2)[2].strip()
        elif found := _OUTSIDE.match(line):
            self.outside = found[1].strip()
        elif line.strip().startswith("Stopping criterion"):
            self.stopping = line.split("=", 1)[-1].strip()
        elif self._open:
            return self._row(words)
        return None

    def _row(self, words: list[str]) -> dict[str, float] | None:
        names, rows = self.tables[-1]
        try:
            row = [float(word) for word in words]
        except ValueError:  # a message between two rows
            return None
        if len(row) != len(names):
            return None
        rows.append(row)
        return dict(zip(names, row, strict=True))

    @staticmethod
    def _note(notes: list[str], line: str) -> None:
        text = line.split(":", 1)[-1].strip()
        if text and text not in notes:
            notes.append(text)

    def thermo(self, run: int = -1) -> Thermo:
        """Columns of one run, by default the last; no columns if there was none."""
        if not self.tables:
            return Thermo({})
        names, rows = self.tables[run]
        table = np.array(rows, dtype=np.float64).reshape(len(rows), len(names))
        return Thermo(dict(zip(names, table.T, strict=True)))

    @property
    def finite(self) -> bool:
        """Whether the last row of the last run holds numbers only."""
        rows = self.tables[-1][1] if self.tables else []
        return all(math.isfinite(value) for value in rows[-1]) if rows else True


def read_log(path: str | Path) -> ThermoReader:
    """Read a whole LAMMPS log file.

    Raises
    ------
    InputError
        If there is no such file.
    """
    reader = ThermoReader()
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            feed_all(reader, stream)
    except FileNotFoundError:
        raise InputError("no such LAMMPS log", where=str(path)) from None
    return reader


def feed_all(reader: ThermoReader, lines: Iterable[str]) -> None:
    """Feed every line to `reader`."""
    for line in lines:
        reader.feed(line)
