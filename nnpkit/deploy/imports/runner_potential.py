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

from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ase.data import atomic_numbers

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
from nnpkit.models.networks import ACTIVATIONS
from nnpkit.models.scaling import FeatureStatistics

__all__ = ["RunnerPotential", "is_runner_folder", "read_runner_potential"]

_ACTIVATION_OF_LETTER = {letter: name for name, letter in ACTIVATIONS.items()}


class RunnerPotential(NamedTuple):
    """A potential of RuNNer or n2p2 as a model of ours."""

    model: AtomicModel
    units: RunnerUnits
    notes: list[str]  # one line each, for the user


class Layer(NamedTuple):
    """Weights (n_out, n_in) and biases (n_out,) of a layer."""

    weight: np.ndarray
    bias: np.ndarray


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
    layers = {e: _network(settings, folder, e, len(functions[e])) for e in functions}
    model = build_model(_spec(settings, functions, layers, found))
    _set_scaling(model, settings, folder / "scaling.data")
    with torch.no_grad():
        for network, element in zip(model.networks.networks, model.elements, strict=True):
            for layer, values in zip(network.layers, layers[element], strict=True):
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
                "activations": _activations(settings, e, len(layers[e])),
            }
            for e in functions
        },
        "energy_scale": units.system.energy / per_unit,
        "reference_energies": {e: (mean + offsets[e]) * units.system.energy for e in functions},
        "wall": {},
    }


def _activations(settings: RunnerSettings, element: str, n_layers: int) -> list[str]:
    """Names of the activation functions of an element's layers, the last one that of the output node."""
    letters = settings.words("global_activation_short", [])
    lines = settings.keywords.get("global_activation_short", [])
    for line in settings.keywords.get("element_activation_short", []):
        if line.words[:1] == [element]:
            if any(word.isdigit() for word in line.words):
                raise InputError(
                    "activation functions of single nodes are not supported", where=settings.where(line),
                    expected="one letter per layer",
                )  # fmt: skip
            letters, lines = line.words[1:], [line]
    where = settings.where(lines[0]) if lines else str(settings.path)
    if len(letters) > n_layers and "element_hidden_layers_short" in settings:
        letters = [*letters[: n_layers - 1], letters[-1]]
    if len(letters) == n_layers - 1:
        letters = [*letters, "l"]
    unknown = [letter for letter in letters if letter not in _ACTIVATION_OF_LETTER]
    if unknown or len(letters) != n_layers:
        raise InputError(
            f"activation functions {' '.join(letters)!r} for {n_layers} layers of {element}", where=where,
            expected=f"{n_layers} of the letters {' '.join(_ACTIVATION_OF_LETTER)}",
        )  # fmt: skip
    return [_ACTIVATION_OF_LETTER[letter] for letter in letters]


def _network(settings: RunnerSettings, folder: Path, element: str, n_inputs: int) -> list[Layer]:
    """Layers of an element's network from its weight file."""
    path = folder / f"weights.{atomic_numbers[element]:03d}.data"
    nodes = [int(parse_number(n, str(settings.path))) for n in settings.words("global_nodes_short", [])]
    rows = _read_table(path)
    if all(len(row) >= 5 for row in rows):
        layers = _layers_by_index(rows, path)
    else:
        layers = _layers_in_order(
            [parse_number(row[0], str(path)) for row in rows], [n_inputs, *nodes, 1], path
        )
    found = layers[0].weight.shape[1]
    if found != n_inputs or len(layers[-1].bias) != 1:
        raise InputError(
            f"weights of a network with {found} inputs and {len(layers[-1].bias)} outputs", where=str(path),
            expected=f"the {n_inputs} symmetry functions of {element} in input.nn and one output",
        )  # fmt: skip
    per_element = any(k in settings for k in ("element_nodes_short", "element_hidden_layers_short"))
    if nodes and not per_element and [len(x.bias) for x in layers[:-1]] != nodes:
        raise InputError(
            f"hidden layers of {[len(x.bias) for x in layers[:-1]]} nodes", where=str(path),
            expected=f"{nodes} as in global_nodes_short",
        )  # fmt: skip
    if "normalize_nodes" in settings:
        layers = [Layer(x.weight / x.weight.shape[1], x.bias / x.weight.shape[1]) for x in layers]
    return layers


def _read_table(path: Path) -> list[list[str]]:
    """Words of the lines of a table, without comments."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=str(path)) from None
    rows = [words for line in lines if (words := line.partition("#")[0].split())]
    if not rows:
        raise InputError("the file is empty", where=str(path))
    return rows


def _layers_by_index(rows: list[list[str]], path: Path) -> list[Layer]:
    """Layers of rows ``value a|b index layer node [layer node]``: where a weight starts and where it ends."""
    weights: dict[int, dict[tuple[int, int], float]] = {}
    biases: dict[int, dict[int, float]] = {}
    try:
        for row in rows:
            value, indices = parse_number(row[0], str(path)), [int(word) for word in row[3:7]]
            if row[1] == "a":
                weights.setdefault(indices[2], {})[indices[3] - 1, indices[1] - 1] = value
            else:
                biases.setdefault(indices[0], {})[indices[1] - 1] = value
    except (ValueError, IndexError):
        raise InputError(
            f"line {' '.join(row)!r}", where=str(path), expected="value, a or b, and indices"
        ) from None
    layers: list[Layer] = []
    for number in range(1, max([*weights, *biases], default=0) + 1):
        w, b = weights.get(number, {}), biases.get(number, {})
        shape = (len(b), max([j for _, j in w], default=-1) + 1)
        inside = all(0 <= i < shape[0] and 0 <= j < shape[1] for i, j in w) and all(
            0 <= i < shape[0] for i in b
        )
        complete = inside and len(w) == shape[0] * shape[1] > 0
        if not complete or (layers and len(layers[-1].bias) != shape[1]):
            raise InputError(
                f"layer {number} is incomplete", where=str(path), hint="the file may be truncated or damaged"
            )
        matrix, bias = np.zeros(shape), np.zeros(shape[0])
        for position, value in w.items():
            matrix[position] = value
        for node, value in b.items():
            bias[node] = value
        layers.append(Layer(matrix, bias))
    return layers


def _layers_in_order(values: list[float], sizes: list[int], path: Path) -> list[Layer]:
    """Layers of bare values: for each layer the weights, by starting node, then the biases."""
    expected = sum((a + 1) * b for a, b in pairwise(sizes))
    if len(values) != expected:
        raise InputError(
            f"{len(values)} weights", where=str(path),
            expected=f"{expected} for a network {'-'.join(map(str, sizes))} as in input.nn",
        )  # fmt: skip
    layers: list[Layer] = []
    start = 0
    for a, b in pairwise(sizes):
        weight = np.array(values[start : start + a * b]).reshape(a, b).T
        layers.append(Layer(weight.copy(), np.array(values[start + a * b : start + (a + 1) * b])))
        start += (a + 1) * b
    return layers


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
    rows = {(r[0], r[1]): r for r in reversed(_read_table(path)) if len(r) >= 5}  # the first of each stands
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
    model.scaling.set(FeatureStatistics(*table), kind, lower, upper)
