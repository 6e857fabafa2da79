"""`nnpkit new`: YAML files with settings for the data, or the structure, at hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import yaml

from nnpkit.config.config_file import config_from_mapping
from nnpkit.data.dataset import elements_of, load_dataset
from nnpkit.data.formats.reading import write
from nnpkit.data.structure import Structure
from nnpkit.data.trajectories import trajectories
from nnpkit.errors import InputError
from nnpkit.files import atomic_write
from nnpkit.workflow.data_files import as_patterns, data_files

__all__ = ["Wishes", "expected", "has_labels", "new_files", "source_structures"]

ENGINES = ("lammps", "gpumd", "cp2k", "any")
_SMALL = 200  # frames below which a training needs a least number of updates
_MANY_ELEMENTS, _OF_A_PAIR = (
    6,
    64,
)  # coefficients of a pair in the smallest cluster expansion chosen by itself
_EDGE = 8.0  # Å, least length of a cell made of a crystal
_COPIES = 16  # displaced and strained copies to begin with


@dataclass(frozen=True)
class Wishes:
    """What the user wants.

    Attributes
    ----------
    engine : str
        Where the potential is going to run.
    time : str or None
        For the training, as ``training.time``.
    reference : str
        Calculator of labels, for structures without any.
    temperature : float
        K, up to which the potential is to be used.
    labels : dict
        Names of labels in the files, as ``data.labels``.
    """

    engine: str = "any"
    time: str | None = None
    reference: str = "tblite"
    temperature: float = 300.0
    labels: dict[str, str] = field(default_factory=dict)


class _Dumper(yaml.SafeDumper):
    """Mappings in lines of their own; lists of numbers, and mappings in lists, in one."""


def _list(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.Node:
    node = dumper.represent_sequence("tag:yaml.org,2002:seq", values)
    node.flow_style = not any(isinstance(value, dict) for value in values)
    for part in node.value:
        if isinstance(part, yaml.MappingNode):
            part.flow_style = True
    return node


_Dumper.add_representer(list, _list)


@dataclass
class _File:
    """A YAML file as sections, and comments by their first lines."""

    sections: dict[str, Any]
    head: list[str]
    comments: dict[str, str] = field(default_factory=dict)

    def text(self) -> str:
        """The file with its comments."""
        dumped = yaml.dump(self.sections, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
        lines = [f"# {line}" for line in self.head]
        for line in dumped.splitlines():
            key = line.strip().split(":")[0]
            lines += [line if key not in self.comments else f"{line}  # {self.comments[key]}"]
        return "\n".join(lines) + "\n"


def source_structures(
    sources: Sequence[str | Path], labels: Mapping[str, str] | None = None
) -> tuple[list[str], list[Structure]]:
    """Files with data among `sources` (files, or folders of them), and their structures.

    Parameters
    ----------
    sources : sequence of paths
        What the user names.
    labels : mapping, optional
        Names of labels in the files.

    Raises
    ------
    InputError
        For data that cannot be read, and where there are none.
    """
    files = data_files(sources)
    return files, list(load_dataset(files, keys=labels or None))


def has_labels(structures: Sequence[Structure]) -> bool:
    """Whether there is anything to learn from."""
    return any(s.energy is not None or s.forces is not None for s in structures)


def new_files(
    files: Sequence[str],
    structures: Sequence[Structure],
    folder: Path,
    wishes: Wishes,
    overwrite: bool = False,
) -> tuple[list[Path], list[str]]:
    """Write files for data with labels (``train.yaml``), or for structures without (``active.yaml`` too).

    Parameters
    ----------
    files, structures
        From `source_structures`.
    folder : path
        Where the files go.
    wishes : Wishes
        What is wanted.
    overwrite : bool
        Whether files that are there are replaced.

    Returns
    -------
    tuple
        Files written, and lines for the user, the last one the next command.

    Raises
    ------
    InputError
        For data that cannot be used, partial occupancies, wishes that are not known, and files that exist.
    """
    if wishes.engine not in ENGINES:
        raise InputError(f"engine {wishes.engine!r}", expected=" or ".join(ENGINES))
    labelled = [s for s in structures if s.energy is not None or s.forces is not None]
    names = ["train.yaml"] if labelled else ["start.xyz", "train.yaml", "active.yaml"]
    if there := [name for name in names if (folder / name).exists() and not overwrite]:
        raise InputError(
            f"{there[0]} exists", where=str(folder), hint="choose another folder (-o) or give --overwrite"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if labelled:
        train = _training(labelled, [_from(folder, file) for file in as_patterns(files)], wishes)
        lines = _with_estimate(train, folder, len(structures) - len(labelled))
        lines += [] if wishes.engine == "cp2k" else _too_many_elements(labelled)
        _write(folder / "train.yaml", train)
        return [folder / "train.yaml"], [*lines, f"next: nnpkit train {quote(str(folder / 'train.yaml'))}"]
    copies = _copies(structures)
    train, active = _training(copies, ["start.xyz"], wishes), _active(copies, wishes)
    if wishes.engine in ("any", "lammps"):
        train.sections["model"] = {"kind": "acsf", **train.sections["model"]}
        train.comments["kind"] = (
            "stable in simulations from a dozen labels on, where a cluster expansion is not yet"
        )
    train.sections["committee"] = {"members": 5, "resample": "posterior"}
    train.comments["resample"] = (
        "one training that knows its expected errors; `seeds` makes members independent"
    )
    train.head[0] = "The training of each round of active.yaml."
    write(folder / "start.xyz", copies)
    _write(folder / "train.yaml", train)
    _write(folder / "active.yaml", active)
    extras = _numbers_of(structures)
    missed = (
        [
            f"no energies or forces were found; the structures have {extras}: say which are labels with --labels, "
            "e.g. --labels energy=NAME,forces=NAME"
        ]
        if extras
        else []
    )
    said = f"{len(copies)} structures of {copies[0].n_atoms} atoms to begin with; {wishes.reference} computes labels"
    next_ = [f"next: nnpkit active run {quote(str(folder / 'active.yaml'))}"]
    return [folder / name for name in names], [*missed, said, *next_]


def _numbers_of(structures: Sequence[Structure]) -> str:
    """Numbers that the files have of their structures and vectors of their atoms, of which labels may be some."""
    names: dict[str, str] = {}
    for s in structures:
        numbers = {k: v for k, v in s.info.items() if isinstance(v, (float, np.floating))}
        vectors = {k: v for k, v in s.arrays.items() if np.shape(v) == (s.n_atoms, 3) and v.dtype.kind == "f"}
        names |= dict.fromkeys(map(str, numbers), "") | dict.fromkeys(
            map(str, vectors), " (three of each atom)"
        )
    known = {"velocities", "velo", "vel", "momenta", "momentum", "tags"}
    return ", ".join(f"{name}{words}" for name, words in names.items() if name.lower() not in known)


def _write(path: Path, file: _File) -> None:
    with atomic_write(path) as stream:
        stream.write(file.text())


def _from(folder: Path, file: str) -> str:
    """A path that the YAML in `folder` can say: relative where that is short."""
    path = Path(file).resolve()
    try:
        return str(path.relative_to(folder.resolve()))
    except ValueError:
        return str(path)


def _training(structures: Sequence[Structure], files: list[str], wishes: Wishes) -> _File:
    """The training YAML for these structures."""
    n, atoms = len(structures), sum(s.n_atoms for s in structures)
    with_forces = sum(s.n_atoms for s in structures if s.forces is not None)
    has = {
        label: any(getattr(s, label) is not None for s in structures)
        for label in ("energy", "forces", "stress")
    }
    per_element = 3 * (with_forces or atoms) / len(elements_of(structures))
    width = 10 if per_element < 3_000 else 15 if per_element < 60_000 else 20
    runs = trajectories(structures)
    data: dict[str, Any] = {"train": files[0] if len(files) == 1 else files, "split": "auto"}
    if wishes.labels:
        data["labels"] = dict(wishes.labels)
    data |= {"validation_fraction": 0.1 if n >= 100 else 0.2, "test_fraction": 0.1 if n >= 50 else 0.0}
    comments = {
        "split": f"{len(runs)} trajectories found; each stays in one set, or is cut where it is longer"
        if runs
        else "at random: no trajectories found",
        "hidden": f"about {per_element:.0f} force components an element",
    }
    training: dict[str, Any] = {}
    if wishes.time is not None:
        training["time"] = wishes.time
    else:
        training["epochs"] = 30
        if n < _SMALL:
            training["min_updates"] = 2000
            comments["min_updates"] = f"{n} frames: epochs are repeated until so many updates are done"
    missing = {"energy": False, "forces": 0}
    if schedule := {key: value for key, value in missing.items() if not has[key] and any(has.values())}:
        training["schedule"] = schedule
        comments["schedule"] = "the data have no such labels"
    model: dict[str, Any] = {"network": {"hidden": [width, width]}}
    if wishes.engine == "gpumd":
        model = {"kind": "nep"}
        comments["kind"] = "nnpkit convert run nep.txt writes it for GPUMD"
    elif wishes.engine == "cp2k":
        model = {"kind": "acsf", **model, "wall": "off"}
        comments["kind"] = "CP2K knows symmetry functions; nnpkit convert run nnp writes them for it"
        comments["wall"] = "RuNNer's format, which CP2K reads, has no words for one"
    sizes = [s.n_atoms for s in structures]
    labels = [label for label, there in has.items() if there]
    head = [
        "Written by nnpkit new. Every other setting has its default; see the documentation.",
        f"{n} structures, {atoms} atoms ({min(sizes)} to {max(sizes)}), "
        f"{' '.join(elements_of(structures))}; labels: {', '.join(labels) or 'none yet'}",
    ]
    sections = {"seed": 1, "output": "run", "data": data, "model": model, "training": training}
    return _File(sections, head, comments)


def expected(settings: dict[str, Any], folder: Path) -> str:
    """Expected time and memory of a training with these settings, in words; a few trial updates are made."""
    from io import StringIO

    from rich.console import Console

    from nnpkit.workflow.plan import plan_training

    plan = plan_training(config_from_mapping(settings, folder), Console(file=StringIO()))
    return (
        f"about {plan['seconds']:.0f} s on this machine: {plan['updates']} updates, {plan['updates_per_second']:.3g} a "
        f"second; {plan['gigabytes']:.2f} GB beside the data; {plan['n_parameters']} weights"
    )


def _with_estimate(train: _File, folder: Path, left_out: int) -> list[str]:
    """Add expected time and memory to the head; lines for the user."""
    words = expected(train.sections, folder)
    train.head.append(f"Expected: {words}")
    left = [f"{left_out} structures have no labels and are left out"] if left_out else []
    return [train.head[1], *left, f"expected: {words}"]


def _too_many_elements(structures: Sequence[Structure]) -> list[str]:
    """What is to be said where a model has more coefficients of pairs of elements than there are labels."""
    n = len(elements_of(structures))
    labels = sum(
        (s.energy is not None) + (0 if s.forces is None else s.forces.size) + 6 * (s.stress is not None)
        for s in structures
    )
    coefficients = _OF_A_PAIR * n**2
    if n < _MANY_ELEMENTS or coefficients < labels:
        return []
    return [
        f"{n} elements: the {coefficients} coefficients of pairs of elements are more than the {labels} labels, so "
        "that little will be learnt of most pairs. Fewer elements or more data help; model: {kind: chebyshev} has none "
        "of them, and is learnt in less time, but knows less of pairs"
    ]


def _copies(structures: Sequence[Structure]) -> list[Structure]:
    """The structures, or displaced and strained copies of one, repeated until its cell is large enough."""
    if len(structures) > 1:
        return list(structures)
    (only,) = structures
    _require_whole(only)
    repeat = [1, 1, 1]
    if only.pbc.any():
        heights = only.volume / np.linalg.norm(
            np.cross(np.roll(only.cell, -1, 0), np.roll(only.cell, -2, 0)), axis=1
        )
        repeat = [int(np.ceil(_EDGE / h)) if p else 1 for h, p in zip(heights, only.pbc, strict=True)]
    atoms = only.to_atoms().repeat(repeat)
    random = np.random.default_rng(1)
    copies = []
    for k in range(_COPIES):
        copy = atoms.copy()
        copy.info.clear()
        if only.pbc.any():
            strain = random.uniform(-0.03, 0.03, (3, 3)) * np.outer(only.pbc, only.pbc)
            copy.set_cell(copy.cell.array @ (np.eye(3) + (strain + strain.T) / 2), scale_atoms=True)
        copy.positions += random.normal(scale=0.02 + 0.01 * k, size=copy.positions.shape)
        copies.append(Structure.from_atoms(copy, f"start#{k}").replace(info={}, arrays={}))
    return copies


def _require_whole(structure: Structure) -> None:
    """Refuse a crystal with partly occupied sites: which atoms are there is for the user to say."""
    occupancy = structure.info.get("occupancy")
    for site in occupancy.values() if isinstance(occupancy, dict) else ():
        if any(abs(float(part) - 1.0) > 1e-3 for part in site.values()):
            words = ", ".join(f"{element} {float(part):g}" for element, part in site.items())
            raise InputError(
                f"a site is occupied in part ({words})", where=structure.name,
                expected="a structure in which every atom is there", hint="make an ordered one of it first",
            )  # fmt: skip


def _active(copies: Sequence[Structure], wishes: Wishes) -> _File:
    """The YAML of active learning from structures without labels."""
    high = 1.5 * wishes.temperature
    ensemble = "npt" if copies[0].pbc.all() else "nvt"
    conditions = [
        {"ensemble": "nvt", "temperature": [0.5 * wishes.temperature, high], "steps": 1000, "runs": 2},
        {"ensemble": ensemble, "temperature": [wishes.temperature, high], "steps": 1000, "runs": 2},
    ]
    timestep = 0.5 if "H" in copies[0].symbols else 1.0
    sections = {
        "seed": 1, "training": "train.yaml", "output": "active",
        "reference": {"kind": "ase", "calculator": wishes.reference},
        "exploration": {"engine": "lammps", "timestep": timestep, "conditions": conditions},
        "selection": {"budget": 20}, "stop": {"rounds": 5, "labels": 150},
    }  # fmt: skip
    head = [
        "Written by nnpkit new: from structures without labels to a potential, by itself.",
        f"{len(copies)} structures of {copies[0].n_atoms} atoms are labelled first; at most 150 labels in 5 rounds.",
        f"For use up to {wishes.temperature:g} K; the potential explores up to {high:g} K.",
    ]
    comments = {"budget": "labels a round", "timestep": "fs"}
    return _File(sections, head, comments)
