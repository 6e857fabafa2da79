"""Features outside the range of the training data, where a potential only guesses.

Tokita and Behler, J. Chem. Phys. 159, 121501 (2023), section VI and Fig. 21. That no feature is outside does not mean
that a structure is known: a range may have holes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nnpkit.data.graph import build_graph
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import LoadedModel
from nnpkit.families.registered import function_names
from nnpkit.md.simulation_settings import Simulation
from nnpkit.md.thermo import ThermoReader
from nnpkit.models.stages import model_features

__all__ = [
    "FeatureExtrapolation",
    "excess",
    "extrapolation_table",
    "extrapolation_verdict",
    "feature_names",
    "raw_features",
]

_ROUNDING = 1e-10
_OUTSIDE = 0.01  # extrapolations per atom and step of a run that has left the range
_BETWEEN = re.compile(r", (?=\S+ function \d|and others)")  # names of functions have commas too
_FUNCTION = re.compile(r"([A-Z][a-z]?) function (\d+)")


@dataclass
class FeatureExtrapolation:
    """How often one feature was outside its range."""

    element: str
    feature: str  # in words
    atoms: int  # outside
    structures: int  # with such an atom
    largest: float  # distance from the range in units of its width
    structure: str  # where that is


@torch.no_grad()
def raw_features(model: LoadedModel, structure: Structure) -> tuple[np.ndarray, np.ndarray]:
    """Raw features (N, D), zero padded, and types (N,) of the atoms of a structure."""
    graph = build_graph(structure, model.elements, model.cutoff)
    return model_features(model.module, graph).numpy(), graph.types.numpy()


def feature_names(model: LoadedModel) -> dict[str, list[str]]:
    """Features of each element in words, in their order; symmetry functions by their parameters."""
    members = model.metadata.get("members") or [model.metadata]
    functions = function_names(members[0]["spec"], model.elements)
    ranges: Mapping[str, Any] = model.metadata.get("feature_ranges") or {}
    names = {}
    for element in model.elements:
        known = functions[element]
        number = len(ranges.get(element, {"min": known})["min"])
        names[element] = known + [f"feature {n + 1}" for n in range(len(known), number)]
    return names


def excess(model: LoadedModel, features: np.ndarray, types: np.ndarray) -> dict[str, np.ndarray]:
    """Distance of every feature from its range in the training data, in units of the width of the range.

    Returns
    -------
    dict of str to (n, D) arrays
        For the n atoms of each element that is there, zero inside the range; empty if the model knows no ranges.
    """
    ranges: Mapping[str, Any] | None = model.metadata.get("feature_ranges")
    found = {}
    for index, element in enumerate(model.elements):
        mine = features[types == index]
        if ranges is None or not len(mine):
            continue
        low, high = np.array(ranges[element]["min"]), np.array(ranges[element]["max"])
        width = np.where(high > low, high - low, np.inf)
        mine = mine[:, : len(low)]
        outside = np.maximum(low - mine, mine - high)
        outside = np.where(outside > _ROUNDING * np.maximum(1.0, np.abs(high)), outside, 0.0)
        found[element] = np.where(outside > 0.0, np.maximum(outside / width, np.finfo(float).tiny), 0.0)
    return found


def extrapolation_table(
    model: LoadedModel, structures: Sequence[Structure]
) -> tuple[list[FeatureExtrapolation], np.ndarray]:
    """Which features of which structures are outside the range of the training data.

    Returns
    -------
    table : list of FeatureExtrapolation
        One entry for every feature that is outside somewhere, those of most atoms first.
    atoms : (M,) array
        Atoms with a feature outside, of each structure.
    """
    names = feature_names(model)
    rows: dict[tuple[str, int], FeatureExtrapolation] = {}
    atoms = np.zeros(len(structures), dtype=np.int64)
    for number, structure in enumerate(structures):
        for element, beyond in excess(model, *raw_features(model, structure)).items():
            outside = beyond > 0.0
            atoms[number] += int(outside.any(axis=1).sum())
            for feature in np.flatnonzero(outside.any(axis=0)):
                largest = float(beyond[:, feature].max())
                row = rows.setdefault(
                    (element, int(feature)),
                    FeatureExtrapolation(element, names[element][feature], 0, 0, -1.0, ""),
                )
                row.atoms += int(outside[:, feature].sum())
                row.structures += 1
                if largest > row.largest:
                    row.largest, row.structure = largest, structure.name
    return sorted(rows.values(), key=lambda r: -r.atoms), atoms


def extrapolation_verdict(
    simulation: Simulation, structure: Structure, reader: ThermoReader, model: LoadedModel | None = None
) -> dict[str, Any]:
    """What a run says about features outside the range of the training data.

    Parameters
    ----------
    simulation, structure
        What was run.
    reader : ThermoReader
        The output of LAMMPS.
    model : LoadedModel, optional
        Names the features.

    Returns
    -------
    dict
        ``extrapolations``, their number in all evaluated steps (an atom with two features outside counts twice);
        ``extrapolations_per_atom_step``; ``extrapolations_by``, what the log says of elements and functions; and
        ``outside``, None or a sentence: more than 0.01 of them per atom and step. Empty where nothing was evaluated.
    """
    thermo = reader.thermo()
    if "extrapolations_total" not in thermo or not len(thermo):
        return {}
    total, steps = int(thermo["extrapolations_total"][-1]), int(thermo["step"][-1] - thermo["step"][0])
    evaluated = steps // (simulation.every if simulation.committee else 1) + 1
    rate = total / (evaluated * structure.n_atoms)
    functions = _named(reader.outside or "", model)
    found: dict[str, Any] = {
        "extrapolations": total, "extrapolations_per_atom_step": rate, "extrapolations_by": functions or None,
        "outside": None,
    }  # fmt: skip
    if model is not None and not model.metadata.get("feature_ranges"):
        members = model.metadata.get("members") or []
        if not any(member.get("feature_ranges") for member in members):
            return {**found, "extrapolations": None, "extrapolations_per_atom_step": None}
    if rate > _OUTSIDE:
        most = f", most of {_BETWEEN.split(functions)[0].strip()}" if functions else ""
        found["outside"] = (
            f"{total} extrapolations in {evaluated} evaluated steps, {rate:.2g} per atom and step{most}: the run is "
            "outside the range of the training data, where the potential only guesses"
        )
    return found


def _named(text: str, model: LoadedModel | None) -> str:
    """The log's list of functions with their parameters in place of their numbers."""
    if model is None:
        return text
    names = feature_names(model)

    def name(match: re.Match[str]) -> str:
        known, number = names.get(match[1], []), int(match[2]) - 1
        return f"{match[0]} ({known[number]})" if 0 <= number < len(known) else match[0]

    return _FUNCTION.sub(name, text)
