"""Labels from any calculator of ASE, tblite (GFN1-xTB and others) first of all."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from nnpkit.active.labelling import CalculationError
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

__all__ = ["AseReference"]

_CLASSES = {
    "tblite": "tblite.ase.TBLite",
    "emt": "ase.calculators.emt.EMT",
    "lj": "ase.calculators.lj.LennardJones",
}
_DEFAULTS: dict[str, dict[str, Any]] = {"tblite": {"method": "GFN1-xTB", "accuracy": 0.01, "verbosity": 0}}


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
        self.arguments = {**_DEFAULTS.get(calculator, {}), **(arguments or {})}
        self.identity = {"kind": "ase", "calculator": calculator, "arguments": self.arguments}
        self._class = _calculator_class(calculator)

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


def _calculator_class(name: str) -> Any:
    dotted = _CLASSES.get(name, name)
    hint = "tblite is installed with `pip install nnpkit[reference]`" if name == "tblite" else None
    try:
        if "." in dotted:
            module, _, attribute = dotted.rpartition(".")
            return getattr(import_module(module), attribute)
        from ase.calculators.calculator import get_calculator_class

        return get_calculator_class(dotted)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"there is no calculator {name!r} ({error})", where="reference.calculator",
            expected="tblite, emt, a name that ASE knows, or package.module.Class", hint=hint,
        ) from None  # fmt: skip
