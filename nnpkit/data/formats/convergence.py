"""Frames whose electronic structure did not converge, as far as the output of a program says so."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from nnpkit.data.formats.text_files import open_text
from nnpkit.data.notes import note
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

__all__ = ["converged_only", "unconverged_images"]

_ITERATION = re.compile(r"Iteration\s+\d+\(\s*(\d+)\)")
_NELM = re.compile(r"\bNELM\b\s*=\s*(\d+)")
_NELM_XML = re.compile(r'name="NELM"\s*>\s*(\d+)')
_PHRASES = re.compile(
    "|".join(
        (
            "convergence not achieved after",  # Quantum ESPRESSO
            "scf run not converged",  # CP2K
            "scf not converged",  # ORCA
            "convergence failure",  # Gaussian
            "self-consistency cycle not converged",  # FHI-aims
            "calculation failed to converge",  # NWChem
            "has not reached the groundstate",  # CASTEP
            "not enough scf cycles to converge",  # ABINIT
            "did not converge!",  # GPAW
            "scc is not converged",  # DFTB+
            "scf failed to converge",  # Q-Chem
        )
    ),
    re.IGNORECASE,
)
_BINARY = ("traj", "db", "json", "netcdftrajectory", "gpw", "cp2k-dcd")
_STATED = ("scf_converged", "is_scf_converged", "electronic_converged", "converged_electronic")


def unconverged_images(path: Path, format: str, with_energy: Sequence[bool]) -> set[int]:
    """Numbers of the images of a file that its program calls not converged.

    Parameters
    ----------
    path : path
        The output of a program, decompressed.
    format : str
        ASE's name of the format.
    with_energy : sequence of bool
        Whether ASE found an energy, for each image.

    Raises
    ------
    InputError
        If something did not converge but the file does not say to which image that belongs.
    """
    if format in _BINARY:
        return set()
    try:
        with open_text(path) as stream:
            if format == "vasp-out":
                found = _of_outcar(stream)
            elif format == "vasp-xml":
                found = _of_vasprun(stream)
            else:
                found = _of_any(stream, with_energy)
    except InputError as error:
        if error.what == "not a text file":
            return set()
        raise
    return found


def _of_outcar(lines: Iterable[str]) -> set[int]:
    """VASP 6 says it; VASP 5 says only that EDIFF is reached, and otherwise stops after NELM iterations."""
    bad: set[int] = set()
    image, nelm, iteration, reached, failed = 0, None, 0, False, False
    for line in lines:
        if "Iteration" in line and (match := _ITERATION.search(line)):
            iteration = int(match[1])
        elif "aborting loop" in line:
            reached |= "EDIFF is reached" in line
            failed |= "EDIFF is reached" not in line
        elif nelm is None and "NELM" in line and (match := _NELM.search(line)):
            nelm = int(match[1])
        elif "FREE ENERGIE OF THE ION-ELECTRON SYSTEM" in line:
            if failed or (not reached and nelm is not None and iteration >= nelm):
                bad.add(image)
            image, iteration, reached, failed = image + 1, 0, False, False
    return bad


def _of_vasprun(lines: Iterable[str]) -> set[int]:
    """``vasprun.xml`` does not say it: as many iterations as are allowed are taken for no convergence."""
    steps: list[int] = []
    nelm = None
    for line in lines:
        if nelm is None and "NELM" in line and (match := _NELM_XML.search(line)):
            nelm = int(match[1])
        if "<calculation>" in line:
            steps.append(0)
        if "<scstep>" in line and steps:
            steps[-1] += line.count("<scstep>")
    return set() if nelm is None else {k for k, n in enumerate(steps) if n >= nelm}


def _of_any(lines: Iterable[str], with_energy: Sequence[bool]) -> set[int]:
    """Images without an energy, if the text says that something did not converge."""
    said = next((line.strip() for line in lines if _PHRASES.search(line)), None)
    if said is None:
        return set()
    without = {k for k, known in enumerate(with_energy) if not known}
    if not without:
        raise InputError(
            f"the self-consistency did not converge ({said[:60]!r})",
            hint="repeat the calculation, or cut the part that did not converge out of the file",
        )
    return without


def converged_only(structures: Sequence[Structure], path: Path) -> list[Structure]:
    """The structures that do not say ``scf_converged=F``; the others are left out with a note.

    Raises
    ------
    InputError
        If none is left.
    """
    kept = []
    for structure in structures:
        flags = {str(key).lower(): value for key, value in structure.info.items()}
        if any(flags.get(name, True) in (False, 0) for name in _STATED):
            note("left out: its electronic structure did not converge", structure.name)
            continue
        if flags.get("converged", True) is False:
            note("converged=F: leave the frame out if that means its electronic structure", structure.name)
        kept.append(structure)
    if structures and not kept:
        raise InputError("the electronic structure of no frame converged", where=str(path))
    return kept
