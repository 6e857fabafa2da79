"""Labels turned into vectors by automatic differentiation: for any model and any observable, slowly and right.

Observables (`nnpkit.measure.observables`) are what `nnpkit.models.potential.Potential` makes of the model, with all its
parameters, those of a descriptor included; every row of the Jacobian is one backward pass. Families that know more of
their models have something faster, which is tested against this.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from nnpkit.data.graph import Graph, build_graph
from nnpkit.data.store.stored_frames import joined_frames
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.measure.ahead import Ahead
from nnpkit.measure.observables import OBSERVABLES, labels_of, wanted
from nnpkit.measure.observations import LossWeights, Noise, signed_means
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.potential import Potential, Prediction
from nnpkit.optim.measurement import Measurement

if TYPE_CHECKING:
    from nnpkit.measure.label_choice import Labels

__all__ = ["AutogradObserver", "GraphStore"]

_BYTES_OF_EDGE = 56  # vector, shift and neighbour


class LabelledGraph(NamedTuple):
    """The neighbours of one structure, and its labels."""

    name: str
    graph: Graph
    labels: Mapping[str, Tensor]  # by their kinds, see `nnpkit.measure.observables`

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.graph.types)

    def label(self, kind: str) -> Tensor:
        """A label, or an error that says what to do about its absence."""
        if kind not in self.labels:
            raise InputError(
                f"the frame has no {OBSERVABLES.get(kind).what}", where=self.name,
                hint="remove the frame or choose a schedule that does not use this label",
            )  # fmt: skip
        return self.labels[kind]


class GraphStore:
    """Structures with their neighbours; nothing else of a model is prepared.

    Parameters
    ----------
    model : AtomicModel
        Any.
    structures : sequence of Structure
        With labels; any may be missing.
    memory_budget : float
        Bytes that kept neighbours may take; others are looked for at each use.
    progress : callable, optional
        Called after each structure.
    additional : sequence of Structure
        More structures, behind the others.
    """

    def __init__(
        self,
        model: AtomicModel,
        structures: Sequence[Structure],
        memory_budget: float,
        progress: Callable[[], None] | None = None,
        additional: Sequence[Structure] = (),
    ) -> None:
        self.model, self.structures = model, joined_frames([structures, additional])
        self.kept: dict[int, LabelledGraph] = {}
        self.ahead = Ahead(lambda index, _: self._make(index), self.kept.__contains__)
        self.kept_bytes = 0
        for index in range(len(self.structures)):
            frame = self._make(index)
            size = _BYTES_OF_EDGE * len(frame.graph.neighbor)
            if self.kept_bytes + size <= memory_budget:
                self.kept[index] = frame
                self.kept_bytes += size
            if progress is not None:
                progress()

    def __len__(self) -> int:
        return len(self.structures)

    def __getitem__(self, index: int) -> LabelledGraph:
        return self.kept[index] if index in self.kept else self.ahead.get(index)

    def _make(self, index: int) -> LabelledGraph:
        structure = self.structures[index]
        graph = build_graph(structure, self.model.elements, self.model.cutoff)
        return LabelledGraph(structure.name, graph, labels_of(structure))

    def predict(self, index: int) -> Prediction:
        """Prediction of the model, as it is now, for one structure."""
        return Potential(self.model).predict(self[index].graph)

    def view(self, model: AtomicModel) -> GraphStore:
        """The same structures for another `model` of the same elements and cutoff."""
        other = copy.copy(self)
        other.model = model
        return other


class AutogradObserver:
    """Measures the labels of a `GraphStore` with the model as it is now; parameters as of `Observer`."""

    energies_at_once = atoms_at_once = 1  # structure by structure

    def __init__(
        self,
        store: GraphStore,
        noise: Noise,
        weights: LossWeights,
        structure_weights: Sequence[float] | None = None,
    ) -> None:
        self.store, self.noise, self.weights = store, noise, weights
        self.structure_weights = structure_weights
        self.model = store.model
        self.parameters: list[Tensor] = [p for p in self.model.parameters() if p.requires_grad]
        self.n_parameters = sum(p.numel() for p in self.parameters)

    def of_part(self, rank: int, size: int) -> AutogradObserver | None:
        """See `nnpkit.measure.contract.Measures`."""
        return None

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing: measurements depend on the weights alone."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict`."""

    def prediction(self, index: int) -> Prediction:
        """Prediction of one structure, differentiable by the weights."""
        return Potential(self.model)(self.store[index].graph, create_graph=True)

    def measure(self, labels: Labels) -> Measurement:
        """Residuals (label minus prediction), Jacobian of the predictions and noise of all `labels`.

        Raises
        ------
        InputError
            If a structure lacks a label that is asked for.
        """
        parts = []
        for position, index in enumerate(labels.structures):
            frame = self.store[index]
            prediction = self.prediction(index)
            for kind, chosen in wanted(labels, position):
                group = labels.group if kind == "force" else None
                parts.append(self._measured(kind, frame, prediction, index, chosen, group))
        return Measurement.joined(parts)

    def _measured(
        self,
        kind: str,
        frame: LabelledGraph,
        prediction: Prediction,
        index: int,
        chosen: Tensor | None,
        group: int | None,
    ) -> Measurement:
        """The labels of one kind of one structure, `chosen` among all."""
        observable, label = OBSERVABLES.get(kind), frame.label(kind)
        target, values = observable.flat(label), observable.predicted(prediction, frame.graph)
        if chosen is not None:
            target, values = target[chosen], values[chosen]
        residual, rows, origin = target - values.detach(), self.rows(values), None
        variance = self.noise.of(kind, len(values), group, frame.n_atoms)
        if group is None:
            reference = sum(self.model.reference_energies[t] for t in frame.graph.types.tolist())
            origin = observable.origin(label, chosen, frame.n_atoms, reference, index)
        else:
            residual, rows = signed_means(residual, rows, group)
        return self.noise.scaled(Measurement(residual, rows, variance, origin), kind, frame.n_atoms)

    def rows(self, values: Tensor) -> Tensor:
        """Derivatives (M, P) of `values` (M,) with respect to the parameters."""
        rows = []
        for value in values:
            parts = torch.autograd.grad(value, self.parameters, retain_graph=True, materialize_grads=True)
            rows.append(torch.cat([part.reshape(-1) for part in parts]).to(torch.float64))
        return torch.stack(rows)

    def loss(self, labels: Labels) -> Tensor:
        """L2 loss (0-dim) of `labels`, differentiable with respect to the weights; see `LossWeights`."""
        errors: dict[str, list[Tensor]] = {}
        for position, index in enumerate(labels.structures):
            frame, given = self.store[index], self.structure_weights
            root = 1.0 if given is None else math.sqrt(given[index])
            prediction = self.prediction(index)
            for kind, chosen in wanted(labels, position):
                observable = OBSERVABLES.get(kind)
                wrong = observable.predicted(prediction, frame.graph) - observable.flat(frame.label(kind))
                wrong = wrong if chosen is None else wrong[chosen]
                divisor = self.weights.divisor(frame.n_atoms) if observable.extensive else 1.0
                errors.setdefault(kind, []).append(wrong / (divisor / root))
        terms = [self.weights.of(kind) * torch.cat(parts).square().mean() for kind, parts in errors.items()]
        return torch.stack(terms).sum()
