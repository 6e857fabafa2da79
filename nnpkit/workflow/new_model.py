"""From a configuration and the data to an untrained model: descriptor, scaling, first weights."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from nnpkit.config.schema import Config
from nnpkit.data.dataset import fit_reference_energies, reference_energy_note
from nnpkit.data.graph import type_indices
from nnpkit.data.statistics import data_statistics
from nnpkit.data.store.frame_sample import FITTED, sampled
from nnpkit.data.structure import Structure
from nnpkit.deploy.baseline import ModelBaseline
from nnpkit.errors import InputError
from nnpkit.families.charge_settings import describe_charges
from nnpkit.families.factory import build_model, initialise, n_features
from nnpkit.families.prepare import precondition
from nnpkit.families.registered import FAMILIES, family_of
from nnpkit.families.registered_terms import describe_terms, make_terms
from nnpkit.families.shared_settings import ModelSettings
from nnpkit.measure.frames import structure_terms
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.charged_model import ChargedModel
from nnpkit.models.electrostatics import Interaction
from nnpkit.models.fitted_repulsion import Beside, fit_repulsion
from nnpkit.models.short_range import wall_distances, wall_ends
from nnpkit.models.sizes import count_labels
from nnpkit.models.sum_model import SumModel
from nnpkit.models.terms import Term
from nnpkit.workflow.assemble import LoadedData
from nnpkit.workflow.charge_stage import learn_charges

__all__ = [
    "Repulsion",
    "begin_weights",
    "describe_model",
    "describe_networks",
    "make_model",
    "repulsion_of",
    "scaled_model",
    "scaled_new_model",
]

_PRECONDITION_STRUCTURES = 200
_REPULSION_STRUCTURES = 1000  # of a set on disk; their atoms are more than a fit looks at
_NEARLY_NOTHING = 0.05
"""Of the mean square force: a repulsion that leaves no more is suggested, since networks of any family find it hard
to learn.

Five metals of a random alloy at up to 70 eV/Å (RMS 6.0): symmetry functions had 5.3 eV/Å on test frames after a minute,
with the repulsion 1.6 after 143 updates; Deep Potentials of two of them 5.6 and 0.5.
"""
_ELECTROSTATIC = 0.5
"""Of the squares that a fitted repulsion leaves: where charges would take more, it stands for what they do.

Its energies are then several times those to be learnt, as charges cancel them in a crystal. They would take 93 % in
NaCl, 85 % in MgO, 60 % in gold on MgO, 28 and 26 % in TiO2, 32 and 23 % in water, 15 % in Cu2S, 4 % and less in
Li-Si-C, molecules and alloys.
"""
_MOST, _TIMES, _LARGE = 0.9, 3.0, 5.0
"""Forces of a structure that are so many times as large as those that nine of ten do not exceed, and above 5 eV/Å (root
mean square of the components), are far from them."""
_SMALLEST_SCALE = 0.3  # eV: with less, the first steps of a filter went too far in small sets


def make_model(config: Config, data: LoadedData) -> tuple[AtomicModel, list[str]]:
    """Untrained model with its scaling and first weights, and a report of what was chosen and why."""
    model, report = scaled_new_model(config, data)
    return model, begin_weights(config, model, data) + report


def scaled_new_model(config: Config, data: LoadedData) -> tuple[AtomicModel, list[str]]:
    """The same without weights: what the members of a committee share."""
    spec, report = describe_model(config, data)
    if isinstance(data.baseline, ModelBaseline):  # what has no sum is refused before it is trained
        SumModel(build_model(spec), data.baseline.model.atomic_model())
    model, more = scaled_model(config.model, spec, data)
    return model, more + report


def begin_weights(config: Config, model: AtomicModel, data: LoadedData) -> list[str]:
    """Draw the first weights of `model`, learn its charges, fit its energies to the data; what became of it."""
    settings = config.model
    initialise(model, settings.network.initialisation, config.seed)
    report = learn_charges(config, model, data) if isinstance(model, ChargedModel) else []
    labelled = [s for s in sampled(data.train, FITTED) if s.energy is not None]
    sample = labelled[:: max(1, len(labelled) // _PRECONDITION_STRUCTURES)]
    energies = [float(s.energy) for s in sample if s.energy is not None]
    if sample and getattr(settings, "precondition", True):
        precondition(model, sample, energies, stretch=not family_of(model.spec).trained_descriptor)
    return report


def describe_model(config: Config, data: LoadedData) -> tuple[dict[str, Any], list[str]]:
    """Description of the model for these data, as `build_model` takes it, and what was chosen and why."""
    settings = config.model
    reference, note = _reference_energies(config, data)
    terms = describe_terms(settings.terms, data)
    spec: dict[str, Any] = {
        "kind": settings.kind,
        "elements": data.elements,
        "energy_scale": 1.0,
        "reference_energies": reference,
        "wall": {},
        **({"terms": terms} if terms else {}),
    }
    own, report = FAMILIES.get(settings.kind).describe(settings, data)
    supported, sizes = _supported(config, data, {**spec, **own})
    spec["networks"] = describe_networks(settings, supported)
    spec, beside = {**spec, **own}, None
    if settings.charges is not None:
        cutoff = build_model(spec).descriptor.cutoff
        # The networks may have the charge as one more input, which is why this comes behind them.
        spec = describe_charges(settings.charges, spec, data.elements, cutoff, settings.trained_descriptor)
        beside = _beside(spec)
    repulsion = repulsion_of(settings, data, beside, terms=terms)
    spec |= {"wall": repulsion.wall, "energy_scale": repulsion.scale}
    report += [*sizes, repulsion.words] + ([note] if note else [])
    report += [f"energies that are not learnt: {', '.join(terms)}"] if terms else []
    if settings.charges is not None:
        if repulsion.charges:
            spec["charges"] = {**spec["charges"], "begin": repulsion.charges}
        report.append(f"charges of the {settings.charges.generation} generation, screening {_words(spec)}")
    return spec, report


def _beside(spec: Mapping[str, Any]) -> Beside:
    """The charges of the model that `spec` describes, as a repulsion is fitted beside them."""
    model = build_model(spec)
    assert isinstance(model, ChargedModel)

    def interactions(structure: Structure) -> Interaction:
        types = torch.as_tensor(type_indices(structure.symbols, model.elements, structure.name))
        where, cell = torch.as_tensor(structure.positions), torch.as_tensor(structure.cell)
        periodic = tuple(bool(p) for p in structure.pbc)
        return model.electrostatics(where, cell, periodic, types, structure.name).energy  # type: ignore[arg-type]

    return Beside(interactions, model.generation != "latent")


def _words(spec: Mapping[str, Any]) -> str:
    """The screening of a model with charges."""
    ends = spec["charges"]["screening"]
    return "none" if ends is None else f"from {ends[0]:.3g} to {ends[1]:.3g} Å"


def _supported(
    config: Config, data: LoadedData, spec: Mapping[str, Any]
) -> tuple[dict[str, list[int]], list[str]]:
    """Nodes of the hidden layers that the labels of each element support, and the same in words if they are used."""
    labels = count_labels(data.train, data.elements, config.training.force_training.kind != "none")
    family, network = family_of(spec), config.model.network
    smallest = family.describe_network(network, [1], network.activation)
    found = family.supported_nodes(n_features(spec, smallest), labels)
    if network.hidden is not None:
        return found, []
    words = ", ".join(f"{e} {'-'.join(map(str, nodes))} ({labels[e]} labels)" for e, nodes in found.items())
    return found, [f"nodes of the hidden layers: {words}"]


def scaled_model(
    settings: ModelSettings, spec: Mapping[str, Any], data: LoadedData
) -> tuple[AtomicModel, list[str]]:
    """Model with the scaling or the statistics of the data and undetermined weights, and a report of these."""
    model = build_model(spec)
    return model, family_of(spec).fit(model, settings, data)


def describe_networks(settings: ModelSettings, supported: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """What a model says of the network of each element, by default with the nodes that are `supported` by the data."""
    network, family = settings.network, FAMILIES.get(settings.kind)
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
        specs[element] = family.describe_network(network, hidden, activation)
    return specs


def _reference_energies(config: Config, data: LoadedData) -> tuple[dict[str, float], str | None]:
    """Reference energy of each element, eV, and what should be known about it."""
    given = config.data.reference_energies
    labelled = [s for s in sampled(data.train, FITTED) if s.energy is not None]
    if isinstance(given, Mapping):
        if missing := sorted(set(data.elements) - set(given)):
            raise InputError(f"no reference energy for {missing[0]}", where="data.reference_energies")
        return {element: given[element] for element in data.elements}, None
    if given == "none" or not labelled:
        return dict.fromkeys(data.elements, 0.0), None
    note = reference_energy_note(labelled, data.elements)
    return fit_reference_energies(labelled, data.elements), note


class Repulsion(NamedTuple):
    """What a model says of the repulsion of pairs, see `nnpkit.models.short_range.make_wall`, and the same in words."""

    wall: dict[str, Any]
    words: str
    scale: float  # of the energies that are left for the networks, eV
    charges: dict[str, float] | None = None  # e, of each element: where latent charges begin


def repulsion_of(
    settings: ModelSettings,
    data: LoadedData,
    beside: Beside | None = None,
    fit: bool = True,
    terms: Mapping[str, Any] | None = None,
) -> Repulsion:
    """The repulsion that the settings ask for.

    All weights of a network begin with the same uncertainty, so its energies are expected to be of the size of
    ``energy_scale``. If forces are smaller by what a repulsion says of them, that is smaller, too: with 1 eV, networks
    for copper said forces of 1 eV/Å about atoms whose surroundings they had not learnt.

    Parameters
    ----------
    beside : Beside, optional
        Charges of the model. Latent ones begin at those of elements that are fitted to the forces together with the
        repulsion, also where the repulsion itself is not wanted.
    fit : bool
        Whether it may be fitted to the forces; not for networks that have learnt without.
    terms : mapping, optional
        What else the model adds to its networks, see `describe_terms`: it is fitted to what these leave.

    Raises
    ------
    InputError
        If it shall be fitted and there are no forces.
    """
    wanted, charges, hint = settings.wall, None, ""
    could_fit = wanted == "auto" and fit
    if could_fit and settings.fits_repulsion:
        wanted = "fitted"
    if wanted == "fitted" or (could_fit if beside is None else fit and not beside.labelled):
        some, longest = sampled(data.train, _REPULSION_STRUCTURES), settings.longest_repulsion()
        if terms:
            some = _without(make_terms({"terms": terms}, data.elements), some, data.elements)
        some, shortest = _ordinary(some, data.min_distance)
        found = fit_repulsion(some, data.elements, shortest, longest, beside)
        charges = None if found is None else found.charges
        ionic = found is not None and settings.wall == "auto" and found.electrostatic > _ELECTROSTATIC
        if found is not None and ionic and wanted == "fitted":
            wall = FAMILIES.get(settings.kind).describe_wall(data.min_distance)
            share = f"charges would take {100.0 * found.electrostatic:.2g} % of the squares that are left"
            return Repulsion(
                wall, f"short-range repulsion, not fitted to forces, as {share}: {_ends(wall)}", 1.0
            )
        if found is not None and wanted == "fitted":
            left = f"fitted to the forces, of whose mean square it leaves {100.0 * found.left:.2g} %"
            if beside is not None:
                of = "labelled charges" if charges is None else f"charges of {_charges(charges)}"
                left = f"fitted to the forces beside {of}, of whose mean square both leave {100.0 * found.left:.2g} %"
            words = f"short-range repulsion, {left}: {_ends(found.rows)}"
            scale = min(1.0, max(_SMALLEST_SCALE, math.sqrt(found.left)))
            return Repulsion(found.rows, words, scale, charges)
        if found is not None and beside is None and not ionic and found.left < _NEARLY_NOTHING:
            hint = f"; fitted (model.wall=fitted) it would leave {100.0 * found.left:.2g} % of the mean square force"
        if settings.wall == "fitted":
            raise InputError(
                "there are no forces that a repulsion could be fitted to", where="model.wall",
                expected="training structures with forces that are not zero", hint="set it to on, off or auto",
            )  # fmt: skip
    wall = FAMILIES.get(settings.kind).describe_wall(_wall_distances(settings, data))
    return Repulsion(wall, f"short-range repulsion: {_ends(wall) or 'none'}{hint}", 1.0, charges)


def _ordinary(
    structures: Sequence[Structure], shortest: Mapping[str, float]
) -> tuple[Sequence[Structure], Mapping[str, float]]:
    """The structures without those whose forces are far from all others, and the `shortest` distances of pairs in them.

    Atoms pushed into each other decide otherwise how far the repulsion reaches, how strong it is, and, by what it
    leaves of the mean square force, how large energies of the networks are expected to be: of 299 molecules torn apart
    and pushed together twelve had forces up to 1900 eV/Å, and forces of others were not learnt at all (50 eV/Å, without
    learning 1.4); without these twelve in the fit they are to 0.3 eV/Å.
    """
    sizes = [float(np.sqrt(np.square(s.forces).mean())) for s in structures if s.forces is not None]
    limit = max(_LARGE, _TIMES * float(np.quantile(sizes, _MOST))) if sizes else math.inf
    some = [s for s in structures if s.forces is None or float(np.sqrt(np.square(s.forces).mean())) <= limit]
    if len(some) == len(structures):
        return structures, shortest
    own = data_statistics(some)["min_distance"]
    return some, {
        pair: own[pair]["distance"] if pair in own else distance for pair, distance in shortest.items()
    }


def _charges(charges: Mapping[str, float]) -> str:
    return ", ".join(f"{element} {charge:.2f} e" for element, charge in charges.items())


def _without(terms: Term | None, structures: Sequence[Structure], elements: Sequence[str]) -> list[Structure]:
    """The structures that have forces, with what the terms leave of these."""
    left = []
    for structure in structures:
        found = None if structure.forces is None else structure_terms(terms, structure, elements)
        if found is not None:
            left.append(dataclasses.replace(structure, forces=structure.forces - found.forces.numpy()))
    return left


def _ends(wall: Mapping[str, Any]) -> str:
    return ", ".join(f"{pair} below {distance:.3f} Å" for pair, distance in wall_ends(wall).items())


def _wall_distances(settings: ModelSettings, data: LoadedData) -> dict[str, float]:
    """Distance, Å, below which each pair of elements is repelled."""
    if isinstance(settings.wall, dict):
        known = set(data.elements)
        return {pair: d for pair, d in settings.wall.items() if set(pair.split("-")) <= known}
    if settings.wall == "on":
        return data.min_distance
    return {} if settings.wall == "off" else wall_distances(data.min_distance)
