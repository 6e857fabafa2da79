"""The one factory: a JSON-able description in, a model out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from nnpkit.errors import InputError
from nnpkit.families.acsf.symmetry_functions import Acsf, SymmetryFunction
from nnpkit.families.chebyshev.expansion import Chebyshev
from nnpkit.families.deep_potential.embedding import DeepDescriptor
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.descriptor import Descriptor
from nnpkit.models.networks import AtomicNetwork, ElementNetworks
from nnpkit.models.residual_networks import FittingNetwork
from nnpkit.models.scaling import Scaling
from nnpkit.models.short_range import ZblRepulsion
from nnpkit.models.total import TotalModel

__all__ = ["build_model", "count_parameters", "initialise", "n_features"]


def build_model(spec: Mapping[str, Any]) -> AtomicModel:
    """Model described by `spec`, with undetermined weights and no scaling yet.

    Parameters
    ----------
    spec : mapping
        ``kind``, ``elements``, ``networks`` ({element: {"hidden": [...], ...}}), ``energy_scale`` (eV),
        ``reference_energies`` ({element: eV}), ``wall`` ({pair: Å} or empty), and by kind:

        * ``acsf``: ``cutoff_kind``, ``cutoff_inner``, ``functions`` (each a mapping of `SymmetryFunction`), and for
          each network ``activations``;
        * ``chebyshev``: ``descriptor`` (arguments of `Chebyshev`), and for each network ``activations``;
        * ``deep_potential``: ``descriptor`` (arguments of `DeepDescriptor`), and for each network ``activation`` and
          ``timestep``;
        * ``total``: ``parts``, the descriptions of a correction and of its baseline, and nothing else.

    Raises
    ------
    InputError
        For an unknown kind, or an element without functions or network settings.
    """
    if spec["kind"] == "total":
        return TotalModel(*(build_model(part) for part in spec["parts"]))
    builders = {"acsf": _acsf_parts, "chebyshev": _chebyshev_parts, "deep_potential": _deep_potential_parts}
    if spec["kind"] not in builders:
        raise InputError(f"unknown model kind {spec['kind']!r}", expected=" or ".join(builders))
    elements = list(spec["elements"])
    for element in elements:
        if element not in spec["networks"]:
            raise InputError(
                f"element {element} has no network settings", where="model.network",
                expected=f"settings for each of {', '.join(elements)}",
            )  # fmt: skip
    descriptor, networks = builders[spec["kind"]](spec, elements)
    wall = ZblRepulsion(elements, spec["wall"]) if spec.get("wall") else None
    return AtomicModel(
        elements, descriptor, Scaling(len(elements), max(descriptor.n_features)), networks, wall,
        spec.get("energy_scale", 1.0), [spec["reference_energies"][e] for e in elements], spec,
    )  # fmt: skip


def _acsf_parts(spec: Mapping[str, Any], elements: list[str]) -> tuple[Descriptor, ElementNetworks]:
    """Symmetry functions and feed-forward networks."""
    functions = [SymmetryFunction(**f) for f in spec["functions"]]
    for element in elements:
        if not any(f.center == element for f in functions):
            raise InputError(
                f"element {element} has no symmetry functions", where="model.descriptor",
                hint="add functions centred on it or let them be generated from the data",
            )  # fmt: skip
    descriptor = Acsf(elements, functions, spec["cutoff_kind"], spec.get("cutoff_inner", 0.0))
    return descriptor, _atomic_networks(spec, elements, descriptor)


def _chebyshev_parts(spec: Mapping[str, Any], elements: list[str]) -> tuple[Descriptor, ElementNetworks]:
    """Chebyshev expansion and feed-forward networks."""
    descriptor = Chebyshev(elements, **spec["descriptor"])
    return descriptor, _atomic_networks(spec, elements, descriptor)


def _atomic_networks(spec: Mapping[str, Any], elements: list[str], descriptor: Descriptor) -> ElementNetworks:
    """Feed-forward network of each element."""
    return ElementNetworks(
        [
            AtomicNetwork(n, spec["networks"][e]["hidden"], spec["networks"][e]["activations"])
            for e, n in zip(elements, descriptor.n_features, strict=True)
        ]
    )


def _deep_potential_parts(spec: Mapping[str, Any], elements: list[str]) -> tuple[Descriptor, ElementNetworks]:
    """Embedding descriptor and fitting networks."""
    descriptor = DeepDescriptor(elements, **spec["descriptor"])
    networks = [
        FittingNetwork(n, **spec["networks"][e]) for e, n in zip(elements, descriptor.n_features, strict=True)
    ]
    return descriptor, ElementNetworks(networks)


def n_features(spec: Mapping[str, Any]) -> dict[str, int]:
    """Number of features of each element of a model with a fixed descriptor, before there are networks."""
    elements = list(spec["elements"])
    unsized = {
        **spec,
        "networks": {e: {"hidden": [1], "activations": ["linear", "linear"]} for e in elements},
    }
    return dict(zip(elements, build_model({**unsized, "wall": None}).descriptor.n_features, strict=True))


def initialise(model: AtomicModel, kind: str, seed: int) -> None:
    """Draw all weights from one seeded stream; see `AtomicNetwork.initialise`, `ResidualNetwork.initialise`."""
    generator = torch.Generator().manual_seed(seed)
    embeddings = model.descriptor.embeddings if isinstance(model.descriptor, DeepDescriptor) else []
    for network in [*embeddings, *model.networks.networks]:
        network.initialise(kind, generator)


def count_parameters(model: AtomicModel) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
