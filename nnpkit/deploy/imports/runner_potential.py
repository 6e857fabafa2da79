"""Potentials of RuNNer and n2p2: the folder with ``input.nn``, ``scaling.data`` and ``weights.NNN.data``.

What is read is what n2p2 (and LAMMPS' ``pair_style hdnnp``) would compute with it:

* elements, symmetry functions and all tables are in n2p2's order (by atomic number; see
  `nnpkit.families.acsf.runner_settings.symmetry_functions`);
* the energy of an atom is ``network / conv_energy + mean_energy + atom_energy``. RuNNer itself adds
  ``atom_energy`` only where ``remove_atom_energies`` stands too; a note says so where it matters;
* sizes of the networks are those of the weight files, activation functions those of ``input.nn``;
  ``normalize_nodes`` is worked into the weights.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import torch

from nnpkit.deploy.imports.runner_charges import describe_charges, load_charges
from nnpkit.deploy.imports.runner_networks import Layer, activations, network, read_table
from nnpkit.deploy.imports.runner_units import RunnerUnits, find_units, given_units
from nnpkit.errors import InputError
from nnpkit.families.acsf.runner_settings import (
    RunnerFunction,
    RunnerSettings,
    cutoff_function_of,
    parse_number,
    read_settings,
    symmetry_functions,
)  # fmt: skip
from nnpkit.families.factory import build_model
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.charged_model import ChargedModel
from nnpkit.models.scaling import FeatureStatistics

__all__ = ["RunnerPotential", "is_runner_folder", "read_runner_potential"]


class RunnerPotential(NamedTuple):
    """A potential of RuNNer or n2p2 as a model of ours."""

    model: AtomicModel
    units: RunnerUnits
    notes: list[str]  # one line each, for the user


def is_runner_folder(path: str | Path) -> bool:
    """Whether `path` is a folder with an ``input.nn``."""
    return (Path(path) / "input.nn").is_file()


def read_runner_potential(
    folder: str | Path, units: str | None = None, cflength: float | None = None, cfenergy: float | None = None
) -> RunnerPotential:
    """Read the potential in `folder`.

    Parameters
    ----------
    folder : path
        With ``input.nn``, ``scaling.data`` (unless symmetry functions are not scaled) and one
        ``weights.NNN.data`` per element.
    units, cflength, cfenergy : optional
        See `nnpkit.deploy.imports.runner_units.given_units`; without them the units are those that the settings
        mention, or inferred.

    Raises
    ------
    InputError
        For a missing or damaged file, for units that cannot be told, or for anything in ``input.nn`` that
        would change the physics and is not supported.
    """
    folder = Path(folder)
    settings = read_settings(folder / "input.nn")
    functions = symmetry_functions(settings)
    cutoffs = {f.function.cutoff for group in functions.values() for f in group}
    found = find_units(settings, cutoffs, given_units(units, cflength, cfenergy))
    n_inputs, more = {e: len(own) for e, own in functions.items()}, settings.generation == 4
    layers = {e: network(settings, folder, e, n + more) for e, n in n_inputs.items()}
    spec = _spec(settings, functions, layers, found)
    if settings.generation > 2:
        charges = describe_charges(settings, folder, n_inputs, found.system)
        spec = {**spec, "kind": "charged", "family": spec["kind"], "charges": charges}
    model = build_model(spec)
    if isinstance(model, ChargedModel):
        load_charges(model, settings, folder, found.system)
    _set_scaling(model, settings, folder / "scaling.data")
    with torch.no_grad():
        for own, element in zip(model.networks.networks, model.elements, strict=True):
            for layer, values in zip(own.layers, layers[element], strict=True):
                layer.weight.copy_(torch.from_numpy(values.weight))
                layer.bias.copy_(torch.from_numpy(values.bias))
    return RunnerPotential(model, found, _notes(settings, found))


def _notes(settings: RunnerSettings, units: RunnerUnits) -> list[str]:
    notes = (
        [f"{settings.path.parent}: units {units.system.name}, since {units.reason}"] if units.inferred else []
    )
    if "runner_mode" in settings and "remove_atom_energies" not in settings and "atom_energy" in settings:
        notes.append(
            f"{settings.path}: atom_energy is added as n2p2 does; RuNNer needs remove_atom_energies for that"
        )
    return notes


def _spec(
    settings: RunnerSettings,
    functions: dict[str, list[RunnerFunction]],
    layers: dict[str, list[Layer]],
    units: RunnerUnits,
) -> dict[str, Any]:
    kind, inner = cutoff_function_of(settings)
    normalised = [k for k in ("mean_energy", "conv_energy", "conv_length") if k in settings]
    if len(normalised) not in (0, 3):
        raise InputError(
            f"only {' and '.join(normalised)} of the normalisation", where=str(settings.path),
            expected="all or none of mean_energy, conv_energy, conv_length",
        )  # fmt: skip
    mean, per_unit = settings.number("mean_energy", 0.0), settings.number("conv_energy", 1.0)
    offsets = dict.fromkeys(functions, 0.0)
    for line in settings.keywords.get("atom_energy", []):
        if len(line.words) < 2:
            raise InputError("atom_energy", where=settings.where(line), expected="an element and an energy")
        offsets[line.words[0]] = parse_number(line.words[1], settings.where(line))
    return {
        "kind": "acsf",
        "elements": list(functions),
        "cutoff_kind": kind,
        "cutoff_inner": inner,
        "functions": [
            f.in_angstrom(units.system.length).to_dict() for group in functions.values() for f in group
        ],
        "networks": {
            e: {
                "hidden": [len(x.bias) for x in layers[e][:-1]],
                "activations": activations(settings, e, len(layers[e])),
            }
            for e in functions
        },
        "energy_scale": units.system.energy / per_unit,
        "reference_energies": {e: (mean + offsets[e]) * units.system.energy for e in functions},
        "wall": {},
    }


def _scaling_kind(settings: RunnerSettings) -> str:
    scale, center = "scale_symmetry_functions" in settings, "center_symmetry_functions" in settings
    if scale or center:
        return "minmax_center" if scale and center else ("minmax" if scale else "center")
    return "sigma" if "scale_symmetry_functions_sigma" in settings else "none"


def _set_scaling(model: AtomicModel, settings: RunnerSettings, path: Path) -> None:
    """Scaling of the model from ``scaling.data``."""
    kind = _scaling_kind(settings)
    if kind == "none" and not path.exists():
        return
    rows = {(r[0], r[1]): r for r in reversed(read_table(path)) if len(r) >= 5}  # the first of each stands
    shape = tuple(model.scaling.minimum.shape)
    table = torch.zeros((4, *shape), dtype=torch.float64)
    table[1] = table[3] = 1.0  # where an element has fewer functions
    for t, (element, n) in enumerate(zip(model.elements, model.descriptor.n_features, strict=True)):
        for k in range(n):
            row = rows.get((str(t + 1), str(k + 1)))
            if row is None or (kind == "sigma" and len(row) < 6):
                raise InputError(
                    f"no {'sigma' if row else 'line'} for symmetry function {k + 1} of {element}",
                    where=str(path), expected=f"{n} symmetry functions of {element} as in input.nn",
                )  # fmt: skip
            for column, word in enumerate(row[2:6]):
                table[column, t, k] = parse_number(word, str(path))
    lower, upper = settings.number("scale_min_short", 0.0), settings.number("scale_max_short", 1.0)
    model.scaling.set(FeatureStatistics(*table), kind, lower, upper, exact=True)
