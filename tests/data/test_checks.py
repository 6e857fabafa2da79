"""Suspicious structures: each kind of trouble is found by name, sound data are left in peace."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data_tools import emt_copper, real_data, water
from rich.console import Console

from nnpkit.data.checks.pair_potential import pair_potential_test
from nnpkit.data.checks.strain import strain_tests
from nnpkit.data.checks.suspicious import WHOLE_SET, Finding, find_suspicious, findings_table
from nnpkit.data.formats.reading import read
from nnpkit.data.structure import Structure
from nnpkit.units import BOHR, EV_PER_A3_IN_GPA, HARTREE

Change = Callable[[Structure], Structure]


@pytest.fixture(scope="module")
def copper() -> list[Structure]:
    """Strained and rattled copper whose labels are right."""
    return emt_copper(n=24, strain=0.03, rattle=0.08)


def kinds(findings: list[Finding]) -> list[str]:
    return [finding.kind for finding in findings]


def test_sound_data_are_left_in_peace(copper: list[Structure]) -> None:
    assert find_suspicious(copper) == []
    assert find_suspicious([]) == []
    assert find_suspicious([water()]) == []


UNITS: list[tuple[str, Change, list[str]]] = [
    ("energies in hartree", lambda s: s.replace(energy=s.energy / HARTREE), ["energy unit"]),
    ("energies converted twice", lambda s: s.replace(energy=s.energy * HARTREE), ["energy unit"]),
    ("energies in meV", lambda s: s.replace(energy=s.energy * 1000), ["energy unit"]),
    ("forces in hartree/bohr", lambda s: s.replace(forces=s.forces * BOHR / HARTREE), ["energy unit"]),
    ("gradients for forces", lambda s: s.replace(forces=-s.forces), ["force sign"]),
    (
        "lengths in bohr",
        lambda s: s.replace(positions=s.positions / BOHR, cell=s.cell / BOHR),
        ["length unit"],
    ),
    (
        "lengths taken for bohr",
        lambda s: s.replace(positions=s.positions * BOHR, cell=s.cell * BOHR),
        ["length unit"],
    ),
    ("stress of VASP", lambda s: s.replace(stress=None if s.stress is None else -s.stress), ["stress sign"]),
    (
        "stress in GPa",
        lambda s: s.replace(stress=None if s.stress is None else s.stress * 160.2),
        ["stress unit"],
    ),
]


@pytest.mark.parametrize(("change", "expected"), [u[1:] for u in UNITS], ids=[u[0] for u in UNITS])
def test_units_and_signs(copper: list[Structure], change: Change, expected: list[str]) -> None:
    findings = find_suspicious([change(structure) for structure in copper])
    assert set(expected) <= set(kinds(findings))
    assert all(finding.structure == WHOLE_SET or "stress" in finding.kind for finding in findings)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda s: s, []),
        (lambda s: s.replace(energy=s.energy / HARTREE), ["energy unit"]),
        (lambda s: s.replace(forces=-s.forces), ["force sign"]),
        (lambda s: s.replace(positions=s.positions / BOHR, cell=s.cell / BOHR), ["length unit"]),
        (
            lambda s: s.replace(energy=s.energy / HARTREE, forces=s.forces * BOHR / HARTREE, stress=None),
            ["force unit"],
        ),
        (lambda s: s.replace(energy=s.energy * 23.06, forces=s.forces * 23.06, stress=None), ["force unit"]),
    ],
)
def test_the_file_with_other_units_is_named(change: Change, expected: list[str]) -> None:
    """Two files, of which the second is in other units: it is named, and the first and the whole set are not blamed."""
    frames = emt_copper(24, rattle=0.1)
    first = [s.replace(name=f"runs/first.xyz#{k}") for k, s in enumerate(frames[:14])]
    second = [change(s.replace(name=f"runs/second.xyz#{k}")) for k, s in enumerate(frames[14:])]
    found = [f for f in find_suspicious([*first, *second]) if f.kind.endswith(("unit", "sign"))]
    assert [(f.kind, f.structure) for f in found if not f.kind.startswith("stress")] == [
        (kind, "runs/second.xyz") for kind in expected
    ]
    assert not [f for f in found if f.structure in (WHOLE_SET, "runs/first.xyz")]
    if expected == ["force unit"]:
        assert "runs/first.xyz" in found[0].message


def test_units_that_all_files_share_are_those_of_the_set() -> None:
    frames = [s.replace(energy=s.energy / HARTREE) for s in emt_copper(24, rattle=0.1)]
    named = [s.replace(name=f"{'ab'[k % 2]}.xyz#{k}") for k, s in enumerate(frames)]
    found = [f for f in find_suspicious(named) if f.kind.endswith(("unit", "sign"))]
    assert [(f.kind, f.structure) for f in found] == [("energy unit", WHOLE_SET)]


def test_pair_potential_test_is_conclusive_on_emt(copper: list[Structure]) -> None:
    test = pair_potential_test(copper)
    assert test.energy.conclusive
    assert test.virial.conclusive
    assert test.virial.slope == pytest.approx(1.0, abs=0.3)
    assert pair_potential_test(copper[:7]) is None
    assert pair_potential_test([s.replace(forces=np.zeros((32, 3))) for s in copper]) is None


def test_pair_potential_test_recovers_a_pair_potential() -> None:
    """Energies and stresses that are those of a pair potential: slopes of one."""
    from ase.calculators.lj import LennardJones

    frames = []
    for structure in emt_copper(n=20, strain=0.03, rattle=0.1):
        atoms = structure.to_atoms()
        atoms.calc = LennardJones(sigma=2.3, epsilon=0.4, rc=5.0, smooth=True)
        atoms.get_potential_energy()
        frames.append(Structure.from_atoms(atoms, structure.name))
    test = pair_potential_test(frames)
    assert test.energy.correlation > 0.98
    assert test.energy.slope == pytest.approx(1.0, abs=0.1)
    assert test.virial.slope == pytest.approx(1.0, abs=0.02)


def test_many_elements_share_functions_and_memory(copper: list[Structure]) -> None:
    from ase.data import chemical_symbols

    symbols = (chemical_symbols[1:90] * 30)[: sum(s.n_atoms for s in copper)]
    size = copper[0].n_atoms
    mixed = [s.replace(symbols=symbols[k * size : (k + 1) * size]) for k, s in enumerate(copper[:10])]
    tracemalloc.start()
    test = pair_potential_test(mixed)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2e8  # bytes; 79210 functions would have a matrix of 50 GB
    assert test is not None
    assert test.virial is not None
    assert test.virial.conclusive
    assert 0.5 < test.virial.slope < 2.5


@pytest.mark.parametrize("rattle", [0.0, 0.002])
def test_strain_test_is_the_definition_of_stress(rattle: float) -> None:
    """The deviation of the slope from one is of second order in the strain, also with displaced atoms."""
    deviations = []
    for strain in (0.004, 0.002, 0.001):
        (test,) = strain_tests(emt_copper(n=20, strain=strain, rattle=rattle * strain / 0.004))
        assert test.conclusive
        assert test.correlation > 0.9999
        deviations.append(abs(test.slope - 1.0))
    assert deviations[2] < 1e-3
    assert 3.0 < deviations[0] / deviations[1] < 5.0
    assert 3.0 < deviations[1] / deviations[2] < 5.0


def test_strain_test_names_the_structures() -> None:
    """Perfect crystals have no forces: only the strain test can see the sign."""
    frames = [s.replace(stress=-s.stress) for s in emt_copper(n=10, strain=0.02)]
    (finding,) = find_suspicious(frames)
    assert finding.kind == "stress sign"
    assert "copper#" in finding.structure
    assert "VASP" in finding.message
    (finding,) = find_suspicious([s.replace(stress=s.stress * -16.02) for s in frames])
    assert finding.kind == "stress unit"
    assert finding.value == pytest.approx(16.02, rel=0.15)


def test_a_pressure_that_energies_do_not_have_is_found() -> None:
    """As from a basis that is too small for stresses."""
    frames = emt_copper(n=10, strain=0.02)
    (sound,) = strain_tests(frames)
    assert not sound.contradicts
    assert abs(sound.offset) * EV_PER_A3_IN_GPA < 0.1
    offset = 2.0 / EV_PER_A3_IN_GPA * np.eye(3)
    shifted = [s.replace(stress=s.stress + offset) for s in frames]
    (test,) = strain_tests(shifted)
    assert test.contradicts
    assert (test.offset - sound.offset) * EV_PER_A3_IN_GPA == pytest.approx(-2.0, rel=1e-6)
    (finding,) = find_suspicious(shifted)
    assert finding.kind == "stress offset"
    assert f"{finding.value:+.2g} GPa are added" in finding.message


@pytest.mark.parametrize(
    ("strain", "rattle"), [(0.03, 0.0), (0.08, 0.0), (0.02, 0.03), (0.03, 0.06), (0.08, 0.06), (0.01, 0.03)]
)
def test_large_strains_and_shaken_atoms_are_no_pulay_stress(strain: float, rattle: float) -> None:
    """The trapezoidal rule's own error grows with the volume too; a pressure in the stress is told from it."""
    frames = emt_copper(n=24, strain=strain, rattle=rattle)
    (sound,) = strain_tests(frames)
    assert not sound.contradicts
    assert abs(sound.offset) < 3.0 * sound.offset_error + 0.4 / EV_PER_A3_IN_GPA
    added = 3.0 / EV_PER_A3_IN_GPA
    (test,) = strain_tests([s.replace(stress=s.stress + added * np.eye(3)) for s in frames])
    assert abs(test.offset + added) < 3.0 * test.offset_error + 0.4 / EV_PER_A3_IN_GPA
    if rattle == 0.0 and strain < 0.05:
        assert test.contradicts


def test_whole_lattice_vectors_do_not_matter_to_the_strain_test() -> None:
    frames = emt_copper(n=10, strain=0.01)
    moved = [s.replace(positions=s.positions + (k % 3 - 1) * s.cell[k % 3]) for k, s in enumerate(frames)]
    assert strain_tests(moved)[0].slope == pytest.approx(strain_tests(frames)[0].slope, rel=1e-6)


def test_duplicates_and_contradictions(copper: list[Structure]) -> None:
    images = copper[3].positions.copy()
    images[5] += copper[3].cell[0]  # the same crystal
    frames = [
        *copper, copper[2].replace(name="copy"), copper[3].replace(name="image", positions=images),
        copper[4].replace(name="other energy", energy=copper[4].energy + 1.0),
        copper[5].replace(name="other forces", forces=copper[5].forces + 0.1),
    ]  # fmt: skip
    found = {f.structure: f for f in find_suspicious(frames) if f.kind in ("duplicate", "contradiction")}
    assert {name: f.kind for name, f in found.items()} == {
        "copy": "duplicate", "image": "duplicate", "other energy": "contradiction", "other forces": "contradiction",
    }  # fmt: skip
    assert "copper#2" in found["copy"].message
    assert found["other energy"].value == pytest.approx(1.0 / 32)


def test_outliers_are_named(copper: list[Structure]) -> None:
    close = copper[0].positions.copy()
    close[1] = close[0] + [1.2, 0.0, 0.0]
    strong = copper[1].forces.copy()
    strong[0], strong[1] = [80.0, 0, 0], strong[1] + strong[0] - [80.0, 0, 0]
    frames = [
        *copper[4:], copper[0].replace(name="close", positions=close), copper[1].replace(name="strong", forces=strong),
        copper[2].replace(name="off", energy=copper[2].energy + 40.0),
        copper[3].replace(name="pushed", forces=copper[3].forces + 0.3),
    ]  # fmt: skip
    found = [f for f in find_suspicious(frames) if f.structure != WHOLE_SET]
    named = {(f.kind, f.structure) for f in found}
    assert named == {
        ("short distance", "close"), ("large force", "strong"), ("energy", "off"), ("net force", "pushed"),
    }  # fmt: skip


def test_labels_that_are_all_zero(copper: list[Structure]) -> None:
    frames = [s.replace(stress=np.zeros((3, 3))) for s in copper]
    assert ("zero labels", WHOLE_SET) in {(f.kind, f.structure) for f in find_suspicious(frames)}


def test_impossible_energies_without_forces() -> None:
    frames = [water(energy=-2078.0 * HARTREE).replace(forces=None, stress=None)]
    (finding,) = find_suspicious(frames)
    assert finding.kind == "energy unit"
    assert find_suspicious([water(energy=-2078.0).replace(forces=None, stress=None)]) == []


def test_gases_are_no_unit_error() -> None:
    argon = [Structure(["Ar", "Ar"], np.array([[0, 0, 0], [0, 0, 3.8 + k]]), name=f"{k}") for k in range(3)]
    atoms = [Structure([element], np.zeros((1, 3)), name=element) for element in "HNO"]
    assert find_suspicious(argon) == []
    assert find_suspicious(atoms) == []


def test_findings_as_table_and_json(copper: list[Structure]) -> None:
    frames = [
        s.replace(name=f"/long/folder/train.xyz#{k}", energy=1.0) for k, s in enumerate([copper[0]] * 6)
    ]
    findings = find_suspicious(frames)
    assert kinds(findings) == ["duplicate"] * 5
    assert json.loads(json.dumps([finding._asdict() for finding in findings]))[0]["kind"] == "duplicate"
    console = Console(width=120, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(findings_table(findings))
    text = console.export_text()
    assert text.count("same structure as train.xyz#0") == 3
    assert " 5 " in text


SOUND = [
    "TiO2_aenet/train", "mlearn/Si_train", "mlearn/Si_test", "mlearn/Li_train",
    "mlearn/Li_test", "pwmlff_Cu/Cu72_300K", "pwmlff_Cu/Cu72_500K", "water_PBE0TS_deepmd/valid",
    "n2p2_examples/H2O_RPBE-D3_20", "n2p2_examples/Cu2S_PBE_20", "n2p2_examples/AlAuMgO_4G_18",
    "n2p2_examples/Carbon_chain_4G_128", "n2p2_examples/H2O_RPBE-D3_4G_20",
]  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_real_data_are_left_in_peace(name: str) -> None:
    assert find_suspicious(read(real_data(f"{name}.xyz.xz"))) == []


@pytest.mark.parametrize("name", ["mlearn/Cu_train", "mlearn/Cu_test"])
def test_stresses_of_a_small_basis(name: str) -> None:
    """Energies of a potential trained without these stresses give pressures that are 2 to 3 GPa higher."""
    (finding,) = find_suspicious(read(real_data(f"{name}.xyz.xz")))
    assert finding.kind == "stress offset"
    assert finding.value == pytest.approx(-2.7, abs=0.6)


def test_noisy_real_data() -> None:
    """CP2K's grid noise shows in the sum of forces and nowhere else."""
    findings = find_suspicious(read(real_data("water_revPBE0-D3_cnnp", "gen1_train.xyz.xz")))
    assert set(kinds(findings)) == {"net force"}


def test_blemishes_of_the_ice_data() -> None:
    """The collapsed ice structure that its README warns of, three times in the training set."""
    path = real_data("water_SCAN_ice-liquid", "train_192atoms.xyz.xz")
    findings = find_suspicious(read(path))
    by_kind = {kind: {f.structure for f in findings if f.kind == kind} for kind in kinds(findings)}
    bad = by_kind["short distance"]
    assert len(bad) == 3
    assert by_kind["large force"] == by_kind["energy"] == bad
    assert by_kind["duplicate"] < bad
    assert all(Path(name.partition("#")[0]) == path for name in bad)


@pytest.mark.parametrize("name", ["mlearn/Si_train", "n2p2_examples/H2O_RPBE-D3_20"])
@pytest.mark.parametrize(("change", "expected"), [u[1:] for u in UNITS], ids=[u[0] for u in UNITS])
def test_units_and_signs_of_real_data(name: str, change: Change, expected: list[str]) -> None:
    frames = read(real_data(f"{name}.xyz.xz"), frames="::4" if "Si" in name else None)
    if "stress" in expected[0] and frames[0].stress is None:
        expected = []
    assert set(expected) <= set(kinds(find_suspicious([change(s) for s in frames])))


def test_strain_test_on_real_elastic_cells() -> None:
    (test,) = strain_tests(read(real_data("mlearn", "Si_train.xyz.xz")))
    assert test.slope == pytest.approx(1.0, abs=0.02)
    assert test.correlation > 0.999


@pytest.mark.parametrize(("unit", "factor"), [("GPa", 160.2), ("kbar", 1602.0), ("bar", 1.602e6)])
@pytest.mark.parametrize("sign", [1, -1])
def test_unit_and_sign_of_a_stress_are_both_named(
    copper: list[Structure], unit: str, factor: float, sign: int
) -> None:
    findings = find_suspicious([s.replace(stress=s.stress * factor * sign) for s in copper])
    (message,) = [f.message for f in findings if f.structure == WHOLE_SET]
    assert f"as if in {unit}" in message
    assert ("opposite sign" in message) == (sign == -1)
    assert "1 eV/Å³ = 160.2 GPa = 1602 kbar" in message
