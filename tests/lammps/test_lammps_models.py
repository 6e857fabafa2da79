"""The models that nnpkit exports: LAMMPS agrees with PyTorch, single precision and short-range wall included."""

from __future__ import annotations

import copy
import io
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from harness import SIX, lmp, measure, random_structure, setup, write_data

from nnpkit.data.graph import build_graph
from nnpkit.data.structure import Structure
from nnpkit.deploy.targets.torchscript import export_model
from nnpkit.families.acsf.symmetry_functions import SymmetryFunction
from nnpkit.families.deep_potential.embedding import EnvironmentStatistics
from nnpkit.families.factory import build_model, initialise
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.potential import Potential
from nnpkit.seal import seal

TRICLINIC = [[9.0, 0.0, 0.0], [2.1, 8.5, 0.0], [-1.7, 1.3, 8.8]]


def functions() -> list[SymmetryFunction]:
    """A few of each kind, with several cutoffs."""
    radial = [
        SymmetryFunction("G2", center, (neighbor,), cutoff, eta, shift)
        for center in "OH"
        for neighbor in "OH"
        for cutoff, eta, shift in ((4.2, 0.1, 0.0), (3.5, 2.0, 1.2))
    ]
    angular = [
        SymmetryFunction(kind, center, pair, 3.8, 0.05, 0.0, zeta, lam)
        for kind in ("G3", "G9")
        for center in "OH"
        for pair in (("O", "H"), ("H", "H"))
        for zeta, lam in ((1.0, 1.0), (4.0, -1.0))
    ]
    return radial + angular


@pytest.fixture(scope="module", params=["acsf", "chebyshev", "cluster_expansion", "deep_potential"])
def model(request: pytest.FixtureRequest) -> AtomicModel:
    """A potential with random weights and a wall."""
    spec: dict[str, Any] = {
        "kind": request.param,
        "elements": ["H", "O"],  # not the order of the atom types
        "energy_scale": 1.0,
        "reference_energies": {"H": -13.6, "O": -2041.0},
        "wall": {"H-O": 1.3, "H-H": 1.3, "O-O": 1.5},
    }
    network: dict[str, Any] = {"hidden": [6, 5], "activations": ["tanh", "tanh", "linear"]}
    if request.param == "chebyshev":
        orders = {"radial_order": 8, "radial_cutoff": 4.2, "angular_order": 4, "angular_cutoff": 3.0}
        own = {"descriptor": {**orders, "cutoff_kind": "cosine", "weights": {"H": -1.0, "O": 1.0}}}
    elif request.param == "cluster_expansion":
        radial = {"radial_cutoff": 4.2, "radial_channels": 4, "radial_basis": 5, "cutoff_kind": "cosine"}
        angular = {"angular_cutoff": 3.0, "angular_channels": 3, "angular_basis": 4}
        own = {"descriptor": {**radial, **angular, "invariants": [[1, 1], [2, 2], [2, 2, 2], [1, 1, 1, 1]]}}
    elif request.param == "acsf":
        own = {"functions": [f.to_dict() for f in functions()], "cutoff_kind": "tanh3", "cutoff_inner": 0.0}
    else:
        network = {"hidden": [6, 6], "activation": "tanh", "timestep": True}
        descriptor = {"cutoff": 4.2, "smooth_from": 1.5, "cutoff_kind": "poly2", "embedding": [3, 6]}
        own = {"descriptor": {**descriptor, "axis_neurons": 2, "one_side": False}}
    model = build_model({**spec, **own, "networks": dict.fromkeys("HO", network)})
    initialise(model, "xavier", 1)
    if request.param == "cluster_expansion":
        model.scaling.factor.fill_(0.02)
    if request.param == "deep_potential":
        mean, std = torch.tensor([0.1, 0.12]), torch.tensor([[0.2, 0.1], [0.15, 0.12]])
        model.descriptor.set(EnvironmentStatistics(mean, std, torch.tensor([[15.0, 8.0], [16.5, 7.2]])))
    return model


@pytest.fixture(scope="module")
def atoms() -> Atoms:
    return random_structure(45, TRICLINIC, seed=20, closest=1.1)


def predicted(model: AtomicModel, atoms: Atoms) -> Any:
    structure = Structure.from_atoms(atoms, name="test")
    return Potential(model)(build_graph(structure, model.elements, model.cutoff))


@pytest.mark.parametrize(
    ("ranks", "settings"), [(1, {}), (2, {"units": "real"}), (4, {"processors": "1 1 4"})]
)
def test_lammps_is_pytorch(
    folder: Path, model: AtomicModel, atoms: Atoms, ranks: int, settings: dict[str, str]
) -> None:
    export_model(model, folder / "toy.pt")
    expected = predicted(model, atoms)
    found = measure(folder, atoms, ranks, **settings)
    assert found.energy == pytest.approx(expected.energy.item(), rel=1e-12)
    np.testing.assert_allclose(found.forces, expected.forces.numpy(), rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.energies, expected.atomic_energy.numpy(), rtol=1e-12)
    virial = np.array([expected.virial[0, a, b] for a, b in SIX])
    np.testing.assert_allclose(found.virial, virial, rtol=0, atol=1e-11 * abs(virial).max())


def test_single_precision(folder: Path, model: AtomicModel, atoms: Atoms) -> None:
    export_model(model, folder / "toy.pt")
    expected, found = predicted(model, atoms), measure(folder, atoms, 1, "precision float32")
    assert found.energy == pytest.approx(expected.energy.item(), abs=1e-4 * len(atoms))
    np.testing.assert_allclose(found.forces, expected.forces.numpy(), rtol=0, atol=1e-3)
    assert torch.get_default_dtype() == torch.float32  # nothing here touches the global state


@pytest.mark.parametrize(("precision", "kernel"), [("mixed", "fused"), ("float32", "torchscript")])
def test_large_gradients_are_no_damage(folder: Path, model: AtomicModel, precision: str, kernel: str) -> None:
    """Rounding of a self-test whose gradients are hundreds of eV/Å is rounding; one changed weight is not."""
    steep = copy.deepcopy(model)
    steep.energy_scale = steep.spec["energy_scale"] = 2000.0
    export_model(steep, folder / "steep.pt")
    extra = {"metadata.json": ""}
    module = torch.jit.load(folder / "steep.pt", _extra_files=extra)
    assert module.self_test()[5].abs().max() > 100.0
    write_data(folder / "data.lmp", random_structure(12, TRICLINIC, seed=20))
    text = (
        setup()
        + f"pair_style nnpkit precision {precision} kernel {kernel}\npair_coeff * * steep.pt O H\nrun 0\n"
    )
    result = lmp(folder, text)
    assert result.returncode == 0, result.output
    weight = max(dict(module.named_parameters()).values(), key=lambda w: w.numel())
    with torch.no_grad():
        weight.view(-1)[0] *= 1.0 + 1e-5
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        buffer = io.BytesIO()
        torch.jit.save(module, buffer, _extra_files=extra)
    (folder / "steep.pt").write_bytes(seal(buffer.getvalue()))
    assert "changed or damaged after export" in lmp(folder, text).output
