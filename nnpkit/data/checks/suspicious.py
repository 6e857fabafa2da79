"""Suspicious structures of a data set, by name, each with what to do about it.

Nothing here stops a training: a finding is a reason to look.  What makes a structure unusable is refused
earlier, by `nnpkit.data.validation`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nnpkit.data.checks.charge_sums import charge_sums
from nnpkit.data.checks.near_duplicates import near_contradictions
from nnpkit.data.checks.pair_potential import Slope, forces_compared, pair_potential_test
from nnpkit.data.checks.strain import strain_tests
from nnpkit.data.checks.surroundings import surroundings
from nnpkit.data.dataset import elements_of, fit_reference_energies
from nnpkit.data.distances import close_pairs
from nnpkit.data.structure import Structure
from nnpkit.units import EV_PER_A3_IN_BAR, EV_PER_A3_IN_GPA, HARTREE

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "LARGE_FORCE", "NET_FORCE_NOISE", "SHORT", "WHOLE_SET", "Finding", "find_lonely", "find_suspicious",
    "find_wrong_units", "findings_table", "fingerprint", "relative_distances",
]  # fmt: skip

WHOLE_SET = "all structures"
"""Name of findings that concern the data set and not one structure."""

_SAME_PLACE = 1e-3  # Å; grid on which two structures are the same
_SAME_ENERGY, _SAME_FORCE = 1e-3, 0.05  # eV/atom, eV/Å; labels of duplicates that differ by more contradict
LARGE_FORCE, _LARGE_FORCE_RATIO = 15.0, 5.0  # eV/Å, and times the median of the largest forces
NET_FORCE_NOISE = 0.05  # eV/Å; |sum of forces| / sqrt(N) estimates the noise of a force
SHORT = 0.65  # of the sum of covalent radii; sound data go down to 0.69
_USUAL_SHORTEST = (0.63, 1.35)  # the same, median over structures; sound data have 0.79 to 1.20
_FARTHEST = 1.5  # distances are looked at up to this, in the same unit
_ENERGY_FACTOR, _STRESS_FACTOR = 6.0, 3.0  # off by more than this is no error of the pair potential
_SPREAD_FACTOR = 10.0  # the same where energies are hardly correlated with its prediction
_STRAIN_FACTOR = 2.0
_FORCE_FACTOR, _BOTH_WAYS = 6.0, 3.0  # between files of the same unit: 0.5 to 1.5 in both directions
_LEAST_OF_FILE, _MOST_FILES = 8, 8  # structures of a file that is looked at by itself; files
_FOLDERS = re.compile(r"\S*/(?=[^/\s]+#\d)")  # of the file in the name of a structure
_NOBLE_GASES = {"He", "Ne", "Ar", "Kr", "Xe", "Rn"}


class Finding(NamedTuple):
    """Something suspicious about a structure, or about all of them."""

    kind: str
    structure: str
    value: float
    message: str


def find_suspicious(structures: Sequence[Structure], cutoff: float | None = None) -> list[Finding]:
    """All findings about the structures, those about the whole set first.

    Kinds: ``length unit``, ``energy unit``, ``force unit``, ``force sign``, ``stress unit``, ``stress sign``,
    ``zero labels``, ``charge sum``, ``contradiction``, ``duplicate``, ``other charge``, ``short distance``,
    ``large force``, ``energy``, ``net force`` and, with a cutoff (Å), ``few neighbours``, ``own images``.  Values are
    in Å, eV, eV/Å and e, or a factor for the units and signs.
    """
    if not structures:
        return []
    distances = relative_distances(structures)
    units = _unit_findings(structures, distances)
    findings = [
        *units,
        *([] if any(f.kind == "length unit" for f in units) else _short_distances(structures, distances)),
        *_zero_labels(structures), *(duplicates := list(_duplicates(structures))),
        *_near_contradictions(structures, duplicates), *_surroundings(structures, cutoff),
        *_large_forces(structures), *_energy_outliers(structures), *_net_forces(structures),
        *(Finding("charge sum", *found) for found in charge_sums(structures)),
    ]  # fmt: skip
    return sorted(findings, key=lambda finding: finding.structure != WHOLE_SET)


def find_lonely(structures: Sequence[Structure], cutoff: float) -> list[Finding]:
    """Those findings of `find_suspicious` that are about neighbours within the `cutoff` (Å)."""
    return list(_surroundings(structures, cutoff))


def find_wrong_units(structures: Sequence[Structure]) -> list[Finding]:
    """Those findings of `find_suspicious` that are about units and signs."""
    return _unit_findings(structures, relative_distances(structures)) if structures else []


def _unit_findings(structures: Sequence[Structure], distances: Sequence[_Shortest | None]) -> list[Finding]:
    """Of the whole set, or of single files where the others are sound or say otherwise."""
    files: dict[str, list[int]] = {}
    for k, structure in enumerate(structures):
        files.setdefault(structure.name.rpartition("#")[0] or structure.name, []).append(k)
    by_size = sorted(files, key=lambda file: -len(files[file]))[:_MOST_FILES]
    large = [file for file in by_size if len(files[file]) >= _LEAST_OF_FILE]
    if len(large) < 2:
        return _units_of(structures, distances)
    parts = {file: [structures[k] for k in files[file]] for file in large}
    alone = {
        file: [
            finding._replace(structure=file)
            for finding in _units_of(parts[file], [distances[k] for k in files[file]])
            if finding.structure == WHOLE_SET and finding.kind != "stress offset"
        ]
        for file in large
    }
    common = set.intersection(*({finding.kind for finding in found} for found in alone.values()))
    odd = {file: own for file in large if (own := [f for f in alone[file] if f.kind not in common])}
    # what wrong forces do to stresses is no finding of its own
    stress = {file for file, own in odd.items() if all(finding.kind.startswith("stress") for finding in own)}
    candidates = [file for file in large if file not in odd or file in stress]
    odd |= {
        finding.structure: [finding] for finding in _other_forces({file: parts[file] for file in candidates})
    }
    found = [finding for own in odd.values() for finding in own]
    sound = [k for file in files if file not in odd for k in files[file]]
    return found + (_units_of([structures[k] for k in sound], [distances[k] for k in sound]) if sound else [])


def _other_forces(files: Mapping[str, Sequence[Structure]]) -> Iterator[Finding]:
    """Files whose energies and forces agree with each other, but not with the forces of the largest file."""
    largest, *others = files or [""]
    for file in others:
        found = forces_compared(files[largest], files[file])
        back = None if found is None else forces_compared(files[file], files[largest])
        if found is None or back is None or not (found.conclusive and back.conclusive):
            continue
        # what was fitted to few surroundings says anything of others: only a unit shows both ways
        agree = 1 / _BOTH_WAYS < found.slope * back.slope < _BOTH_WAYS
        if agree and not 1 / _FORCE_FACTOR < found.slope < _FORCE_FACTOR:
            yield Finding(
                "force unit", file, found.slope,
                f"its forces are {_times(found.slope)} those that {largest} has between the same atoms: one of the "
                "files has another unit (51.4 eV/Å = 1 hartree/bohr, 25.7 = 1 Ry/bohr, 0.0434 = 1 kcal/mol/Å, "
                "0.0104 = 1 kJ/mol/Å), and its energies too",
            )  # fmt: skip


def _units_of(structures: Sequence[Structure], distances: Sequence[_Shortest | None]) -> list[Finding]:
    length_unit = list(_length_unit(structures, distances))
    consistency = [*_energy_bound(structures), *_pair_test(structures)]
    wrong_energy = any(finding.kind in ("energy unit", "force sign") for finding in consistency)
    # one cause, one finding: wrong energies make right stresses look wrong
    return [*length_unit, *consistency, *([] if wrong_energy else _strain_test(structures))]


def _near_contradictions(structures: Sequence[Structure], duplicates: Sequence[Finding]) -> Iterator[Finding]:
    known = {finding.structure for finding in duplicates}
    for pair in near_contradictions([s for s in structures if s.name not in known]):
        yield Finding(
            "contradiction", pair.second, pair.excess,
            f"{pair.displacement:.3g} Å from {pair.first} at most, but its energy differs by {pair.energy * 1e3:.3g} "
            f"meV/atom, {pair.excess * 1e3:.3g} more than such a displacement explains: keep the right one",
        )  # fmt: skip


def _surroundings(structures: Sequence[Structure], cutoff: float | None) -> Iterator[Finding]:
    for structure in structures if cutoff else ():
        found = surroundings(structure, float(cutoff or 0.0))
        if found.lonely and structure.n_atoms > 1:
            symbol = structure.symbols[found.lonely[0]]
            yield Finding(
                "few neighbours", structure.name, float(len(found.lonely)),
                f"{len(found.lonely)} of {structure.n_atoms} atoms ({symbol}, number {found.lonely[0]}) have no other "
                f"atom within the cutoff of {cutoff:.3g} Å: their energy is a constant, their force zero; a gas?",
            )  # fmt: skip
        elif found.own_images_only:
            yield Finding(
                "own images", structure.name, float(structure.n_atoms),
                f"within the cutoff of {cutoff:.3g} Å its atoms see images of themselves only, whose forces cancel: it "
                "teaches energies and stresses, no forces",
            )  # fmt: skip


class _Shortest(NamedTuple):
    """The pair of atoms that is closest relative to the sum of its covalent radii."""

    ratio: float
    distance: float
    pair: str


def relative_distances(structures: Sequence[Structure]) -> list[_Shortest | None]:
    """Of each structure the pair that is closest relative to its covalent radii; None if all are far apart."""
    from ase.data import atomic_numbers, covalent_radii

    shortest: list[_Shortest | None] = []
    for structure in structures:
        radii = covalent_radii[[atomic_numbers[symbol] for symbol in structure.symbols]]
        cutoff = _FARTHEST * 2.0 * float(radii.max())
        pairs = close_pairs(structure, cutoff)
        if not len(pairs.distance):
            shortest.append(None)
            continue
        ratio = pairs.distance / (radii[pairs.first] + radii[pairs.second])
        k = int(ratio.argmin())
        pair = f"{structure.symbols[pairs.first[k]]}-{structure.symbols[pairs.second[k]]}"
        shortest.append(_Shortest(float(ratio[k]), float(pairs.distance[k]), pair))
    return shortest


def _length_unit(structures: Sequence[Structure], shortest: Sequence[_Shortest | None]) -> Iterator[Finding]:
    bonded = [s is None or s.n_atoms > 1 or s.pbc.any() for s in structures]
    if _NOBLE_GASES & set(elements_of(structures)) or not any(bonded):
        return
    ratios = [_FARTHEST if d is None else d.ratio for d, use in zip(shortest, bonded, strict=True) if use]
    median = float(np.median(ratios))
    if median < _USUAL_SHORTEST[0]:
        message = "distances are about half of what they should be: Å read as bohr? Set units: angstrom-ev"
    elif median > _USUAL_SHORTEST[1]:
        message = "distances are about twice what they should be: bohr read as Å? Set units: bohr-hartree"
    else:
        return
    yield Finding("length unit", WHOLE_SET, median, message)


def _energy_bound(structures: Sequence[Structure]) -> Iterator[Finding]:
    """More energy than all electrons of the atoms have (Thomas-Fermi, 0.7687 Z^(7/3) hartree)."""
    from ase.data import atomic_numbers

    low = []
    for s in structures:
        bound = sum(n * 0.7687 * atomic_numbers[e] ** (7 / 3) for e, n in s.composition.items()) * HARTREE
        if s.energy is not None and s.energy < -1.2 * bound:
            low.append((s.energy / s.n_atoms, s.name))
    if low:
        value, name = min(low)
        yield Finding(
            "energy unit", WHOLE_SET if len(low) == len(structures) else name, value,
            f"{value:.6g} eV/atom is more than all electrons of these atoms bind: energies are not in eV",
        )  # fmt: skip


def _pair_test(structures: Sequence[Structure]) -> Iterator[Finding]:
    test = pair_potential_test(structures)
    if test is None:
        return
    wrong_energy = [] if test.energy is None else list(_judge_energy(test.energy))
    yield from wrong_energy
    if test.virial is not None and test.virial.conclusive and not wrong_energy:
        yield from _judge_stress(test.virial, "the forces", _STRESS_FACTOR, WHOLE_SET)


def _judge_energy(energy: Slope) -> Iterator[Finding]:
    ratio = energy.slope if energy.conclusive else energy.spread_ratio
    factor = _ENERGY_FACTOR if energy.conclusive else _SPREAD_FACTOR
    if energy.conclusive and energy.slope < 0:
        yield Finding(
            "force sign", WHOLE_SET, energy.slope,
            "energies rise along the forces: the forces (or the energies) have the wrong sign",
        )  # fmt: skip
    elif not 1 / factor < ratio < factor:
        yield Finding(
            "energy unit", WHOLE_SET, ratio,
            f"differences of energy are {_times(ratio)} what the forces imply: one of them has the wrong "
            "unit (27.2 eV = 1 hartree, 13.6 eV = 1 Ry, 51.4 eV/Å = 1 hartree/bohr, 0.0434 eV = 1 kcal/mol)",
        )  # fmt: skip


def _judge_stress(slope: Slope, witness: str, factor: float, name: str) -> Iterator[Finding]:
    larger = slope.slope if witness == "the forces" else 1 / slope.slope
    wrong_unit = not 1 / factor < abs(larger) < factor
    unit = f" and is {_times(abs(larger))} what they say{_unit_of_stress(abs(larger))}" if wrong_unit else ""
    if slope.slope < 0:
        yield Finding(
            "stress sign", name, slope.slope,
            f"the stress has the opposite sign of what {witness} imply{unit}: it must be +1/V dE/dstrain, negative "
            "under compression (VASP, CP2K and LAMMPS print the opposite), in eV/Å³ (1 eV/Å³ = 160.2 GPa = 1602 kbar "
            "= 1.602e6 bar); a virial is -stress*volume",
        )  # fmt: skip
    elif wrong_unit:
        yield Finding(
            "stress unit", name, larger,
            f"the stress is {_times(larger)} what {witness} imply{_unit_of_stress(larger)}: it must be in eV/Å³ "
            "(1 eV/Å³ = 160.2 GPa = 1602 kbar = 1.602e6 bar)",
        )  # fmt: skip


def _unit_of_stress(ratio: float) -> str:
    """Unit that a stress this much too large is likely to be in."""
    units = {"GPa": EV_PER_A3_IN_GPA, "kbar": EV_PER_A3_IN_GPA * 10, "bar": EV_PER_A3_IN_BAR}
    near = [unit for unit, factor in units.items() if 1 / 3 < ratio / factor < 3]
    return f", as if in {near[0]}" if near else ""


def _times(factor: float) -> str:
    return f"{factor:.3g} times" if factor >= 1 else f"1/{1 / factor:.3g} of"


def _strain_test(structures: Sequence[Structure]) -> Iterator[Finding]:
    for test in strain_tests(structures):
        if test.conclusive:
            yield from _judge_stress(
                Slope(test.slope, test.correlation), "energies of strained cells", _STRAIN_FACTOR,
                " and ".join(test.structures),
            )  # fmt: skip
        if test.contradicts:
            offset = test.offset * EV_PER_A3_IN_GPA
            yield Finding(
                "stress offset", WHOLE_SET, offset,
                f"stresses contradict energies: {test.n_pairs} pairs of strained cells, "
                f"{' and '.join(test.structures)} among them, agree only if {offset:+.2g} GPa are added to the "
                "diagonal of all stresses, as if the basis were too small for them (Pulay stress). A potential cannot "
                "have both; unless told to, training leaves these stresses out",
            )  # fmt: skip


def _zero_labels(structures: Sequence[Structure]) -> Iterator[Finding]:
    for label in ("energy", "forces", "stress"):
        values = [getattr(s, label) for s in structures if getattr(s, label) is not None]
        if len(values) > 2 and not any(np.any(value) for value in values):
            yield Finding(
                "zero labels",
                WHOLE_SET,
                0.0,
                f"every {label} is zero: a label that is missing? Do not train on it",
            )


def _duplicates(structures: Sequence[Structure]) -> Iterator[Finding]:
    first: dict[bytes, dict[tuple[float, float | None], Structure]] = {}
    for structure in structures:
        states = first.setdefault(fingerprint(structure), {})
        other = next(iter(states.values()), structure)
        earlier = states.setdefault((structure.total_charge or 0.0, structure.multiplicity), structure)
        if earlier is structure:
            if other is not structure:
                yield Finding(
                    "other charge", structure.name, 0.0,
                    f"same geometry as {other.name} with another charge or spin: a potential without charges can "
                    "only learn one of them",
                )  # fmt: skip
            continue
        energy, force = _label_difference(earlier, structure)
        if energy > _SAME_ENERGY or force > _SAME_FORCE:
            yield Finding(
                "contradiction", structure.name, energy,
                f"same structure as {earlier.name} but other labels (by {energy:.3g} eV/atom, {force:.3g} eV/Å): "
                "keep the right one",
            )  # fmt: skip
        else:
            yield Finding(
                "duplicate", structure.name, 0.0, f"same structure as {earlier.name}: keep one of them"
            )


def fingerprint(structure: Structure) -> bytes:
    """Hash of elements, cell and positions on a grid; lattice translations of atoms do not change it."""
    digest = hashlib.blake2b(" ".join(structure.symbols).encode(), digest_size=16)
    # an offset no crystal has, so that symmetric positions are not on the edge of two grid points
    offset = 0.2718281828
    digest.update(np.floor(structure.cell / _SAME_PLACE + offset).astype(np.int64).tobytes())
    digest.update(structure.pbc.tobytes())
    if structure.pbc.all():
        lengths = np.linalg.norm(structure.cell, axis=1)
        n_grid = np.maximum(np.round(lengths / _SAME_PLACE), 1.0)
        fractional = np.linalg.solve(structure.cell.T, structure.positions.T).T
        grid = np.mod(np.floor(fractional * n_grid + offset), n_grid)
    else:
        grid = np.floor((structure.positions - structure.positions[0]) / _SAME_PLACE + offset)
    digest.update(grid.astype(np.int64).tobytes())
    return digest.digest()


def _label_difference(a: Structure, b: Structure) -> tuple[float, float]:
    """Differences of energy per atom and largest one of a force component, 0 where not both are known."""
    energy = force = 0.0
    if a.energy is not None and b.energy is not None:
        energy = abs(a.energy - b.energy) / a.n_atoms
    if a.forces is not None and b.forces is not None:
        force = float(np.abs(a.forces - b.forces).max())
    return energy, force


def _short_distances(
    structures: Sequence[Structure], shortest: Sequence[_Shortest | None]
) -> Iterator[Finding]:
    for structure, found in zip(structures, shortest, strict=True):
        if found is not None and found.ratio < SHORT:
            yield Finding(
                "short distance", structure.name, found.distance,
                f"{found.pair} at {found.distance:.3f} Å, {found.ratio:.2f} of the sum of covalent radii: "
                "remove it unless such collisions are meant",
            )  # fmt: skip


def _large_forces(structures: Sequence[Structure]) -> Iterator[Finding]:
    labelled = [s for s in structures if s.forces is not None]
    largest = np.array([np.linalg.norm(s.forces, axis=1).max() for s in labelled])  # type: ignore[arg-type]
    if not len(largest):
        return
    limit = max(LARGE_FORCE, _LARGE_FORCE_RATIO * float(np.median(largest)))
    for k in np.flatnonzero(largest > limit):
        yield Finding(
            "large force", labelled[k].name, float(largest[k]),
            f"a force of {largest[k]:.1f} eV/Å (median of the largest ones: {np.median(largest):.1f}): "
            "remove it or check its convergence",
        )  # fmt: skip


def _energy_outliers(structures: Sequence[Structure]) -> Iterator[Finding]:
    """Few structures whose energy, less that of their elements, is apart from all others by their range."""
    labelled = [s for s in structures if s.energy is not None]
    if len(labelled) < 10:
        return
    reference = fit_reference_energies(labelled, elements_of(labelled))
    energies = np.array([s.energy / s.n_atoms for s in labelled])  # type: ignore[operator]
    fitted = [sum(n * reference[e] for e, n in s.composition.items()) / s.n_atoms for s in labelled]
    residuals = energies - np.array(fitted)
    order = np.argsort(residuals)
    n_tail = max(1, len(labelled) // 50)
    for ordered, sign in ((order[::-1], 1.0), (order, -1.0)):
        values = sign * residuals[ordered]  # the tail first
        for k in range(n_tail, 0, -1):
            gap, spread = values[k - 1] - values[k], values[k] - values[-1]
            if gap > max(spread, 1e-3):
                for index in ordered[:k]:
                    yield Finding(
                        "energy", labelled[index].name, float(residuals[index]),
                        f"{residuals[index]:+.4g} eV/atom from what its composition suggests, far from all others "
                        f"(which span {spread:.3g}): not converged, or computed differently?",
                    )  # fmt: skip
                break


def _net_forces(structures: Sequence[Structure]) -> Iterator[Finding]:
    for structure in structures:
        if structure.forces is None:
            continue
        net = float(np.linalg.norm(structure.forces.sum(axis=0)))
        if net > NET_FORCE_NOISE * np.sqrt(structure.n_atoms):
            yield Finding(
                "net force", structure.name, net,
                f"forces sum to {net:.2g} eV/Å, noise of {net / np.sqrt(structure.n_atoms):.2g} eV/Å on each: "
                "tighten grid and convergence, or do not expect force errors below it",
            )  # fmt: skip


def findings_table(findings: Sequence[Finding], per_kind: int = 3) -> Table:
    """Table of the findings: for each kind how many, and the `per_kind` with the largest values."""
    from rich.table import Table

    table = Table("kind", "number", "structure", "finding", title="Suspicious data", title_justify="left")
    kinds: dict[str, list[Finding]] = {}
    for finding in findings:
        kinds.setdefault(finding.kind, []).append(finding)
    for kind, found in kinds.items():
        worst = sorted(found, key=lambda finding: -abs(finding.value))[:per_kind]
        for k, finding in enumerate(worst):
            texts = [_FOLDERS.sub("", text) for text in (finding.structure, finding.message)]
            table.add_row(*((kind, str(len(found))) if k == 0 else ("", "")), *texts)
    return table
