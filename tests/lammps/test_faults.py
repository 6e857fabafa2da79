"""What goes wrong in production: one message that says what, no rank that hangs, whole files. See docs/faults.md."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from harness import TIMEOUT, Result, environment, lmp, random_structure, run, setup, write_data
from toy import write_toy

import nnpkit

BOX = [9.0, 9.5, 10.0]
TOY = "pair_style nnpkit {}\npair_coeff * * toy.pt O H\n"
DYNAMICS = "timestep 0.0005\nfix 1 all nve\nthermo 1\n"


@pytest.fixture
def place(committee_folder: Path) -> Path:
    """The folder with a structure."""
    write_data(committee_folder / "data.lmp", random_structure(30, BOX, seed=21))
    return committee_folder


def message(result: Result) -> str:
    """The one error of a run that failed."""
    assert result.returncode != 0, result.output
    assert len(result.errors) == 1, result.output
    return result.errors[0]


def test_a_rank_without_atoms_runs(place: Path) -> None:
    write_data(place / "data.lmp", random_structure(14, [9.0, 9.0, 40.0], seed=3, fill=(1, 1, 0.2)))
    text = setup(processors="1 1 4") + TOY.format("max_force 1000") + DYNAMICS + "run 2\n"
    result = lmp(place, text, 4)
    assert result.returncode == 0, result.output


def test_lost_atoms(place: Path) -> None:
    text = setup(boundary="f f f") + TOY.format("") + DYNAMICS + "velocity all set 300 0 0\nrun 50\n"
    assert "Lost atoms: original 30" in message(lmp(place, text, 2))


@pytest.mark.parametrize("model", ["toy.pt", "committee.pt"])
def test_atoms_at_the_same_place(place: Path, model: str) -> None:
    text = setup() + TOY.format("").replace("toy.pt", model)
    text += "create_atoms 1 single 4 4 4\ncreate_atoms 1 single 4 4 4\nrun 1\n"
    assert "two atoms are at the same place at step 0" in message(lmp(place, text, 2))


def test_a_model_that_explodes(place: Path) -> None:
    """NaN on several ranks at once is one message; with a cap the run ends before, softly."""
    write_toy(place / "toy.pt", hole=0.5)
    text = setup() + TOY + DYNAMICS + "run 5\n"
    close = [f"create_atoms 1 single 4 4 {z}\n" for z in (2.0, 2.3, 7.0, 7.3)]  # a pair on each rank
    assert "is not finite at step 0" in message(
        lmp(place, text.format("").replace("run", "".join(close) + "run"), 2)
    )
    hot = text.replace("run 5", "velocity all create 20000 1\nrun 500")
    result = lmp(place, hot.format("min_distance 0.6 restart NULL"), 2)
    assert result.returncode == 0, result.output
    assert "closer than min_distance 0.6" in result.output


def test_disk_full_while_frames_are_written(place: Path) -> None:
    """The limit of the file size stands for the disk: whole frames stay, the rest of one does not."""
    options = "watch energy_std 0 INF frames kept.extxyz interval 1"
    text = setup() + TOY.format(options).replace("toy.pt", "committee.pt")
    (place / "driver.py").write_text(
        "import resource, signal\nfrom mpi4py import MPI\nfrom lammps import lammps\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))\n"
        f"lammps(cmdargs=['-log', 'none']).commands_string({text + DYNAMICS + 'run 20'!r})\n"
    )
    assert "cannot write kept.extxyz: File too large" in message(run(place, ["python", "driver.py"], 2))
    size = (place / "kept.extxyz").stat().st_size
    frames = nnpkit.read(place / "kept.extxyz")
    assert 1 < len(frames) < 10
    assert size <= 8192
    full = text.replace("kept.extxyz", "/dev/full") + "run 0\n"
    assert "cannot write /dev/full: No space left on device" in message(lmp(place, full, 2))


def test_disk_full_while_lammps_writes_a_dump(place: Path) -> None:
    text = setup() + TOY.format("") + DYNAMICS + "dump d all custom 1 /dev/full id x y z\nrun 5\n"
    # one rank: when LAMMPS aborts several, mpirun may lose what it said last
    assert "Error writing dump d: No space left on device" in message(lmp(place, text))


def test_a_frame_that_was_cut_off_is_taken_out(place: Path) -> None:
    """LAMMPS was killed while it wrote; the next run that appends to the file leaves whole frames only."""
    options = "watch energy_std 0 INF frames kept.extxyz interval 1"
    text = setup() + TOY.format(options).replace("toy.pt", "committee.pt") + DYNAMICS + "run 2\n"
    assert lmp(place, text).returncode == 0
    whole = (place / "kept.extxyz").read_bytes()
    (place / "kept.extxyz").write_bytes(whole[:-200])
    result = lmp(place, text)
    assert result.returncode == 0, result.output
    frames = nnpkit.read(place / "kept.extxyz")
    assert [frame.info["step"] for frame in frames] == [0, 1, 0, 1, 2]
    kept = (place / "data.lmp").read_bytes()
    assert "data.lmp holds something else than frames" in message(
        lmp(place, text.replace("kept.extxyz", "data.lmp"))
    )
    assert (place / "data.lmp").read_bytes() == kept


def test_disk_full_while_the_restart_file_is_written(place: Path) -> None:
    result = lmp(place, setup() + TOY.format("max_force 0 restart /dev/full") + "run 5\n", 2)
    assert "the restart file /dev/full is not whole. Is the disk full?" in result.output


def test_model_missing(place: Path) -> None:
    (place / "toy.pt").unlink()
    assert "cannot open model file toy.pt" in message(lmp(place, setup() + TOY.format(""), 2))


def test_a_rank_that_is_killed(place: Path) -> None:
    """mpirun ends the others; the frames are whole."""
    options = "watch energy_std 0 INF frames kept.extxyz interval 1 limit 100000"
    text = setup() + TOY.format(options).replace("toy.pt", "committee.pt") + DYNAMICS + "run 100000\n"
    (place / "in.lmp").write_text(text)
    with subprocess.Popen(
        ["mpirun", "-n", "2", "lmp", "-in", "in.lmp"], cwd=place, env=environment(), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if line.split()[:1] == ["5"]:
                break
        os.kill(ranks_in(place)[-1], signal.SIGKILL)
        begin = time.monotonic()
        process.stdout.read()
        assert process.wait() != 0
    assert time.monotonic() - begin < TIMEOUT
    assert ranks_in(place) == []
    assert len(nnpkit.read(place / "kept.extxyz")) >= 5


def ranks_in(folder: Path) -> list[int]:
    """Process ids of the LAMMPS processes that work in `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
            if (process / "cwd").resolve() == folder.resolve() and command[0].endswith(b"/lmp"):
                found.append(int(process.name))
        except OSError:  # gone, or not ours
            continue
    return sorted(found)


def test_respa_is_refused(place: Path) -> None:
    text = setup() + TOY.format("") + DYNAMICS + "run_style respa 2 2 pair 1\nrun 1\n"
    assert "has no inner and outer part for run_style respa" in message(lmp(place, text))
