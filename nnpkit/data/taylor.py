"""Forces as energies: displaced structures whose energies are extrapolated to first order.

Cooper, Kästner, Urban and Artrith, npj Comput. Mater. 6, 54 (2020), eq. 10: ``E' = E - sum_i F_i . delta_i``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nnpkit.data.distances import shortest_distances
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

__all__ = ["TaylorRules", "TaylorSet", "taylor_structures"]

_WHERE = "training.force_training"


@dataclass(frozen=True)
class TaylorRules:
    """How structures are displaced.

    Attributes
    ----------
    strategy : str
        ``cartesian`` (A): one atom by ``+-displacement`` along x, y or z; ``random`` (B): every atom by a random vector
        no longer than ``displacement``, without moving the centre of mass.
    multiple : int
        Additional structures of each structure; at most six times its atoms with ``cartesian``.
    displacement : float or mapping
        Å, of all elements or of each.
    min_force : float
        Structures without any force longer than this (eV/Å) are relaxed and left out.
    """

    strategy: Literal["cartesian", "random"] = "random"
    multiple: int = 22
    displacement: float | Mapping[str, float] = 0.01
    min_force: float = 0.05

    def of(self, element: str) -> float:
        """Displacement of an element, Å.

        Raises
        ------
        InputError
            If there is none.
        """
        if not isinstance(self.displacement, Mapping):
            return self.displacement
        if element not in self.displacement:
            raise InputError(
                f"no displacement of {element}", where=f"{_WHERE}.displacement",
                expected="a length for every element of the training structures",
            )  # fmt: skip
        return self.displacement[element]


@dataclass(frozen=True)
class TaylorSet:
    """Additional structures, the index of the structure that each comes from, and what was done in words."""

    structures: list[Structure]
    parents: list[int]
    report: list[str]


def taylor_structures(structures: Sequence[Structure], rules: TaylorRules, seed: int) -> TaylorSet:
    """Displaced copies of `structures` with energies from a Taylor expansion, and no other labels.

    Structures without energy or forces, and relaxed ones, have no copies.

    Raises
    ------
    InputError
        If no structure has both labels, all are relaxed, or the displacement is not short against the shortest
        distance of a pair of elements.
    """
    labelled = [n for n, s in enumerate(structures) if s.energy is not None and s.forces is not None]
    if not labelled:
        raise InputError(
            "no training structure has both energy and forces", where=f"{_WHERE}: taylor",
            hint="the expansion needs them: give data with forces, or set it to none",
        )  # fmt: skip
    used = [n for n in labelled if _largest_force(structures[n]) >= rules.min_force]
    if not used:
        raise InputError(
            f"no training structure has a force of {rules.min_force:g} eV/Å or more", where=f"{_WHERE}.min_force",
            hint="relaxed structures say nothing to first order: lower it, or give others",
        )  # fmt: skip
    _require_short(rules, [structures[n] for n in used])
    copies: list[Structure] = []
    parents: list[int] = []
    for n in used:
        random = np.random.default_rng([seed, n])
        for k, moves in enumerate(_displacements(structures[n], rules, random), start=1):
            copies.append(_displaced(structures[n], moves, k))
            parents.append(n)
    return TaylorSet(copies, parents, _report(structures, labelled, used, copies, parents))


def _largest_force(structure: Structure) -> float:
    """eV/Å, the length of a vector."""
    forces = structure.forces
    return 0.0 if forces is None or not len(forces) else float(np.linalg.norm(forces, axis=1).max())


def _require_short(rules: TaylorRules, structures: Sequence[Structure]) -> None:
    """Refuse displacements that bring a pair of atoms past each other."""
    for pair, shortest in shortest_distances(structures).items():
        first, second = (rules.of(element) for element in pair.split("-"))
        approach = max(first, second) if rules.strategy == "cartesian" else first + second
        if approach >= shortest.distance:
            raise InputError(
                f"displacements move {pair} by {approach:g} Å, but the shortest such distance is "
                f"{shortest.distance:.3f} Å ({shortest.structure})",
                where=f"{_WHERE}.displacement",
                hint=f"about a hundredth of a bond is right, {0.01 * shortest.distance:.3f} Å here",
            )  # fmt: skip


def _displacements(structure: Structure, rules: TaylorRules, random: np.random.Generator) -> list[np.ndarray]:
    """Vectors (N, 3), Å, of each copy of a structure."""
    lengths = np.array([rules.of(symbol) for symbol in structure.symbols])
    if rules.strategy == "random":
        return [_random_vectors(lengths, _masses(structure), random) for _ in range(rules.multiple)]
    moves = []
    for atom in random.permutation(structure.n_atoms)[: -(-rules.multiple // 6)]:
        for axis in random.permutation(3):
            for sign in (1.0, -1.0):
                vector = np.zeros((structure.n_atoms, 3))
                vector[atom, axis] = sign * lengths[atom]
                moves.append(vector)
    return moves[: rules.multiple]


def _random_vectors(lengths: np.ndarray, masses: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Vectors (N, 3) uniform in balls of the radii `lengths`, their centre of mass taken out, none too long."""
    direction = random.normal(size=(len(lengths), 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    vectors = direction * (lengths * random.uniform(size=len(lengths)) ** (1.0 / 3.0))[:, None]
    vectors -= masses @ vectors / masses.sum()
    norms = np.linalg.norm(vectors, axis=1)
    moving = norms > 0.0
    return vectors * min(1.0, float((lengths[moving] / norms[moving]).min(initial=1.0)))


def _masses(structure: Structure) -> np.ndarray:
    from ase.data import atomic_masses, atomic_numbers

    return np.array([atomic_masses[atomic_numbers[symbol]] for symbol in structure.symbols])


def _displaced(structure: Structure, moves: np.ndarray, number: int) -> Structure:
    assert structure.energy is not None
    assert structure.forces is not None
    return Structure(
        structure.symbols, structure.positions + moves, structure.cell, structure.pbc,
        energy=structure.energy - float(np.sum(structure.forces * moves)),
        total_charge=structure.total_charge, multiplicity=structure.multiplicity, name=f"{structure.name}+{number}",
        info=structure.info,
    )  # fmt: skip


def _report(
    structures: Sequence[Structure],
    labelled: Sequence[int],
    used: Sequence[int],
    copies: Sequence[Structure],
    parents: Sequence[int],
) -> list[str]:
    changes = [
        float(copy.energy or 0.0) - float(structures[n].energy or 0.0)
        for copy, n in zip(copies, parents, strict=True)
    ]
    size = float(np.sqrt(np.mean(np.square(changes))))
    lines = [
        f"Taylor expansion: {len(copies)} displaced copies of {len(used)} structures, their energies changed by "
        f"{size:.2g} eV (RMS)"
    ]
    if len(used) < len(structures):
        relaxed, bare = len(labelled) - len(used), len(structures) - len(labelled)
        lines.append(f"without copies: {relaxed} relaxed structures, {bare} without energy or forces")
    return lines
