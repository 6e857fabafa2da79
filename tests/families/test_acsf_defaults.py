"""Box 3 of Tokita and Behler: inflection points where they should be, and functions that vary."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnpkit.families.acsf.default_functions import default_functions, narrow_functions, radial_etas
from nnpkit.families.acsf.symmetry_functions import SymmetryFunction
from nnpkit.models.cutoff import cutoff_function

DISTANCES = {"H-H": 1.2, "H-O": 0.85, "O-O": 2.3}


def inflection_by_finite_differences(eta: float, cutoff: float, kind: str) -> float:
    """Where the second difference of ``exp(-eta r^2) fc(r)`` changes from negative to positive."""
    r = np.linspace(0.01, cutoff - 0.01, 20001)
    value = np.exp(-eta * r**2) * cutoff_function(torch.as_tensor(r), cutoff, kind).numpy()
    second = np.gradient(np.gradient(value, r), r)[2:-2]
    turning = np.nonzero((second[:-1] < 0.0) & (second[1:] >= 0.0))[0]
    return float(r[2:-2][turning[0]])


@pytest.mark.parametrize("kind", ["cosine", "poly2"])
def test_inflection_points_are_equidistant_from_the_shortest_distance(kind):
    etas = radial_etas(1.2, 6, 6.0, kind)
    points = [inflection_by_finite_differences(eta, 6.0, kind) for eta in etas]
    assert etas[0] == 0.0
    assert points[-1] == pytest.approx(1.2, abs=0.01)
    assert np.diff(points) == pytest.approx(np.full(5, (1.2 - points[0]) / 5), abs=0.02)


def test_a_cutoff_function_that_turns_early_leaves_it_to_the_gaussian():
    etas = radial_etas(1.2, 5, 6.0, "tanh3")
    assert etas[-1] == pytest.approx(0.5 / 1.2**2)
    assert etas == sorted(etas)


def test_a_pair_that_only_meets_far_away_still_gets_functions():
    assert radial_etas(5.0, 4, 6.0, "cosine") == radial_etas(2.7, 4, 6.0, "cosine")


def test_every_pair_and_triplet_gets_its_functions():
    functions, report = default_functions(
        ["H", "O"], DISTANCES, cutoff=6.0, angular_cutoff=4.0, kind="poly2", radial=5, angular_etas=(0.0, 0.1)
    )
    radial = [f for f in functions if f.kind == "G2"]
    angular = [f for f in functions if f.kind == "G3"]
    assert len(radial) == 4 * 5
    assert len(angular) == 6 * 8 * 2
    assert {f.cutoff for f in angular} == {4.0}
    assert len(report) == 4 + 6


def test_pairs_that_never_meet_are_left_out_and_said():
    distances = {"Li-O": 1.9, "O-O": 2.5}  # one Li per cell: no Li-Li
    functions, report = default_functions(
        ["Li", "O"], distances, cutoff=6.0, angular_cutoff=6.0, kind="cosine"
    )
    assert not any(f.center == "Li" and "Li" in f.neighbors for f in functions)
    assert any("Li-Li: no such pair" in line for line in report)
    assert any(f.center == "O" and f.neighbors == ("Li", "O") for f in functions)


def test_wide_functions_on_request():
    functions, _ = default_functions(
        ["H", "O"], DISTANCES, cutoff=6.0, angular_cutoff=6.0, kind="cosine", wide=True
    )
    assert {f.kind for f in functions} == {"G2", "G9"}


def test_functions_that_hardly_vary_are_dropped_with_the_reason():
    functions = [SymmetryFunction("G2", "H", ("O",), 6.0), SymmetryFunction("G2", "H", ("H",), 6.0)]
    minimum = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
    maximum = torch.tensor([[1.5, 2.0001]], dtype=torch.float64)
    keep, report = narrow_functions(functions, ["H"], minimum, maximum, 1e-3)
    assert keep == functions[:1]
    assert len(report) == 1
    assert "range over the data is 1.00e-04 < 0.001" in report[0]
