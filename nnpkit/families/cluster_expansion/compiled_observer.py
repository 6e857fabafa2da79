"""Labels of cluster expansions turned into vectors by the compiled kernels: all of a structure in one pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nnpkit.families.cluster_expansion.expansion_frames import ExpansionFrame
from nnpkit.families.cluster_expansion.expansion_observer import ExpansionObserver
from nnpkit.measure.divided import observer_of_part
from nnpkit.measure.observables import refuse_others
from nnpkit.measure.observations import VIRIAL_COMPONENTS, require_label, signed_weights
from nnpkit.optim.measurement import Measurement

if TYPE_CHECKING:
    from nnpkit.measure.label_choice import Labels

__all__ = ["CompiledObserver"]

Moves = tuple[Tensor, Tensor]  # atoms of the frame and axes


class CompiledObserver(ExpansionObserver):
    """Measures the labels of an `ExpansionStore` that has a kernel; what it finds is that of `ExpansionObserver`."""

    def of_part(self, rank: int, size: int) -> CompiledObserver | None:
        """See `nnpkit.measure.contract.Measures`."""
        return observer_of_part(self, rank, size)

    def measure(self, labels: Labels) -> Measurement:
        """See `DirectionalObserver`."""
        refuse_others(labels)
        parts = []
        for position, index in enumerate(labels.structures):
            components = torch.zeros(0, dtype=torch.int64)
            if labels.components is not None:
                components = labels.components[position]
            parts += self._together(index, labels, components)
        return Measurement.joined(parts)

    def _together(self, index: int, labels: Labels, components: Tensor) -> list[Measurement]:
        """The labels of one structure."""
        frame: ExpansionFrame = self.store[index]
        moves, n = (frame.place[components // 3], components % 3), len(components)
        reduced, fields = None, None
        if labels.group is not None and n > 0:
            reduced, fields = self._groups(frame, moves, labels.group)
        strains = VIRIAL_COMPONENTS if labels.virial else ()
        found = self.store.measured(
            frame,
            energy=labels.energy,
            moves=moves if reduced is None else None,
            fields=fields,
            strains=strains,
        )
        values, rows, parts = found.values, found.rows, []
        if labels.energy:
            parts.append(self._energy_of(frame, found.energy + frame.reference, rows[:1], index))
            rows = rows[1:]
        n_forces = len(values) - len(strains)
        if reduced is not None:
            variance = self.noise.of_forces(n, labels.group, frame.n_atoms)
            group = Measurement(reduced, rows[:n_forces], variance)
            parts.append(self.noise.scaled(group, "force", frame.n_atoms))
        elif n > 0:
            parts.append(self._forces_of(frame, *moves, values[:n_forces], rows[:n_forces], index))
        if labels.virial:
            parts.append(self._virial_of(frame, values[n_forces:], rows[n_forces:], index))
        return parts

    def _groups(self, frame: ExpansionFrame, moves: Moves, group: int) -> tuple[Tensor, Tensor]:
        """Residuals (G,) of groups of force components, and (G, N, 3) the weights of all forces in them."""
        atom, axis = moves
        values = self.store.measured(frame, moves=moves, rows=False).values
        residual = self._force_residual(frame, atom, axis, values)
        weights = signed_weights(residual, group)
        number = torch.arange(len(atom)) // group
        fields = residual.new_zeros((int(number[-1]) + 1, frame.n_atoms, 3))
        fields.index_put_((number, atom, axis), weights, accumulate=True)
        reduced = residual.new_zeros(len(fields)).index_add(0, number, weights * residual)
        return reduced, fields

    def loss(self, labels: Labels) -> Tensor:
        """See `DirectionalObserver`: the value, and the gradient in closed form, linear in the weights."""
        refuse_others(labels)
        n = len(labels.structures)
        components = labels.components or [torch.zeros(0, dtype=torch.int64)] * n
        n_forces = sum(len(c) for c in components)
        value, row = 0.0, torch.zeros(self.n_parameters, dtype=torch.float64)
        for index, own in zip(labels.structures, components, strict=True):
            weight = 1.0 if self.structure_weights is None else self.structure_weights[index]
            own_value, own_row = self._own_loss(self.store[index], labels, own, weight, n, n_forces)
            value, row = value + own_value, row + own_row
        position = torch.cat([p.reshape(-1) for p in self.parameters])
        return value + row @ (position - position.detach())

    def _own_loss(
        self, frame: ExpansionFrame, labels: Labels, components: Tensor, weight: float, n: int, n_forces: int
    ) -> tuple[float, Tensor]:
        """What one structure adds to the loss of n structures, and to its gradient (P,)."""
        found, terms = self.store.measured(frame, rows=False, forces=True), frame.terms
        divisor, value = self.weights.divisor(frame.n_atoms), 0.0
        factors, fields = [], None
        strains: tuple[tuple[int, int], ...] = ()
        if labels.energy:
            scale = weight * self.weights.energy / (n * divisor**2)
            error = found.energy + frame.reference - require_label(frame, "energy")
            error += 0.0 if terms is None else float(terms.energy)
            value += scale * error * error
            factors.append(torch.tensor([2.0 * scale * error], dtype=torch.float64))
        if len(components) > 0:
            scale = weight * self.weights.force / n_forces
            atom, axis = frame.place[components // 3], components % 3
            errors = -self._force_residual(frame, atom, axis, found.forces[atom, axis])
            value += scale * float(errors.square().sum())
            fields = errors.new_zeros((1, frame.n_atoms, 3))
            fields[0].index_put_((atom, axis), 2.0 * scale * errors, accumulate=True)
            factors.append(errors.new_ones(1))
        if labels.virial:
            scale, strains = weight * self.weights.virial / (6 * n * divisor**2), VIRIAL_COMPONENTS
            index = tuple(torch.tensor(axis) for axis in zip(*strains, strict=True))
            virial = found.virial if terms is None else found.virial + terms.virial[0]
            errors = 0.5 * (virial + virial.T)[index] - require_label(frame, "virial")[index]
            value += scale * float(errors.square().sum())
            factors.append(2.0 * scale * errors)
        rows = self.store.measured(frame, energy=labels.energy, fields=fields, strains=strains).rows
        return value, torch.cat(factors) @ rows
