"""A calculator of ASE in any Python that has it: ``python -I calculator_process.py`` answers lines of JSON.

nnpkit runs this file, by its path, with the Python of another environment, in which nnpkit need not be installed;
so it imports the standard library, and ASE when it is asked for something. `evaluate` is also what nnpkit calls
itself where the calculator is in its own environment: one code for both.

Requests are ``{"class": NAME}``, to begin with, and ``{"atoms": {...}, "arguments": {...}, "folder": PATH}``. Answers
are one line of JSON each; ``{"error": WORDS}`` where there is no result. What calculators print goes to standard error.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from importlib import import_module, metadata
from typing import Any

__all__ = ["describe", "evaluate", "find_class", "words_of"]


def find_class(name: str) -> Any:
    """Class of ``package.module.Class``, or of a name that ASE knows; `ImportError` and others if there is none."""
    if "." in name:
        module, _, attribute = name.rpartition(".")
        return getattr(import_module(module), attribute)
    from ase.calculators.calculator import get_calculator_class

    return get_calculator_class(name)


def describe(kind: Any) -> dict[str, Any]:
    """What labelling has to know of a class: names of its parameters, whether it wants a folder, its version."""
    package = kind.__module__.partition(".")[0]
    try:
        version = metadata.version(package)
    except metadata.PackageNotFoundError:
        version = ""
    return {
        "parameters": sorted(getattr(kind, "default_parameters", None) or {}),
        "files": getattr(kind, "command", None) is not None,
        "version": f"{package} {version}".strip(),
    }


def evaluate(kind: Any, arguments: Mapping[str, Any], atoms: Any) -> dict[str, Any]:
    """Energy (eV), forces (eV/Å), and stress (3, 3; eV/Å³), charges (e) and dipole (e Å) or None, of ASE `atoms`.

    The stress is asked for where all directions are periodic, the dipole taken where none is. Whatever the calculator
    raises is passed on.
    """
    from ase.calculators.calculator import PropertyNotImplementedError

    atoms.calc = kind(**arguments)
    energy, forces = float(atoms.get_potential_energy()), atoms.get_forces()
    stress = None
    if atoms.pbc.all():
        try:
            stress = atoms.get_stress(voigt=False)
        except (PropertyNotImplementedError, NotImplementedError):
            stress = None
    results = atoms.calc.results
    dipole = None if atoms.pbc.any() else results.get("dipole")
    return {
        "energy": energy,
        "forces": forces,
        "stress": stress,
        "charges": results.get("charges"),
        "dipole": dipole,
    }


def words_of(error: BaseException) -> str:
    """What an exception says, on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__


def _atoms(given: Mapping[str, Any]) -> Any:
    from ase import Atoms

    return Atoms(given["symbols"], positions=given["positions"], cell=given["cell"], pbc=given["pbc"])


def _plain(value: Any) -> Any:
    """Numbers and nested lists of them for JSON, whatever holds them: arrays of numpy, tensors."""
    return value.tolist() if hasattr(value, "tolist") else value


def _answer(request: Mapping[str, Any], kinds: list[Any]) -> dict[str, Any]:
    """Answer to one request; `kinds` holds the class once it was named."""
    if "class" in request:
        kinds[:] = [find_class(request["class"])]
        return describe(kinds[0])
    os.chdir(request["folder"])
    found = evaluate(kinds[0], request["arguments"], _atoms(request["atoms"]))
    return {name: _plain(value) for name, value in found.items()}


def main() -> int:
    """Answer until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what is printed must not get between the answers
    kinds: list[Any] = []
    for line in sys.stdin:
        try:
            answer = _answer(json.loads(line), kinds)
        except Exception as error:
            answer = {"error": words_of(error), "type": type(error).__name__}
        print(json.dumps(answer, default=_plain), file=answers, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
