"""Run LAMMPS on small structures and read what it computed, to the last digit."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from ase import Atoms
from toy import ELEMENTS

PROGRAMS = Path(sys.prefix) / "bin"
MASSES = {"O": 15.999, "H": 1.008, "Ar": 39.948}
TIMEOUT = 600

# LAMMPS' own constants (src/update.cpp): energy unit per eV, pressure unit per (energy unit / Å³).
ENERGY_UNIT = {"metal": 1.0, "real": 23.060549}
PRESSURE_UNIT = {"metal": 1.6021765e6, "real": 68568.415}

SIX = [(0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2)]  # order of LAMMPS' six virial components
NINE = [*SIX, (1, 0), (2, 0), (2, 1)]  # of the centroid virial


def random_structure(
    n: int,
    cell: object,
    *,
    seed: int = 0,
    pbc: object = True,
    fill: object = (1.0, 1.0, 1.0),
    closest: float = 1.15,
) -> Atoms:
    """`n` atoms O and H at random in the fraction `fill` of the cell, none closer than `closest` (Å)."""
    random = np.random.default_rng(seed)
    cell = np.asarray(cell, dtype=float)
    atoms = Atoms(cell=np.diag(cell) if cell.ndim == 1 else cell, pbc=pbc)
    while len(atoms) < n:
        position = (random.uniform(size=3) * np.asarray(fill)) @ atoms.cell[:]
        atoms.append("OHH"[len(atoms) % 3])
        atoms.positions[-1] = position
        if len(atoms) > 1 and atoms.get_distances(-1, range(len(atoms) - 1), mic=True).min() < closest:
            del atoms[-1]
    return atoms


def write_data(path: Path, atoms: Atoms, elements: list[str] | None = None) -> None:
    """Write a LAMMPS data file, atom_style atomic, positions to 17 digits."""
    elements = elements or ELEMENTS
    (xx, *_), (xy, yy, _), (xz, yz, zz) = atoms.cell[:]
    lines = ["structure", "", f"{len(atoms)} atoms", f"{len(elements)} atom types", ""]
    lines += [f"0 {xx:.17g} xlo xhi", f"0 {yy:.17g} ylo yhi", f"0 {zz:.17g} zlo zhi"]
    if xy or xz or yz:
        lines.append(f"{xy:.17g} {xz:.17g} {yz:.17g} xy xz yz")
    lines += [
        "",
        "Masses",
        "",
        *(f"{t} {MASSES[e]}" for t, e in enumerate(elements, 1)),
        "",
        "Atoms # atomic",
        "",
    ]
    for index, (symbol, x) in enumerate(zip(atoms.symbols, atoms.positions, strict=True), 1):
        lines.append(f"{index} {elements.index(symbol) + 1} {x[0]:.17g} {x[1]:.17g} {x[2]:.17g}")
    path.write_text("\n".join(lines) + "\n")


@dataclass
class Result:
    """What a LAMMPS process left behind."""

    folder: Path
    returncode: int
    output: str  # stdout and stderr

    @property
    def errors(self) -> list[str]:
        """Distinct error messages."""
        return sorted({line for line in self.output.splitlines() if line.startswith("ERROR")})

    def values(self) -> dict[str, float]:
        """Lines ``@name value`` that the input printed; the last of each name."""
        pairs = [line[1:].split() for line in self.output.splitlines() if line.startswith("@")]
        return {name: float(value) for name, value in pairs}

    def dump(self, name: str = "dump") -> np.ndarray:
        """Last frame of a dump (N, columns), sorted by atom id."""
        text = (self.folder / name).read_text().split("ITEM: ATOMS")[-1].splitlines()[1:]
        table = np.array([[float(word) for word in line.split()] for line in text])
        return table[np.argsort(table[:, 0])] if len(table) else table


def environment(**changes: str) -> dict[str, str]:
    """The environment of a LAMMPS process."""
    path = os.pathsep.join([str(PROGRAMS), os.environ.get("PATH", "")])
    return {**os.environ, "OMP_NUM_THREADS": "1", "PATH": path, **changes}


def run(folder: Path, command: list[str], ranks: int = 1, env: dict[str, str] | None = None) -> Result:
    """Run `command` on `ranks` MPI ranks in `folder`; fails if it hangs."""
    if ranks > 1:
        command = ["mpirun", "-n", str(ranks), *command]
    done = subprocess.run(
        command, cwd=folder, env=env or environment(), timeout=TIMEOUT, text=True, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return Result(folder, done.returncode, done.stdout)


def lmp(folder: Path, text: str, ranks: int = 1, *options: str, env: dict[str, str] | None = None) -> Result:
    """Run LAMMPS on the input `text`."""
    (folder / "in.lmp").write_text(text)
    return run(folder, ["lmp", "-in", "in.lmp", "-nocite", *options], ranks, env)


def setup(
    *, units: str = "metal", boundary: str = "p p p", processors: str = "", data: str = "data.lmp"
) -> str:
    """Input up to the structure."""
    lines = [f"units {units}", "atom_style atomic", "atom_modify map yes", f"boundary {boundary}"]
    return "\n".join([*lines, f"processors {processors}" if processors else "", f"read_data {data}", ""])


def potential(options: str = "", model: str = "toy.pt") -> str:
    """Input of the pair style."""
    return f"pair_style nnpkit {options}\npair_coeff * * {model} O H\n"


MEASURE = """
compute e all pe/atom
compute s all stress/atom NULL
compute c all centroid/stress/atom NULL
dump d all custom 1 dump id x y z fx fy fz c_e c_s[*] c_c[*]
dump_modify d sort id format float %.17g
thermo_style custom step pe pxx pyy pzz pxy pxz pyz vol
run 0
undump d
""" + "".join(
    f"variable v_{name} equal {name}\nprint '@{name} $(v_v_{name}:%.17g)'\n"
    for name in ("pe", "pxx", "pyy", "pzz", "pxy", "pxz", "pyz", "vol")
)


@dataclass
class Measured:
    """A single point, back in eV and Å."""

    energy: float
    volume: float
    positions: np.ndarray
    forces: np.ndarray
    virial: np.ndarray  # (6,) from the pressure
    energies: np.ndarray
    virials: np.ndarray  # (N, 6)
    centroid_virials: np.ndarray  # (N, 9)


def measured(result: Result, units: str = "metal") -> Measured:
    """Read what `MEASURE` printed and dumped."""
    assert result.returncode == 0, result.output
    energy_unit, pressure_unit = ENERGY_UNIT[units], PRESSURE_UNIT[units]
    values, table = result.values(), result.dump()
    pressure = np.array([values[f"p{c}"] for c in ("xx", "yy", "zz", "xy", "xz", "yz")])
    return Measured(
        energy=values["pe"] / energy_unit,
        volume=values["vol"],
        positions=table[:, 1:4],
        forces=table[:, 4:7] / energy_unit,
        virial=pressure * values["vol"] / pressure_unit / energy_unit,
        energies=table[:, 7] / energy_unit,
        virials=-table[:, 8:14] / pressure_unit / energy_unit,
        centroid_virials=-table[:, 14:23] / pressure_unit / energy_unit,
    )


def measure(
    folder: Path, atoms: Atoms, ranks: int = 1, options: str = "", *, units: str = "metal", boundary: str = "p p p",
    processors: str = "",
) -> Measured:  # fmt: skip
    """Single point of `atoms` with the toy potential (``toy.pt`` in `folder`)."""
    write_data(folder / "data.lmp", atoms)
    text = setup(units=units, boundary=boundary, processors=processors) + potential(options) + MEASURE
    return measured(lmp(folder, text, ranks), units)
