"""Pairs that `neigh_modify exclude` removes: atoms that are gone altogether are gone, anything else is refused."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from harness import MEASURE, lmp, measured, random_structure, setup, write_data
from toy import Reference

BOX = [9.0, 9.5, 10.0]
MODEL = "pair_style nnpkit\npair_coeff * * toy.pt O H\n"


@pytest.fixture
def place(committee_folder: Path) -> Path:
    write_data(committee_folder / "data.lmp", random_structure(24, BOX, seed=41))
    return committee_folder


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize(
    "exclude", ["group gone all", "group all gone", "group gone all exclude type 1 1", "group gone water"]
)
def test_atoms_that_are_gone(place: Path, ranks: int, exclude: str) -> None:
    """Energy, forces and virial are those of the atoms that are left."""
    atoms = random_structure(24, BOX, seed=41)
    gone = np.arange(24) < 7
    if "type" in exclude:  # no oxygen is left whose pairs could be removed
        gone = np.array([s == "O" for s in atoms.symbols])
    ids = " ".join(str(i + 1) for i in np.flatnonzero(gone))
    text = setup() + MODEL + f"group gone id {ids}\ngroup water type 1 2\nneigh_modify exclude {exclude}\n"
    found, expected = measured(lmp(place, text + MEASURE, ranks)), Reference(atoms[~gone])
    assert found.energy == pytest.approx(expected.energy, rel=1e-12)
    np.testing.assert_allclose(found.forces[~gone], expected.forces, rtol=0, atol=1e-11)
    np.testing.assert_array_equal(found.forces[gone], 0.0)
    np.testing.assert_array_equal(found.energies[gone], 0.0)
    assert found.virial[:3].sum() == pytest.approx(expected.virial.trace(), rel=1e-10)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize(
    ("exclude", "words"),
    [
        ("type 1 2", "exclude type 1 2 removes pairs of the model at step 0"),
        ("group a b", "exclude group a b removes pairs of the model at step 0"),
        ("group a a", "exclude group a a removes pairs of the model at step 0"),
        ("group gone all exclude group a b", "exclude group a b removes pairs"),
    ],
)
def test_pairs_that_are_missing(place: Path, ranks: int, exclude: str, words: str) -> None:
    groups = "group a id 1 2 3\ngroup b id 8 9\ngroup gone id 20\n"
    result = lmp(place, setup() + MODEL + groups + f"neigh_modify exclude {exclude}\nrun 0\n", ranks)
    assert result.returncode != 0
    assert words in result.output


def test_molecules(place: Path) -> None:
    lines = (place / "data.lmp").read_text().replace("Atoms # atomic", "Atoms # molecular").splitlines()
    first = lines.index("Atoms # molecular") + 2
    whole = [" ".join([(w := line.split())[0], str((int(w[0]) + 2) // 3), *w[1:]]) for line in lines[first:]]
    (place / "data.lmp").write_text("\n".join(lines[:first] + whole) + "\n")
    start = setup().replace("atom_style atomic", "atom_style molecular")
    for kind in ("intra", "inter"):
        result = lmp(place, start + MODEL + f"neigh_modify exclude molecule/{kind} all\nrun 0\n")
        assert f"exclude molecule/{kind} all removes pairs of the model" in result.output


def test_it_is_noticed_when_it_happens(place: Path) -> None:
    """A group that is empty at first, and the exclusion of types that the model does not see."""
    text = setup() + MODEL + "group a empty\ngroup b id 8 9\nneigh_modify exclude group a b\nrun 0\n"
    text += "reset_timestep 5\nprint '@first 1'\ngroup a id 1 2\nrun 0\n"
    result = lmp(place, text, 2)
    assert "removes pairs of the model at step 5" in result.output
    assert result.values() == {"first": 1.0}
    atoms, argon = random_structure(24, BOX, seed=41), random_structure(3, BOX, seed=42)
    argon.symbols = "Ar" * 3
    write_data(place / "data.lmp", atoms + argon, ["O", "H", "Ar"])
    text = setup() + "pair_style hybrid/overlay nnpkit lj/cut 6.0\npair_coeff * * nnpkit toy.pt O H NULL\n"
    text += "pair_coeff * 3 lj/cut 0.0 2.0\ngroup wall type 3\n"
    text += "neigh_modify exclude type 3 3 exclude group wall wall\n"
    text += "thermo_style custom step pe\nrun 0\nprint '@pe $(pe:%.12g)'\n"
    assert lmp(place, text).values()["pe"] == pytest.approx(Reference(atoms).energy, rel=1e-10)


@pytest.mark.parametrize("ranks", [1, 2])
def test_monte_carlo_of_molecules(place: Path, ranks: int) -> None:
    """fix gcmc takes molecules away at every step, because nothing is left for them to pay; what remains is right."""
    molecule = [[0.0, 0.0, 0.0], [0.96, 0.0, 0.0], [-0.24, 0.93, 0.0]]
    (place / "w.mol").write_text(
        "water\n\n3 atoms\n\nCoords\n\n"
        + "".join(f"{i} {x} {y} {z}\n" for i, (x, y, z) in enumerate(molecule, 1))
        + "\nTypes\n\n1 1\n2 2\n3 2\n\nMasses\n\n1 15.999\n2 1.008\n3 1.008\n"
    )
    places = [(x, y, z) for x in (1.5, 6.0) for y in (1.5, 6.0) for z in (1.5, 6.5)]
    lines = [
        "molecules",
        "",
        f"{3 * len(places)} atoms",
        "2 atom types",
        "",
        "0 9 xlo xhi",
        "0 9 ylo yhi",
        "0 10 zlo zhi",
    ]
    lines += ["", "Masses", "", "1 15.999", "2 1.008", "", "Atoms # molecular", ""]
    for m, place_of in enumerate(places):
        for k, x in enumerate(molecule):
            position = " ".join(f"{a + b:.6f}" for a, b in zip(place_of, x, strict=True))
            lines.append(f"{3 * m + k + 1} {m + 1} {1 if k == 0 else 2} {position}")
    (place / "data.lmp").write_text("\n".join(lines) + "\n")
    start = setup().replace("atom_style atomic", "atom_style molecular")
    start += MODEL.replace("toy.pt", "committee.pt").replace(
        "nnpkit", "nnpkit watch force_std_max 0 INF interval 1", 1
    )
    gcmc = "molecule w w.mol\nfix g all gcmc 1 4 0 0 12345 300 -40 0.1 mol w full_energy intra_energy {}\n"
    show = "compute_modify thermo_temp dynamic/dof yes\nthermo 1\n"
    show += "thermo_style custom step atoms pe f_g[5] f_g[6]\n"
    show += "thermo_modify format float %.12g\n"
    show += "dump d all custom 1 left.* type x y z\ndump_modify d format float %.17g\n"
    show += "run 5\n"
    result = lmp(place, start + gcmc.format(-1000.0) + show, ranks)
    assert result.returncode == 0, result.output
    table = [line.split() for line in result.output.splitlines() if re.fullmatch(r"\s+\d[\s\d.e+-]+", line)]
    table = [[float(word) for word in row] for row in table if len(row) == 5]
    assert len({row[1] for row in table}) > 1
    from ase import Atoms

    from nnpkit.deploy.load import load

    model = load(place / "committee.pt")
    for step, row in enumerate(table):
        left = result.dump(f"left.{step}") if row[1] else np.zeros((0, 4))
        if not len(left):
            assert row[2] == 0.0
            continue
        atoms = Atoms(["OH"[int(t) - 1] for t in left[:, 0]], left[:, 1:], cell=[9.0, 9.0, 10.0], pbc=True)
        assert row[2] == pytest.approx(model.predict(atoms).energy, rel=1e-9)
    assert "nnpkit" in result.output
