"""Labels turned into vectors: residuals, their Jacobian with respect to the weights, and their noise.

For a fixed descriptor every label is a sum over atoms s of either an atomic energy ``E_s`` or of its derivative
along a direction in feature space, ``v_s . dE_s/dx_s`` (a force component or a virial component). The rows of
the Jacobian are therefore gradients of such sums, written out in closed form for all rows at once.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from nnpkit.errors import InputError
from nnpkit.measure.closed_form import Tape, plain
from nnpkit.measure.divided import observer_of_part
from nnpkit.measure.frames import FrameStore
from nnpkit.measure.label_sums import (
    VIRIAL_COMPONENTS,
    Samples,
    Terms,
)
from nnpkit.measure.observables import OBSERVABLES, refuse_others
from nnpkit.measure.origins import energy_origin, force_origin, virial_origin
from nnpkit.measure.prepared_frame import Frame
from nnpkit.models.potential import forces_from_edges, virial_from_edges
from nnpkit.optim.measurement import KINDS, Measurement, reduced_variance

if TYPE_CHECKING:
    from nnpkit.measure.label_choice import Labels

__all__ = [
    "VIRIAL_COMPONENTS",
    "LossWeights",
    "Noise",
    "Observer",
    "Prefactors",
    "require_label",
    "signed_means",
    "signed_weights",
]

_COMPONENT = (
    25_000  # entries of the Jacobian of the features whose use costs what one force component by itself does
)


@dataclass(frozen=True)
class Noise:
    """Variance of the observation noise R of each kind of label.

    Either the accuracy aimed at (standard deviations in eV/atom for energies and virials, eV/Å for force
    components), or, with `learning_rate` set, the convention of Shao et al. (2021): a label of a group of n
    labels with weight c enters as ``sqrt(c/n) (label - prediction)`` with ``R = 1/learning_rate``, which is the
    same as a variance ``n / (learning_rate c)``; energies are then total energies.

    Everything about labels of a kind is multiplied by its factor and, with `divide_by_atoms`, divided by the number of
    atoms. That is nothing but other units, and matters only to a filter that does not take R from here
    (`KalmanSettings.rlekf`).
    """

    energy: float = 1e-3
    force: float = 0.05
    virial: float = 5e-3
    learning_rate: float | None = None
    energy_weight: float = 1.0
    force_weight: float = 1.0
    virial_weight: float = 1.0
    divide_by_atoms: bool = False
    energy_factor: float = 1.0
    force_factor: float = 1.0
    virial_factor: float = 1.0
    others: Mapping[str, float] = field(default_factory=dict, hash=False)
    """Standard deviations of other kinds of observables, in the units of their labels."""

    def scaled(self, measurement: Measurement, kind: str, n_atoms: int) -> Measurement:
        """The `measurement` of labels of one kind of one structure, in the units that are asked for."""
        factor = getattr(self, f"{kind}_factor", 1.0) / (n_atoms if self.divide_by_atoms else 1)
        if factor == 1.0:
            return measurement
        residual, jacobian, variance, origin = measurement
        if origin is not None:
            origin = origin._replace(unit=factor * origin.unit)
        return Measurement(factor * residual, factor * jacobian, factor**2 * variance, origin)

    def variance(self, kind: str, n_labels: int, n_atoms: int) -> float:
        """Variance of one label: of a total energy or virial component (eV²) or a force component (eV²/Å²)."""
        if self.learning_rate is not None:
            return n_labels / (self.learning_rate * getattr(self, f"{kind}_weight", 1.0))
        return float(_of_kind(self, kind) * (n_atoms if OBSERVABLES.get(kind).extensive else 1.0)) ** 2

    def of(self, kind: str, n_labels: int, group: int | None, n_atoms: int) -> Tensor:
        """Variance of each of so many labels of one kind of a structure; for `group` see `of_forces`."""
        if kind == "force":
            return self.of_forces(n_labels, group, n_atoms)
        return torch.full((n_labels,), self.variance(kind, n_labels, n_atoms), dtype=torch.float64)

    def of_forces(self, n_components: int, group: int | None, n_atoms: int) -> Tensor:
        """Variance of each of so many force components, or of the signed mean of every `group` of them.

        The latter is `nnpkit.optim.measurement.reduced_variance`; with a `learning_rate` the means are the labels.
        """
        sizes = (
            [1] * n_components if group is None else [len(s) for s in torch.arange(n_components).split(group)]
        )
        variance = torch.full((len(sizes),), self.variance("force", len(sizes), n_atoms), dtype=torch.float64)
        if group is None or self.learning_rate is not None:
            return variance
        parts = [torch.ones(size, dtype=torch.float64) for size in sizes]
        return variance * torch.stack([reduced_variance(part / len(part), part) for part in parts])


@dataclass(frozen=True)
class LossWeights:
    """Weights c of the L2 loss: ``sum over kinds of c * mean(error^2)``; `others` of further kinds of observables.

    `per_atom` divides errors of energies and virials by the number of atoms n, ``"square"`` divides their squares
    by n, which weights large and small structures like DeePMD-kit does.
    """

    energy: float = 1.0
    force: float = 1.0
    virial: float = 0.0
    per_atom: bool | Literal["square"] = True
    others: Mapping[str, float] = field(default_factory=dict, hash=False)

    def of(self, kind: str) -> float:
        """Weight of a kind of observables."""
        return _of_kind(self, kind)

    def divisor(self, n_atoms: int) -> float:
        """What errors of energies and virials of a structure are divided by."""
        return math.sqrt(n_atoms) if self.per_atom == "square" else n_atoms if self.per_atom else 1.0


def _of_kind(numbers: Noise | LossWeights, kind: str) -> float:
    """The number for a kind of observables, among the usual ones or the others."""
    if kind in KINDS:
        return float(getattr(numbers, kind))
    if kind not in numbers.others:
        raise InputError(
            f"no number for labels of kind {kind}", expected=f"{type(numbers).__name__}.others[{kind!r}]"
        )
    return float(numbers.others[kind])


@dataclass(frozen=True)
class Prefactors:
    """Loss weights that follow the learning rate, as DeePMD-kit's ``start_pref`` and ``limit_pref``.

    Each is ``limit + (start - limit) * ratio`` with the ratio of the present learning rate to the first one.
    """

    energy: tuple[float, float] = (0.02, 1.0)  # start, limit
    force: tuple[float, float] = (1000.0, 1.0)
    virial: tuple[float, float] = (0.0, 0.0)

    def at(self, ratio: float) -> LossWeights:
        """Weights when the learning rate has fallen to `ratio` of the first one."""

        def value(pair: tuple[float, float]) -> float:
            start, limit = pair
            return limit * (1.0 - ratio) + start * ratio

        return LossWeights(value(self.energy), value(self.force), value(self.virial), per_atom="square")


class Observer:
    """Measures the labels of a `FrameStore` with the model as it is now.

    Parameters
    ----------
    store : FrameStore
        Prepared structures.
    noise : Noise
        For `measure` (Kalman filters).
    weights : LossWeights
        For `loss` (gradient optimizers).
    structure_weights : sequence of float, optional
        Of the squared errors of each structure in `loss`; 1 by default.
    """

    energies_at_once = 512
    """Structures of which only the energy is used that are best evaluated together."""
    atoms_at_once = 256
    """Atoms of structures of which forces or virials are used that are best evaluated together."""

    def __init__(
        self,
        store: FrameStore,
        noise: Noise,
        weights: LossWeights,
        structure_weights: Sequence[float] | None = None,
    ) -> None:
        self.store, self.noise, self.weights = store, noise, weights
        self.structure_weights = structure_weights
        self.model = store.model
        self.parameters: list[Tensor] = list(self.model.networks.parameters())
        self.n_parameters = sum(p.numel() for p in self.parameters)

    def of_part(self, rank: int, size: int) -> Observer | None:
        """See `nnpkit.measure.contract.Measures`."""
        return observer_of_part(self, rank, size)

    def state_dict(self) -> dict[str, Tensor]:
        """Nothing: measurements depend on the weights alone."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore `state_dict`."""

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
            frame = self.store[index]
            components = None if labels.components is None else labels.components[position]
            components = None if components is None or len(components) == 0 else components
            terms = None
            if components is not None or labels.virial:
                terms = self.terms(frame, components, labels.virial)
                frame = replace(frame, described=terms.features)
            if labels.energy:
                parts.append(self.noise.scaled(self._energy(frame, index), "energy", frame.n_atoms))
            if components is not None and terms is not None and terms.forces is not None:
                forces = self._forces(frame, index, components, terms.forces, labels.group)
                parts.append(self.noise.scaled(forces, "force", frame.n_atoms))
            if terms is not None and terms.virial is not None:
                virial = self._virial(frame, index, terms.virial)
                parts.append(self.noise.scaled(virial, "virial", frame.n_atoms))
        return Measurement.joined(parts)

    def _energy(self, frame: Frame, index: int) -> Measurement:
        target = require_label(frame, "energy")
        value, jacobian = self._energy_rows(frame)
        terms = 0.0 if frame.terms is None else float(frame.terms.energy)
        variance = self.noise.variance("energy", 1, frame.n_atoms)
        origin = energy_origin(target - frame.reference, frame.n_atoms, index)
        return Measurement(
            target - frame.reference - terms - value,
            jacobian,
            torch.full((1,), variance, dtype=torch.float64),
            origin,
        )

    def _forces(
        self, frame: Frame, index: int, components: Tensor, samples: Samples, group: int | None
    ) -> Measurement:
        target = require_label(frame, "forces").reshape(-1)[components]
        value, jacobian = self._rows(frame, samples, len(components))
        terms = 0.0 if frame.terms is None else frame.terms.forces.reshape(-1)[components]
        residual = target - terms - value
        if group is not None:
            residual, jacobian = signed_means(residual, jacobian, group)
        vectors = require_label(frame, "forces")[components // 3]
        origin = None if group is not None else force_origin(vectors, index)
        noise = self.noise.of_forces(len(components), group, frame.n_atoms)
        return Measurement(residual, jacobian, noise, origin)

    def _virial(self, frame: Frame, structure: int, samples: Samples) -> Measurement:
        index = tuple(torch.tensor(axis) for axis in zip(*VIRIAL_COMPONENTS, strict=True))
        target = require_label(frame, "virial")[index]
        value, jacobian = self._rows(frame, samples, 6)
        terms = 0.0 if frame.terms is None else frame.terms.virial[0][index]
        variance = self.noise.variance("virial", 6, frame.n_atoms)
        origin = virial_origin(require_label(frame, "virial"), frame.n_atoms, structure)
        return Measurement(target - terms - value, jacobian, torch.full_like(target, variance), origin)

    def terms(self, frame: Frame, components: Tensor | None, virial: bool) -> Terms:
        """Terms of force components and of the virial as directions in the spaces of features."""
        return self.store.terms(frame, components, virial)

    def derivatives(self, frame: Frame, slope: Tensor) -> tuple[Tensor, Tensor]:
        """Forces (N, 3) and virial (3, 3) of an energy whose derivatives by the features are `slope` (N, D)."""
        gradient = self.store.edge_gradient(frame, slope)
        forces = forces_from_edges(gradient, frame.center, frame.neighbor, frame.n_atoms)
        return forces, virial_from_edges(gradient, frame.edge_vec, torch.zeros_like(frame.center), 1)[0]

    @torch.no_grad()
    def _energy_rows(self, frame: Frame) -> tuple[Tensor, Tensor]:
        """Sum (1,) of the outputs of the networks over the atoms, and its derivatives (1, P)."""
        value, parts = torch.zeros(1, dtype=torch.float64), []
        for t, network in enumerate(self.model.networks.networks):
            own = frame.features[frame.counted_types == t, : network.n_inputs]
            tape = Tape(plain(network), own)
            value += tape.outputs.sum()
            parts += tape.gradients(torch.ones(1, len(own), 1, dtype=torch.float64))
        scale = self.model.energy_scale
        return value * scale, torch.cat([part.reshape(1, -1) for part in parts], dim=1) * scale

    @torch.no_grad()
    def _rows(self, frame: Frame, samples: Samples, n_rows: int) -> tuple[Tensor, Tensor]:
        """Values (M,) and Jacobian (M, P) of the sums that `samples` describe."""
        values, parts = torch.zeros(n_rows, dtype=torch.float64), []
        counted = frame.counted_types
        types = counted[samples.atom]
        for t, network in enumerate(self.model.networks.networks):
            atoms = torch.nonzero(counted == t).squeeze(1)
            number = torch.zeros(frame.n_atoms, dtype=torch.int64)
            number[atoms] = torch.arange(len(atoms))
            mine = torch.nonzero(types == t).squeeze(1)
            row = samples.row[mine]
            counts = torch.bincount(row, minlength=n_rows)
            slot = torch.arange(len(mine)) - (torch.cumsum(counts, 0) - counts)[row]
            # Rows are filled up with the first atom, moved by nothing.
            shape = (n_rows, int(counts.max()))
            where = torch.zeros(shape, dtype=torch.int64)
            where[row, slot] = number[samples.atom[mine]]
            direction = torch.zeros(*shape, network.n_inputs, dtype=torch.float64)
            direction[row, slot] = samples.direction[mine, : network.n_inputs]
            tape = Tape(plain(network), frame.features[atoms, : network.n_inputs])
            tape.backward(torch.ones(len(atoms), 1, dtype=torch.float64))
            tangents = tape.tangents(where, direction.unsqueeze(2))
            values += tangents.outputs.sum((1, 2, 3))
            parts += tangents.gradients
        scale = self.model.energy_scale
        return values * scale, torch.cat([part.reshape(n_rows, -1) for part in parts], dim=1) * scale

    def loss(self, labels: Labels) -> Tensor:
        """L2 loss (0-dim) of `labels`, differentiable with respect to the weights; see `LossWeights`.

        All structures go through the networks in one pass.
        """
        refuse_others(labels)
        frames = [self.store[index] for index in labels.structures]
        given = self.structure_weights
        roots = [1.0 if given is None else math.sqrt(given[index]) for index in labels.structures]
        components = labels.components or [None] * len(frames)
        some = [c is not None and len(c) > 0 for c in components]
        features = torch.cat([frame.features for frame in frames])
        if labels.virial or any(some):
            features.requires_grad_(True)
        types = torch.cat([frame.types for frame in frames])
        output = self.model.networks(features, types) * self.model.energy_scale
        errors: dict[str, list[Tensor]] = {"energy": [], "force": [], "virial": []}
        if labels.energy:
            errors["energy"].append(self._energy_errors(frames, roots, output, types))
        if features.requires_grad:
            (slopes,) = torch.autograd.grad(output.sum(), features, create_graph=True)
            parts = slopes.split([frame.n_atoms for frame in frames])
            for frame, root, own, slope, there in zip(frames, roots, components, parts, some, strict=True):
                if labels.virial or there:
                    self._derivative_errors(frame, root, slope, own if there else None, labels.virial, errors)
        terms = [
            getattr(self.weights, kind) * torch.cat(parts).square().mean()
            for kind, parts in errors.items()
            if parts
        ]
        return torch.stack(terms).sum()

    def _energy_errors(
        self, frames: Sequence[Frame], roots: Sequence[float], output: Tensor, types: Tensor
    ) -> Tensor:
        """Errors (B,) of energies times `roots`, prediction minus label, from the `output` (N,) of the networks, eV."""
        reference = torch.tensor(self.model.reference_energies, dtype=torch.float64)[types]
        sizes = torch.tensor([frame.n_atoms for frame in frames])
        row = torch.repeat_interleave(torch.arange(len(frames)), sizes)
        labels = [
            require_label(f, "energy") - (0.0 if f.terms is None else float(f.terms.energy)) for f in frames
        ]
        errors = torch.zeros(len(frames), dtype=torch.float64).index_add(0, row, output + reference)
        errors = errors - torch.tensor(labels, dtype=torch.float64)
        divisors = [self.weights.divisor(f.n_atoms) / root for f, root in zip(frames, roots, strict=True)]
        return errors / torch.tensor(divisors, dtype=torch.float64)

    def _derivative_errors(
        self,
        frame: Frame,
        root: float,
        slope: Tensor,
        components: Tensor | None,
        virial: bool,
        errors: dict[str, list[Tensor]],
    ) -> None:
        """Append errors of forces and virial of one frame times `root`; `slope` (N, D) is dE by its features."""
        kept = frame.jacobian
        many = components is not None and (kept is None or kept.numel() < _COMPONENT * len(components))
        if virial or many:
            forces, whole = self.derivatives(frame, slope)
        if components is not None:
            if many:
                force = forces.reshape(-1)[components]
            else:
                samples = self.terms(frame, components, False).forces
                assert samples is not None
                terms = (slope[samples.atom] * samples.direction).sum(1)
                force = torch.zeros(len(components), dtype=torch.float64).index_add(0, samples.row, terms)
            terms = 0.0 if frame.terms is None else frame.terms.forces.reshape(-1)[components]
            error = force + terms - require_label(frame, "forces").reshape(-1)[components]
            errors["force"].append(root * error)
        if virial:
            index = tuple(torch.tensor(axis) for axis in zip(*VIRIAL_COMPONENTS, strict=True))
            value = 0.5 * (whole + whole.T)[index]
            terms = 0.0 if frame.terms is None else frame.terms.virial[0][index]
            error = value + terms - require_label(frame, "virial")[index]
            errors["virial"].append(root * error / self.weights.divisor(frame.n_atoms))


def signed_weights(residual: Tensor, group: int) -> Tensor:
    """Weights (M,) with which every `group` consecutive labels become one, the mean of the absolute `residual`.

    Predictions larger than their labels are taken with the opposite sign (Hu et al., AAAI 2023, algorithm 2). For the
    noise of the reduced labels see `Noise.of_forces`.
    """
    sizes = [len(part) for part in residual.split(group)]
    counts = torch.repeat_interleave(torch.tensor(sizes), torch.tensor(sizes))
    return torch.where(residual < 0.0, -1.0, 1.0).to(residual.dtype) / counts


def signed_means(residual: Tensor, jacobian: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """Labels (M,) and their rows (M, P) reduced to the signed means of every `group` of them; see `signed_weights`."""
    row = torch.arange(len(residual)) // group
    weights = residual.new_zeros((int(row[-1]) + 1, len(residual)))
    weights[row, torch.arange(len(residual))] = signed_weights(residual, group)
    return weights @ residual, weights @ jacobian


def require_label(frame: Any, label: str) -> Any:
    """Label of a prepared structure, or an error that says what to do about its absence."""
    value = getattr(frame, label)
    if value is None:
        raise InputError(
            f"the frame has no {'stress' if label == 'virial' else label}", where=frame.name,
            hint="remove the frame or choose a schedule that does not use this label",
        )  # fmt: skip
    return value
