"""LAMMPS runs Deep Potentials through their kernel: tables deviate as stated, committees agree with their members."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from harness import MEASURE, SIX, lmp, measured, potential, random_structure, setup, write_data

from nnpkit.data.graph import build_graph
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import load
from nnpkit.deploy.metadata import model_metadata
from nnpkit.deploy.targets.committee_file import export_committee
from nnpkit.deploy.targets.torchscript import export_model
from nnpkit.families.deep_potential.embedding import EnvironmentStatistics
from nnpkit.families.deep_potential.tabulation import tabulation
from nnpkit.families.factory import build_model, initialise
from nnpkit.md.calculator import NnpkitCalculator
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.potential import Potential

CELL = [13.0, 14.0, 12.5]
OBSERVE = """
compute u all pair nnpkit
fix u all pair 1 nnpkit force_std 1
dump u all custom 1 spread id f_u
dump_modify u sort id format float %.17g
thermo_style custom step pe c_u[1]
run 0
""" + "".join(f"print '@u{k} $(c_u[{k}]:%.17g)'\n" for k in (1, 2, 4))


def make_model(seed: int) -> AtomicModel:
    network = {"hidden": [20, 20], "activation": "tanh", "timestep": True}
    model = build_model(
        {
            "kind": "deep_potential", "elements": ["O", "H"], "energy_scale": 1.0,
            "descriptor": {
                "cutoff": 5.0, "smooth_from": 1.0, "cutoff_kind": "poly2", "embedding": [10, 20],
                "axis_neurons": 8,
            },
            "networks": {"H": network, "O": network}, "reference_energies": {"H": -13.6, "O": -432.0},
            "wall": {"H-O": 1.2, "H-H": 1.3, "O-O": 1.5},
        }
    )  # fmt: skip
    initialise(model, "xavier", seed)
    mean, std = torch.tensor([0.1, 0.12]), torch.tensor([[0.2, 0.1], [0.15, 0.12]])
    model.descriptor.set(EnvironmentStatistics(mean, std, torch.tensor([[9.0, 14.0], [9.0, 14.0]])))
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def atoms() -> Atoms:
    """Some pairs closer than the tables reach."""
    return random_structure(120, CELL, seed=8, closest=0.75)


def exact_forces(model: AtomicModel, atoms: Atoms) -> np.ndarray:
    graph = build_graph(Structure.from_atoms(atoms, name="test"), model.elements, model.cutoff)
    return Potential(model)(graph).forces.numpy()


def run(folder: Path, atoms: Atoms, model: str, ranks: int = 1, options: str = "") -> tuple[str, np.ndarray]:
    """What LAMMPS said, and the forces."""
    write_data(folder / "data.lmp", atoms)
    result = lmp(folder, setup() + potential(options, model) + MEASURE, ranks)
    return result.output, measured(result).forces


@pytest.mark.parametrize(
    ("tolerance", "ranks", "options", "allowed"),
    [
        (None, 1, "", 1e-9),
        (None, 2, "precision mixed", 1e-4),
        (1e-4, 2, "", 1e-3),
    ],
)
def test_forces(folder, atoms, tolerance, ranks, options, allowed):
    model = make_model(1)
    closest = {"H-H": 0.95, "H-O": 0.95, "O-O": 0.95}  # the table ends at 0.76 Å
    export_model(model, folder / "deep.pt", {"min_distance": closest})
    if tolerance is not None:
        loaded = load(folder / "deep.pt")
        loaded.tabulate(tolerance)
        loaded.save(folder / "deep.pt")
        assert load(folder / "deep.pt").metadata["tabulation"]["tolerance"] == tolerance
    output, forces = run(folder, atoms, "deep.pt", ranks, options)
    assert "fused" in output
    deviation = np.abs(forces - exact_forces(model, atoms)).max()
    assert deviation < allowed
    assert tolerance is None or deviation > 1e-9  # it really is a coarser table


def test_committee(folder, atoms):
    models = [make_model(seed) for seed in (1, 2, 3)]
    export_committee(models, [model_metadata(m) for m in models], folder / "committee.pt")
    output, forces = run(folder, atoms, "committee.pt", 2)
    assert "fused" in output
    expected = np.mean([exact_forces(m, atoms) for m in models], axis=0)
    np.testing.assert_allclose(forces, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize(("ranks", "kernel", "tolerance"), [(1, "fused", 1e-4), (2, "torchscript", None)])
def test_committee_is_that_of_ase(folder, atoms, ranks, kernel, tolerance):
    """Mean and disagreement of members that share the geometry, through tables and without."""
    models, closest = [make_model(seed) for seed in (1, 2, 3)], {"H-H": 0.95, "H-O": 0.95, "O-O": 0.95}
    extra = [{"min_distance": closest} for _ in models]
    if tolerance is not None:
        for own, model in zip(extra, models, strict=True):
            own["tabulation"] = tabulation(model.descriptor, model.elements, closest, tolerance, insist=True)
    export_committee(
        models, [model_metadata(m, e) for m, e in zip(models, extra, strict=True)], folder / "committee.pt"
    )
    write_data(folder / "data.lmp", atoms)
    text = setup() + potential(f"kernel {kernel}", "committee.pt") + MEASURE + OBSERVE
    result = lmp(folder, text, ranks)
    assert f", {kernel}" in result.output
    found, observed, spread = measured(result), result.values(), result.dump("spread")[:, 1]
    atoms.calc = NnpkitCalculator(folder / "committee.pt", kernel=kernel)
    assert found.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
    np.testing.assert_allclose(found.forces, atoms.get_forces(), rtol=0, atol=1e-10)
    stress = atoms.get_stress(voigt=False)
    expected = -np.array([stress[a, b] for a, b in SIX]) * atoms.get_volume()
    np.testing.assert_allclose(found.virial, expected, rtol=0, atol=1e-9 * abs(expected).max())
    np.testing.assert_allclose(spread, atoms.calc.results["forces_std"], rtol=0, atol=1e-10)
    assert observed["u1"] == pytest.approx(spread.max(), rel=1e-10)
    assert observed["u2"] == pytest.approx(spread.mean(), rel=1e-10)
    assert observed["u4"] == pytest.approx(atoms.calc.results["energy_std"], rel=1e-8)
    exact = np.array([exact_forces(m, atoms) for m in models])
    deviation = np.sqrt(((exact - exact.mean(0)) ** 2).sum(2).mean(0))
    np.testing.assert_allclose(spread, deviation, rtol=0, atol=10 * (tolerance or 1e-10))
    assert spread.min() > 1e-3
