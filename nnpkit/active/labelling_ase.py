"""Labels from any calculator of ASE, tblite (GFN1-xTB and others) first of all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnpkit.active.labelling import CalculationError
from nnpkit.data.calculators import DEFAULTS, calculator_class
from nnpkit.data.structure import Structure

__all__ = ["AseReference"]


class AseReference:
    """Labels from a calculator of ASE.

    Parameters
    ----------
    calculator : str
        ``tblite``, ``emt``, any other name ASE knows, or ``package.module.Class``. The class is imported and
        called: name only what you trust.
    arguments : mapping
        Of the class; `changes` of an attempt replace some.

    Raises
    ------
    InputError
        If there is no such calculator.
    """

    def __init__(self, calculator: str = "tblite", arguments: Mapping[str, Any] | None = None) -> None:
        self.calculator = calculator
        self.arguments = {**DEFAULTS.get(calculator, {}), **(arguments or {})}
        self.identity = {"kind": "ase", "calculator": calculator, "arguments": self.arguments}
        self._class = calculator_class(calculator)

    def compute(self, structure: Structure, folder: Path, changes: Mapping[str, Any]) -> Structure:
        """Label of one structure; see `nnpkit.active.labelling.ReferenceCalculator`."""
        from ase.calculators.calculator import PropertyNotImplementedError

        atoms = structure.to_atoms()
        arguments = {**self.arguments, **changes}
        if "directory" not in arguments and getattr(self._class, "command", None) is not None:
            arguments["directory"] = str(folder)
        try:
            atoms.calc = self._class(**arguments)
            energy, forces = float(atoms.get_potential_energy()), atoms.get_forces()
            stress = None
            if structure.pbc.all():
                try:
                    stress = atoms.get_stress(voigt=False)
                except (PropertyNotImplementedError, NotImplementedError):
                    stress = None
        except OSError:
            raise
        except Exception as error:  # a calculator raises whatever its program makes it raise
            words = " ".join(str(error).split())[:300]
            raise CalculationError(f"{self.calculator}: {words or type(error).__name__}") from None
        return structure.replace(energy=energy, forces=forces, stress=stress)
