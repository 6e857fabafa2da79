"""From a configuration to the objects of a training: data, model, schedule, update."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnpkit.config.schema import Config
from nnpkit.config.schema_forces import SubsetForces, TaylorForces
from nnpkit.config.schema_schedules import AdaptiveSchedule as AdaptiveSettings
from nnpkit.config.schema_schedules import EpochSchedule as EpochSettings
from nnpkit.config.schema_schedules import FullSchedule as FullSettings
from nnpkit.config.schema_schedules import GroupSchedule as GroupSettings
from nnpkit.data.checks.suspicious import Finding
from nnpkit.data.dataset import elements_of
from nnpkit.data.groups import Grouping
from nnpkit.data.statistics import data_statistics
from nnpkit.data.store.frame_sample import findings_among
from nnpkit.data.store.stored_frames import joined_frames, select_frames
from nnpkit.data.structure import Structure
from nnpkit.data.taylor import TaylorRules, taylor_structures
from nnpkit.data.validation import require_elements
from nnpkit.deploy.baseline import make_baseline, subtract
from nnpkit.errors import InputError
from nnpkit.families.registered import family_of
from nnpkit.measure.contract import Measures, Predicts
from nnpkit.measure.label_choice import Available
from nnpkit.measure.observations import LossWeights, Noise
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.parallel import ALONE, Ranks
from nnpkit.training.contract import UpdateTask
from nnpkit.training.frozen import count_free
from nnpkit.training.full_batch import FullSchedule
from nnpkit.training.model_errors import Split
from nnpkit.training.registered import OPTIMIZERS
from nnpkit.training.ridge import Ridge
from nnpkit.training.schedules.adaptive import AdaptiveSchedule, Selection
from nnpkit.training.schedules.current_errors import StoreJudge
from nnpkit.training.schedules.force_groups import GroupSchedule
from nnpkit.training.schedules.random_order import EpochSchedule, PinnSchedule, Schedule
from nnpkit.training.schedules.sampling import Sampler
from nnpkit.training.updates import Update
from nnpkit.workflow.data_sets import (
    read_sets,
    require_trained_elements,
    without_outliers,
    without_unlearnt_atoms,
)
from nnpkit.workflow.devices import covariance_device
from nnpkit.workflow.grouping import groups_of, make_sampler, weights_of_structures
from nnpkit.workflow.learned_labels import force_components, largest_cutoff, learns_virials, ridge_strength

__all__ = [
    "LoadedData",
    "connect",
    "frozen_of",
    "load_data",
    "make_schedule",
    "make_splits",
    "make_update",
]

_FAR = 8.0
"""Å; a cutoff that follows from the data is no larger."""


@dataclass
class LoadedData:
    """Structures of a training and what is known about them."""

    splits: dict[str, Sequence[Structure]]  # train and perhaps validation and test
    elements: list[str]
    statistics: dict[str, dict[str, Any]]  # of each split
    findings: list[Finding]
    notes: list[str] = field(default_factory=list)
    additional: list[Structure] = field(default_factory=list)  # of which only the energy is learnt
    parents: list[int] = field(default_factory=list)  # index of the training structure of each of these
    baseline: Any = None  # what the labels are less of, see `nnpkit.deploy.baseline`
    rule: dict[str, Any] = field(
        default_factory=dict
    )  # how the sets came about, see `nnpkit.workflow.data_sets`
    grouping: Grouping | None = None  # what names the groups of structures
    undecided: frozenset[str] = (
        frozenset()
    )  # names of validation structures that do not choose the best epoch

    @property
    def train(self) -> Sequence[Structure]:
        """Training structures."""
        return self.splits["train"]

    @property
    def watched(self) -> dict[str, Sequence[Structure]]:
        """What a training sees: all but the test structures, and those of `undecided`."""
        some = self.splits.get("validation", [])
        if self.undecided:
            some = select_frames(some, [k for k, s in enumerate(some) if s.name not in self.undecided])
        return {"train": self.train, **({"validation": some} if len(some) else {})}

    @property
    def learnt(self) -> Sequence[Structure]:
        """Training structures and, behind them, the additional ones."""
        return joined_frames([self.train, self.additional])

    @property
    def groups(self) -> list[str] | None:
        """Group of each learnt structure; None without groups."""
        return self.names(self.learnt)

    def names(self, structures: Sequence[Structure]) -> list[str] | None:
        """Group of each of these structures; None without groups."""
        return None if self.grouping is None else self.grouping.names(structures)

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
    data, sets = config.data, read_sets(config)
    splits, notes = sets.splits, sets.notes
    baseline = None
    if data.baseline is not None:
        if config.committee is not None and data.baseline.kind == "model":
            raise InputError("a committee has no potential as its baseline", where="data.baseline")
        baseline = make_baseline(data.baseline.model_dump())
        for name, part in splits.items():
            splits[name], found = subtract(part, baseline)
            notes += [f"{name}: {note}" for note in found]
    structures = joined_frames(splits.values())
    require_trained_elements(splits)
    elements = config.model.elements or elements_of(splits["train"])
    require_elements(structures, elements)
    findings = [] if data.suspicious == "ignore" else findings_among(structures, largest_cutoff(config))
    if findings and data.suspicious == "error":
        raise InputError(
            f"{len(findings)} suspicious findings, the first: {findings[0].message}", where=findings[0].structure,
            hint="repair or remove these frames, or set data.suspicious=warn",
        )  # fmt: skip
    charges = config.model.charges
    learns = charges is not None and charges.generation != "latent"
    if (n_charged := sum(s.charges is not None for s in structures)) and not learns:
        notes.append(f"{n_charged} structures have charges of atoms, which this potential does not learn")
    validation = splits.get("validation", [])
    undecided, warnings = without_outliers(validation, structures, findings)
    alone, more = without_unlearnt_atoms(validation, splits["train"], max(_FAR, largest_cutoff(config)))
    undecided, notes = undecided | alone, [*notes, *warnings, *more]
    grouping, said = groups_of(config, splits)
    statistics = {name: data_statistics(part) for name, part in splits.items()}
    loaded = LoadedData(
        splits, list(elements), statistics, findings, [*notes, *said], baseline=baseline, rule=sets.rule,
        grouping=grouping, undecided=undecided,
    )  # fmt: skip
    if isinstance(config.training.force_training, TaylorForces):
        _expand(loaded, config.training.force_training, config.seed)
    return loaded


def _expand(data: LoadedData, settings: TaylorForces, seed: int) -> None:
    """Add displaced copies of the training structures."""
    usual = {"cartesian": 0.03, "random": 0.01}[settings.strategy]
    length = usual if settings.displacement is None else settings.displacement
    rules = TaylorRules(settings.strategy, settings.multiple, length, settings.min_force)
    own_seed = int(np.random.SeedSequence([seed, 4]).generate_state(1)[0])
    found = taylor_structures(data.train, rules, own_seed)
    data.additional, data.parents = found.structures, found.parents
    data.notes += found.report


def make_schedule(
    config: Config, structures: Sequence[Structure], groups: Sequence[str] | None = None
) -> Schedule:
    """Schedule of the training structures, additional ones included, and of the group of each where there are any."""
    settings, forces = config.training.schedule, config.training.force_training
    without = forces.kind in ("taylor", "none")
    available = [a._replace(components=0) if without else a for a in _available(structures)]
    seed = int(np.random.SeedSequence([config.seed, 1]).generate_state(1)[0])
    virial = learns_virials(config, structures)
    sampler = make_sampler(config, groups)
    if isinstance(settings, EpochSettings | FullSettings):
        wanted: int | float | None = force_components(config, structures)
        if isinstance(forces, SubsetForces):
            wanted = float(forces.fraction)
        labels = (settings.energy, 0 if without else wanted, virial)
        if isinstance(settings, FullSettings):
            return FullSchedule(available, seed, *labels, settings.steps_per_epoch)
        largest = isinstance(forces, SubsetForces) and forces.select == "error"
        return EpochSchedule(available, seed, settings.batch_size, *labels, largest, sampler)
    if isinstance(settings, AdaptiveSettings):
        return _adaptive_schedule(settings, available, seed, without, sampler)
    # chosen for a Deep Potential, and nothing to make groups of
    if settings == GroupSettings() and not any(a.components for a in available):
        return EpochSchedule(available, seed, 1, True, 0, virial, False, sampler)
    if isinstance(settings, GroupSettings):
        return GroupSchedule(
            available, seed, settings.batch_size, settings.energy, virial, settings.group_atoms,
            None if settings.groups == "all" else settings.groups, settings.reduction == "signed_mean",
            settings.joint_from, settings.energy_first, sampler,
        )  # fmt: skip
    probability = 1.0 if without else settings.energy_probability
    steps = settings.steps_per_epoch
    return PinnSchedule(available, seed, probability, settings.force_labels, steps, sampler)


def _adaptive_schedule(
    settings: AdaptiveSettings,
    available: Sequence[Available],
    seed: int,
    without: bool,
    sampler: Sampler | None,
) -> AdaptiveSchedule:
    energy, force = settings.energy_threshold, None if without else settings.force_threshold
    return AdaptiveSchedule(
        available, seed,
        None if energy is None else Selection(energy, settings.energy_group),
        None if force is None else Selection(force, settings.force_group),
        settings.force_fraction, settings.trials, settings.repeat_energy, sampler,
    )  # fmt: skip


def connect(schedule: Schedule, store: Predicts) -> None:
    """Let a schedule that looks at errors before it chooses see those of the structures in `store`."""
    if isinstance(schedule, EpochSchedule | AdaptiveSchedule):
        schedule.judge = StoreJudge(store, store.structures)


def _available(structures: Sequence[Structure]) -> list[Available]:
    return [
        Available(
            s.energy is not None,
            0 if s.forces is None else 3 * s.n_atoms,
            s.stress is not None,
            s.name,
            s.n_atoms,
        )
        for s in structures
    ]


def make_splits(
    model: AtomicModel,
    parts: Mapping[str, Sequence[Structure]],
    budget: float,
    progress: Callable[[], None] | None = None,
    additional: Sequence[Structure] = (),
    grouping: Grouping | None = None,
) -> dict[str, Split]:
    """Prepared structures of every part, which share `budget` bytes; the first has the first call on them.

    Behind those of the part ``train`` its store has the `additional` ones, of which only the energy is learnt.
    `grouping` names the group of each.
    """
    splits: dict[str, Split] = {}
    everything = joined_frames([*parts.values(), additional])
    prepare = family_of(model.spec).preparation(model, everything)
    for name, part in parts.items():
        store = prepare(part, budget, progress, list(additional) if name == "train" else [])
        budget -= store.kept_bytes
        splits[name] = Split(part, store, None if grouping is None else grouping.names(part))
    return splits


def frozen_of(config: Config) -> list[int | str]:
    """What a training leaves as it is, as `nnpkit.training.frozen.frozen_names` takes it."""
    return [] if config.start is None else config.start.freeze


def make_update(
    config: Config,
    store: Predicts,
    n_updates: int,
    groups: Sequence[str] | None = None,
    ranks: Ranks = ALONE,
) -> Update:
    """Update of the model of `store` for a training of `n_updates`; `groups` of its structures, where there are any.

    The work is divided among `ranks`.
    """
    training = config.training
    loss = LossWeights(**training.weights.model_dump())

    own = weights_of_structures(config, store.structures, groups)

    def observe(noise: Noise) -> Measures:
        return family_of(store.model.spec).observer(store, noise, loss, own)

    n_weights = count_free(store.model, frozen_of(config))

    def ridge(observer: Measures) -> Ridge | None:
        strength = ridge_strength(config, store.structures, n_weights)
        if strength <= 0.0:
            return None
        seed = int(np.random.SeedSequence([config.seed, 5]).generate_state(1)[0])
        return Ridge(strength, observer.parameters, seed)

    available = _available(store.structures)
    task = UpdateTask(
        training.optimizer, training.weights, store, available, n_updates, observe, ridge, groups, own, ranks,
        str(covariance_device(config, ranks)),
    )  # fmt: skip
    return OPTIMIZERS.get(training.optimizer.kind).update(task)
