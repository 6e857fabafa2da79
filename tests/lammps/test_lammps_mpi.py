"""Domains that move: balancing, migration, unequal boxes, longer cutoffs; and other styles beside the model."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from harness import MEASURE, Result, lmp, measured, potential, random_structure, setup, write_data
from toy import Reference

BOX = [8.0, 8.0, 24.0]
DYNAMICS = """
velocity all create 1200 4711
timestep 0.0002
neighbor 0.1 bin
fix 1 all nve
thermo 100
run 0
variable start equal $(etotal)
"""


@pytest.mark.parametrize(
    ("ranks", "balance"),
    [
        (2, "comm_modify cutoff 7.0\nfix b all balance 10 1.0 shift xz 10 1.05 out balance.txt\n"),
        (4, "comm_style tiled\nbalance 1.0 rcb\nfix b all balance 10 1.0 rcb\n"),
    ],
    ids=["shift", "recursive bisection"],
)
def test_atoms_change_ranks_and_domains_change_shape(folder: Path, ranks: int, balance: str) -> None:
    """A drop in a long box: the domains follow it; at the end everything is that of numpy."""
    atoms = random_structure(45, BOX, seed=31, fill=(1, 1, 0.35), closest=1.3)
    write_data(folder / "data.lmp", atoms)
    text = setup() + potential() + balance + DYNAMICS + "run 40\n"
    text += "print '@drift $(etotal-v_start:%.17g)'\nprint '@kinetic $(ke:%.17g)'\n" + MEASURE
    result = lmp(folder, text, ranks)
    found = measured(result)
    assert abs(result.values()["drift"]) < 1e-3 * result.values()["kinetic"]
    builds = [int(x.split("=")[1]) for x in result.output.splitlines() if "Neighbor list builds" in x]
    assert max(builds) >= 5
    moved = atoms.copy()
    moved.positions = found.positions
    expected = Reference(moved)
    assert found.energy == pytest.approx(expected.energy, rel=1e-12)
    np.testing.assert_allclose(found.forces, expected.forces, rtol=0, atol=1e-11)


LONG = """
velocity all create 1500 4711
timestep 0.0002
neighbor 0.5 bin
thermo 25
thermo_style custom step pe econserve ke vol
thermo_modify format float %.17g
fix 1 all npt temp 1500 1500 0.05 aniso 3000 3000 0.1
run 600
"""
DROP = random_structure(24, BOX, seed=34, fill=(1, 1, 0.5), closest=1.4)


def rows(result: Result) -> np.ndarray:
    """The lines of thermodynamic output."""
    assert result.returncode == 0, result.output
    text = result.output.split("KinEng")[1].split("Loop time")[0].splitlines()[1:]
    return np.array([[float(word) for word in line.split()] for line in text if line[:1] == " "])


@pytest.fixture(scope="module")
def alone(lammps: None, toy_file: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """The same on one rank."""
    place = tmp_path_factory.mktemp("alone")
    shutil.copy(toy_file, place / "toy.pt")
    write_data(place / "data.lmp", DROP)
    return rows(lmp(place, setup() + potential() + LONG))


@pytest.mark.parametrize(
    "balance",
    [
        "comm_modify cutoff 6.0\nfix b all balance 50 1.0 shift xz 5 1.05\n",
        "comm_style tiled\nbalance 1.0 rcb\nfix b all balance 50 1.0 rcb\n",
    ],
    ids=["shift", "recursive bisection"],
)
def test_many_steps_are_those_of_one_rank(folder: Path, alone: np.ndarray, balance: str) -> None:
    """A hot drop evaporates in a box that changes: atoms migrate all the time, the energies stay those of one rank."""
    write_data(folder / "data.lmp", DROP)
    result = lmp(folder, setup() + potential() + balance + LONG, 2)
    found = rows(result)
    assert len(found) == 25
    conserved, kinetic, volume = alone[:, 2], alone[:, 3].mean(), alone[:, 4]
    assert np.ptp(conserved) < 3e-3 * kinetic
    assert np.ptp(alone[:, 1]) > 0.1 * kinetic
    assert np.ptp(volume) > 1.0
    np.testing.assert_allclose(found[:, 1:], alone[:, 1:], rtol=0, atol=1e-5)
    builds = [int(x.split("=")[1]) for x in result.output.splitlines() if "Neighbor list builds" in x]
    assert max(builds) > 10


def test_members_on_domains_that_change_shape(committee_folder: Path) -> None:
    """Disagreement with tiled communication is that of one rank."""
    write_data(committee_folder / "data.lmp", random_structure(30, BOX, seed=32, fill=(1, 1, 0.4)))
    model = "pair_style nnpkit\npair_coeff * * committee.pt O H\n"
    observe = "compute u all pair nnpkit\nthermo_style custom step pe c_u[1] c_u[2]\nrun 0\n"
    observe += "".join(f"print '@u{k} $(c_u[{k}]:%.17g)'\n" for k in range(1, 9))
    alone = lmp(committee_folder, setup() + model + observe).values()
    tiled = lmp(
        committee_folder, setup() + "comm_style tiled\nbalance 1.0 rcb\n" + model + observe, 4
    ).values()
    assert len(alone) == 8
    for name, value in alone.items():
        assert tiled[name] == pytest.approx(value, rel=1e-9), name


@pytest.mark.parametrize("ranks", [1, 2])
def test_beside_dispersion_charges_and_a_wall(folder: Path, ranks: int) -> None:
    """hybrid/overlay with D3, ZBL and Coulomb: the sum of what each gives alone."""
    atoms = random_structure(24, [9.0, 9.5, 10.0], seed=33, closest=1.3)
    write_data(folder / "data.lmp", atoms)
    others = {
        "zbl": ("zbl 1.0 1.8", ["1 1 {} 8 8", "1 2 {} 8 1", "2 2 {} 1 1"]),
        "dispersion/d3": ("dispersion/d3 bj pbe 8.0 6.0", ["* * {} O H"]),
        "coul/cut": ("coul/cut 6.0", ["* * {}"]),
    }
    charges = "set type 1 charge -0.8\nset type 2 charge 0.4\n"
    start = (
        setup()
        .replace("atom_style atomic", "atom_style charge")
        .replace("read_data data.lmp", "read_data charged.lmp")
    )
    lines = (folder / "data.lmp").read_text().replace("Atoms # atomic", "Atoms # charge").splitlines()
    first = lines.index("Atoms # charge") + 2
    charged = [" ".join([*(w := line.split())[:2], "0.0", *w[2:]]) for line in lines[first:]]
    (folder / "charged.lmp").write_text("\n".join(lines[:first] + charged) + "\n")
    ask = MEASURE.replace("compute c all centroid/stress/atom NULL", "compute c all stress/atom NULL")
    ask = ask.replace("c_c[*]", "c_c[1] c_c[2] c_c[3] c_c[4] c_c[5] c_c[6] c_c[1] c_c[2] c_c[3]")
    found = []
    for name, (style, coefficients) in others.items():
        text = start + charges + f"pair_style {style}\n"
        text += "".join(f"pair_coeff {c.format('')}\n" for c in coefficients)
        found.append(measured(lmp(folder, text + ask, ranks)))
        assert np.abs(found[-1].forces).max() > 1e-3, name
    text = (
        start + charges + "pair_style hybrid/overlay nnpkit " + " ".join(s for s, _ in others.values()) + "\n"
    )
    text += "pair_coeff * * nnpkit toy.pt O H\n"
    text += "".join(f"pair_coeff {c.format(name)}\n" for name, (_, cs) in others.items() for c in cs)
    together, expected = measured(lmp(folder, text + ask, ranks)), Reference(atoms)
    assert together.energy == pytest.approx(expected.energy + sum(f.energy for f in found), rel=1e-11)
    np.testing.assert_allclose(
        together.forces, expected.forces + sum(f.forces for f in found), rtol=0, atol=1e-9
    )
    trace = expected.virial.trace() + sum(f.virial[:3].sum() for f in found)
    assert together.virial[:3].sum() == pytest.approx(trace, rel=1e-9)
