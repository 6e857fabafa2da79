"""Which structures are worth a reference calculation; a written reason for every one of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nnpkit.active.assess import Assessment
from nnpkit.errors import InputError

__all__ = ["METHODS", "Bounds", "Decision", "Selection", "learn_bounds", "select"]

METHODS = ("fps", "cur", "disagreement", "random")
TAKEN, CERTAIN, WILD, DUPLICATE, BUDGET = "taken", "too certain", "too wild", "duplicate", "over budget"


class Bounds(NamedTuple):
    """Force disagreement (eV/Å, largest of the atoms) between which a structure is worth a label, and why."""

    lower: float
    upper: float
    reason: str


class Decision(NamedTuple):
    """What was decided about one structure."""

    name: str
    key: str
    verdict: str
    reason: str
    disagreement: float | None


@dataclass(frozen=True)
class Selection:
    """Rules of the selection.

    Attributes
    ----------
    budget : int
        Most structures to take.
    method : {'fps', 'cur', 'disagreement', 'random'}
        In which order those worth a label are taken: farthest points in descriptor space from what is known and
        from each other, CUR decomposition, largest disagreement, or at random.
    extrapolation : float or None
        A structure with a feature further outside its range than this (in units of the range) is worth a label
        however much the committee agrees; None for never.
    min_distance : float
        A pair of atoms closer than this fraction of the shortest distance in the training data is too wild.
    max_force : float
        A predicted force, eV/Å, beyond which a structure is too wild.
    duplicate : float
        Structures closer than this in descriptor space, relative to the typical distance between a known structure
        and the one nearest to it, are duplicates.
    seed : int
        Of the random method.
    """

    budget: int = 50
    method: str = "fps"
    extrapolation: float | None = 0.0
    min_distance: float = 0.8
    max_force: float = 50.0
    duplicate: float = 0.1
    seed: int = 1

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"no selection method {self.method!r}", expected=", ".join(METHODS))


def learn_bounds(
    disagreement: np.ndarray, error: np.ndarray, percentile: float = 90.0, factor: float = 8.0
) -> Bounds:
    """Bounds from validation frames, for which disagreement and true error are known.

    The committee is calibrated by the ratio of the medians of error and disagreement. A structure is worth a label
    when its expected error exceeds what `percentile` % of the validation frames have, and too wild when it is
    `factor` times that.

    Parameters
    ----------
    disagreement, error : (n,) array
        Largest force disagreement and largest force error of an atom of each frame, eV/Å.
    percentile : float
        See above.
    factor : float
        Upper over lower bound.

    Raises
    ------
    InputError
        Without frames, or if the committee agrees on all of them.
    """
    disagreement, error = np.asarray(disagreement, float), np.asarray(error, float)
    if not len(disagreement) or not np.median(disagreement) > 0.0:
        raise InputError(
            "the bounds cannot be learnt: no validation frames with forces, or no disagreement on them",
            where="selection.lower", hint="give selection.lower and selection.upper in eV/Å",
        )  # fmt: skip
    ratio = float(np.median(error) / np.median(disagreement))
    limit = float(np.percentile(error, percentile))
    lower = limit / ratio
    reason = (
        f"{percentile:g} % of {len(error)} validation frames have force errors below {limit:.3g} eV/Å; errors are "
        f"{ratio:.3g} times the disagreement"
    )
    return Bounds(lower, factor * lower, reason)


def select(
    candidates: Sequence[Assessment],
    bounds: Bounds,
    rules: Selection,
    known: np.ndarray | None = None,
    known_keys: Mapping[str, str] | Collection[str] = (),
    min_distance: Mapping[str, float] | None = None,
) -> list[Decision]:
    """Decide about every candidate.

    Parameters
    ----------
    candidates : sequence of Assessment
        All of one potential.
    bounds : Bounds
        Of the disagreement; without a committee only extrapolation counts.
    rules : Selection
        The other rules.
    known : (n, D) array, optional
        Vectors (`nnpkit.active.assess.describe`) of the structures that have labels.
    known_keys : collection or mapping of str
        Keys of structures that have a label or failed; a mapping gives the reason not to take them.
    min_distance : mapping, optional
        Shortest distance of each pair of elements in the training data, Å.

    Returns
    -------
    list of Decision
        In the order of the candidates; those taken first come first in their own right (`reason` has their number).
    """
    decisions: dict[int, Decision] = {}
    seen: dict[str, str] = (
        dict(known_keys) if isinstance(known_keys, Mapping) else dict.fromkeys(known_keys, "it has a label")
    )
    worth: list[int] = []
    for index, candidate in enumerate(candidates):
        verdict, reason = _judge(candidate, bounds, rules, seen, min_distance or {})
        seen.setdefault(candidate.key, f"the same as {candidate.name}")
        decisions[index] = Decision(candidate.name, candidate.key, verdict, reason, candidate.disagreement)
        if verdict == TAKEN:
            worth.append(index)
    vectors = np.array([candidates[i].vector for i in worth])
    if known is None or not len(known):
        known = np.zeros((0, vectors.shape[1] if len(worth) else 0))
    order = [worth[i] for i in _order(vectors, [candidates[i] for i in worth], known, rules)]
    limit = rules.duplicate * _typical_distance(known, np.array([c.vector for c in candidates]))
    taken: list[int] = []
    for index in order:
        nearest, name = _nearest(candidates, index, known, taken)
        old = decisions[index]
        if nearest < limit:
            change = (DUPLICATE, f"{nearest:.3g} from {name} in descriptor space, limit {limit:.3g}")
        elif len(taken) >= rules.budget:
            change = (BUDGET, f"{old.reason}; but {rules.budget} others come before it by {rules.method}")
        else:
            taken.append(index)
            distance = "" if not np.isfinite(nearest) else f", {nearest:.3g} from the nearest known"
            change = (TAKEN, f"{old.reason}; number {len(taken)} by {rules.method}{distance}")
        decisions[index] = old._replace(verdict=change[0], reason=change[1])
    return [decisions[index] for index in range(len(candidates))]


def _judge(
    c: Assessment, bounds: Bounds, rules: Selection, seen: Mapping[str, str], shortest: Mapping[str, float]
) -> tuple[str, str]:
    """Verdict on one structure for itself, and the reason."""
    if c.key in seen:
        return DUPLICATE, seen[c.key]
    for pair, distance in c.min_distance.items():
        if pair in shortest and distance < rules.min_distance * shortest[pair]:
            return WILD, (
                f"{pair} at {distance:.3f} Å, below {rules.min_distance:g} of the shortest known, "
                f"{shortest[pair]:.3f} Å"
            )
    if not c.max_force <= rules.max_force:
        return WILD, f"a predicted force of {c.max_force:.3g} eV/Å, above {rules.max_force:g}"
    if c.disagreement is not None and not c.disagreement <= bounds.upper:
        return WILD, f"disagreement {c.disagreement:.3g} eV/Å, above {bounds.upper:.3g}"
    if c.disagreement is not None and c.disagreement >= bounds.lower:
        return (
            TAKEN,
            f"disagreement {c.disagreement:.3g} eV/Å between {bounds.lower:.3g} and {bounds.upper:.3g}",
        )
    agreed = (
        "" if c.disagreement is None else f"disagreement {c.disagreement:.3g} eV/Å, below {bounds.lower:.3g}"
    )
    outside = c.extrapolation
    if outside is not None and rules.extrapolation is not None and outside.amount > rules.extrapolation:
        return TAKEN, f"extrapolation: {outside}" + (f" ({agreed})" if agreed else "")
    return CERTAIN, agreed or (f"extrapolation: {outside}" if outside else "no feature outside its range")


def _order(
    vectors: np.ndarray, candidates: Sequence[Assessment], known: np.ndarray, rules: Selection
) -> list[int]:
    """Candidates in the order in which they are to be taken."""
    n = len(candidates)
    if n < 2:
        return list(range(n))
    if rules.method == "random":
        return [int(i) for i in np.random.default_rng(rules.seed).permutation(n)]
    worst_first = np.argsort([-(c.disagreement or 0.0) for c in candidates], kind="stable")
    if rules.method == "disagreement":
        return [int(i) for i in worst_first]
    try:
        from skmatter.sample_selection import CUR, FPS
    except ImportError:
        raise InputError(
            f"selection by {rules.method} needs scikit-matter", where="selection.method",
            hint="install it with `pip install nnpkit[active]`, or use disagreement or random",
        ) from None  # fmt: skip
    if rules.method == "cur":
        found = CUR(n_to_select=min(n, np.linalg.matrix_rank(vectors - vectors.mean(axis=0)))).fit(vectors)
        chosen = [int(i) for i in found.selected_idx_]
        return chosen + [int(i) for i in worst_first if i not in set(chosen)]
    everything, first = np.concatenate([known, vectors]), len(known)
    start = list(range(first)) if first else int(worst_first[0])
    found = FPS(n_to_select=len(everything), initialize=start).fit(everything)
    return [int(i) - first for i in found.selected_idx_ if i >= first]


def _typical_distance(known: np.ndarray, vectors: np.ndarray) -> float:
    """Median over structures of the distance to the nearest other one, of the known or else of all candidates."""
    points = known if len(known) > 2 else vectors
    if len(points) < 2:
        return 0.0
    points = points[:: max(1, len(points) // 500)]
    square = (points**2).sum(axis=1)
    distance = np.sqrt(np.maximum(square[:, None] + square - 2.0 * points @ points.T, 0.0))
    np.fill_diagonal(distance, np.inf)
    return float(np.median(distance.min(axis=1)))


def _nearest(
    candidates: Sequence[Assessment], index: int, known: np.ndarray, taken: Sequence[int]
) -> tuple[float, str]:
    """Distance to the nearest known or taken structure and its name; infinite if there is none."""
    here = candidates[index].vector
    best, name = np.inf, ""
    if len(known):
        best, name = float(np.linalg.norm(known - here, axis=1).min()), "a structure with a label"
    for other in taken:
        distance = float(np.linalg.norm(candidates[other].vector - here))
        if distance < best:
            best, name = distance, candidates[other].name
    return best, name


def count_verdicts(decisions: Sequence[Decision]) -> dict[str, int]:
    """Number of candidates by verdict, all verdicts named."""
    counted = Counter(d.verdict for d in decisions)
    return {verdict: counted[verdict] for verdict in (TAKEN, CERTAIN, WILD, DUPLICATE, BUDGET)}
