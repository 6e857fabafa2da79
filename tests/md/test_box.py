"""The cell as LAMMPS wants it is the same crystal."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nnpkit.data.neighbors import neighbor_pairs
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.md.box import data_text, lammps_box

numbers = st.floats(-6.0, 6.0, allow_nan=False, width=32)
SKEWED = np.array([[5.0, 0.3, -0.2], [7.9, 4.1, 0.4], [-6.1, 5.2, 6.3]])


def distances(structure: Structure, cutoff: float = 5.0) -> np.ndarray:
    """Sorted distances of all neighbours of every atom, (E,)."""
    pairs = neighbor_pairs(structure, cutoff)
    vectors = (
        structure.positions[pairs.neighbor] + pairs.shift @ structure.cell - structure.positions[pairs.center]
    )
    return np.sort(np.linalg.norm(vectors, axis=1))


@given(cell=arrays(np.float64, (3, 3), elements=numbers), seed=st.integers(0, 99))
def test_any_cell_becomes_an_equivalent_box(cell: np.ndarray, seed: int) -> None:
    scale = np.prod(np.linalg.norm(cell, axis=1))
    if not abs(np.linalg.det(cell)) > max(5.0, 0.02 * scale):
        return
    positions = np.random.default_rng(seed).uniform(-10, 10, (5, 3))
    box = lammps_box(Structure(["H"] * 5, positions, cell, True))
    new = box.cell
    assert np.array_equal(new, np.tril(new))
    assert (np.diag(new) > 0).all()
    assert (
        max(abs(new[1, 0]) / new[0, 0], abs(new[2, 0]) / new[0, 0], abs(new[2, 1]) / new[1, 1]) <= 0.5 + 1e-12
    )
    # the same lattice: the vectors are whole combinations of the old ones, the volume stays
    combination = new @ np.linalg.inv(cell @ box.rotation.T)
    np.testing.assert_allclose(combination, np.round(combination), atol=1e-9)
    np.testing.assert_allclose(abs(np.linalg.det(combination)), 1.0, rtol=1e-9)
    np.testing.assert_allclose(box.rotation @ box.rotation.T, np.eye(3), atol=1e-12)
    # the same atoms, inside
    np.testing.assert_allclose(box.positions + box.images @ new, positions @ box.rotation.T, atol=1e-9)
    fractional = np.linalg.solve(new.T, box.positions.T).T
    assert fractional.min() > -1e-12
    assert fractional.max() < 1 + 1e-12


@pytest.mark.parametrize("mirror", [1.0, -1.0])
def test_distances_stay(mirror: float) -> None:
    cell = SKEWED * [mirror, 1.0, 1.0]
    positions = np.random.default_rng(1).uniform(0, 6, (6, 3))
    start = Structure(["H"] * 6, positions, cell, True)
    box = lammps_box(start)
    assert box.tilted
    same = Structure(["H"] * 6, box.positions, box.cell, True)
    np.testing.assert_allclose(distances(same), distances(start), rtol=1e-12)


def test_an_orthogonal_cell_stays_as_it_is() -> None:
    cell = np.diag([3.0, 4.0, 5.0])
    box = lammps_box(Structure(["H"], [[3.5, -1.0, 2.0]], cell, True))
    assert np.array_equal(box.cell, cell)
    assert not box.tilted
    np.testing.assert_allclose(box.positions, [[0.5, 3.0, 2.0]])
    assert box.images.tolist() == [[1, -1, 0]]


def test_a_cluster_gets_a_box_around_it() -> None:
    positions = np.array([[0.0, 0.0, 0.0], [1.0, -7.0, 0.0]])
    box = lammps_box(Structure(["H", "H"], positions))
    assert np.array_equal(box.positions, positions)
    assert (box.origin < positions.min(0)).all()
    assert (box.origin + np.diag(box.cell) > positions.max(0)).all()


@pytest.mark.parametrize("open_axis", [0, 1, 2])
def test_a_slab_keeps_its_lattice(open_axis: int) -> None:
    periodic = np.arange(3) != open_axis
    positions = np.random.default_rng(3).uniform(0, 4, (4, 3))
    start = Structure(["H"] * 4, positions, SKEWED, periodic)
    box = lammps_box(start)
    same = Structure(["H"] * 4, box.positions, box.cell, periodic)
    np.testing.assert_allclose(distances(same), distances(start), rtol=1e-12)
    others = [k for k in range(3) if k != open_axis]
    assert not box.cell[open_axis, others].any()
    assert not box.cell[others, open_axis].any()


def test_the_data_file() -> None:
    start = Structure(["O", "H"], [[0.1, 0.2, 0.3], [9.5, 0, 0]], np.diag([9.0, 9, 9]), True, name="w.xyz#3")
    text = data_text(start, ["H", "O"])
    assert text.startswith("w.xyz#3: ")
    assert "1 1.008000  # H\n2 15.999000  # O" in text
    assert "1 2 0.1 0.2 0.3 0 0 0\n2 1 0.5 0.0 0.0 1 0 0\n" in text
    assert "xy xz yz" not in text
    assert "0.0 0.0 0.0 xy xz yz" in data_text(start, ["H", "O"], triclinic=True)


@pytest.mark.parametrize(
    ("cell", "positions", "message"),
    [
        (np.zeros((3, 3)), [[0, 0, 0]], "do not span a volume"),
        ([[1, 0, 0], [0, 1, 0], [1, 1, 0]], [[0, 0, 0]], "do not span a volume"),
        (np.eye(3), [[0, np.nan, 0]], "not finite"),
        (np.eye(3), np.zeros((0, 3)), "no atoms"),
    ],
)
def test_impossible_structures_are_refused(cell, positions, message) -> None:
    with pytest.raises(InputError, match=rf"a\.xyz.*{message}"):
        lammps_box(Structure(["H"] * len(positions), positions, cell, True, name="a.xyz"))
