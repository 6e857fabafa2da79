"""Runs of LAMMPS itself, with Lennard-Jones argon."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from argon import PAIR, SMOOTH, crystal, lennard_jones, needs_lammps, structure
from ase import Atoms

from nnpkit.analysis.simulation import report
from nnpkit.data.formats.reading import read
from nnpkit.data.structure import Structure
from nnpkit.errors import InputError
from nnpkit.md.box import lammps_box
from nnpkit.md.lammps import input_files
from nnpkit.md.lammps_run import SimulationError, lammps_command, prepare_folder, run_lammps
from nnpkit.md.simulation_settings import Simulation
from nnpkit.md.thermo import Thermo

QUIET = {"timestep": 2.0, "tdamp": 200.0, "pdamp": 2000.0}


@pytest.fixture(autouse=True)
def _lammps() -> None:
    needs_lammps()


def simulate(folder: Path, start: Structure, pair=PAIR, ranks: int = 1, on_row=None, **settings):
    """Write, run and report; the summary and what LAMMPS printed."""
    simulation = Simulation(**{**QUIET, **settings})
    prepare_folder(folder, input_files(simulation, start, pair, ranks))
    reader = run_lammps(folder, lammps_command(ranks), on_row)
    return report(folder, simulation, start, reader, ranks), reader


@pytest.mark.parametrize("mirror", [1, -1])
def test_a_skewed_crystal_is_the_same_in_lammps(tmp_path, mirror: int) -> None:
    """Energy, pressure and every force of the structure as given, by an independent program."""
    atoms = crystal(2)
    atoms.set_cell(
        np.array([[1, 0, 0], [1, 1, 0], [-2, 1, 1]]) @ atoms.cell[:]
    )  # the same crystal, much tilt
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0] * mirror
    atoms.set_cell(atoms.cell[:] @ turn)
    atoms.positions = atoms.positions @ turn + 30.0
    start = structure(atoms)
    _, reader = simulate(tmp_path, start, ensemble="minimize", steps=1, dump_every=1, every=1)
    energy, forces, pressure = lennard_jones(atoms)
    thermo = reader.thermo()
    np.testing.assert_allclose(thermo["potential_energy_eV"][0], energy, rtol=1e-12)
    np.testing.assert_allclose(thermo["pressure_bar"][0], pressure, rtol=1e-9)
    np.testing.assert_allclose(thermo["max_force_eV_A"][0], abs(forces @ lammps_box(start).rotation.T).max())
    # the last frame, where the forces are written, against the same potential
    final = read(tmp_path / "final.extxyz")[0]
    energy, forces, _ = lennard_jones(Atoms(final.symbols, final.positions, cell=final.cell, pbc=True))
    np.testing.assert_allclose(final.energy, energy, rtol=1e-12)
    np.testing.assert_allclose(final.forces, forces, atol=1e-10)


def test_npt_on_two_ranks_leaves_everything_promised(tmp_path) -> None:
    rows = []
    summary, _ = simulate(
        tmp_path, structure(crystal()), ranks=2, on_row=rows.append, ensemble="npt", temperature=30.0,
        steps=400, every=4, dump_every=20, seed=3,
    )  # fmt: skip
    assert json.loads((tmp_path / "summary.json").read_text()) == summary
    assert summary["unstable"] is None
    assert (summary["steps"], summary["ranks"], summary["n_atoms"]) == (400, 2, 108)
    assert 1.6 < summary["density"] < 1.8
    assert (summary["density_error"] is None) == ("density" in summary["not_settled"])
    assert abs(summary["energy_drift"]) < 1.0
    assert summary["ns_per_day"] > 0
    assert [row["step"] for row in rows] == list(range(0, 401, 4))
    names = {path.name for path in tmp_path.iterdir()}
    assert names >= {
        "in.lammps", "structure.data", "log.lammps", "thermo.csv", "trajectory.lammpstrj", "final.data",
        "final.extxyz", "final.restart", "summary.json", "density.png", "temperature.png", "pressure.png",
        "potential_energy.png", "conserved_energy.png", "rdf.png", "rdf.csv",
    }  # fmt: skip
    assert len(Thermo.read_csv(tmp_path / "thermo.csv")) == 101
    frames = read(tmp_path / "trajectory.lammpstrj")
    assert len(frames) == 21
    np.testing.assert_allclose(frames[0].positions, crystal().positions, atol=1e-8)  # unwrapped, in order
    rdf = Thermo.read_csv(tmp_path / "rdf.csv")
    first_shell = rdf["n_Ar_Ar"][np.searchsorted(rdf["r_A"], 4.6)]
    np.testing.assert_allclose(first_shell, 12.0, atol=0.1)
    # atoms change ranks, their forces must not get lost on the way to the file
    final = read(tmp_path / "final.extxyz")[0]
    _, forces, _ = lennard_jones(Atoms(final.symbols, final.positions, cell=final.cell, pbc=True))
    np.testing.assert_allclose(final.forces, forces, atol=1e-10)


def test_energy_is_conserved_and_the_seed_repeats_the_run(tmp_path) -> None:
    settings = {"ensemble": "nve", "temperature": 20.0, "steps": 100, "every": 2, "dump_every": 50, "seed": 5}
    first, reader = simulate(tmp_path / "a", structure(crystal(2)), **settings)
    _, again = simulate(tmp_path / "b", structure(crystal(2)), **settings)
    assert np.array_equal(reader.thermo()["total_energy_eV"], again.thermo()["total_energy_eV"])
    assert first["energy_fluctuation"] < 0.05  # meV/atom
    np.testing.assert_allclose(reader.thermo()["temperature_K"][0], 20.0)


def test_the_input_says_how_to_go_on(tmp_path) -> None:
    """Doing what its last comment says continues the trajectory where it ended."""
    simulation = Simulation(**QUIET, temperature=30.0, steps=100, every=10, dump_every=50)
    files = input_files(simulation, structure(crystal(2)), PAIR)
    prepare_folder(tmp_path, files)
    end = run_lammps(tmp_path, lammps_command(1)).thermo()
    text = files["in.lammps"]
    assert "write `read_restart final.restart` instead of read_data, take velocity\n# out" in text
    text = text.replace("read_data       structure.data", "read_restart final.restart")
    text = "\n".join(line for line in text.splitlines() if not line.startswith("velocity"))
    (tmp_path / "in.lammps").write_text(text + "\n")
    more = run_lammps(tmp_path, [*lammps_command(1), "-var", "steps", "20"]).thermo()
    assert more["step"].tolist() == [100, 110, 120]
    for name in ("time_ps", "temperature_K", "conserved_energy_eV", "pressure_bar"):
        np.testing.assert_allclose(more[name][0], end[name][-1], rtol=1e-9)


def test_a_cluster_relaxes_first(tmp_path) -> None:
    atoms = Atoms("Ar3", [[0, 0, 0], [3.0, 0, 0], [0, 3.5, 0.5]])
    summary, reader = simulate(
        tmp_path,
        structure(atoms),
        ensemble="nvt",
        temperature=5.0,
        steps=50,
        every=5,
        dump_every=10,
        relax=True,
    )
    relaxed = reader.thermo(0)["potential_energy_eV"]
    assert -3 * 0.0104 <= relaxed[-1] < -2 * 0.0104 < relaxed[0]
    assert summary["unstable"] is None
    assert "density" not in summary
    assert not (tmp_path / "rdf.png").exists()
    assert len(reader.loops) == 2


def test_a_run_that_is_not_stable_stops_early_and_says_so(tmp_path) -> None:
    atoms = crystal(2)
    atoms.positions[0] = atoms.positions[1] + [0.0, 0.0, 1.4]
    summary, _ = simulate(tmp_path, structure(atoms), ensemble="nvt", temperature=10.0, steps=500, every=10,
                          dump_every=100, timestep=0.5)  # fmt: skip
    assert "temperature has reached" in summary["unstable"]
    assert "limit 1000 K" in summary["unstable"]
    assert summary["steps"] < 500
    assert (tmp_path / "temperature.png").exists()


@pytest.mark.parametrize("ranks", [1, 2])
def test_an_error_of_lammps_is_one_sentence(tmp_path, ranks: int) -> None:
    pair = ["pair_style lj/cut 7.0", "pair_coeff * * 0.0104"]
    with pytest.raises(SimulationError) as caught:
        simulate(tmp_path, structure(crystal(1)), pair, ranks, ensemble="nve", steps=1)
    assert str(caught.value).startswith("LAMMPS failed: ")
    assert "pair coefficients" in str(caught.value)
    assert str(caught.value).endswith(f"Its log is {tmp_path / 'log.lammps'}")


def test_an_end_without_words_is_reported(tmp_path) -> None:
    prepare_folder(tmp_path, input_files(Simulation(), structure(crystal(1)), PAIR))
    with pytest.raises(SimulationError, match="it ended with exit code 3 after printing: out of luck"):
        run_lammps(tmp_path, [shutil.which("sh"), "-c", "echo out of luck; exit 3"])


def test_a_program_that_is_not_lammps_is_noticed(tmp_path) -> None:
    prepare_folder(tmp_path, input_files(Simulation(), structure(crystal(1)), PAIR))
    with pytest.raises(SimulationError, match="LAMMPS failed: it ended with exit code 0"):
        run_lammps(tmp_path, [shutil.which("true")])


def test_commands(tmp_path) -> None:
    assert lammps_command(3)[1:3] == ["-n", "3"]
    with pytest.raises(InputError, match="--ranks: ranks is 0; expected at least 1"):
        lammps_command(0)
    with pytest.raises(InputError, match=r"--lmp: cannot find LAMMPS \(nowhere/lmp\)"):
        lammps_command(1, "nowhere/lmp")


def test_an_earlier_simulation_is_not_overwritten_unasked(tmp_path) -> None:
    folder = tmp_path / "new" / "run"
    prepare_folder(folder, {"in.lammps": "old"})
    for name in ("density.png", "notes.txt"):
        (folder / name).write_text("mine")
    with pytest.raises(InputError, match=r"new.run: this folder holds a simulation. .*--overwrite"):
        prepare_folder(folder, {"in.lammps": "new"})
    prepare_folder(folder, {"in.lammps": "new"}, overwrite=True)
    assert {path.name for path in folder.iterdir()} == {"in.lammps", "notes.txt"}
    assert (folder / "in.lammps").read_text() == "new"
    (tmp_path / "summary.json").write_text("of a training")
    with pytest.raises(InputError, match=r"holds something else: summary\.json. Choose another folder\.$"):
        prepare_folder(tmp_path, {"in.lammps": "new"}, overwrite=True)
    with pytest.raises(InputError, match="this is a file"):
        prepare_folder(folder / "notes.txt", {})


@pytest.mark.parametrize("coupling", ["iso", "aniso"])
def test_the_conserved_energy_of_npt_is_conserved(tmp_path, coupling: str) -> None:
    """A smooth potential far from equilibrium: nothing that drifts can be blamed on it. LAMMPS' sum does."""
    start = structure(crystal(4, 0.0))
    simulation = Simulation(
        coupling=coupling, temperature=80.0, steps=2000, every=20, dump_every=2000, timestep=2.0, pdamp=1000.0
    )
    prepare_folder(tmp_path, input_files(simulation, start, SMOOTH))
    thermo = run_lammps(tmp_path, lammps_command(1)).thermo()
    kt = 8.617333262e-5 * 80.0
    conserved = thermo["conserved_energy_eV"] / kt
    assert np.ptp(thermo["volume_A3"]) > 100.0
    assert np.ptp(conserved) < 0.2, f"{np.ptp(conserved):.3g} kT"


def test_a_minimisation_says_whether_it_has_converged(tmp_path) -> None:
    start = structure(crystal(2, 0.2))
    for steps, converged in ((2, False), (500, True)):
        summary, _ = simulate(
            tmp_path / str(steps), start, ensemble="minimize", steps=steps, dump_every=1000, every=1
        )
        assert summary["converged"] is converged
        assert summary["stopped"] == ("force tolerance" if converged else "max iterations")


def test_a_short_run_gives_no_error_bars(tmp_path) -> None:
    """A density that still falls is a number without error, and the summary says why."""
    start = structure(crystal(3, 0.05))
    summary, _ = simulate(tmp_path, start, temperature=80.0, steps=300, dump_every=300, every=2)
    written = json.loads((tmp_path / "summary.json").read_text())
    assert written["settled"] is False
    assert written["not_settled"]["density"]
    assert written["density_error"] is None
    assert summary["density"] > 0.0
