"""Write a model as a potential of RuNNer and n2p2, for LAMMPS' ``pair_style hdnnp``, CP2K and RuNNer itself.

The energy scale of the model is worked into the weights of the output nodes, so that no data set normalisation
is needed, and the features' scaling is written in the way of the format that says it exactly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase.data import atomic_numbers

from nnpkit._version import __version__
from nnpkit.deploy.imports.runner_units import OWN_COMMENT, UNIT_NAMES, given_units
from nnpkit.deploy.targets.charges_for_runner import charge_lines, require_expressible, scale_of_charges
from nnpkit.errors import InputError
from nnpkit.families.acsf.symmetry_functions import SymmetryFunction
from nnpkit.families.registered import family_of
from nnpkit.files import atomic_folder
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.charged_model import ChargedModel
from nnpkit.models.cutoff import CUTOFF_KINDS
from nnpkit.models.networks import ACTIVATIONS
from nnpkit.models.short_range import wall_ends
from nnpkit.models.sum_model import SumModel
from nnpkit.models.terms import require_no_terms
from nnpkit.units import UnitSystem

__all__ = ["write_runner_potential"]

_TYPES = {"G2": 2, "G3": 3, "G9": 9}
_OWN_FILE = re.compile(r"input\.nn|scaling\.data|(weightse?|hardness)\.\d{3}\.data")
_HUGE = 1e300  # standard deviation of a feature that the scaling ignores


class _ScalingTable(NamedTuple):
    """Scaling in the words of the format."""

    keywords: list[str]
    lower: float
    upper: float
    mean: np.ndarray  # (n_types, D)
    sigma: np.ndarray  # (n_types, D)


def write_runner_potential(
    model: AtomicModel, folder: str | Path, units: str = "bohr-hartree", without_wall: bool = False
) -> None:
    """Write ``input.nn``, ``scaling.data`` and ``weights.NNN.data`` into a new `folder`.

    Of a potential with charges also ``weightse.NNN.data`` and ``hardness.NNN.data``.

    Parameters
    ----------
    model : AtomicModel
        With symmetry functions.
    folder : path
        Appears when everything is written; an existing one is replaced if it holds nothing but a potential.
    units : {"bohr-hartree", "angstrom-ev"}
        Units of the files. LAMMPS' ``pair_style hdnnp`` needs cflength 1.8897261246 and cfenergy
        0.0367493221757 for the first and 1.0 for the second with ``units metal``.
    without_wall : bool
        Leave out the model's short-range repulsion, which the format cannot express.

    Raises
    ------
    InputError
        For another kind of model, if the model has such a repulsion and `without_wall` is not set, for other
        units, or if `folder` holds something else.
    """
    folder = Path(folder)
    if isinstance(model, SumModel) or "runner" not in family_of(model.spec).targets:
        raise InputError(
            f"RuNNer's format cannot express a potential of kind {model.spec['kind']}", where=str(folder),
            expected="one with symmetry functions",
        )  # fmt: skip
    require_no_terms(model.spec, "RuNNer's format", str(folder))
    if model.terms is not None and not without_wall:
        walls = ", ".join(
            f"{pair} below {distance:.2f} Å" for pair, distance in wall_ends(model.spec["wall"]).items()
        )
        raise InputError(
            f"RuNNer's format cannot express this model's short-range repulsion ({walls})", where=str(folder),
            hint="leave it out with --without-wall; the potential may then let atoms collapse",
        )  # fmt: skip
    system = given_units(units, None, None)
    if system is None:
        raise InputError(f"units {units!r}", expected=" or ".join(UNIT_NAMES))
    if isinstance(model, ChargedModel):
        require_expressible(model, str(folder))
    _require_replaceable(folder)
    elements = sorted(model.elements, key=atomic_numbers.__getitem__)
    functions = {e: _sorted_functions(model, e, system) for e in elements}
    model = _with_unit_range(model)
    scaling = _scaling_table(model)
    with atomic_folder(folder) as temporary:
        (temporary / "input.nn").write_text(_settings(model, functions, scaling, system), encoding="utf-8")
        (temporary / "scaling.data").write_text(_scaling_lines(model, functions, scaling), encoding="utf-8")
        for element in elements:
            number, t = f"{atomic_numbers[element]:03d}.data", model.elements.index(element)
            scale, nodes = (
                model.energy_scale / system.energy,
                _common_shape(model.spec["networks"], elements)[0],
            )
            lines = _weight_lines(model.networks.networks[t], functions[element], nodes, scale)
            (temporary / f"weights.{number}").write_text(lines, encoding="utf-8")
            if isinstance(model, ChargedModel):
                own, nodes = model.charge_networks[0].networks[t], _charge_shape(model)[0]
                lines = _weight_lines(own, functions[element], nodes, scale_of_charges(model, system))
                (temporary / f"weightse.{number}").write_text(lines, encoding="utf-8")
                if model.generation == "fourth":
                    hardness = f"{float(model.hardness[t]) / system.energy!r}\n"
                    (temporary / f"hardness.{number}").write_text(hardness, encoding="utf-8")


def _require_replaceable(folder: Path) -> None:
    if folder.is_dir() and all(map(_OWN_FILE.fullmatch, (path.name for path in folder.iterdir()))):
        return
    if folder.exists():
        raise InputError(
            "there is something else already", where=str(folder), expected="a new folder for the potential"
        )


def _sorted_functions(
    model: AtomicModel, element: str, units: UnitSystem
) -> list[tuple[int, SymmetryFunction]]:
    """Functions of an element in `units` and in the order of the format, with their positions in the model."""
    mine = [SymmetryFunction(**f) for f in model.spec["functions"] if f["center"] == element]
    length = units.length
    converted = [
        SymmetryFunction(
            f.kind, f.center, tuple(sorted(f.neighbors, key=atomic_numbers.__getitem__)), f.cutoff / length,
            f.eta * length**2, f.shift / length, f.zeta, f.lam,
        )
        for f in mine
    ]  # fmt: skip

    def key(item: tuple[int, SymmetryFunction]) -> tuple[float, ...]:
        f = item[1]
        neighbors = sorted(atomic_numbers[e] for e in f.neighbors)
        return (_TYPES[f.kind], f.cutoff, f.eta, f.shift, f.zeta, f.lam, *neighbors)

    return sorted(enumerate(converted), key=key)


def _function_line(f: SymmetryFunction) -> str:
    neighbors = sorted(f.neighbors, key=atomic_numbers.__getitem__)
    start = f"symfunction_short {f.center:2s} {_TYPES[f.kind]} {' '.join(f'{e:2s}' for e in neighbors)}"
    if f.kind == "G2":
        return f"{start} {f.eta!r} {f.shift!r} {f.cutoff!r}"
    shift = f" {f.shift!r}" if f.shift != 0.0 else ""
    return f"{start} {f.eta!r} {f.lam:+g} {f.zeta!r} {f.cutoff!r}{shift}"


def _settings(
    model: AtomicModel,
    functions: dict[str, list[tuple[int, SymmetryFunction]]],
    scaling: _ScalingTable,
    units: UnitSystem,
) -> str:
    spec = model.spec
    widths, activations = _common_shape(spec["networks"], list(functions))
    inner = spec.get("cutoff_inner", 0.0)
    lines = [
        f"# {OWN_COMMENT} {units.name}",
        f"# Written by nnpkit {__version__}.",
        f"number_of_elements {len(functions)}",
        f"elements {' '.join(functions)}",
        "remove_atom_energies",
    ]
    lines += [f"atom_energy {e:2s} {spec['reference_energies'][e] / units.energy!r}" for e in functions]
    lines += [f"cutoff_type {CUTOFF_KINDS.index(spec['cutoff_kind'])}" + (f" {inner!r}" if inner else "")]
    lines += scaling.keywords
    if scaling.keywords:
        lines += [f"scale_min_short {scaling.lower!r}", f"scale_max_short {scaling.upper!r}"]
    lines += [
        f"global_hidden_layers_short {len(widths)}",
        f"global_nodes_short {' '.join(map(str, widths))}",
        f"global_activation_short {' '.join(ACTIVATIONS[a] for a in activations)}",
    ]
    if isinstance(model, ChargedModel):
        lines += charge_lines(model, list(functions), *_charge_shape(model), units)
    lines += [_function_line(f) for group in functions.values() for _, f in group]
    return "\n".join(lines) + "\n"


def _with_unit_range(model: AtomicModel) -> AtomicModel:
    """The same function of the raw features with features scaled to 0...1, for which the first layer makes up.

    CP2K's NNP reads ``scale_min_short`` and ``scale_max_short`` and does not use them.
    """
    table = _scaling_table(model)
    width, lower = table.upper - table.lower, table.lower
    if (lower, width) == (0.0, 1.0):
        return model
    model = deepcopy(model).requires_grad_(False)
    model.scaling.factor /= width
    model.scaling.lower.fill_(0.0)
    charges = model.charge_networks if isinstance(model, ChargedModel) else []
    for networks in (model.networks, *charges):
        for network, n in zip(networks.networks, model.descriptor.n_features, strict=True):
            first = network.layers[0]  # behind the features there may be the charge, which is not scaled
            first.bias += lower * first.weight[:, :n].sum(1)
            first.weight[:, :n] *= width
    return model


def _charge_shape(model: ChargedModel) -> tuple[list[int], list[str]]:
    """`_common_shape` of the networks of the charges."""
    return _common_shape(model.spec["charges"]["networks"], model.elements)


def _scaling_table(model: AtomicModel) -> _ScalingTable:
    """Keywords and columns with which the format's formulas give the model's ``(raw - shift) factor + lower``.

    With ``sigma`` any factor can be said and the columns of the range remain free for the range of the data;
    it is used unless the model's scaling is plainly one of the others.
    """
    scaling = model.scaling
    shift, factor = scaling.shift.numpy(), scaling.factor.numpy()
    minimum, maximum, lower = scaling.minimum.numpy(), scaling.maximum.numpy(), float(scaling.lower)
    used = np.zeros(shift.shape, dtype=bool)
    for t, n in enumerate(model.descriptor.n_features):
        used[t, :n] = True
    ones = np.ones_like(shift)
    if lower == 0.0 and np.all(factor[used] == 1.0):
        centred = bool(np.any(shift[used] != 0.0))
        return _ScalingTable(["center_symmetry_functions"] if centred else [], 0.0, 1.0, shift, ones)
    with np.errstate(divide="ignore", invalid="ignore"):
        spans = (factor * (maximum - minimum))[used]
        sigma = np.where(factor > 0.0, 1.0 / factor, _HUGE)
    if np.all(factor[used] > 0.0) and np.ptp(spans) <= 1e-14 * abs(spans[0]):
        upper = lower + float(spans[0])
        keywords = ["scale_symmetry_functions"]
        if not np.array_equal(shift[used], minimum[used]):
            keywords.append("center_symmetry_functions")
        return _ScalingTable(keywords, lower, upper, shift, ones)
    return _ScalingTable(["scale_symmetry_functions_sigma"], lower, lower + 1.0, shift, sigma)


def _scaling_lines(
    model: AtomicModel, functions: dict[str, list[tuple[int, SymmetryFunction]]], scaling: _ScalingTable
) -> str:
    lines = ["# element, symmetry function, minimum, maximum, mean, standard deviation"]
    minimum, maximum = model.scaling.minimum.numpy(), model.scaling.maximum.numpy()
    for number, (element, group) in enumerate(functions.items(), start=1):
        t = model.elements.index(element)
        for position, (k, _) in enumerate(group, start=1):
            row = (minimum[t, k], maximum[t, k], scaling.mean[t, k], scaling.sigma[t, k])
            lines.append(f"{number:4d} {position:5d} " + " ".join(f"{value:24.16E}" for value in row))
    return "\n".join(lines) + "\n"


def _common_shape(described: Mapping[str, Any], elements: Sequence[str]) -> tuple[list[int], list[str]]:
    """Nodes of hidden layers and activation functions for all elements.

    Narrower networks are padded with nodes of weight zero, because programs disagree on the keywords for single
    elements. More cannot be said of all at once.
    """
    networks = [described[element] for element in elements]
    if any(network["activations"] != networks[0]["activations"] for network in networks):
        raise InputError(
            "networks of different depth or activation functions", expected="the same for every element"
        )
    if networks[0]["activations"][-1] != "linear":
        raise InputError(f"output nodes are {networks[0]['activations'][-1]}", expected="linear ones")
    return [max(nodes) for nodes in zip(*(n["hidden"] for n in networks), strict=True)], networks[0][
        "activations"
    ]


def _weight_lines(
    network: Any, group: list[tuple[int, SymmetryFunction]], nodes: Sequence[int], scale: float
) -> str:
    """Weights by starting node and then biases of every layer; the output is multiplied by `scale`."""
    columns = [k for k, _ in group] + list(range(len(group), network.n_inputs))  # the last may be the charge
    sizes = [len(columns), *nodes, 1]
    lines = ["# value, a: weight or b: bias, number, from layer and node, to layer and node"]
    for number, (layer, n_in, n_out) in enumerate(
        zip(network.layers, sizes, sizes[1:], strict=False), start=1
    ):
        values, bias = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        if number == 1:
            values = values[:, columns]
        if number == len(network.layers):
            values, bias = (x * scale for x in (values, bias))
        table = np.zeros((n_in + 1, n_out))  # last row: biases
        table[: values.shape[1], : values.shape[0]] = values.T
        table[n_in, : len(bias)] = bias
        for j, i in np.ndindex(n_in + 1, n_out):
            start = f"{table[j, i]:24.16E} {'a' if j < n_in else 'b'} {len(lines):9d}"
            weight = f"{number - 1:5d} {j + 1:5d} {number:5d} {i + 1:5d}"
            lines.append(f"{start} {weight if j < n_in else weight[12:]}")
    return "\n".join(lines) + "\n"
