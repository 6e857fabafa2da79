"""``nep.txt`` of GPUMD as a deploy target.

The form is that of NEP4 and says more than it seems to: any scaling of features goes into the first layer, networks of
fewer nodes get nodes of weight zero, and energies of elements that differ become one node that is always 1.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from nnpkit.deploy.imports.nep_file import MANY_BODY, NepFile
from nnpkit.deploy.imports.nep_potential import nep_degrees, nep_ratio
from nnpkit.deploy.load import LoadedModel
from nnpkit.deploy.targets.contract import DeployTarget, TargetOptions
from nnpkit.deploy.targets.nep_text import nep_text
from nnpkit.errors import InputError
from nnpkit.families.registered import family_of
from nnpkit.files import atomic_write
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.short_range import wall_ends
from nnpkit.models.terms import require_no_terms

__all__ = ["NEP_FILE"]

_ALWAYS_ONE = 20.0  # tanh of it is 1 in both precisions
_DENSEST = 0.2  # atoms per Å³, a little more than diamond
_MOST_NEIGHBORS = 819  # for which GPUMD has room
_SINGLE = 10.0  # eV: an energy of an element that costs single precision digits


class NepTextFile(DeployTarget):
    """The file that GPUMD and programs around it load."""

    destination = "a file ending in .txt"

    def takes(self, destination: Path, named: bool) -> bool:
        """Any name if it was asked for."""
        return named or destination.suffix == ".txt"

    def write(self, model: LoadedModel, destination: Path, options: TargetOptions) -> list[str]:
        """Write the file.

        Raises
        ------
        InputError
            For anything that the form of NEP4 cannot express.
        """
        if options.units not in (None, "angstrom-ev"):
            raise InputError(
                f"units {options.units}", where=str(destination), expected="Å and eV, as in GPUMD"
            )
        if (missing := model.missing_baseline) is not None:
            raise InputError(
                f"the potential is a correction to {missing['name']}", where=model.where,
                expected="a whole potential",
            )  # fmt: skip
        own = model.atomic_model()
        _require_expressible(own, str(destination), options.without_wall)
        neighbors, reason = _neighbors(own, model.metadata)
        nep = _nep_of_model(own, neighbors, str(destination), options.without_wall)
        text = nep_text(nep, str(destination))
        with atomic_write(destination) as stream:
            stream.write(text)
        lines = [f"room for {neighbors[0]} and {neighbors[1]} neighbours within the cutoffs, {reason}"]
        if (largest := float(np.abs(_offsets(own)).max())) > _SINGLE:
            lines.append(
                f"energies of single atoms, up to {largest:.0f} eV, are in the file: GPUMD adds in single precision, "
                "so its energies have about seven digits; forces lose nothing"
            )
        return lines


def _neighbors(model: AtomicModel, metadata: dict[str, Any]) -> tuple[tuple[int, int], str]:
    """Room for neighbours within the radial and the angular cutoff, and where the numbers are from."""
    stored = (metadata.get("source") or {}).get("neighbors")
    if stored is not None:
        return (int(stored[0]), int(stored[1])), "as in the file it came from"
    density, reason = _DENSEST, f"as many as at {_DENSEST} atoms per Å³"
    shortest = min((metadata.get("min_distance") or {}).values(), default=0.0)
    if shortest > 0.0 and math.sqrt(2.0) / shortest**3 < density:
        density, reason = math.sqrt(2.0) / shortest**3, f"the closest packing of atoms {shortest:.2f} Å apart"
    d = model.spec["descriptor"]
    radial, angular = (
        min(_MOST_NEIGHBORS, math.ceil(4.0 / 3.0 * math.pi * d[f"{name}_cutoff"] ** 3 * density))
        for name in ("radial", "angular")
    )
    return (radial, angular), reason


def _nep_of_model(
    model: AtomicModel, neighbors: tuple[int, int], where: str, without_wall: bool = False
) -> NepFile:
    """An expressible model as NEP4; `where` is for messages."""
    d = model.spec["descriptor"]
    positions, l_max, many_body = _places(d, where)
    n_features, n_types = len(positions), len(model.elements)
    ratio = _file_ratios(d, l_max, many_body)
    used = positions >= 0
    factor, shift = (np.zeros((n_types, n_features)) for _ in range(2))
    factor[:, used] = model.scaling.factor.numpy()[:, positions[used]]
    shift[:, used] = model.scaling.shift.numpy()[:, positions[used]]
    largest = np.abs(factor).max(axis=0)
    scaler = np.where(largest > 0.0, largest / np.abs(ratio), 1.0)
    offsets = _offsets(model)
    neurons = max(network["hidden"][0] for network in model.spec["networks"].values())
    w0, b0, w1 = _networks(model, positions, factor, shift, neurons)
    w0 /= scaler * ratio
    if np.any(offsets != offsets[0]):
        w0 = np.concatenate([w0, np.zeros((n_types, 1, n_features))], axis=1)
        b0 = np.concatenate([b0, np.full((n_types, 1), -_ALWAYS_ONE)], axis=1)
        w1 = np.concatenate([w1, (offsets - offsets[0])[:, None]], axis=1)
    return NepFile(
        version=4, elements=list(model.elements),
        cutoffs=np.tile([d["radial_cutoff"], d["angular_cutoff"]], (n_types, 1)), neighbors=neighbors,
        n_max=(d["radial_channels"] - 1, d["angular_channels"] - 1),
        basis_size=(d["radial_basis"] - 1, d["angular_basis"] - 1), l_max=l_max, many_body=many_body,
        neurons=w1.shape[1], w0=w0, b0=b0, w1=w1, b1=-float(offsets[0]),
        c_radial=model.descriptor.radial_coefficients().detach().numpy(),
        c_angular=model.descriptor.angular_coefficients().detach().numpy(), scaler=scaler,
        zbl=None if without_wall else _zbl(model, where),
    )  # fmt: skip


def _require_expressible(model: AtomicModel, where: str, without_wall: bool) -> None:
    """InputError for another family, other networks, another cutoff function or another repulsion."""
    if type(model) is not AtomicModel or "nep" not in family_of(model.spec).targets:
        raise InputError(
            f"a nep.txt cannot express a potential of kind {model.spec['kind']}", where=where,
            expected="one of kind nep, or cluster_expansion with the terms of NEP",
        )  # fmt: skip
    if model.spec["descriptor"]["cutoff_kind"] != "cosine":
        raise InputError(
            f"a nep.txt cannot express the cutoff function {model.spec['descriptor']['cutoff_kind']}",
            where=where, expected="cosine",
        )  # fmt: skip
    for element, network in model.spec["networks"].items():
        if len(network["hidden"]) != 1 or network["activations"] != ["tanh", "linear"]:
            raise InputError(
                f"a nep.txt cannot express the network of {element} (hidden layers {network['hidden']}, "
                f"{' '.join(network['activations'])})", where=where, expected="one hidden layer with tanh",
            )  # fmt: skip
    require_no_terms(model.spec, "a nep.txt", where)
    wall = model.spec.get("wall") or {}
    if not without_wall and any(isinstance(row, int | float) for row in wall.values()):
        ends = ", ".join(f"{pair} below {distance:.2f} Å" for pair, distance in wall_ends(wall).items())
        raise InputError(
            f"a nep.txt cannot express this model's short-range repulsion ({ends})", where=where,
            expected="a model of kind nep, whose repulsion has its form",
            hint="leave it out with --without-wall; the potential may then let atoms collapse",
        )  # fmt: skip


def _places(d: dict[str, Any], where: str) -> tuple[np.ndarray, int, tuple[str, ...]]:
    """Which feature of the model each feature of the file is, -1 for none; l_max; terms of many bodies."""
    own = [sorted(degrees) for degrees in d["invariants"]]
    names = {"".join(map(str, degrees)) for degrees in own if len(degrees) > 2}
    if unknown := sorted(names - set(MANY_BODY)):
        raise InputError(
            f"a nep.txt cannot express the invariant {unknown[0]}", where=where,
            expected=f"three bodies, or {', '.join(MANY_BODY)}",
        )  # fmt: skip
    many_body = tuple(name for name in MANY_BODY if name in names)
    # a term of many bodies needs an l_max of its degrees in GPUMD, whether three bodies use them or not
    l_max = max(max(degrees) for degrees in own)
    places = list(range(d["radial_channels"]))
    for degrees in nep_degrees(l_max, many_body):
        first = d["radial_channels"] + own.index(degrees) * d["angular_channels"] if degrees in own else None
        places += [-1 if first is None else first + n for n in range(d["angular_channels"])]
    return np.array(places), l_max, many_body


def _file_ratios(d: dict[str, Any], l_max: int, many_body: tuple[str, ...]) -> np.ndarray:
    own = [nep_ratio(degrees) for degrees in nep_degrees(l_max, many_body)]
    return np.concatenate([np.ones(d["radial_channels"]), np.repeat(own, d["angular_channels"])])


def _offsets(model: AtomicModel) -> np.ndarray:
    """Energy (T,), eV, of an atom of each element whose hidden nodes are all zero."""
    bias = [float(network.layers[-1].bias.detach()) for network in model.networks.networks]
    return np.array(bias) * model.energy_scale + np.array(model.reference_energies)


def _networks(
    model: AtomicModel, positions: np.ndarray, factor: np.ndarray, shift: np.ndarray, neurons: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """w0, b0 and w1 for raw features; nodes that a network lacks have weights of zero."""
    n_types, used, lower = len(model.elements), positions >= 0, float(model.scaling.lower)
    w0, b0, w1 = np.zeros((n_types, neurons, len(positions))), *np.zeros((2, n_types, neurons))
    for t, network in enumerate(model.networks.networks):
        hidden, output = network.layers
        weight = hidden.weight.detach().numpy()
        n = len(weight)
        w0[t, :n, used] = weight[:, positions[used]].T
        constant = w0[t, :n] @ np.where(used, lower - shift[t] * factor[t], 0.0)
        b0[t, :n] = -(hidden.bias.detach().numpy() + constant)
        w0[t] *= factor[t]
        w1[t, :n] = output.weight.detach().numpy()[0] * model.energy_scale
    return w0, b0, w1


def _zbl(model: AtomicModel, where: str) -> np.ndarray | None:
    """Table (T, T, 10) of the repulsion of pairs."""
    wall = model.spec.get("wall") or {}
    if not wall:
        return None
    table = np.zeros((len(model.elements), len(model.elements), 10))
    for pair, row in wall.items():
        a, b = (model.elements.index(element) for element in pair.split("-"))
        table[a, b] = table[b, a] = row
    return table


NEP_FILE = NepTextFile()
