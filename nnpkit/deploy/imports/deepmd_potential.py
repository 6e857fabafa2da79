"""Deep Potentials of DeePMD-kit: its backend-independent form, a YAML (or JSON) file or the mapping in it.

DeePMD-kit writes it with ``dp convert-backend model.pth model.yaml``. The descriptor must be se_e2_a. The numbers
of the imported model are DeePMD-kit's own as long as no atom has more neighbours of an element than its ``sel``:
there DeePMD-kit drops the farthest ones, and this program does not.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import yaml
from ase.data import atomic_numbers
from torch import Tensor, nn

from nnpkit.errors import InputError
from nnpkit.families.deep_potential.embedding import EnvironmentStatistics
from nnpkit.families.factory import build_model
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.residual_networks import ResidualLayer

__all__ = ["DeepmdPotential", "deepmd_model", "is_deepmd_file", "read_deepmd_potential"]

_ACTIVATIONS = {
    "tanh": "tanh", "sigmoid": "logistic", "softplus": "softplus", "relu": "relu", "none": "linear",
    "linear": "linear",
}  # fmt: skip
_NEXT = "write it with `dp convert-backend model.pth model.yaml`"


class DeepmdPotential(NamedTuple):
    """A potential of DeePMD-kit as a model of ours."""

    model: AtomicModel
    notes: list[str]  # one line each, for the user


def is_deepmd_file(path: str | Path) -> bool:
    """Whether `path` is a file whose name ends like that of a serialised DeePMD model."""
    path = Path(path)
    return path.suffix in (".yaml", ".yml", ".json", ".dp") and path.is_file()


def read_deepmd_potential(path: str | Path) -> DeepmdPotential:
    """Read the serialised model in the file `path`.

    Raises
    ------
    InputError
        If it is no such file, is damaged, or holds something other than an se_e2_a energy model.
    """
    path = Path(path)
    if path.suffix == ".dp":
        raise InputError("the HDF5 form of DeePMD models is not read", where=str(path), hint=_NEXT)
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".json":
            data = json.loads(text)
        else:  # as safe as yaml.safe_load, and ten times faster where libyaml is there
            data = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(text).get_single_data()
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror})", where=str(path)) from None
    except (ValueError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"the file is damaged ({reason})", where=str(path), hint=_NEXT) from None
    return deepmd_model(data, str(path))


def deepmd_model(data: Mapping[str, Any], where: str = "DeePMD model") -> DeepmdPotential:
    """Model of the mapping that DeePMD-kit calls serialised; arrays may be NumPy's or written out.

    Raises
    ------
    InputError
        If it holds something other than an se_e2_a energy model.
    """
    try:
        model = data.get("model", data)
        descriptor, fitting = model["descriptor"], model["fitting"]
        _refuse_what_is_not_supported(model, descriptor, fitting, where)
        return _convert(model, descriptor, fitting, where)
    except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
        raise InputError(
            f"no serialised DeePMD model, or a damaged one ({type(error).__name__}: {str(error)[:120]})",
            where=where, hint=_NEXT,
        ) from None  # fmt: skip


def _refuse_what_is_not_supported(
    model: Mapping[str, Any], descriptor: Mapping[str, Any], fitting: Mapping[str, Any], where: str
) -> None:
    """InputError for anything that would change the energy and that this program cannot express."""
    wanted = [
        (model.get("type", "standard") == "standard", f"a model of type {model.get('type')!r}"),
        (descriptor["type"] in ("se_e2_a", "se_a"), f"a descriptor of type {descriptor['type']!r}"),
        (fitting.get("type", "ener") == "ener", f"a fitting network of type {fitting.get('type')!r}"),
        (not model.get("atom_exclude_types") and not model.get("pair_exclude_types"), "excluded types"),
        (not descriptor.get("exclude_types") and not fitting.get("exclude_types"), "excluded types"),
        (not descriptor.get("env_protection"), f"env_protection {descriptor.get('env_protection')}"),
        (descriptor.get("spin") is None and fitting.get("spin") is None, "spins"),
        (not fitting.get("numb_fparam") and not fitting.get("numb_aparam"), "frame or atom parameters"),
        (not fitting.get("mixed_types"), "one fitting network for all types"),
        (not _has_values(fitting.get("atom_ener")), "atom_ener"),
    ]
    for supported, what in wanted:
        if not supported:
            raise InputError(
                f"a DeePMD model with {what} cannot be imported", where=where,
                expected="an energy model with the descriptor se_e2_a",
            )  # fmt: skip
    for name in {descriptor["activation_function"], fitting["activation_function"]}:
        if name not in _ACTIVATIONS:
            raise InputError(
                f"activation function {name!r}", where=where, expected=f"one of {', '.join(_ACTIVATIONS)}"
            )
    elements = model.get("type_map") or descriptor.get("type_map") or []
    for element in elements or ["of an empty type_map"]:
        if element not in atomic_numbers:
            raise InputError(
                f"type {element!r} is no chemical element", where=where, hint="rename its type_map"
            )


def _has_values(values: Any) -> bool:
    return values is not None and any(v is not None for v in np.ravel(values))


def _convert(
    model: Mapping[str, Any], descriptor: Mapping[str, Any], fitting: Mapping[str, Any], where: str
) -> DeepmdPotential:
    elements = list(model.get("type_map") or descriptor["type_map"])
    cutoff, one_side = float(descriptor["rcut"]), bool(descriptor["type_one_side"])
    n, sel = len(elements), [float(count) for count in descriptor["sel"]]
    bias = _array(fitting["@variables"]["bias_atom_e"]).reshape(n)
    variables = model.get("@variables", {})
    if "out_bias" in variables:
        bias = bias + _array(variables["out_bias"]).reshape(n)
    spec = {
        "kind": "deep_potential",
        "elements": elements,
        "descriptor": {
            "cutoff": cutoff,
            "smooth_from": float(descriptor["rcut_smth"]),
            "cutoff_kind": "poly2",
            "embedding": [int(width) for width in descriptor["neuron"]],
            "axis_neurons": int(descriptor["axis_neuron"]),
            "activation": _ACTIVATIONS[descriptor["activation_function"]],
            "timestep": bool(descriptor["resnet_dt"]),
            "one_side": one_side,
        },
        "networks": {
            element: {
                "hidden": [int(width) for width in fitting["neuron"]],
                "activation": _ACTIVATIONS[fitting["activation_function"]],
                "timestep": bool(fitting["resnet_dt"]),
            }
            for element in elements
        },
        "energy_scale": 1.0,
        "reference_energies": dict(zip(elements, bias.tolist(), strict=True)),
        "wall": {},
    }
    result = build_model(spec)
    result.descriptor.set(_statistics(descriptor, n, sel, where))
    embeddings, networks = descriptor["embeddings"]["networks"], fitting["nets"]["networks"]
    for index, network in enumerate(result.descriptor.embeddings):
        center, neighbor = divmod(index, n)
        stored = embeddings[index] if one_side else embeddings[center + n * neighbor]
        _fill(network.layers, stored["layers"], where)
    for network, stored in zip(result.networks.networks, networks, strict=True):
        _fill(network.hidden.layers, stored["layers"][:-1], where)
        _fill_linear(network.output, stored["layers"][-1], where)
    counts = ", ".join(f"{count:.0f} {element}" for element, count in zip(elements, sel, strict=True))
    notes = [
        f"DeePMD-kit keeps at most {counts} neighbours of an atom (sel); here none is dropped, so the numbers are "
        "the same where that is enough"
    ]
    if descriptor.get("precision", "float64") not in ("float64", "double", "default"):
        notes.append(f"weights of precision {descriptor['precision']} are used in double precision")
    return DeepmdPotential(result, notes)


def _statistics(descriptor: Mapping[str, Any], n: int, sel: list[float], where: str) -> EnvironmentStatistics:
    """Mean and deviation of the environment matrix, which DeePMD-kit stores once per slot of `sel`."""
    mean, std = (_array(descriptor["@variables"][name]) for name in ("davg", "dstd"))
    shape = (n, round(sum(sel)), 4)
    if mean.shape != shape or std.shape != shape:
        raise InputError(f"davg of shape {mean.shape}", where=where, expected=f"{shape}, as sel says")
    if np.any(mean != mean[:, :1]) or np.any(std != std[:, :1]) or np.any(mean[..., 1:] != 0.0):
        raise InputError("davg or dstd differs between neighbours of the same atom", where=where)
    if np.any(std[:, 0, 2:] != std[:, 0, 1:2]) or np.any(std <= 0.0):
        raise InputError("dstd is not positive and the same for x, y and z", where=where)
    expected = torch.tensor([sel] * n, dtype=torch.float64)
    return EnvironmentStatistics(torch.tensor(mean[:, 0, 0]), torch.tensor(std[:, 0, :2]), expected)


def _fill(layers: nn.ModuleList, stored: list[Mapping[str, Any]], where: str) -> None:
    """Put stored numbers into residual layers."""
    sizes = [layers[0].weight.shape[1], *(layer.weight.shape[0] for layer in layers)]
    for layer, (n_in, n_out), data in zip(layers, pairwise(sizes), stored, strict=True):
        if n_out in (n_in, 2 * n_in) and not data["resnet"]:
            raise InputError("a layer without its shortcut cannot be imported", where=where)
        _fill_linear(layer, data, where)
        timestep = data["@variables"].get("idt")
        if (timestep is None) != (layer.timestep is None):
            raise InputError("idt does not fit resnet_dt", where=where, hint="the file is damaged")
        if timestep is not None:
            _copy(layer.timestep, _array(timestep).reshape(-1), where)


def _fill_linear(layer: ResidualLayer | nn.Linear, data: Mapping[str, Any], where: str) -> None:
    """Put stored weights, and biases if there are any, into a layer."""
    variables = data["@variables"]
    _copy(layer.weight, _array(variables["w"]).T, where)
    bias = variables.get("b")
    _copy(layer.bias, np.zeros(len(layer.bias)) if bias is None else _array(bias).reshape(-1), where)


@torch.no_grad()
def _copy(parameter: Tensor, values: np.ndarray, where: str) -> None:
    if tuple(parameter.shape) != values.shape or not np.all(np.isfinite(values)):
        raise InputError(
            f"an array of shape {values.shape} with a network of shape {tuple(parameter.shape)}", where=where,
            expected="finite numbers of that shape",
        )  # fmt: skip
    parameter.copy_(torch.tensor(values))


def _array(node: Any) -> np.ndarray:
    """Array of a stored variable, in double precision."""
    return np.asarray(node["value"] if isinstance(node, Mapping) else node, dtype=np.float64)
