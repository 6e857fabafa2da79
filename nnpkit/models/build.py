"""The one factory: a JSON-able description in, a model out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from nnpkit.errors import InputError
from nnpkit.models.acsf import Acsf, SymmetryFunction
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.networks import AtomicNetwork, ElementNetworks
from nnpkit.models.scaling import Scaling
from nnpkit.models.short_range import ZblRepulsion

__all__ = ["build_model", "count_parameters", "initialise"]


def build_model(spec: Mapping[str, Any]) -> AtomicModel:
    """Model described by `spec`, with undetermined weights and no scaling yet.

    Parameters
    ----------
    spec : mapping
        ``kind`` ("acsf"), ``elements``, ``cutoff_kind``, ``cutoff_inner``, ``functions`` (each a mapping of
        `SymmetryFunction`), ``networks`` ({element: {"hidden": [...], "activations": [...]}}),
        ``energy_scale`` (eV), ``reference_energies`` ({element: eV}), ``wall`` ({pair: Å} or empty).

    Raises
    ------
    InputError
        For an unknown kind, or an element without functions or network settings.
    """
    if spec["kind"] != "acsf":
        raise InputError(f"unknown model kind {spec['kind']!r}", expected="acsf")
    elements = list(spec["elements"])
    functions = [SymmetryFunction(**f) for f in spec["functions"]]
    for element in elements:
        if element not in spec["networks"]:
            raise InputError(
                f"element {element} has no network settings", where="model.network",
                expected=f"settings for each of {', '.join(elements)}",
            )  # fmt: skip
        if not any(f.center == element for f in functions):
            raise InputError(
                f"element {element} has no symmetry functions", where="model.descriptor",
                hint="add functions centred on it or let them be generated from the data",
            )  # fmt: skip
    descriptor = Acsf(elements, functions, spec["cutoff_kind"], spec.get("cutoff_inner", 0.0))
    networks = ElementNetworks(
        [
            AtomicNetwork(n, spec["networks"][e]["hidden"], spec["networks"][e]["activations"])
            for e, n in zip(elements, descriptor.n_features, strict=True)
        ]
    )
    wall = ZblRepulsion(elements, spec["wall"]) if spec.get("wall") else None
    return AtomicModel(
        elements, descriptor, Scaling(len(elements), max(descriptor.n_features)), networks, wall,
        spec.get("energy_scale", 1.0), [spec["reference_energies"][e] for e in elements], spec,
    )  # fmt: skip


def initialise(model: AtomicModel, kind: str, seed: int) -> None:
    """Draw the weights of every element's network from one seeded stream; see `AtomicNetwork.initialise`."""
    generator = torch.Generator().manual_seed(seed)
    for network in model.networks.networks:
        network.initialise(kind, generator)


def count_parameters(model: AtomicModel) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
