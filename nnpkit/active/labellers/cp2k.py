"""Labels from CP2K: the user's own input template, and a parser of the output that believes nothing unconverged.

The template is a CP2K input in which ``{{cell}}`` and ``{{coordinates}}`` stand for the lines of these sections and
``{{NAME}}`` for the setting NAME; ``{{charge}}``, ``{{multiplicity}}`` and ``{{uks}}`` (TRUE where electrons are
unpaired) for those of the structure. It must print forces and, for a stress, compute the stress tensor.
"""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnpkit.active.labellers.external_command import last_words
from nnpkit.active.labellers.reference_calculation import CalculationError, state_of
from nnpkit.active.programs import run_program
from nnpkit.data.electronic import ElectronicState
from nnpkit.data.formats.cp2k_text import ENERGY, forces_table, stress_tensor
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.units import HARTREE

__all__ = ["Cp2kReference", "cp2k_input", "parse_cp2k"]

_DATA_FOLDERS = ("/usr/share/cp2k", "/usr/local/share/cp2k/data", "/opt/cp2k/data")
_INPUT, _OUTPUT, _WAVE_FUNCTION = "cp2k.inp", "cp2k.out", "start.wfn"


class Cp2kReference:
    """Labels from CP2K.

    Parameters
    ----------
    template : path
        Input template; see the module. Its text is part of what identifies the labels.
    command : sequence of str
        Program with its MPI launcher; ``-i cp2k.inp`` is added.
    settings : mapping
        Values of the template's own placeholders; `changes` of an attempt replace some.
    data_dir : str, optional
        Folder with basis sets and potentials (``CP2K_DATA_DIR``); usual places are looked at.
    threads : int
        OMP_NUM_THREADS of each process.

    Raises
    ------
    InputError
        If the template cannot be read or lacks a placeholder.
    """

    def __init__(
        self,
        template: str,
        command: Sequence[str] = ("cp2k.psmp",),
        settings: Mapping[str, Any] | None = None,
        data_dir: str | None = None,
        threads: int = 1,
    ) -> None:
        try:
            self.text = Path(template).read_text(encoding="utf-8")
        except OSError as error:
            raise InputError(
                f"cannot read the CP2K template ({error.strerror})", where=str(template)
            ) from None
        for name in ("cell", "coordinates"):
            if f"{{{{{name}}}}}" not in self.text:
                raise InputError(f"the CP2K template has no {{{{{name}}}}}", where=str(template))
        self.template, self.command, self.threads = template, list(command), threads
        self.settings = dict(settings or {})
        self.data_dir = data_dir
        digest = hashlib.sha256(self.text.encode()).hexdigest()
        self.identity = {"kind": "cp2k", "template_sha256": digest, "settings": self.settings}

    def require(self, state: ElectronicState) -> None:
        """Accept a charge and multiplicity; see `nnpkit.active.labellers.reference_calculation.ReferenceCalculator`."""
        for keyword, value, stated, ordinary in (
            ("charge", state.charge, state.stated_charge, state.charge == 0.0),
            ("multiplicity", state.multiplicity, state.stated_multiplicity, state.lowest),
        ):
            written = re.search(rf"^\s*{keyword}\s+([+-]?\d+)", self.text, re.IGNORECASE | re.MULTILINE)
            agrees = int(written[1]) == value if written else ordinary
            if stated and not agrees and f"{{{{{keyword}}}}}" not in self.text:
                says = f"says {keyword.upper()} {written[1]}" if written else f"has no {{{{{keyword}}}}}"
                raise InputError(
                    f"the structure has {state}, the template {says}", where=self.template,
                    hint=f"write {keyword.upper()} {{{{{keyword}}}}} into its &DFT section",
                )  # fmt: skip
        open_shell = re.search(
            r"^\s*(UKS|LSD|UNRESTRICTED_KOHN_SHAM)\b", self.text, re.IGNORECASE | re.MULTILINE
        )
        if state.stated_multiplicity and state.multiplicity > 1 and not open_shell:
            raise InputError(
                f"the structure has {state}, the template no UKS", where=self.template,
                hint="write UKS {{uks}} into its &DFT section",
            )  # fmt: skip
        if state.charge != round(state.charge):
            raise InputError(f"CP2K has no state of {state}", where=self.template, expected="a whole charge")

    def compute(self, structure: Structure, folder: Path, changes: Mapping[str, Any]) -> Structure:
        """Label of one structure; see `nnpkit.active.labellers.reference_calculation.ReferenceCalculator`."""
        state = state_of(structure)
        kept = folder.parent / "wave_functions" / _composition(structure, state)
        again = kept.exists() and not changes
        if again:
            shutil.copy(kept, folder / _WAVE_FUNCTION)
        values = {
            "scf_guess": "RESTART" if again else "ATOMIC", "charge": f"{state.charge:g}",
            "multiplicity": state.multiplicity, "uks": "TRUE" if state.multiplicity > 1 else "FALSE",
            **self.settings, **changes,
        }  # fmt: skip
        (folder / _INPUT).write_text(
            cp2k_input(self.text, structure, values, self.template), encoding="utf-8"
        )
        environment = {"OMP_NUM_THREADS": str(self.threads)}
        if data_dir := self.data_dir or next((d for d in _DATA_FOLDERS if Path(d).is_dir()), None):
            environment["CP2K_DATA_DIR"] = data_dir
        code = run_program([*self.command, "-i", _INPUT], folder, _OUTPUT, environment)
        text = (folder / _OUTPUT).read_text(encoding="utf-8", errors="replace")
        _require_converged(text)
        if code:
            raise CalculationError(
                f"CP2K ended with exit code {code}{_complaint(text) or last_words(folder / _OUTPUT)}"
            )
        label = parse_cp2k(text, structure)
        for path in sorted(folder.glob("*-RESTART.wfn"))[:1]:
            kept.parent.mkdir(exist_ok=True)
            shutil.copy(path, kept.with_suffix(".part"))
            kept.with_suffix(".part").replace(kept)
        return label


def _composition(structure: Structure, state: ElectronicState) -> str:
    """Name for structures whose wave functions fit each other: elements, their order, charge and spin are the same."""
    words = [*structure.symbols, str(state)] if state.special else structure.symbols
    return hashlib.sha256(" ".join(words).encode()).hexdigest()[:16] + ".wfn"


def cp2k_input(
    template: str, structure: Structure, values: Mapping[str, Any], where: str = "template"
) -> str:
    """The template with cell, coordinates and `values` filled in.

    Raises
    ------
    InputError
        If a placeholder has no value, or the structure has no cell.
    """
    if not structure.cell.any():
        raise CalculationError("CP2K needs a cell; give the structure one with empty space around it")
    periodic = "".join(axis for axis, p in zip("XYZ", structure.pbc, strict=True) if p) or "NONE"
    cell = [
        f"{name} {x:.12f} {y:.12f} {z:.12f}" for name, (x, y, z) in zip("ABC", structure.cell, strict=True)
    ]
    atoms = [
        f"{symbol} {x:.12f} {y:.12f} {z:.12f}"
        for symbol, (x, y, z) in zip(structure.symbols, structure.positions, strict=True)
    ]
    known = {"cell": "\n".join([*cell, f"PERIODIC {periodic}"]), "coordinates": "\n".join(atoms), **values}

    def value(match: re.Match[str]) -> str:
        if match[1] not in known:
            raise InputError(
                f"the placeholder {{{{{match[1]}}}}} has no value", where=where,
                expected=f"one of {', '.join(known)}", hint="give it under reference.settings",
            )  # fmt: skip
        return str(known[match[1]])

    return re.sub(r"\{\{\s*(\w+)\s*\}\}", value, template)


def _require_converged(text: str) -> None:
    if "outer SCF loop FAILED to converge" in text:
        raise CalculationError("the SCF did not converge (outer loop)")
    inner = ("SCF run converged in" in text, "SCF run NOT converged" in text)
    if inner == (False, True) or (all(inner) and "outer SCF loop converged in" not in text):
        raise CalculationError("the SCF did not converge")


def _complaint(text: str) -> str:
    """What CP2K printed in its box of asterisks when it gave up."""
    found = re.search(r"\[ABORT\].*?\n((?: \*.*\n){1,3})", text)
    if not found:
        return ""
    words = " ".join(re.sub(r"[*|/\\_]", " ", found[1]).split())
    return f": {words[:200]}"


def parse_cp2k(text: str, structure: Structure) -> Structure:
    """Energy, forces and, if it was computed, stress from CP2K's output, in eV and Å.

    Raises
    ------
    CalculationError
        If something is missing or cannot be read.
    """
    energies = ENERGY.findall(text)
    if not energies:
        raise CalculationError("CP2K's output holds no energy")
    try:
        energy = float(energies[-1]) * HARTREE
        forces = forces_table(text, structure.n_atoms)
        stress = stress_tensor(text)
    except (ValueError, IndexError) as error:
        raise CalculationError(f"CP2K's output cannot be read ({error})") from None
    if forces is None:
        raise CalculationError("CP2K's output holds no forces: the template needs &PRINT &FORCES ON")
    return structure.replace(energy=energy, forces=forces, stress=stress)
