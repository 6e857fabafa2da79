"""Checks and statistics of the shipped files, made by reading them back."""

from __future__ import annotations

import logging
import math
from collections import defaultdict

import numpy as np
from ase import Atoms
from water_tools import closest_pairs, gfn1, pressure_of, shipped

log = logging.getLogger("reference")


def check(seed: int) -> None:
    """Check order and split, recompute two random frames, and one stress by finite strain.

    Raises
    ------
    SystemExit
        If a label differs from its recomputation, or the files are not what the README says.
    """
    train, test = shipped("train"), shipped("test")
    frames = train + test
    shared = {f.info["trajectory"] for f in train} & {f.info["trajectory"] for f in test}
    ordered = all(f.get_chemical_symbols() == ["O", "H", "H"] * (len(f) // 3) for f in frames)
    net_force = max(np.abs(f.get_forces().sum(axis=0)).max() for f in frames)
    log.info("no trajectory in both files: %s; atoms in the order O H H: %s; largest net force %.1e eV/A",
             not shared, ordered, net_force)  # fmt: skip
    good = not shared and ordered and net_force < 1e-4

    rng = np.random.default_rng(seed)
    boxes = [f for f in frames if f.pbc.all()]
    clusters = [f for f in frames if not f.pbc.any()]
    for kind in (boxes, clusters):
        good &= recomputed(kind[rng.integers(len(kind))])
    box = next(f for f in boxes if f.info["stage"] == "strained")
    label, numeric = box.get_stress(voigt=False), finite_strain_stress(box)
    difference = np.abs(label - numeric).max()
    log.info("stress of %s, label            (eV/A^3): %s", box.info["trajectory"], label.round(8).tolist())
    log.info("stress of %s, finite strain    (eV/A^3): %s", box.info["trajectory"], numeric.round(8).tolist())
    log.info("largest difference %.1e eV/A^3", difference)
    if not (good and difference < 1e-6):
        raise SystemExit("check failed")


def recomputed(frame: Atoms) -> bool:
    """Recompute one frame's labels; tell whether they agree."""
    again = Atoms(frame.symbols, frame.positions, cell=frame.cell, pbc=frame.pbc, calculator=gfn1(0.01))
    energy = abs(again.get_potential_energy() - frame.get_potential_energy())
    forces = np.abs(again.get_forces() - frame.get_forces()).max()
    stress = np.abs(again.get_stress() - frame.get_stress()).max() if frame.pbc.all() else 0.0
    log.info("recomputed %s at %g fs: differs by %.1e eV, %.1e eV/A, %.1e eV/A^3",
             frame.info["trajectory"], frame.info["time_fs"], energy, forces, stress)  # fmt: skip
    return energy < 1e-6 and forces < 1e-5 and stress < 1e-7


def finite_strain_stress(frame: Atoms, step: float = 1e-3) -> np.ndarray:
    """Return 1/V dE/dstrain (3, 3) in eV/Å^3, by central differences of GFN1 energies.

    The energy has steps of some 1e-7 eV where a term enters a cut-off lattice sum. They limit the agreement:
    on a box of this set it improves from 3e-6 to 5e-7 eV/Å^3 as `step` grows from 3e-5 to 1e-3.
    """
    stress = np.zeros((3, 3))
    for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)):
        energies = []
        for sign in (1, -1):
            deform = np.eye(3)
            deform[i, j] += sign * step / 2
            deform[j, i] += sign * step / 2
            cell, positions = frame.cell.array @ deform, frame.positions @ deform
            work = Atoms(frame.symbols, positions, cell=cell, pbc=True, calculator=gfn1(0.001))
            energies.append(work.get_potential_energy())
        stress[i, j] = stress[j, i] = (energies[0] - energies[1]) / (2 * step * frame.get_volume())
    return stress


def report() -> None:
    """Log statistics of the shipped files, and pressure against density at 300-350 K."""
    everything = []
    for name in ("train", "test"):
        frames = shipped(name)
        everything += frames
        log.info("%s.xyz.xz: %d frames, %d atoms", name, len(frames), sum(map(len, frames)))
        kinds = defaultdict(list)
        for frame in frames:
            kinds[frame.info["stage"]].append(frame)
        for stage, part in sorted(kinds.items()):
            count = len({f.info["trajectory"] for f in part})
            energy = [f.get_potential_energy() / len(f) for f in part]
            force = np.concatenate([f.get_forces().ravel() for f in part])
            log.info(
                "  %-12s %3d frames of %2d trajectories; E %.4f to %.4f eV/atom; F rms %.3f, max %.2f eV/A",
                stage, len(part), count, min(energy), max(energy), force.std(), np.abs(force).max(),
            )  # fmt: skip
    for pair in ("HH", "HO", "OO"):
        smallest = min(closest_pairs(f).get(pair, math.inf) for f in everything)
        log.info("smallest %s distance %.3f A", pair, smallest)
    groups = defaultdict(list)
    for frame in everything:
        if frame.pbc.all() and frame.info["stage"] != "strained" and frame.info["temperature"] <= 350:
            groups[frame.info["stage"], round(frame.info["density"] * 20) / 20].append(frame)
    for (stage, density), part in sorted(groups.items()):
        pressure = [pressure_of(f) for f in part]
        count = len({f.info["trajectory"] for f in part})
        log.info("%-12s 300-350 K, %.2f g/mL: P = %+.2f GPa, spread %.2f (%d frames of %d trajectories)",
                 stage, density, np.mean(pressure), np.std(pressure), len(part), count)  # fmt: skip
    for stage in sorted({stage for stage, _ in groups}):
        part = [f for key, frames in groups.items() if key[0] == stage for f in frames]
        log.info("%-12s 300-350 K: P = 0 near %.2f g/mL (quadratic fit)", stage, zero_pressure_density(part))


def zero_pressure_density(frames: list[Atoms]) -> float:
    """Density (g/mL) at which a quadratic fit of pressure over density crosses zero, rising."""
    density = [f.info["density"] for f in frames]
    fit = np.polynomial.Polynomial.fit(density, [pressure_of(f) for f in frames], 2)
    roots = [r.real for r in fit.roots() if abs(r.imag) < 1e-9 and fit.deriv()(r.real) > 0]
    return roots[0] if roots else math.nan
