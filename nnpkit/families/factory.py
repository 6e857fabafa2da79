"""The one factory: a JSON-able description in, a model out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from nnpkit.errors import InputError
from nnpkit.families.registered import FAMILIES, family_of
from nnpkit.families.registered_terms import make_terms
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.charged_model import ChargedModel
from nnpkit.models.scaling import Scaling
from nnpkit.models.stages import StagedModel
from nnpkit.models.sum_model import SumModel

__all__ = ["build_model", "count_parameters", "initialise", "n_features"]


def build_model(spec: Mapping[str, Any]) -> AtomicModel:
    """Model described by `spec`, with undetermined weights and no scaling yet.

    Parameters
    ----------
    spec : mapping
        ``kind``, ``elements``, ``networks`` ({element: {"hidden": [...], ...}}), ``energy_scale`` (eV),
        ``reference_energies`` ({element: eV}), ``wall`` (see `make_wall`), ``terms`` ({kind: description}, see
        `make_terms`), and what `Family.parts` of its family needs. Of kind ``charged``: ``family``, that of the
        short-range part, and ``charges``, see `ChargedModel`. Of kind ``total``: ``parts``, the descriptions of a
        correction and of its baseline, and nothing else.

    Raises
    ------
    InputError
        For an unknown kind, or an element without functions or network settings.
    """
    if spec["kind"] == "total":
        return SumModel(*(build_model(part) for part in spec["parts"]))
    charged = spec["kind"] == "charged"
    family = FAMILIES.get(spec["family"] if charged else spec["kind"], "model.kind")
    elements = list(spec["elements"])
    for element in elements:
        if element not in spec["networks"]:
            raise InputError(
                f"element {element} has no network settings", where="model.network",
                expected=f"settings for each of {', '.join(elements)}",
            )  # fmt: skip
    descriptor, networks = family.parts(spec, elements)
    parts = (
        elements, descriptor, Scaling(len(elements), max(descriptor.n_features)), networks,
        make_terms(spec, elements),
        spec.get("energy_scale", 1.0), [spec["reference_energies"][e] for e in elements], spec,
    )  # fmt: skip
    if not charged:
        return (StagedModel if descriptor.fields else AtomicModel)(*parts)
    if descriptor.fields:
        raise InputError(f"{spec['family']} models have stages and take no charges", where="model.charges")
    return ChargedModel(spec["charges"], *parts)


def n_features(spec: Mapping[str, Any], network: Mapping[str, Any]) -> dict[str, int]:
    """Number of features of each element of a model without networks; `network` describes any that may stand in."""
    elements = list(spec["elements"])
    unsized = {**spec, "networks": dict.fromkeys(elements, network)}
    return dict(
        zip(
            elements, build_model({**unsized, "wall": None, "terms": None}).descriptor.n_features, strict=True
        )
    )


def initialise(model: AtomicModel, kind: str, seed: int) -> None:
    """Draw all weights from one seeded stream; see `AtomicNetwork.initialise`, `ResidualNetwork.initialise`."""
    generator = torch.Generator().manual_seed(seed)
    family_of(model.spec).initialise(model, kind, generator)


def count_parameters(model: AtomicModel) -> int:
    """Number of trainable parameters."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
