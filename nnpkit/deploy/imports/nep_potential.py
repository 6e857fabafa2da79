"""Neuroevolution potentials of GPUMD as models of ours: one file, ``nep.txt``.

The numbers of the imported model are GPUMD's own, which computes them in single precision. What a file cannot say, the
range of the features in the training data, stays unknown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from nnpkit.deploy.imports.nep_file import NepFile, read_nep_file
from nnpkit.errors import InputError
from nnpkit.families.factory import build_model
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.scaling import FeatureStatistics

__all__ = ["NepPotential", "nep_degrees", "nep_model", "nep_ratio", "read_nep_potential"]

_THREE_J_OF_ZEROS: dict[tuple[int, ...], float] = {
    (1, 1, 2): math.sqrt(2 / 15), (1, 2, 3): -math.sqrt(3 / 35), (2, 3, 3): math.sqrt(4 / 105),
    (1, 3, 4): math.sqrt(4 / 63),
}  # fmt: skip


class NepPotential(NamedTuple):
    """A potential of GPUMD as a model of ours."""

    model: AtomicModel
    neighbors: tuple[int, int]  # that the file gives room for, radial and angular
    notes: list[str]  # one line each, for the user


def nep_degrees(l_max: int, many_body: Sequence[str]) -> list[list[int]]:
    """Degrees of each invariant in the order of the file."""
    return [[n, n] for n in range(1, l_max + 1)] + [list(map(int, name)) for name in many_body]


def nep_ratio(degrees: Sequence[int]) -> float:
    """An invariant in the normalisation of NEP over that of the cluster expansion.

    NEP couples three moments by Wigner's 3-j symbols, the expansion by the integral of three harmonics.
    """
    three_j = _THREE_J_OF_ZEROS.get(tuple(degrees))
    if three_j is None:
        return 1.0
    return 1.0 / (three_j * math.sqrt(math.prod(2 * n + 1 for n in degrees) / (4.0 * math.pi)))


def read_nep_potential(path: str | Path) -> NepPotential:
    """Read the ``nep.txt`` at `path`.

    Raises
    ------
    InputError
        If it is damaged, or holds something other than a potential of the kinds nep3 and nep4.
    """
    nep = read_nep_file(path)
    notes = []
    if nep.version == 3:
        notes.append("the one network of a NEP3 potential is used for every element")
    return NepPotential(nep_model(nep, str(path)), nep.neighbors, notes)


def nep_model(nep: NepFile, where: str) -> AtomicModel:
    """The model that a file describes.

    Raises
    ------
    InputError
        For cutoffs that differ between elements.
    """
    model = build_model(_spec(nep, where))
    descriptor = model.descriptor
    angular = nep.c_angular if nep.l_max else np.zeros_like(nep.c_angular)
    ratio = _ratios(nep)
    n_types, n_features = len(nep.elements), len(ratio)
    factor = np.zeros(n_features)
    factor[: nep.n_features] = nep.scaler * ratio[: nep.n_features]
    zeros = torch.zeros((n_types, n_features), dtype=torch.float64)
    model.scaling.set(FeatureStatistics(zeros, zeros, zeros, zeros), "none", 0.0, 0.0)
    weights = np.zeros((n_types, nep.neurons, n_features))
    weights[..., : nep.n_features] = nep.w0
    with torch.no_grad():
        for name, values in (("radial", nep.c_radial), ("angular", angular)):
            getattr(descriptor, f"{name}_weights").copy_(torch.tensor(values))
            combinations = getattr(descriptor, f"{name}_combinations")
            combinations.copy_(torch.eye(len(combinations), dtype=torch.float64))
        model.scaling.factor.copy_(torch.tensor(factor).expand(n_types, -1))
        for t, network in enumerate(model.networks.networks):
            hidden, output = network.layers
            hidden.weight.copy_(torch.tensor(weights[t]))
            hidden.bias.copy_(torch.tensor(-nep.b0[t]))
            output.weight.copy_(torch.tensor(nep.w1[t : t + 1]))
            output.bias.fill_(-nep.b1)
    return model


def _ratios(nep: NepFile) -> np.ndarray:
    """Of each feature of the model: that of the file over ours."""
    channels = nep.n_max[1] + 1
    own = [nep_ratio(degrees) for degrees in nep_degrees(max(nep.l_max, 1), nep.many_body)]
    return np.concatenate([np.ones(nep.n_max[0] + 1), np.repeat(own, channels)])


def _spec(nep: NepFile, where: str) -> dict[str, Any]:
    """Description of the model. One without angular terms gets one whose radial functions are zero."""
    if np.any(nep.cutoffs != nep.cutoffs[0]):
        raise InputError(
            "the cutoffs of the elements differ", where=where, expected="the same cutoffs for all elements",
            hint="such potentials run in GPUMD alone",
        )  # fmt: skip
    wall = {}
    if nep.zbl is not None:
        for a, first in enumerate(nep.elements):
            for b, second in enumerate(nep.elements[a:], start=a):
                if nep.zbl[a, b, 1] > 0.0:
                    wall[f"{first}-{second}"] = nep.zbl[a, b].tolist()
    return {
        "kind": "nep",
        "elements": list(nep.elements),
        "descriptor": {
            "radial_cutoff": float(nep.cutoffs[0, 0]),
            "angular_cutoff": float(nep.cutoffs[0, 1]),
            "cutoff_kind": "cosine",
            "radial_channels": nep.n_max[0] + 1,
            "radial_basis": nep.basis_size[0] + 1,
            "angular_channels": nep.n_max[1] + 1,
            "angular_basis": nep.basis_size[1] + 1,
            "invariants": nep_degrees(max(nep.l_max, 1), nep.many_body),
        },
        "networks": {e: {"hidden": [nep.neurons], "activations": ["tanh", "linear"]} for e in nep.elements},
        "energy_scale": 1.0,
        "reference_energies": dict.fromkeys(nep.elements, 0.0),
        "wall": wall,
    }
