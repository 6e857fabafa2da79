"""Labels of charged structures and of higher spin: the calculation has the state, or is refused."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from active_tools import program
from ase import Atoms

from nnpkit.active.labellers.cp2k import Cp2kReference
from nnpkit.active.labellers.reference_calculation import (
    CalculationError,
    Limits,
    compute_label,
    require_state,
)
from nnpkit.active.labellers.registered import make_reference
from nnpkit.active.labelling_tasks import Labeller, Labelling
from nnpkit.active.store import Store
from nnpkit.cli.main import app
from nnpkit.data.formats.reading import read, write
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError

tblite = pytest.importorskip("tblite.ase")


def ammonia(**state) -> Structure:
    """NH3, 10 electrons; with a charge of +1 it is a radical."""
    positions = np.array([[0.0, 0.0, 0.12], [0.0, 0.94, -0.27], [0.81, -0.47, -0.27], [-0.81, -0.47, -0.27]])
    return Structure(["N", "H", "H", "H"], positions, name="ammonia#0", **state)


def gfn(structure: Structure, **arguments) -> float:
    atoms = Atoms(structure.symbols, structure.positions)
    atoms.calc = tblite.TBLite(method="GFN1-xTB", accuracy=0.01, verbosity=0, **arguments)
    return atoms.get_potential_energy()


@pytest.mark.parametrize(
    ("state", "arguments"),
    [
        ({"total_charge": 1.0}, {"charge": 1, "multiplicity": 2}),
        ({"total_charge": -1.0, "multiplicity": 4.0}, {"charge": -1, "multiplicity": 4}),
        ({"multiplicity": 3.0}, {"charge": 0, "multiplicity": 3}),
        ({}, {}),
    ],
)
def test_tblite_computes_the_state_of_the_structure(tmp_path, state, arguments) -> None:
    label = compute_label(make_reference({"kind": "ase"}), ammonia(**state), tmp_path, Limits(), {})
    assert label.energy == pytest.approx(gfn(ammonia(), **arguments), abs=1e-6)
    assert (label.total_charge, label.multiplicity) == (state.get("total_charge"), state.get("multiplicity"))


def test_label_of_a_pair_of_charge_states(tmp_path, monkeypatch) -> None:
    """Both are computed, under keys of their own, and written with their charges; nothing is lost."""
    from typer.testing import CliRunner

    monkeypatch.chdir(tmp_path)
    write("pair.xyz", [ammonia(total_charge=q) for q in (0.0, 1.0)])
    result = CliRunner().invoke(app, ["label", "pair.xyz", "--cores", "1", "-o", "out.xyz"])
    assert result.exit_code == 0, result.output
    assert "2 structures, 2 to compute" in result.output
    labels = read("out.xyz")
    assert [s.total_charge for s in labels] == [0.0, 1.0]
    assert [s.energy for s in labels] == pytest.approx([gfn(ammonia()), gfn(ammonia(), charge=1)], abs=1e-6)


@pytest.mark.parametrize(
    ("reference", "state", "words"),
    [
        ({"kind": "ase", "calculator": "emt"}, {"total_charge": 1.0}, "emt does not take the charge"),
        ({"kind": "ase", "calculator": "emt"}, {"multiplicity": 3.0}, "emt does not take the multiplicity"),
        (
            {"kind": "ase", "arguments": {"charge": 2}},
            {"total_charge": 1.0},
            "arguments of tblite say charge: 2",
        ),
        ({"kind": "ase"}, {"total_charge": 0.5}, "no state of charge [+]0.5"),
        ({"kind": "ase"}, {"total_charge": 1.0, "multiplicity": 1.0}, "impossible with 9 electrons"),
        ({"kind": "ase"}, {"info": {"spin": 3}}, "spin=3 can mean"),
        ({"kind": "command", "command": ["x"]}, {"total_charge": 1.0}, "does not get the charge"),
        (
            {"kind": "command", "command": ["x", "{charge}"]},
            {"multiplicity": 3.0},
            "does not get the multiplicity",
        ),
    ],
)
def test_what_does_not_reach_the_calculation_is_refused(tmp_path, reference, state, words) -> None:
    labeller = Labeller(Labelling(reference), tmp_path)
    with pytest.raises(InputError, match=rf"ammonia#0.*{words}"):
        labeller.open_structures([ammonia(), ammonia(**state)])
    assert labeller.open_structures([ammonia()])
    if "arguments" not in reference:
        assert labeller.open_structures([ammonia(total_charge=0.0, multiplicity=1.0)])


def test_arguments_of_other_names_take_the_state() -> None:
    reference = make_reference(
        {"kind": "ase", "calculator": "lj", "arguments": {"sigma": "{charge}", "epsilon": "{multiplicity}"}}
    )
    require_state(reference, ammonia(total_charge=-1.0, multiplicity=4.0))
    arguments = reference._arguments(ammonia(total_charge=-1.0, multiplicity=4.0))
    assert (arguments["sigma"], arguments["epsilon"]) == (-1, 4)


@pytest.mark.parametrize("how", ["words", "environment", "file"])
def test_a_command_gets_the_state(tmp_path, how) -> None:
    """In its words, its environment and its input; here it is the energy that tells."""
    found = {
        "words": "energy = float(sys.argv[3]) + 10 * float(sys.argv[4])",
        "environment": "import os; e = os.environ; "
        "energy = float(e['NNPKIT_CHARGE']) + 10 * float(e['NNPKIT_MULTIPLICITY'])",
        "file": "p = dict(w.split('=') for w in lines[1].split() if w.startswith(('total_c', 'mult'))); "
        "energy = float(p['total_charge']) + 10 * float(p['multiplicity'])",
    }[how]
    command = program(tmp_path, middle=found) + (["{charge}", "{multiplicity}"] if how == "words" else [])
    reference = make_reference({"kind": "command", "command": command, "reads_state": how != "words"})
    label = compute_label(reference, ammonia(total_charge=-1.0, multiplicity=4.0), tmp_path, Limits(), {})
    assert label.energy == 39.0
    assert (label.total_charge, label.multiplicity) == (-1.0, 4.0)


def test_a_result_of_another_state_is_no_label(tmp_path) -> None:
    middle = "lines[1] = lines[1].replace('total_charge=1.0', 'total_charge=0.0')"
    command = program(tmp_path, middle=middle)
    reference = make_reference({"kind": "command", "command": command, "reads_state": True})
    with pytest.raises(CalculationError, match="total_charge 0 instead of 1"):
        compute_label(reference, ammonia(total_charge=1.0), tmp_path, Limits(), {})


TEMPLATE = "&DFT\n{}\n&END DFT\n&SUBSYS\n{{{{cell}}}}\n{{{{coordinates}}}}\n&END SUBSYS\n"
STATE = "  CHARGE {{charge}}\n  MULTIPLICITY {{multiplicity}}\n  UKS {{uks}}"


def cp2k(tmp_path: Path, lines: str) -> Cp2kReference:
    """CP2K is a program that only says no."""
    path = tmp_path / "template.inp"
    path.write_text(TEMPLATE.format(lines))
    return Cp2kReference(str(path), command=[sys.executable, "-c", "raise SystemExit('no CP2K')"])


@pytest.mark.parametrize(
    ("state", "written"),
    [
        ({"total_charge": 1.0}, ("CHARGE 1", "MULTIPLICITY 2", "UKS TRUE")),
        ({"total_charge": -2.0, "multiplicity": 3.0}, ("CHARGE -2", "MULTIPLICITY 3", "UKS TRUE")),
        ({}, ("CHARGE 0", "MULTIPLICITY 1", "UKS FALSE")),
    ],
)
def test_cp2k_gets_the_state(tmp_path, state, written) -> None:
    reference = cp2k(tmp_path, STATE)
    structure = ammonia(cell=np.eye(3) * 8, **state)
    require_state(reference, structure)
    with pytest.raises(CalculationError, match="no CP2K"):
        reference.compute(structure, tmp_path, {})
    lines = [line.strip() for line in (tmp_path / "cp2k.inp").read_text().splitlines()]
    assert set(written) <= set(lines)


@pytest.mark.parametrize(
    ("lines", "state", "words"),
    [
        ("", {"total_charge": 1.0}, "has no {{charge}}"),
        ("  CHARGE 2", {"total_charge": 1.0}, "says CHARGE 2"),
        ("  CHARGE {{charge}}", {"multiplicity": 3.0}, "has no {{multiplicity}}"),
        ("  MULTIPLICITY {{multiplicity}}", {"multiplicity": 3.0}, "no UKS"),
    ],
)
def test_cp2k_without_a_place_for_the_state_is_refused(tmp_path, lines, state, words) -> None:
    with pytest.raises(InputError, match=words):
        require_state(cp2k(tmp_path, lines), ammonia(**state))
    require_state(cp2k(tmp_path, "  CHARGE 1"), ammonia(total_charge=1.0))


def test_a_project_keeps_charge_and_spin(tmp_path) -> None:
    store = Store(tmp_path, create=True)
    key = store.add_structures([(ammonia(total_charge=1.0, multiplicity=2.0), {})], 0)[0]
    kept = store.structure(key)
    assert (kept.total_charge, kept.multiplicity) == (1.0, 2.0)
