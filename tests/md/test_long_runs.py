"""Runs that stop and go on: restart files, ramps, replicas, time limits, queue scripts."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from argon import SMOOTH, crystal, needs_lammps, structure
from small_models import small_model
from test_cli_md import needs_plugin, run, water

from nnpkit.analysis.run_averages import average_of_replicas
from nnpkit.analysis.simulation import report
from nnpkit.data.formats.lammps_dump import read_dump
from nnpkit.data.formats.reading import read, write
from nnpkit.deploy.targets.torchscript import export_model
from nnpkit.errors import InputError
from nnpkit.md.lammps import input_files, input_text
from nnpkit.md.lammps_run import lammps_command, prepare_folder, run_lammps
from nnpkit.md.queue_script import queue_script, seconds_of
from nnpkit.md.restarts import (
    CONTINUED,
    continued_input,
    join_parts,
    newest_restart,
    put_log_aside,
    whole_output,
)
from nnpkit.md.simulation_progress import SimulationProgress
from nnpkit.md.simulation_settings import Simulation
from nnpkit.md.thermo import ThermoReader

QUIET = {"temperature": 30.0, "timestep": 2.0, "tdamp": 200.0, "pdamp": 2000.0, "every": 10, "dump_every": 20}


@pytest.fixture(autouse=True)
def _lammps() -> None:
    needs_lammps()


def go_on(folder: Path, simulation: Simulation) -> ThermoReader:
    """The next part of a run, as `continue_simulation` does it without a model."""
    found = newest_restart(folder, lammps_command(1))
    assert found is not None
    put_log_aside(folder)
    text = continued_input((folder / "in.lammps").read_text(), found[0], simulation)
    (folder / CONTINUED).write_text(text)
    command = [CONTINUED if word == "in.lammps" else word for word in lammps_command(1)]
    reader = run_lammps(folder, command)
    join_parts(folder, simulation.trajectories)
    return whole_output(folder, reader)


@pytest.mark.parametrize("cut", [False, True])
def test_a_run_in_two_parts_is_the_run_in_one(tmp_path: Path, cut: bool) -> None:
    """Rows, frames and conserved energy of a run that was continued are those of one that was never stopped."""
    start = structure(crystal(2))
    whole = Simulation(**QUIET, steps=200)
    prepare_folder(tmp_path / "one", input_files(whole, start, SMOOTH))
    one = run_lammps(tmp_path / "one", lammps_command(1)).thermo()
    half = Simulation(**QUIET, steps=100, trajectories=("extxyz",))
    prepare_folder(tmp_path / "two", input_files(half, start, SMOOTH))
    run_lammps(tmp_path / "two", lammps_command(1))
    if cut:  # a killed run has gone further than its restart file, and its last frame is half written
        path = tmp_path / "two" / "trajectory.lammpstrj"
        text = path.read_text()
        last = text[text.rindex("ITEM: TIMESTEP") :].replace("\n100\n", "\n120\n")
        path.write_text(text + last[: len(last) // 2])
    two = go_on(tmp_path / "two", whole).thermo()
    assert two["step"].tolist() == one["step"].tolist()
    for name in ("temperature_K", "conserved_energy_eV", "density_g_cm3"):
        np.testing.assert_allclose(two[name], one[name], rtol=1e-5)
    first, second = (read_dump(tmp_path / n / "trajectory.lammpstrj") for n in ("one", "two"))
    assert [f.info["step"] for f in second] == [f.info["step"] for f in first] == list(range(0, 201, 20))
    np.testing.assert_allclose(second[-1].positions, first[-1].positions, atol=1e-4)


def test_a_damaged_restart_file_is_passed_over(tmp_path: Path) -> None:
    prepare_folder(tmp_path, input_files(Simulation(**QUIET, steps=40), structure(crystal(1)), SMOOTH))
    run_lammps(tmp_path, lammps_command(1))
    content = (tmp_path / "final.restart").read_bytes()
    (tmp_path / "restart.a").write_bytes(content[: len(content) // 3])
    assert newest_restart(tmp_path, lammps_command(1)) == ("final.restart", 40)
    (tmp_path / "final.restart").unlink()
    assert newest_restart(tmp_path, lammps_command(1)) is None


def test_a_ramp_moves_temperature_and_pressure(tmp_path: Path) -> None:
    simulation = Simulation(
        **{**QUIET, "tdamp": 20.0, "pdamp": 200.0},
        steps=1500,
        temperature_end=60.0,
        pressure=1.0,
        pressure_end=4000.0,
    )
    prepare_folder(tmp_path, input_files(simulation, structure(crystal(2)), SMOOTH))
    reader = run_lammps(tmp_path, lammps_command(1))
    thermo = reader.thermo()
    assert thermo["temperature_K"][20:50].mean() == pytest.approx(40.0, abs=9.0)
    assert thermo["temperature_K"][-20:].mean() == pytest.approx(60.0, abs=12.0)
    assert thermo["density_g_cm3"][-1] > 1.05 * thermo["density_g_cm3"][20]
    summary = report(tmp_path, simulation, structure(crystal(2)), reader)
    assert summary["ramp"] == "temperature from 30 to 60 K, pressure from 1 to 4000 bar"
    assert summary["temperature_error"] is None
    assert "energy_drift" not in summary
    assert summary["not_settled"]["density"].startswith("a ramp")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ensemble": "nve", "temperature_end": 9.0}, "--temperature: there is no thermostat"),
        ({"ensemble": "nvt", "pressure_end": 9.0}, "--pressure: there is no barostat"),
        ({"temperature_end": -1.0}, "a ramp to -1 K"),
        ({"pressure_end": float("nan")}, "--pressure: pressure_end is nan"),
        ({"trajectories": ("pdf",)}, "--also: unknown trajectory format 'pdf'"),
        ({"time_limit": 0.0}, "--time-limit"),
    ],
)
def test_settings_that_make_no_sense(settings: dict, message: str) -> None:
    with pytest.raises(InputError) as caught:
        Simulation(**settings)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("text", "seconds"), [("00:10:00", 600), ("1-00:00:30", 86430), ("05:00", 300), ("23:59:59", 86399)]
)
def test_times(text: str, seconds: int) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "10", "1:2:3", "00:00:00", "ten", "-1:00:00", "00:00:75"])
def test_times_that_are_none(text: str) -> None:
    with pytest.raises(InputError, match="--time-limit"):
        seconds_of(text)


def test_the_script_for_a_queue(tmp_path: Path) -> None:
    text = queue_script(tmp_path / "a run", ["time=00:30:00", "partition=long"], 4, 3)
    for line in (
        "#SBATCH --time=00:30:00", "#SBATCH --partition=long", "#SBATCH --ntasks=4", "#SBATCH --array=1-3",
        "#SBATCH --job-name=a_run", "exec nnpkit md --continue -o . --ranks 4 --time-limit 00:27:00",
    ):  # fmt: skip
        assert line in text.splitlines()
    assert f"cd '{tmp_path}/a run'/$SLURM_ARRAY_TASK_ID" in text
    for wrong in ("time", "time=00:30:00\nrm -rf x", "ntasks=3", "--time=1"):
        with pytest.raises(InputError, match="--slurm"):
            queue_script(tmp_path, [wrong], 1)


def test_the_limit_of_time_ends_a_run_with_its_files(tmp_path: Path) -> None:
    simulation = Simulation(**{**QUIET, "every": 1000, "dump_every": 10000}, steps=10**8, time_limit=1.0)
    prepare_folder(tmp_path, input_files(simulation, structure(crystal(1)), SMOOTH))
    reader = run_lammps(tmp_path, lammps_command(1))
    summary = report(tmp_path, simulation, structure(crystal(1)), reader)
    assert 1000 < summary["steps"] < 10**8
    assert summary["stopped_early"] == f"{summary['steps']} of 100000000 steps: the time limit"
    assert newest_restart(tmp_path, lammps_command(1))[1] >= summary["steps"]


def test_progress_says_how_fast(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 0.0, 0.0, 10.0, 10.0, 10.0, 10.0, 10.0])
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    row = {"potential_energy_eV": 1.0, "temperature_K": 300.0, "density_g_cm3": 1.0}
    with SimulationProgress(3000, timestep=0.5) as progress:
        for step in (1000, 2000):  # a run that goes on from step 1000
            progress({"step": step, **row})
    assert (
        "step 2000/3000  T 300 K  density 1.0000 g/cm³  4.32 ns/day  ETA 0:00:10" in capsys.readouterr().err
    )


def test_an_input_of_something_else_is_not_continued() -> None:
    with pytest.raises(InputError, match=r"no read_data, steps and run"):
        continued_input("units metal\nrun 10\n", "final.restart", Simulation())


def interrupt_at(step: int):
    """What Ctrl-C does, once the run has come to `step`."""

    def tell(self: SimulationProgress, row: dict) -> None:
        if row["step"] >= step:
            raise KeyboardInterrupt

    return tell


def test_replicas_that_have_not_settled_say_so(tmp_path: Path) -> None:
    """Two runs of some steps agree because both have hardly begun."""
    waiting = [{}, {"density": "4 values"}]
    runs = [{"density": 8.95, "temperature": 300.0 + k, "not_settled": w} for k, w in enumerate(waiting)]
    lines = average_of_replicas(tmp_path, runs)
    assert [line.split()[0] for line in lines if "not settled in 1 of them" in line] == ["density"]
    assert len(lines) == 2


def test_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replicas of a potential, stopped by their number of steps, go on and are averaged; mistakes are refused."""
    needs_plugin()
    monkeypatch.chdir(tmp_path)
    export_model(small_model(), "small.pt")
    write("water.xyz", [water(3.0)])
    common = ("--ensemble", "nvt", "--temperature", 50, "--timestep", 0.1, "--every", 2, "--dump-every", 5)
    done = run("small.pt", "water.xyz", "-o", "out", *common, "--steps", 20, "--replicas", 2, "--also", "dcd")
    assert done.exit_code == 0, done.output
    assert "verdict" in done.stdout
    assert json.loads(Path("out/summary.json").read_text())["replicas"] == 2
    seeds = [json.loads(Path(f"out/{n}/md.json").read_text())["simulation"]["seed"] for n in (1, 2)]
    assert seeds == [1, 2]
    assert Path("out/1/trajectory.dcd").stat().st_size > 0
    again = run("--continue", "-o", "out")
    assert again.exit_code == 0
    more = run("--continue", "-o", "out", "--steps", 40)
    assert more.exit_code == 0, more.output
    summary = json.loads(Path("out/2/summary.json").read_text())
    assert (summary["steps"], summary["steps_asked"]) == (40, 40)
    assert [f.info["step"] for f in read("out/2/trajectory.lammpstrj")] == list(range(0, 41, 5))
    monkeypatch.setattr(SimulationProgress, "__call__", interrupt_at(50))
    stopped = run("--continue", "-o", "out/1", "--steps", 5000)
    assert stopped.exit_code == 130, stopped.output
    assert "go on with: nnpkit md --continue -o out/1" in stopped.stdout
    summary = json.loads(Path("out/1/summary.json").read_text())
    assert summary["steps"] >= 50
    assert summary["stopped_early"] == f"{summary['steps']} of 5000 steps: interrupted"
    fewer = run("small.pt", "water.xyz", "-o", "out", *common, "--overwrite")
    assert "this folder holds other replicas: 1, 2" in fewer.stderr
    for call, words in (
        (("--continue", "-o", "out/2"), "the run is complete: 40 of 40 steps"),
        (("--continue", "-o", "nowhere"), "no simulation to continue"),
        (("--continue", "small.pt", "water.xyz", "-o", "out/1"), "takes model and structure from the folder"),
        (("--continue", "-o", "out/1", "--temperature", 400), "--temperature has no effect"),
        (("-o", "out"), "what is to be simulated"),
        (
            ("small.pt", "water.xyz", "-o", "new", "--temperature", "3..x"),
            "--temperature: '3..x' is no number",
        ),
    ):
        result = run(*call)
        assert result.exit_code == 1
        assert words in result.stderr


def test_a_job_begins_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The script of `--slurm`, run by a shell as a queue does."""
    needs_plugin()
    monkeypatch.chdir(tmp_path)
    export_model(small_model(), "small.pt")
    write("water.xyz", [water(3.0)])
    written = run(
        "small.pt", "water.xyz", "-o", "job", "--ensemble", "nvt", "--temperature", 50, "--timestep", 0.1,
        "--steps", 10, "--every", 2, "--slurm", "time=00:10:00",
    )  # fmt: skip
    assert written.exit_code == 0, written.output
    assert not Path("job/log.lammps").exists()
    done = subprocess.run(["bash", "job/job.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(Path("job/summary.json").read_text())["steps"] == 10


def test_text_of_the_input() -> None:
    text = input_text(Simulation(temperature_end=400.0, time_limit=60.0), water(3.0), ["H", "O"], [])
    assert "npt temp ${temperature} ${temperature_end} ${tdamp} iso ${pressure} ${pressure} ${pdamp}" in text
    assert "timer           timeout 60" in text
