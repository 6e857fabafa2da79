"""What is worth a look in more frames than fit into memory: a few numbers of each, gathered while they are written.

The checks of `nnpkit.data.checks.suspicious` want structures. Of a large set they get a seeded sample and, beside it,
all frames that one of the numbers here calls extreme; the numbers of all frames take 48 bytes each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from nnpkit.data.checks.suspicious import (
    LARGE_FORCE,
    NET_FORCE_NOISE,
    SHORT,
    Finding,
    find_suspicious,
    fingerprint,
    relative_distances,
)
from nnpkit.data.structure import Structure

__all__ = ["FACTS", "SAMPLE", "extreme_frames", "facts_of", "findings_of", "sample_of"]

SAMPLE = 500
"""Frames of a large set that the checks of units, signs and strains see, beside the extreme ones."""

FACTS = ("closeness", "largest_force", "net_noise", "fingerprint")
"""Columns of a shard beside the frames themselves."""

_WORST = 50  # of each kind


def facts_of(structures: Sequence[Structure]) -> dict[str, np.ndarray]:
    """Columns `FACTS` of F structures.

    Returns
    -------
    dict
        ``closeness`` (F,), the shortest distance over the sum of covalent radii (infinite where all are far apart);
        ``largest_force`` (F,) eV/Å and ``net_noise`` (F,) eV/Å, the noise that the sum of the forces shows (0 without
        forces); ``fingerprint`` (F, 16) uint8, equal for the same geometry.
    """
    largest, noise = np.zeros(len(structures)), np.zeros(len(structures))
    for k, structure in enumerate(structures):
        if structure.forces is not None:
            largest[k] = np.linalg.norm(structure.forces, axis=1).max()
            noise[k] = np.linalg.norm(structure.forces.sum(axis=0)) / np.sqrt(structure.n_atoms)
    prints = b"".join(fingerprint(structure) for structure in structures)
    return {
        "closeness": np.array([np.inf if d is None else d.ratio for d in relative_distances(structures)]),
        "largest_force": largest,
        "net_noise": noise,
        "fingerprint": np.frombuffer(prints, dtype=np.uint8).reshape(len(structures), 16),
    }


def sample_of(n_frames: int, size: int, seed: int = 0) -> np.ndarray:
    """Indices of a seeded sample, in ascending order, of `size` of so many frames, or of all."""
    if n_frames <= size:
        return np.arange(n_frames)
    chosen = np.random.default_rng([seed, n_frames]).choice(n_frames, size, replace=False)
    return np.sort(chosen)


def extreme_frames(facts: Mapping[str, np.ndarray], residual: np.ndarray) -> tuple[set[int], dict[str, int]]:
    """Frames that the checks should see, and how many there are of each kind.

    Parameters
    ----------
    facts : mapping
        Columns `FACTS` of all F frames.
    residual : (F,) array
        Energy less that of the elements, eV/atom; not a number without an energy.
    """
    chosen: set[int] = set()
    numbers = {}
    force_limit = max(LARGE_FORCE, float(np.median(facts["largest_force"])))
    for kind, size, limit in (
        ("short distance", -facts["closeness"], -SHORT),
        ("net force", facts["net_noise"], NET_FORCE_NOISE),
        ("large force", facts["largest_force"], force_limit),
    ):
        above = np.flatnonzero(size > limit)
        numbers[kind] = len(above)
        chosen.update(above[np.argsort(-size[above], kind="stable")][:_WORST].tolist())
    known = np.flatnonzero(np.isfinite(residual))
    order = known[np.argsort(residual[known], kind="stable")]
    chosen.update([*order[:_WORST].tolist(), *order[-_WORST:].tolist()])
    prints = np.ascontiguousarray(facts["fingerprint"]).view("V16").ravel()
    _, first, inverse, counts = np.unique(prints, return_index=True, return_inverse=True, return_counts=True)
    copies = np.flatnonzero((counts[inverse] > 1) & (first[inverse] != np.arange(len(prints))))
    numbers["duplicate"] = len(copies)
    for index in copies[:_WORST].tolist():
        chosen.update((index, int(first[inverse[index]])))
    return chosen, {kind: number for kind, number in numbers.items() if number}


def findings_of(
    facts: Mapping[str, np.ndarray], residual: np.ndarray, frame: Callable[[int], Structure]
) -> tuple[list[Finding], dict[str, int]]:
    """Suspicious findings about all frames, of which `frame` makes one, and how many are extreme in which way.

    All that is found in up to `SAMPLE` frames; of more, see the module.
    """
    extreme, numbers = extreme_frames(facts, residual)
    indices = extreme.union(sample_of(len(residual), SAMPLE).tolist())
    return find_suspicious([frame(index) for index in sorted(indices)]), numbers
