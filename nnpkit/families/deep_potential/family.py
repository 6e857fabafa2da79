"""The family of Deep Potentials: an embedding descriptor that is trained, and a residual network per element."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from nnpkit.data.store.stored_frames import joined_frames
from nnpkit.data.structure import Structure
from nnpkit.families.contract import Family, TrainingData, charge_inputs
from nnpkit.families.deep_potential.embedding import DeepDescriptor
from nnpkit.families.deep_potential.environment import environment_statistics
from nnpkit.families.deep_potential.moment_memory import moment_bytes
from nnpkit.families.deep_potential.observer import MomentObserver
from nnpkit.families.deep_potential.prepared import MomentStore, Resolution
from nnpkit.families.deep_potential.settings import DeepPotentialModel, FittingNetworks
from nnpkit.families.deep_potential.supported_sizes import LARGEST, supported_size
from nnpkit.families.deep_potential.tabulation import DEFAULT_TOLERANCE, tabulation
from nnpkit.measure.contract import Measures, Predicts
from nnpkit.measure.observations import LossWeights, Noise
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.descriptor import Descriptor
from nnpkit.models.networks import ElementNetworks
from nnpkit.models.residual_networks import FittingNetwork
from nnpkit.models.sizes import count_labels

__all__ = ["DEEP_POTENTIAL"]


class DeepPotentialFamily(Family):
    """Deep Potentials."""

    kind = "deep_potential"
    settings = DeepPotentialModel

    def parts(self, spec: Mapping[str, Any], elements: list[str]) -> tuple[Descriptor, ElementNetworks]:
        """See `Family`; ``descriptor`` has the arguments of `DeepDescriptor`, a network those of `FittingNetwork`."""
        descriptor = DeepDescriptor(elements, **spec["descriptor"])
        more = charge_inputs(spec)
        networks = [
            FittingNetwork(n + more, **spec["networks"][e])
            for e, n in zip(elements, descriptor.n_features, strict=True)
        ]
        return descriptor, ElementNetworks(networks)

    def initialise(self, model: AtomicModel, kind: str, generator: torch.Generator) -> None:
        """See `Family`: the embedding networks first."""
        for network in [*model.descriptor.embeddings, *model.networks.networks]:
            network.initialise(kind, generator)

    def describe(self, settings: DeepPotentialModel, data: TrainingData) -> tuple[dict[str, Any], list[str]]:
        """See `Family`."""
        d, size, report = settings.descriptor, LARGEST, []
        if d.embedding is None and d.axis_neurons is None:
            labels = count_labels(data.train, data.elements, forces=True)
            size = supported_size(labels)
            widths = "-".join(map(str, size.embedding))
            report = [
                f"embedding {widths}, {size.axis_neurons} axis neurons ({min(labels.values())} labels or more)"
            ]
        embedding = d.embedding or size.embedding
        axis = d.axis_neurons or min(size.axis_neurons, embedding[-1])
        descriptor = {
            "cutoff": d.cutoff, "smooth_from": d.smooth_from, "cutoff_kind": d.cutoff_function,
            "embedding": embedding, "axis_neurons": axis, "activation": d.activation,
            "timestep": d.timestep, "one_side": d.type_one_side,
        }  # fmt: skip
        return {"descriptor": descriptor}, report

    def supported_nodes(self, n_inputs: Mapping[str, int], labels: Mapping[str, int]) -> dict[str, list[int]]:
        """See `Family`."""
        return {element: list(supported_size(labels).hidden) for element in labels}

    def describe_network(
        self, settings: FittingNetworks, hidden: list[int], activation: str
    ) -> dict[str, Any]:
        """See `Family`."""
        return {"hidden": hidden, "activation": activation, "timestep": settings.timestep}

    def fit(self, model: AtomicModel, settings: DeepPotentialModel, data: TrainingData) -> list[str]:
        """See `Family`."""
        statistics = environment_statistics(model.descriptor, data.elements, data.train)
        model.descriptor.set(statistics)
        rows = zip(data.elements, statistics.expected.tolist(), strict=True)
        return [
            f"{element}: " + ", ".join(f"{n:.1f} {e}" for e, n in zip(data.elements, row, strict=True))
            + " neighbours on average"
            for element, row in rows
        ]  # fmt: skip

    def preparation(self, model: AtomicModel, structures: Sequence[Structure]) -> Callable[..., Predicts]:
        """See `Family`."""
        resolution = Resolution(model, structures)

        def prepare(
            some: Sequence[Structure],
            budget: float,
            progress: Callable[[], None] | None = None,
            additional: Sequence[Structure] = (),
        ) -> MomentStore:
            return MomentStore(resolution, joined_frames([some, additional]), budget, progress)

        return prepare

    def observer(
        self, store: Any, noise: Noise, weights: LossWeights, structure_weights: Sequence[float] | None = None
    ) -> Measures:
        """See `Family`."""
        return MomentObserver(store, noise, weights, structure_weights)

    def prepared_bytes(self, model: AtomicModel, structures: Sequence[Structure]) -> int:
        """See `Family`."""
        return moment_bytes(structures, model.descriptor.cutoff, len(model.elements))

    def tabulation(
        self,
        model: AtomicModel,
        min_distance: Mapping[str, float] | None,
        tolerance: float | None = None,
        insist: bool = False,
    ) -> dict[str, Any] | None:
        """See `Family`."""
        wanted = DEFAULT_TOLERANCE if tolerance is None else tolerance
        return tabulation(model.descriptor, model.elements, min_distance, wanted, insist=insist)


DEEP_POTENTIAL = DeepPotentialFamily()
