"""Energies and forces of ten frames in every engine that is installed, against the model in Python.

    python benchmarks/engines.py [--model model.pt --frames frames.xyz]

Without a model, one with drawn weights (symmetry functions 2 and 3, H and O). Engines that this interpreter does not
find are named with what they need. LAMMPS and ASE are compared in the test suite. The last line is ``RESULT {json}``:
for each engine the largest difference of energies (eV) and force components (eV/Å).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import atomic_masses, atomic_numbers

import nnpkit
from nnpkit.data.formats.reading import read, write
from nnpkit.data.structure import Structure
from nnpkit.deploy.targets.contract import TargetOptions
from nnpkit.deploy.targets.registered import TARGETS
from nnpkit.deploy.targets.torchscript import export_model
from nnpkit.errors import InputError
from nnpkit.families.factory import build_model, initialise
from nnpkit.models.scaling import FeatureStatistics
from nnpkit.units import HARTREE

KJ_PER_MOL = 96.48533212331  # per eV
BOHR = 0.529177210903
Numbers = tuple[list[float], list[np.ndarray]]


def drawn_model(path: Path) -> None:
    """Write a potential of H and O with drawn weights."""
    functions = []
    for center in "HO":
        for eta, shift in ((0.05, 0.0), (0.8, 0.0), (2.0, 1.0)):
            functions += [
                dict(kind="G2", center=center, neighbors=[n], eta=eta, shift=shift, cutoff=4.5) for n in "HO"
            ]
        for pair in (["H", "H"], ["H", "O"], ["O", "O"]):
            functions.append(
                dict(kind="G3", center=center, neighbors=pair, eta=0.02, zeta=1.0, lam=1.0, cutoff=4.5)
            )
    network = {"hidden": [10, 10], "activations": ["tanh", "tanh", "linear"]}
    spec = {
        "kind": "acsf", "elements": ["H", "O"], "cutoff_kind": "tanh3", "cutoff_inner": 0.0, "functions": functions,
        "networks": {"H": network, "O": network}, "energy_scale": 1.0,
        "reference_energies": {"H": -13.6, "O": -432.0}, "wall": {},
    }  # fmt: skip
    model = build_model(spec)
    initialise(model, "xavier", 1)
    one = torch.ones_like(model.scaling.shift)  # CP2K needs a scaling, of ranges that are none of zero
    model.scaling.set(
        FeatureStatistics(0.0 * one, 2.0 * one, 0.7 * one, 0.5 * one), "minmax_center", -1.0, 1.0
    )
    export_model(model, path)


def drawn_frames(n: int) -> list[Structure]:
    """Water-like boxes with cells that engines accept: lower triangular."""
    random = np.random.default_rng(7)
    frames = []
    for k in range(n):
        cell = np.diag([9.6, 9.8, 10.0]) + np.tril(random.uniform(-0.5, 0.5, (3, 3)), k=-1)
        grid = np.stack(np.meshgrid(*3 * [np.arange(3)], indexing="ij"), -1).reshape(-1, 3) / 3.0
        oxygen = grid @ cell + random.normal(scale=0.1, size=(27, 3))
        water = np.array([[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]])
        positions = (oxygen[:, None] + water + random.normal(scale=0.03, size=(27, 3, 3))).reshape(-1, 3)
        frames.append(
            Structure(["O", "H", "H"] * 27, positions, cell=cell, pbc=np.full(3, True), name=f"frame {k}")
        )
    return frames


def in_ipi(model: Any, path: Path, frames: list[Structure], folder: Path) -> Numbers:
    """The driver, called as i-PI's client calls it."""
    from nnpkit.engines.ipi_driver import NnpkitDriver

    write(folder / "start.xyz", [frames[0].replace(info={}, arrays={})])
    driver = NnpkitDriver(str(path), str(folder / "start.xyz"))
    found = [driver(f.cell.T / BOHR, f.positions / BOHR) for f in frames]
    return [f[0] * HARTREE for f in found], [f[1] * (HARTREE / BOHR) for f in found]


def in_openmm(model: Any, path: Path, frames: list[Structure], folder: Path) -> Numbers:
    """A force of a system, on OpenMM's reference platform."""
    import openmm
    from openmm import unit

    from nnpkit.engines.openmm_force import openmm_force

    system = openmm.System()
    for symbol in frames[0].symbols:
        system.addParticle(atomic_masses[atomic_numbers[symbol]])
    system.addForce(openmm_force(model, frames[0].symbols, periodic=True))
    platform = openmm.Platform.getPlatformByName("Reference")
    context = openmm.Context(system, openmm.VerletIntegrator(0.0005), platform)
    energies, forces = [], []
    for frame in frames:
        context.setPeriodicBoxVectors(*(frame.cell / 10.0))
        context.setPositions(frame.positions / 10.0)
        state = context.getState(getEnergy=True, getForces=True)
        energies.append(state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole) / KJ_PER_MOL)
        force = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
        forces.append(np.asarray(force) / (10.0 * KJ_PER_MOL))
    return energies, forces


def in_torch_sim(model: Any, path: Path, frames: list[Structure], folder: Path) -> Numbers:
    """All frames as one batched state."""
    import torch_sim

    from nnpkit.engines.torch_sim_model import TorchSimModel

    wrapped = TorchSimModel(model)
    state = torch_sim.io.atoms_to_state([f.to_atoms() for f in frames], wrapped.device, wrapped.dtype)
    found = wrapped(state)
    split = np.split(found["forces"].numpy(), np.cumsum([f.n_atoms for f in frames])[:-1])
    return found["energy"].tolist(), split


def in_metatomic(model: Any, path: Path, frames: list[Structure], folder: Path) -> Numbers:
    """The exported file by metatomic's own ASE calculator."""
    from metatomic_ase import MetatomicCalculator

    TARGETS.get("metatomic").write(model, folder / "metatomic.pt", TargetOptions())
    calculator = MetatomicCalculator(str(folder / "metatomic.pt"))
    atoms = [f.to_atoms() for f in frames]
    for one in atoms:
        one.calc = calculator
    return [one.get_potential_energy() for one in atoms], [one.get_forces() for one in atoms]


def in_gromacs(model: Any, path: Path, frames: list[Structure], folder: Path) -> Numbers:
    """The exported file, given what GROMACS documents, in single precision; not GROMACS itself."""
    TARGETS.get("gromacs").write(model, folder / "gromacs.pt", TargetOptions())
    module = torch.jit.load(str(folder / "gromacs.pt"))
    energies, forces = [], []
    for frame in frames:
        x = torch.tensor(frame.positions / 10.0, dtype=torch.float32, requires_grad=True)
        numbers = torch.tensor([atomic_numbers[s] for s in frame.symbols], dtype=torch.int32)
        energy = module(x, numbers, torch.tensor(frame.cell / 10.0).float(), torch.tensor(frame.pbc))
        energy.backward()
        energies.append(float(energy.detach()) / KJ_PER_MOL)
        forces.append(-x.grad.double().numpy() / (10.0 * KJ_PER_MOL))
    return energies, forces


CP2K = """&GLOBAL
 PROJECT nnp
 RUN_TYPE ENERGY_FORCE
&END GLOBAL
&FORCE_EVAL
 METHOD NNP
 &NNP
  NNP_INPUT_FILE_NAME input.nn
  SCALE_FILE_NAME scaling.data
  &MODEL
   WEIGHTS weights
  &END MODEL
 &END NNP
 &PRINT
  &FORCES ON
   NDIGITS 12
  &END FORCES
 &END PRINT
 &SUBSYS
  &CELL
{cell}
  &END CELL
  &COORD
{atoms}
  &END COORD
 &END SUBSYS
&END FORCE_EVAL
"""


def in_cp2k(model: Any, path: Path, frames: list[Structure], folder: Path) -> Numbers:
    """CP2K's own NNP from RuNNer's format."""
    from nnpkit.data.formats.cp2k_text import ENERGY, forces_table

    program = shutil.which("cp2k.psmp") or shutil.which("cp2k")
    if program is None:
        raise ImportError("cp2k is not installed (Debian: apt install cp2k)")
    TARGETS.get("runner").write(model, folder / "nnp", TargetOptions())
    energies, forces = [], []
    for frame in frames:
        cell = [f"{n} {x:.12f} {y:.12f} {z:.12f}" for n, (x, y, z) in zip("ABC", frame.cell, strict=True)]
        atoms = [
            f"{s} {x:.12f} {y:.12f} {z:.12f}"
            for s, (x, y, z) in zip(frame.symbols, frame.positions, strict=True)
        ]
        text = CP2K.format(cell="\n".join(cell), atoms="\n".join(atoms))
        (folder / "nnp" / "cp2k.inp").write_text(text)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [program, "-i", "cp2k.inp"], cwd=folder / "nnp", capture_output=True, text=True, env=environment
        )
        energies.append(float(ENERGY.findall(done.stdout)[-1]) * HARTREE)
        table = forces_table(done.stdout, frame.n_atoms)
        assert table is not None
        forces.append(table)
    return energies, forces


ENGINES: dict[str, Callable[[Any, Path, list[Structure], Path], Numbers]] = {
    "ipi": in_ipi, "openmm": in_openmm, "torch-sim": in_torch_sim, "metatomic": in_metatomic,
    "gromacs": in_gromacs, "cp2k": in_cp2k,
}  # fmt: skip


def main() -> int:
    """Run all engines and print the result."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--frames", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        path = arguments.model or Path(name, "model.pt")
        if arguments.model is None:
            drawn_model(path)
        frames = read(arguments.frames, frames=":10") if arguments.frames else drawn_frames(10)
        model = nnpkit.load(path)
        expected = model.predict(frames)
        result: dict[str, dict[str, float] | None] = {}
        for engine, evaluate in ENGINES.items():
            folder = Path(name, engine)
            folder.mkdir()
            try:
                energies, forces = evaluate(model, path, frames, folder)
            except (ImportError, InputError) as error:
                print(f"{engine}: not here: {error}")
                result[engine] = None
                continue
            result[engine] = {
                "energy_difference": max(abs(a - e.energy) for a, e in zip(energies, expected, strict=True)),
                "force_difference": max(
                    float(np.abs(a - e.forces).max()) for a, e in zip(forces, expected, strict=True)
                ),
            }
            print(engine, result[engine])
    print("RESULT", json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
