"""Potentials of other programs, whatever their form: each is tried by what its file or folder looks like."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from nnpkit.deploy.imports.deepmd_potential import is_deepmd_file, read_deepmd_potential
from nnpkit.deploy.imports.nep_file import is_nep_file
from nnpkit.deploy.imports.nep_potential import read_nep_potential
from nnpkit.deploy.imports.runner_potential import is_runner_folder, read_runner_potential
from nnpkit.errors import InputError
from nnpkit.models.atomic_model import AtomicModel

__all__ = ["OutsidePotential", "read_outside"]


class OutsidePotential(NamedTuple):
    """A potential of another program as a model of ours."""

    model: AtomicModel
    source: dict[str, Any]  # for the metadata: ``format`` and what else should be kept of the file
    notes: list[str]


def read_outside(
    path: Path, units: str | None, cflength: float | None, cfenergy: float | None
) -> OutsidePotential | None:
    """The potential at `path`; None if it is not of another program.

    Raises
    ------
    InputError
        If it is damaged or cannot be expressed, or if there are units for something else than a RuNNer folder.
    """
    if is_runner_folder(path):
        runner = read_runner_potential(path, units, cflength, cfenergy)
        source = {"format": "runner", "units": runner.units.system.name, "reason": runner.units.reason}
        return OutsidePotential(runner.model, source, runner.notes)
    if any(value is not None for value in (units, cflength, cfenergy)):
        raise InputError("units do not apply", where=str(path), expected="them for a RuNNer folder only")
    if is_nep_file(path):
        nep = read_nep_potential(path)
        return OutsidePotential(nep.model, {"format": "nep", "neighbors": list(nep.neighbors)}, nep.notes)
    if is_deepmd_file(path):
        deepmd = read_deepmd_potential(path)
        return OutsidePotential(deepmd.model, {"format": "deepmd"}, deepmd.notes)
    return None
