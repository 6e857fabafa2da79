"""A family with one hop through the neighbours, in a file of its own, trains and is the same potential everywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import hop_family
import numpy as np
import pytest
import torch
from ase import Atoms
from foreign_package import install
from harness import MEASURE, lmp, measured, random_structure, setup, write_data
from test_entry_points import run, training

from nnpkit.data.graph import build_graph, collate
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import LoadedModel, load
from nnpkit.deploy.metadata import RANGE_MARGIN, model_metadata
from nnpkit.deploy.targets.committee_file import export_committee
from nnpkit.deploy.targets.torchscript import export_model
from nnpkit.errors import InputError
from nnpkit.families.factory import build_model, initialise
from nnpkit.families.registered import FAMILIES
from nnpkit.md.calculator import NnpkitCalculator
from nnpkit.models.potential import Potential
from nnpkit.models.scaling import FeatureStatistics
from nnpkit.models.stages import model_features

SPEC = {
    "kind": "hop", "elements": ["O", "H"], "descriptor": {"cutoff": 3.0}, "energy_scale": 1.0,
    "networks": {e: {"hidden": [4], "activations": ["tanh", "linear"]} for e in ("O", "H")},
    "reference_energies": {"O": -3.0, "H": 0.5}, "wall": {"O-O": 1.6},
}  # fmt: skip
CELL = [[6.6, 0.0, 0.0], [0.8, 6.4, 0.0], [-0.5, 0.9, 6.9]]
PLAIN = MEASURE.replace("compute c all centroid/stress/atom NULL\n", "").replace(" c_c[*]", "")
"""Such a model has no centroid virials."""


@pytest.fixture(autouse=True)
def family(monkeypatch: pytest.MonkeyPatch) -> None:
    """The family, for these tests alone."""
    monkeypatch.setitem(FAMILIES._loaded, "hop", hop_family.HOP)


def hop_model(seed: int = 1) -> Any:
    """A model with weights at random, whose messages matter."""
    model = build_model(SPEC)
    initialise(model, "xavier", seed)
    return model


def file_of(folder: Path, model: Any) -> LoadedModel:
    export_model(model, folder / "hop.pt")
    return load(folder / "hop.pt")


def atoms_of(n: int = 40, seed: int = 4) -> Atoms:
    return random_structure(n, CELL, seed=seed, closest=1.3)


def energy_of(model: Any, atoms: Atoms) -> float:
    structure = Structure(list(atoms.symbols), atoms.positions, atoms.cell[:], atoms.pbc)
    return float(Potential(model)(build_graph(structure, model.elements, model.cutoff)).energy)


def slope(function: Any, step: float = 1e-3) -> float:
    """Derivative at 0 by central differences of fourth order."""
    return (8.0 * (function(step) - function(-step)) - (function(2 * step) - function(-2 * step))) / (
        12.0 * step
    )


def test_an_atom_feels_the_neighbours_of_its_neighbours(tmp_path: Path) -> None:
    chain = Structure(["O", "H", "O"], np.array([[0.0, 0, 0], [2.0, 0, 0], [4.0, 0.3, 0]]))
    far = Structure(["O", "H", "O"], np.array([[0.0, 0, 0], [2.0, 0, 0], [4.0, 0.4, 0]]))
    model = hop_model()
    first, second = (Potential(model)(build_graph(s, model.elements, model.cutoff)) for s in (chain, far))
    assert abs(float(first.atomic_energy[0] - second.atomic_energy[0])) > 1e-6  # 4 A from what moved
    assert first.fields["message"].shape == (3, 2)


def test_forces_and_virial_are_derivatives_of_the_energy(tmp_path: Path) -> None:
    model, atoms = hop_model(), atoms_of()
    result = file_of(tmp_path, model).predict(atoms)
    assert result.energy == pytest.approx(energy_of(model, atoms), rel=1e-13)
    for atom, axis in ((0, 0), (7, 2), (31, 1)):

        def moved(x: float, atom: int = atom, axis: int = axis) -> float:
            other = atoms.copy()
            other.positions[atom, axis] += x
            return energy_of(model, other)

        assert -slope(moved) == pytest.approx(result.forces[atom, axis], rel=1e-7, abs=1e-9)
    for a, b in ((0, 0), (1, 2)):

        def strained(x: float, a: int = a, b: int = b) -> float:
            strain = np.eye(3)
            strain[a, b] += x
            other = atoms.copy()
            other.set_cell(atoms.cell[:] @ strain.T, scale_atoms=True)
            return energy_of(model, other)

        assert -slope(strained, 3e-4) == pytest.approx(result.virial[a, b], rel=1e-7, abs=1e-7)


def test_chunks_batches_and_the_graph_of_autograd_agree() -> None:
    model = hop_model()
    graphs = [
        build_graph(Structure(list(a.symbols), a.positions, a.cell[:], a.pbc), model.elements, model.cutoff)
        for a in (atoms_of(20, 1), atoms_of(31, 2))
    ]
    potential, both = Potential(model), collate(graphs)
    whole, parts = potential(both), potential.predict(both, atoms_per_chunk=7)
    for name in ("energy", "atomic_energy", "forces", "virial"):
        assert torch.allclose(getattr(parts, name), getattr(whole, name), rtol=1e-12, atol=1e-11), name
    assert torch.equal(parts.fields["message"][:20], potential(graphs[0]).fields["message"])
    nothing = potential.predict(build_graph(Structure(["O"], np.zeros((1, 3))), model.elements, model.cutoff))
    assert nothing.forces.abs().max() == 0.0


@pytest.mark.parametrize(
    ("optimizer", "epochs"),
    [({"kind": "ekf"}, 3), ({"kind": "adam", "learning_rate": 0.05}, 20)],
    ids=["ekf", "adam"],
)
def test_it_trains_as_a_package_of_its_own(tmp_path: Path, optimizer: dict, epochs: int) -> None:
    text = Path(hop_family.__file__).read_text(encoding="utf-8")
    packages = install(tmp_path / "packages", {"nnpkit.families": "hop = foreign:HOP"}, text)
    result = run(training("hop", optimizer, epochs), tmp_path, packages)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout.splitlines()[-1])
    assert found["forces"][0] == pytest.approx(found["forces"][1], rel=1e-5, abs=1e-7)
    assert found["error"] < 0.9 * found["nothing"]
    assert len(found["moved"]) == 5
    assert min(found["moved"]) > 1e-3


@pytest.mark.parametrize(("ranks", "options"), [(1, ""), (1, "chunk 7"), (2, "chunk 0"), (2, "chunk 11")])
def test_lammps_gives_the_same(lammps: None, tmp_path: Path, ranks: int, options: str) -> None:
    atoms = atoms_of()
    model = file_of(tmp_path, hop_model())
    atoms.calc = NnpkitCalculator(model, kernel="torchscript")
    write_data(tmp_path / "data.lmp", atoms)
    pair = f"pair_style nnpkit {options}\npair_coeff * * hop.pt O H\n"
    result = lmp(tmp_path, setup() + pair + PLAIN, ranks)
    assert "torchscript (the model has stages)" in result.output
    found = measured(result)
    assert found.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
    assert found.forces == pytest.approx(atoms.get_forces(), rel=1e-10, abs=1e-10)
    assert found.energies == pytest.approx(atoms.get_potential_energies(), rel=1e-12)
    stress = atoms.get_stress(voigt=False)
    six = [-stress[a, b] * atoms.get_volume() for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))]
    assert found.virial == pytest.approx(six, rel=1e-9, abs=1e-9)
    assert found.virials.sum(0) == pytest.approx(six, rel=1e-8, abs=1e-8)


def test_a_mixed_system_leaves_other_atoms_alone(lammps: None, tmp_path: Path) -> None:
    """Types that are not the model's: rows of centres and of fields are counted differently."""
    atoms = atoms_of()
    file_of(tmp_path, hop_model())
    write_data(tmp_path / "data.lmp", atoms)
    pair = (
        "pair_style hybrid/overlay nnpkit chunk 5 zero 3.0\npair_coeff * * nnpkit hop.pt NULL H\n"
        "pair_coeff * * zero\n"
    )
    found = measured(lmp(tmp_path, setup() + pair + PLAIN, 2))
    hydrogen = [k for k, symbol in enumerate(atoms.symbols) if symbol == "H"]
    alone = load(tmp_path / "hop.pt").predict(atoms[hydrogen])
    assert found.energy == pytest.approx(alone.energy, rel=1e-12)
    assert found.forces[hydrogen] == pytest.approx(alone.forces, rel=1e-10, abs=1e-10)


def test_extrapolation_is_that_of_the_last_stage(lammps: None, tmp_path: Path) -> None:
    atoms, model = atoms_of(), hop_model()
    structure = Structure(list(atoms.symbols), atoms.positions, atoms.cell[:], atoms.pbc)
    features = model_features(model, build_graph(structure, model.elements, model.cutoff)).detach()
    middle = features.median(0).values.expand(2, -1)
    width = torch.full_like(middle, 0.1)
    model.scaling.set(FeatureStatistics(middle - width, middle + width, middle, width), "none", 0.0, 1.0)
    end = 0.1 + RANGE_MARGIN * 0.2
    outside = int(((features - middle[0]).abs() > end).sum())
    file_of(tmp_path, model)
    write_data(tmp_path / "data.lmp", atoms)
    pair = "pair_style nnpkit chunk 9\npair_coeff * * hop.pt O H\ncompute n all pair nnpkit\n"
    text = setup() + pair + "thermo_style custom step pe c_n[5]\nrun 0\nprint '@outside $(c_n[5])'\n"
    result = lmp(tmp_path, text, 2)
    assert result.returncode == 0, result.output
    assert outside > 10
    assert result.values()["outside"] == outside


def test_the_heat_flux_that_edges_cannot_tell_is_refused(lammps: None, tmp_path: Path) -> None:
    file_of(tmp_path, hop_model())
    write_data(tmp_path / "data.lmp", atoms_of())
    pair = "pair_style nnpkit\npair_coeff * * hop.pt O H\n"
    result = lmp(tmp_path, setup() + pair + MEASURE)
    assert result.returncode != 0
    assert "centroid" in result.output


def test_what_such_a_model_cannot_be_is_said(tmp_path: Path) -> None:
    model = hop_model()
    with pytest.raises(InputError, match="member 1 has stages"):
        export_committee([model, hop_model(2)], [model_metadata(model)] * 2, tmp_path / "committee.pt")
    assert not (tmp_path / "committee.pt").exists()
    with pytest.warns(UserWarning, match="the model has stages"):
        NnpkitCalculator(file_of(tmp_path, model))
    with pytest.raises(TypeError, match="has stages"):
        model(*(torch.zeros(0),) * 4)
