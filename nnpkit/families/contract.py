"""What the program asks of a family of models: everything that differs between families is behind it.

A family is one folder: its settings in the YAML, its model, what measures its labels fast, and what it tells the
kernels. `nnpkit.families.registered` finds it by its name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch

from nnpkit.data.structure import Structure
from nnpkit.families.prepare import data_statistics
from nnpkit.families.shared_settings import ModelSettings
from nnpkit.families.training_data import TrainingData
from nnpkit.measure.autograd import AutogradObserver, GraphStore
from nnpkit.measure.contract import Measures, Predicts
from nnpkit.measure.frames import FrameStore
from nnpkit.measure.observations import LossWeights, Noise, Observer
from nnpkit.measure.structure_memory import derivative_bytes
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.descriptor import Descriptor
from nnpkit.models.networks import AtomicNetwork, ElementNetworks
from nnpkit.models.sizes import hidden_nodes

__all__ = ["Family", "FixedDescriptorFamily", "TrainingData", "charge_inputs"]


def charge_inputs(spec: Mapping[str, Any]) -> int:
    """How many inputs the atomic networks of a model have beside its features: its charge, or none."""
    return int(bool((spec.get("charges") or {}).get("charge_input")))


class Family(ABC):
    """A family of models.

    What is not said otherwise is a feed-forward network for each element behind any descriptor, measured by automatic
    differentiation with respect to all weights: right, and slow.

    Attributes
    ----------
    kind : str
        Its name: ``kind`` of the section ``model`` and of a model's description.
    settings : type
        The section ``model`` of the YAML.
    targets : frozenset of str
        Formats beside model.pt that can express its models.
    """

    kind: ClassVar[str]
    settings: ClassVar[type[ModelSettings]]
    targets: ClassVar[frozenset[str]] = frozenset()

    @property
    def trained_descriptor(self) -> bool:
        """Whether the features change in training.

        Otherwise their values and derivatives are computed once, members of a committee share them, and the scaling is
        that of the data at the beginning.
        """
        return self.settings.trained_descriptor

    @abstractmethod
    def parts(self, spec: Mapping[str, Any], elements: list[str]) -> tuple[Descriptor, ElementNetworks]:
        """Descriptor and networks of the description `spec`, with undetermined weights.

        Raises
        ------
        InputError
            If an element lacks something.
        """

    def initialise(self, model: AtomicModel, kind: str, generator: torch.Generator) -> None:
        """Draw all weights of `model` from one stream."""
        for network in model.networks.networks:
            network.initialise(kind, generator)

    @abstractmethod
    def describe(self, settings: Any, data: TrainingData) -> tuple[dict[str, Any], list[str]]:
        """What `spec` says of the descriptor for these data, and in words what was chosen and why."""

    def networks(
        self, spec: Mapping[str, Any], elements: list[str], descriptor: Descriptor
    ) -> ElementNetworks:
        """Feed-forward network of each element."""
        more = charge_inputs(spec)
        return ElementNetworks(
            [
                AtomicNetwork(n + more, spec["networks"][e]["hidden"], spec["networks"][e]["activations"])
                for e, n in zip(elements, descriptor.n_features, strict=True)
            ]
        )

    def supported_nodes(self, n_inputs: Mapping[str, int], labels: Mapping[str, int]) -> dict[str, list[int]]:
        """Nodes of the hidden layers of each element that its `labels` support, given its features."""
        return hidden_nodes(n_inputs, labels)

    def describe_network(self, settings: Any, hidden: list[int], activation: str) -> dict[str, Any]:
        """What `spec` says of the network of one element; `settings` is the section ``model.network``."""
        return {"hidden": hidden, "activations": [activation] * len(hidden) + ["linear"]}

    def describe_wall(self, distances: Mapping[str, float]) -> dict[str, Any]:
        """What `spec` says of the repulsion of pairs that ends at these `distances`, Å; see `make_wall`."""
        return dict(distances)

    def fit(self, model: AtomicModel, settings: Any, data: TrainingData) -> list[str]:
        """Set scaling or statistics of an untrained model by the data; a report."""
        return []

    def unsuitable(self, settings: Any, data: TrainingData, old: AtomicModel) -> str | None:
        """Why the features of an earlier model do not suit the data; None if they do."""
        return None

    def functions(self, spec: Mapping[str, Any]) -> dict[str, list[str]]:
        """The functions of each element in words, in the order of its features; empty where there are none."""
        return {element: [] for element in spec["elements"]}

    def same_features(self, spec: Mapping[str, Any]) -> Any:
        """What decides the features: equal for models whose features are the same functions, None if for no two."""
        return None

    def preparation(self, model: AtomicModel, structures: Sequence[Structure]) -> Callable[..., Predicts]:
        """What prepares structures for the training of `model`, alike for all sets.

        Parameters
        ----------
        structures : sequence of Structure
            All that will be prepared.

        Returns
        -------
        callable
            Of structures, bytes that may be kept, a function called after each structure (or None), and additional
            structures of which only the energy is learnt.
        """
        return partial(GraphStore, model)

    def view(self, store: Any, model: AtomicModel, indices: Sequence[int] | None = None) -> Predicts:
        """Structures of `store`, or those with `indices`, for another `model` with the same features and scaling."""
        raise TypeError(f"the features of a {self.kind} are trained: nothing is shared")

    def observer(
        self, store: Any, noise: Noise, weights: LossWeights, structure_weights: Sequence[float] | None = None
    ) -> Measures:
        """What measures the labels of the structures in a store that `preparation` has made.

        Parameters
        ----------
        structure_weights : sequence of float, optional
            Of all labels of each structure, beside `weights`.
        """
        return AutogradObserver(store, noise, weights, structure_weights)

    def prepared_bytes(self, model: AtomicModel, structures: Sequence[Structure]) -> int:
        """Estimate of the memory that prepared structures take if all is kept."""
        return derivative_bytes(structures, model.cutoff, 2)

    def tabulation(
        self,
        model: AtomicModel,
        min_distance: Mapping[str, float] | None,
        tolerance: float | None = None,
        insist: bool = False,
    ) -> dict[str, Any] | None:
        """Grids on which kernels tabulate networks of distances; None without such. See the module of that name."""
        return None


class FixedDescriptorFamily(Family):
    """A family with a descriptor without weights and a feed-forward network for each element."""

    def fit(self, model: AtomicModel, settings: Any, data: TrainingData) -> list[str]:
        """See `Family`."""
        scaling = settings.scaling
        found = data_statistics(model.descriptor, data.elements, data.train)
        model.scaling.set(found, scaling.kind, scaling.lower, scaling.upper)
        return []

    def same_features(self, spec: Mapping[str, Any]) -> Any:
        """See `Family`."""
        keys = ("kind", "elements", "functions", "cutoff_kind", "cutoff_inner", "descriptor")
        return {key: spec.get(key) for key in keys}

    def preparation(self, model: AtomicModel, structures: Sequence[Structure]) -> Callable[..., Predicts]:
        """See `Family`."""
        return partial(FrameStore, model)

    def view(self, store: Any, model: AtomicModel, indices: Sequence[int] | None = None) -> Predicts:
        """See `Family`."""
        shared: FrameStore = store.view(model, indices)
        return shared

    def observer(
        self, store: Any, noise: Noise, weights: LossWeights, structure_weights: Sequence[float] | None = None
    ) -> Measures:
        """See `Family`."""
        return Observer(store, noise, weights, structure_weights)

    def prepared_bytes(self, model: AtomicModel, structures: Sequence[Structure]) -> int:
        """See `Family`."""
        return derivative_bytes(structures, model.descriptor.cutoff, max(model.descriptor.n_features))
