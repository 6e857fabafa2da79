"""The prepared structures of a Deep Potential's data set, and its energies and forces from their moments."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nnpkit.data.structure import Structure
from nnpkit.families.deep_potential.embedding import DeepDescriptor
from nnpkit.families.deep_potential.moments import (
    Chebyshev,
    MomentFrame,
    Moments,
    argument_intervals,
    prepare_frame,
    with_moments,
)
from nnpkit.measure.ahead import Ahead
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.potential import Prediction, forces_from_edges

__all__ = ["Evaluation", "MomentStore", "Resolution"]

_MOMENTS = (24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768)
TOLERANCE = 1e-7  # of the last coefficients of the embedding networks, relative to the largest


class Resolution:
    """How many Chebyshev polynomials the embedding networks of a model need, for all its data sets alike.

    Parameters
    ----------
    model : AtomicModel
        A Deep Potential, statistics of its environment matrix set.
    structures : sequence of Structure
        All structures that will be prepared.
    """

    def __init__(self, model: AtomicModel, structures: Sequence[Structure]) -> None:
        if not isinstance(model.descriptor, DeepDescriptor):
            raise TypeError("moments are for Deep Potentials")
        self.model = model
        self._interval = argument_intervals(model, structures)
        self.basis = Chebyshev(_MOMENTS[0], *self._interval)
        self.refine()

    def set(self, n_moments: int) -> None:
        """Use `n_moments` polynomials."""
        if n_moments != self.basis.n:
            self.basis = Chebyshev(n_moments, *self._interval)

    def refine(self) -> bool:
        """Take more polynomials if the networks as they are now need them; whether they did."""
        before = self.basis.n
        for n in _MOMENTS:
            if n > self.basis.n and remainder(self.coefficients()) > TOLERANCE:
                self.set(n)
        return self.basis.n > before

    def coefficients(self) -> list[Tensor]:
        """Chebyshev coefficients (K, M) of each embedding network as it is now, differentiable."""
        nodes, transform = self.basis.nodes, self.basis.to_coefficients
        networks = self.model.descriptor.embeddings
        return [transform @ net(own.unsqueeze(1)) for net, own in zip(networks, nodes, strict=True)]


def remainder(coefficients: Sequence[Tensor]) -> float:
    """Size of the last coefficients, relative to the largest: what is missing from the series."""
    with torch.no_grad():
        sizes = [c.abs().amax(1) for c in coefficients]
        return max(float(size[-3:].amax() / size.amax()) for size in sizes)


class MomentStore:
    """The prepared structures of one data set.

    Parameters
    ----------
    resolution : Resolution
        Holds the model; what is kept follows it when it changes.
    structures : sequence of Structure
        Structures with labels; any label may be missing.
    memory_budget : float
        Bytes that prepared structures may take; others are prepared anew at each use.
    progress : callable, optional
        Called after each structure.
    """

    def __init__(
        self,
        resolution: Resolution,
        structures: Sequence[Structure],
        memory_budget: float,
        progress: Callable[[], None] | None = None,
    ) -> None:
        self.resolution, self.model = resolution, resolution.model
        self.structures, self.memory_budget = structures, memory_budget
        self._kept: dict[int, MomentFrame] = {}
        self.ahead = Ahead(lambda index, _: self._made(index), self._kept.__contains__)
        self.kept_bytes = 0
        for index, structure in enumerate(self.structures):
            self._keep(index, prepare_frame(self.model, resolution.basis, structure))
            if progress is not None:
                progress()

    def __len__(self) -> int:
        return len(self.structures)

    def __getitem__(self, index: int) -> MomentFrame:
        basis = self.resolution.basis
        if index not in self._kept:
            made = self.ahead.get(index)
            if made.basis is not basis:  # more polynomials are needed since it was prepared
                self.ahead.expect((), ())
                made = self._made(index)
            return made
        frame = self._kept[index]
        if frame.basis is not basis:
            del self._kept[index]
            self.kept_bytes -= frame.n_bytes
            frame = self._keep(index, with_moments(self.model, basis, frame))
        return frame

    def _made(self, index: int) -> MomentFrame:
        return prepare_frame(self.model, self.resolution.basis, self.structures[index])

    @property
    def n_kept(self) -> int:
        """Number of structures that are kept prepared."""
        return len(self._kept)

    def _keep(self, index: int, frame: MomentFrame) -> MomentFrame:
        if self.kept_bytes + frame.n_bytes <= self.memory_budget:
            self._kept[index] = frame
            self.kept_bytes += frame.n_bytes
        return frame

    def predict(self, index: int) -> Prediction:
        """Prediction of the model, as it is now, for one structure (B = 1; atomic energies without parts)."""
        frame = self[index]
        evaluation = Evaluation(self.resolution, frame)
        everything = evaluation.touched()
        gradients = evaluation.edge_gradients(everything)
        forces = evaluation.forces(everything, gradients)
        virial = evaluation.virial(everything, gradients).unsqueeze(0)
        energy = evaluation.energy.detach().reshape(1)
        if frame.terms is not None:
            forces, virial = forces + frame.terms.forces, virial + frame.terms.virial
            energy = energy + frame.terms.energy
        return Prediction(energy, energy.new_zeros(0), forces[frame.place], virial)


class Evaluation:
    """Energy of one frame, without its terms, and its derivatives, with the weights as they are now.

    Parameters
    ----------
    resolution : Resolution
        Holds the model.
    frame : MomentFrame
        The structure.
    trainable : bool
        Whether results will be differentiated with respect to the weights.
    """

    def __init__(self, resolution: Resolution, frame: MomentFrame, trainable: bool = False) -> None:
        self.model, self.frame, self.trainable = resolution.model, frame, trainable
        self.descriptor: DeepDescriptor = self.model.descriptor
        norm = self.descriptor.normalisation()
        self.norm = torch.repeat_interleave(norm, torch.tensor(frame.counts))[:, None, None]
        with torch.set_grad_enabled(trainable):
            parts = resolution.coefficients()
            self._coefficients = self._by_center(parts)
            sums = self._contract(frame.moments)
        self.sums = sums if trainable else sums.requires_grad_(True)  # (N, 4, M)
        with torch.enable_grad():
            self.energy = self._energy()
        self._slope: Tensor | None = None
        self._parts = parts

    @property
    def accurate(self) -> bool:
        """Whether the series of the embedding networks are long enough."""
        return remainder(self._parts) <= TOLERANCE

    def _by_center(self, parts: list[Tensor]) -> list[Tensor]:
        """Coefficients (T K, M) of all neighbours, one tensor per element of the centre that has its own."""
        n = self.descriptor.n_types
        return [torch.cat(parts[k : k + n]) for k in range(0, len(parts), n)]

    def _contract(self, moments: Tensor) -> Tensor:
        """Moments (N, 4, T K) times coefficients, (N, 4, M)."""
        if len(self._coefficients) == 1:
            return moments @ self._coefficients[0]
        parts = moments.split(self.frame.counts)
        return torch.cat([part @ c for part, c in zip(parts, self._coefficients, strict=True)])

    def _energy(self) -> Tensor:
        d, model = self.descriptor, self.model
        features = d.contract(self.sums.transpose(1, 2)).split(self.frame.counts)
        output = [net(own).sum() for net, own in zip(model.networks.networks, features, strict=True)]
        return torch.stack(output).sum() * model.energy_scale + self.frame.reference

    @property
    def slope(self) -> Tensor:
        """dE/d sums (N, 4, M)."""
        if self._slope is None:
            (self._slope,) = torch.autograd.grad(self.energy, self.sums, create_graph=self.trainable)
        return self._slope

    def touched(self, atoms: Tensor | None = None) -> list[Moments]:
        """Moments of the edges that begin or end at `atoms` (all edges if None), in one or two sets."""
        edges = self.frame.edges
        sets = [edges] if atoms is None else [edges.select(e) for e in self.frame.edges_of(atoms)]
        n_atoms, n_types = self.frame.n_atoms, self.descriptor.n_types
        return [Moments(some, n_atoms, n_types, self.frame.basis) for some in sets]

    @torch.no_grad()
    def edge_gradients(self, touched: Sequence[Moments]) -> list[Tensor]:
        """dE/d edge vector (E, 3), eV/Å, of the edges of each set."""
        slope = (self.slope / self.norm).split(self.frame.counts)
        coefficients = self._coefficients * (len(slope) // len(self._coefficients))
        gradient = torch.cat([part @ c.T for part, c in zip(slope, coefficients, strict=True)])
        return [moments.edges.vector_gradient(moments.row_gradient(gradient)) for moments in touched]

    def derivative(self, touched: Sequence[Moments], changes: Sequence[Tensor]) -> Tensor:
        """Derivative of the energy (0-dim) when the edge vectors of each set move along `changes` (E, 3)."""
        with torch.no_grad():
            parts = [m.change(m.edges.row_change(change)) for m, change in zip(touched, changes, strict=True)]
            total = torch.stack(parts).sum(0) / self.norm
        return (self.slope * self._contract(total)).sum()

    def forces(self, touched: Sequence[Moments], gradients: Sequence[Tensor]) -> Tensor:
        """Forces (N, 3), eV/Å, without the terms, from `edge_gradients`; right for atoms all of whose edges count."""
        total = torch.zeros((self.frame.n_atoms, 3), dtype=torch.float64)
        for moments, gradient in zip(touched, gradients, strict=True):
            edges = moments.edges
            total += forces_from_edges(gradient, edges.center, edges.neighbor, self.frame.n_atoms)
        return total

    def virial(self, everything: Sequence[Moments], gradients: Sequence[Tensor]) -> Tensor:
        """Virial (3, 3), eV, without the terms, from `edge_gradients` of all edges."""
        (moments,), (gradient,) = everything, gradients
        return -torch.einsum("ea,eb->ab", moments.edges.vectors, gradient)
