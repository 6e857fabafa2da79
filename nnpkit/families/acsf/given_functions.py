"""The symmetry functions that the settings ask for: generated from the data, listed, or from a settings file."""

from __future__ import annotations

from typing import Any

from nnpkit.errors import InputError
from nnpkit.families.acsf.chosen_functions import chosen_functions
from nnpkit.families.acsf.default_functions import default_functions
from nnpkit.families.acsf.runner_settings import parse_symmetry_function, read_settings, symmetry_functions
from nnpkit.families.acsf.settings import AcsfModel, Descriptor, FunctionFile, SymmetryFunctionEntry
from nnpkit.families.acsf.symmetry_functions import SymmetryFunction
from nnpkit.families.contract import TrainingData
from nnpkit.models.sizes import most_functions
from nnpkit.units import BOHR

__all__ = ["describe_functions", "generated_functions"]


def describe_functions(settings: AcsfModel, data: TrainingData) -> tuple[dict[str, Any], list[str]]:
    """What a model says of its symmetry functions, and where they come from."""
    functions, report = _functions(settings, data)
    spec = {
        "cutoff_kind": settings.descriptor.cutoff_function,
        "cutoff_inner": settings.descriptor.cutoff_inner,
        "functions": [function.to_dict() for function in functions],
    }
    return spec, report


def generated_functions(d: Descriptor, data: TrainingData) -> tuple[list[SymmetryFunction], list[str]]:
    """Symmetry functions for the distances in the data, also those that hardly vary, and why these."""
    return default_functions(
        data.elements, data.min_distance, cutoff=d.cutoff, angular_cutoff=d.angular_cutoff or d.cutoff,
        kind=d.cutoff_function, inner=d.cutoff_inner, radial=d.radial, zetas=d.zetas,
        angular_etas=d.angular_etas, wide=d.angular_kind == "wide",
    )  # fmt: skip


def _functions(settings: AcsfModel, data: TrainingData) -> tuple[list[SymmetryFunction], list[str]]:
    """Symmetry functions of the model, and where they come from."""
    d = settings.descriptor
    if d.functions == "auto":
        chosen, report = generated_functions(d, data)
        if not chosen:
            raise InputError(
                f"no atom of the training structures has a neighbour within {d.cutoff:g} Å: there is nothing to learn",
                where="data.train", expected="structures whose atoms interact, or a larger model.descriptor.cutoff",
            )  # fmt: skip
        most = d.functions_per_element or most_functions(len(data.elements))
        kept, dropped = chosen_functions(
            data.elements, chosen, d.cutoff_function, d.cutoff_inner, data.train, most, d.minimum_range
        )
        return kept, report + dropped
    length = BOHR if d.units == "bohr" else 1.0
    where = "model.descriptor.functions"
    if isinstance(d.functions, FunctionFile):
        by_element = symmetry_functions(read_settings(d.functions.file))
        given = [f.in_angstrom(length) for functions in by_element.values() for f in functions]
    else:
        given = [
            parse_symmetry_function(f.replace("symfunction_short", "").split(), f"{where}.{n}").in_angstrom(length)
            if isinstance(f, str)
            else _function(f, d.cutoff, length)
            for n, f in enumerate(d.functions)
        ]  # fmt: skip
    known = set(data.elements)
    used = [f for f in given if {f.center, *f.neighbors} <= known]
    report = [f"{len(used)} symmetry functions as given"]
    if len(used) < len(given):
        report.append(f"{len(given) - len(used)} given functions are of elements that the data do not have")
    return used, report


def _function(entry: SymmetryFunctionEntry, cutoff: float, length: float) -> SymmetryFunction:
    """Symmetry function of a mapping whose lengths are in units of `length` Å; `cutoff` is in Å."""
    return SymmetryFunction(
        entry.kind, entry.center, tuple(entry.neighbors), cutoff if entry.cutoff is None else entry.cutoff * length,
        eta=entry.eta / length**2, shift=entry.shift * length, zeta=entry.zeta, lam=float(entry.lam),
    )  # fmt: skip
