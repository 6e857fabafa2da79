"""`nnpkit label` and `nnpkit select` by themselves."""

from __future__ import annotations

import csv

import pytest
from active_tools import program, shaken_copper
from ase.calculators.emt import EMT
from typer.testing import CliRunner

import nnpkit
from nnpkit.cli import main
from nnpkit.data.formats.reading import read, write


def run(*arguments: object):
    return CliRunner().invoke(main.app, list(map(str, arguments)))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("copper.xyz", shaken_copper(4))
    return tmp_path


def test_label_keeps_what_it_has(here) -> None:
    first = run("label", "copper.xyz", "--calculator", "emt", "--cores", 1, "-o", "a.xyz")
    assert first.exit_code == 0, first.output
    assert "4 structures, 4 to compute" in first.stdout
    again = run("label", "copper.xyz", "--calculator", "emt", "-o", "b.xyz")
    assert "4 structures, 0 to compute" in again.stdout
    assert (here / "a.xyz").read_text() == (here / "b.xyz").read_text()
    atoms = read("copper.xyz")[2].to_atoms()
    atoms.calc = EMT()
    assert read("a.xyz")[2].energy == pytest.approx(atoms.get_potential_energy(), abs=1e-12)


def test_label_says_what_failed(here) -> None:
    first = float(read("copper.xyz")[0].positions[0, 0])
    command = program(here, before=f"if x[0][0] == {first!r}: sys.exit('no licence')")
    (here / "reference.yaml").write_text(f"reference: {{kind: command, command: {command}}}\n")
    result = run("label", "copper.xyz", "--reference", "reference.yaml", "--cores", 1)
    assert result.exit_code == 1
    assert "quarantined" in result.stderr
    assert "no licence" in result.stderr
    assert len(read("labelled.xyz")) == 3


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("reference: {kind: oracle}", "reference.kind is 'oracle'"),
        ("reference: {calculater: emt}", "did you mean reference.calculator?"),
        ("reference: {calculator: nonsense}", "there is no calculator 'nonsense'"),
        ("reference: {kind: cp2k, template: none.inp}", "there is no none.inp"),
    ],
)
def test_bad_references_are_named(here, text, words) -> None:
    (here / "reference.yaml").write_text(text)
    result = run("label", "copper.xyz", "--reference", "reference.yaml")
    assert result.exit_code == 1
    assert words.lower() in result.stderr.lower()


def test_select_from_a_trajectory(here) -> None:
    """Copper far from equilibrium is worth a label, what was trained on is not."""
    labelled = shaken_copper(8, seed=2, scale=0.05)
    for structure in labelled:
        atoms = structure.to_atoms()
        atoms.calc = EMT()
        structure.energy, structure.forces = atoms.get_potential_energy(), atoms.get_forces()
    write("known.xyz", labelled)
    nnpkit.train(
        {
            "data": {"train": "known.xyz", "validation_fraction": 0.25},
            "model": {
                "descriptor": {"cutoff": 4.5, "angular_cutoff": 3.5, "zetas": [1], "radial": 2},
                "network": {"hidden": [3]},
            },
            "training": {"epochs": 1},
            "committee": {"members": 2, "processes": 1},
        }
    )
    write("trajectory.xyz", [*labelled[:2], *shaken_copper(3, seed=5, scale=0.15)])
    result = run(
        "select", "run/committee.pt", "trajectory.xyz", "--known", "known.xyz", "--lower", 1e-6, "--upper", 1e3,
        "--budget", 2, "--reasons", "reasons.csv",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    with open("reasons.csv") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["verdict"] for row in rows[:2]] == ["duplicate", "duplicate"]
    assert sorted(row["verdict"] for row in rows[2:]) == ["over budget", "taken", "taken"]
    assert "the same as" in rows[0]["reason"]
    taken = read("selected.xyz")
    assert len(taken) == 2
    assert all(s.energy is None and "expected_energy" in s.info for s in taken)
    missing = run("select", "run/committee.pt", "trajectory.xyz")
    assert "give both, or --validation" in missing.stderr.replace("Give", "give")
    single = run("select", "run/member-00", "trajectory.xyz", "-o", "single.xyz")
    assert "one potential: only extrapolation counts" in single.stdout
