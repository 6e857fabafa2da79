"""ASE calculators by name: references for labels, baselines, and whatever else computes energies and forces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnpkit.data.calculator_process import find_class, words_of
from nnpkit.errors import InputError

__all__ = ["DEFAULTS", "INSTALLED_BY", "ase_calculator", "calculator_class", "dotted_name"]

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
INSTALLED_BY = {"tblite": "tblite", "chgnet": "chgnet"}
"""Packages that bring calculators of another name than that of an ASE module."""
_EXTRAS = {"tblite": "reference", "chgnet": "chgnet"}


def dotted_name(name: str) -> str:
    """``package.module.Class`` of a name of ours; another name as it is."""
    return _CLASSES.get(name, name)


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
    hint = f"{name} is installed with `pip install nnpkit[{_EXTRAS[name]}]`" if name in _EXTRAS else None
    try:
        return find_class(dotted_name(name))
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
        raise InputError(f"the calculator {name!r} cannot be made ({words_of(error)})", where=where) from None
