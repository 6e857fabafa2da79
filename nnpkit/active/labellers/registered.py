"""The labellers by name: ours, and those of other packages under the entry points ``nnpkit.labellers``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnpkit.registry import Registry

if TYPE_CHECKING:
    from nnpkit.active.labellers.reference_calculation import ReferenceCalculator

__all__ = ["LABELLERS", "OWN_LABELLERS", "make_reference"]

OWN_LABELLERS = {
    "ase": "nnpkit.active.labellers.ase_calculator:AseReference",
    "cp2k": "nnpkit.active.labellers.cp2k:Cp2kReference",
    "command": "nnpkit.active.labellers.external_command:CommandReference",
}

LABELLERS: Registry[Any] = Registry("labeller", "nnpkit.labellers", OWN_LABELLERS)
"""Classes that make a `ReferenceCalculator` of the settings of their section ``reference``.

A class of another package has them as its attribute ``Settings``, derived from `LabellerSettings`.
"""


def make_reference(description: Mapping[str, Any]) -> ReferenceCalculator:
    """Calculator of a JSON-able description: its ``kind``, by default ``ase``, and the arguments of the class.

    Raises
    ------
    InputError
        If the description makes no sense or what it names is not installed.
    """
    arguments = dict(description)
    made: ReferenceCalculator = LABELLERS.get(arguments.pop("kind", "ase"))(**arguments)
    return made
