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
from nnpkit.families.factory import build_model, initialise
from nnpkit.measure.label_choice import Labels
from nnpkit.models.potential import Potential

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
    some = [torch.tensor([0, 4, 11]), torch.tensor([2, 3])]
    batches = [
        Labels([1], True, None, False),
        Labels([2], False, some[:1], False),
        Labels([2, 0], True, some, False),
    ]
    c = {"energy": 1.0, "force": 0.4, "virial": 1.0}
    for weights in (None, c):
        found = loss_gradients(observer_of(model, structures), batches, weights)
        for row, labels in zip(found, batches, strict=True):
            assert torch.allclose(
                row, gradient_of_l1(model, structures, labels, weights), rtol=1e-10, atol=1e-12
            )


def gradient_of_l1(model, structures, labels, weights) -> torch.Tensor:
    """Of the sum of sqrt(c/n) |error| of each kind, with n the number of its labels."""
    errors: dict[str, list[torch.Tensor]] = {"energy": [], "force": []}
    for place, index in enumerate(labels.structures):
        graph = build_graph(structures[index], model.elements, model.cutoff)
        prediction = Potential(model)(graph, create_graph=True)
        if labels.energy:
            errors["energy"].append(prediction.energy - structures[index].energy)
        if labels.components is not None:
            error = prediction.forces.reshape(-1) - torch.as_tensor(structures[index].forces).reshape(-1)
            errors["force"].append(error[labels.components[place]])
    loss = torch.zeros((), dtype=torch.float64)
    for kind, parts in errors.items():
        if parts:
            xi = torch.cat(parts)
            loss = loss + (xi.abs() * ((1.0 if weights is None else weights[kind]) / len(xi)) ** 0.5).sum()
    parameters = list(model.networks.parameters())
    gradient = torch.autograd.grad(loss, parameters, allow_unused=True)
    flat = [torch.zeros_like(w) if g is None else g for g, w in zip(gradient, parameters, strict=True)]
    return torch.cat([g.reshape(-1) for g in flat])


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
