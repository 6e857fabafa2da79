"""The Kalman posterior against linear regression, and the words of what has none."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from active_tools import shaken_copper
from ase.calculators.emt import EMT
from test_charge_training import CHEBYSHEV, ions

import nnpkit
from nnpkit.data.formats.reading import write
from nnpkit.data.graph import build_graph
from nnpkit.errors import InputError
from nnpkit.measure.frames import FrameStore
from nnpkit.models.sum_potential import potential_of
from nnpkit.workflow.run_filter import load_posterior

CONFIG = {
    "data": {"train": "copper.xyz", "test_fraction": 0.2},
    "model": {
        "descriptor": {"cutoff": 4.5, "angular_cutoff": 3.5, "zetas": [1], "radial": 2},
        "network": {"hidden": [3]},
    },
    "training": {"epochs": 1},
}


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    structures = shaken_copper(5)
    for structure in structures:
        atoms = structure.to_atoms()
        atoms.calc = EMT()
        structure.energy, structure.forces = atoms.get_potential_energy(), atoms.get_forces()
    write("copper.xyz", structures)
    nnpkit.train(CONFIG)
    return tmp_path / "run"


def test_variances_are_those_of_the_linearised_model(run) -> None:
    """J by finite differences of the weights, P by multiplication: J P J^T."""
    posterior, structure = load_posterior(run), shaken_copper(1, seed=9)[0]
    (found,) = posterior.of([structure])
    model, store = posterior.model, None
    weights = torch.nn.utils.parameters_to_vector(model.networks.parameters()).detach()
    rows = []
    for k in range(len(weights)):
        values = []
        for sign in (1.0, -1.0):
            moved = weights.clone()
            moved[k] += sign * 1e-5
            torch.nn.utils.vector_to_parameters(moved, model.networks.parameters())
            store = store or FrameStore(model, [structure], np.inf)
            prediction = store.predict(0)
            values.append(torch.cat([prediction.energy, prediction.forces.flatten()]).detach().numpy())
        rows.append((values[0] - values[1]) / 2e-5)
    jacobian = np.array(rows).T
    covariance = posterior.filter.covariance.product(torch.eye(len(weights), dtype=torch.float64)).numpy()
    variance = np.einsum("ip,pq,iq->i", jacobian, covariance, jacobian)
    assert found.energy == pytest.approx(np.sqrt(variance[0]) / 4, rel=1e-5)
    np.testing.assert_allclose(found.forces, np.sqrt(variance[1:].reshape(-1, 3).sum(1)), rtol=1e-4)


@pytest.mark.parametrize("model", ["third", "fourth", "latent", "deep_potential"])
def test_variances_of_every_family(tmp_path, monkeypatch, model: str) -> None:
    """Charges that were learnt before are known, latent ones are not; a trained descriptor is not either."""
    monkeypatch.chdir(tmp_path)
    write("ions.xyz", ions(6))
    settings = {**CHEBYSHEV, "charges": {"generation": model}}
    if model == "deep_potential":
        settings = {
            "kind": model, "network": {"hidden": [3]},
            "descriptor": {"cutoff": 4.0, "embedding": [3, 3], "axis_neurons": 2},
        }  # fmt: skip
    data = {"train": "ions.xyz", "validation_fraction": 0, "test_fraction": 0}
    nnpkit.train({"data": data, "model": settings, "training": {"epochs": 1}})
    posterior, (structure,) = load_posterior("run"), ions(1, seed=5)
    (found,) = posterior.of([structure])
    weights = [p for p in posterior.model.parameters() if p.requires_grad]
    graph, flat = (
        build_graph(structure, ["Li", "F"], 4.0),
        torch.nn.utils.parameters_to_vector(weights).detach(),
    )
    rows = []
    for k in range(len(flat)):
        values = []
        for sign in (1.0, -1.0):
            moved = flat.clone()
            moved[k] += sign * 1e-5
            torch.nn.utils.vector_to_parameters(moved, weights)
            prediction = potential_of(posterior.model).predict(graph)
            values.append(torch.cat([prediction.energy, prediction.forces.flatten()]).detach().numpy())
        rows.append((values[0] - values[1]) / 2e-5)
    jacobian = np.array(rows).T
    covariance = posterior.filter.covariance.dense().numpy()
    variance = np.einsum("ip,pq,iq->i", jacobian, covariance, jacobian)
    assert found.energy == pytest.approx(np.sqrt(variance[0]) / 4, rel=1e-5)
    np.testing.assert_allclose(found.forces, np.sqrt(variance[1:].reshape(-1, 3).sum(1)), rtol=1e-4)


def test_frozen_weights_add_nothing(run) -> None:
    """Their rows and columns of P are zero in the checkpoint; what is left is the variance of the others."""
    before = load_posterior(run)
    start = {"run": "run", "freeze": [1], "covariance": True}
    nnpkit.train({**CONFIG, "output": "tuned", "start": start})
    after, structure = load_posterior("tuned"), shaken_copper(1, seed=9)[0]
    names = [name for name, _ in after.model.named_parameters()]
    sizes = [p.numel() for p in after.model.parameters()]
    frozen = torch.cat([torch.full((n,), ".layers.0." in name) for name, n in zip(names, sizes, strict=True)])
    dense = after.filter.covariance.dense()
    assert bool(frozen.any())
    assert not dense[frozen].any()
    assert bool((dense.diagonal()[~frozen] > 0.0).all())
    nnpkit.train({**CONFIG, "output": "free", "start": {"run": "tuned", "covariance": True}})
    free = load_posterior("free")
    assert bool((free.filter.covariance.diagonal() > 0.0).all())
    for name, value in after.model.named_parameters():
        moved = dict(free.model.named_parameters())[name]
        assert torch.equal(value, dict(before.model.named_parameters())[name]) == (".layers.0." in name)
        assert not torch.equal(value, moved), name  # what was frozen learns again
    (known,) = after.of([structure])
    before.model = after.model  # the same weights, none of them known
    (unknown,) = before.of([structure])
    assert 0.0 < known.energy < unknown.energy


def test_adam_has_no_posterior(run) -> None:
    nnpkit.train({**CONFIG, "output": "adam", "training": {"epochs": 1, "optimizer": {"kind": "adam"}}})
    with pytest.raises(InputError, match="no covariance of its weights is known"):
        load_posterior("adam")
    with pytest.raises(InputError, match="no checkpoint"):
        load_posterior("nowhere")
