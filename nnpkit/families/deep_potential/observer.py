"""Labels of a Deep Potential turned into vectors: rows of the Jacobian in closed form, the loss by its moments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nnpkit.families.deep_potential.jacobian_rows import ClosedForm
from nnpkit.families.deep_potential.moments import MomentFrame, Moments
from nnpkit.families.deep_potential.prepared import Evaluation
from nnpkit.measure.directional_observer import DirectionalObserver
from nnpkit.measure.directions import strains
from nnpkit.measure.divided import observer_of_part
from nnpkit.measure.observables import refuse_others
from nnpkit.measure.observations import VIRIAL_COMPONENTS, require_label

if TYPE_CHECKING:
    from nnpkit.measure.label_choice import Labels

__all__ = ["MomentObserver"]


class MomentObserver(DirectionalObserver):
    """Measures the labels of a `MomentStore` with the model as it is now."""

    def of_part(self, rank: int, size: int) -> MomentObserver | None:
        """See `nnpkit.measure.contract.Measures`."""
        return observer_of_part(self, rank, size)

    def state_dict(self) -> dict[str, Tensor]:
        """What later measurements depend on beside the weights."""
        return {"n_moments": torch.tensor(self.store.resolution.basis.n)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict`."""
        self.store.resolution.set(int(state["n_moments"]))

    def _evaluate(self, index: int) -> Evaluation:
        """The model on one structure, with series that are long enough."""
        resolution = self.store.resolution
        evaluation = Evaluation(resolution, self.store[index], trainable=True)
        if not evaluation.accurate and resolution.refine():
            evaluation = Evaluation(resolution, self.store[index], trainable=True)
        return evaluation

    def closed_form(self, index: int) -> ClosedForm:
        """The model on one structure, with series that are long enough."""
        resolution = self.store.resolution
        model = ClosedForm(resolution, self.store[index])
        if not model.accurate and resolution.refine():
            model = ClosedForm(resolution, self.store[index])
        return model

    def loss(self, labels: Labels) -> Tensor:
        """L2 loss (0-dim) of `labels`; its gradient with respect to the weights is exact, see `LossWeights`.

        The terms of forces and virials are built as ``value + (h - h.detach())`` with h the directional derivative
        whose weights are the derivatives of the loss: right in value and gradient, without differentiating the
        forces one by one.
        """
        refuse_others(labels)
        n = len(labels.structures)
        components = labels.components or [torch.zeros(0, dtype=torch.int64)] * n
        n_forces = sum(len(c) for c in components)
        terms = []
        for index, own in zip(labels.structures, components, strict=True):
            evaluation = self._evaluate(index)
            frame = evaluation.frame
            divisor = self.weights.divisor(frame.n_atoms)
            weight = 1.0 if self.structure_weights is None else self.structure_weights[index]
            if labels.energy:
                added = 0.0 if frame.terms is None else float(frame.terms.energy)
                error = (evaluation.energy + added - require_label(frame, "energy")) / divisor
                terms.append(weight * self.weights.energy / n * error.square())
            if len(own) > 0:
                scale = weight * self.weights.force / n_forces
                terms.append(self._force_loss(frame, evaluation, own, scale))
            if labels.virial:
                scale = weight * self.weights.virial / (6 * n * divisor**2)
                terms.append(self._virial_loss(frame, evaluation, scale))
        return torch.stack(terms).sum()

    def _force_loss(
        self, frame: MomentFrame, evaluation: Evaluation, components: Tensor, scale: float
    ) -> Tensor:
        atom, axis = frame.place[components // 3], components % 3
        touched = evaluation.touched(atom if 3 * len(components) < frame.n_atoms else None)
        error = -_force_error(frame, evaluation, touched)[atom, axis]
        weight = torch.zeros((frame.n_atoms, 3), dtype=torch.float64)
        weight.index_put_((atom, axis), 2.0 * scale * error, accumulate=True)
        h = _weighted_forces(evaluation, touched, weight)
        return scale * error.square().sum() + (h - h.detach())

    def _virial_loss(self, frame: MomentFrame, evaluation: Evaluation, scale: float) -> Tensor:
        everything = evaluation.touched()
        terms = 0.0 if frame.terms is None else frame.terms.virial[0]
        virial = evaluation.virial(everything, evaluation.edge_gradients(everything))
        error = virial + terms - require_label(frame, "virial")
        h, value = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        changes = strains(frame, VIRIAL_COMPONENTS).change.unbind(2)
        for (a, b), change in zip(VIRIAL_COMPONENTS, changes, strict=True):
            h = h + 2.0 * scale * error[a, b] * evaluation.derivative(everything, [change])
            value = value + scale * error[a, b].square()
        return value + (h - h.detach())


def _force_error(frame: MomentFrame, evaluation: Evaluation, touched: Sequence[Moments]) -> Tensor:
    """Label minus predicted force (N, 3), right for atoms all of whose edges are in `touched`."""
    terms = 0.0 if frame.terms is None else frame.terms.forces
    return (
        require_label(frame, "forces")
        - evaluation.forces(touched, evaluation.edge_gradients(touched))
        - terms
    )


def _weighted_forces(evaluation: Evaluation, touched: Sequence[Moments], weight: Tensor) -> Tensor:
    """Sum of `weight` (N, 3) times force, differentiable; all edges of atoms with weights are in `touched`."""
    changes = [weight[m.edges.center] - weight[m.edges.neighbor] for m in touched]
    return evaluation.derivative(touched, changes)
