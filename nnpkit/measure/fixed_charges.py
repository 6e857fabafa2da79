"""Structures whose charges do not change in training: the second stage of third and fourth generation potentials.

Electrostatics are then a constant part of energy, forces and virial, like the short-range terms. Where the charge is an
input of the atomic networks, its response to positions and strain is a constant too, the derivative of one more
feature; but it depends on all atoms, not on edges. So the fast measurements of fixed descriptors serve here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from nnpkit.data.graph import Graph, build_graph
from nnpkit.data.structure import Structure
from nnpkit.measure.frames import FrameStore
from nnpkit.measure.label_sums import VIRIAL_COMPONENTS, Samples, Terms
from nnpkit.measure.observations import Observer
from nnpkit.measure.prepared_frame import Frame
from nnpkit.models.charged_model import ChargedModel, Electrostatics
from nnpkit.models.charged_potential import electrostatics_of, slopes
from nnpkit.models.potential import Prediction, forces_from_edges, virial_from_edges

__all__ = ["FixedChargeObserver", "FixedChargeStore"]


@dataclass
class ChargedFrame(Frame):
    """A `Frame` whose constant part has the electrostatics, and whose features may have the charges behind them."""

    charges: Tensor  # (1, N) e
    response: Tensor | None  # (N, N, 3) e/Å: d charge[i] / d position[k]; None: charges are no feature
    strain_response: Tensor | None  # (N, 3, 3) e
    is_charge: Tensor  # (N, D) whether a feature is the charge

    @property
    def n_bytes(self) -> int:
        """See `Frame`."""
        own = (self.response, self.strain_response)
        return super().n_bytes + sum(part.nbytes for part in own if part is not None)


class FixedChargeStore(FrameStore):
    """A `FrameStore` of a `ChargedModel` whose charges are trained already; arguments as there.

    All of its structures are prepared with derivatives, since the charges of one atom depend on all others.
    """

    model: ChargedModel

    def _make(self, index: int, keep: bool) -> Frame:
        return self._prepare(self.structures[index], keep)

    def _prepare(self, structure: Structure, keep: bool) -> Frame:
        frame = super()._prepare(structure, keep)
        model, graph = self.model, build_graph(structure, self.model.elements, self.model.cutoff)
        interactions = electrostatics_of(model, graph)
        features = frame.features.clone().requires_grad_(True)
        found = slopes(model, graph, features, interactions, electrostatic=True)
        with torch.no_grad():
            gradient = super().edge_gradient(frame, found.features)
            forces = found.forces + forces_from_edges(gradient, frame.center, frame.neighbor, frame.n_atoms)
            center = torch.zeros_like(frame.center)
            virial = found.virial + virial_from_edges(gradient, frame.edge_vec, center, 1)
        energy, atomic = found.energy, torch.zeros(frame.n_atoms, dtype=torch.float64)
        if frame.terms is not None:
            energy, forces, virial = (
                energy + frame.terms.energy, forces + frame.terms.forces, virial + frame.terms.virial
            )  # fmt: skip
        frame.terms = Prediction(energy, atomic, forces, virial)
        own = {entry.name: getattr(frame, entry.name) for entry in fields(Frame)}
        if not model.charge_input:
            return ChargedFrame(
                **own, charges=found.charges, response=None, strain_response=None, is_charge=center
            )
        response, strain_response = self._response(frame, graph, interactions[0], found.charges[0])
        own["described"] = model.inputs(frame.features, frame.types, found.charges[0]).detach()
        if frame.jacobian is not None:
            own["jacobian"] = _padded(frame.jacobian)
        columns = model.charge_column.index_select(0, frame.types)
        return ChargedFrame(
            **own,
            charges=found.charges,
            response=response,
            strain_response=strain_response,
            is_charge=columns,
        )

    def _response(
        self, frame: Frame, graph: Graph, interaction: Electrostatics, charges: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Derivatives (N, N, 3) and (N, 3, 3) of charges by positions and strain, as of a fourth generation.

        ``d q = -P (d chi + (d A) q)``, P the upper left block of the inverse of the equilibration's matrix.
        """
        model, n = self.model, frame.n_atoms
        features = frame.features.clone().requires_grad_(True)
        with torch.enable_grad():
            chi = model.charge_networks[0](features, frame.types).sum() * model.charge_scale
            (slope,) = torch.autograd.grad(chi, features)
        with torch.no_grad():
            bare = interaction.bare
            matrix = torch.ones(n + 1, n + 1, dtype=torch.float64)
            matrix[:n, :n], matrix[n, n] = model.equilibration_matrix(frame.types, bare.matrix), 0.0
            inverse = torch.linalg.inv(matrix)[:n, :n]
            by_edge = torch.einsum("ed,edx->ex", slope[frame.center], super().jacobian(frame))
            change = torch.zeros(n * n, 3, dtype=torch.float64)
            change.index_add_(0, frame.center * n + frame.neighbor, by_edge)
            change.index_add_(0, frame.center * (n + 1), -by_edge)
            pairs = bare.slope * charges[None, :, None]
            change = change.reshape(n, n, 3) - pairs
            change[torch.arange(n), torch.arange(n)] += pairs.sum(1)
            strain = torch.einsum("ijab,j->iab", bare.strain, charges)
            stretched = frame.edge_vec[:, :, None] * by_edge[:, None, :]
            strain = strain.index_add(0, frame.center, stretched)
            return -torch.einsum("ij,jkx->ikx", inverse, change), -torch.einsum(
                "ij,jab->iab", inverse, strain
            )

    def jacobian(self, frame: Frame) -> Tensor:
        """See `FrameStore`."""
        found = super().jacobian(frame)
        missing = frame.features.shape[1] - found.shape[1]
        return _padded(found) if missing else found

    def edge_gradient(self, frame: Frame, slope: Tensor) -> Tensor:
        """See `FrameStore`; the response of charges is not part of it."""
        own = slope if frame.jacobian is not None else slope[:, : self.model.scaling.factor.shape[1]]
        return super().edge_gradient(frame, own)

    def predict(self, index: int) -> Prediction:
        """See `FrameStore`."""
        frame = self[index]
        assert isinstance(frame, ChargedFrame)
        features = frame.features.clone().requires_grad_(True)
        energy = self.energy_of(frame, features)
        (slope,) = torch.autograd.grad(energy, features)
        forces, virial = derivatives(self, frame, slope)
        assert frame.terms is not None
        forces, virial = forces + frame.terms.forces, virial + frame.terms.virial
        return Prediction(energy.detach().reshape(1), slope.new_zeros(0), forces, virial, frame.charges)


def _padded(jacobian: Tensor) -> Tensor:
    """Derivatives (E, D + 1, 3): the last feature is no function of single edges."""
    return torch.cat([jacobian, jacobian.new_zeros(len(jacobian), 1, 3)], dim=1)


def derivatives(store: FixedChargeStore, frame: ChargedFrame, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Forces (N, 3) and virial (3, 3) of an energy with derivatives `slope` (N, D) by features and charges."""
    gradient = store.edge_gradient(frame, slope)
    forces = forces_from_edges(gradient, frame.center, frame.neighbor, frame.n_atoms)
    virial = virial_from_edges(gradient, frame.edge_vec, torch.zeros_like(frame.center), 1)[0]
    if frame.response is None or frame.strain_response is None:
        return forces, virial
    by_charge = (slope * frame.is_charge).sum(1)
    forces = forces - torch.einsum("i,ikx->kx", by_charge, frame.response)
    return forces, virial - torch.einsum("i,iab->ab", by_charge, frame.strain_response)


class FixedChargeObserver(Observer):
    """Measures the labels of a `FixedChargeStore`."""

    store: FixedChargeStore

    def terms(self, frame: Frame, components: Tensor | None, virial: bool) -> Terms:
        """See `Observer`."""
        found = super().terms(frame, components, virial)
        assert isinstance(frame, ChargedFrame)
        if frame.response is None or frame.strain_response is None:
            return found
        forces, strained = found.forces, found.virial
        width, n = frame.features.shape[1], frame.n_atoms
        if forces is not None and components is not None:
            rows = len(components)
            direction = forces.direction.new_zeros(rows * n, width)
            direction[forces.row * n + forces.atom, : forces.direction.shape[1]] = forces.direction
            moved = -frame.response[:, components // 3, components % 3].T.reshape(-1)
            forces = _with_charges(frame, direction, moved, rows)
        if strained is not None:
            symmetric = 0.5 * (frame.strain_response + frame.strain_response.transpose(1, 2))
            moved = torch.cat([-symmetric[:, a, b] for a, b in VIRIAL_COMPONENTS])
            direction = strained.direction.new_zeros(len(moved), width)
            direction[:, : strained.direction.shape[1]] = strained.direction
            strained = _with_charges(frame, direction, moved, len(VIRIAL_COMPONENTS))
        return Terms(frame.features, forces, strained)

    def derivatives(self, frame: Frame, slope: Tensor) -> tuple[Tensor, Tensor]:
        """See `Observer`."""
        assert isinstance(frame, ChargedFrame)
        return derivatives(self.store, frame, slope)


def _with_charges(frame: ChargedFrame, direction: Tensor, change: Tensor, rows: int) -> Samples:
    """All atoms as terms of every row, moved along `direction` (rows * N, D) and by the `change` of their charges."""
    columns = frame.is_charge.repeat(rows, 1)
    whole = torch.where(columns, change[:, None], direction)
    atoms = torch.arange(frame.n_atoms)
    return Samples(atoms.repeat(rows), whole, torch.arange(rows).repeat_interleave(frame.n_atoms))
