"""From a configuration to the objects of a training: data, model, schedule, update."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from nnpkit.config.schema import Config
from nnpkit.config.schema_deep import DeepPotentialModel, FittingNetworks
from nnpkit.config.schema_model import AcsfModel, FunctionFile, SymmetryFunctionEntry
from nnpkit.config.schema_training import Ekf
from nnpkit.config.schema_training import EpochSchedule as EpochSettings
from nnpkit.config.schema_training import FullSchedule as FullSettings
from nnpkit.config.schema_training import GroupSchedule as GroupSettings
from nnpkit.config.schema_training import Lbfgs as LbfgsSettings
from nnpkit.data.checks import Finding, find_suspicious
from nnpkit.data.dataset import (
    elements_of,
    fit_reference_energies,
    load_dataset,
    reference_energy_note,
    split,
)  # fmt: skip
from nnpkit.data.statistics import data_statistics
from nnpkit.data.structure import Structure
from nnpkit.data.validation import require_elements
from nnpkit.deploy.runner_settings import parse_symmetry_function, read_settings, symmetry_functions
from nnpkit.errors import InputError
from nnpkit.models.acsf import SymmetryFunction
from nnpkit.models.acsf_defaults import default_functions
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.build import build_model, initialise
from nnpkit.models.deep_descriptor import DeepDescriptor
from nnpkit.models.prepare import data_statistics as feature_statistics
from nnpkit.models.prepare import environment_statistics, precondition, prune
from nnpkit.models.short_range import wall_distances
from nnpkit.optim.adam import Adam
from nnpkit.optim.kalman import KalmanOptimizer, KalmanSettings
from nnpkit.optim.lbfgs import Lbfgs
from nnpkit.optim.partition import Partition, layers_of, make_partition
from nnpkit.training.deep_store import MomentStore, Resolution
from nnpkit.training.direct import DirectObserver
from nnpkit.training.frames import FrameStore
from nnpkit.training.full_batch import FullBatchUpdate, FullSchedule
from nnpkit.training.group_schedule import GroupSchedule
from nnpkit.training.observations import LossWeights, Noise, Observer, Prefactors
from nnpkit.training.schedules import Available, EpochSchedule, PinnSchedule, Schedule
from nnpkit.training.trainer import Predicts, Split
from nnpkit.training.updates import GradientUpdate, KalmanUpdate, Measures, Update
from nnpkit.units import BOHR

__all__ = [
    "LoadedData",
    "covariance_partition",
    "load_data",
    "make_model",
    "make_schedule",
    "make_splits",
    "make_update",
]

_PRECONDITION_STRUCTURES = 200
_GROUP_ATOMS = 6


@dataclass
class LoadedData:
    """Structures of a training and what is known about them."""

    splits: dict[str, list[Structure]]  # train and perhaps test
    elements: list[str]
    statistics: dict[str, dict[str, Any]]  # of each split
    findings: list[Finding]
    notes: list[str] = field(default_factory=list)

    @property
    def train(self) -> list[Structure]:
        """Training structures."""
        return self.splits["train"]

    @property
    def min_distance(self) -> dict[str, float]:
        """Shortest distance, Å, of every pair of elements in the training structures."""
        return {pair: d["distance"] for pair, d in self.statistics["train"]["min_distance"].items()}


def load_data(config: Config) -> LoadedData:
    """Read, split and look at the data.

    Raises
    ------
    InputError
        For anything that cannot be used, and for suspicious frames if the configuration says so.
    """
    data = config.data
    arguments: dict[str, Any] = {
        "format": None if data.format == "auto" else data.format,
        "units": None if data.units == "auto" else data.units,
        "frames": data.frames,
        "keys": data.labels or None,
    }
    everything = load_dataset(data.train, **arguments)
    if data.test is not None:
        splits = {"train": everything, "test": load_dataset(data.test, **arguments)}
    else:
        train, test = split(everything, data.test_fraction, config.seed)
        splits = {"train": train, **({"test": test} if test else {})}
    structures = [structure for part in splits.values() for structure in part]
    elements = config.model.elements or elements_of(structures)
    require_elements(structures, elements)
    findings = [] if data.suspicious == "ignore" else find_suspicious(structures)
    if findings and data.suspicious == "error":
        raise InputError(
            f"{len(findings)} suspicious findings, the first: {findings[0].message}", where=findings[0].structure,
            hint="repair or remove these frames, or set data.suspicious=warn",
        )  # fmt: skip
    statistics = {name: data_statistics(part) for name, part in splits.items()}
    return LoadedData(splits, list(elements), statistics, findings)


def make_model(config: Config, data: LoadedData) -> tuple[AtomicModel, list[str]]:
    """Untrained model with its scaling and first weights, and a report of what was chosen and why."""
    settings = config.model
    reference, note = _reference_energies(config, data)
    wall = _wall(settings, data)
    common = {
        "kind": settings.kind,
        "elements": data.elements,
        "networks": _networks(settings, data.elements),
        "energy_scale": 1.0,
        "reference_energies": reference,
        "wall": wall,
    }
    labelled = [s for s in data.train if s.energy is not None]
    sample = labelled[:: max(1, len(labelled) // _PRECONDITION_STRUCTURES)]
    energies = [float(s.energy) for s in sample if s.energy is not None]
    if isinstance(settings, DeepPotentialModel):
        model, report = _deep_potential(settings, common, data)
        initialise(model, settings.network.initialisation, config.seed)
        if sample:
            precondition(model, sample, energies, stretch=False)
    else:
        model, report = _symmetry_functions(settings, common, data)
        initialise(model, settings.network.initialisation, config.seed)
        if settings.precondition and sample:
            precondition(model, sample, energies)
    ends = ", ".join(f"{pair} below {distance:.3f} Å" for pair, distance in wall.items())
    report += [f"short-range repulsion: {ends or 'none'}"] + ([note] if note else [])
    return model, report


def _symmetry_functions(
    settings: AcsfModel, common: Mapping[str, Any], data: LoadedData
) -> tuple[AtomicModel, list[str]]:
    """Model with scaled symmetry functions and undetermined weights, and where the functions come from."""
    functions, report = _functions(settings, data)
    spec = {
        **common,
        "cutoff_kind": settings.descriptor.cutoff_function,
        "cutoff_inner": settings.descriptor.cutoff_inner,
        "functions": [function.to_dict() for function in functions],
    }
    model = build_model(spec)
    scaling = settings.scaling
    statistics = feature_statistics(model.descriptor, data.elements, data.train)
    model.scaling.set(statistics, scaling.kind, scaling.lower, scaling.upper)
    return model, report


def _deep_potential(
    settings: DeepPotentialModel, common: Mapping[str, Any], data: LoadedData
) -> tuple[AtomicModel, list[str]]:
    """Deep Potential with the statistics of the data and undetermined weights, and a report of these."""
    d = settings.descriptor
    descriptor = {
        "cutoff": d.cutoff, "smooth_from": d.smooth_from, "cutoff_kind": d.cutoff_function,
        "embedding": d.embedding, "axis_neurons": d.axis_neurons, "activation": d.activation,
        "timestep": d.timestep, "one_side": d.type_one_side,
    }  # fmt: skip
    model = build_model({**common, "descriptor": descriptor})
    statistics = environment_statistics(model.descriptor, data.elements, data.train)
    model.descriptor.set(statistics)
    report = [
        f"{element}: " + ", ".join(f"{n:.1f} {e}" for e, n in zip(data.elements, row, strict=True))
        + " neighbours on average"
        for element, row in zip(data.elements, statistics.expected.tolist(), strict=True)
    ]  # fmt: skip
    return model, report


def _functions(settings: AcsfModel, data: LoadedData) -> tuple[list[SymmetryFunction], list[str]]:
    """Symmetry functions of the model, and where they come from."""
    d = settings.descriptor
    if d.functions == "auto":
        chosen, report = default_functions(
            data.elements, data.min_distance, cutoff=d.cutoff, angular_cutoff=d.angular_cutoff or d.cutoff,
            kind=d.cutoff_function, inner=d.cutoff_inner, radial=d.radial, zetas=d.zetas,
            angular_etas=d.angular_etas, wide=d.angular_kind == "wide",
        )  # fmt: skip
        kept, dropped = prune(
            data.elements, chosen, d.cutoff_function, d.cutoff_inner, data.train, d.minimum_range
        )
        return kept, report + dropped
    length = BOHR if d.units == "bohr" else 1.0
    where = "model.descriptor.functions"
    if isinstance(d.functions, FunctionFile):
        by_element = symmetry_functions(read_settings(d.functions.file))
        given = [f.in_angstrom(length) for functions in by_element.values() for f in functions]
    else:
        given = [
            parse_symmetry_function(f.replace("symfunction_short", "").split(), f"{where}.{n}").in_angstrom(length)
            if isinstance(f, str)
            else _function(f, d.cutoff, length)
            for n, f in enumerate(d.functions)
        ]  # fmt: skip
    known = set(data.elements)
    used = [f for f in given if {f.center, *f.neighbors} <= known]
    report = [f"{len(used)} symmetry functions as given"]
    if len(used) < len(given):
        report.append(f"{len(given) - len(used)} given functions are of elements that the data do not have")
    return used, report


def _function(entry: SymmetryFunctionEntry, cutoff: float, length: float) -> SymmetryFunction:
    """Symmetry function of a mapping whose lengths are in units of `length` Å; `cutoff` is in Å."""
    return SymmetryFunction(
        entry.kind, entry.center, tuple(entry.neighbors), cutoff if entry.cutoff is None else entry.cutoff * length,
        eta=entry.eta / length**2, shift=entry.shift * length, zeta=entry.zeta, lam=float(entry.lam),
    )  # fmt: skip


def _networks(settings: AcsfModel | DeepPotentialModel, elements: Sequence[str]) -> dict[str, Any]:
    network = settings.network
    if unknown := sorted(set(network.per_element) - set(elements)):
        raise InputError(
            f"settings for {unknown[0]}, which is no element of the model", where="model.network.per_element",
            expected=f"some of {', '.join(elements)}",
        )  # fmt: skip
    specs: dict[str, dict[str, Any]] = {}
    for element in elements:
        own = network.per_element.get(element)
        hidden = own.hidden if own is not None and own.hidden is not None else network.hidden
        activation = own.activation if own is not None and own.activation else network.activation
        if isinstance(network, FittingNetworks):
            specs[element] = {"hidden": hidden, "activation": activation, "timestep": network.timestep}
        else:
            specs[element] = {"hidden": hidden, "activations": [activation] * len(hidden) + ["linear"]}
    return specs


def _reference_energies(config: Config, data: LoadedData) -> tuple[dict[str, float], str | None]:
    """Reference energy of each element, eV, and what should be known about it."""
    given = config.data.reference_energies
    labelled = [s for s in data.train if s.energy is not None]
    if isinstance(given, Mapping):
        if missing := sorted(set(data.elements) - set(given)):
            raise InputError(f"no reference energy for {missing[0]}", where="data.reference_energies")
        return {element: given[element] for element in data.elements}, None
    if given == "none" or not labelled:
        return dict.fromkeys(data.elements, 0.0), None
    note = reference_energy_note(labelled, data.elements)
    return fit_reference_energies(labelled, data.elements), note


def _wall(settings: AcsfModel | DeepPotentialModel, data: LoadedData) -> dict[str, float]:
    """Distance, Å, below which each pair of elements is repelled."""
    if isinstance(settings.wall, dict):
        known = set(data.elements)
        return {pair: d for pair, d in settings.wall.items() if set(pair.split("-")) <= known}
    if settings.wall == "on":
        return data.min_distance
    return wall_distances(data.min_distance) if settings.wall == "auto" else {}


def make_schedule(config: Config, structures: Sequence[Structure]) -> Schedule:
    """Schedule of the training structures."""
    settings = config.training.schedule
    available = _available(structures)
    seed = int(np.random.SeedSequence([config.seed, 1]).generate_state(1)[0])
    if isinstance(settings, EpochSettings | FullSettings):
        forces = None if settings.forces == "all" else int(settings.forces)
    if isinstance(settings, FullSettings):
        labels = (settings.energy, forces, settings.virial)
        return FullSchedule(available, seed, *labels, settings.steps_per_epoch)
    if isinstance(settings, EpochSettings):
        return EpochSchedule(available, seed, settings.batch_size, settings.energy, forces, settings.virial)
    if isinstance(settings, GroupSettings):
        smallest = min((a.components // 3 for a in available if a.components), default=_GROUP_ATOMS)
        return GroupSchedule(
            available, seed, settings.batch_size, settings.energy, settings.virial,
            settings.group_atoms or min(_GROUP_ATOMS, smallest),
            None if settings.groups == "all" else settings.groups, settings.reduction == "signed_mean",
            settings.joint_from, settings.energy_first,
        )  # fmt: skip
    return PinnSchedule(
        available, seed, settings.energy_probability, settings.force_labels, settings.steps_per_epoch
    )


def _available(structures: Sequence[Structure]) -> list[Available]:
    return [
        Available(
            s.energy is not None, 0 if s.forces is None else 3 * s.n_atoms, s.stress is not None, s.name
        )
        for s in structures
    ]


def make_splits(
    model: AtomicModel,
    parts: Mapping[str, Sequence[Structure]],
    budget: float,
    progress: Callable[[], None] | None = None,
) -> dict[str, Split]:
    """Prepared structures of every part, which share `budget` bytes; the first has the first call on them."""
    splits: dict[str, Split] = {}
    everything = [structure for part in parts.values() for structure in part]
    resolution = Resolution(model, everything) if isinstance(model.descriptor, DeepDescriptor) else None
    for name, part in parts.items():
        structures = list(part)
        if resolution is None:
            store: FrameStore | MomentStore = FrameStore(model, structures, budget, progress)
        else:
            store = MomentStore(resolution, structures, budget, progress)
        budget -= store.kept_bytes
        splits[name] = Split(structures, store)
    return splits


def covariance_partition(optimizer: Ekf, model: AtomicModel) -> Partition:
    """Blocks of the covariance of the weights of `model`."""
    layers = layers_of((name, parameter.numel()) for name, parameter in model.named_parameters())
    return make_partition(optimizer.partition, layers, optimizer.block_size)


def make_update(config: Config, store: Predicts, n_updates: int) -> Update:
    """Update of the model of `store` for a training of `n_updates`."""
    weights, optimizer = config.training.weights, config.training.optimizer
    loss = LossWeights(**weights.model_dump())
    noise = Noise()
    if isinstance(optimizer, Ekf):
        noise = Noise(
            **optimizer.noise.model_dump(), learning_rate=optimizer.learning_rate,
            energy_weight=weights.energy, force_weight=weights.force, virial_weight=weights.virial,
            divide_by_atoms=optimizer.divide_by_atoms,
        )  # fmt: skip
    if isinstance(store, MomentStore):
        observer: Measures = DirectObserver(store, noise, loss)
    elif isinstance(store, FrameStore):
        observer = Observer(store, noise, loss)
    else:
        raise TypeError(f"nothing measures the labels of a {type(store).__name__}")
    if isinstance(optimizer, Ekf):
        settings = KalmanSettings(**optimizer.model_dump(include=set(asdict(KalmanSettings()))))
        return KalmanUpdate(KalmanOptimizer(covariance_partition(optimizer, store.model), settings), observer)
    if isinstance(optimizer, LbfgsSettings):
        lbfgs = Lbfgs(optimizer.history, optimizer.max_evaluations)
        return FullBatchUpdate(lbfgs, observer, _available(store.structures))
    import torch

    kinds: dict[str, Callable[..., torch.optim.Optimizer]] = {"tensorflow": Adam, "torch": torch.optim.Adam}
    adam = kinds[optimizer.epsilon_convention](
        observer.parameters,
        lr=optimizer.learning_rate, betas=tuple(optimizer.betas), eps=optimizer.epsilon,
    )  # fmt: skip
    decay, steps, last = optimizer.decay_factor, optimizer.decay_steps, optimizer.final_learning_rate
    if last is not None:
        steps = min(steps, max(1, n_updates // 100))  # at least a hundred steps down
        decay = (last / optimizer.learning_rate) ** (steps / max(1, n_updates))
    given = optimizer.prefactors
    prefactors = None
    if given is not None:
        energy, force, virial = ((pair[0], pair[1]) for pair in (given.energy, given.force, given.virial))
        prefactors = Prefactors(energy, force, virial)
    return GradientUpdate(adam, observer, optimizer.gradient_clip, decay, steps, prefactors)
