"""Labels turned into vectors by automatic differentiation: for any model, slowly and right.

Energies, forces and virials are what `nnpkit.models.potential.Potential` makes of the model, with all its parameters,
those of a descriptor included; every row of the Jacobian is one backward pass. Families that know more of their
models have something faster, which is tested against this.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from nnpkit.data.graph import Graph, build_graph
from nnpkit.data.store.stored_frames import joined_frames
from nnpkit.data.structure import Structure
from nnpkit.measure.label_sums import VIRIAL_COMPONENTS
from nnpkit.measure.observations import LossWeights, Noise, require_label, signed_means
from nnpkit.measure.origins import energy_origin, force_origin, virial_origin
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.potential import Potential, Prediction
from nnpkit.optim.measurement import Measurement

if TYPE_CHECKING:
    from nnpkit.measure.label_choice import Labels

__all__ = ["AutogradObserver", "GraphStore"]

_BYTES_OF_EDGE = 56  # vector, shift and neighbour


class LabelledGraph(NamedTuple):
    """The neighbours of one structure, and its labels in eV and Å."""

    name: str
    graph: Graph
    energy: float | None
    forces: Tensor | None  # (N, 3)
    virial: Tensor | None  # (3, 3)

    @property
    def n_atoms(self) -> int:
        """Number of atoms."""
        return len(self.graph.types)


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
        self.kept_bytes = 0
        for index in range(len(self.structures)):
            frame = self[index]
            size = _BYTES_OF_EDGE * len(frame.graph.neighbor)
            if self.kept_bytes + size <= memory_budget:
                self.kept[index] = frame
                self.kept_bytes += size
            if progress is not None:
                progress()

    def __len__(self) -> int:
        return len(self.structures)

    def __getitem__(self, index: int) -> LabelledGraph:
        if index in self.kept:
            return self.kept[index]
        structure = self.structures[index]

        def tensor(value: object) -> Tensor | None:
            return None if value is None else torch.as_tensor(value, dtype=torch.float64)

        return LabelledGraph(
            structure.name, build_graph(structure, self.model.elements, self.model.cutoff), structure.energy,
            tensor(structure.forces), tensor(structure.virial),
        )  # fmt: skip

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
            if labels.energy:
                parts.append(self._energy(frame, prediction, index))
            if labels.components is not None and len(labels.components[position]) > 0:
                components = labels.components[position]
                parts.append(self._forces(frame, prediction, index, components, labels.group))
            if labels.virial:
                parts.append(self._virial(frame, prediction, index))
        return Measurement.joined(parts)

    def _energy(self, frame: LabelledGraph, prediction: Prediction, index: int) -> Measurement:
        target = require_label(frame, "energy")
        reference = sum(self.model.reference_energies[t] for t in frame.graph.types.tolist())
        variance = torch.full((1,), self.noise.variance("energy", 1, frame.n_atoms), dtype=torch.float64)
        origin = energy_origin(target - reference, frame.n_atoms, index)
        rows = self.rows(prediction.energy)
        measurement = Measurement(target - prediction.energy.detach(), rows, variance, origin)
        return self.noise.scaled(measurement, "energy", frame.n_atoms)

    def _forces(
        self, frame: LabelledGraph, prediction: Prediction, index: int, components: Tensor, group: int | None
    ) -> Measurement:
        forces = require_label(frame, "forces")
        values = prediction.forces.reshape(-1)[components]
        residual, rows = forces.reshape(-1)[components] - values.detach(), self.rows(values)
        origin = None
        if group is None:
            origin = force_origin(forces[components // 3], index)
        else:
            residual, rows = signed_means(residual, rows, group)
        variance = self.noise.of_forces(len(components), group, frame.n_atoms)
        return self.noise.scaled(Measurement(residual, rows, variance, origin), "force", frame.n_atoms)

    def _virial(self, frame: LabelledGraph, prediction: Prediction, index: int) -> Measurement:
        label = require_label(frame, "virial")
        values = _six(prediction.virial[0])
        variance = torch.full((6,), self.noise.variance("virial", 6, frame.n_atoms), dtype=torch.float64)
        origin = virial_origin(label, frame.n_atoms, index)
        measurement = Measurement(_six(label) - values.detach(), self.rows(values), variance, origin)
        return self.noise.scaled(measurement, "virial", frame.n_atoms)

    def rows(self, values: Tensor) -> Tensor:
        """Derivatives (M, P) of `values` (M,) with respect to the parameters."""
        rows = []
        for value in values:
            parts = torch.autograd.grad(value, self.parameters, retain_graph=True, materialize_grads=True)
            rows.append(torch.cat([part.reshape(-1) for part in parts]).to(torch.float64))
        return torch.stack(rows)

    def loss(self, labels: Labels) -> Tensor:
        """L2 loss (0-dim) of `labels`, differentiable with respect to the weights; see `LossWeights`."""
        components = labels.components or [torch.zeros(0, dtype=torch.int64)] * len(labels.structures)
        errors: dict[str, list[Tensor]] = {"energy": [], "force": [], "virial": []}
        for index, own in zip(labels.structures, components, strict=True):
            frame = self.store[index]
            given = self.structure_weights
            root = 1.0 if given is None else math.sqrt(given[index])
            divisor = self.weights.divisor(frame.n_atoms) / root
            prediction = self.prediction(index)
            if labels.energy:
                errors["energy"].append((prediction.energy - require_label(frame, "energy")) / divisor)
            if len(own) > 0:
                wrong = prediction.forces - require_label(frame, "forces")
                errors["force"].append(root * wrong.reshape(-1)[own])
            if labels.virial:
                wrong = _six(prediction.virial[0]) - _six(require_label(frame, "virial"))
                errors["virial"].append(wrong / divisor)
        terms = [
            getattr(self.weights, kind) * torch.cat(parts).square().mean()
            for kind, parts in errors.items()
            if parts
        ]
        return torch.stack(terms).sum()


def _six(virial: Tensor) -> Tensor:
    """The independent components (6,) of a virial (3, 3), which is taken to be symmetric."""
    index = tuple(torch.tensor(axis) for axis in zip(*VIRIAL_COMPONENTS, strict=True))
    return (0.5 * (virial + virial.T))[index]
