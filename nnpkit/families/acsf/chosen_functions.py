"""The symmetry functions that tell the environments of the data apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.families.acsf.symmetry_functions import Acsf, SymmetryFunction
from nnpkit.families.feature_selection import choose_columns, sample_features

__all__ = ["chosen_functions"]


def chosen_functions(
    elements: Sequence[str],
    functions: Sequence[SymmetryFunction],
    cutoff_kind: str,
    cutoff_inner: float,
    structures: Sequence[Structure],
    most: int,
    threshold: float,
) -> tuple[list[SymmetryFunction], list[str]]:
    """The functions that tell the environments in `structures` apart, and how many they are of how many.

    Parameters
    ----------
    most : int
        Largest number of functions of an element.
    threshold : float
        Smallest range of values of a function that is kept.

    Raises
    ------
    InputError
        If an element would be left without functions.
    """
    samples = sample_features(Acsf(elements, functions, cutoff_kind, cutoff_inner), elements, structures)
    keep: list[SymmetryFunction] = []
    report: list[str] = []
    for element, values in zip(elements, samples, strict=True):
        own = [f for f in functions if f.center == element]
        wide = np.ptp(values, axis=0) >= threshold if len(values) else np.zeros(len(own), dtype=bool)
        if not wide.any():
            raise InputError(
                f"no symmetry function of {element} varies by more than {threshold:g} over the data",
                where="model.descriptor.minimum_range", hint="lower it, or give structures that differ",
            )  # fmt: skip
        report += [
            f"dropped {own[column]}: over the data it varies by {np.ptp(values[:, column]):.2e} < {threshold:g}"
            for column in np.flatnonzero(~wide)
        ]
        columns = np.flatnonzero(wide)
        if len(columns) > most:
            columns, unexplained = choose_columns(values, columns, most)
            report.append(
                f"{element}: {len(columns)} of {int(wide.sum())} functions; a linear model of them leaves "
                f"{unexplained:.1e} of the variance of the others unexplained"
            )
        keep += [own[column] for column in columns]
    return keep, report
