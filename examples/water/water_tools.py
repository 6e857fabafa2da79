"""The level of theory and the few measures that making and checking the reference set share."""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import Calculator
from ase.io import read
from ase.neighborlist import neighbor_list

HERE = Path(__file__).resolve().parent
MOLAR_MASS = 18.01528  # g/mol


def gfn1(accuracy: float) -> Calculator:
    """GFN1-xTB through tblite (Grimme et al., J. Chem. Theory Comput. 13, 1989, 2017).

    `accuracy` scales tblite's thresholds of self-consistency. On a 96-atom box, 10 leaves 2e-4 eV/Å in the
    forces (enough to move atoms), 0.01 leaves 1e-7 eV/Å and 1e-11 eV in the energy (the labels).
    """
    from tblite.ase import TBLite

    return TBLite(method="GFN1-xTB", accuracy=accuracy, verbosity=0)


def shipped(name: str) -> list[Atoms]:
    """Frames of the shipped file `name`, "train" or "test"."""
    with lzma.open(HERE / f"{name}.xyz.xz", "rt") as stream:
        return read(stream, ":", format="extxyz")


def density_of(atoms: Atoms) -> float:
    """Mass density (g/mL) of a periodic box of O H H molecules."""
    return float(len(atoms) / 3 * MOLAR_MASS / units._Nav * 1e24 / atoms.get_volume())


def pressure_of(frame: Atoms) -> float:
    """Pressure (GPa): virial of the label plus N k T / V of all atoms at the bath's temperature."""
    kinetic = len(frame) * units.kB * frame.info["temperature"] / frame.get_volume()
    return float(kinetic - np.trace(frame.get_stress(voigt=False)) / 3) / units.GPa


def closest_pairs(atoms: Atoms) -> dict[str, float]:
    """Smallest distance (Å) per element pair, of the pairs within 3 Å."""
    first, second, distance = neighbor_list("ijd", atoms, 3.0)
    symbols = np.array(atoms.get_chemical_symbols())
    names = np.array(["".join(sorted(p)) for p in zip(symbols[first], symbols[second], strict=True)])
    return {str(name): float(distance[names == name].min()) for name in np.unique(names)}
