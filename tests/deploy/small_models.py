"""Models and structures small enough for quick tests, with everything switched on."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from nnpkit.data.structure import Structure
from nnpkit.families.factory import build_model, initialise
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.scaling import FeatureStatistics

ELEMENTS = ["O", "H"]  # not in the order of atomic numbers
CUTOFF = 4.5  # Å


def small_spec(**changes: Any) -> dict[str, Any]:
    """Description of a model of O and H with radial and both kinds of angular functions; keys can be changed."""
    functions = []
    for center in ELEMENTS:
        for neighbor in ELEMENTS:
            for eta, shift in ((0.05, 0.0), (2.0, 1.0), (0.8, 0.0)):
                functions.append(dict(kind="G2", center=center, neighbors=[neighbor], eta=eta, shift=shift))
        for pair in (["O", "O"], ["O", "H"], ["H", "H"]):
            for kind, eta, zeta, lam, shift in (("G3", 0.02, 1.0, 1.0, 0.0), ("G9", 0.05, 4.0, -1.0, 0.3)):
                functions.append(
                    dict(kind=kind, center=center, neighbors=pair, eta=eta, zeta=zeta, lam=lam, shift=shift)
                )
    return {
        "kind": "acsf",
        "elements": ELEMENTS,
        "cutoff_kind": "tanh3",
        "cutoff_inner": 0.0,
        "functions": [{"cutoff": CUTOFF, **f} for f in functions],
        "networks": {e: {"hidden": [6, 5], "activations": ["tanh", "tanh", "linear"]} for e in ELEMENTS},
        "energy_scale": 0.7,
        "reference_energies": {"O": -432.123456789012345, "H": -13.6056980659},
        "wall": {},
        **changes,
    }


def small_model(scaling: str = "minmax_center", seed: int = 3, **changes: Any) -> AtomicModel:
    """Model of `small_spec` with random weights and a scaling of plausible random statistics."""
    model = build_model(small_spec(**changes))
    initialise(model, "xavier", seed)
    generator = torch.Generator().manual_seed(seed)
    shape = tuple(model.scaling.shift.shape)

    def uniform(low: float, high: float) -> torch.Tensor:
        return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)

    minimum, width = uniform(0.0, 0.2), uniform(0.5, 2.0)
    mean, sigma = minimum + 0.4 * width, uniform(0.1, 0.3) * width
    model.scaling.set(FeatureStatistics(minimum, minimum + width, mean, sigma), scaling, -0.5, 1.5)
    for parameter in model.parameters():
        parameter.data *= 1.5
    return model


def cluster(n: int = 9, seed: int = 5, periodic: bool = True, symbols: list[str] | None = None) -> Structure:
    """Random atoms, none closer than 0.9 Å, in a triclinic cell that is smaller than the cutoff sphere."""
    random = np.random.default_rng(seed)
    cell = np.array([[5.0, 0.0, 0.0], [0.7, 4.6, 0.0], [-0.4, 0.9, 5.2]])
    images = np.array([[i, j, k] for i in (-1, 0, 1) for j in (-1, 0, 1) for k in (-1, 0, 1)]) @ cell
    positions = np.zeros((0, 3))
    while len(positions) < n:
        trial = random.uniform(size=3) @ cell
        distances = np.linalg.norm(positions[:, None] + images[None] - trial, axis=2)
        if distances.size == 0 or distances.min() > 0.9:
            positions = np.vstack([positions, trial])
    return Structure(
        symbols or [["O", "H", "H"][k % 3] for k in range(n)], positions,
        cell if periodic else np.zeros((3, 3)), periodic, name="cluster",
    )  # fmt: skip
