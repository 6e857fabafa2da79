"""Structures prepared for training: scaled features, their derivatives, and labels.

Symmetry functions have no trainable parameters, so features x and derivatives dx/d(edge vector) of a structure
never change during training. They are computed once and kept if they fit the memory budget; otherwise the
derivatives are computed anew at each use. Features and edges are kept, packed, as long as they fit a budget of their
own; structures beyond it are prepared anew at each use, so that memory does not follow their number. Structures of
which only the energy is wanted need no derivatives.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Container, Iterator, Sequence

import torch
from torch import Tensor, nn

from nnpkit.data.graph import Graph, build_graph, edge_centers, edge_vectors
from nnpkit.data.store.stored_frames import joined_frames, select_frames
from nnpkit.data.structure import Structure
from nnpkit.measure.ahead import Ahead
from nnpkit.measure.arena import Arena
from nnpkit.measure.label_sums import Samples, Terms, force_samples, samples_of_all, virial_samples
from nnpkit.measure.packed_frames import PackedFrame
from nnpkit.measure.prepared_frame import Frame, Sites
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.descriptor import ChangesAlong, EdgeJacobian
from nnpkit.models.potential import Prediction, forces_from_edges, virial_from_edges

__all__ = ["EDGE_BUDGET", "FrameStore", "structure_terms"]

EDGE_BUDGET = 600_000_000
"""Bytes that the features and edges of the structures of one set may take."""

_ATOMS_PER_CHUNK = 128


def structure_terms(
    terms: nn.Module | None,
    structure: Structure,
    elements: Sequence[str],
    edges: tuple[Graph, Tensor, Tensor] | None = None,
) -> Prediction | None:
    """Energy, forces and virial of the `terms` of a model, which no training changes; None if it has none.

    Parameters
    ----------
    elements : sequence of str
        Elements of the model's type indices.
    edges : tuple, optional
        Graph, centres and vectors, if they reach as far as the terms; else neighbours are looked for.
    """
    if terms is None:
        return None
    if edges is None:
        graph = build_graph(structure, elements, terms.cutoff)
        edges = graph, edge_centers(graph.offsets), edge_vectors(graph)
    graph, center, vectors = edges
    near = torch.nonzero(vectors.norm(dim=1) < terms.cutoff).squeeze(1)
    n = len(graph.types)
    if len(near) == 0:
        zero = torch.zeros(n, dtype=torch.float64)
        return Prediction(zero.new_zeros(1), zero, zero.new_zeros(n, 3), zero.new_zeros(1, 3, 3))
    own = torch.bincount(center[near], minlength=n)
    short = graph._replace(
        neighbor=graph.neighbor[near], shifts=graph.shifts[near],
        offsets=torch.cat([own.new_zeros(1), torch.cumsum(own, 0)]),
    )  # fmt: skip
    with torch.enable_grad():
        return _terms_of_edges(terms, short, center[near], vectors[near])


def _terms_of_edges(terms: nn.Module, graph: Graph, center: Tensor, edge_vec: Tensor) -> Prediction:
    vectors = edge_vec.clone().requires_grad_(True)
    energy = terms(vectors, graph.types[graph.neighbor], graph.offsets, graph.types)
    (gradient,) = torch.autograd.grad(energy.sum(), vectors)
    return Prediction(
        energy.detach().sum().reshape(1),
        energy.detach(),
        forces_from_edges(gradient, center, graph.neighbor, len(graph.types)),
        virial_from_edges(gradient, edge_vec, torch.zeros_like(center), 1),
    )


class FrameStore:
    """The prepared structures of one data set.

    Parameters
    ----------
    model : AtomicModel
        A model with a descriptor that has a `jacobian`, its scaling already set.
    structures : sequence of Structure
        Structures with labels; any label may be missing.
    memory_budget : float
        Bytes that kept derivatives may take; beyond it they are recomputed at each use. `terms` of a
        descriptor that says itself what labels are made of (`nnpkit.models.descriptor.ChangesAlong`) need none.
    progress : callable, optional
        Called after each prepared structure.
    energies : sequence of Structure
        More structures, behind the others, of which only the energy will be asked.
    """

    def __init__(
        self,
        model: AtomicModel,
        structures: Sequence[Structure],
        memory_budget: float,
        progress: Callable[[], None] | None = None,
        energies: Sequence[Structure] = (),
    ) -> None:
        self.model = model
        self.descriptor = model.descriptor.fast()
        self.memory_budget = memory_budget
        self.kept_bytes = 0
        self.kept: dict[int, Frame | PackedFrame] = {}
        self.ahead = self._ahead()
        self.structures = joined_frames([structures, energies])
        self.complete: Container[int] = range(len(structures))  # of which more than the energy is asked
        left, arena = EDGE_BUDGET, Arena()
        for index in range(len(self.structures)):
            if left > 0:
                frame = self._make(index, keep=True)
                frame.described = frame.features
                kept = _packed(frame, arena)
                left -= kept.n_bytes
                if left >= 0 or _has_derivatives(kept):
                    self.kept[index] = kept
            if progress is not None:
                progress()

    def __len__(self) -> int:
        return len(self.structures)

    def __getitem__(self, index: int) -> Frame:
        kept = self.kept.get(index)
        return kept if isinstance(kept, Frame) else self.ahead.get(index)

    def _ahead(self) -> Ahead[Frame]:
        self._derivatives_used = False  # of structures that are prepared at each use
        return Ahead(self._made, lambda index: isinstance(self.kept.get(index), Frame))

    def _made(self, index: int, for_update: bool) -> Frame:
        """A structure that is not kept whole; with derivatives if updates turn out to need them."""
        kept = self.kept.get(index)
        frame = kept.unpacked() if isinstance(kept, PackedFrame) else self._make(index, keep=False)
        if not isinstance(self.descriptor, ChangesAlong):  # else an update has features beside what it needs
            frame.described = frame.features
        if for_update and self._derivatives_used:
            self._compute(frame)
        return frame

    def _make(self, index: int, keep: bool) -> Frame:
        structure = self.structures[index]
        return self._prepare(structure, keep) if index in self.complete else self._prepare_energy(structure)

    def view(self, model: AtomicModel, indices: Sequence[int] | None = None) -> FrameStore:
        """The same structures, or those with `indices`, for another `model` of this descriptor and scaling."""
        other = copy.copy(self)
        other.model = model
        if indices is not None:
            other.kept = {new: self.kept[old] for new, old in enumerate(indices) if old in self.kept}
            other.structures = select_frames(self.structures, indices)
            other.complete = {new for new, old in enumerate(indices) if old in self.complete}
        other.ahead = other._ahead()
        return other

    @property
    def n_kept(self) -> int:
        """Number of structures whose derivatives are kept."""
        return sum(map(_has_derivatives, self.kept.values()))

    @torch.no_grad()
    def _prepare(self, structure: Structure, keep: bool) -> Frame:
        """A frame; with derivatives if it is to be kept and they fit the budget."""
        graph = build_graph(structure, self.model.elements, self.descriptor.cutoff)
        edge_vec = edge_vectors(graph)
        size = len(edge_vec) * max(self.descriptor.n_features) * 3 * 8
        features = jacobian = None
        if keep and self.kept_bytes + size <= self.memory_budget:
            features, jacobian = self._describe(graph.types, graph.neighbor, graph.offsets, edge_vec)
            self.kept_bytes += size
        center = edge_centers(graph.offsets)
        reaching = (graph, center, edge_vec) if self.model.cutoff == self.descriptor.cutoff else None
        return Frame(
            name=structure.name,
            types=graph.types,
            center=center,
            neighbor=graph.neighbor,
            edge_vec=edge_vec,
            described=features,
            jacobian=jacobian,
            terms=structure_terms(self.model.terms, structure, self.model.elements, reaching),
            reference=self._reference(graph.types),
            energy=structure.energy,
            forces=None if structure.forces is None else torch.as_tensor(structure.forces),
            virial=None if structure.stress is None else torch.as_tensor(structure.virial),
            counted=slice(None),
            sites=Sites(graph.positions, graph.cells[0], graph.shifts),
            describe=self.features_of,
        )

    @torch.no_grad()
    def _prepare_energy(self, structure: Structure) -> Frame:
        """A frame without edges."""
        graph = build_graph(structure, self.model.elements, self.descriptor.cutoff)
        edge_vec = edge_vectors(graph)
        no_edges, none = torch.zeros(0, dtype=torch.int64), torch.zeros(0, 3, dtype=torch.float64)
        terms = structure_terms(self.model.terms, structure, self.model.elements)
        if terms is not None:
            terms = terms._replace(forces=terms.forces * 0.0, virial=terms.virial * 0.0)
        return Frame(
            structure.name, graph.types, no_edges, no_edges, none,
            self._features(graph.types, graph.neighbor, graph.offsets, edge_vec),
            none.new_zeros(0, max(self.descriptor.n_features), 3), terms, self._reference(graph.types),
            structure.energy, None, None, slice(None),
        )  # fmt: skip

    def _reference(self, types: Tensor) -> float:
        """Reference energies of atoms, eV."""
        return float(sum(self.model.reference_energies[t] for t in types.tolist()))

    @torch.no_grad()
    def features_of(self, frame: Frame) -> Tensor:
        """Scaled features (N, D) of a frame."""
        return self._features(frame.types, frame.neighbor, frame.offsets(), frame.edge_vec)

    def _features(self, types: Tensor, neighbor: Tensor, offsets: Tensor, edge_vec: Tensor) -> Tensor:
        """Scaled features (N, D), a few atoms at a time."""
        parts = [
            self.model.scaling(self.descriptor(*arguments), arguments[3])
            for arguments in _chunks(types, neighbor, offsets, edge_vec)
        ]
        return torch.cat(parts)

    def _describe(
        self, types: Tensor, neighbor: Tensor, offsets: Tensor, edge_vec: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Scaled features and their derivatives, a few atoms at a time."""
        features, jacobian = [], self._room(edge_vec)
        first = 0
        for arguments in _chunks(types, neighbor, offsets, edge_vec):
            raw, derivative = self.descriptor.jacobian(*arguments)
            features.append(self.model.scaling(raw, arguments[3]))
            first = self._scale(derivative, arguments[3], jacobian, first)
        return torch.cat(features), jacobian

    def _room(self, edge_vec: Tensor) -> Tensor:
        """For derivatives (E, D, 3)."""
        return edge_vec.new_empty(len(edge_vec), self.model.scaling.factor.shape[1], 3)

    def _scale(self, derivative: EdgeJacobian, types: Tensor, jacobian: Tensor, first: int) -> int:
        """Put derivatives of scaled features into `jacobian` from edge `first` on; where the next ones belong.

        Three times the same factor in a row is read faster than one that is repeated.
        """
        factor = self.model.scaling.factor.repeat_interleave(3, dim=1)
        own = factor[0] if len(factor) == 1 else factor.index_select(0, types[derivative.center])
        last = first + len(derivative.values)
        torch.mul(derivative.values.flatten(1), own, out=jacobian[first:last].view(-1, factor.shape[1]))
        return last

    @torch.no_grad()
    def terms(self, frame: Frame, components: Tensor | None, virial: bool) -> Terms:
        """What force `components` (flat indices into (N, 3)) and the virial of a frame are made of."""
        if not isinstance(self.descriptor, ChangesAlong):
            jacobian = self.jacobian(frame)
            forces = None if components is None else force_samples(frame, jacobian, components)
            return Terms(frame.features, forces, virial_samples(frame, jacobian) if virial else None)
        wanted = frame.neighbor[:0] if components is None else components
        found = self.descriptor.changes(
            frame.edge_vec, frame.neighbor, frame.offsets(), frame.types, wanted, virial,
            self.model.scaling.factor,
        )  # fmt: skip
        return Terms(
            self.model.scaling(found.features, frame.types),
            None if components is None else Samples(found.atom, found.change, found.row),
            None if found.virial is None else samples_of_all(found.virial),
        )

    def jacobian(self, frame: Frame) -> Tensor:
        """Derivatives (E, D, 3) of a frame's scaled features, kept or computed once for the present use."""
        if frame.jacobian is not None:
            return frame.jacobian
        self._derivatives_used |= frame.counted == slice(None)  # parts of structures are not prepared ahead
        return self._compute(frame)

    @torch.no_grad()
    def _compute(self, frame: Frame) -> Tensor:
        if frame.computed is None:
            jacobian, first = self._room(frame.edge_vec), 0
            for arguments in _chunks(frame.types, frame.neighbor, frame.offsets(), frame.edge_vec):
                derivative = self.descriptor.derivatives(*arguments)
                first = self._scale(derivative, arguments[3], jacobian, first)
            frame.computed = jacobian
        return frame.computed

    def energy_of(self, frame: Frame, features: Tensor) -> Tensor:
        """Total energy (0-dim, eV) of a frame for its scaled `features`, differentiable, terms included."""
        output = self.model.networks(features, frame.types).sum() * self.model.energy_scale
        reference = sum(self.model.reference_energies[t] for t in frame.types.tolist())
        return output + reference + (0.0 if frame.terms is None else float(frame.terms.energy))

    def predict(self, index: int) -> Prediction:
        """Prediction of the model, as it is now, for one structure (B = 1; atomic energies without parts).

        Of a structure of which only the energy is wanted, forces and virial are zero.
        """
        frame = self[index]
        features = frame.features.clone().requires_grad_(True)
        energy = self.energy_of(frame, features)
        (slope,) = torch.autograd.grad(energy, features)
        edge_gradient = self.edge_gradient(frame, slope)
        forces = forces_from_edges(edge_gradient, frame.center, frame.neighbor, frame.n_atoms)
        virial = virial_from_edges(edge_gradient, frame.edge_vec, torch.zeros_like(frame.center), 1)
        if frame.terms is not None:
            forces, virial = forces + frame.terms.forces, virial + frame.terms.virial
        return Prediction(energy.detach().reshape(1), slope.new_zeros(0), forces, virial)

    def edge_gradient(self, frame: Frame, slope: Tensor) -> Tensor:
        """Derivative (E, 3) of a frame's energy by the edge vectors, from that (N, D) by the scaled features.

        Differentiable with respect to `slope`.
        """
        if frame.jacobian is not None:
            return torch.einsum("ed,edx->ex", slope[frame.center], frame.jacobian)
        raw, gradients, first = slope * self.model.scaling.factor[frame.types], [slope.new_zeros(0, 3)], 0
        for arguments in _chunks(frame.types, frame.neighbor, frame.offsets(), frame.edge_vec):
            last = first + len(arguments[3])
            gradients.append(self.descriptor.vjp(raw[first:last], *arguments))
            first = last
        return torch.cat(gradients)


def _packed(frame: Frame, arena: Arena) -> Frame | PackedFrame:
    """How a frame is kept: as it is if it has derivatives, which take ten times the memory of all else, or packed."""
    sites = frame.sites
    frame.sites = frame.computed = frame.describe = None
    return frame if frame.jacobian is not None or sites is None else PackedFrame.of(frame, sites, arena.keep)


def _has_derivatives(kept: Frame | PackedFrame) -> bool:
    return isinstance(kept, Frame) and kept.jacobian is not None


def _chunks(
    types: Tensor, neighbor: Tensor, offsets: Tensor, edge_vec: Tensor
) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Arguments of a descriptor for a few atoms at a time."""
    if len(types) <= _ATOMS_PER_CHUNK:
        yield edge_vec, types[neighbor], offsets, types
        return
    for start in range(0, len(types), _ATOMS_PER_CHUNK):
        stop = min(start + _ATOMS_PER_CHUNK, len(types))
        first, last = int(offsets[start]), int(offsets[stop])
        own = offsets[start : stop + 1] - first
        yield edge_vec[first:last], types[neighbor[first:last]], own, types[start:stop]
