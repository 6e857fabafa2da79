"""What the kernels find in training a cluster expansion is what PyTorch finds."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from test_cluster_expansion import LISTS, labelled, make_model

from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.families.cluster_expansion.compiled_observer import CompiledObserver
from nnpkit.families.registered import family_of
from nnpkit.kernels.native import ISAS
from nnpkit.measure.label_choice import Labels
from nnpkit.measure.observations import LossWeights, Noise
from nnpkit.testing.trial_structures import random_structure

WITHOUT, LIBRARY = "/nowhere/libnnpkit_ops.so", os.environ.get("NNPKIT_OPS_LIBRARY")
NEP = [[1, 1], [2, 2], [3, 3], [4, 4], [2, 2, 2], [1, 1, 1, 1]]
MODELS = {
    "two elements": {},
    "one element": {"elements": ["Cu"], "radial_channels": 8, "angular_channels": 8, "angular_basis": 8},
    "many channels": {"elements": ["O"], "radial_channels": 9, "angular_channels": 10, "angular_basis": 9},
    "nep": {"kind": "nep", "invariants": NEP, "radial_basis": 9, "cutoff_kind": "poly2"},
    "short radial": {"radial_cutoff": 2.6, "cutoff_kind": "poly3", "wall": {"H-O": 1.1, "H-H": 0.8, "O-O": 1.2}},
    "five bodies": {"elements": ["H", "C", "O"], "invariants": [[1, 1], [1, 2, 3], [1, 1, 2, 2], [2, 2, 4, 4]]},
}  # fmt: skip


def stores(model, structures, monkeypatch, isa: str):
    """The structures prepared for PyTorch and for the kernels."""
    prepare = family_of(model.spec).preparation(model, structures)
    monkeypatch.setenv("NNPKIT_OPS_LIBRARY", WITHOUT)
    slow = prepare(structures, 1e9)
    if LIBRARY is None:
        monkeypatch.delenv("NNPKIT_OPS_LIBRARY")
    else:
        monkeypatch.setenv("NNPKIT_OPS_LIBRARY", LIBRARY)
    monkeypatch.setenv("NNPKIT_ISA", isa)
    try:
        fast = prepare(structures, 1e9)
    except InputError as reason:
        pytest.skip(str(reason))
    if fast.kernel is None:
        pytest.skip("no kernels are compiled")
    assert slow.kernel is None
    assert fast.kernel.isa == isa
    return slow, fast


def structures_of(model) -> list[Structure]:
    elements = list(model.elements)
    some = [labelled(random_structure(elements, n, seed=n), n) for n in (1, 7)]
    small = Structure(elements[:1], np.zeros((1, 3)), 2.5 * np.eye(3), [True] * 3)  # sees its images alone
    return [*some, labelled(small)]


def near(found: torch.Tensor, expected: torch.Tensor) -> None:
    assert found.shape == expected.shape
    size = float(expected.abs().max()) if expected.numel() else 0.0
    torch.testing.assert_close(found, expected, rtol=0.0, atol=1e-11 * max(1.0, size))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", MODELS)
def test_measurements_are_those_of_pytorch(name: str, isa: str, monkeypatch) -> None:
    model = make_model(**MODELS[name])
    structures = structures_of(model)
    slow, fast = stores(model, structures, monkeypatch, isa)
    family = family_of(model.spec)
    n = len(structures)
    components = [torch.arange(3), torch.tensor([0, 1, 2, 9, 13, 20]), torch.arange(2)]
    for labels in (
        Labels([0, 1, 2], True, components, True),
        Labels([1], True, None, False),
        Labels([1], False, [torch.arange(21)], False),
        Labels([2, 1], True, [torch.arange(3), torch.arange(20)], True, 6),
    ):
        weights = LossWeights(energy=1.3, force=0.4, virial=0.2)
        a, b = (family.observer(store, Noise(), weights, [0.5] * n) for store in (slow, fast))
        assert not isinstance(a, CompiledObserver)
        assert isinstance(b, CompiledObserver)
        expected, found = a.measure(labels), b.measure(labels)
        near(found.residual, expected.residual)
        near(found.jacobian, expected.jacobian)
        assert torch.equal(found.noise, expected.noise)
        assert (found.origin is None) == (expected.origin is None)
        if labels.group is None:
            gradients = []
            for observer in (a, b):
                loss = observer.loss(labels)
                own = torch.autograd.grad(loss, observer.parameters)
                gradients.append(torch.cat([loss.detach().reshape(1), *(g.reshape(-1) for g in own)]))
            near(gradients[1], gradients[0])
    for index in range(n):
        for one, other in zip(fast.predict(index), slow.predict(index), strict=True):
            if isinstance(other, torch.Tensor):
                near(one, other)


def test_the_best_instructions_are_the_default(monkeypatch) -> None:
    """And equal input gives equal bits."""
    model = make_model(invariants=LISTS)
    structures = structures_of(model)
    monkeypatch.delenv("NNPKIT_ISA", raising=False)
    family = family_of(model.spec)
    store = family.preparation(model, structures)(structures, 1e9)
    if store.kernel is None:
        pytest.skip("no kernels are compiled")
    labels = Labels([1], True, [torch.arange(4)], True)
    observer = family.observer(store, Noise(), LossWeights())
    first, again = observer.measure(labels), observer.measure(labels)
    assert torch.equal(first.jacobian, again.jacobian)
    assert torch.equal(first.residual, again.residual)
    assert store[1].moments is None
