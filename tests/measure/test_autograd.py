"""The fast measurements of each family against automatic differentiation of the potential itself."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch
from suite import random_structure

from nnpkit.errors import InputError
from nnpkit.families.registered import family_of
from nnpkit.measure.autograd import AutogradObserver, GraphStore
from nnpkit.measure.label_choice import Labels
from nnpkit.measure.observations import LossWeights, Noise

FAMILIES = Path(__file__).parents[1] / "families"
WALL = {"H-O": 1.6, "O-O": 2.0, "H-H": 1.5}
NOISE = Noise(energy=2e-3, force=0.1, divide_by_atoms=True, energy_factor=3.0)
WEIGHTS = LossWeights(1.0, 2.0, 0.5)
FACTORS = [0.5, 2.0, 1.5]


def model_of(family: str):
    """The small model of the tests of a family, with a repulsion."""
    spec = importlib.util.spec_from_file_location(f"test_{family}", FAMILIES / f"test_{family}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make_model(wall=WALL)


def labelled_structures():
    structures = []
    for seed in (21, 22, 23):
        rng = np.random.default_rng(seed)
        structure = random_structure(["H", "O"], 6 + seed % 3, seed=seed)
        structure.energy = -40.0 + float(rng.normal())
        structure.forces = rng.normal(size=structure.positions.shape)
        stress = rng.normal(size=(3, 3))
        structure.stress = 0.5 * (stress + stress.T)
        structures.append(structure)
    return structures


@pytest.fixture(params=["acsf", "chebyshev", "cluster_expansion", "deep_potential"])
def observers(request):
    """What the family measures with, and the slow and right way."""
    model, structures = model_of(request.param), labelled_structures()
    family = family_of(model.spec)
    store = family.preparation(model, structures)(structures, 1e9)
    if request.param == "deep_potential":  # series as long as rounding lets them be of use
        store.resolution.set(96)
    fast = family.observer(store, NOISE, WEIGHTS, FACTORS)
    return fast, AutogradObserver(GraphStore(model, structures, 0.0), NOISE, WEIGHTS, FACTORS)


COMPONENTS = [torch.tensor([0, 7, 7, 13]), torch.tensor([2])]
CHOICES = {
    "energies": Labels([0, 1, 2], True, None, False),
    "forces": Labels([0, 2], False, COMPONENTS, False),
    "signed means": Labels([0, 2], False, [torch.arange(9), torch.arange(6)], False, 3),
    "virials": Labels([1, 2], False, None, True),
    "everything": Labels([0, 2], True, COMPONENTS, True),
}


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.shape == expected.shape
    tolerance = 1e-10 * max(1.0, float(expected.abs().max()))
    torch.testing.assert_close(found, expected, atol=tolerance, rtol=0.0)


@pytest.mark.parametrize("choice", CHOICES)
def test_residuals_and_rows_are_those_of_the_potential(observers, choice: str) -> None:
    fast, slow = (observer.measure(CHOICES[choice]) for observer in observers)
    close(fast.residual, slow.residual)
    close(fast.jacobian, slow.jacobian)
    close(fast.noise, slow.noise)
    assert (fast.origin is None) == (slow.origin is None)
    if fast.origin is not None:
        for own, other in zip(fast.origin, slow.origin, strict=True):
            close(torch.as_tensor(own, dtype=torch.float64), torch.as_tensor(other, dtype=torch.float64))


@pytest.mark.parametrize("choice", ["energies", "forces", "virials", "everything"])
def test_the_loss_and_its_gradient_are_those_of_the_potential(observers, choice: str) -> None:
    found = []
    for observer in observers:
        loss = observer.loss(CHOICES[choice])
        gradient = torch.autograd.grad(loss, observer.parameters, materialize_grads=True)
        found.append((loss.detach(), torch.cat([g.reshape(-1) for g in gradient])))
    for fast, slow in zip(*found, strict=True):
        close(fast, slow)


def test_predictions_are_the_same_kept_or_not(observers) -> None:
    fast, slow = observers
    kept = GraphStore(slow.model, slow.store.structures[:2], 1e9, additional=slow.store.structures[2:])
    assert (len(kept.kept), len(slow.store.kept)) == (3, 0)
    for index in range(3):
        for own, other in zip(kept.predict(index), slow.store.predict(index), strict=True):
            torch.testing.assert_close(own, other, rtol=0.0, atol=0.0)
        close(fast.store.predict(index).forces, kept.predict(index).forces)


def test_missing_labels_are_named() -> None:
    model, structures = model_of("acsf"), labelled_structures()
    structures[0].energy = None
    observer = AutogradObserver(GraphStore(model, structures, 1e9), NOISE, WEIGHTS)
    with pytest.raises(InputError, match="no energy"):
        observer.measure(CHOICES["energies"])
