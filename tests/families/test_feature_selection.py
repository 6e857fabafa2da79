"""Which of many functions are kept, and how large the networks are."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "data"))

from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.families.acsf.chosen_functions import chosen_functions
from nnpkit.families.acsf.symmetry_functions import SymmetryFunction
from nnpkit.families.feature_selection import choose_columns, unexplained
from nnpkit.models.sizes import count_labels, hidden_nodes, most_functions


def mixtures(seed=3):
    """Nine columns that are linear combinations of three, and one constant; the three are columns 2, 5 and 7."""
    rng = np.random.default_rng(seed)
    basis = rng.normal(size=(400, 3)) * [1.0, 1e-4, 50.0]
    values = np.zeros((400, 10))
    values[:, [2, 5, 7]] = basis
    for column in (0, 1, 3, 4, 6, 8):
        values[:, column] = (basis / basis.std(0)) @ rng.normal(size=3)
    values[:, 9] = 4.0
    return values


def test_three_columns_tell_what_nine_tell():
    columns, left = choose_columns(mixtures(), np.arange(9), 3)
    assert len(columns) == 3
    assert left < 1e-12
    rest = [c for c in range(9) if c not in columns]
    assert unexplained(mixtures()[:, columns], mixtures()[:, rest]) == pytest.approx(np.zeros(6), abs=1e-10)


def test_the_unit_of_a_column_does_not_matter():
    values = mixtures()
    first, _ = choose_columns(values, np.arange(9), 2)
    second, _ = choose_columns(values * 10.0 ** np.arange(-5, 5), np.arange(9), 2)
    assert first.tolist() == second.tolist()


def test_a_function_of_its_own_is_not_lost():
    rng = np.random.default_rng(1)
    values = np.column_stack([mixtures()[:, :9], rng.normal(size=400) * 1e-7])
    assert 9 in choose_columns(values, np.arange(10), 4)[0]


def test_what_is_left_is_the_variance_outside_of_a_linear_model():
    x = np.linspace(-1.0, 1.0, 2001)
    found = unexplained(x[:, None], np.column_stack([2.0 * x + 3.0, x**2, x**3]))
    assert found == pytest.approx([0.0, 1.0, 4.0 / 25.0], abs=2e-3)  # 1 - (3/5)^2 * 7/3 of a cube


def chain(n=30):
    """Structures of three H atoms at random distances."""
    rng = np.random.default_rng(5)
    return [Structure(["H"] * 3, np.diag(rng.uniform(0.8, 1.6, 3)), name=f"frame {i}") for i in range(n)]


def test_all_functions_stay_if_they_are_not_too_many():
    functions = [SymmetryFunction("G2", "H", ("H",), 6.0, eta=eta) for eta in (0.0, 0.1, 0.4)]
    kept, report = chosen_functions(["H"], functions, "cosine", 0.0, chain(), 3, 1e-6)
    assert kept == functions
    assert report == []
    kept, report = chosen_functions(["H"], functions, "cosine", 0.0, chain(), 2, 1e-6)
    assert len(kept) == 2
    assert "H: 2 of 3 functions" in report[0]


def test_functions_that_do_not_vary_are_dropped_and_an_element_without_any_is_an_error():
    functions = [SymmetryFunction("G2", "H", ("H",), 6.0, eta=eta) for eta in (0.1, 60.0)]
    kept, report = chosen_functions(["H"], functions, "cosine", 0.0, chain(), 10, 1e-6)
    assert kept == functions[:1]
    assert "varies by" in report[0]
    with pytest.raises(InputError, match="no symmetry function of H varies by more than 100"):
        chosen_functions(["H"], functions, "cosine", 0.0, chain(), 10, 100.0)


def test_labels_of_each_element_are_counted():
    water = Structure(["H", "H", "O"], np.eye(3), energy=1.0, forces=np.zeros((3, 3)))
    oxygen = Structure(["O", "O"], np.eye(3)[:2], energy=1.0)
    assert count_labels([water, oxygen], ["H", "O"], forces=True) == {"H": 1 + 6, "O": 2 + 3}
    assert count_labels([water, oxygen], ["H", "O"], forces=False) == {"H": 1, "O": 2}


@pytest.mark.parametrize(
    ("labels", "nodes"), [(10**6, 25), (17009, 20), (10000, 15), (10, 10)],
)  # fmt: skip
def test_networks_are_as_wide_as_the_labels_allow(labels, nodes):
    assert hidden_nodes({"Cu": 40}, {"Cu": labels}) == {"Cu": [nodes, nodes]}


def test_many_elements_cost_no_more_than_twice_what_two_cost():
    def weights(n):
        elements = ["H", "C", "N", "O", "S"][:n]
        found = hidden_nodes(dict.fromkeys(elements, most_functions(n)), dict.fromkeys(elements, 10**6))
        return sum(h * (most_functions(n) + h + 3) + 1 for h, _ in found.values())

    assert weights(2) == 3402
    assert all(weights(n) < 1.15 * weights(2) for n in (3, 4, 5))
