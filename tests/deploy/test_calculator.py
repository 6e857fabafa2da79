"""The ASE calculator: forces and stress are derivatives of its energy, errors are in words."""

from __future__ import annotations

import copy
import pickle
import warnings
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.stress import full_3x3_to_voigt_6_stress
from small_models import cluster, small_model

import nnpkit
from nnpkit.deploy.load import LoadedModel
from nnpkit.deploy.metadata import model_metadata
from nnpkit.deploy.targets.torchscript import export_model
from nnpkit.errors import InputError
from nnpkit.md.calculator import NnpkitCalculator
from nnpkit.models.potential import Potential


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("calculator") / "model.pt"
    export_model(small_model(wall={"O-O": 2.0, "H-O": 0.95}), path)
    return path


@pytest.fixture
def atoms(model_file: Path) -> Atoms:
    atoms = cluster().to_atoms()
    atoms.calc = NnpkitCalculator(model_file)
    return atoms


def strained(atoms: Atoms, strain: np.ndarray) -> float:
    copy = atoms.copy()
    copy.calc = atoms.calc
    copy.set_cell(atoms.cell.array @ (np.eye(3) + strain).T, scale_atoms=True)
    return copy.get_potential_energy()


def energy_of(task: tuple[NnpkitCalculator, Atoms]) -> float:
    atoms = task[1]
    atoms.calc = task[0]
    return atoms.get_potential_energy()


@pytest.mark.parametrize("kernel", ["fused", "torchscript"])
def test_copies_and_pickles_are_the_same_model(tmp_path: Path, model_file: Path, kernel: str) -> None:
    """Even if the file has gone: they hold its bytes."""
    path = tmp_path / "model.pt"
    path.write_bytes(model_file.read_bytes())
    atoms = cluster().to_atoms()
    atoms.calc = nnpkit.load(path).calculator(7, kernel=kernel)
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    path.unlink()
    for other in (copy.deepcopy(atoms), copy.copy(atoms), pickle.loads(pickle.dumps(atoms))):
        assert other.calc.results["energy"] == energy
        other.calc.results = {}
        assert other.get_potential_energy() == energy
        np.testing.assert_array_equal(other.get_forces(), forces)
        assert other.calc.atoms_per_chunk == 7
        assert (other.calc._potential is None) == (kernel == "torchscript")
    calculator = copy.deepcopy(atoms.calc)
    calculator.model.save(tmp_path / "again.pt")
    assert (tmp_path / "again.pt").read_bytes() == model_file.read_bytes()


def test_a_pool_of_processes_takes_the_calculator(atoms: Atoms) -> None:
    energy, bare = atoms.get_potential_energy(), atoms.copy()
    for method in ("fork", "spawn"):
        with get_context(method).Pool(1) as pool:
            assert pool.map(energy_of, [(atoms.calc, bare)] * 2) == [energy] * 2


def test_a_model_that_was_no_file_is_copied_too() -> None:
    model = LoadedModel(small_model().requires_grad_(False), model_metadata(small_model()), "made")
    atoms = cluster().to_atoms()
    atoms.calc = NnpkitCalculator(model)
    other = copy.deepcopy(atoms)
    other.calc.results = {}
    assert other.get_potential_energy() == atoms.get_potential_energy()


def test_forces_are_minus_the_derivative_of_the_energy(atoms: Atoms) -> None:
    forces, step = atoms.get_forces(), 1e-4
    for index in range(0, len(atoms), 2):
        for axis in range(3):
            energies = []
            for sign in (2, 1, -1, -2):
                moved = atoms.copy()
                moved.positions[index, axis] += sign * step
                moved.calc = atoms.calc
                energies.append(moved.get_potential_energy())
            derivative = (8 * (energies[1] - energies[2]) - (energies[0] - energies[3])) / (12 * step)
            assert forces[index, axis] == pytest.approx(-derivative, abs=1e-8)


def test_stress_is_the_derivative_with_respect_to_strain(atoms: Atoms) -> None:
    stress, step = atoms.get_stress(voigt=False), 1e-4
    for i in range(3):
        for j in range(3):
            strain = np.zeros((3, 3))
            strain[i, j] = step
            e = [strained(atoms, factor * strain) for factor in (2, 1, -1, -2)]
            derivative = (8 * (e[1] - e[2]) - (e[0] - e[3])) / (12 * step)
            assert stress[i, j] == pytest.approx(derivative / atoms.get_volume(), rel=1e-7, abs=1e-9)


def test_energies_add_up(atoms: Atoms) -> None:
    energy = atoms.get_potential_energy()
    assert atoms.get_potential_energies().sum() == pytest.approx(energy, abs=1e-10)
    assert atoms.get_potential_energy(force_consistent=True) == energy


def test_a_supercell_is_the_same_stuff(atoms: Atoms) -> None:
    double = atoms.repeat((2, 1, 1))
    double.calc = atoms.calc
    assert double.get_potential_energy() == pytest.approx(2 * atoms.get_potential_energy(), abs=1e-9)
    np.testing.assert_allclose(double.get_forces()[: len(atoms)], atoms.get_forces(), atol=1e-10)
    np.testing.assert_allclose(double.get_stress(), atoms.get_stress(), atol=1e-12)


def test_chunks_do_not_matter(model_file: Path, atoms: Atoms) -> None:
    results = []
    for chunk in (1, 4, 1000):
        atoms.calc = NnpkitCalculator(model_file, atoms_per_chunk=chunk)
        results.append((atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress()))
    for energy, forces, stress in results[1:]:
        assert energy == pytest.approx(results[0][0], abs=1e-10)
        np.testing.assert_allclose(forces, results[0][1], atol=1e-12)
        np.testing.assert_allclose(stress, results[0][2], atol=1e-13)


@pytest.mark.parametrize("pbc", [False, (True, True, False)])
def test_no_stress_without_three_periodic_directions(atoms: Atoms, pbc: object) -> None:
    atoms.pbc = pbc
    assert np.isfinite(atoms.get_forces()).all()
    assert "stress" not in atoms.calc.results
    with pytest.raises(PropertyNotImplementedError, match="periodic"):
        atoms.get_stress()


def test_unknown_element(atoms: Atoms) -> None:
    atoms.symbols[0] = "He"
    with pytest.raises(InputError, match=r"element He is unknown to the model; expected one of O, H"):
        atoms.get_potential_energy()


def test_the_python_interface(model_file: Path, atoms: Atoms) -> None:
    model = nnpkit.load(model_file)
    result = model.predict(atoms)
    assert result.energy == pytest.approx(atoms.get_potential_energy(), rel=1e-13)
    np.testing.assert_allclose(result.forces, atoms.get_forces(), atol=1e-11)
    np.testing.assert_allclose(full_3x3_to_voigt_6_stress(result.stress), atoms.get_stress(), atol=1e-12)
    assert [r.energy for r in model.predict([atoms, cluster()])] == [result.energy, result.energy]
    assert [r.energy for r in model.predict(a for a in (atoms, cluster()))] == [result.energy, result.energy]
    with pytest.raises(InputError, match=r"water\.xyz: predict takes structures.*nnpkit\.read"):
        model.predict("water.xyz")
    assert repr(model) == f"<Model acsf of O H, cutoff 4.5 Å, {model_file}>"
    atoms.calc = model.calculator()
    assert atoms.get_potential_energy() == pytest.approx(result.energy, rel=1e-13)


def test_kernel_and_torchscript_agree(model_file: Path, atoms: Atoms) -> None:
    energy, forces = atoms.get_potential_energy(), atoms.get_forces()
    atoms.calc = NnpkitCalculator(model_file, kernel="torchscript")
    assert atoms.get_potential_energy() == pytest.approx(energy, rel=1e-13)
    np.testing.assert_allclose(atoms.get_forces(), forces, atol=1e-11)
    atoms.calc = NnpkitCalculator(model_file, precision="mixed")
    assert atoms.get_potential_energy() == pytest.approx(energy, rel=1e-6)
    with pytest.raises(InputError, match="float64, mixed or float32"):
        NnpkitCalculator(model_file, precision="half")
    with pytest.raises(InputError, match="fused or torchscript"):
        NnpkitCalculator(model_file, kernel="magic")


def test_without_the_library_pytorch_evaluates(
    model_file: Path, atoms: Atoms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    energy = atoms.get_potential_energy()
    monkeypatch.setenv("NNPKIT_OPS_LIBRARY", str(tmp_path / "nothing.so"))
    with pytest.warns(UserWarning, match="is not compiled: run nnpkit build"):
        atoms.calc = NnpkitCalculator(model_file)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        NnpkitCalculator(model_file)  # said once
    assert atoms.get_potential_energy() == pytest.approx(energy, rel=1e-13)


def test_labels_of_the_structures_do_not_matter(model_file: Path) -> None:
    model = nnpkit.load(model_file)
    labelled = cluster().replace(energy=5.0, forces=np.ones((9, 3)))
    assert model.predict(labelled.to_atoms()).energy == model.predict(cluster()).energy


@pytest.mark.parametrize("kernel", ["fused", "torchscript"])
def test_an_evaluation_leaves_processors_to_others(model_file: Path, monkeypatch, kernel: str) -> None:
    """Threads of PyTorch that wait in circles beside a busy process made the calculator five times slower."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("nnpkit.threads.free_processors", lambda: 1)
    before, seen, predict = torch.get_num_threads(), [], Potential.predict

    def counted(potential, graph, atoms_per_chunk):
        seen.append(torch.get_num_threads())
        return predict(potential, graph, atoms_per_chunk)

    monkeypatch.setattr(Potential, "predict", counted)
    atoms = cluster().to_atoms()
    atoms.calc = NnpkitCalculator(model_file, kernel=kernel)
    torch.set_num_threads(3)
    try:
        atoms.get_forces()
        assert seen == [1]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
