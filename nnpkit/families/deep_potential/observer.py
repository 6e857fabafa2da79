"""Labels turned into vectors for models whose descriptor is trained too.

Every label is the energy E or its derivative along a change of the edge vectors: a force component moves the
edges of one atom, a virial component strains them all. So the rows of the Jacobian are gradients, with respect
to the weights, of directional derivatives of E (`nnpkit.families.deep_potential.jacobian_rows`), and a weighted
sum of many force components costs what one costs. That is used for groups of force components that are reduced
to one number (Hu et al., AAAI 2023, Algorithm 2), and for the gradient of the squared loss, where the weights
are the errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nnpkit.families.deep_potential.jacobian_rows import ClosedForm, displacements, strains
from nnpkit.families.deep_potential.moments import MomentFrame, Moments
from nnpkit.families.deep_potential.prepared import Evaluation, MomentStore
from nnpkit.measure.observations import VIRIAL_COMPONENTS, LossWeights, Noise, require_label, signed_weights
from nnpkit.measure.origins import energy_origin, force_origin, virial_origin
from nnpkit.optim.measurement import Measurement, Origin

if TYPE_CHECKING:
    from nnpkit.measure.label_choice import Labels

__all__ = ["MomentObserver"]


class MomentObserver:
    """Measures the labels of a `MomentStore` with the model as it is now.

    Parameters
    ----------
    store : MomentStore
        Prepared structures.
    noise : Noise
        For `measure` (Kalman filters).
    weights : LossWeights
        For `loss` (gradient optimizers).
    structure_weights : sequence of float, optional
        Of the squared errors of each structure in `loss`; 1 by default.
    """

    energies_at_once = atoms_at_once = 1  # structure by structure

    def __init__(
        self,
        store: MomentStore,
        noise: Noise,
        weights: LossWeights,
        structure_weights: Sequence[float] | None = None,
    ) -> None:
        self.store, self.noise, self.weights = store, noise, weights
        self.structure_weights = structure_weights
        self.model = store.model
        self.parameters: list[Tensor] = list(self.model.parameters())
        self.n_parameters = sum(p.numel() for p in self.parameters)

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

    def measure(self, labels: Labels) -> Measurement:
        """Residuals (label minus prediction), Jacobian of the predictions and noise of all `labels`.

        Raises
        ------
        InputError
            If a structure lacks a label that is asked for.
        """
        parts = []
        for position, index in enumerate(labels.structures):
            model = self._closed_form(index)
            if labels.energy:
                parts.append(self._energy(model, index))
            if labels.components is not None and len(labels.components[position]) > 0:
                parts.append(self._forces(model, index, labels.components[position], labels.group))
            if labels.virial:
                parts.append(self._virial(model, index))
        return Measurement.joined(parts)

    def _closed_form(self, index: int) -> ClosedForm:
        """The model on one structure, with series that are long enough."""
        resolution = self.store.resolution
        model = ClosedForm(resolution, self.store[index])
        if not model.accurate and resolution.refine():
            model = ClosedForm(resolution, self.store[index])
        return model

    def _energy(self, model: ClosedForm, index: int) -> Measurement:
        frame = model.frame
        wall = 0.0 if frame.wall is None else float(frame.wall.energy)
        energy = require_label(frame, "energy")
        residual = torch.tensor([energy - wall - model.energy], dtype=torch.float64)
        origin = energy_origin(energy - frame.reference, frame.n_atoms, index)
        return self._measurement(residual, model.energy_row().unsqueeze(0), "energy", frame, origin)

    def _forces(self, model: ClosedForm, index: int, components: Tensor, group: int | None) -> Measurement:
        """Force components (flat indices into (N, 3) of the structure), or the signed means of groups of them."""
        frame = model.frame
        atoms, number = torch.unique(frame.place[components // 3], return_inverse=True)
        row = 3 * number + components % 3
        directions = displacements(frame, atoms)
        moves = model.moves(directions)
        wall = 0.0 if frame.wall is None else frame.wall.forces[atoms]
        error = require_label(frame, "forces")[atoms] - model.values(directions, moves) - wall
        residual = error.reshape(-1)[row]
        if group is None:
            origin = force_origin(require_label(frame, "forces")[atoms][number], index)
            return self._measurement(residual, model.rows(directions, moves)[row], "force", frame, origin)
        weights, rows = signed_weights(residual, group), []
        for some in torch.arange(len(row)).split(group):
            own = residual.new_zeros(3 * len(atoms)).index_add(0, row[some], weights[some]).view(-1, 3)
            together = directions._replace(block=torch.zeros_like(directions.block), n_blocks=1)
            rows.append(model.rows(together, moves.combined(own[directions.block])))
        reduced = torch.stack([part.sum() for part in (weights * residual).split(group)])
        variance = self.noise.of_forces(len(components), group, frame.n_atoms)
        return self.noise.scaled(Measurement(reduced, torch.cat(rows), variance), "force", frame.n_atoms)

    def _virial(self, model: ClosedForm, structure: int) -> Measurement:
        frame, index = model.frame, tuple(torch.tensor(axis) for axis in zip(*VIRIAL_COMPONENTS, strict=True))
        directions = strains(frame, VIRIAL_COMPONENTS)
        moves = model.moves(directions)
        wall = 0.0 if frame.wall is None else frame.wall.virial[0][index]
        residual = require_label(frame, "virial")[index] - model.values(directions, moves)[0] - wall
        origin = virial_origin(require_label(frame, "virial"), frame.n_atoms, structure)
        return self._measurement(residual, model.rows(directions, moves), "virial", frame, origin)

    def _measurement(
        self, residual: Tensor, jacobian: Tensor, kind: str, frame: MomentFrame, origin: Origin
    ) -> Measurement:
        variance = self.noise.variance(kind, len(residual), frame.n_atoms)
        measurement = Measurement(residual, jacobian, torch.full_like(residual, variance), origin)
        return self.noise.scaled(measurement, kind, frame.n_atoms)

    def loss(self, labels: Labels) -> Tensor:
        """L2 loss (0-dim) of `labels`; its gradient with respect to the weights is exact, see `LossWeights`.

        The terms of forces and virials are built as ``value + (h - h.detach())`` with h the directional derivative
        whose weights are the derivatives of the loss: right in value and gradient, without differentiating the
        forces one by one.
        """
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
                wall = 0.0 if frame.wall is None else float(frame.wall.energy)
                error = (evaluation.energy + wall - require_label(frame, "energy")) / divisor
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
        wall = 0.0 if frame.wall is None else frame.wall.virial[0]
        virial = evaluation.virial(everything, evaluation.edge_gradients(everything))
        error = virial + wall - require_label(frame, "virial")
        h, value = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64)
        changes = strains(frame, VIRIAL_COMPONENTS).change.unbind(2)
        for (a, b), change in zip(VIRIAL_COMPONENTS, changes, strict=True):
            h = h + 2.0 * scale * error[a, b] * evaluation.derivative(everything, [change])
            value = value + scale * error[a, b].square()
        return value + (h - h.detach())


def _force_error(frame: MomentFrame, evaluation: Evaluation, touched: Sequence[Moments]) -> Tensor:
    """Label minus predicted force (N, 3), right for atoms all of whose edges are in `touched`."""
    wall = 0.0 if frame.wall is None else frame.wall.forces
    return (
        require_label(frame, "forces") - evaluation.forces(touched, evaluation.edge_gradients(touched)) - wall
    )


def _weighted_forces(evaluation: Evaluation, touched: Sequence[Moments], weight: Tensor) -> Tensor:
    """Sum of `weight` (N, 3) times force, differentiable; all edges of atoms with weights are in `touched`."""
    changes = [weight[m.edges.center] - weight[m.edges.neighbor] for m in touched]
    return evaluation.derivative(touched, changes)
