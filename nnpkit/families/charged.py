"""A family with charges: what is asked of the family of its short-range part, and what charges change of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from nnpkit.data.structure import Structure
from nnpkit.families.contract import Family, FixedDescriptorFamily, TrainingData
from nnpkit.measure.charged_structures import ChargedFrameStore, ChargedGraphStore, ChargedObserver
from nnpkit.measure.contract import Measures, Predicts
from nnpkit.measure.fixed_charges import FixedChargeObserver, FixedChargeStore
from nnpkit.measure.observations import LossWeights, Noise
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.charged_model import ChargedModel
from nnpkit.models.descriptor import Descriptor
from nnpkit.models.networks import INITIALISATIONS, ElementNetworks

__all__ = ["ChargedFamily"]


class ChargedFamily(Family):
    """The family of the short-range part, with charges beside it.

    Parameters
    ----------
    family : Family
        That of the short-range part.
    """

    kind = "charged"

    def __init__(self, family: Family) -> None:
        self.family = family
        self.settings = family.settings  # type: ignore[misc]
        self.targets = family.targets & {"runner"}  # type: ignore[misc]

    def parts(self, spec: Mapping[str, Any], elements: list[str]) -> tuple[Descriptor, ElementNetworks]:
        """See `Family`."""
        return self.family.parts(spec, elements)

    def initialise(self, model: AtomicModel, kind: str, generator: torch.Generator) -> None:
        """See `Family`: the short-range part first."""
        self.family.initialise(model, kind, generator)
        assert isinstance(model, ChargedModel)
        own = kind if kind in INITIALISATIONS else "xavier"
        for networks in model.charge_networks:
            for network in networks.networks:
                network.initialise(own, generator)

    def describe(self, settings: Any, data: TrainingData) -> tuple[dict[str, Any], list[str]]:
        """See `Family`."""
        return self.family.describe(settings, data)

    def fit(self, model: AtomicModel, settings: Any, data: TrainingData) -> list[str]:
        """See `Family`."""
        return self.family.fit(model, settings, data)

    def unsuitable(self, settings: Any, data: TrainingData, old: AtomicModel) -> str | None:
        """See `Family`."""
        return self.family.unsuitable(settings, data, old)

    def functions(self, spec: Mapping[str, Any]) -> dict[str, list[str]]:
        """See `Family`."""
        return self.family.functions(spec)

    def same_features(self, spec: Mapping[str, Any]) -> Any:
        """See `Family`."""
        return self.family.same_features({**spec, "kind": spec["family"]})

    def preparation(self, model: AtomicModel, structures: Sequence[Structure]) -> Callable[..., Predicts]:
        """See `Family`."""
        assert isinstance(model, ChargedModel)
        if not isinstance(self.family, FixedDescriptorFamily):
            return partial(ChargedGraphStore, model)
        learnt = any(parameter.requires_grad for parameter in model.charge_parameters())
        return partial(ChargedFrameStore if learnt else FixedChargeStore, model)

    def observer(
        self, store: Any, noise: Noise, weights: LossWeights, structure_weights: Sequence[float] | None = None
    ) -> Measures:
        """See `Family`."""
        kind = FixedChargeObserver if isinstance(store, FixedChargeStore) else ChargedObserver
        return kind(store, noise, weights, structure_weights)

    def prepared_bytes(self, model: AtomicModel, structures: Sequence[Structure]) -> int:
        """See `Family`."""
        return self.family.prepared_bytes(model, structures)
