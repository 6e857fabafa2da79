"""The families of cluster expansions: the general one, and the form of NEP."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar

import torch

from nnpkit.data.structure import Structure
from nnpkit.families.cluster_expansion.compiled_observer import CompiledObserver
from nnpkit.families.cluster_expansion.expansion_cutoffs import cutoffs_for
from nnpkit.families.cluster_expansion.expansion_descriptor import ClusterExpansion
from nnpkit.families.cluster_expansion.expansion_observer import ExpansionObserver, ExpansionStore
from nnpkit.families.cluster_expansion.expansion_sizes import supported_expansion
from nnpkit.families.cluster_expansion.settings import ClusterExpansionModel, NepModel
from nnpkit.families.contract import Family, TrainingData
from nnpkit.families.prepare import data_statistics
from nnpkit.families.shared_settings import ModelSettings
from nnpkit.measure.contract import Measures, Predicts
from nnpkit.measure.observations import LossWeights, Noise
from nnpkit.measure.structure_memory import derivative_bytes
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.descriptor import Descriptor
from nnpkit.models.networks import ElementNetworks
from nnpkit.models.sizes import count_labels
from nnpkit.models.tabulated_zbl import nep_wall

__all__ = ["CLUSTER_EXPANSION", "NEP"]

_STRUCTURES = 100
"""So many are enough for mean and standard deviation of the features."""
_EDGE_NUMBERS = 2  # times three: vector, centre, neighbour and element


class ClusterExpansionFamily(Family):
    """Cluster expansions with trained radial functions."""

    kind = "cluster_expansion"
    settings: ClassVar[type[ModelSettings]] = ClusterExpansionModel
    targets = frozenset({"nep"})

    def parts(self, spec: Mapping[str, Any], elements: list[str]) -> tuple[Descriptor, ElementNetworks]:
        """See `Family`; ``descriptor`` has the arguments of `ClusterExpansion`."""
        descriptor = ClusterExpansion(elements, **spec["descriptor"])
        return descriptor, self.networks(spec, elements, descriptor)

    def describe(
        self, settings: ClusterExpansionModel, data: TrainingData
    ) -> tuple[dict[str, Any], list[str]]:
        """See `Family`."""
        d = settings.descriptor
        size = supported_expansion(count_labels(data.train, data.elements, forces=True))
        radial, angular = cutoffs_for(d, data.train)
        descriptor = {
            "radial_cutoff": radial, "angular_cutoff": angular, "cutoff_kind": d.cutoff_function,
            "radial_channels": d.radial_channels or size.channels, "radial_basis": d.radial_basis,
            "angular_channels": d.angular_channels or size.channels, "angular_basis": d.angular_basis,
            "invariants": d.invariants,
        }  # fmt: skip
        return {"descriptor": descriptor}, [_words(descriptor)]

    def supported_nodes(self, n_inputs: Mapping[str, int], labels: Mapping[str, int]) -> dict[str, list[int]]:
        """See `Family`: as many as `supported_expansion` has."""
        nodes = supported_expansion(labels).nodes
        return {element: [nodes, nodes] for element in labels}

    def fit(self, model: AtomicModel, settings: Any, data: TrainingData) -> list[str]:
        """See `Family`: the scaling is that of the features before the training, less of those of many bodies."""
        scaling = settings.scaling
        some = data.train[:: -(-len(data.train) // _STRUCTURES) or 1]
        missing = set(data.elements) - {symbol for s in some for symbol in s.symbols}
        some = data.train if missing else some
        found = data_statistics(model.descriptor, data.elements, some)
        model.scaling.set(found, scaling.kind, scaling.lower, scaling.upper)
        d = model.spec["descriptor"]
        weights = [settings.many_body_weight ** (len(degrees) - 2) for degrees in d["invariants"]]
        each = torch.tensor(weights, dtype=torch.float64).repeat_interleave(d["angular_channels"])
        model.scaling.factor[:, d["radial_channels"] :] *= each
        return []

    def preparation(self, model: AtomicModel, structures: Sequence[Structure]) -> Callable[..., Predicts]:
        """See `Family`."""
        return partial(ExpansionStore, model)

    def observer(
        self, store: Any, noise: Noise, weights: LossWeights, structure_weights: Sequence[float] | None = None
    ) -> Measures:
        """See `Family`."""
        kind = ExpansionObserver if store.kernel is None else CompiledObserver
        return kind(store, noise, weights, structure_weights)

    def prepared_bytes(self, model: AtomicModel, structures: Sequence[Structure]) -> int:
        """See `Family`: the edges, and for PyTorch moments and the order of incoming edges."""
        d: ClusterExpansion = model.descriptor
        edges = derivative_bytes(structures, model.descriptor.cutoff, _EDGE_NUMBERS)
        if d.fast() is not d:
            return edges
        n_harmonics = (d.l_max + 1) ** 2 - 1
        per_atom = 8 * d.n_types * (d.radial_basis + d.angular_basis * n_harmonics)
        with_stress = sum(s.n_atoms for s in structures if s.stress is not None)
        return edges + edges // 6 + per_atom * (sum(s.n_atoms for s in structures) + 6 * with_stress)

    def functions(self, spec: Mapping[str, Any]) -> dict[str, list[str]]:
        """See `Family`."""
        d = spec["descriptor"]
        names = [f"radial {n}" for n in range(d["radial_channels"])]
        for degrees in d["invariants"]:
            names += [f"l = {' '.join(map(str, degrees))}, channel {n}" for n in range(d["angular_channels"])]
        return {element: list(names) for element in spec["elements"]}


class NepFamily(ClusterExpansionFamily):
    """Cluster expansions in the form of NEP4."""

    kind = "nep"
    settings = NepModel

    def describe_wall(self, distances: Mapping[str, float]) -> dict[str, Any]:
        """See `Family`: in the form of GPUMD, which nep.txt can express."""
        return dict(nep_wall(distances))

    def describe(self, settings: NepModel, data: TrainingData) -> tuple[dict[str, Any], list[str]]:  # type: ignore[override]
        """See `Family`."""
        d = settings.descriptor
        descriptor = {
            "radial_cutoff": d.radial_cutoff, "angular_cutoff": d.angular_cutoff, "cutoff_kind": "cosine",
            "radial_channels": d.n_max_radial + 1, "radial_basis": d.basis_size_radial + 1,
            "angular_channels": d.n_max_angular + 1, "angular_basis": d.basis_size_angular + 1,
            "invariants": d.invariants(),
        }  # fmt: skip
        return {"descriptor": descriptor}, [_words(descriptor)]


def _words(d: Mapping[str, Any]) -> str:
    """What was chosen, for the report."""
    lists = ", ".join("".join(map(str, degrees)) for degrees in d["invariants"])
    return (
        f"{d['radial_channels']} radial functions, mixed from {d['radial_basis']}, to {d['radial_cutoff']:g} Å; "
        f"{d['angular_channels']}, from {d['angular_basis']}, to {d['angular_cutoff']:g} Å for l = {lists}"
    )


CLUSTER_EXPANSION = ClusterExpansionFamily()
NEP = NepFamily()
