"""Energies, forces and virials in other engines are those of the model."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from engine_tools import frames, load_small, need, write_committee, write_model

from nnpkit.deploy.targets.contract import TargetOptions
from nnpkit.deploy.targets.registered import TARGETS, target_for
from nnpkit.errors import InputError
from nnpkit.units import HARTREE

KJ_PER_MOL = 96.48533212331


@pytest.mark.parametrize("periodic", [True, False])
def test_batches_are_evaluated_like_single_structures(tmp_path: Path, periodic: bool) -> None:
    from nnpkit.engines.evaluation import BatchEvaluator

    model, structures = write_model(tmp_path), frames(periodic=periodic)
    found = BatchEvaluator(model).predict(structures)
    single = model.predict(structures)
    np.testing.assert_allclose(found.energy, [s.energy for s in single], rtol=1e-12)
    np.testing.assert_allclose(found.forces, np.concatenate([s.forces for s in single]), atol=1e-9)
    np.testing.assert_allclose(found.virial, np.stack([s.virial for s in single]), atol=1e-8)
    with pytest.raises(InputError, match="precision 'half'"):
        BatchEvaluator(model, precision="half")


def test_members_of_a_committee(tmp_path: Path) -> None:
    from nnpkit.engines.evaluation import BatchEvaluator

    model, (structure, *_) = write_committee(tmp_path), frames()
    evaluator = BatchEvaluator(model)
    members = evaluator.members(structure)
    mean = evaluator.predict([structure])
    np.testing.assert_allclose(members.energy.mean(), mean.energy[0], rtol=1e-12)
    np.testing.assert_allclose(members.forces.mean(0), mean.forces, atol=1e-9)
    np.testing.assert_allclose(members.virial.mean(0), mean.virial[0], atol=1e-8)
    assert float(members.energy.std()) > 1e-3
    assert BatchEvaluator(write_model(tmp_path)).members(structure) is None


@pytest.mark.parametrize("periodic", [True, False])
def test_gromacs(tmp_path: Path, periodic: bool) -> None:
    """What GROMACS documents: nm in, kJ/mol out, forces as minus the gradient by the first input."""
    model = write_model(tmp_path)
    path = tmp_path / "gromacs.pt"
    target = TARGETS.get(target_for("gromacs", path, "model.pt"))
    lines = target.write(model, path, TargetOptions())
    assert "nnpot-modelfile = gromacs.pt" in lines
    module = torch.jit.load(str(path))
    for structure in frames(periodic=periodic):
        expected = model.predict(structure)
        positions = torch.tensor(structure.positions / 10.0, requires_grad=True)
        numbers = torch.tensor([{"O": 8, "H": 1}[s] for s in structure.symbols], dtype=torch.int32)
        energy = module(positions, numbers, torch.tensor(structure.cell / 10.0), torch.tensor(structure.pbc))
        energy.backward()
        assert float(energy) == pytest.approx(expected.energy * KJ_PER_MOL, rel=1e-12)
        np.testing.assert_allclose(-positions.grad / (10 * KJ_PER_MOL), expected.forces, atol=1e-8)
    single = positions.detach().float().requires_grad_(True)  # GROMACS passes single precision
    energy = module(single, numbers, torch.tensor(structure.cell / 10).float(), torch.tensor(structure.pbc))
    energy.backward()
    assert energy.dtype == single.grad.dtype == torch.float32
    np.testing.assert_allclose(-single.grad / (10 * KJ_PER_MOL), expected.forces, atol=1e-3)
    with pytest.raises(torch.jit.Error, match="unknown to the model"):
        module(single, numbers + 90, torch.tensor(structure.cell / 10).float(), torch.tensor(structure.pbc))


def test_targets_that_share_a_suffix_are_asked_for(tmp_path: Path) -> None:
    assert target_for(None, Path("a.pt"), "run") == "model"
    for name in ("metatomic", "gromacs"):
        assert target_for(name, Path("a.pt"), "run") == name
        with pytest.raises(InputError, match="cannot be written"):
            target_for(name, Path("a"), "run")
        with pytest.raises(InputError, match="--without-wall is for RuNNer"):
            TARGETS.get(name).write(
                write_model(tmp_path), tmp_path / "a.pt", TargetOptions(without_wall=True)
            )


def test_metatomic(tmp_path: Path) -> None:
    need("metatomic", "metatomic")
    from metatomic_ase import MetatomicCalculator

    model, path = write_model(tmp_path), tmp_path / "metatomic.pt"
    assert "output energy" in TARGETS.get("metatomic").write(model, path, TargetOptions())[0]
    calculator = MetatomicCalculator(str(path))
    for structure in frames():
        atoms, expected = structure.to_atoms(), model.predict(structure)
        atoms.calc = calculator
        assert atoms.get_potential_energy() == pytest.approx(expected.energy, rel=1e-12)
        np.testing.assert_allclose(atoms.get_forces(), expected.forces, atol=1e-8)
        np.testing.assert_allclose(atoms.get_stress(voigt=False), expected.stress, atol=1e-8)


def test_torch_sim(tmp_path: Path) -> None:
    need("torch_sim", "torch-sim")
    import torch_sim

    from nnpkit.engines.torch_sim_model import TorchSimModel

    model, structures = write_model(tmp_path), frames()
    wrapped = TorchSimModel(model)
    state = torch_sim.io.atoms_to_state([s.to_atoms() for s in structures], wrapped.device, wrapped.dtype)
    found, expected = wrapped(state), model.predict(structures)
    np.testing.assert_allclose(found["energy"], [e.energy for e in expected], rtol=1e-12)
    np.testing.assert_allclose(found["forces"], np.concatenate([e.forces for e in expected]), atol=1e-8)
    np.testing.assert_allclose(found["stress"], np.stack([e.stress for e in expected]), atol=1e-9)
    bare = [s.replace(cell=np.zeros((3, 3)), pbc=np.full(3, False)).to_atoms() for s in structures]
    state = torch_sim.io.atoms_to_state(bare, wrapped.device, wrapped.dtype)
    with pytest.raises(InputError, match="without a cell has no stress"):
        wrapped(state)


def test_openmm(tmp_path: Path) -> None:
    need("openmm", "openmm")
    import openmm
    from openmm import unit

    from nnpkit.engines.openmm_force import openmm_force

    model, (structure, *_) = write_model(tmp_path), frames()
    lower, _ = np.linalg.qr(structure.cell.T)  # OpenMM's boxes are lower triangular with a positive diagonal
    turned = structure.cell @ lower
    signs = np.sign(np.diag(turned))
    turn = lower * signs
    structure = structure.replace(cell=structure.cell @ turn, positions=structure.positions @ turn)
    system = openmm.System()
    for symbol in structure.symbols:
        system.addParticle({"O": 15.999, "H": 1.008}[symbol])
    system.setDefaultPeriodicBoxVectors(*(row / 10.0 for row in structure.cell))
    system.addForce(openmm_force(model, structure.symbols, periodic=True))
    system = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(system))
    context = openmm.Context(
        system, openmm.VerletIntegrator(1e-4), openmm.Platform.getPlatformByName("Reference")
    )
    context.setPositions(structure.positions / 10.0)
    state, expected = context.getState(getEnergy=True, getForces=True), model.predict(structure)
    energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
    assert energy == pytest.approx(expected.energy * KJ_PER_MOL, rel=1e-12)
    np.testing.assert_allclose(forces / (10 * KJ_PER_MOL), expected.forces, atol=1e-7)
    with pytest.raises(InputError, match="element Xe is unknown"):
        openmm_force(model, ["Xe"], periodic=False)
    with pytest.raises(InputError, match="2 particles and 1 symbols"):
        openmm_force(model, ["O"], periodic=False, particles=[0, 1])
    assert pickle.loads(pickle.dumps(model)).predict(structure).energy == expected.energy


def test_ipi(tmp_path: Path) -> None:
    need("ipi", "ipi")
    from ipi.utils.units import unit_to_internal

    from nnpkit.data.formats.reading import write
    from nnpkit.engines.ipi_driver import NnpkitDriver

    model, (structure, *_) = write_committee(tmp_path), frames()
    write(tmp_path / "start.xyz", [structure])
    driver = NnpkitDriver(str(tmp_path / "committee.pt"), str(tmp_path / "start.xyz"))
    bohr = 0.529177210903
    energy, forces, virial, extras = driver(structure.cell.T / bohr, structure.positions / bohr)
    expected = model.predict(structure)
    assert energy == pytest.approx(unit_to_internal("energy", "electronvolt", expected.energy), rel=1e-7)
    np.testing.assert_allclose(forces, unit_to_internal("force", "ev/ang", expected.forces), atol=1e-6)
    np.testing.assert_allclose(
        virial, unit_to_internal("energy", "electronvolt", expected.virial.T), atol=1e-6
    )
    members = json.loads(extras)
    assert np.mean(members["committee_pot"]) == pytest.approx(energy, rel=1e-12)
    np.testing.assert_allclose(np.mean(members["committee_force"], axis=0), forces, atol=1e-9)
    np.testing.assert_allclose(np.mean(members["committee_virial"], axis=0), virial, atol=1e-8)
    write_model(tmp_path)
    single = NnpkitDriver(str(tmp_path / "model.pt"), str(tmp_path / "start.xyz"))
    assert single(structure.cell.T / bohr, structure.positions / bohr)[3] == ""


CP2K_NNP = """&GLOBAL
 PROJECT nnp
 RUN_TYPE ENERGY_FORCE
&END GLOBAL
&FORCE_EVAL
 METHOD NNP
 STRESS_TENSOR ANALYTICAL
 &NNP
  NNP_INPUT_FILE_NAME input.nn
  SCALE_FILE_NAME scaling.data
  &MODEL
   WEIGHTS weights
  &END MODEL
 &END NNP
 &PRINT
  &FORCES ON
   NDIGITS 12
  &END FORCES
  &STRESS_TENSOR ON
  &END STRESS_TENSOR
 &END PRINT
 &SUBSYS
  &CELL
{cell}
  &END CELL
  &COORD
{atoms}
  &END COORD
 &END SUBSYS
&END FORCE_EVAL
"""


def test_cp2k(tmp_path: Path) -> None:
    """CP2K's own NNP evaluates what is written for RuNNer."""
    program = shutil.which("cp2k.psmp") or shutil.which("cp2k")
    if program is None:
        pytest.skip("cp2k is not installed (Debian: apt install cp2k)")
    from nnpkit.data.formats.cp2k_text import ENERGY, forces_table, stress_tensor

    model = load_small(tmp_path)
    TARGETS.get("runner").write(model, tmp_path / "nnp", TargetOptions())
    structure = frames(1)[0]
    cell = "\n".join(
        f"{name} {x:.12f} {y:.12f} {z:.12f}" for name, (x, y, z) in zip("ABC", structure.cell, strict=True)
    )
    atoms = "\n".join(
        f"{s} {x:.12f} {y:.12f} {z:.12f}"
        for s, (x, y, z) in zip(structure.symbols, structure.positions, strict=True)
    )
    (tmp_path / "nnp" / "cp2k.inp").write_text(CP2K_NNP.format(cell=cell, atoms=atoms))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [program, "-i", "cp2k.inp"],
        cwd=tmp_path / "nnp",
        capture_output=True,
        text=True,
        env=environment,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    expected = model.predict(structure)
    assert float(ENERGY.findall(done.stdout)[-1]) * HARTREE == pytest.approx(expected.energy, abs=1e-8)
    np.testing.assert_allclose(forces_table(done.stdout, structure.n_atoms), expected.forces, atol=1e-6)
    np.testing.assert_allclose(stress_tensor(done.stdout), expected.stress, atol=1e-8)
