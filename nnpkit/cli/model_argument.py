"""What the commands that take a MODEL have in common."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nnpkit.data.structure import Structure
    from nnpkit.deploy.load import LoadedModel

__all__ = ["any_calculator", "describe", "load_with_notes", "read_start"]


def load_with_notes(
    path: Path, units: str | None = None, cflength: float | None = None, cfenergy: float | None = None
) -> LoadedModel:
    """Load any kind of MODEL; what should be known about how it was read goes to stderr."""
    from nnpkit.deploy.load import load

    model = load(path, units, cflength, cfenergy)
    for note in model.notes:
        print(f"nnpkit: note: {note}", file=sys.stderr)
    return model


def any_calculator(name: str) -> Any:
    """ASE calculator of that name, or of the potential in that file or folder."""
    if Path(name).exists():
        from nnpkit.md.calculator import NnpkitCalculator

        return NnpkitCalculator(load_with_notes(Path(name)))
    from nnpkit.data.calculators import ase_calculator

    return ase_calculator(name, where="--calculator")


def describe(model: LoadedModel) -> str:
    """One line about a model."""
    n, elements = model.metadata["n_parameters"], " ".join(model.elements)
    kind = f"committee of {model.n_members}" if model.n_members > 1 else f"{model.metadata['kind']} potential"
    baseline, whole = model.metadata.get("baseline"), ""
    if baseline is not None:
        whole = f"; with its baseline, {baseline['name']}" if baseline["included"] else (
            f"; a correction to {baseline['name']}, which is not in the file: Python adds it, in LAMMPS add it with "
            "pair_style hybrid/overlay"
        )  # fmt: skip
    return f"{kind} for {elements}, cutoff {model.cutoff:.4g} Å, {n} parameters{whole}"


def read_start(
    text: str, replicate: tuple[int, int, int] = (1, 1, 1), species: Sequence[str] | None = None
) -> Structure:
    """One structure: ``FILE`` (its last frame), ``FILE@5`` or ``FILE#5``, repeated along its cell vectors.

    `species` are the elements of the types of a LAMMPS data file.
    """
    from nnpkit.data.formats.reading import read
    from nnpkit.data.structure import Structure
    from nnpkit.errors import InputError

    numbered = None if Path(text).exists() else re.fullmatch(r"(.+)[@#](-?\d+)", text)
    path, frame = (numbered[1], int(numbered[2])) if numbered else (text, -1)
    structure = read(path, frames=frame, species=species, labels_matter=False)[0]
    if replicate == (1, 1, 1):
        return structure
    if min(replicate) < 1 or any(
        n > 1 and not periodic for n, periodic in zip(replicate, structure.pbc, strict=True)
    ):
        raise InputError(
            f"replicate is {' '.join(map(str, replicate))}", where=structure.name,
            expected="positive numbers, 1 along directions without periodicity",
        )  # fmt: skip
    from ase import Atoms

    atoms = Atoms(structure.symbols, structure.positions, cell=structure.cell, pbc=structure.pbc)
    for key in {"masses", "mass", "move_mask"} & structure.arrays.keys():
        atoms.set_array(key, structure.arrays[key])
    if "constraints" in structure.info:
        atoms.info["constraints"] = structure.info["constraints"]
    atoms = atoms.repeat(replicate)
    return Structure.from_atoms(atoms, f"{structure.name} x {'x'.join(map(str, replicate))}")
