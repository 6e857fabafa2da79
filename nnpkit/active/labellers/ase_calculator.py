"""Labels from any calculator of ASE, tblite (GFN1-xTB and others) first of all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnpkit.active.labellers.calculator_client import Calculations, Elsewhere, Here
from nnpkit.active.labellers.reference_calculation import state_of
from nnpkit.data.calculators import DEFAULTS
from nnpkit.data.electronic import ElectronicState
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

__all__ = ["AseReference"]


class AseReference:
    """Labels from a calculator of ASE.

    Parameters
    ----------
    calculator : str
        ``tblite``, ``emt``, any other name ASE knows, or ``package.module.Class``. The class is imported and
        called: name only what you trust.
    arguments : mapping
        Of the class; `changes` of an attempt replace some. ``"{charge}"`` and ``"{multiplicity}"`` stand for those
        of the structure, for calculators whose arguments have other names than ``charge`` and ``multiplicity``
        (``mult``).
    python : str, optional
        Interpreter of another environment that has ASE and the calculator; nnpkit need not be there. The version of
        its package then belongs to the identity of the labels.

    Raises
    ------
    InputError
        If there is no such calculator.
    """

    def __init__(
        self,
        calculator: str = "tblite",
        arguments: Mapping[str, Any] | None = None,
        python: str | None = None,
    ) -> None:
        self.calculator = calculator
        self.arguments = {**DEFAULTS.get(calculator, {}), **(arguments or {})}
        self.identity = {"kind": "ase", "calculator": calculator, "arguments": self.arguments}
        self._calculations: Calculations = Elsewhere(calculator, python) if python else Here(calculator)
        if python:
            self.identity["version"] = self._calculations.description["version"]
        self._names = self._state_arguments()

    def _state_arguments(self) -> dict[str, str]:
        """Names of the arguments for ``charge`` and ``multiplicity``, as far as the calculator has them."""
        known = self._calculations.description["parameters"]
        choices = {"charge": ("charge",), "multiplicity": ("multiplicity", "mult")}
        names = {what: name for what, likely in choices.items() for name in likely if name in known}
        marks = {f"{{{what}}}": what for what in choices}
        placed = {marks[v]: k for k, v in self.arguments.items() if isinstance(v, str) and v in marks}
        return names | placed

    def require(self, state: ElectronicState) -> None:
        """Accept a charge and multiplicity; see `nnpkit.active.labellers.reference_calculation.ReferenceCalculator`."""
        stated = {"charge": state.stated_charge, "multiplicity": state.stated_multiplicity}
        asked = {"charge": state.charge, "multiplicity": state.multiplicity}
        ordinary = {"charge": state.charge == 0.0, "multiplicity": state.lowest}
        for what, value in asked.items():
            name = self._names.get(what)
            fixed = self.arguments.get(name) if name else None
            if isinstance(fixed, (int, float)) and not isinstance(fixed, bool):
                if stated[what] and fixed != value:
                    raise InputError(
                        f"the structure has {state}, the arguments of {self.calculator} say {name}: {fixed:g}",
                        hint=f"leave {name} out of the arguments: every structure brings its own",
                    )  # fmt: skip
            elif name is None and stated[what] and not ordinary[what]:
                raise InputError(
                    f"{self.calculator} does not take the {what} of a structure ({state})",
                    hint="take another calculator, name its argument, as in arguments: "
                    f"{{its_name: '{{{what}}}'}}, or remove {what} from the file if it does not matter",
                )  # fmt: skip
        if self.calculator == "tblite" and state.charge != round(state.charge):
            raise InputError(f"tblite has no state of {state}", expected="a whole charge")

    def _arguments(self, structure: Structure) -> dict[str, Any]:
        """Arguments for a structure: what it says of charge and multiplicity in its place."""
        state = state_of(structure)
        asked = {"charge": state.charge, "multiplicity": state.multiplicity}
        stated = {"charge": state.stated_charge, "multiplicity": state.stated_multiplicity}
        arguments = dict(self.arguments)
        for what, name in self._names.items():
            placed = arguments.get(name) == f"{{{what}}}"
            if placed or (stated[what] and arguments.get(name) is None):
                value = asked[what]
                arguments[name] = int(value) if value == round(value) else value
        return arguments

    def compute(self, structure: Structure, folder: Path, changes: Mapping[str, Any]) -> Structure:
        """Label of one structure; see `nnpkit.active.labellers.reference_calculation.ReferenceCalculator`."""
        arguments = {**self._arguments(structure), **changes}
        if "directory" not in arguments and self._calculations.description["files"]:
            arguments["directory"] = str(folder)
        return structure.replace(**self._calculations.evaluate(structure, arguments, folder))
