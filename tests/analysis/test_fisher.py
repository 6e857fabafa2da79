"""The Fisher information is what its definition says, evaluated with autograd and with the dense matrix."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nnpkit.analysis.fisher import (
    fisher_matrix,
    fisher_spectrum,
    loss_gradients,
    model_spectrum,
    observer_of,
)
from nnpkit.data.graph import build_graph
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.models.build import build_model, initialise
from nnpkit.models.potential import Potential
from nnpkit.training.schedules import Labels

FUNCTIONS = [
    {"kind": "G2", "center": "Cu", "neighbors": ["Cu"], "cutoff": 4.0, "eta": eta} for eta in (0.0, 0.4, 1.5)
]


@pytest.fixture(scope="module")
def model():
    spec = {
        "kind": "acsf", "elements": ["Cu"], "cutoff_kind": "cosine", "functions": FUNCTIONS, "energy_scale": 0.7,
        "reference_energies": {"Cu": -1.0}, "wall": {},
        "networks": {"Cu": {"hidden": [3], "activations": ["tanh", "linear"]}},
    }  # fmt: skip
    model = build_model(spec)
    initialise(model, "xavier", 3)
    return model


@pytest.fixture(scope="module")
def structures() -> list[Structure]:
    random = np.random.default_rng(8)
    made = []
    for n in (3, 4, 5):
        positions = random.uniform(0.0, 3.0, (n, 3)) + 2.0 * np.arange(n)[:, None]
        made.append(
            Structure(["Cu"] * n, positions, energy=float(random.normal()), forces=random.normal(size=(n, 3)))
        )
    return made


def test_gradients_are_those_of_the_l1_loss(model, structures) -> None:
    """Against autograd through the whole model, descriptor included."""
    batches = [Labels([1], True, None, False), Labels([2], False, [torch.tensor([0, 4, 11])], False)]
    found = loss_gradients(observer_of(model, structures), batches)
    weights = list(model.networks.parameters())
    for row, labels in zip(found, batches, strict=True):
        structure = structures[labels.structures[0]]
        graph = build_graph(structure, model.elements, model.cutoff)
        prediction = Potential(model)(graph, create_graph=True)
        if labels.energy:
            loss = (prediction.energy[0] - structure.energy).abs()
        else:
            error = prediction.forces.reshape(-1) - torch.as_tensor(structure.forces).reshape(-1)
            loss = error[labels.components[0]].abs().mean()
        gradient = torch.autograd.grad(loss, weights, allow_unused=True)
        flat = [torch.zeros_like(w) if g is None else g for g, w in zip(gradient, weights, strict=True)]
        assert torch.allclose(row, torch.cat([g.reshape(-1) for g in flat]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("shape", [(40, 6), (5, 9)])
def test_spectrum_is_that_of_the_matrix(shape: tuple[int, int]) -> None:
    gradients = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    spectrum = fisher_spectrum(gradients)
    matrix = sum(torch.outer(g, g) for g in gradients) / len(gradients)
    assert torch.allclose(fisher_matrix(gradients), matrix)
    dense = torch.linalg.eigvalsh(matrix).flip(0)[: min(shape)]
    np.testing.assert_allclose(spectrum.eigenvalues, dense.numpy(), rtol=1e-10, atol=1e-12)
    assert spectrum.trace == pytest.approx(float(matrix.trace()))
    assert (spectrum.n_batches, spectrum.n_weights) == shape


def test_spectrum_of_a_model(model, structures) -> None:
    spectrum = model_spectrum(model, structures, batches=30)
    summary = spectrum.summary()
    assert summary["n_batches"] == 30
    assert summary["n_weights"] == sum(p.numel() for p in model.networks.parameters())
    assert 0 < summary["n_resolved"] <= summary["n_weights"]
    assert 1.0 <= summary["effective_rank"] <= summary["n_weights"]
    assert np.all(np.diff(spectrum.eigenvalues) <= 0.0)
    again = model_spectrum(model, structures, batches=30)
    np.testing.assert_array_equal(spectrum.eigenvalues, again.eigenvalues)
    energies = [s.replace(forces=None) for s in structures]
    assert model_spectrum(model, energies, batches=10).n_batches == 10
    with pytest.raises(InputError, match="no training structure has any"):
        model_spectrum(model, [s.replace(energy=None, forces=None) for s in structures], batches=3)
