"""The fast measurements of each family against automatic differentiation of the potential itself."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from nnpkit.errors import InputError
from nnpkit.families.factory import build_model
from nnpkit.measure.autograd import AutogradObserver, GraphStore
from nnpkit.testing.measurer_suite import MeasurerSuite, labelled_structures

FAMILIES = Path(__file__).parents[1] / "families"
WALL = {"H-O": 1.6, "O-O": 2.0, "H-H": 1.5}


def model_of(family: str, terms: dict | None = None):
    """The small model of the tests of a family, with a repulsion, and with other terms."""
    spec = importlib.util.spec_from_file_location(f"test_{family}", FAMILIES / f"test_{family}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.make_model(wall=WALL)
    if terms is None:
        return model
    other = build_model({**model.spec, "terms": terms})
    other.load_state_dict(model.state_dict())
    return other


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


class TestTerms(TestOwnFamilies):
    """The same with dispersion, which reaches farther than the networks."""

    @pytest.fixture(params=["acsf", "chebyshev", "cluster_expansion", "deep_potential"])
    def model(self, request):
        parameters = {"H": [1.5, 1.0], "O": [7.3, 1.3]}
        return model_of(
            request.param, {"dispersion": {"scale": 2.0, "cutoff": 9.0, "parameters": parameters}}
        )


def test_missing_labels_are_named() -> None:
    model = model_of("acsf")
    structures = labelled_structures(model.elements)
    structures[0].energy = None
    observer = AutogradObserver(
        GraphStore(model, structures, 1e9), MeasurerSuite.noise, MeasurerSuite.weights
    )
    with pytest.raises(InputError, match="no energy"):
        observer.measure(MeasurerSuite.choices["energies"])
