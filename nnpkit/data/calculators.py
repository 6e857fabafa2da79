"""ASE calculators by name: references for labels, baselines, and whatever else computes energies and forces."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from nnpkit.errors import InputError

__all__ = ["DEFAULTS", "ase_calculator", "calculator_class"]

_CLASSES = {
    "tblite": "tblite.ase.TBLite",
    "emt": "ase.calculators.emt.EMT",
    "lj": "ase.calculators.lj.LennardJones",
    "chgnet": "chgnet.model.dynamics.CHGNetCalculator",
}
DEFAULTS: dict[str, dict[str, Any]] = {
    "tblite": {"method": "GFN1-xTB", "accuracy": 0.01, "verbosity": 0},
    "chgnet": {"use_device": "cpu"},
}
"""Arguments that calculators get unless others are given."""


def calculator_class(name: str, where: str = "reference.calculator") -> Any:
    """Class of the calculator called `name`.

    Parameters
    ----------
    name : str
        ``tblite``, ``chgnet``, ``emt``, ``lj``, any other name that ASE knows, or ``package.module.Class``. The
        module is imported: name only what you trust.
    where : str
        Setting to name in an error.

    Raises
    ------
    InputError
        If there is no such calculator.
    """
    dotted = _CLASSES.get(name, name)
    extras = {"tblite": "reference", "chgnet": "chgnet"}
    hint = f"{name} is installed with `pip install nnpkit[{extras[name]}]`" if name in extras else None
    try:
        if "." in dotted:
            module, _, attribute = dotted.rpartition(".")
            return getattr(import_module(module), attribute)
        from ase.calculators.calculator import get_calculator_class

        return get_calculator_class(dotted)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"there is no calculator {name!r} ({error})", where=where,
            expected="tblite, chgnet, emt, a name that ASE knows, or package.module.Class", hint=hint,
        ) from None  # fmt: skip


def ase_calculator(name: str, arguments: Mapping[str, Any] | None = None, where: str = "calculator") -> Any:
    """The calculator called `name` with `arguments`; names and errors as of `calculator_class`."""
    kind = calculator_class(name, where)
    try:
        return kind(**{**DEFAULTS.get(name, {}), **(arguments or {})})
    except Exception as error:  # a calculator raises whatever it likes
        words = " ".join(str(error).split())[:300] or type(error).__name__
        raise InputError(f"the calculator {name!r} cannot be made ({words})", where=where) from None
