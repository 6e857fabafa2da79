"""What large sets are judged by: a seeded sample of frames, whose size is stated."""

from __future__ import annotations

from collections.abc import Sequence

from nnpkit.data.checks.suspicious import Finding, find_lonely, find_suspicious
from nnpkit.data.store.frame_facts import sample_of
from nnpkit.data.store.stored_frames import stores_of
from nnpkit.data.structure import Structure

__all__ = ["CHECKED", "FITTED", "findings_among", "sampled"]

FITTED = 5000
"""Frames of a set on disk from which scaling, statistics of features and reference energies follow."""
CHECKED = 500
"""Frames of a set on disk that checks look at which no store has done."""


def sampled(structures: Sequence[Structure], size: int) -> Sequence[Structure]:
    """The structures themselves if they are held in memory; else a list of a seeded sample of `size`, or of all."""
    if isinstance(structures, list):
        return structures
    return [structures[int(index)] for index in sample_of(len(structures), size)]


def findings_among(structures: Sequence[Structure], cutoff: float) -> list[Finding]:
    """Suspicious findings: of structures in memory all, of stores what was found when they were built.

    Whether atoms have neighbours within the `cutoff` (Å), which a store cannot know, is looked at in `CHECKED` frames;
    so is everything where stores and files come together.
    """
    if isinstance(structures, list):
        return find_suspicious(structures, cutoff)
    stores, whole = stores_of(structures)
    sample = sampled(structures, CHECKED)
    known = [Finding(*finding) for store in stores for finding in store.manifest["suspicious"]]
    return known + (find_lonely(sample, cutoff) if whole else find_suspicious(sample, cutoff))
