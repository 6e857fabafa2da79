"""Structures that are kept in small integers, and what an update computes of them: once, and to the same bits."""

from __future__ import annotations

import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk

sys.path.insert(0, str(Path(__file__).parents[1] / "families"))
from test_acsf import make_model

from nnpkit.data import neighbors
from nnpkit.data.structure import Structure
from nnpkit.measure import frames
from nnpkit.measure.frames import FrameStore
from nnpkit.measure.label_choice import Labels
from nnpkit.measure.observations import LossWeights, Noise, Observer
from nnpkit.measure.packed_frames import PackedFrame
from nnpkit.measure.prepared_frame import Frame
from nnpkit.models.descriptor import ChangesAlong
from nnpkit.testing.trial_structures import random_structure


def structures(n: int = 3) -> list[Structure]:
    """Random ones with labels, and a cell so small that atoms see many images of themselves."""
    found = [random_structure(["H", "O"], 6 + k, seed=k) for k in range(n - 1)]
    found.append(Structure(["O", "H"], np.array([[0, 0, 0], [0.9, 0.9, 1.0]]), 1.7 * np.eye(3), np.ones(3)))
    random = np.random.default_rng(1)
    for structure in found:
        structure.energy, structure.forces = -40.0, random.normal(size=structure.positions.shape)
        structure.stress = np.diag(random.normal(size=3))
    return found


def test_a_packed_frame_has_the_same_bits_in_a_fraction_of_the_memory() -> None:
    store = FrameStore(make_model(), structures(), 0.0)
    for index in range(3):
        packed, whole = store.kept[index], store._make(index, keep=False)
        assert isinstance(packed, PackedFrame)
        for entry in fields(Frame):
            found, expected = (getattr(frame, entry.name) for frame in (packed.unpacked(), whole))
            if isinstance(expected, torch.Tensor):
                assert found.dtype == expected.dtype, entry.name
                assert torch.equal(found, expected), entry.name
            elif entry.name not in ("terms", "sites", "described", "describe"):
                assert found == expected, entry.name
        assert torch.equal(packed.unpacked().features, whole.features)
        assert packed.n_bytes < 0.6 * whole.n_bytes
    assert packed.sites.shifts.dtype == torch.int8


def test_images_beyond_small_integers_are_kept() -> None:
    """A flat cell has neighbours hundreds of lattice vectors away."""
    store = FrameStore(make_model(), structures(), 0.0)
    frame = store._make(2, keep=False)
    far = frame.sites._replace(shifts=300.0 * frame.sites.shifts)
    assert torch.equal(PackedFrame.of(frame, far, torch.clone).sites.shifts.double(), far.shifts)


def test_an_update_computes_derivatives_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forces, virials and features of a structure in one pass; PyTorch, without kernels, takes features that it has."""
    store = FrameStore(make_model(), structures(), 0.0)
    observer = Observer(store, Noise(), LossWeights())
    labels = Labels([0, 1], True, [torch.tensor([0, 4]), torch.tensor([2])], True)
    kept = Observer(FrameStore(store.model, structures(), 1e9), Noise(), LossWeights()).measure(labels)
    calls: list[str] = []
    descriptor = type(store.descriptor)
    for name in ("derivatives", "forward", "changes"):
        if not hasattr(descriptor, name):
            continue
        real = getattr(descriptor, name)
        monkeypatch.setattr(
            descriptor, name, lambda *a, _real=real, _name=name: calls.append(_name) or _real(*a)
        )
    measured = observer.measure(labels)
    compiled = isinstance(store.descriptor, ChangesAlong)
    assert calls.count("changes" if compiled else "derivatives") == 2
    assert not compiled or len(calls) == 2
    assert torch.equal(measured.jacobian, kept.jacobian)
    assert torch.equal(measured.residual, kept.residual)


def test_an_update_of_a_structure_that_is_not_kept_computes_its_features_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only what asks for energies or predictions needs them by themselves."""
    monkeypatch.setattr(frames, "EDGE_BUDGET", 0)
    store = FrameStore(make_model(), structures(), 0.0)
    if not isinstance(store.descriptor, ChangesAlong):
        pytest.skip("kernels are not compiled")
    calls: list[int] = []
    real = store.features_of
    monkeypatch.setattr(
        FrameStore, "features_of", lambda _, frame: calls.append(frame.n_atoms) or real(frame)
    )
    observer = Observer(store, Noise(), LossWeights())
    observer.measure(Labels([0, 1], True, [torch.tensor([0, 4]), torch.tensor([2])], True))
    assert calls == []
    observer.measure(Labels([1], True, None, False))
    assert calls == [7]


@pytest.mark.parametrize("scale", [1, 10**9])
def test_neighbours_are_sorted_by_centre_neighbour_and_image(
    scale: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By one number for each, or by several keys where that number would be too large."""
    atoms = bulk("Cu", cubic=True).repeat((2, 1, 1))
    structure = Structure(["Cu"] * 8, atoms.positions, atoms.cell.array, np.ones(3))
    pairs = neighbors.neighbor_pairs(structure, 6.0)
    columns = [pairs.center, pairs.neighbor, *pairs.shift.T]
    shuffled = [scale * column[np.random.default_rng(0).permutation(len(column))] for column in columns]
    order = neighbors._order(shuffled)
    assert np.array_equal(order, np.lexsort(shuffled[::-1]))
    assert np.array_equal(np.lexsort(columns[::-1]), np.arange(len(pairs.center)))
