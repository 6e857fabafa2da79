"""Published potentials against the programs that made them: n2p2, and CP2K for a committee."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nnpkit.data.formats.reading import read
from nnpkit.data.graph import build_graph, edge_centers, edge_vectors
from nnpkit.data.structure import Structure
from nnpkit.deploy.imports.runner_potential import RunnerPotential, read_runner_potential
from nnpkit.deploy.load import load
from nnpkit.deploy.targets.runner import write_runner_potential
from nnpkit.models.atomic_model import AtomicModel
from nnpkit.models.potential import Potential, Prediction, forces_from_edges
from nnpkit.units import BOHR, HARTREE

DATA = os.environ.get("NNPKIT_DATA")
ORACLES = Path(DATA or ".", "oracles")
CNNP = "cnnp_revPBE0-D3_water"
MEMBER = f"{CNNP}/generation-4/c-nnp-model/nnp-1"
pytestmark = pytest.mark.skipif(not DATA, reason="NNPKIT_DATA does not name the folder of reference data")

FRAMES = [
    ("n2p2_H2O_RPBE-D3", "frames_input.data", "frames_n2p2.json"),
    ("n2p2_Cu2S_PBE", "frames_input.data", "frames_n2p2.json"),
    (MEMBER, "frames_input.data", "frames_n2p2.json"),
    ("mlearn_nnp/Cu", "frame_input.data", "n2p2_frame.json"),
    ("mlearn_nnp/Si", "frame_input.data", "n2p2_frame.json"),
    ("mlearn_nnp/Li", "frame_input.data", "n2p2_frame.json"),
]
TESTS = ["Cu", "Si", "Li"]


def potential(name: str) -> RunnerPotential:
    return read_runner_potential(ORACLES / name)


def frames(
    name: str, data: str, reference: str
) -> tuple[RunnerPotential, list[tuple[Structure, dict[str, Any]]]]:
    """Potential and its reference frames with what n2p2 says about them."""
    found = potential(name)
    content = json.loads((ORACLES / name / reference).read_text())
    structures = read(ORACLES / name / data, "runner", units=found.units.system.name)
    return found, list(zip(structures, content.get("frames", [content]), strict=True))


def predict(found: RunnerPotential, structure: Structure) -> Prediction:
    return Potential(found.model).predict(
        build_graph(structure, found.model.elements, found.model.cutoff), 64
    )


def largest(a: Any, b: Any) -> float:
    return float(np.abs(np.asarray(a) - np.asarray(b)).max())


@pytest.mark.parametrize(
    ("name", "units"), [(f[0], "angstrom-ev" if "Cu2S" in f[0] else "bohr-hartree") for f in FRAMES]
)
def test_units_are_inferred(name: str, units: str) -> None:
    found = potential(name)
    assert found.units.system.name == units
    assert len(found.notes) == 1
    assert f"units {units}, since " in found.notes[0]


@pytest.mark.parametrize("case", FRAMES, ids=lambda case: case[0])
def test_scaled_symmetry_functions(case: tuple[str, str, str]) -> None:
    found, pairs = frames(*case)
    model = found.model
    for structure, reference in pairs:
        graph = build_graph(structure, model.elements, model.cutoff)
        raw = model.features(edge_vectors(graph), graph.types[graph.neighbor], graph.offsets, graph.types)
        scaled = model.scaling(raw, graph.types).numpy()
        for row, expected in zip(scaled, reference["G_scaled"], strict=True):
            assert largest(row[: len(expected)], expected) < 1e-12


@pytest.mark.parametrize("case", FRAMES, ids=lambda case: case[0])
def test_energies(case: tuple[str, str, str]) -> None:
    found, pairs = frames(*case)
    settings_offsets = "energy_offset" if "mlearn" not in case[0] else "energy_offset_sum_atom_energy"
    for structure, reference in pairs:
        prediction, unit = predict(found, structure), found.units.system.energy
        assert abs(float(prediction.energy[0]) / unit - reference["energy"]) < 1e-9
        # the oracle's atomic energies lack the atom_energy of input.nn
        offset = _atom_energies(ORACLES / case[0] / "input.nn")
        offsets = np.array([offset.get(s, 0.0) for s in structure.symbols])
        assert offsets.sum() == pytest.approx(reference[settings_offsets], abs=1e-9)
        assert largest(prediction.atomic_energy.numpy() / unit - offsets, reference["atomic_energy"]) < 1e-9


def _atom_energies(path: Path) -> dict[str, float]:
    lines = [line.split() for line in path.read_text().splitlines()]
    return {words[1]: float(words[2]) for words in lines if words[:1] == ["atom_energy"]}


@pytest.mark.parametrize("case", FRAMES[:3], ids=lambda case: case[0])
def test_forces_and_stress(case: tuple[str, str, str]) -> None:
    found, pairs = frames(*case)
    for structure, reference in pairs:
        prediction = predict(found, structure)
        assert largest(prediction.forces.numpy() / found.units.system.force, reference["forces"]) < 1e-9
        stress = -prediction.virial[0].numpy() / structure.volume
        numerical = reference[
            "stress_voigt_xx_yy_zz_yz_xz_xy_eV_per_A3_numerical"
        ]  # strain 1e-4: good to 1e-8
        assert largest(stress[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]], numerical) < 2e-8


@pytest.mark.parametrize("case", FRAMES[3:], ids=lambda case: case[0])
def test_forces_in_cells_smaller_than_the_cutoff(case: tuple[str, str, str]) -> None:
    """Here n2p2's forces are not the derivative of its energy; ours are, and without one term they are n2p2's.

    An atom that sees its own periodic images moves with them. n2p2 counts the change of an atom's energy with
    its own position, but not with that of its images; the two cancel for radial functions only.
    """
    found, pairs = frames(*case)
    model, unit, step = found.model, found.units.system.force, 1e-3
    for structure, reference in pairs:
        graph = build_graph(structure, model.elements, model.cutoff)
        center, vectors = edge_centers(graph.offsets), edge_vectors(graph).requires_grad_(True)
        energy = model(vectors, graph.types[graph.neighbor], graph.offsets, graph.types).sum()
        (gradient,) = torch.autograd.grad(energy, vectors)
        own = center == graph.neighbor
        assert bool(own.any())
        forces = forces_from_edges(gradient, center, graph.neighbor, len(graph.types))
        of_n2p2 = forces.index_add(0, graph.neighbor[own], gradient[own])
        assert largest(of_n2p2.detach().numpy() / unit, reference["forces"]) < 1e-9
        atom, axis = divmod(int(forces.abs().argmax()), 3)
        energies = []
        for sign in (2, 1, -1, -2):
            moved = structure.positions.copy()
            moved[atom, axis] += sign * step
            energies.append(float(predict(found, structure.replace(positions=moved)).energy[0]))
        derivative = (8 * (energies[1] - energies[2]) - (energies[0] - energies[3])) / (12 * step)
        assert float(forces[atom, axis]) == pytest.approx(-derivative, abs=1e-9 * unit)


@pytest.mark.parametrize("element", TESTS)
def test_test_sets_of_mlearn(element: str) -> None:
    """n2p2's predictions (8 decimals) for every fourth structure that is larger than the cutoff sphere."""
    found = potential(f"mlearn_nnp/{element}")
    offset = _atom_energies(ORACLES / f"mlearn_nnp/{element}/input.nn")[element]
    compared = 0
    for structure in read(ORACLES / f"mlearn_nnp/{element}/n2p2_predictions_test.xyz.xz")[::4]:
        prediction = predict(found, structure)
        energies = prediction.atomic_energy.numpy() / HARTREE - offset
        assert abs(float(prediction.energy[0]) - structure.energy) < 1e-9 * HARTREE
        assert largest(energies, structure.arrays["atomic_energy_hartree"]) < 6e-9
        if np.linalg.norm(structure.cell, axis=1).min() > found.model.cutoff:
            assert largest(prediction.forces.numpy(), structure.forces) < 6e-9
            compared += 1
    assert compared >= 3


@pytest.mark.parametrize("name", ["n2p2_H2O_RPBE-D3", "n2p2_Cu2S_PBE"])
def test_predictions_of_n2p2s_own_test_suite(name: str, tmp_path: Path) -> None:
    """Through everything: folder -> model.pt -> loaded -> n2p2's numbers, and through a folder of ours."""
    found = potential(name)
    reference = json.loads((ORACLES / name / "nnp-predict_reference.json").read_text())
    structure = read(ORACLES / name / "nnp-predict_input.data", "runner", units=found.units.system.name)[0]
    load(ORACLES / name).save(tmp_path / "model.pt")
    loaded = load(tmp_path / "model.pt")
    write_runner_potential(loaded.atomic_model(), tmp_path / "again", "bohr-hartree")
    for model in (loaded, load(tmp_path / "again")):
        result = model.predict(structure)
        energy, forces = result.energy / found.units.system.energy, result.forces / found.units.system.force
        assert abs(energy - reference["energy_in_n2p2_own_test_suite"]) < 1e-9
        assert largest(forces, reference["forces_this_run"]) < 1e-9


def test_pressure_of_lammps_hdnnp() -> None:
    """Pressure of 1080 atoms at rest as LAMMPS prints it for pair_style hdnnp, in LAMMPS' units and digits."""
    folder = ORACLES / "n2p2_H2O_RPBE-D3"
    structure = read(folder / "H2O_1080.xyz")[0]
    result = load(folder, cflength=1.8897261328, cfenergy=0.0367493254).predict(structure)
    line = next(
        x
        for x in (folder / "lammps_hdnnp_reference_thermo.txt").read_text().splitlines()
        if x.startswith("0 ")
    )
    assert result.energy == pytest.approx(float(line.split()[2]), rel=1e-8)
    bar = 1.602176634e6
    assert -np.trace(result.stress) / 3 * bar == pytest.approx(float(line.split()[5]), abs=0.02)


@pytest.mark.parametrize("generation", [1, 4])
def test_all_committee_members(generation: int) -> None:
    """Energies of all members for one structure, and of the first member for some more."""
    path = ORACLES / f"{CNNP}/generation-{generation}"
    reference = json.loads((path / "committee_energies_on_gen1_train.json").read_text())
    structures = read(next((ORACLES.parent / "water_revPBE0-D3_cnnp").glob("*.xyz*")))
    for member in range(8):
        found = potential(f"{CNNP}/generation-{generation}/c-nnp-model/nnp-{member + 1}")
        for k in (0, 60, 110) if member == 0 else (0,):
            energy = float(predict(found, structures[k]).energy[0]) / HARTREE
            assert abs(energy - reference["energies"][member][k]) < 1e-9


class Committee(torch.nn.Module):
    """Mean of several models that share their symmetry functions."""

    def __init__(self, members: list[AtomicModel]) -> None:
        super().__init__()
        assert all(m.spec["functions"] == members[0].spec["functions"] for m in members)
        self.members = torch.nn.ModuleList(members)

    def forward(self, *arguments: torch.Tensor) -> torch.Tensor:
        features = self.members[0].features(*arguments)
        return torch.stack([m.energy_of_features(features, arguments[-1]) for m in self.members]).mean(0)


def test_committee_energy_of_cp2k() -> None:
    """CP2K's own energy of 256 water molecules: the mean of eight members without atomic energies."""
    reference = json.loads((ORACLES / CNNP / "cp2k_H2O-256_reference.json").read_text())
    structure = read(ORACLES / CNNP / "cp2k_H2O-256.xyz")[0]
    # CP2K has its own bohr: with these positions (in bohr, as CP2K saw them) our Å are a little longer
    factor = BOHR / reference["bohr_in_angstrom_used_by_cp2k"]
    structure = structure.replace(positions=structure.positions * factor, cell=structure.cell * factor)
    members = [potential(f"{CNNP}/generation-4/c-nnp-model/nnp-{k}").model for k in range(1, 9)]
    graph = build_graph(structure, members[0].elements, members[0].cutoff)
    prediction = Potential(Committee(members)).predict(graph, 64)
    energy = float(prediction.energy[0]) / HARTREE
    assert abs(energy - reference["n2p2_mean_energy"]) < 1e-8
    atoms = reference["cp2k_atom_energy_hartree"]
    assert abs(energy - 256 * atoms["O"] - 512 * atoms["H"] - reference["cp2k_init_energy_hartree"]) < 1e-8
    forces = prediction.forces.numpy() / (HARTREE / BOHR)
    assert largest(forces, reference["n2p2_mean_forces_hartree_per_bohr"]) < 1e-9
