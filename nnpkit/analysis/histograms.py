"""Distributions of energies and features: where the data are, and where they are not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from nnpkit.analysis.extrapolation import raw_features
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import LoadedModel
from nnpkit.errors import InputError

__all__ = ["energy_series", "feature_series"]


def energy_series(files: Mapping[str, Sequence[Structure]]) -> dict[str, np.ndarray]:
    """Energies per atom (eV) of the structures of each file; files without energies are left out.

    Raises
    ------
    InputError
        If no structure has an energy.
    """
    series = {
        name: np.array([s.energy / s.n_atoms for s in structures if s.energy is not None])
        for name, structures in files.items()
    }
    series = {name: values for name, values in series.items() if len(values)}
    if not series:
        raise InputError("no structure has an energy", where=", ".join(files))
    return series


def feature_series(model: LoadedModel, structures: Sequence[Structure]) -> dict[str, np.ndarray]:
    """Features of the atoms of each element in units of their ranges in the training data, all together.

    0 and 1 are the ends of the range of each feature; features without a range are left out.

    Raises
    ------
    InputError
        If the model knows no ranges.
    """
    ranges = model.metadata.get("feature_ranges")
    if not ranges:
        raise InputError("the potential knows no ranges of its features", where=model.where)
    found: dict[str, list[np.ndarray]] = {}
    for structure in structures:
        features, types = raw_features(model, structure)
        for index, element in enumerate(model.elements):
            low, high = np.array(ranges[element]["min"]), np.array(ranges[element]["max"])
            wide = high > low
            mine = features[types == index][:, : len(low)][:, wide]
            if len(mine):
                found.setdefault(element, []).append(((mine - low[wide]) / (high - low)[wide]).ravel())
    return {element: np.concatenate(parts) for element, parts in found.items()}
