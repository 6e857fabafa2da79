"""A potential with an estimate of its own errors, from one training by a Kalman filter.

The filter knows the covariance P of the weights given the labels. Weights drawn from it are members of a committee
whose forces differ where the labels do not decide. The first member is the potential itself, which drives runs alone.
The others are drawn so near to it that forces are linear in their weights. Of their deviations only the ratios mean
something; a factor makes them expected errors, the one with which mean squares of expected and true errors of the
forces are equal on the validation structures. Potentials with charges have a file whose members are evaluated one by
one: their mean is the potential, since deviations of weights add up to zero, but for what is not linear in them. See
docs/uncertainty.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnpkit.config.config_file import load_config
from nnpkit.data.graph import build_graph
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import load
from nnpkit.deploy.targets.committee_file import export_committee
from nnpkit.deploy.targets.scripting import frame_of_test
from nnpkit.errors import InputError
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.sum_model import has_charges
from nnpkit.models.sum_potential import potential_of
from nnpkit.training.uncertainty import rank_correlation
from nnpkit.workflow.data_sets import read_splits
from nnpkit.workflow.run_filter import load_filter

__all__ = ["Drawn", "calibration_structures", "draw_members", "write_with_uncertainty"]

MEMBERS = 5
_NEAR = 0.01  # deviations of the members' forces, in units of their errors
_MOST_FRAMES = 60


@dataclass(frozen=True)
class Drawn:
    """Members drawn from the covariance of a filter.

    Attributes
    ----------
    members : list of AtomicModel
        The potential, and those drawn around it.
    metadata : list of dict
        Of each member; all but the first are marked as ``drawn``, unless they have charges.
    calibration : dict
        JSON-able, for the metadata of the committee: ``spread_factor``, and ``calibration`` with ``force_error``, the
        root mean square (eV/Å) of the length of the error of an atom's force on so many ``structures``; rank
        correlations of expected and true errors there, ``spearman_atoms`` and ``spearman_frames`` (largest of each).
    frame : Structure or None
        A validation structure with all elements.
    """

    members: list[AtomicModel]
    metadata: list[dict[str, Any]]
    calibration: dict[str, Any]
    frame: Structure | None


def draw_members(
    run: str | Path, members: int = MEMBERS, seed: int = 1, judges: Sequence[Structure] | None = None
) -> Drawn:
    """Draw weights around the potential of a run, and calibrate their disagreement.

    Parameters
    ----------
    run : path
        Folder of a run that a Kalman filter has trained, with a validation set.
    members : int
        Of the committee, one of which is the potential; with more of them the estimate is steadier and costs more.
    seed : int
        Of the draws.
    judges : sequence of Structure, optional
        On which the disagreement is calibrated; by default the validation structures of the run.

    Raises
    ------
    InputError
        If the run is no such run, or there are no validation structures with forces, or `members` is less than 4.
    """
    if members < 4:
        raise InputError(f"{members} members", expected="at least 4: the potential and three drawn around it")
    trained, kalman = load_filter(run)
    known = [name for name, parameter in trained.named_parameters() if parameter.requires_grad]
    potential, judges = load(run), calibration_structures(run, judges)
    model = potential.atomic_model().requires_grad_(False)
    charged = has_charges(model.spec)
    if not set(known) <= {name for name, _ in model.named_parameters()}:
        raise InputError(
            "the potential has other weights than its filter, as the sum of a correction and its baseline has",
            where=str(run), expected="a potential that is not a correction",
        )  # fmt: skip
    own = [_forces(model, s) for s in judges]
    errors = [_norms(potential.predict(s).forces - s.forces) for s in judges]
    deviations = kalman.covariance.draw(members - 1, torch.Generator().manual_seed(seed))
    deviations -= deviations.mean(0)
    tiny = [_forces(_moved(model, known, 1e-4 * deviations[0]), s) for s in judges]
    far = 1e4 * _rms([_norms(a - b) for a, b in zip(tiny, own, strict=True)])
    if not far > 0.0:
        raise InputError("no weight of the networks is uncertain", where=str(run))
    drawn = [_moved(model, known, _NEAR * _rms(errors) / far * deviation) for deviation in deviations]
    forces = [
        np.stack([o, *(_forces(member, s) for member in drawn)]) for o, s in zip(own, judges, strict=True)
    ]
    spreads = [_spread(f, charged) for f in forces]
    calibration = {
        "kind": "posterior",
        "seed": seed,
        "force_error": _rms(errors),
        "structures": len(judges),
        "spearman_atoms": rank_correlation(np.concatenate(spreads), np.concatenate(errors)),
        "spearman_frames": rank_correlation(*(np.array([v.max() for v in of]) for of in (spreads, errors))),
    }
    factor = _rms(errors) / _rms(spreads)
    frame = frame_of_test(judges, model.elements)
    mark = {} if charged else {"drawn": True}
    metadata = [potential.metadata, *[{**potential.metadata, **mark}] * (members - 1)]
    return Drawn([model, *drawn], metadata, {"spread_factor": factor, "calibration": calibration}, frame)


def write_with_uncertainty(run: str | Path, path: str | Path, members: int = MEMBERS) -> dict[str, Any]:
    """Write the potential of a run as a committee whose disagreement is its expected error; its metadata.

    Parameters and errors are those of `draw_members`; `path` is the file.
    """
    drawn = draw_members(run, members)
    return export_committee(drawn.members, drawn.metadata, path, drawn.frame, drawn.calibration)


def calibration_structures(run: str | Path, given: Sequence[Structure] | None) -> list[Structure]:
    """Validation structures with forces, of many some that are spread evenly."""
    if given is None:
        given = read_splits(load_config(Path(run) / "config.yaml")).get("validation", [])
    found = [s for s in given if s.forces is not None]
    if not found:
        raise InputError(
            "the run has no validation structures with forces, on which errors could be calibrated", where=str(run),
            hint="train with data.validation_fraction or data.validation",
        )  # fmt: skip
    return found[:: -(-len(found) // _MOST_FRAMES)]


def _moved(model: AtomicModel, known: Sequence[str], deviation: Tensor) -> AtomicModel:
    """A copy with other weights of its networks; a descriptor that is trained stays, so that members share it.

    `known` are the parameters that the filter knows, in its order; charges that were learnt before stay too.
    """
    copy, first = deepcopy(model), 0
    parameters = dict(copy.named_parameters())
    for name in known:
        last = first + parameters[name].numel()
        if name.startswith(("networks.", "charge_networks.")):
            parameters[name].add_(deviation[first:last].reshape(parameters[name].shape))
        first = last
    return copy


def _forces(model: AtomicModel, structure: Structure) -> np.ndarray:
    """(N, 3) eV/Å."""
    graph = build_graph(structure, model.elements, model.cutoff)
    found: np.ndarray = potential_of(model).predict(graph).forces.numpy()
    return found


def _spread(forces: np.ndarray, charged: bool) -> np.ndarray:
    """Deviation (N,) of the members' forces (M, N, 3) as of the file, which moves the first to be their mean.

    With charges it leaves them as they are.
    """
    deviation = forces - forces.mean(0) if charged else forces[1:] - forces[1:].mean(0)
    spread: np.ndarray = np.sqrt((deviation**2).sum((0, 2)) / len(forces))
    return spread


def _norms(vectors: np.ndarray) -> np.ndarray:
    return np.linalg.norm(vectors, axis=1)


def _rms(parts: Sequence[np.ndarray]) -> float:
    return float(np.sqrt(np.mean(np.concatenate(parts) ** 2)))
