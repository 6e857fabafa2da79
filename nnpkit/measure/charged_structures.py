"""Labels of potentials with charges: what their training keeps of structures, and how charges are measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nnpkit.data.graph import Graph, build_graph, edge_vectors
from nnpkit.data.store.stored_frames import joined_frames
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.measure.autograd import AutogradObserver, GraphStore, LabelledGraph
from nnpkit.measure.charge_rows import charge_rows
from nnpkit.measure.frames import FrameStore
from nnpkit.measure.observables import labels_of
from nnpkit.measure.observations import Noise
from nnpkit.measure.prepared_frame import Frame
from nnpkit.models.charged_model import ChargedModel, Electrostatics
from nnpkit.models.charged_potential import ChargedPotential, electrostatics_of, slopes
from nnpkit.models.potential import Prediction, forces_from_edges, virial_from_edges
from nnpkit.optim.measurement import Measurement

if TYPE_CHECKING:
    from nnpkit.measure.label_choice import Labels

__all__ = ["ChargeObserver", "ChargedFrameStore", "ChargedGraphStore", "ChargedObserver"]

_INTERACTION_BYTES = 1_000_000_000
CHARGE_NOISE = 0.01
"""e: the accuracy that charges are learnt to."""


class Interactions:
    """How the atoms of structures interact, kept as long as they do not take too much memory."""

    def __init__(self, model: ChargedModel) -> None:
        self.model = model
        self.kept: dict[int, list[Electrostatics]] = {}
        self.left = _INTERACTION_BYTES

    def of(self, index: int, graph: Graph) -> list[Electrostatics]:
        """Interactions of the structure with this number and `graph`."""
        if index in self.kept:
            return self.kept[index]
        found = electrostatics_of(self.model, graph)
        self.left -= sum(part.nbytes for one in found for part in (*one.bare, *one.energy))
        if self.left > 0:
            self.kept[index] = found
        return found


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
        self.interactions = Interactions(model)

    def interaction(self, index: int) -> list[Electrostatics]:
        """How the atoms of a structure interact."""
        return self.interactions.of(index, self[index].graph)

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
        super().__init__(model, joined_frames([structures, energies]), memory_budget, progress)
        self.interactions = Interactions(model)

    def __getitem__(self, index: int) -> LabelledGraph:  # type: ignore[override]
        frame, graph = self.frame(index), self.graph(index)
        return LabelledGraph(frame.name, graph, labels_of(self.structures[index]))

    def frame(self, index: int) -> Frame:
        """The prepared structure."""
        return super().__getitem__(index)

    def graph(self, index: int) -> Graph:
        """Its neighbours."""
        return build_graph(self.structures[index], self.model.elements, self.model.cutoff)

    def interaction(self, index: int) -> list[Electrostatics]:
        """How the atoms of a structure interact."""
        return self.interactions.of(index, self.graph(index))

    def features(self, index: int) -> Tensor:
        """Scaled features (N, D) of the atoms of a structure."""
        return self.frame(index).features

    def predict(self, index: int, create_graph: bool = False) -> Prediction:
        """Prediction of the model, as it is now, for one structure; differentiable with `create_graph`."""
        frame, graph = self.frame(index), self.graph(index)
        features = frame.features.clone().requires_grad_(True)
        found = slopes(self.model, graph, features, self.interaction(index), create_graph)
        gradient = self.edge_gradient(frame, found.features)
        forces = found.forces + forces_from_edges(gradient, frame.center, frame.neighbor, frame.n_atoms)
        virial = found.virial + virial_from_edges(gradient, frame.edge_vec, torch.zeros_like(frame.center), 1)
        if frame.terms is None:
            return Prediction(found.energy, found.atomic_energy, forces, virial, found.charges)
        terms = frame.terms
        return Prediction(
            found.energy + terms.energy, found.atomic_energy + terms.atomic_energy, forces + terms.forces,
            virial + terms.virial, found.charges,
        )  # fmt: skip


def _charges(store: ChargedGraphStore | ChargedFrameStore, index: int) -> tuple[Tensor, Tensor]:
    """Charges (N,) of a structure, differentiable by the weights, and their labels."""
    graph, label = store[index].graph, store.structures[index].charges
    if label is None:
        raise InputError("the frame has no charges", where=store.structures[index].name)
    bare = store.interaction(index)[0].bare.matrix
    found = store.model.charges(store.features(index), graph.types, bare, float(graph.total_charge[0]))
    return found[0], torch.as_tensor(label)


def _measured_charges(observer: ChargedObserver | ChargeObserver, index: int) -> Measurement:
    """Residuals, Jacobian and noise of the charges of all atoms of a structure."""
    store = observer.store
    values, target = _charges(store, index)
    if isinstance(store, ChargedFrameStore):
        types, bare = store.frame(index).types, store.interaction(index)[0].bare.matrix
        rows = charge_rows(
            store.model, store.features(index), types, bare, values.detach(), observer.parameters
        )
    else:
        rows = observer.rows(values)  # features change with the weights of the descriptor
    return Measurement(target - values.detach(), rows, torch.full_like(target, CHARGE_NOISE**2))


class ChargedObserver(AutogradObserver):
    """Measures energies, forces and virials of potentials with charges.

    Where charges with labels go on learning, those of every structure are measured together with its energy.
    """

    store: ChargedGraphStore | ChargedFrameStore  # type: ignore[assignment]

    def prediction(self, index: int) -> Prediction:
        """See `AutogradObserver`."""
        return self.store.predict(index, create_graph=True)

    def _with_charges(self, labels: Labels) -> list[int]:
        """Structures whose charges are measured too."""
        model = self.store.model
        if not labels.energy or model.generation == "latent" or not model.trained_charges:
            return []
        return [index for index in labels.structures if self.store.structures[index].charges is not None]

    def measure(self, labels: Labels) -> Measurement:
        """See `AutogradObserver`; charges are rows that are no labels, whose noise is as it is."""
        measured = super().measure(labels)
        for index in self._with_charges(labels):
            more = _measured_charges(self, index)
            origin = measured.origin
            joined = Measurement.joined([measured._replace(origin=None), more])
            measured = joined._replace(
                origin=None if origin is None else origin.and_no_labels(len(more.residual))
            )
        return measured

    def loss(self, labels: Labels) -> Tensor:
        """See `AutogradObserver`; errors of charges count as those of forces do, in units of their noise."""
        total = super().loss(labels)
        errors = [torch.sub(*_charges(self.store, index)) for index in self._with_charges(labels)]
        if errors:
            ratio = (Noise.force / CHARGE_NOISE) ** 2
            total = total + self.weights.force * ratio * torch.cat(errors).square().mean()
        return total


class ChargeObserver(AutogradObserver):
    """Measures the charges of the atoms instead of energies, wherever energies are asked for.

    Its parameters are the weights that decide the charges.
    """

    store: ChargedGraphStore | ChargedFrameStore  # type: ignore[assignment]

    def measure(self, labels: Labels) -> Measurement:
        """Residuals (label minus prediction), Jacobian and noise of the charges of all atoms of the structures."""
        return Measurement.joined([_measured_charges(self, index) for index in labels.structures])

    def loss(self, labels: Labels) -> Tensor:
        """Mean square of the errors of charges (0-dim), in units of `CHARGE_NOISE`."""
        errors = [torch.sub(*_charges(self.store, index)) for index in labels.structures]
        return torch.cat(errors).square().mean() / CHARGE_NOISE**2

    def errors(self, index: int) -> Tensor:
        """Prediction minus label (N,) of one structure, e."""
        with torch.no_grad():
            values, target = _charges(self.store, index)
        return values - target
