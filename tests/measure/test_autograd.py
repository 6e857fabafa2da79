"""The fast measurements of each family against automatic differentiation of the potential itself."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from nnpkit.errors import InputError
from nnpkit.measure.autograd import AutogradObserver, GraphStore
from nnpkit.testing.measurer_suite import MeasurerSuite, labelled_structures

FAMILIES = Path(__file__).parents[1] / "families"
WALL = {"H-O": 1.6, "O-O": 2.0, "H-H": 1.5}


def model_of(family: str):
    """The small model of the tests of a family, with a repulsion."""
    spec = importlib.util.spec_from_file_location(f"test_{family}", FAMILIES / f"test_{family}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.make_model(wall=WALL)


class TestOwnFamilies(MeasurerSuite):
    """Ours, as those of other packages."""

    @pytest.fixture(params=["acsf", "chebyshev", "cluster_expansion", "deep_potential"])
    def model(self, request):
        return model_of(request.param)

    def prepare(self, model, structures):
        store = super().prepare(model, structures)
        if model.spec["kind"] == "deep_potential":  # series as long as rounding lets them be of use
            store.resolution.set(96)
        return store


def test_missing_labels_are_named() -> None:
    model = model_of("acsf")
    structures = labelled_structures(model.elements)
    structures[0].energy = None
    observer = AutogradObserver(
        GraphStore(model, structures, 1e9), MeasurerSuite.noise, MeasurerSuite.weights
    )
    with pytest.raises(InputError, match="no energy"):
        observer.measure(MeasurerSuite.choices["energies"])
