"""Structures in which charge moves far, after Ko, Finkler, Goedecker and Behler (2021), labelled at GFN1-xTB level.

Charges, energies and forces come from tblite. Each system has two kinds of structures that a cutoff cannot tell apart,
or not everywhere: another end of the molecule, another total charge, an atom that is missing or another one far below.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.optimize import BFGS
from tblite.ase import TBLite

from nnpkit.active.labellers.ase_calculator import AseReference
from nnpkit.active.labellers.reference_calculation import CalculationError, Limits, compute_label
from nnpkit.data.structure import Structure

__all__ = ["SYSTEMS", "labelled"]

METHOD = {"method": "GFN1-xTB", "accuracy": 0.01, "verbosity": 0}


def relaxed(atoms: Atoms, charge: float, steps: int = 150) -> Atoms:
    """The structure near `atoms` with the lowest energy."""
    atoms.calc = TBLite(**{**METHOD, "accuracy": 1.0}, charge=charge)
    BFGS(atoms, logfile=None).run(0.05, steps)
    atoms.calc = None
    return atoms


def rattled(atoms: Atoms, width: float, random: np.random.Generator) -> Atoms:
    """A copy whose atoms are displaced by normally distributed numbers, Å."""
    copy = atoms.copy()
    copy.positions += width * random.normal(size=copy.positions.shape)
    return copy


def carbon_chain(n: int, random: np.random.Generator) -> list[tuple[Atoms, float]]:
    """C10H2, and C10H3+ with its charge and third hydrogen at one end."""
    z = np.cumsum([0.0] + [1.23, 1.35] * 4 + [1.23])
    chain = [[0.0, 0.0, x] for x in z]
    ends = [[0.0, 0.0, -1.07], [0.0, 0.0, z[-1] + 1.07]]
    neutral = relaxed(Atoms("C10H2", [*chain, *ends]), 0.0)
    more = [[0.0, 0.93, -0.56], [0.0, -0.93, -0.56], ends[1]]
    cation = relaxed(Atoms("C10H3", [*chain, *more]), 1.0)
    return [(rattled(a, 0.04, random), q) for a, q in ((neutral, 0.0), (cation, 1.0)) for _ in range(n)]


def silver(n: int, random: np.random.Generator) -> list[tuple[Atoms, float]]:
    """Ag3 with the total charge +1 or -1, from triangles to chains."""
    found = []
    for charge in (1.0, -1.0):
        for _ in range(n):
            angle, (a, b) = np.radians(random.uniform(55.0, 180.0)), 2.7 + 0.12 * random.normal(size=2)
            found.append(
                (Atoms("Ag3", [[a, 0, 0], [0, 0, 0], [b * np.cos(angle), b * np.sin(angle), 0]]), charge)
            )
    return found


def salt(n: int, random: np.random.Generator) -> list[tuple[Atoms, float]]:
    """Na9Cl8+, and the same without one of its sodium atoms, with the same charge."""
    sites = np.array([[i, j, k] for i in range(3) for j in range(3) for k in range(2)])
    symbols = np.where(sites.sum(1) % 2 == 0, "Na", "Cl")
    last = int(np.flatnonzero(symbols == "Cl")[-1])
    kept = np.arange(len(sites)) != last
    whole = relaxed(Atoms(symbols[kept].tolist(), 2.7 * sites[kept]), 1.0)
    sodium = np.array(whole.get_chemical_symbols()) == "Na"
    corner = int(np.argmin(np.where(sodium, whole.positions.sum(1), np.inf)))
    less = whole.copy()
    del less[corner]
    less = relaxed(less, 1.0)
    return [(rattled(a, 0.08, random), 1.0) for a in (whole, less) for _ in range(n)]


def gold(n: int, random: np.random.Generator) -> list[tuple[Atoms, float]]:
    """Au2 upright above oxygen on a cluster of MgO, with and without aluminium in its lowest layer."""
    sites = np.array([[i, j, k] for i in range(4) for j in range(3) for k in range(3)], dtype=float)
    symbols = np.where(sites.sum(1) % 2 == 0, "Mg", "O").tolist()
    below = int(
        np.flatnonzero((sites == [1, 1, 0]).all(1))[0]
    )  # Mg, two layers below the oxygen under the gold
    foot = 2.1 * sites[int(np.flatnonzero((sites == [2, 1, 2]).all(1))[0])]
    found = []
    for element in ("Mg", "Al"):
        symbols[below] = element
        for _ in range(n):
            first = foot + np.array([0.0, 0.0, random.uniform(1.95, 2.7)])
            second = first + np.array([0.0, 0.0, 2.5 + 0.06 * random.normal()])
            atoms = Atoms([*symbols, "Au", "Au"], [*(2.1 * sites), first, second])
            found.append((rattled(atoms, 0.03, random), 0.0))
    return found


SYSTEMS: dict[str, Callable[[int, np.random.Generator], list[tuple[Atoms, float]]]] = {
    "silver": silver, "carbon_chain": carbon_chain, "salt": salt, "gold_on_oxide": gold,
}  # fmt: skip
"""By name: what makes `n` structures of each of its two kinds, with their total charges."""


def labelled(name: str, n: int, seed: int = 1) -> list[Structure]:
    """Structures of the system `name` with energies, forces, charges and dipoles, as far as they converge."""
    reference, found = AseReference("tblite", METHOD), []
    limits = Limits(energy_jump=np.inf, max_force=200.0, net_force=0.05)
    with tempfile.TemporaryDirectory() as folder:
        for number, (atoms, charge) in enumerate(SYSTEMS[name](n, np.random.default_rng(seed))):
            bare = Structure.from_atoms(atoms, f"{name}#{number}").replace(total_charge=charge)
            try:
                label = compute_label(reference, bare, Path(folder), limits, {})
            except CalculationError as error:
                print(f"{bare.name}: {error}")
                continue
            kind = "first" if number < n else "second"
            found.append(label.replace(info={"config_type": kind}))
    return found
