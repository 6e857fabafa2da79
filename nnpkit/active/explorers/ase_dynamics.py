"""Exploration by molecular dynamics in ASE: slower than LAMMPS, and without it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.constraints import FixAtoms

from nnpkit.active.explorers.contract import Explored, Explorer
from nnpkit.data.distances import shortest_distances
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import LoadedModel
from nnpkit.md.atoms import fixed_atoms, masses_of
from nnpkit.md.calculator import NnpkitCalculator

__all__ = ["ASE", "run_ase"]

_COMPRESSIBILITY = 4.6e-5 / units.bar  # of water; only sets how fast the cell follows


def run_ase(
    start: Structure, model: LoadedModel, job: Mapping[str, Any]
) -> tuple[list[Structure], np.ndarray, str]:
    """Langevin (nvt) or Berendsen (npt) dynamics with the watching of ``pair_style nnpkit``.

    Returns
    -------
    frames : list of Structure
        Collected ones, without labels; ``info["step"]``.
    history : (T, 2) array
        Steps and their force disagreement, eV/Å.
    ended : str
        How the run ended.
    """
    condition, every = job["condition"], job["every"]
    atoms = Atoms(start.symbols, start.positions, cell=start.cell, pbc=start.pbc, masses=masses_of(start))
    fixed = fixed_atoms(start)
    if fixed.any():
        atoms.set_constraint(FixAtoms(mask=fixed))
    atoms.calc = NnpkitCalculator(model)
    random = np.random.default_rng(job["seed"])
    (t0, t1), (p0, p1) = condition["temperature"], condition["pressure"]
    spread = np.sqrt(atoms.get_masses() * units.kB * t0)
    atoms.set_momenta(random.standard_normal((len(atoms), 3)) * spread[:, None])
    dynamics = _dynamics(atoms, condition["ensemble"], job["timestep"], random)
    frames: list[Structure] = []
    history: list[tuple[int, float]] = []
    last, steps = -job["interval"], condition["steps"]
    for step in range(0, steps + 1, every):
        verdict = _look(atoms, job)
        if isinstance(verdict, str):
            history.append((step, np.inf))
            return frames, np.array(history).reshape(-1, 2), f"run ends at step {step}: {verdict}"
        disagreement, worth = verdict
        history.append((step, disagreement))
        if worth and step - last >= job["interval"] and len(frames) < job["max_frames"]:
            last = step
            frames.append(
                Structure(
                    list(atoms.symbols), atoms.positions, atoms.cell.array, atoms.pbc, info={"step": step}
                )
            )
        part = step / steps
        dynamics.set_temperature(temperature_K=t0 + part * (t1 - t0))
        if condition["ensemble"] == "npt":
            dynamics.pressure = (p0 + part * (p1 - p0)) * units.bar  # set_pressure of ASE 3.29 is broken
        if step < steps:
            dynamics.run(min(every, steps - step))
            _deform(atoms, start, condition["deformation"], min(1.0, (step + every) / steps))
    return frames, np.array(history).reshape(-1, 2), "all steps done"


def _deform(atoms: Atoms, start: Structure, factors: Sequence[float] | None, part: float) -> None:
    """Scale the cell vectors along the periodic directions; `part` of the run is over."""
    if factors is None:
        return
    scale = np.where(start.pbc, 1.0 + part * (np.array(factors) - 1.0), 1.0)
    atoms.set_cell(start.cell * scale[:, None], scale_atoms=True)


def _dynamics(atoms: Atoms, ensemble: str, timestep: float, random: np.random.Generator) -> Any:
    if ensemble == "npt":
        from ase.md.nptberendsen import NPTBerendsen

        return NPTBerendsen(
            atoms, timestep * units.fs, temperature_K=300.0, pressure_au=0.0, taut=100 * units.fs, taup=1000 * units.fs,
            compressibility_au=_COMPRESSIBILITY,
        )  # fmt: skip
    from ase.md.langevin import Langevin

    return Langevin(
        atoms, timestep * units.fs, temperature_K=300.0, friction=0.01 / units.fs, fixcm=False, rng=random
    )


def _look(atoms: Atoms, job: Mapping[str, Any]) -> tuple[float, bool] | str:
    """Disagreement and whether the frame is worth keeping, or why the run ends."""
    forces = atoms.get_forces()
    largest = float(np.linalg.norm(forces, axis=1).max())
    if not largest <= job["max_force"]:
        return f"a force of {largest:.3g} eV/Å"
    structure = Structure(list(atoms.symbols), atoms.positions, atoms.cell.array, atoms.pbc)
    nearest = min((d.distance for d in shortest_distances([structure]).values()), default=np.inf)
    if nearest < job["min_distance"]:
        return f"atoms at {nearest:.3g} Å"
    disagreement = float(np.max(atoms.calc.results.get("forces_std", 0.0)))
    if not disagreement <= job["upper"]:
        return f"a force disagreement of {disagreement:.3g} eV/Å"
    return disagreement, disagreement >= job["lower"]


class AseExplorer(Explorer):
    """Molecular dynamics in ASE."""

    def run(self, folder: Path, start: Structure, model: LoadedModel, job: Mapping[str, Any]) -> Explored:
        """See `Explorer` and `run_ase`."""
        frames, history, ended = run_ase(start, model, job)
        return Explored(frames, history, np.zeros(0), ended)


ASE = AseExplorer()
