"""Labels of potentials with charges: what their training keeps of structures, and how charges are measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nnpkit.data.graph import build_graph, edge_vectors
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.measure.autograd import AutogradObserver, GraphStore, LabelledGraph
from nnpkit.measure.frames import FrameStore
from nnpkit.models.charged_model import ChargedModel, Electrostatics
from nnpkit.models.charged_potential import ChargedPotential, electrostatics_of, slopes
from nnpkit.models.potential import Prediction, forces_from_edges, virial_from_edges
from nnpkit.optim.measurement import Measurement

if TYPE_CHECKING:
    from nnpkit.measure.label_choice import Labels

__all__ = ["ChargeObserver", "ChargedFrameStore", "ChargedGraphStore", "ChargedObserver"]

CHARGE_NOISE = 0.01
"""e: the accuracy that charges are learnt to."""


class ChargedGraphStore(GraphStore):
    """A `GraphStore` that keeps the interactions of the atoms too; for descriptors that are trained."""

    model: ChargedModel

    def __init__(
        self,
        model: ChargedModel,
        structures: Sequence[Structure],
        memory_budget: float,
        progress: Callable[[], None] | None = None,
        additional: Sequence[Structure] = (),
    ) -> None:
        super().__init__(model, structures, memory_budget, progress, additional)
        self.interactions: dict[int, list[Electrostatics]] = {}

    def interaction(self, index: int) -> list[Electrostatics]:
        """How the atoms of a structure interact."""
        if index not in self.interactions:
            self.interactions[index] = electrostatics_of(self.model, self[index].graph)
        return self.interactions[index]

    def features(self, index: int) -> Tensor:
        """Scaled features (N, D) of the atoms of a structure, differentiable by the weights of the descriptor."""
        graph = self[index].graph
        raw = self.model.descriptor(
            edge_vectors(graph), graph.types[graph.neighbor], graph.offsets, graph.types
        )
        return self.model.scaling(raw, graph.types)

    def predict(self, index: int, create_graph: bool = False) -> Prediction:
        """Prediction of the model, as it is now, for one structure; differentiable with `create_graph`."""
        known = self.interaction(index)
        return ChargedPotential(self.model)(self[index].graph, create_graph, known)


class ChargedFrameStore(FrameStore):
    """A `FrameStore` with the graphs of its structures and the interactions of their atoms.

    All of its structures are prepared with derivatives, since the charges of one atom depend on all others.
    """

    model: ChargedModel

    def __init__(
        self,
        model: ChargedModel,
        structures: Sequence[Structure],
        memory_budget: float,
        progress: Callable[[], None] | None = None,
        energies: Sequence[Structure] = (),
    ) -> None:
        super().__init__(model, [*structures, *energies], memory_budget, progress)
        self.graphs = [build_graph(s, model.elements, model.cutoff) for s in self.structures]
        self.interactions = [electrostatics_of(model, graph) for graph in self.graphs]

    def __getitem__(self, index: int) -> LabelledGraph:  # type: ignore[override]
        frame = self.frames[index]
        return LabelledGraph(frame.name, self.graphs[index], frame.energy, frame.forces, frame.virial)

    def interaction(self, index: int) -> list[Electrostatics]:
        """How the atoms of a structure interact."""
        return self.interactions[index]

    def features(self, index: int) -> Tensor:
        """Scaled features (N, D) of the atoms of a structure."""
        return self.frames[index].features

    def predict(self, index: int, create_graph: bool = False) -> Prediction:
        """Prediction of the model, as it is now, for one structure; differentiable with `create_graph`."""
        frame, graph = self.frames[index], self.graphs[index]
        features = frame.features.clone().requires_grad_(True)
        found = slopes(self.model, graph, features, self.interactions[index], create_graph)
        gradient = self.edge_gradient(frame, found.features)
        forces = found.forces + forces_from_edges(gradient, frame.center, frame.neighbor, frame.n_atoms)
        virial = found.virial + virial_from_edges(gradient, frame.edge_vec, torch.zeros_like(frame.center), 1)
        if frame.wall is None:
            return Prediction(found.energy, found.atomic_energy, forces, virial, found.charges)
        wall = frame.wall
        return Prediction(
            found.energy + wall.energy, found.atomic_energy + wall.atomic_energy, forces + wall.forces,
            virial + wall.virial, found.charges,
        )  # fmt: skip


class ChargedObserver(AutogradObserver):
    """Measures energies, forces and virials of potentials with charges."""

    store: ChargedGraphStore | ChargedFrameStore  # type: ignore[assignment]

    def prediction(self, index: int) -> Prediction:
        """See `AutogradObserver`."""
        return self.store.predict(index, create_graph=True)


class ChargeObserver(AutogradObserver):
    """Measures the charges of the atoms instead of energies, wherever energies are asked for.

    Its parameters are the weights that decide the charges.
    """

    store: ChargedGraphStore | ChargedFrameStore  # type: ignore[assignment]

    def measure(self, labels: Labels) -> Measurement:
        """Residuals (label minus prediction), Jacobian and noise of the charges of all atoms of the structures."""
        parts = []
        for index in labels.structures:
            values, target = self._charges(index)
            noise = torch.full_like(target, CHARGE_NOISE**2)
            parts.append(Measurement(target - values.detach(), self.rows(values), noise, None))
        return Measurement.joined(parts)

    def loss(self, labels: Labels) -> Tensor:
        """Mean square of the errors of charges (0-dim), in units of `CHARGE_NOISE`."""
        errors = [torch.sub(*self._charges(index)) for index in labels.structures]
        return torch.cat(errors).square().mean() / CHARGE_NOISE**2

    def errors(self, index: int) -> Tensor:
        """Prediction minus label (N,) of one structure, e."""
        with torch.no_grad():
            values, target = self._charges(index)
        return values - target

    def _charges(self, index: int) -> tuple[Tensor, Tensor]:
        graph, label = self.store[index].graph, self.store.structures[index].charges
        if label is None:
            raise InputError("the frame has no charges", where=self.store.structures[index].name)
        bare = self.store.interaction(index)[0].bare.matrix
        features = self.store.features(index)
        found = self.store.model.charges(features, graph.types, bare, float(graph.total_charge[0]))
        return found[0], torch.as_tensor(label)
