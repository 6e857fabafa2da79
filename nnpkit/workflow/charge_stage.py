"""The charges of third and fourth generation potentials: learnt first, from charges, before any energy.

Tokita and Behler (2023), Fig. 16: first the charges; then the short range learns what their screened electrostatics
leave of energies, forces and stresses.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnpkit.config.schema import Config
from nnpkit.data.graph import build_graph, edge_vectors
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.families.charge_settings import Charges
from nnpkit.families.registered import family_of
from nnpkit.measure.charged_structures import ChargeObserver
from nnpkit.measure.contract import Measures
from nnpkit.measure.label_choice import Available, Labels
from nnpkit.measure.observations import LossWeights, Noise
from nnpkit.models.charged_model import ChargedModel
from nnpkit.models.charged_potential import electrostatics_of
from nnpkit.models.fitted_hardness import ChargedEnvironments, fit_hardness
from nnpkit.training.contract import UpdateTask
from nnpkit.training.registered import OPTIMIZERS
from nnpkit.workflow.assemble import LoadedData

__all__ = ["learn_charges"]

_SPREAD = 0.1
"""e (V of soft elements): of charges about their first values, where forces do not say which way to go."""
_HARDNESS = 5.0  # eV/e², where nothing else is said or found
_FITTED, _CUBES = 40, 1e8  # structures that a hardness is fitted to, and cubes of their numbers of atoms


def learn_charges(config: Config, model: ChargedModel, data: LoadedData, *, go_on: bool = False) -> list[str]:
    """Train the charge networks, and the hardness, of an untrained model; what became of it, in words.

    With `go_on` the model has charges already, from which the passes begin. Afterwards its charges are fixed, unless
    they are to be refined: their weights are no parameters of the training that follows.

    Raises
    ------
    InputError
        If no training structure has charges.
    """
    settings = config.model.charges
    assert settings is not None
    if not go_on:
        _begin(model, settings, _with_charges(data.watched.get("train", [])))
    if model.generation == "latent":
        begun = model.spec["charges"].get("begin")
        where = (
            "" if begun is None else ", beginning at " + ", ".join(f"{e} {q:.2f} e" for e, q in begun.items())
        )
        return [f"latent charges, learnt from energies and forces{where}"]
    train, judge = (_with_charges(data.watched.get(name, [])) for name in ("train", "validation"))
    if not train and go_on:
        return ["no training structure has charges: they stay as they are"]
    if not train:
        raise InputError(
            f"no training structure has charges, which the {model.generation} generation learns from",
            where="model.charges.generation", expected="charges of the atoms in the data",
            hint="label them (tblite gives charges), name them in data.labels, or take generation: latent",
        )  # fmt: skip
    trained = [p for p in model.charge_parameters() if settings.trained_hardness or p is not _root(model)]
    flags = {p: p.requires_grad for p in model.parameters()}
    for parameter in flags:
        parameter.requires_grad_(any(parameter is own for own in trained))
    with model.stretched():
        found = _fit(config, model, settings.passes, train, judge or train)
    for parameter, flag in flags.items():
        parameter.requires_grad_(flag)
    lacking = len(data.train) - len(train)
    notes = (
        [f"{lacking} training structures have no charges, which were learnt from the others"]
        if lacking
        else []
    )
    charged = sum(bool(s.total_charge) and bool(s.pbc.any()) for s in data.train)
    if charged:
        notes.append(f"{charged} periodic structures are charged: they stand in a uniform background")
    return [*found, *notes]


def _root(model: ChargedModel) -> Tensor | None:
    return model.hardness_root if model.generation == "fourth" else None


def _begin(model: ChargedModel, settings: Charges, labelled: Sequence[Structure]) -> None:
    """Charges that begin at zero, or the first ones where forces say; hardness as the settings say.

    Without such settings it begins, with the electronegativities, where it suits the charges best.
    """
    begun: Mapping[str, float] = model.spec["charges"].get("begin") or {}
    fourth = model.generation == "fourth"
    hardness = settings.hardness or dict.fromkeys(model.elements, _HARDNESS)
    if fourth and settings.hardness is None and labelled and not list(model.descriptor.parameters()):
        begun, hardness = _fitted(model, labelled)
    with torch.no_grad():
        if fourth:
            for t, element in enumerate(model.elements):
                model.hardness_root[t] = math.sqrt(hardness[element])
        units = model.units().tolist()
        for channel, networks in enumerate(model.charge_networks):
            for t, (element, network) in enumerate(zip(model.elements, networks.networks, strict=True)):
                first = begun.get(element, 0.0) if channel == 0 else 0.0
                spread = _SPREAD if first == 0.0 or fourth else _SPREAD * model.charge_scale
                scale = model.charge_scale
                network.shift_and_stretch(0.0, first / scale, spread * units[t] / scale)


def _fitted(model: ChargedModel, labelled: Sequence[Structure]) -> tuple[dict[str, float], dict[str, float]]:
    """Electronegativity, V, and hardness, eV/e², of each element, from structures of which there need not be many."""
    known: list[ChargedEnvironments] = []
    cubes = 0
    for index in np.random.default_rng(0).permutation(len(labelled)):
        structure = labelled[index]
        cubes += structure.n_atoms**3
        if structure.charges is None or (known and cubes > _CUBES):
            continue
        graph = build_graph(structure, model.elements, model.cutoff)
        (found,) = electrostatics_of(model, graph)
        with torch.no_grad():
            raw = model.descriptor(
                edge_vectors(graph), graph.types[graph.neighbor], graph.offsets, graph.types
            )
            features = model.scaling(raw, graph.types)
            matrix = found.bare.matrix + torch.diag(model.own_interactions().index_select(0, graph.types))
        parts = (matrix.numpy(), graph.types.numpy(), features.numpy(), np.asarray(structure.charges))
        known.append(ChargedEnvironments(*parts))
        if len(known) == _FITTED:
            break
    electronegativity, hardness = fit_hardness(known, model.own_interactions().numpy(), _HARDNESS)
    pairs = [dict(zip(model.elements, v.tolist(), strict=True)) for v in (electronegativity, hardness)]
    return pairs[0], pairs[1]


def _with_charges(structures: Sequence[Structure]) -> list[Structure]:
    return [s for s in structures if s.charges is not None]


def _fit(
    config: Config, model: ChargedModel, epochs: int, train: Sequence[Structure], judge: Sequence[Structure]
) -> list[str]:
    """Passes over the charges in random order; the weights that suit `judge` best are kept."""
    optimizer: Any = config.training.optimizer
    changes = {name: value for name, value in (("robust", False),) if hasattr(optimizer, name)}
    family = family_of(model.spec)
    prepare = family.preparation(model, [*train, *judge])
    stores: list[Any] = [prepare(list(part), 0.0, None, []) for part in (train, judge)]
    judging = ChargeObserver(stores[1], Noise(), LossWeights())

    def observe(noise: Noise) -> Measures:
        return ChargeObserver(stores[0], noise, LossWeights())

    available = [Available(True, 0, False, s.name, s.n_atoms) for s in train]
    full = optimizer.kind == "lbfgs"
    length = 1 if full else len(train)
    task = UpdateTask(
        optimizer.model_copy(update=changes), config.training.weights, stores[0], available, epochs * length, observe,
        lambda observer: None,
    )  # fmt: skip
    update = OPTIMIZERS.get(optimizer.kind).update(task)
    random = np.random.default_rng(np.random.SeedSequence([config.seed, 6]))
    nothing = torch.zeros(0, dtype=torch.int64)
    best, kept = _rmse(judging, judge), _weights(model)
    for epoch in range(epochs):
        update.begin_epoch(epoch)
        order = [list(range(len(train)))] if full else [[int(i)] for i in random.permutation(len(train))]
        for done, structures in enumerate(order):
            update.follow((epoch + done / len(order)) / epochs)
            update.apply(Labels(structures, True, [nothing] * len(structures), False))
        if (error := _rmse(judging, judge)) < best:
            best, kept = error, _weights(model)
    with torch.no_grad():
        for parameter, value in zip(model.charge_parameters(), kept, strict=True):
            parameter.copy_(value)
    spread = float(np.std(np.concatenate([s.charges for s in judge if s.charges is not None])))
    words = [
        f"charges: RMSE {best:.4f} e where they scatter by {spread:.3f} e, after {epochs} passes over them"
    ]
    if model.generation == "fourth":
        hardness = zip(model.elements, model.hardness.tolist(), strict=True)
        words.append("hardness, eV/e²: " + ", ".join(f"{e} {value:.3g}" for e, value in hardness))
    return words


def _weights(model: ChargedModel) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in model.charge_parameters()]


def _rmse(observer: ChargeObserver, structures: Sequence[Structure]) -> float:
    errors = torch.cat([observer.errors(index) for index in range(len(structures))])
    value = float(errors.square().mean().sqrt())
    return value if math.isfinite(value) else math.inf
