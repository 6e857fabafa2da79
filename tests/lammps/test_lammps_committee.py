"""Committees in LAMMPS: mean, disagreement and extrapolation are those of Python, on every number of ranks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from harness import ENERGY_UNIT, MEASURE, Result, lmp, measured, random_structure, setup, write_data
from small_models import small_model

from nnpkit.data.graph import build_graph, edge_vectors
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import LoadedModel, load
from nnpkit.deploy.metadata import model_metadata
from nnpkit.deploy.targets.committee_file import export_committee

TRICLINIC = [[9.0, 0.0, 0.0], [2.1, 8.5, 0.0], [-1.7, 1.3, 8.8]]
NAMES = ["force_std_max", "force_std_mean", "force_std_percentile", "energy_std", "extrapolations"]
OBSERVE = """
compute u all pair nnpkit
fix u all pair 1 nnpkit force_std 1 extrapolations 1
dump u all custom 1 spread id f_u[1] f_u[2]
dump_modify u sort id format float %.17g
thermo_style custom step pe c_u[1] c_u[2] c_u[3] c_u[4] c_u[5] c_u[6] c_u[7] c_u[8]
run 0
undump u
""" + "".join(f"print '@u{k} $(c_u[{k}]:%.17g)'\n" for k in range(1, 11))


@pytest.fixture(scope="module")
def committee(committee_file: Path) -> LoadedModel:
    return load(committee_file)


def potential(options: str = "") -> str:
    return f"pair_style nnpkit {options}\npair_coeff * * committee.pt O H\n"


def extrapolations(model: LoadedModel, atoms: Atoms) -> np.ndarray:
    """(N, D) whether a feature is outside its range."""
    graph = build_graph(Structure.from_atoms(atoms, name="a"), model.elements, model.cutoff)
    features = model.module.features(
        edge_vectors(graph), graph.types[graph.neighbor], graph.offsets, graph.types
    ).numpy()
    ranges = model.metadata["feature_ranges"]
    low, high = (np.array([ranges[s][key] for s in atoms.symbols]) for key in ("min", "max"))
    return (features < low) | (features > high)


def observed(result: Result) -> dict[str, float]:
    """The vector of compute pair."""
    assert result.returncode == 0, result.output
    values = result.values()
    return {str(k): values[f"u{k}"] for k in range(1, 11)}


def check(
    result: Result, model: LoadedModel, atoms: Atoms, percentile: float = 95.0, unit: float = 1.0
) -> None:
    expected = model.predict(atoms)
    spread, found = expected.disagreement, observed(result)
    assert spread is not None
    table = result.dump("spread")
    np.testing.assert_allclose(table[:, 1] / unit, spread.forces_std, rtol=0, atol=1e-10)
    assert found["1"] / unit == pytest.approx(spread.forces_std.max(), rel=1e-10)
    assert found["2"] / unit == pytest.approx(spread.forces_std.mean(), rel=1e-10)
    assert found["3"] / unit == pytest.approx(spread.forces_std_percentile(percentile), rel=1e-9)
    assert found["4"] / unit == pytest.approx(spread.energy_std, rel=1e-8)
    outside = extrapolations(model, atoms)
    np.testing.assert_array_equal(table[:, 2], outside.sum(1))
    assert found["5"] == outside.sum() > 0
    assert found["7"] == pytest.approx(
        atoms.get_all_distances(mic=True)[np.triu_indices(len(atoms), 1)].min()
    )
    assert found["8"] / unit == pytest.approx(np.linalg.norm(expected.forces, axis=1).max(), rel=1e-10)
    assert found["10"] == 0.0


@pytest.mark.parametrize(
    ("ranks", "options", "settings", "percentile"),
    [
        (1, "", {}, 95.0),
        (1, "omp 3", {}, 95.0),
        (2, "kernel torchscript chunk 7 percentile 50", {"units": "real"}, 50.0),
        (4, "percentile 0", {"processors": "1 1 4"}, 0.0),  # ranks without atoms
    ],
)
def test_single_point(
    committee_folder: Path,
    committee: LoadedModel,
    ranks: int,
    options: str,
    settings: dict[str, str],
    percentile: float,
) -> None:
    atoms = random_structure(30, TRICLINIC, seed=21)
    if ranks == 4:
        atoms = random_structure(14, [9.5, 9.5, 40.0], seed=3, fill=(1, 1, 0.2))
    write_data(committee_folder / "data.lmp", atoms)
    unit = ENERGY_UNIT[settings.get("units", "metal")]
    text = setup(**settings) + potential(options)
    result = lmp(committee_folder, text + MEASURE + OBSERVE, ranks)
    check(result, committee, atoms, percentile, unit)
    found, expected = measured(result, settings.get("units", "metal")), committee.predict(atoms)
    assert found.energy == pytest.approx(expected.energy, rel=1e-12)
    np.testing.assert_allclose(found.forces, expected.forces, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.energies, expected.energies, rtol=1e-11)
    assert found.virial[:3].sum() == pytest.approx(expected.virial.trace(), rel=1e-10)
    assert found.virials[:, :3].sum() == pytest.approx(expected.virial.trace(), rel=1e-10)
    assert found.centroid_virials[:, :3].sum() == pytest.approx(expected.virial.trace(), rel=1e-10)


def test_deviations_of_calibrated_members_are_expected_errors(committee_folder: Path) -> None:
    """The factor of the file multiplies what members differ by, and no force."""
    members = [small_model(seed=seed) for seed in (3, 4, 5)]
    metadata, path = [model_metadata(m) for m in members], committee_folder / "committee.pt"
    export_committee(members, metadata, path, extra_metadata={"spread_factor": 2.5})
    atoms = random_structure(30, TRICLINIC, seed=21)
    write_data(committee_folder / "data.lmp", atoms)
    result = lmp(committee_folder, setup() + potential() + MEASURE + OBSERVE, 2)
    check(result, load(path), atoms)
    forces = np.array(
        [LoadedModel(m, d, "").predict(atoms).forces for m, d in zip(members, metadata, strict=True)]
    )
    spread = np.sqrt(((forces - forces.mean(0)) ** 2).sum(2).mean(0))
    assert observed(result)["1"] == pytest.approx(2.5 * spread.max(), rel=1e-9)
    np.testing.assert_allclose(measured(result, "metal").forces, forces.mean(0), rtol=0, atol=1e-10)


def test_steps_that_are_not_observed_have_the_same_forces(committee_folder: Path) -> None:
    """Members on every step, or the mean alone, with one thread or three: the trajectory is the same."""
    write_data(committee_folder / "data.lmp", random_structure(30, TRICLINIC, seed=21))
    run = "velocity all create 100 1\nfix 1 all nve\ntimestep 0.0001\nthermo 1\nrun 7\n"
    dump = "dump d all custom 7 dump id x y z\ndump_modify d sort id format float %.17g\n"
    positions = []
    for options in ("", "every 5", "omp 3"):
        result = lmp(committee_folder, setup() + potential(options) + dump + run, 2)
        assert result.returncode == 0, result.output
        positions.append(result.dump())
    np.testing.assert_allclose(positions[0], positions[1], rtol=0, atol=1e-11)
    np.testing.assert_array_equal(positions[0], positions[2])  # threads have atoms of their own


@pytest.mark.parametrize("ranks", [1, 2])
def test_beside_another_style_only_the_members_count(
    committee_folder: Path, committee: LoadedModel, ranks: int
) -> None:
    """hybrid/overlay: the other atoms do not count, and the communication is that of a sub-style."""
    atoms, argon = random_structure(24, TRICLINIC, seed=22), random_structure(4, TRICLINIC, seed=23)
    argon.symbols = "Ar" * 4
    write_data(committee_folder / "data.lmp", atoms + argon, ["O", "H", "Ar"])
    text = setup() + "pair_style hybrid/overlay nnpkit lj/cut 6.0\n"
    text += "pair_coeff * * nnpkit committee.pt O H NULL\n"
    text += "pair_coeff 3 3 lj/cut 0.01 3.4\npair_coeff 1*2 3 lj/cut 0.01 2.0\n" + OBSERVE
    result = lmp(committee_folder, text, ranks)
    found, expected = observed(result), committee.predict(atoms).disagreement
    assert expected is not None
    assert found["1"] == pytest.approx(expected.forces_std.max(), rel=1e-10)
    assert found["2"] == pytest.approx(expected.forces_std.mean(), rel=1e-10)
    np.testing.assert_allclose(result.dump("spread")[:24, 1], expected.forces_std, rtol=0, atol=1e-10)
    np.testing.assert_array_equal(result.dump("spread")[24:, 1:], 0.0)


def test_numbers_by_name_from_python(committee_folder: Path, committee: LoadedModel) -> None:
    pytest.importorskip("mpi4py")
    from harness import run

    atoms = random_structure(30, TRICLINIC, seed=21)
    write_data(committee_folder / "data.lmp", atoms)
    (committee_folder / "driver.py").write_text(
        "from mpi4py import MPI\nfrom lammps import lammps\n"
        "lmp = lammps(cmdargs=['-screen', 'none', '-log', 'none'])\n"
        f"lmp.commands_string({setup() + potential() + 'run 0'!r})\n"
        f"values = [lmp.extract_pair(n) for n in {[*NAMES, 'ended']!r}]\n"
        "if MPI.COMM_WORLD.rank == 0:\n"
        f"    for name, value in zip({[*NAMES, 'ended']!r}, values): print(f'@{{name}} {{value:.17g}}')\n"
    )
    values = run(committee_folder, ["python", "driver.py"], 2).values()
    expected = committee.predict(atoms).disagreement
    assert expected is not None
    assert values["force_std_max"] == pytest.approx(expected.forces_std.max(), rel=1e-10)
    assert values["energy_std"] == pytest.approx(expected.energy_std, rel=1e-8)
    assert values["extrapolations"] == extrapolations(committee, atoms).sum()
    assert values["ended"] == 0.0


def test_fix_pair_says_when_there_is_nothing_to_read(committee_folder: Path) -> None:
    write_data(committee_folder / "data.lmp", random_structure(30, TRICLINIC, seed=21))
    toy = (
        setup() + "pair_style nnpkit\npair_coeff * * toy.pt O H\nfix u all pair 1 nnpkit force_std 0\nrun 0\n"
    )
    assert "it is no committee" in lmp(committee_folder, toy, 2).output
    rare = setup() + potential("every 10") + "fix u all pair 3 nnpkit force_std 0\nfix 1 all nve\nrun 4\n"
    assert "force_std was not evaluated at step 3" in lmp(committee_folder, rare, 2).output
