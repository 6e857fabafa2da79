"""Labels turned into vectors for models whose descriptor is trained too.

Every label is the energy E or its derivative along a change of the edge vectors: a force component moves the
edges of one atom, a virial component strains them all. So the rows of the Jacobian are gradients, with respect
to the weights, of directional derivatives of E, which a family writes in closed form (`DirectionalForm`), and a
weighted sum of many force components costs what one costs. That is used for groups of force components that are
reduced to one number (Hu et al., AAAI 2023, Algorithm 2), and for the gradient of the squared loss, where the
weights are the errors.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from nnpkit.measure.contract import Predicts
from nnpkit.measure.directions import Directions, displacements
from nnpkit.measure.observables import refuse_others
from nnpkit.measure.observations import VIRIAL_COMPONENTS, LossWeights, Noise, require_label, signed_weights
from nnpkit.measure.origins import energy_origin, force_origin, virial_origin
from nnpkit.optim.measurement import Measurement, Origin

if TYPE_CHECKING:
    from nnpkit.measure.label_choice import Labels

__all__ = ["DirectionalForm", "DirectionalObserver"]


class DirectionalForm(Protocol):
    """A model as it is now on one prepared structure, without its terms."""

    frame: Any  # name, place, n_atoms, reference, terms, energy, forces, virial, and what `Linked` has
    energy: float  # eV

    def energy_row(self) -> Tensor:
        """Derivatives (P,) of the energy with respect to all weights."""
        ...

    def moves(self, directions: Directions) -> Any:
        """What `directions` do to their edges; its ``combined(weights (E, X))`` is one direction for each block."""
        ...

    def values(self, directions: Directions, moves: Any) -> Tensor:
        """Derivatives (A, X) of the energy along `directions`."""
        ...

    def rows(self, directions: Directions, moves: Any) -> Tensor:
        """Derivatives (A * X, P) of `values` with respect to all weights."""
        ...

    def virial_rows(self, components: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """The six `components` of the virial (6,), eV, of a structure that has one, and their derivatives (6, P)."""
        ...


class DirectionalObserver(ABC):
    """Measures the labels of prepared structures with the model as it is now.

    Parameters
    ----------
    store : Predicts
        Prepared structures, whose atoms may be in another order: ``place`` of a frame says where.
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
        store: Predicts,
        noise: Noise,
        weights: LossWeights,
        structure_weights: Sequence[float] | None = None,
    ) -> None:
        self.store: Any = store
        self.noise, self.weights = noise, weights
        self.structure_weights = structure_weights
        self.model = store.model
        self.parameters: list[Tensor] = list(self.model.parameters())
        self.n_parameters = sum(p.numel() for p in self.parameters)

    @abstractmethod
    def closed_form(self, index: int) -> DirectionalForm:
        """The model on one structure."""

    @abstractmethod
    def loss(self, labels: Labels) -> Tensor:
        """L2 loss (0-dim) of `labels`; its gradient with respect to the weights is exact, see `LossWeights`."""

    def of_part(self, rank: int, size: int) -> DirectionalObserver | None:
        """See `nnpkit.measure.contract.Measures`."""
        return None

    def state_dict(self) -> dict[str, Tensor]:
        """What later measurements depend on beside the weights."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict`."""
        if state:
            raise ValueError("measurements depend on the weights alone")

    def measure(self, labels: Labels) -> Measurement:
        """Residuals (label minus prediction), Jacobian of the predictions and noise of all `labels`.

        Raises
        ------
        InputError
            If a structure lacks a label that is asked for.
        """
        refuse_others(labels)
        parts = []
        for position, index in enumerate(labels.structures):
            model = self.closed_form(index)
            if labels.energy:
                parts.append(self._energy(model, index))
            if labels.components is not None and len(labels.components[position]) > 0:
                parts.append(self._forces(model, index, labels.components[position], labels.group))
            if labels.virial:
                parts.append(self._virial(model, index))
        return Measurement.joined(parts)

    def _energy(self, model: DirectionalForm, index: int) -> Measurement:
        return self._energy_of(model.frame, model.energy, model.energy_row().unsqueeze(0), index)

    def _energy_of(self, frame: Any, value: float, row: Tensor, index: int) -> Measurement:
        """The energy of a structure, given what the model says and its derivatives (1, P)."""
        terms = 0.0 if frame.terms is None else float(frame.terms.energy)
        energy = require_label(frame, "energy")
        residual = torch.tensor([energy - terms - value], dtype=torch.float64)
        origin = energy_origin(energy - frame.reference, frame.n_atoms, index)
        return self._measurement(residual, row, "energy", frame, origin)

    def _forces(
        self, model: DirectionalForm, index: int, components: Tensor, group: int | None
    ) -> Measurement:
        """Force components (flat indices into (N, 3) of the structure), or the signed means of groups of them."""
        frame, atom, axis = model.frame, model.frame.place[components // 3], components % 3
        atoms, number = torch.unique(atom, return_inverse=True)
        # one direction for each component costs less than three for each atom, unless most of them are asked for
        single = 2 * len(components) <= 3 * len(atoms)
        row = torch.arange(len(components)) if single else 3 * number + axis
        directions = displacements(frame, atom, axis) if single else displacements(frame, atoms)
        moves = model.moves(directions)
        values = model.values(directions, moves).reshape(-1)[row]
        if group is None:
            return self._forces_of(frame, atom, axis, values, model.rows(directions, moves)[row], index)
        residual = self._force_residual(frame, atom, axis, values)
        weights, rows = signed_weights(residual, group), []
        shape = (directions.n_blocks, directions.change.shape[2])
        for some in torch.arange(len(row)).split(group):
            own = residual.new_zeros(shape[0] * shape[1]).index_add(0, row[some], weights[some]).view(shape)
            together = directions._replace(block=torch.zeros_like(directions.block), n_blocks=1)
            rows.append(model.rows(together, moves.combined(own[directions.block])))
        reduced = torch.stack([part.sum() for part in (weights * residual).split(group)])
        variance = self.noise.of_forces(len(components), group, frame.n_atoms)
        return self.noise.scaled(Measurement(reduced, torch.cat(rows), variance), "force", frame.n_atoms)

    def _force_residual(self, frame: Any, atom: Tensor, axis: Tensor, values: Tensor) -> Tensor:
        terms = 0.0 if frame.terms is None else frame.terms.forces[atom, axis]
        return require_label(frame, "forces")[atom, axis] - values - terms

    def _forces_of(
        self, frame: Any, atom: Tensor, axis: Tensor, values: Tensor, rows: Tensor, index: int
    ) -> Measurement:
        """Force components (M,) of a structure, given what the model says and its derivatives (M, P)."""
        residual = self._force_residual(frame, atom, axis, values)
        origin = force_origin(require_label(frame, "forces")[atom], index)
        return self._measurement(residual, rows, "force", frame, origin)

    def _virial(self, model: DirectionalForm, structure: int) -> Measurement:
        return self._virial_of(model.frame, *model.virial_rows(VIRIAL_COMPONENTS), structure)

    def _virial_of(self, frame: Any, values: Tensor, rows: Tensor, structure: int) -> Measurement:
        """The virial of a structure, given what the model says (6,) and its derivatives (6, P)."""
        index = tuple(torch.tensor(axis) for axis in zip(*VIRIAL_COMPONENTS, strict=True))
        label = require_label(frame, "virial")
        terms = 0.0 if frame.terms is None else frame.terms.virial[0][index]
        origin = virial_origin(label, frame.n_atoms, structure)
        return self._measurement(label[index] - values - terms, rows, "virial", frame, origin)

    def _measurement(
        self, residual: Tensor, jacobian: Tensor, kind: str, frame: Any, origin: Origin
    ) -> Measurement:
        variance = self.noise.variance(kind, len(residual), frame.n_atoms)
        measurement = Measurement(residual, jacobian, torch.full_like(residual, variance), origin)
        return self.noise.scaled(measurement, kind, frame.n_atoms)
