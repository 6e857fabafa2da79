"""Which program wrote an output, by what it says of itself: names like ``run.out`` are many programs'."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nnpkit.data.formats.text_files import bare_name, open_text, read_text
from nnpkit.errors import InputError
from nnpkit.units import BOHR

if TYPE_CHECKING:
    from ase import Atoms

__all__ = ["correct_abinit_cells", "program_format"]

_SUFFIXES = (".out", ".log", ".txt", ".output", ".stdout")
_BANNERS = {
    "aims-output": re.compile(r"Invoking FHI-aims|\| Max\. basis fn\. angular momentum"),
    "abinit-out": re.compile(r"\.Version\s+\S+\s+of ABINIT"),
    "espresso-out": re.compile(r"Program PWSCF"),
    "vasp-out": re.compile(r"^ ?vasp\.\d", re.MULTILINE),
    "orca-output": re.compile(r"\* O   R   C   A \*"),
    "gaussian-out": re.compile(r"Entering Gaussian System"),
    "nwchem-out": re.compile(r"Northwest Computational Chemistry Package"),
}
_HEAD = 60_000  # characters; aims lists its settings before anything else


def program_format(path: Path) -> str | None:
    """ASE's name of the format of a program's output; None if its name or its text do not tell."""
    name = bare_name(path).lower()
    if not name.endswith(_SUFFIXES) and "." in name:
        return None
    try:
        with open_text(path) as stream:
            head = stream.read(_HEAD)
    except InputError:
        return None
    return next((known for known, banner in _BANNERS.items() if banner.search(head)), None)


def correct_abinit_cells(images: Sequence[Atoms], path: Path) -> None:
    """Multiply the cells by the lengths of the vectors, which ASE's reader leaves out.

    ASE takes ``rprim`` for the cell, which is true only of inputs that ASE wrote; ABINIT's cell vectors are
    ``acell * rprim`` in bohr.

    Raises
    ------
    InputError
        For an output of several data sets or of a cell that is optimised, of which ASE reads one cell.
    """
    text = read_text(path)
    for key, ordinary in (("ndtset", 1), ("optcell", 0)):
        found = re.search(rf"^\s*{key}\s+(\d+)", text, re.MULTILINE)
        if found and int(found[1]) > ordinary:
            raise InputError(
                f"an output with {key} {found[1]} holds several cells, of which ASE reads one",
                hint="run the structures one by one",
            )  # fmt: skip
    found = re.search(r"^\s*acell\s+(\S+)\s+(\S+)\s+(\S+)\s+Bohr", text, re.MULTILINE)
    lengths = np.array(found.groups() if found else (1.0, 1.0, 1.0), dtype=np.float64) * BOHR
    for atoms in [
        part for image in images for part in (image, image.calc.atoms)
    ]:  # results are kept for both
        atoms.set_cell(atoms.cell.array * lengths[:, None])
