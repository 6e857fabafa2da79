"""The prepared structures of a cluster expansion's data set, and their labels turned into vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from nnpkit.data.store.stored_frames import joined_frames
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.families.cluster_expansion.expansion_frames import ExpansionFrame, prepare_expansion_frame
from nnpkit.families.cluster_expansion.expansion_kernel import training_kernel, weights_of
from nnpkit.families.cluster_expansion.expansion_rows import ExpansionForm
from nnpkit.families.cluster_expansion.polynomial_derivatives import PolynomialDerivatives
from nnpkit.kernels.expansion_training import ExpansionKernel, ExpansionRows, NeighborEdges
from nnpkit.kernels.native import NoKernelError
from nnpkit.measure.ahead import Ahead
from nnpkit.measure.directional_observer import DirectionalObserver
from nnpkit.measure.directions import Directions, weighted_displacements
from nnpkit.measure.observables import refuse_others
from nnpkit.measure.observations import VIRIAL_COMPONENTS, require_label
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.potential import Prediction, forces_from_edges

if TYPE_CHECKING:
    from nnpkit.measure.label_choice import Labels

__all__ = ["ExpansionObserver", "ExpansionStore"]


class ExpansionStore:
    """The prepared structures of one data set.

    Parameters
    ----------
    model : AtomicModel
        A cluster expansion.
    structures : sequence of Structure
        Structures with labels; any label may be missing.
    memory_budget : float
        Bytes that prepared structures may take; others are prepared anew at each use.
    progress : callable, optional
        Called after each structure.
    additional : sequence of Structure
        More structures, behind the others.

    Attributes
    ----------
    kernel : ExpansionKernel or None
        Who measures the structures; None: PyTorch.
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
        self.kernel = _kernel_of(model)
        self.derivatives = PolynomialDerivatives(model.spec["descriptor"]["invariants"])
        self._kept: dict[int, ExpansionFrame] = {}
        self.ahead = Ahead(lambda index, _: self._prepare(index), self._kept.__contains__)
        self.kept_bytes = 0
        for index in range(len(self.structures)):
            frame = self._prepare(index)
            if self.kept_bytes + frame.n_bytes <= memory_budget:
                self._kept[index] = frame
                self.kept_bytes += frame.n_bytes
            if progress is not None:
                progress()

    def __len__(self) -> int:
        return len(self.structures)

    def __getitem__(self, index: int) -> ExpansionFrame:
        kept = self._kept.get(index)
        return self.ahead.get(index) if kept is None else kept

    def _prepare(self, index: int) -> ExpansionFrame:
        return prepare_expansion_frame(self.model, self.structures[index], self.kernel is None)

    @property
    def n_kept(self) -> int:
        """Number of structures that are kept prepared."""
        return len(self._kept)

    def form(self, index: int) -> ExpansionForm:
        """The model, as it is now, on one structure, by PyTorch."""
        return ExpansionForm(self.model, self.derivatives, self[index])

    def predict(self, index: int) -> Prediction:
        """Prediction of the model, as it is now, for one structure (B = 1; atomic energies without parts)."""
        if self.kernel is None:
            form = self.form(index)
            frame, energy = form.frame, form.energy
            forces, virial = _derivatives(form)
        else:
            frame = self[index]
            found = self.measured(frame, rows=False, forces=True)
            assert found.forces is not None
            assert found.virial is not None
            energy, forces, virial = found.energy + frame.reference, found.forces, found.virial
            if frame.terms is not None:
                forces, virial = forces + frame.terms.forces, virial + frame.terms.virial[0]
        total = torch.tensor([energy], dtype=torch.float64)
        if frame.terms is not None:
            total = total + frame.terms.energy
        return Prediction(total, total.new_zeros(0), forces[frame.place], virial.unsqueeze(0))

    def measured(self, frame: ExpansionFrame, **wanted: Any) -> ExpansionRows:
        """What the kernel finds, see `nnpkit.kernels.expansion_training.ExpansionKernel.measure`."""
        edges = frame.edges
        neighbors = NeighborEdges(edges.vectors, edges.element, frame.first, frame.types, edges.neighbor)
        assert self.kernel is not None
        return self.kernel.measure(weights_of(self.model), neighbors, **wanted)


def _kernel_of(model: AtomicModel) -> ExpansionKernel | None:
    try:
        return training_kernel(model)
    except NoKernelError:
        return None
    except ValueError as problem:
        raise InputError(f"kernels of cluster expansions: {problem}") from None


def _derivatives(form: ExpansionForm) -> tuple[Tensor, Tensor]:
    """Forces (N, 3), in the order of the frame, and virial (3, 3), the terms included."""
    frame, gradient = form.frame, form.edge_gradient()
    forces = forces_from_edges(gradient, frame.edges.center, frame.edges.neighbor, frame.n_atoms)
    virial = -frame.edges.vectors.T @ gradient
    if frame.terms is None:
        return forces, virial
    return forces + frame.terms.forces, virial + frame.terms.virial[0]


class ExpansionObserver(DirectionalObserver):
    """Measures the labels of an `ExpansionStore` with the model as it is now."""

    def closed_form(self, index: int) -> ExpansionForm:
        """See `DirectionalObserver`."""
        form: ExpansionForm = self.store.form(index)
        return form

    def loss(self, labels: Labels) -> Tensor:
        """See `DirectionalObserver`: the value, and the gradient in closed form, linear in the weights."""
        refuse_others(labels)
        n = len(labels.structures)
        components = labels.components or [torch.zeros(0, dtype=torch.int64)] * n
        n_forces = sum(len(c) for c in components)
        value, row = 0.0, torch.zeros(self.n_parameters, dtype=torch.float64)
        for index, own in zip(labels.structures, components, strict=True):
            form = self.closed_form(index)
            divisor = self.weights.divisor(form.frame.n_atoms)
            weight = 1.0 if self.structure_weights is None else self.structure_weights[index]
            terms = []
            if labels.energy:
                terms.append(_energy_term(form, weight * self.weights.energy / (n * divisor**2)))
            if len(own) > 0:
                terms.append(_force_term(form, own, weight * self.weights.force / n_forces))
            if labels.virial:
                scale = weight * self.weights.virial / (6 * n * divisor**2)
                terms.append(_virial_term(form, scale))
            value += sum(term for term, _ in terms)
            row += torch.stack([part for _, part in terms]).sum(0)
        position = torch.cat([p.reshape(-1) for p in self.parameters])
        return value + row @ (position - position.detach())


def _energy_term(form: ExpansionForm, scale: float) -> tuple[float, Tensor]:
    """Part of the loss and its gradient (P,)."""
    terms = 0.0 if form.frame.terms is None else float(form.frame.terms.energy)
    error = form.energy + terms - require_label(form.frame, "energy")
    return scale * error * error, 2.0 * scale * error * form.energy_row()


def _force_term(form: ExpansionForm, components: Tensor, scale: float) -> tuple[float, Tensor]:
    """The same for force `components` of the structure."""
    frame, (forces, _) = form.frame, _derivatives(form)
    atom, axis = frame.place[components // 3], components % 3
    error = (forces - require_label(frame, "forces"))[atom, axis]
    weights = torch.zeros((frame.n_atoms, 3), dtype=torch.float64)
    weights.index_put_((atom, axis), 2.0 * scale * error, accumulate=True)
    # Incoming edges are properties here, which the protocol would have to say of all others as well.
    along = weighted_displacements(frame, weights)  # type: ignore[arg-type]
    return scale * float(error.square().sum()), _row_along(form, along)


def _virial_term(form: ExpansionForm, scale: float) -> tuple[float, Tensor]:
    """The same for the six components."""
    index = tuple(torch.tensor(axis) for axis in zip(*VIRIAL_COMPONENTS, strict=True))
    values, rows = form.virial_rows(VIRIAL_COMPONENTS)
    terms = 0.0 if form.frame.terms is None else form.frame.terms.virial[0][index]
    error = values + terms - require_label(form.frame, "virial")[index]
    return scale * float(error.square().sum()), 2.0 * scale * error @ rows


def _row_along(form: ExpansionForm, directions: Directions) -> Tensor:
    """Derivatives (P,) of the one derivative of the energy along `directions`."""
    return form.rows(directions, form.moves(directions))[0]
