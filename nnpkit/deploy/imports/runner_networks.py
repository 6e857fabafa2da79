"""Networks of RuNNer and n2p2: ``weights.NNN.data`` and the settings that describe them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ase.data import atomic_numbers

from nnpkit.errors import InputError
from nnpkit.families.acsf.runner_settings import RunnerSettings, parse_number
from nnpkit.models.networks import ACTIVATIONS

__all__ = ["Layer", "activations", "network", "read_table"]

_ACTIVATION_OF_LETTER = {letter: name for name, letter in ACTIVATIONS.items()}


class Layer(NamedTuple):
    """Weights (n_out, n_in) and biases (n_out,) of a layer."""

    weight: np.ndarray
    bias: np.ndarray


def activations(settings: RunnerSettings, element: str, n_layers: int, kind: str = "short") -> list[str]:
    """Names of the activation functions of an element's layers, the last one that of the output node.

    `kind` is ``short`` or ``electrostatic``, as in the keywords of ``input.nn``.
    """
    letters = settings.words(f"global_activation_{kind}", [])
    lines = settings.keywords.get(f"global_activation_{kind}", [])
    for line in settings.keywords.get(f"element_activation_{kind}", []):
        if line.words[:1] == [element]:
            if any(word.isdigit() for word in line.words):
                raise InputError(
                    "activation functions of single nodes are not supported", where=settings.where(line),
                    expected="one letter per layer",
                )  # fmt: skip
            letters, lines = line.words[1:], [line]
    where = settings.where(lines[0]) if lines else str(settings.path)
    if len(letters) > n_layers and f"element_hidden_layers_{kind}" in settings:
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


def network(
    settings: RunnerSettings, folder: Path, element: str, n_inputs: int, kind: str = "short"
) -> list[Layer]:
    """Layers of an element's network from its weight file; `kind` as of `activations`.

    Of a fourth generation, one of the `n_inputs` of a short-range network is the charge.
    """
    with_charge = kind == "short" and settings.generation == 4
    stem = "weights" if kind == "short" else "weightse"
    path = folder / f"{stem}.{atomic_numbers[element]:03d}.data"
    nodes = [int(parse_number(n, str(settings.path))) for n in settings.words(f"global_nodes_{kind}", [])]
    rows = read_table(path)
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
            expected=f"the {n_inputs - with_charge} symmetry functions of {element} in input.nn"
            f"{' and the charge' * with_charge}, and one output",
        )  # fmt: skip
    per_element = any(k in settings for k in (f"element_nodes_{kind}", f"element_hidden_layers_{kind}"))
    if nodes and not per_element and [len(x.bias) for x in layers[:-1]] != nodes:
        raise InputError(
            f"hidden layers of {[len(x.bias) for x in layers[:-1]]} nodes", where=str(path),
            expected=f"{nodes} as in global_nodes_{kind}",
        )  # fmt: skip
    if "normalize_nodes" in settings:
        layers = [Layer(x.weight / x.weight.shape[1], x.bias / x.weight.shape[1]) for x in layers]
    return layers


def read_table(path: Path) -> list[list[str]]:
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
