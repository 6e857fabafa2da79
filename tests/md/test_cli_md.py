"""`nnpkit md` from the command line."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from argon import needs_lammps
from ase import Atoms
from small_models import small_model
from typer.testing import CliRunner

from nnpkit.cli.main import app
from nnpkit.data.formats.reading import read, write
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import load
from nnpkit.deploy.targets.torchscript import export_model
from nnpkit.install.entry_point import PLUGIN, candidate_folders


def run(*arguments: object):
    return CliRunner().invoke(app, ["md", *map(str, arguments)])


def water(spacing: float, pbc: bool = True) -> Structure:
    """Eight molecules on a grid."""
    grid = np.indices((2, 2, 2)).reshape(3, -1).T * spacing
    molecule = np.array([[0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]]) + 0.5
    positions = (grid[:, None] + molecule).reshape(-1, 3)
    atoms = Atoms("OHH" * 8, positions, cell=np.eye(3) * 2 * spacing if pbc else None, pbc=pbc)
    return Structure.from_atoms(atoms)


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with small.pt and water.xyz of three frames, as the current folder."""
    needs_lammps()
    monkeypatch.chdir(tmp_path)
    export_model(small_model(), "small.pt")
    write("water.xyz", [water(3.0), water(3.1), water(3.2)])
    return tmp_path


def test_a_dry_run_writes_what_would_run(inputs: Path) -> None:
    result = run("small.pt", "water.xyz", "--dry-run", "-o", "out", "--ranks", 3, "--steps", 5000)
    assert result.exit_code == 0, result.stderr
    assert {path.name for path in Path("out").iterdir()} == {
        "in.lammps", "structure.data", "model.pt", "md.json",
    }  # fmt: skip
    assert Path("out/model.pt").read_bytes() == Path("small.pt").read_bytes()
    text = Path("out/in.lammps").read_text()
    assert "water.xyz#2" in text  # the last frame
    assert "pair_coeff      * * model.pt H O" in text
    assert "mpirun -n 3 lmp -in in.lammps" in text
    assert "variable timestep     index 0.0005 " in text
    assert "variable every        index 5 " in text
    assert "cd out && mpirun -n 3 lmp -in in.lammps" in result.stdout


@pytest.mark.parametrize(("stress", "warns"), [(False, True), (True, False), (None, False)])
def test_constant_pressure_with_a_potential_that_never_saw_a_stress(
    inputs: Path, stress: bool | None, warns: bool
) -> None:
    export_model(small_model(), "own.pt", {} if stress is None else {"training": {"stress": stress}})
    result = run("own.pt", "water.xyz", "--dry-run", "-o", "out")
    assert ("never seen a stress" in result.stdout) is warns
    result = run("own.pt", "water.xyz", "--dry-run", "-o", "nvt", "--ensemble", "nvt")
    assert "never seen a stress" not in result.stdout


@pytest.mark.parametrize(
    ("text", "edge"), [("water.xyz@0", 6.0), ("water.xyz#1", 6.2), ("water.xyz@-1", 6.4)]
)
def test_frame_and_replicate(inputs: Path, text: str, edge: float) -> None:
    result = run("small.pt", text, "--dry-run", "-o", "out", "--replicate", 2, 1, 1)
    assert result.exit_code == 0, result.stderr
    data = Path("out/structure.data").read_text()
    assert "48 atoms" in data
    low, high = next(line for line in data.splitlines() if line.endswith("xlo xhi")).split()[:2]
    assert float(high) - float(low) == pytest.approx(2 * edge)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("small.pt", "nothing.xyz"), "nothing.xyz: no such file"),
        (("small.pt", "water.xyz@7"), "water.xyz: frames 7 selects none of 3 frames"),
        (("nothing.pt", "water.xyz"), "nothing.pt: there is no such file"),
        (("small.pt", "argon.xyz"), "argon.xyz#0: the model knows O H but not Ar"),
        (("small.pt", "cluster.xyz"), "cluster.xyz#0: constant pressure needs"),
        (
            ("small.pt", "cluster.xyz", "--ensemble", "nvt", "--replicate", 2, 1, 1),
            "cluster.xyz#0: replicate is 2 1 1",
        ),
        (("small.pt", "water.xyz", "--steps", 0), "--steps: steps is 0; expected > 0"),
        (("small.pt", "water.xyz", "--timestep", 0), "--timestep: timestep is 0.0"),
        (("small.pt", "water.xyz", "--ranks", 0), "--ranks: ranks is 0"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(inputs: Path, arguments: tuple, message: str) -> None:
    write("argon.xyz", [Structure(["Ar"], [[0, 0, 0]], np.eye(3) * 9, True)])
    write("cluster.xyz", [water(3.0, pbc=False)])
    result = run(*arguments, "-o", "out")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert f"nnpkit: error: {message}" in result.stderr
    assert not Path("out").exists()


def test_an_earlier_run_is_kept(inputs: Path) -> None:
    assert run("small.pt", "water.xyz", "--dry-run", "-o", "out").exit_code == 0
    result = run("small.pt", "water.xyz", "--dry-run", "-o", "out")
    assert result.exit_code == 1
    assert "--overwrite" in result.stderr
    assert run("out/model.pt", "water.xyz", "--dry-run", "-o", "out", "--overwrite").exit_code == 0
    assert Path("out/model.pt").read_bytes() == Path("small.pt").read_bytes()


def needs_plugin() -> None:
    """Skip, or fail where LAMMPS was promised, if the plugin is not built."""
    if not any((Path(folder) / PLUGIN).exists() for folder in candidate_folders()):
        if os.environ.get("NNPKIT_REQUIRE_LAMMPS"):
            pytest.fail("the plugin is not built: run `nnpkit build`")
        pytest.skip("the plugin is not built: run `nnpkit build`")


def test_a_run_on_two_ranks(inputs: Path) -> None:
    needs_plugin()
    result = run(
        "small.pt", "water.xyz", "--ensemble", "nvt", "--temperature", 50, "--timestep", 0.1, "--steps", 20, "--every",
        1, "--dump-every", 5, "--ranks", 2, "-o", "out",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "temperature" in result.stdout
    assert "step 20/20" in result.stderr
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["steps"] == 20
    assert summary["n_atoms"] == 24
    final = read("out/final.extxyz")[0]
    again = load("small.pt").predict(final)
    np.testing.assert_allclose(final.energy, again.energy, rtol=1e-12)
    np.testing.assert_allclose(final.forces, again.forces, atol=1e-10)


def test_a_run_that_is_not_stable_fails_in_words(inputs: Path) -> None:
    needs_plugin()
    result = run("small.pt", "water.xyz", "--ensemble", "nve", "--timestep", 20, "--steps", 400, "-o", "out")
    assert result.exit_code == 1
    assert "the run is not stable" in result.stderr or "LAMMPS failed" in result.stderr


def test_a_committee_runs_watched(inputs: Path) -> None:
    from nnpkit.deploy.metadata import model_metadata
    from nnpkit.deploy.targets.committee_file import export_committee

    members = [small_model(seed=seed) for seed in (3, 4)]
    export_committee(members, [model_metadata(m) for m in members], "committee.pt")
    options = ("--ensemble", "nvt", "--steps", 6, "--every", 1, "--dump-every", 2)
    result = run("committee.pt", "water.xyz", "-o", "out", *options, "--watch", 0.0, 1e3)
    assert result.exit_code == 0, result.stderr
    assert "disagreement      forces up to" in result.stdout
    summary = json.loads(Path("out/summary.json").read_text())
    assert summary["ended"] is None
    assert 0.0 < summary["force_std_mean"] < summary["force_std_max"]
    assert summary["energy_std"] > 0.0
    for name in ("disagreement.png", "stress.png", "watch.extxyz"):
        assert Path("out", name).is_file(), name
    expected = load("committee.pt").predict(read("out/watch.extxyz", frames=0)[0]).disagreement
    assert expected is not None
    table = Path("out/thermo.csv").read_text().splitlines()
    first = dict(zip(table[0].split(","), map(float, table[1].split(",")), strict=True))
    assert first["force_std_max_eV_A"] == pytest.approx(expected.forces_std.max(), rel=1e-6)
    ended = run("committee.pt", "water.xyz", "-o", "out", "--overwrite", *options, "--watch", 0.0, 1e-6)
    assert ended.exit_code == 0, ended.stderr
    assert "ended early       force_std_max is" in ended.stdout
    refused = run("small.pt", "water.xyz", "-o", "other", "--watch", 0.1, 0.5)
    assert refused.exit_code == 1
    assert "one potential cannot disagree with itself" in refused.stderr
