"""Potentials with charges: charges, energies, forces and virials in LAMMPS are those of PyTorch, on several ranks."""

from __future__ import annotations

import contextlib
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from harness import MEASURE, Result, lmp, measured, random_structure, setup, write_data
from small_models import small_model
from test_charged_model import make_model

from nnpkit.deploy.load import load
from nnpkit.deploy.targets.torchscript import export_model

CELL = [[7.1, 0.0, 0.0], [0.9, 6.8, 0.0], [-0.6, 1.0, 7.4]]
PLAIN = MEASURE.replace("compute c all centroid/stress/atom NULL\n", "").replace(" c_c[*]", "")
PLAIN = PLAIN.replace("c_s[*]", "c_s[*] q").replace("dump d all custom 1", "dump d all custom 1")
GENERATIONS = ["third", "latent", "fourth"]


def model_file(folder: Path, generation: str, family: str = "acsf", **changes: Any) -> Any:
    """A small model with random weights as a file, loaded."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export_model(make_model(generation, family, **changes), folder / "model.pt")
        return load(folder / "model.pt")


def run(
    folder: Path, atoms: Atoms, ranks: int = 1, options: str = "", *, boundary: str = "p p p", units: str = "metal",
    text: str = PLAIN, pair: str | None = None,
) -> Result:  # fmt: skip
    """LAMMPS with the model of a folder, or what `pair` says; atoms have charges."""
    write_data(folder / "data.lmp", atoms, ["H", "O"])
    lines = (folder / "data.lmp").read_text().replace("Atoms # atomic", "Atoms # charge").splitlines()
    start = lines.index("Atoms # charge") + 2
    for k in range(start, len(lines)):
        number, kind, *position = lines[k].split()
        lines[k] = " ".join([number, kind, "0.0", *position])
    (folder / "data.lmp").write_text("\n".join(lines) + "\n")
    head = setup(units=units, boundary=boundary).replace("atom_style atomic", "atom_style charge")
    pair = pair or f"pair_style nnpkit ewald 1e-13 {options}\npair_coeff * * model.pt H O\n"
    return lmp(folder, head + pair + text, ranks)


def compare(result: Result, model: Any, atoms: Atoms, units: str = "metal", *, periodic: bool = True) -> None:
    found, expected = measured(result, units), model.predict(atoms)
    scale = max(1.0, float(np.abs(expected.forces).max()))
    assert found.energy == pytest.approx(expected.energy, rel=1e-10)
    assert found.forces == pytest.approx(expected.forces, rel=1e-7, abs=1e-9 * scale)
    assert found.energies == pytest.approx(expected.energies, rel=1e-9, abs=1e-9)
    if expected.charges is not None:
        assert result.dump()[:, 14] == pytest.approx(expected.charges, abs=1e-9)
    if periodic:
        six = [expected.virial[a, b] for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))]
        assert found.virial == pytest.approx(six, rel=1e-7, abs=1e-7)
        assert found.virials.sum(0) == pytest.approx(six, rel=1e-7, abs=1e-7)


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_crystal(lammps: None, tmp_path: Path, generation: str, ranks: int) -> None:
    atoms = random_structure(24, CELL, seed=2, closest=1.3)
    model = model_file(tmp_path, generation)
    compare(run(tmp_path, atoms, ranks, "chunk 7"), model, atoms)


def require_mixed_precision(result: Result, tmp_path: Path, atoms: Atoms) -> None:
    """Forces in mixed precision are those of `result`, but for rounding, which is there."""
    exact, mixed = measured(result), measured(run(tmp_path, atoms, 1, "precision mixed"))
    assert mixed.forces == pytest.approx(exact.forces, abs=1e-4 * np.abs(exact.forces).max())
    assert np.abs(mixed.forces - exact.forces).max() > 0.0


@pytest.mark.parametrize(("generation", "channels"), [("third", 1), ("latent", 2)])
def test_a_kernel_gives_both_stages_at_once(
    lammps: None, tmp_path: Path, generation: str, channels: int
) -> None:
    atoms = random_structure(24, CELL, seed=2, closest=1.3)
    model = model_file(tmp_path, generation, channels=channels)
    for options, kernel in (("chunk 5", "fused"), ("kernel torchscript", "torchscript (as asked for)")):
        result = run(tmp_path, atoms, 2, options)
        assert f"float64, {kernel}" in result.output
        compare(result, model, atoms)
    require_mixed_precision(result, tmp_path, atoms)


@pytest.mark.parametrize("family", ["acsf", "cluster_expansion"])
def test_kernels_give_energies_that_see_charges(lammps: None, tmp_path: Path, family: str) -> None:
    """The fourth generation by kernels, in pieces and whole and in single precision; and by TorchScript."""
    atoms = random_structure(24, CELL, seed=2, closest=1.3)
    model = model_file(tmp_path, "fourth", family)
    for ranks, options, kernel in (
        (2, "chunk 5", "fused"),
        (1, "", "fused"),
        (1, "kernel torchscript", "torchscript (as asked for)"),
    ):
        result = run(tmp_path, atoms, ranks, options)
        assert f"float64, {kernel}" in result.output
        compare(result, model, atoms)
    require_mixed_precision(result, tmp_path, atoms)


def test_charges_are_predicted_from_the_steps_before(lammps: None, tmp_path: Path) -> None:
    """Products with the interactions: fewer than at the first steps, while atoms change their ranks and their order."""
    atoms = random_structure(90, (1.6 * np.array(CELL)).tolist(), seed=2, closest=1.3)
    model_file(tmp_path, "fourth")
    text = (
        "velocity all create 600 7\nfix n all nve\ntimestep 0.0002\nthermo_style custom step etotal\n"
        "neighbor 0.3 bin\nneigh_modify every 3 delay 0 check no\nrun 2\nprint '@first $(etotal:%.17g)'\nrun 30\n"
        "print '@last $(etotal:%.17g)'\nprint '@kinetic $(ke:%.17g)'\n"
    )
    ends, after = [], []
    for ranks in (1, 2):
        result = run(tmp_path, atoms, ranks, "ewald 1e-5 mesh yes", text=text)
        values = result.values()
        assert values["last"] == pytest.approx(values["first"], abs=2e-3 * values["kinetic"]), result.output
        cold, warm = (float(found) for found in re.findall(r"times a vector, per step: (\S+)", result.output))
        assert warm < 0.75 * cold
        ends.append(values["last"])
        after.append(warm)
    assert ends[1] == pytest.approx(ends[0], abs=1e-4)
    assert after[1] == pytest.approx(after[0], rel=0.1)


def test_equilibrium_takes_no_more_steps_in_a_larger_box(lammps: None, tmp_path: Path) -> None:
    """Long waves, which are stiffer there, are solved for by themselves."""
    small = random_structure(60, [9.0, 8.6, 9.3], seed=2, closest=1.3)
    model_file(tmp_path, "fourth")
    found = []
    for times in ((1, 1, 1), (1, 1, 4)):
        atoms = small.repeat(times)
        atoms.positions += 0.05 * np.random.default_rng(3).normal(size=(len(atoms), 3))
        result = run(tmp_path, atoms, 2, "ewald 1e-5 mesh yes", text="run 0\nrun 1 post yes\n")
        found.append([float(n) for n in re.findall(r"\(roughly: (\S+)\)", result.output)][-1])
    assert 0.0 < found[1] < 1.25 * found[0]


@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_cluster(lammps: None, tmp_path: Path, generation: str) -> None:
    atoms = random_structure(13, [9.0, 9.0, 9.0], seed=3, pbc=False, closest=1.3)
    model = model_file(tmp_path, generation)
    compare(run(tmp_path, atoms, 2, boundary="f f f"), model, atoms, periodic=False)


def a_slab(open_direction: int, n: int = 24, seed: int = 2) -> tuple[Atoms, str]:
    """Random atoms in a slab whose cell is as skew as LAMMPS takes it, and its boundaries."""
    cell = np.array(CELL)
    if open_direction == 1:
        cell[1, 0] = 0.0
    if open_direction == 2:
        cell[2, :2] = 0.0
    atoms = random_structure(n, cell.tolist(), seed=seed, closest=1.3)
    atoms.pbc = [k != open_direction for k in range(3)]
    return atoms, " ".join("f" if k == open_direction else "p" for k in range(3))


@pytest.mark.parametrize(("open_direction", "ranks"), [(2, 1), (2, 2), (1, 2), (0, 2)])
@pytest.mark.parametrize("generation", GENERATIONS)
def test_a_slab(lammps: None, tmp_path: Path, generation: str, open_direction: int, ranks: int) -> None:
    """Two periodic directions in all orientations, triclinic; the vector across the slab is of no meaning."""
    atoms, boundary = a_slab(open_direction)
    model = model_file(tmp_path, generation)
    result = run(tmp_path, atoms, ranks, "mesh no", boundary=boundary)
    assert f"of a slab without images along {'xyz'[open_direction]}" in result.output
    compare(result, model, atoms)


def test_a_charged_slab_has_no_background(lammps: None, tmp_path: Path) -> None:
    atoms, boundary = a_slab(2)
    model = model_file(tmp_path, "fourth")
    atoms.info["total_charge"] = 1.5
    compare(run(tmp_path, atoms, 2, "charge 1.5", boundary=boundary), model, atoms)


@pytest.mark.parametrize("generation", ["latent", "fourth"])
def test_a_slab_on_a_mesh_is_as_accurate_as_it_was_asked_to_be(
    lammps: None, tmp_path: Path, generation: str
) -> None:
    atoms, boundary = a_slab(2)
    atoms = atoms.repeat((2, 2, 1))
    atoms.positions += 0.05 * np.random.default_rng(3).normal(size=(len(atoms), 3)) + [0.0, 0.0, 1.0]
    atoms.cell[2, 2] += 2.0
    model = model_file(tmp_path, generation)
    expected = model.predict(atoms)
    unit = 14.4 * float(np.mean(expected.charges**2)) / (abs(atoms.get_volume()) / len(atoms)) ** (2 / 3)
    for ranks, accuracy in ((1, 1e-3), (2, 1e-5), (1, 1e-9)):
        result = run(tmp_path, atoms, ranks, f"ewald {accuracy} mesh yes", boundary=boundary)
        found = measured(result)
        assert "Ewald sum on a mesh of a slab" in result.output
        assert np.sqrt(np.mean((found.forces - expected.forces) ** 2)) < 5.0 * accuracy * unit
        assert found.energy == pytest.approx(expected.energy, abs=20.0 * accuracy * unit * len(atoms))


def test_energy_of_a_slab_is_conserved_while_it_grows(lammps: None, tmp_path: Path) -> None:
    """Its halves fly apart, so that the vacuum is chosen anew again and again, as a new run chooses it at once."""
    atoms, _ = a_slab(2, 12)
    model_file(tmp_path, "latent")
    text = (
        "region up block INF INF INF INF 3.7 INF\ngroup up region up\nvelocity all set 0 0 -150\n"
        "velocity up set 0 0 150\nfix n all nve\ntimestep 0.0001\nthermo_style custom step etotal\nrun 0\n"
        "print '@first $(etotal:%.17g)'\nvariable high equal bound(all,zmax)-bound(all,zmin)\nrun 900\n"
        "print '@last $(etotal:%.17g)'\nprint '@kinetic $(ke:%.17g)'\nprint '@high $(v_high:%.17g)'\n"
        "print '@grown $(pe:%.17g)'\nrun 0\nprint '@anew $(pe:%.17g)'\n"
    )
    values = run(tmp_path, atoms, 2, "ewald 1e-7", boundary="p p s", text=text).values()
    assert values["high"] > 30.0
    assert values["grown"] == pytest.approx(values["anew"], abs=1e-5)
    assert values["last"] == pytest.approx(values["first"], abs=1e-5 * values["kinetic"])


@pytest.mark.parametrize("generation", ["latent", "fourth"])
def test_a_mesh_is_as_accurate_as_it_was_asked_to_be(lammps: None, tmp_path: Path, generation: str) -> None:
    """Against sums over all waves, in a triclinic cell, charged, for meshes of other sizes and several ranks."""
    cell = 1.6 * np.array(CELL)
    atoms = random_structure(90, cell.tolist(), seed=2, closest=1.2)
    model_file(tmp_path, generation)
    exact = run(tmp_path, atoms, options="mesh no charge 2.0")
    expected, charges = measured(exact), exact.dump()[:, 14]
    assert "wave by wave" in exact.output
    assert charges.sum() == pytest.approx(2.0, abs=1e-9)
    unit = 14.4 * float(np.mean(charges**2)) / (abs(np.linalg.det(cell)) / len(atoms)) ** (2 / 3)  # eV/Å
    for ranks, accuracy in ((1, 1e-3), (2, 1e-5), (1, 1e-9)):
        result = run(tmp_path, atoms, ranks, f"ewald {accuracy} mesh yes charge 2.0")
        assert "Ewald sum on a mesh" in result.output
        found = measured(result)
        error = float(np.sqrt(np.mean((found.forces - expected.forces) ** 2)))
        assert error < 5.0 * accuracy * unit
        assert found.energy == pytest.approx(expected.energy, abs=20.0 * accuracy * unit * len(atoms))
        assert found.virial == pytest.approx(expected.virial, abs=20.0 * accuracy * unit * len(atoms))
        assert found.virials.sum(0) == pytest.approx(found.virial, abs=1e-9 * np.abs(found.virial).max())
        assert found.energies.sum() == pytest.approx(found.energy, rel=1e-12)


def test_forces_on_a_mesh_are_derivatives_of_its_energy(lammps: None, tmp_path: Path) -> None:
    """Where the mesh is coarse: its forces deviate from the exact ones, but not from its own energy."""
    atoms = random_structure(60, (1.5 * np.array(CELL)).tolist(), seed=4, closest=1.2)
    model_file(tmp_path, "third", screening=[0.0, 3.6], widths={"H": 0.9, "O": 1.1})
    text = "\n".join(
        [
            "run 0",
            "variable f equal fy[7]",
            "variable p equal pzz",
            "print '@force $(v_f:%.17g)'",
            "print '@pressure $(v_p:%.17g)'",
            "print '@volume $(vol:%.17g)'",
            *(
                f"displace_atoms a move 0 {d} 0\nrun 0\nprint '@e{k} $(pe:%.17g)'"
                for k, d in enumerate((1e-4, -2e-4))
            ),
            "displace_atoms a move 0 1e-4 0",
            *(
                f"change_box all z scale {d} remap\nrun 0\nprint '@s{k} $(pe:%.17g)'"
                for k, d in enumerate((1.0001, 0.9998))
            ),
        ]
    )
    values = run(tmp_path, atoms, options="ewald 1e-3 mesh yes", text="group a id 7\n" + text).values()
    assert (values["e1"] - values["e0"]) / 2e-4 == pytest.approx(values["force"], rel=1e-5)
    exact = run(tmp_path, atoms, text="group a id 7\n" + text).values()
    assert abs(values["force"] - exact["force"]) > 1e-4 * abs(exact["force"])
    slope = (values["s0"] - values["s1"]) / np.log(1.0001 / (1.0001 * 0.9998)) / values["volume"]
    assert -1.602176634e6 * slope == pytest.approx(values["pressure"], rel=1e-3)


def test_ranks_without_atoms(lammps: None, tmp_path: Path) -> None:
    cell = np.diag([9.0, 9.0, 40.0])
    atoms = random_structure(30, [9.0, 9.0, 9.0], seed=3, closest=1.2)
    atoms.set_cell(cell)
    model_file(tmp_path, "latent")
    for options in ("mesh no", "mesh yes ewald 1e-8"):
        one = measured(run(tmp_path, atoms, 1, options))
        four = measured(run(tmp_path, atoms, 4, options))
        assert four.forces == pytest.approx(one.forces, rel=1e-8, abs=1e-8)
        assert four.virial == pytest.approx(one.virial, rel=1e-8, abs=1e-8)


def test_a_charged_cell_and_other_units(lammps: None, tmp_path: Path) -> None:
    atoms = random_structure(16, CELL, seed=5, closest=1.3)
    model = model_file(tmp_path, "fourth", "deep_potential")
    atoms.info["total_charge"] = 1.5
    result = run(tmp_path, atoms, 2, "charge 1.5", units="real")
    compare(result, model, atoms, "real")
    assert result.dump()[:, 14].sum() == pytest.approx(1.5, abs=1e-12)


def test_several_channels_and_a_dipole(lammps: None, tmp_path: Path) -> None:
    atoms = random_structure(12, [8.0, 8.0, 8.0], seed=6, pbc=False, closest=1.3)
    model = model_file(tmp_path, "latent", channels=2)
    compare(run(tmp_path, atoms, boundary="f f f"), model, atoms, periodic=False)
    model = model_file(tmp_path, "third")
    text = (
        "compute d all dipole\nthermo_style custom step pe ecoul c_d\nrun 0\nprint '@dipole $(c_d:%.17g)'\n"
    )
    result = run(tmp_path, atoms, 2, boundary="f f f", text=text)
    assert result.returncode == 0, result.output
    assert result.values()["dipole"] == pytest.approx(np.linalg.norm(model.predict(atoms).dipole), rel=1e-9)


def test_atoms_that_the_model_does_not_see_have_no_part(lammps: None, tmp_path: Path) -> None:
    atoms = random_structure(30, CELL, seed=2, closest=1.2)
    model = model_file(tmp_path, "third")
    write_data(tmp_path / "data.lmp", atoms, ["H", "O"])
    pair = (
        "pair_style hybrid/overlay nnpkit ewald 1e-13 chunk 5 zero 3.0\npair_coeff * * nnpkit model.pt H NULL\n"
        "pair_coeff * * zero\n"
    )
    text = PLAIN.replace("c_s[*] q", "c_s[*]")
    found = measured(lmp(tmp_path, setup() + pair + text, 2))
    hydrogen = [k for k, symbol in enumerate(atoms.symbols) if symbol == "H"]
    expected = model.predict(atoms[hydrogen])
    assert found.energy == pytest.approx(expected.energy, rel=1e-10)
    assert found.forces[hydrogen] == pytest.approx(expected.forces, rel=1e-7, abs=1e-9)


@pytest.mark.parametrize("options", ["", "kernel torchscript"])
def test_the_largest_force_is_that_of_the_whole(lammps: None, tmp_path: Path, options: str) -> None:
    atoms = random_structure(16, CELL, seed=2, closest=1.3)
    model = model_file(tmp_path, "latent")
    text = "compute x all nnpkit largest_force\nthermo_style custom step pe c_x[1]\nrun 0\nprint '@x $(c_x[1]:%.17g)'\n"
    result = run(tmp_path, atoms, 2, options, text=text)
    largest = np.linalg.norm(model.predict(atoms).forces, axis=1).max()
    assert result.values()["x"] == pytest.approx(largest, rel=1e-7), result.output


def test_charges_of_the_model_are_not_counted_twice(lammps: None, tmp_path: Path) -> None:
    """By other styles: not between its own atoms, but of others with them and among themselves."""
    atoms = random_structure(12, CELL, seed=2, closest=1.3)
    model_file(tmp_path, "third")
    for style in ("coul/cut 4.0", "lj/cut/coul/cut 4.0", "coul/wolf 0.2 4.0"):
        epsilon = " 0.01 2.0" if style.startswith("lj") else ""
        pair = f"pair_style hybrid/overlay nnpkit {style}\npair_coeff * * nnpkit model.pt H O\n"
        pair += f"pair_coeff 1 2 {style.split()[0]}{epsilon}\n"
        twice = run(tmp_path, atoms, pair=pair)
        assert twice.returncode != 0
        assert "coul style between atom types 1 and 2 would count it twice" in twice.output
    beside = "pair_style hybrid/overlay nnpkit zero 3.0 coul/cut 4.0\npair_coeff * * nnpkit model.pt H NULL\n"
    beside += "pair_coeff * * zero\npair_coeff 2 2 coul/cut\n"
    assert run(tmp_path, atoms, pair=beside).returncode == 0


def test_what_would_be_wrong_is_refused(lammps: None, tmp_path: Path) -> None:
    atoms = random_structure(12, CELL, seed=2, closest=1.3)
    model_file(tmp_path, "third")
    wire = run(tmp_path, atoms, boundary="f p f")
    assert wire.returncode != 0
    assert "in two (a slab) or in none: put a wire into a box with vacuum" in wire.output
    twice = run(tmp_path, atoms, text="kspace_style ewald/disp 1e-4\nrun 0\n")
    assert twice.returncode != 0
    assert "count it twice" in twice.output or "kspace" in twice.output.lower()
    wrong = run(tmp_path, atoms, options="ewald 2.0")
    assert "a relative accuracy" in wrong.output
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export_model(small_model(), tmp_path / "model.pt")
    for options in ("", "mesh yes"):
        without = run(tmp_path, atoms, options=options)
        assert without.returncode != 0
        assert "the model has no charges" in without.output


def test_a_total_charge_that_the_atoms_do_not_have_is_refused(lammps: None, tmp_path: Path) -> None:
    atoms = random_structure(12, CELL, seed=2, closest=1.3)
    model_file(tmp_path, "third")
    for options, accepted in (("", False), ("charge 2.0", False), ("charge 3.0", True)):
        result = run(tmp_path, atoms, 2, options, text="set atom 5 charge 3.0\nrun 0\nrun 0\n")
        assert (result.returncode == 0) == accepted
        assert accepted or "add up to 3 e, the model is told" in result.output
    assert run(tmp_path, atoms, text="run 0\nset group all charge 0\nrun 0\n").returncode == 0


def test_charges_without_equilibrium_end_the_run(
    lammps: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nnpkit.deploy.targets import charged_file

    told = charged_file._for_lammps

    def soft(*arguments: Any) -> dict[str, Any]:
        found = told(*arguments)
        found["electrostatics"]["hardness"] = [-40.0, -40.0]
        return found

    monkeypatch.setattr(charged_file, "_for_lammps", soft)
    model_file(tmp_path, "fourth")
    for pbc, boundary in ((True, "p p p"), (False, "f f f")):
        atoms = random_structure(12, CELL if pbc else [9.0, 9.0, 9.0], seed=2, closest=1.3, pbc=pbc)
        result = run(tmp_path, atoms, 2, boundary=boundary)
        assert result.returncode != 0
        assert "no equilibrium" in result.output


def test_energy_is_conserved_and_the_sum_of_charges(lammps: None, tmp_path: Path) -> None:
    atoms = random_structure(12, CELL, seed=2, closest=1.4)
    model_file(tmp_path, "latent")
    text = (
        "velocity all create 30 7\nfix n all nve\nvariable q equal charge(all)\ntimestep 0.0001\n"
        "thermo_style custom step etotal v_q\nrun 0\nprint '@first $(etotal:%.17g)'\nrun 60\n"
        "print '@last $(etotal:%.17g)'\nprint '@kinetic $(ke:%.17g)'\nprint '@sum $(v_q:%.17g)'\n"
    )
    values = run(tmp_path, atoms, 2, text=text).values()
    assert values["last"] == pytest.approx(values["first"], abs=2e-4 * values["kinetic"])
    assert values["sum"] == pytest.approx(0.0, abs=1e-12)


def test_md_hands_the_total_charge_on(tmp_path: Path) -> None:
    from nnpkit.cli.main import app

    model_file(tmp_path, "third")
    atoms = random_structure(12, CELL, seed=2, closest=1.3)
    atoms.info["total_charge"] = -1.0
    atoms.write(tmp_path / "start.xyz")
    for file, line in (("model.pt", "nnpkit every 0 charge -1 "), ("small.pt", "nnpkit every 0 ")):
        if file == "small.pt":
            export_model(small_model(), tmp_path / file)
        arguments = [
            str(tmp_path / file),
            str(tmp_path / "start.xyz"),
            "--dry-run",
            "-o",
            str(tmp_path / f"md-{file}"),
        ]
        with contextlib.suppress(SystemExit):
            app(["md", *arguments])
        (pair,) = re.findall(r"pair_style +(.*)", (tmp_path / f"md-{file}" / "in.lammps").read_text())
        assert pair.split("#")[0].strip() == line.strip()
