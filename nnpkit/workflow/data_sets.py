"""From the section `data` of a configuration to training, validation and test set."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnpkit.config.schema import Config
from nnpkit.data.checks.suspicious import Finding
from nnpkit.data.dataset import describe_labels, elements_of, load_dataset, structure_sha256
from nnpkit.data.groups import kinds_of
from nnpkit.data.neighbors import neighbor_pairs
from nnpkit.data.notes import label_sources
from nnpkit.data.splitting import Division, SplitRule, divide
from nnpkit.data.store.stored_frames import select_frames
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

__all__ = [
    "PARTS",
    "Sets",
    "read_sets",
    "read_splits",
    "require_trained_elements",
    "without_outliers",
    "without_unlearnt_atoms",
]

_FAR_FORCE = 50.0  # in units of the median of the largest forces
PARTS = ("train", "validation", "test")
"""Names of the sets: what is learnt, what decides, what is only reported."""


@dataclass
class Sets:
    """Structures of each set that there is, and how they came there.

    Attributes
    ----------
    splits : dict
        ``train`` and, if there are any, ``validation`` and ``test``.
    rule : dict
        JSON-able: ``rule``, ``words``, ``trajectories``, ``groups``, ``cut``, ``spread``, ``frames`` of each set
        and ``tested_elsewhere``, how many test structures are in another set too.
    notes : list of str
        Lines for a person.
    """

    splits: dict[str, Sequence[Structure]]
    rule: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def read_sets(config: Config) -> Sets:
    """Read the files of a configuration and divide them.

    Raises
    ------
    InputError
        For files that cannot be read or divided.
    """
    data = config.data
    arguments: dict[str, Any] = {
        "format": None if data.format == "auto" else data.format,
        "units": None if data.units == "auto" else data.units,
        "frames": data.frames,
        "keys": data.labels or None,
    }
    with label_sources() as sources:
        everything = load_dataset(data.train, **arguments)
    rule = SplitRule(
        data.split, data.group,
        0.0 if data.validation is not None else data.validation_fraction,
        0.0 if data.test is not None or data.folds is not None else data.test_fraction,
        data.folds, data.fold,
    )  # fmt: skip
    if rule.validation or rule.test or rule.folds:
        division = divide(everything, rule, config.seed, kinds_of(everything, data.groups))
    else:
        division = Division(list(range(len(everything))), words="as the files are")
    splits = {name: select_frames(everything, getattr(division, name)) for name in PARTS}
    for name in ("validation", "test"):
        if (files := getattr(data, name)) is not None:
            splits[name] = load_dataset(files, **arguments)
    splits = {name: part for name, part in splits.items() if len(part)}
    sizes = {name: len(splits.get(name, ())) for name in PARTS}
    counts = {key: getattr(division, key) for key in ("words", "trajectories", "groups", "cut", "spread")}
    sets = Sets(splits, {"rule": data.split, **counts, "frames": sizes})
    seen, sets.rule["tested_elsewhere"] = _seen(splits)
    sets.notes = [
        *(
            [describe_labels(everything, sources)] if isinstance(everything, list) else []
        ),  # a store is not read
        _announcement(config, sets),
        *division.warnings(data.split),
        *seen,
    ]
    return sets


def read_splits(config: Config) -> dict[str, Sequence[Structure]]:
    """Structures of each set, as `read_sets` has them."""
    return read_sets(config).splits


def _announcement(config: Config, sets: Sets) -> str:
    """One line: the rule and how many frames each set has."""
    given = [name for name in ("validation", "test") if getattr(config.data, name) is not None]
    frames = ", ".join(f"{name} {number}" for name, number in sets.rule["frames"].items())
    line = f"sets: {frames} frames ({sets.rule['words']}"
    if config.data.folds is not None:
        line += f"; fold {config.data.fold} of {config.data.folds}"
    line += f"; {' and '.join(given)} from files)" if given else ")"
    if "validation" not in sets.splits:
        line += "; no validation: training errors choose the best epoch"
    if "test" not in sets.splits:
        line += "; no test: nothing will be tested"
    return line


def _seen(splits: Mapping[str, Sequence[Structure]]) -> tuple[list[str], int]:
    """What is in two sets, which then decides or tests nothing; number of test structures of which this is true."""
    hashes = {
        name: {structure_sha256(s, labels=False, state=False): s.name for s in splits.get(name, ())}
        for name in PARTS
    }
    notes = []
    for name, other, so in (
        ("validation", "train", "they cannot tell the best epoch"),
        ("test", "train", "their errors are no test"), ("test", "validation", "their errors are no test"),
    ):  # fmt: skip
        if twice := hashes[name].keys() & hashes[other].keys():
            first = min(hashes[name][key] for key in twice)
            notes.append(
                f"Warning: {len(twice)} {name} structures are in the {other} data too, the first: {first}; {so}"
            )
    return notes, len(hashes["test"].keys() & (hashes["train"].keys() | hashes["validation"].keys()))


def require_trained_elements(splits: Mapping[str, Sequence[Structure]]) -> None:
    """Refuse an element that no training structure has.

    Raises
    ------
    InputError
        Naming the first frame with it.
    """
    trained = set(elements_of(splits["train"]))
    for name, part in splits.items():
        for structure in part:
            for element in elements_of([structure]):
                if element not in trained:
                    raise InputError(
                        f"{element} occurs only in {name} data", where=structure.name,
                        expected="every element in the training data",
                        hint=f"add frames with {element} to data.train, or remove this frame; if chance put it into "
                        "this set, choose another seed or name the files of each set",
                    )  # fmt: skip


def _largest_force(structure: Structure) -> float:
    """eV/Å; 0 without forces."""
    return 0.0 if structure.forces is None else float(np.linalg.norm(structure.forces, axis=1).max())


def without_outliers(
    validation: Sequence[Structure], structures: Sequence[Structure], findings: Sequence[Finding]
) -> tuple[frozenset[str], list[str]]:
    """Names of validation structures with labels that are far from all others, and a line that says so.

    One wrong label a thousand times larger than the others would choose the epoch whose error of it happens to be the
    smallest. None if these are half of the structures or more: then they are what the data are.

    Parameters
    ----------
    validation : sequence of Structure
        That choose the best epoch.
    structures : sequence of Structure
        Of all sets.
    findings : sequence of Finding
        What is suspicious about them; energies far from all others are.
    """
    largest = [_largest_force(s) for s in structures if s.forces is not None]
    limit = _FAR_FORCE * max(1.0, float(np.median(largest))) if largest else math.inf
    energies = {finding.structure for finding in findings if finding.kind == "energy"}
    found = [s.name for s in validation if s.name in energies or _largest_force(s) > limit]
    if not found or 2 * len(found) >= len(validation):
        return frozenset(), []
    what = "1 validation structure does" if len(found) == 1 else f"{len(found)} validation structures do"
    return frozenset(found), [
        f"Warning: {what} not choose the best epoch and count in no validation error, as energy or forces are far from "
        f"all others: {', '.join(found[:3])}"
    ]


def without_unlearnt_atoms(
    validation: Sequence[Structure], train: Sequence[Structure], cutoff: float
) -> tuple[frozenset[str], list[str]]:
    """Names of validation structures that are an atom alone whose like no training structure is, and a line about them.

    Nothing in the training says what energy such an atom has: its error, eV per atom where those of others are meV,
    would be that of the whole set, and no epoch better than another. None if nothing else is left.

    Parameters
    ----------
    validation, train : sequence of Structure
        The sets.
    cutoff : float
        Å; atoms alone have no neighbour that is closer.
    """
    found = [s for s in validation if _is_alone(s, cutoff)]
    if found:
        known = {s.symbols[0] for s in train if _is_alone(s, cutoff)}
        found = [s for s in found if s.symbols[0] not in known]
    if not found or len(found) == len(validation):
        return frozenset(), []
    elements = ", ".join(sorted({s.symbols[0] for s in found}))
    return frozenset(s.name for s in found), [
        f"Warning: {len(found)} of the validation structures, the first: {found[0].name}, are single atoms "
        f"({elements}) as no training structure is: they do not choose the best epoch and count in no validation "
        "error; for energies of atoms that are right add such frames to data.train"
    ]


def _is_alone(structure: Structure, cutoff: float) -> bool:
    """Whether a structure is one atom without neighbours."""
    return structure.n_atoms == 1 and len(neighbor_pairs(structure, cutoff).center) == 0
