"""From a configuration and the data to an untrained model: descriptor, scaling, first weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nnpkit.config.schema import Config
from nnpkit.config.schema_deep import DeepPotentialModel, FittingNetworks
from nnpkit.config.schema_model import (
    AcsfModel,
    ChebyshevModel,
    Descriptor,
    FunctionFile,
    NetworkModel,
    SymmetryFunctionEntry,
)
from nnpkit.data.dataset import fit_reference_energies, reference_energy_note
from nnpkit.deploy.imports.runner_settings import parse_symmetry_function, read_settings, symmetry_functions
from nnpkit.errors import InputError
from nnpkit.families.acsf.default_functions import default_functions
from nnpkit.families.acsf.symmetry_functions import SymmetryFunction
from nnpkit.families.build import build_model, initialise, n_features
from nnpkit.families.chebyshev.expansion import species_weights
from nnpkit.families.deep_potential.embedding import DeepDescriptor
from nnpkit.families.prepare import data_statistics as feature_statistics
from nnpkit.families.prepare import environment_statistics, precondition, select
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.short_range import wall_distances
from nnpkit.models.sizes import count_labels, hidden_nodes, most_functions
from nnpkit.units import BOHR
from nnpkit.workflow.assemble import LoadedData

__all__ = [
    "describe_model",
    "describe_networks",
    "generated_functions",
    "make_model",
    "scaled_model",
    "wall_of",
]

_PRECONDITION_STRUCTURES = 200


def make_model(config: Config, data: LoadedData) -> tuple[AtomicModel, list[str]]:
    """Untrained model with its scaling and first weights, and a report of what was chosen and why."""
    settings = config.model
    spec, report = describe_model(config, data)
    model, more = scaled_model(settings, spec, data)
    initialise(model, settings.network.initialisation, config.seed)
    labelled = [s for s in data.train if s.energy is not None]
    sample = labelled[:: max(1, len(labelled) // _PRECONDITION_STRUCTURES)]
    energies = [float(s.energy) for s in sample if s.energy is not None]
    deep = isinstance(settings, DeepPotentialModel)
    if sample and (deep or getattr(settings, "precondition", False)):
        precondition(model, sample, energies, stretch=not deep)
    return model, more + report


def describe_model(config: Config, data: LoadedData) -> tuple[dict[str, Any], list[str]]:
    """Description of the model for these data, as `build_model` takes it, and what was chosen and why."""
    settings = config.model
    reference, note = _reference_energies(config, data)
    wall = wall_of(settings, data)
    spec = {
        "kind": settings.kind,
        "elements": data.elements,
        "energy_scale": 1.0,
        "reference_energies": reference,
        "wall": wall,
    }
    if isinstance(settings, AcsfModel):
        own, report = _symmetry_functions(settings, data)
    elif isinstance(settings, ChebyshevModel):
        own, report = _chebyshev(settings, data)
    else:
        own, report = _deep_potential(settings), []
    supported, sizes = _supported(config, data, {**spec, **own})
    spec["networks"] = describe_networks(settings, supported)
    ends = ", ".join(f"{pair} below {distance:.3f} Å" for pair, distance in wall.items())
    report += [*sizes, f"short-range repulsion: {ends or 'none'}"] + ([note] if note else [])
    return {**spec, **own}, report


def _supported(
    config: Config, data: LoadedData, spec: Mapping[str, Any]
) -> tuple[dict[str, list[int]], list[str]]:
    """Nodes of the hidden layers that the labels of each element support, and the same in words if they are used."""
    if isinstance(config.model, DeepPotentialModel):
        return {element: [] for element in data.elements}, []
    labels = count_labels(data.train, data.elements, config.training.force_training.kind != "none")
    found = hidden_nodes(n_features(spec), labels)
    if config.model.network.hidden is not None:
        return found, []
    words = ", ".join(f"{e} {nodes[0]}-{nodes[1]} ({labels[e]} labels)" for e, nodes in found.items())
    return found, [f"nodes of the hidden layers: {words}"]


def scaled_model(
    settings: NetworkModel | DeepPotentialModel, spec: Mapping[str, Any], data: LoadedData
) -> tuple[AtomicModel, list[str]]:
    """Model with the scaling or the statistics of the data and undetermined weights, and a report of these."""
    model = build_model(spec)
    if isinstance(model.descriptor, DeepDescriptor):
        statistics = environment_statistics(model.descriptor, data.elements, data.train)
        model.descriptor.set(statistics)
        rows = zip(data.elements, statistics.expected.tolist(), strict=True)
        return model, [
            f"{element}: " + ", ".join(f"{n:.1f} {e}" for e, n in zip(data.elements, row, strict=True))
            + " neighbours on average"
            for element, row in rows
        ]  # fmt: skip
    assert isinstance(settings, NetworkModel)
    scaling = settings.scaling
    found = feature_statistics(model.descriptor, data.elements, data.train)
    model.scaling.set(found, scaling.kind, scaling.lower, scaling.upper)
    return model, []


def _symmetry_functions(settings: AcsfModel, data: LoadedData) -> tuple[dict[str, Any], list[str]]:
    """What a model says of its symmetry functions, and where they come from."""
    functions, report = _functions(settings, data)
    spec = {
        "cutoff_kind": settings.descriptor.cutoff_function,
        "cutoff_inner": settings.descriptor.cutoff_inner,
        "functions": [function.to_dict() for function in functions],
    }
    return spec, report


def _chebyshev(settings: ChebyshevModel, data: LoadedData) -> tuple[dict[str, Any], list[str]]:
    """What a model says of its Chebyshev descriptor, and the same in words."""
    d = settings.descriptor
    weights = species_weights(data.elements) if d.species_weights is None else d.species_weights
    if missing := sorted(set(data.elements) - set(weights)):
        raise InputError(
            f"no weight for {missing[0]}", where="model.descriptor.species_weights",
            expected=f"weights of {', '.join(data.elements)}",
        )  # fmt: skip
    spec = {
        "radial_order": d.radial_order, "radial_cutoff": d.radial_cutoff,
        "angular_order": d.angular_order, "angular_cutoff": d.angular_cutoff,
        "cutoff_kind": d.cutoff_function, "weights": {e: weights[e] for e in data.elements},
    }  # fmt: skip
    words = ", ".join(f"{e} {weights[e]:g}" for e in data.elements)
    report = [
        f"Chebyshev: radial order {d.radial_order} to {d.radial_cutoff:g} Å, angular order {d.angular_order} to "
        f"{d.angular_cutoff:g} Å"
    ]
    return {"descriptor": spec}, report + (
        [f"weights of the neighbours: {words}"] if len(data.elements) > 1 else []
    )


def _deep_potential(settings: DeepPotentialModel) -> dict[str, Any]:
    """What a Deep Potential says of its descriptor."""
    d = settings.descriptor
    descriptor = {
        "cutoff": d.cutoff, "smooth_from": d.smooth_from, "cutoff_kind": d.cutoff_function,
        "embedding": d.embedding, "axis_neurons": d.axis_neurons, "activation": d.activation,
        "timestep": d.timestep, "one_side": d.type_one_side,
    }  # fmt: skip
    return {"descriptor": descriptor}


def generated_functions(d: Descriptor, data: LoadedData) -> tuple[list[SymmetryFunction], list[str]]:
    """Symmetry functions for the distances in the data, also those that hardly vary, and why these."""
    return default_functions(
        data.elements, data.min_distance, cutoff=d.cutoff, angular_cutoff=d.angular_cutoff or d.cutoff,
        kind=d.cutoff_function, inner=d.cutoff_inner, radial=d.radial, zetas=d.zetas,
        angular_etas=d.angular_etas, wide=d.angular_kind == "wide",
    )  # fmt: skip


def _functions(settings: AcsfModel, data: LoadedData) -> tuple[list[SymmetryFunction], list[str]]:
    """Symmetry functions of the model, and where they come from."""
    d = settings.descriptor
    if d.functions == "auto":
        chosen, report = generated_functions(d, data)
        if not chosen:
            raise InputError(
                f"no atom of the training structures has a neighbour within {d.cutoff:g} Å: there is nothing to learn",
                where="data.train", expected="structures whose atoms interact, or a larger model.descriptor.cutoff",
            )  # fmt: skip
        most = d.functions_per_element or most_functions(len(data.elements))
        kept, dropped = select(
            data.elements, chosen, d.cutoff_function, d.cutoff_inner, data.train, most, d.minimum_range
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


def describe_networks(
    settings: NetworkModel | DeepPotentialModel, supported: Mapping[str, Sequence[int]]
) -> dict[str, Any]:
    """What a model says of the network of each element, by default with the nodes that are `supported` by the data."""
    network = settings.network
    if unknown := sorted(set(network.per_element) - set(supported)):
        raise InputError(
            f"settings for {unknown[0]}, which is no element of the model", where="model.network.per_element",
            expected=f"some of {', '.join(supported)}",
        )  # fmt: skip
    specs: dict[str, dict[str, Any]] = {}
    for element, nodes in supported.items():
        own = network.per_element.get(element)
        hidden = own.hidden if own is not None and own.hidden is not None else network.hidden
        hidden = list(nodes) if hidden is None else hidden
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


def wall_of(settings: NetworkModel | DeepPotentialModel, data: LoadedData) -> dict[str, float]:
    """Distance, Å, below which each pair of elements is repelled."""
    if isinstance(settings.wall, dict):
        known = set(data.elements)
        return {pair: d for pair, d in settings.wall.items() if set(pair.split("-")) <= known}
    if settings.wall == "on":
        return data.min_distance
    return wall_distances(data.min_distance) if settings.wall == "auto" else {}
