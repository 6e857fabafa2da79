"""What is a step and what is not: reruns, trial moves, displacements, line searches, partitions."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from harness import Result, lmp, random_structure, run, setup, write_data

import nnpkit
from nnpkit.data.structure import Structure
from nnpkit.deploy.load import load

TRICLINIC = [[9.0, 0.0, 0.0], [2.1, 8.5, 0.0], [-1.7, 1.3, 8.8]]
DYNAMICS = "velocity all create 300 1\ntimestep 0.0005\nfix 1 all nve\nthermo 1\n"
SEEN = "compute u all pair nnpkit\nthermo_style custom step pe c_u[*]\nthermo_modify format float %.15g\n"
FORMAT = "dump_modify d sort id format float %.17g\n"


@pytest.fixture
def place(committee_folder: Path) -> Path:
    """A folder with a committee and 30 atoms on which it extrapolates."""
    write_data(committee_folder / "data.lmp", random_structure(30, TRICLINIC, seed=21))
    return committee_folder


def style(options: str = "", model: str = "committee.pt") -> str:
    return f"pair_style nnpkit {options}\npair_coeff * * {model} O H\n"


def rows(result: Result) -> np.ndarray:
    """The lines of thermodynamic output of all runs: step, energy and the vector of compute pair."""
    assert result.returncode == 0, result.output
    found = [line.split() for line in result.output.splitlines() if re.fullmatch(r"\s+\d[\s\d.e+-]+", line)]
    return np.array([[float(word) for word in row] for row in found if len(row) == 12])


def outside(folder: Path, frames: list) -> np.ndarray:
    """Extrapolations of each frame, from Python."""
    from nnpkit.data.graph import build_graph, edge_vectors

    model, found = load(folder / "committee.pt"), []
    for frame in frames:
        graph = build_graph(frame, model.elements, model.cutoff)
        types = graph.types[graph.neighbor]
        features = model.module.features(edge_vectors(graph), types, graph.offsets, graph.types).numpy()
        ranges = model.metadata["feature_ranges"]
        low, high = (np.array([ranges[s][key] for s in frame.symbols]) for key in ("min", "max"))
        found.append(((features < low) | (features > high)).sum())
    return np.array(found)


# ---- rerun ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_rerun_finds_what_the_run_found(place: Path, ranks: int) -> None:
    """Many frames: counts, disagreement, atoms and collected frames, without a run before."""
    watch = "watch force_std_max 0.01 INF frames {}.extxyz interval 7"
    fields = "dump d all custom 1 {} id x y z vx vy vz f_p[1] f_p[2]\n" + FORMAT
    atoms = "fix p all pair 1 nnpkit force_std 1 extrapolations 1\n"
    text = (
        setup()
        + style(watch.format("run"))
        + SEEN
        + atoms
        + fields.format("ran.dump")
        + DYNAMICS
        + "run 35\n"
    )
    ran = lmp(place, text, ranks)
    again = setup() + style(watch.format("rerun")) + SEEN + atoms + fields.format("second") + "thermo 1\n"
    reran = lmp(place, again + "rerun ran.dump dump x y z vx vy vz\n", ranks)
    one, other = rows(ran), rows(reran)
    assert len(one) == len(other) == 36
    np.testing.assert_allclose(other[:, :6], one[:, :6], rtol=1e-9, atol=1e-11)
    np.testing.assert_array_equal(other[:, 6:8], one[:, 6:8])  # extrapolations of the step and until it
    assert (one[:, 6] > 0).all()
    assert one[-1, 7] == one[:, 6].sum()
    for columns in (slice(0, 1), slice(4, 9)):  # positions may be in another image of the cell
        one_dump, other_dump = ran.dump("ran.dump")[:, columns], reran.dump("second")[:, columns]
        np.testing.assert_allclose(other_dump, one_dump, rtol=1e-9, atol=1e-9)
    frames = [nnpkit.read(place / f"{name}.extxyz") for name in ("run", "rerun")]
    assert [f.info["step"] for f in frames[0]] == [f.info["step"] for f in frames[1]] == list(range(0, 36, 7))
    for a, b in zip(*frames, strict=True):
        apart = (a.positions - b.positions) @ np.linalg.inv(TRICLINIC)  # in the same image of the cell
        np.testing.assert_allclose((apart - np.round(apart)) @ TRICLINIC, 0.0, rtol=0, atol=2e-9)
    np.testing.assert_array_equal(outside(place, frames[1]), one[0:36:7, 6])


def test_every_frame_of_a_rerun_is_judged_by_itself(place: Path) -> None:
    """Neither a frame beyond a bound nor a rerun before decides about the next frame."""
    dump = "dump d all custom 1 steps id x y z\n" + FORMAT
    calm = rows(lmp(place, setup() + style() + SEEN + dump + DYNAMICS + "run 8\n"))
    spread = calm[:, 2]
    bound = np.sort(spread)[5:7].mean()
    options = f"watch force_std_max 0 {bound:.10f} frames kept.extxyz interval 1 restart r"
    text = setup() + style(options) + SEEN + "thermo 1\nrerun steps dump x y z\n"
    text += "rerun steps last 0 dump x y z\nprint '@ended $(is_defined(variable,nnpkit_ended))'\n"
    text += "run 0\nprint '@after 1'\n"
    result = lmp(place, text, 2)
    found = rows(result)
    beyond = spread > bound
    np.testing.assert_array_equal(found[:9, 11], beyond)
    np.testing.assert_array_equal(found[:9, 10], np.cumsum(~beyond))
    named = re.findall(r"a run would end at the frame of step (\d+): force_std_max", result.output)
    assert [int(step) for step in named] == [*np.flatnonzero(beyond), *([0] if beyond[0] else [])]
    assert (
        f"{beyond.sum()} frames beyond a bound, the first of step {np.flatnonzero(beyond)[0]}"
        in result.output
    )
    assert found[9, 11] == beyond[0]
    assert result.values() == {"ended": 0.0, "after": 1.0}
    assert not (place / "r").exists()
    kept = [f.info["step"] for f in nnpkit.read(place / "kept.extxyz")]
    assert kept == [*np.flatnonzero(~beyond), *([] if beyond[0] else [0])]


def test_counts_of_a_rerun(place: Path) -> None:
    dump = "dump d all custom 1 steps id x y z\n" + FORMAT
    counts = rows(lmp(place, setup() + style() + SEEN + dump + DYNAMICS + "run 5\n"))[:, 6]
    most = int(np.sort(counts)[2])
    result = lmp(place, setup() + style(f"maxew {most} showew yes") + SEEN + "rerun steps dump x y z\n")
    assert result.output.count("extrapolations at step") == 6
    assert result.output.count(f"more than maxew {most}") == (counts > most).sum() > 0


@pytest.mark.parametrize("ranks", [1, 3])
def test_another_model_before_a_rerun(place: Path, ranks: int) -> None:
    """The counts are those of the new model, whose functions may be more than those of the old."""
    dump = "dump d all custom 1 steps id x y z\nrun 0\nundump d\n"
    text = setup() + style(model="toy.pt") + SEEN + dump
    for model in ("committee.pt", "toy.pt", "committee.pt"):
        text += f"pair_coeff * * {model} O H\nrerun steps dump x y z\n"
    found = rows(lmp(place, text + "run 0\n", ranks))
    (expected,) = outside(place, [Structure.from_atoms(random_structure(30, TRICLINIC, seed=21), name="a")])
    np.testing.assert_array_equal(found[:, 6], [0, expected, 0, expected, expected])
    np.testing.assert_array_equal(found[:, 7], found[:, 6])
    assert (found[[1, 3], 2] > 0.1).all()


def test_a_changed_model_is_not_used_by_a_run_that_initialises_nothing(place: Path) -> None:
    text = setup() + style(model="toy.pt") + "run 0\npair_coeff * * committee.pt O H\nrun 1 pre no\n"
    assert "the next one needs 'pre yes'" in lmp(place, text).output


# ---- what is no step ----------------------------------------------------------------------------------------------

TRIALS = {
    "displacements": "fix t all numdiff 1 0.02\n",
    "displacements before": "",
    "insertions": "fix t all widom 1 20 1 4711 300.0\n",
}


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("trial", TRIALS)
def test_trials_are_not_judged(place: Path, trial: str, ranks: int) -> None:
    """Nothing moves, whatever is tried: the numbers of every step are those of the structure."""
    plain = rows(lmp(place, setup() + style() + SEEN + "run 0\n"))[0]
    watch = f"watch force_std_max 0 {plain[2] + 1e-6:.9f} frames kept.extxyz interval 1"
    atoms = "fix p all pair 1 nnpkit force_std 1 extrapolations 1\ncompute e all reduce max f_p[1]\n"
    before = "fix t all numdiff 1 0.02\n" if trial == "displacements before" else ""
    text = (
        setup()
        + before
        + style(watch)
        + SEEN
        + TRIALS[trial]
        + atoms
        + "thermo 1\nrun 3\nprint '@most $(c_e)'\n"
    )
    result = lmp(place, text.replace("run 3", "run 3\nrun 0"), ranks)
    found = rows(result)
    assert len(found) == 5
    np.testing.assert_allclose(found[:, 1:7], np.tile(plain[1:7], (5, 1)), rtol=1e-8)
    np.testing.assert_array_equal(found[:, 7], plain[6] * np.array([1, 2, 3, 4, 1]))
    np.testing.assert_array_equal(found[:4, 10], [1, 2, 3, 4])
    assert result.values()["most"] == pytest.approx(plain[2], rel=1e-5)
    assert "nnpkit: run ends" not in result.output


@pytest.mark.parametrize("ranks", [1, 2])
def test_swaps_are_judged_when_they_are_accepted(place: Path, ranks: int) -> None:
    """Many trials, few of them taken: every step has the numbers of what it shows."""
    text = setup() + style() + SEEN + "fix t all atom/swap 1 10 4711 10.0 types 1 2 ke no\nthermo 1\n"
    text += "dump d all custom 1 step.* id type x y z\n" + FORMAT + "run 3\n"
    result = lmp(place, text, ranks)
    found = rows(result)
    frames = []
    for step in range(4):
        table = result.dump(f"step.{step}")
        symbols = ["OH"[int(t) - 1] for t in table[:, 1]]
        frames.append(Structure(symbols, table[:, 2:], np.array(TRICLINIC), np.ones(3, bool)))
    counts = outside(place, frames)
    assert len(set(counts)) > 1
    np.testing.assert_array_equal(found[:, 6], counts)
    np.testing.assert_array_equal(found[:, 7], np.cumsum(counts))


@pytest.mark.parametrize(
    ("algorithm", "by"), [("cg", "style"), ("cg", "fix"), ("fire", "style"), ("hftn", "style")]
)
def test_frames_of_a_minimisation_are_its_steps(place: Path, algorithm: str, by: str) -> None:
    """The positions that a dump shows of the same step, not those of the line search."""
    words = "watch force_std_max 0 INF frames kept.extxyz interval 1"
    text = setup() + style(words if by == "style" else "every 0")
    text += f"fix w all nnpkit/watch 2 {words}\n" if by == "fix" else ""
    text += "dump d all custom 1 step.* id x y z\n" + FORMAT + SEEN + "timestep 0.0005\nthermo 1\n"
    result = lmp(
        place, text + f"min_style {algorithm}\nminimize 0 1e-9 8 1000\nprint '@dumps 1'\ninfo dumps\n", 2
    )
    assert result.returncode == 0, result.output
    frames = nnpkit.read(place / "kept.extxyz")
    assert [f.info["step"] for f in frames] == list(range(0, 9, 2 if by == "fix" else 1))
    model = load(place / "committee.pt")
    for frame in frames:
        table = result.dump(f"step.{frame.info['step']}")
        np.testing.assert_allclose(frame.positions, table[:, 1:], rtol=0, atol=2e-9)
        spread = model.predict(frame).disagreement
        assert spread is not None
        assert frame.info["force_std_max"] == pytest.approx(spread.forces_std.max(), rel=1e-5)
    counts = outside(place, frames)
    if by == "style":
        np.testing.assert_array_equal(rows(result)[:, 7], np.cumsum(counts))
    assert "NNPKIT_ACCEPTED" not in result.output.split("@dumps")[1]


def test_the_fix_counts_the_iteration_that_thermo_output_shows(place: Path) -> None:
    """LAMMPS writes thermo output before the dumps that tell which iterations are accepted."""
    watch = "fix w all nnpkit/watch 1 watch force_std_max 0 INF frames kept.extxyz interval 1\n"
    text = setup() + style("every 0") + watch + "thermo_style custom step pe f_w[3]\nthermo 1\n"
    result = lmp(place, text + "minimize 0 1e-9 6 1000\nprint '@counted $(f_w[3])'\n", 2)
    shown = [
        line.split() for line in result.output.splitlines() if re.fullmatch(r"\s+\d+\s+-\S+\s+\d+\s*", line)
    ]
    counts = np.cumsum(outside(place, nnpkit.read(place / "kept.extxyz")))
    np.testing.assert_array_equal([int(row[2]) for row in shown], counts)
    assert result.values()["counted"] == counts[-1]


def test_a_minimisation_ends_at_the_step_it_names(place: Path) -> None:
    calm = rows(lmp(place, setup() + style() + SEEN + "thermo 1\nminimize 0 1e-9 12 1000\n"))
    at, total = 5, int(calm[5, 7])
    assert calm[4, 7] < total
    text = setup() + style(f"maxew {total - 1}") + SEEN + "minimize 0 1e-9 12 1000\nprint '@step $(step)'\n"
    result = lmp(place, text)
    assert result.values()["step"] == at
    assert f"run ends at step {at}: {total} extrapolations" in result.output
    again = lmp(place, f"read_restart watch.restart\n{style()}{SEEN}run 0\n")
    assert rows(again)[0, 1] == pytest.approx(calm[at, 1], rel=1e-12)


def test_runs_in_parts_count_on(place: Path) -> None:
    """'pre no' goes on, everything else begins anew; a step between two parts counts once."""
    whole = rows(lmp(place, setup() + style() + SEEN + DYNAMICS + "run 6\n"))
    parts = lmp(
        place,
        setup() + style() + SEEN + DYNAMICS + "run 2 post no\nrun 2 pre no post no\nrun 2 pre no\nrun 0\n",
    )
    found = rows(parts)
    last = {int(row[0]): row for row in found[:-1]}
    for row in whole:
        assert last[int(row[0])][7] == row[7]
    assert found[-1, 7] == found[-1, 6]


# ---- the log ------------------------------------------------------------------------------------------------------


def test_runs_that_are_to_be_quiet_are(place: Path) -> None:
    text = (
        setup()
        + style()
        + DYNAMICS
        + "run 0 post no\nprint begin\n"
        + "run 2 post no\n" * 5
        + "print end\nrun 2\n"
    )
    result = lmp(place, text)
    quiet, loud = result.output.split("begin")[-1].split("end\n", 1)
    assert "nnpkit" not in quiet
    assert loud.count("nnpkit timing breakdown") == 1
    inside = lmp(place, setup() + style() + DYNAMICS + "run 6 every 2 'print hello' post no\n").output
    assert "nnpkit timing" not in inside


@pytest.mark.parametrize("name", ["plain.extxyz", "with space.extxyz"])
@pytest.mark.parametrize("units", ["metal", "real"])
def test_the_command_that_the_log_recommends_runs(place: Path, name: str, units: str) -> None:
    unit = 1.0 if units == "metal" else 23.060549
    options = f"watch force_std_max {0.1 * unit} {0.48 * unit} frames '{name}' restart 'a b.restart'"
    result = lmp(
        place,
        setup(units=units)
        + style(options)
        + DYNAMICS.replace("0.0005", f"{0.0005 if units == 'metal' else 0.5}")
        + "run 60\n",
    )
    assert result.returncode == 0, result.output
    assert (place / "a b.restart").exists()
    (line,) = re.findall(r"to label its frames: (.*)", result.output)
    select, label = line.split(" && ")
    words = shlex.split(select)
    assert words[:4] == ["nnpkit", "select", "committee.pt", name]
    assert [float(words[5]), float(words[7])] == pytest.approx([0.1, 0.48], rel=1e-4)
    chosen = run(place, words)
    assert chosen.returncode == 0, chosen.output
    assert "bounds 0.1 to 0.48 eV" in chosen.output
    assert label == "nnpkit label selected.xyz"
    comment = (place / name).read_text().splitlines()[1]
    spread = float(comment.split("force_std_max=")[1].split()[0])
    assert float(re.findall(r'reason="force_std_max ([\d.]+)"', comment)[0]) == pytest.approx(
        spread, rel=1e-3
    )


# ---- partitions and types that the model does not see ----------------------------------------------------------------


def test_partitions_have_files_of_their_own(place: Path) -> None:
    text = setup() + "variable t world 300 900\nvariable top world 0.1 INF\n"
    text += (
        style("watch force_std_max 0 ${top} interval 1 restart end%.restart")
        + DYNAMICS.replace("300", "$t")
        + "run 2\n"
    )
    (place / "in.lmp").write_text(text)
    result = run(place, ["lmp", "-in", "in.lmp", "-partition", "2x1", "-nocite"], 2)
    assert result.returncode == 0, result.output
    assert (place / "end0.restart").exists()
    assert not (place / "end1.restart").exists()
    assert not (place / "watch.0.extxyz").exists()
    assert [f.info["step"] for f in nnpkit.read(place / "watch.1.extxyz")] == [0, 1, 2]
    assert not (place / "watch.extxyz").exists()


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize(
    ("mass", "species", "expected"),
    [
        (39.948, "", "Ar"),
        (2.014, "", "H"),
        (40.0, "species O,H,Ca ", "Ca"),
        (40.0, "", "cannot be told from its mass"),
        (39.948, "species H,O,Ar ", "species says H for atom type 1, which is O for the model"),
    ],
)
def test_frames_name_atoms_that_the_model_does_not_see(
    place: Path, ranks: int, mass: float, species: str, expected: str
) -> None:
    atoms, argon = random_structure(30, TRICLINIC, seed=21), random_structure(3, TRICLINIC, seed=23)
    argon.symbols = "Ar" * 3
    write_data(place / "data.lmp", atoms + argon, ["O", "H", "Ar"])
    text = (
        setup()
        + f"mass 3 {mass}\npair_style hybrid/overlay nnpkit {species}watch energy_std 0 INF lj/cut 6.0\n"
    )
    text += "pair_coeff * * nnpkit committee.pt O H NULL\n"
    text += "pair_coeff 3 3 lj/cut 0.01 3.4\npair_coeff 1*2 3 lj/cut 0.01 2.0\n"
    result = lmp(place, text + "run 0\n", ranks)
    if result.returncode:
        assert expected in result.output
        return
    (frame,) = nnpkit.read(place / "watch.extxyz")
    assert frame.symbols == [*atoms.symbols, *[expected] * 3]


@pytest.mark.parametrize(("mass", "seen"), [(39.948, False), (15.999, True)])
def test_the_recommended_command_knows_what_the_model_does_not_see(
    place: Path, mass: float, seen: bool
) -> None:
    """Argon is left out where the committee is asked; of oxygen that is NULL only its type would tell."""
    atoms, other = random_structure(30, TRICLINIC, seed=21), random_structure(3, TRICLINIC, seed=23)
    other.symbols = "Ar" * 3
    write_data(place / "data.lmp", atoms + other, ["O", "H", "Ar"])
    text = (
        setup() + f"mass 3 {mass}\npair_style hybrid/overlay nnpkit watch force_std_max 0.1 0.48 lj/cut 6.0\n"
    )
    text += "pair_coeff * * nnpkit committee.pt O H NULL\n"
    text += "pair_coeff 3 3 lj/cut 0.0 3.4\npair_coeff 1*2 3 lj/cut 0.0 2.0\n"
    result = lmp(place, text + DYNAMICS + "run 60\n")
    assert result.returncode == 0, result.output
    (line,) = re.findall(r"to label its frames: (.*)", result.output)
    if seen:
        assert line == "nnpkit label watch.extxyz"
        return
    select, _ = line.split(" && ")
    assert select.endswith(" --without Ar")
    chosen = run(place, shlex.split(select))
    assert chosen.returncode == 0, chosen.output
    frame = nnpkit.read(place / "selected.xyz")[0]
    assert frame.symbols == [*atoms.symbols, *["Ar"] * 3]
    bare = nnpkit.load(place / "committee.pt").predict(Structure(
        list(atoms.symbols), frame.positions[:30], frame.cell, frame.pbc
    ))  # fmt: skip
    assert frame.info["disagreement"] == pytest.approx(bare.disagreement.forces_std.max(), rel=1e-6)
