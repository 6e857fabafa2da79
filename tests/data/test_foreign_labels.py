"""Labels as other programs and people write them: read right, refused in one line, or named in a note."""

from __future__ import annotations

from pathlib import Path

import ase.io
import numpy as np
import pytest
from data_tools import emt_copper, water
from foreign_tools import FORCES, STRESS, file, frame, read_with_notes

from nnpkit.data.formats.reading import read, write
from nnpkit.data.labels import choose_names
from nnpkit.data.notes import DataWarning
from nnpkit.errors import InputError

NINE = STRESS.ravel().tolist()


@pytest.mark.parametrize(
    "text",
    [
        " ".join(map(str, NINE)).join('""'), " ".join(map(str, NINE)).join("''"), " ".join(map(str, NINE)).join("{}"),
        str(STRESS.tolist()), str(STRESS.tolist()).replace(" ", ""), str(NINE), str(STRESS.tolist()).join('""'),
        str(STRESS.tolist()).replace("[", "{").replace("]", "}"), str(STRESS).replace("\n", "").join('""'),
        " ".join(map(str, NINE)).join("[]"), ",".join(map(str, NINE)).join('""'),
        " ".join(str(STRESS[a, b]) for a, b in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))).join('""'),
        " ".join(f"{x:.3E}".replace("E", "D") for x in NINE).join('""'),
    ],
)  # fmt: skip
@pytest.mark.parametrize("equals", ["=", " = ", "= "])
def test_arrays_in_any_brackets(tmp_path: Path, text: str, equals: str) -> None:
    header = f"energy{equals}-1.5 config_type{equals}bulk stress{equals}{text} step=3"
    (only,), said = read_with_notes(file(tmp_path, frame(header)))
    assert only.energy == -1.5
    np.testing.assert_allclose(only.stress, STRESS, atol=1e-12)
    assert only.info == {"config_type": "bulk", "step": 3}
    assert said == ""


def test_nested_lattice(tmp_path: Path) -> None:
    (only,) = read(
        file(tmp_path, frame("energy=1").replace('"4 0 0 0 5 0 0 0 6"', "[[4,0,0],[0,5,0],[0,0,6]]"))
    )
    assert np.diag(only.cell).tolist() == [4, 5, 6]


@pytest.mark.parametrize(
    "before", ["config_type=", "config_type= ", "config_type = ", "virial=", 'tag=""', "x=1 flag"]
)
def test_an_empty_value_takes_nothing_with_it(tmp_path: Path, before: str) -> None:
    (only,), _ = read_with_notes(file(tmp_path, frame(f"{before} energy=-1.5 step=3")))
    assert (only.energy, only.stress, only.info["step"]) == (-1.5, None, 3)


@pytest.mark.parametrize(
    "empty", ["energy=", 'energy=""', "energy=None", 'energy="_JSON null"', "energy=N/A"]
)
def test_an_empty_label_is_named(tmp_path: Path, empty: str) -> None:
    (only,), said = read_with_notes(file(tmp_path, frame(f"{empty} step=3")))
    assert only.energy is None
    assert "#0: energy is empty: no energy" in said


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("energy=-1.5eV", "energy is '-1.5eV', no number"), ("energy=-1.5_eV", "no number"),
        ("energy=-1.5;", "no number"),
        ("energy=low", "no number"), ("energy=T", "energy is without a value"), ("energy", "without a value"),
        ('total_energy="-1.5 Ha"', "total_energy is '-1.5 Ha', no number"),
        ("energy= -1.5 Hartree", "followed by the unit Hartree"),
        ("energy=-1.5 kcal/mol", "followed by the unit kcal/mol"), ('stress="1 2 3 GPa"', "stress is '1 2 3 GPa'"),
        ('stress="0 0 0 0 0 0 0 0 0" kbar', "followed by the unit kbar"),
        ("step=3,energy=-1.5", "holds several keys"),
        ('stress="0 0 0', "quotes or brackets"), ("stress=[[0,0,0],[0,0,0]", "quotes or brackets"),
        ("energy=-1.5 energy=-1.6", "energy stands twice"), ('energy="-1.5 -1.6"', "is not one number"),
        ('stress="1 2 3"', "stress is not a 3x3 matrix"),
    ],
)  # fmt: skip
def test_a_label_that_is_not_understood_is_refused(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as failure:
        read(file(tmp_path, frame("step=0") + frame(f"{header} pressure_of=2")))
    assert "#1" in str(failure.value)
    assert "\n" not in str(failure.value)


def test_internal_units_beside_a_number_are_read(tmp_path: Path) -> None:
    (only,) = read(file(tmp_path, frame("energy = -1.5 eV, step = 3")))
    assert (only.energy, only.info) == (-1.5, {"step": 3})


@pytest.mark.parametrize(
    ("header", "columns", "said"),
    [
        ('stresses="1 0 0 0 1 0 0 0 1"', "forces:R:3", "labels: {stress: stresses}"),
        ("E=-2.5", "forces:R:3", "labels: {energy: E}"), ("E_mp2=-2.5", "forces:R:3", "labels: {energy: E_mp2}"),
        ("E_fermi=2.5 e_gap=1", "forces:R:3", ""), ("energy=1", "F_mp2:R:3", "labels: {forces: F_mp2}"),
        ("corrected_total_energy=-3", "forces:R:3", "labels: {energy: corrected_total_energy}"),
        ("xtb_energy=-3 kinetic_energy=2 max_force=1", "forces:R:3", "labels: {energy: xtb_energy}"),
        ("energy=1", "atomic_forces:R:3", "labels: {forces: atomic_forces}"),
        ("energy=1", "gradient:R:3", "labels: {forces: gradient}"), ("energy=1", "f:R:3", "labels: {forces: f}"),
        ('energy=1 pressure="1 0 0 0 1 0 0 0 1"', "forces:R:3", "labels: {stress: pressure}"),
        ("energy=1 charge_total=1", "forces:R:3", "labels: {total_charge: charge_total}"),
        ("energy=1 dipole=3 force_tolerance=0.1 energy_cutoff=4", "forces:R:3", ""),
    ],
)  # fmt: skip
def test_look_alikes_are_named(tmp_path: Path, header: str, columns: str, said: str) -> None:
    frames, notes = read_with_notes(file(tmp_path, frame(header, columns) * 3))
    assert len(frames) == 3
    assert said in notes
    assert bool(said) == bool(notes)
    assert notes.count("\n") == 0
    assert "3 frames, first #0" in notes if said else not notes


def test_labels_per_atom_under_a_name_per_frame_are_named(tmp_path: Path) -> None:
    _, said = read_with_notes(file(tmp_path, frame("step=1", "energy:R:1:x:R:2")))
    assert "energy is per atom and not used: the frame has no energy" in said


def test_columns_and_comments_without_names_are_named(tmp_path: Path) -> None:
    plain = "2\n energy: -5.0704 gnorm: 0.0005 (xtb)\nO 0 0 0 0.1 0.2 0.3\nH 0 0 1 0 0 0\n"
    (only,), said = read_with_notes(file(tmp_path, plain))
    assert only.labels == ()
    assert "3 columns without a name in Properties are not read" in said
    assert "the comment line mentions an energy, which is not read" in said


@pytest.mark.parametrize(
    ("comment", "is_named"),
    [("-76.4026", True), (" -76.4 Ha", True), ("Energy (eV): -12.5", True), ("frame 3", False), ("7", False)],
)
def test_an_energy_in_a_comment_is_named(tmp_path: Path, comment: str, is_named: bool) -> None:
    (only,), said = read_with_notes(file(tmp_path, f"2\n{comment}\nO 0 0 0\nH 0 0 1\n"))
    assert only.energy is None
    assert ("mentions an energy, which is not read" in said) == is_named


@pytest.mark.parametrize(("columns", "is_named"), [("fx:R:1:fy:R:1:fz:R:1", True), ("fx:R:1:fy:R:2", False)])
def test_components_of_forces_in_columns_of_their_own_are_named(
    tmp_path: Path, columns: str, is_named: bool
) -> None:
    (only,), said = read_with_notes(file(tmp_path, frame("energy=1", columns)))
    assert only.forces is None
    assert ("fx, fy and fz look like the forces but are not used" in said) == is_named


def test_forces_in_the_header(tmp_path: Path) -> None:
    text = frame(f'energy=1 forces="{" ".join(map(str, FORCES.ravel()))}"', "x:R:3")
    np.testing.assert_allclose(read(file(tmp_path, text))[0].forces, FORCES)


KCAL, HARTREE, BOHR = 0.0433641042, 27.2113862, 0.5291772
STATED = [  # header, factors of energy, length, force, stress
    ("energy_unit=eV", 1, 1, 1, 1), ("units=metal", 1, 1, 1, 1), ('units="eV, Å"', 1, 1, 1, 1),
    ("units=angstrom-ev", 1, 1, 1, 1), ('unit_energy=eV force_unit="eV/Angstrom" stress_unit=eV/A^3', 1, 1, 1, 1),
    ("units=real", KCAL, 1, KCAL, KCAL), ("units=au", HARTREE, BOHR, HARTREE / BOHR, HARTREE / BOHR**3),
    ("units=bohr-hartree", HARTREE, BOHR, HARTREE / BOHR, HARTREE / BOHR**3),
    ("energy_unit=hartree length_unit=bohr", HARTREE, BOHR, HARTREE / BOHR, HARTREE / BOHR**3),
    ("Energy_Units=kcal/mol forces_unit=kcal/mol/A stress_unit=GPa", KCAL, 1, KCAL, 1 / 160.21766),
    ("energy_unit=Ry force_unit=Ry/bohr stress_unit=kbar", HARTREE / 2, 1, HARTREE / 2 / BOHR, 1 / 1602.1766),
    ('units="_JSON {\\"energy\\": \\"meV\\", \\"length\\": \\"nm\\"}"', 1e-3, 10, 1e-4, 1e-6),
    ('units="kJ/mol, nm"', KCAL / 4.184, 10, KCAL / 41.84, KCAL / 4184),
]  # fmt: skip


@pytest.mark.parametrize(("header", "energy", "length", "force", "stress"), STATED)
def test_units_that_the_header_states(
    tmp_path: Path, header: str, energy: float, length: float, force: float, stress: float
) -> None:
    text = frame(f'energy=-1.5 stress="{" ".join(map(str, NINE))}" {header}')
    (only,) = read(file(tmp_path, text))
    assert only.energy == pytest.approx(-1.5 * energy, rel=1e-6)
    np.testing.assert_allclose(only.positions[1], [0, 0, 0.97 * length], rtol=1e-6)
    np.testing.assert_allclose(np.diag(only.cell), np.array([4, 5, 6]) * length, rtol=1e-6)
    np.testing.assert_allclose(only.forces, FORCES * force, rtol=1e-6)
    np.testing.assert_allclose(only.stress, STRESS * stress, rtol=1e-6)
    write(tmp_path / "again.xyz", [only])  # in eV, so that nothing may say otherwise
    assert read(tmp_path / "again.xyz")[0].energy == only.energy


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("energy_unit=furlong", "energy_unit=furlong is not a unit that can be converted"),
        ("units=lj", "units=lj is not a unit"),
        ("energy_unit=eV/atom", "energy_unit=eV/atom is not a unit"),
        ("energy_unit=hartree", "leaves that of the force open"),
        ("energy_unit=eV units=au", "units of the energy contradict each other"),
        ("force_unit=hartree/bohr", "that of the energy open"),
        ("energy_unit=kcal/mol force_unit=kcal/mol/A", "leaves that of the stress open"),
        ("units=3", "units=3 is not a unit"),
        ("stress_unit=GPa energy_unit=eV force_unit=eV/A", ""),
    ],
)  # fmt: skip
def test_units_that_are_not_understood_are_refused(tmp_path: Path, header: str, message: str) -> None:
    path = file(tmp_path, frame(f'energy=-1.5 stress="{" ".join(map(str, NINE))}" {header}'))
    if not message:
        assert read(path)[0].stress[2, 2] == pytest.approx(0.03 / 160.21766)
        return
    with pytest.raises(InputError, match=message):
        read(path)


def test_units_of_the_user_and_of_the_header_must_agree(tmp_path: Path) -> None:
    path = file(tmp_path, frame("energy=-1.5 units=au"))
    assert read(path, units="bohr-hartree")[0].energy == pytest.approx(-1.5 * HARTREE)
    with pytest.raises(InputError, match="other units of energy than angstrom-ev"):
        read(path, units="angstrom-ev")
    assert read(file(tmp_path, frame("energy=1")), units="bohr-hartree")[0].cell[0, 0] == pytest.approx(
        4 * BOHR
    )


def test_the_header_of_lammps_with_units_is_not_said_to_be_metal(tmp_path: Path) -> None:
    header = "Timestep=50 Potential_energy=-23.06054783 units=real"
    (only,), said = read_with_notes(file(tmp_path, frame(header, "vel:R:3")))
    assert only.energy == pytest.approx(-1.0, rel=1e-6)  # kcal/mol
    assert "velocities" not in only.arrays
    assert "LAMMPS' dump extxyz; Potential_energy as energy" in said
    assert "metal" not in said


def test_the_header_of_lammps(tmp_path: Path) -> None:
    header = (
        "Timestep=50 Time=0.05 Potential_energy=-268.59 "
        'Stress="-29673 -861 1026 -861 -29475 1257 1026 1257 -29350"'
    )
    path = file(tmp_path, frame(header, "vel:R:3").replace(" 0.25 0.0 -0.5", " 100 0 0"))
    (only,), said = read_with_notes(path)
    assert (only.energy, only.labels) == (-268.59, ("energy",))
    assert only.info["lammps_pressure_bar"][0] == -29673
    assert only.arrays["velocities"][0].tolist() == [0.1, 0, 0]  # Å/fs
    assert (
        "units metal; Potential_energy as energy; its Stress (bar, opposite sign, with the kinetic part)"
        in said
    )
    assert read(path, keys={"energy": "Potential_energy"})[0].energy == -268.59
    with pytest.raises(InputError, match="pressure in bar"):
        read(path, keys={"stress": "Stress"})
    write(tmp_path / "again.xyz", [only])
    (again,), said = read_with_notes(tmp_path / "again.xyz")
    assert (again.labels, said) == (("energy",), "")


@pytest.mark.parametrize("label", ["stress", "virial"])
@pytest.mark.parametrize("zeros", ["0 0 0 0 0 0 0 0 0", "0.0 0 0 0 0 0"])
def test_zero_stress_of_a_molecule_without_a_cell_is_left_out(tmp_path: Path, label: str, zeros: str) -> None:
    path = file(tmp_path, frame(f'energy=1 {label}="{zeros}"', lattice="") * 2)
    frames, said = read_with_notes(path)
    assert [f.labels for f in frames] == [("energy", "forces")] * 2
    assert f"a {label} of zeros without a cell is left out (2 frames, first #0)" in said
    with pytest.raises(InputError, match=f"a {label} without a cell"):
        read(file(tmp_path, frame(f'energy=1 {label}="{zeros[:-1]}1"', lattice="")))


def two_methods(header: str, columns: str) -> str:
    rows = [f"{s} 0 0 {z} {f} 0 0 {2 * f} 0 0" for s, z, f in (("O", 0.0, 0.5), ("H", 0.97, -0.5))]
    return (
        f'2\nLattice="4 0 0 0 5 0 0 0 6" Properties=species:S:1:pos:R:3:{columns} {header}\n'
        + "\n".join(rows)
        + "\n"
    )


@pytest.mark.parametrize(
    ("header", "columns", "energy", "force", "said"),
    [
        ("energy=-1 REF_energy=-2", "REF_forces:R:3:x:R:3", -2, 0.5, "energy left aside"),
        ("dft_energy=-3 REF_energy=-2", "x:R:3:dft_forces:R:3", -3, 1.0, "dft_energy as energy, dft_forces as forces"),
        ("energy_ref=-3 energy=-1", "forces_ref:R:3:x:R:3", -3, 0.5, "taken: energy_ref as energy"),
        ("energy=-1 free_energy=-1.0015", "forces:R:3:x:R:3", -1, 0.5, "free_energy left aside"),
        ("energy=-1 free_energy=-1.0001", "forces:R:3:x:R:3", -1, 0.5, ""),
        ("energy=-1 REF_energy=-1", "forces:R:3:x:R:3", -1, 0.5, ""),
    ],
)  # fmt: skip
def test_labels_of_two_methods_are_not_mixed(
    tmp_path: Path, header: str, columns: str, energy: float, force: float, said: str
) -> None:
    (only,), notes = read_with_notes(file(tmp_path, two_methods(header, columns)))
    assert (only.energy, only.forces[0, 0]) == (energy, force)
    assert said in notes
    assert bool(said) == bool(notes)


@pytest.mark.parametrize(
    "texts",
    [
        [two_methods("energy=-1", "REF_forces:R:3:x:R:3")],
        [two_methods("REF_energy=-1", "forces:R:3:x:R:3")],
        [two_methods("dft_energy=-1", "REF_forces:R:3:x:R:3")],
        [two_methods('REF_energy=-1 stress="1 0 0 0 1 0 0 0 1"', "REF_forces:R:3:x:R:3")],
        # the same within a file: the frames do not agree on what the energy is
        [two_methods("energy=-1", "forces:R:3:x:R:3"), two_methods("REF_energy=-1", "REF_forces:R:3:x:R:3")],
        [
            two_methods("energy=-1 REF_energy=-2", "REF_forces:R:3:x:R:3"),
            two_methods("energy=-1", "x:R:3:y:R:3"),
        ],
    ],
)
def test_labels_that_only_mixing_would_complete_are_refused(tmp_path: Path, texts: list[str]) -> None:
    path = file(tmp_path, "".join(texts))
    with pytest.raises(
        InputError, match=r"may be of different methods: energy as .*Say which count"
    ) as failure:
        read(path)
    assert "\n" not in str(failure.value)


@pytest.mark.parametrize(
    ("header", "columns", "message", "hint"),
    [
        (
            "energy=-1 REF_energy=-2",
            "forces:R:3:REF_forces:R:3",
            "energy could be energy or REF_energy",
            "REF_energy",
        ),
        (
            "REF_energy=-2 energy=-1",
            "REF_forces:R:3:force:R:3",
            "energy could be energy or REF_energy",
            "REF_energy",
        ),
        (
            "REF_energy=-1 energy=-1",
            "forces:R:3:REF_forces:R:3",
            "forces could be forces or REF_forces",
            "REF_forces",
        ),
        (
            "energy=-1 free_energy=-1.2",
            "forces:R:3:x:R:3",
            "energy could be energy or free_energy",
            "free_energy",
        ),
    ],
)
def test_two_complete_sets_of_labels_need_a_choice(
    tmp_path: Path, header: str, columns: str, message: str, hint: str
) -> None:
    path = file(tmp_path, two_methods(header, columns))
    with pytest.raises(InputError, match=message) as failure:
        read(path)
    assert f"{hint}}}" in str(failure.value)
    with pytest.warns(DataWarning, match="could be"):  # the start of a simulation needs no labels
        (only,) = read(path, labels_matter=False)
    assert only.energy == -1
    key = "forces" if hint.endswith("forces") else "energy"
    assert read(path, keys={key: hint})


def test_names_given_settle_which_labels_count(tmp_path: Path) -> None:
    path = file(tmp_path, two_methods("energy=-1", "REF_forces:R:3:x:R:3"))
    frames, said = read_with_notes(path, keys={"energy": "energy", "forces": "REF_forces"})
    assert (frames[0].energy, frames[0].forces[0, 0], said) == (-1, 0.5, "")
    path = file(tmp_path, two_methods("energy=-1 REF_energy=-2", "forces:R:3:REF_forces:R:3"))
    (only,) = read(path, keys={"energy": "REF_energy"})  # the forces follow
    assert (only.energy, only.forces[0, 0]) == (-2, 1.0)
    with pytest.raises(InputError, match="forces as forces"):
        read(file(tmp_path, two_methods("REF_energy=-1", "forces:R:3:x:R:3")), keys={"energy": "REF_energy"})


def test_two_methods_in_files_of_ase(tmp_path: Path) -> None:
    images = [frame.to_atoms() for frame in emt_copper(n=2)]
    for atoms in images:
        atoms.arrays["REF_forces"] = np.ones((len(atoms), 3))
        atoms.info["REF_energy"] = -7.0
    ase.io.write(tmp_path / "a.traj", images)
    frames, said = read_with_notes(tmp_path / "a.traj")
    assert frames[0].energy != -7.0
    assert "REF_energy left aside" in said
    images[1].calc = None
    ase.io.write(tmp_path / "b.traj", images)
    with pytest.raises(InputError, match=r"b\.traj: labels under different names"):
        read(tmp_path / "b.traj")


def test_choose_names_says_where() -> None:
    with pytest.raises(
        InputError, match=r"a\.xyz: labels under .* labels: \{energy: energy, forces: REF_forces\}"
    ):
        choose_names([["energy", "REF_forces"]], where="a.xyz")
    assert choose_names([["energy"], ["energy", "forces"]])["forces"] == ("forces", "force")


def test_names_that_some_frames_lack_are_counted(tmp_path: Path) -> None:
    path = file(tmp_path, frame("mine=-1") + frame("step=1") + frame("step=2"))
    frames, said = read_with_notes(path, keys={"energy": "mine"})
    assert [f.energy for f in frames] == [-1, None, None]
    assert "no 'mine' to be the energy (2 frames, first #1)" in said


def test_our_own_files_need_no_notes(tmp_path: Path) -> None:
    frames = [water(), water().replace(charges=np.array([-0.8, 0.4, 0.4]), total_charge=0.0)]
    for name in ("a.xyz", "input.data", "folder"):
        write(tmp_path / name, frames)
        assert read_with_notes(tmp_path / name)[1] == ""
