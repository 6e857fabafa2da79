"""Every keyword of pair style, fix and compute: it changes something that can be seen, or is refused.

The list of keywords is that of the parsers, as their messages give it. A keyword without an entry here fails.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from harness import Result, lmp, random_structure, run, setup, write_data

import nnpkit

TRICLINIC = [[9.0, 0.0, 0.0], [2.1, 8.5, 0.0], [-1.7, 1.3, 8.8]]
PAGE = Path(__file__).parents[2] / "docs" / "pair_nnpkit.md"
DYNAMICS = "velocity all create 300 1\ntimestep 0.0002\nfix 1 all nve\nthermo 1\n"
SEEN = "compute u all pair nnpkit\nthermo_style custom step pe c_u[*]\nthermo_modify format float %.12g\n"
ALL = "watch force_std_max 0.01 INF"


@pytest.fixture
def place(committee_folder: Path) -> Path:
    write_data(committee_folder / "data.lmp", random_structure(30, TRICLINIC, seed=21))
    return committee_folder


def script(style: str = "", fix: str | None = None, steps: int = 6, model: str = "committee.pt") -> str:
    text = setup() + f"pair_style nnpkit {style}\npair_coeff * * {model} O H\n"
    if fix is not None:
        text += f"fix w all nnpkit/watch {fix}\n"
    return text + SEEN + DYNAMICS + f"run {steps}\nprint '@step $(step)'\n"


def table(result: Result) -> list[list[float]]:
    """The lines of thermodynamic output."""
    assert result.returncode == 0, result.output
    rows = [line.split() for line in result.output.splitlines() if re.fullmatch(r"\s+\d[\s\d.e+-]+", line)]
    return [[float(word) for word in row] for row in rows if len(row) > 5]


def column(result: Result, k: int) -> list[float]:
    """Element `k` of compute pair at every step."""
    return [row[1 + k] for row in table(result)]


def frames(folder: Path, name: str = "watch.extxyz") -> list[int]:
    """Steps of the frames in a file."""
    return [frame.info["step"] for frame in nnpkit.read(folder / name)]


def ended(result: Result) -> float:
    """Step at which the run was at its end."""
    assert result.returncode == 0, result.output
    return result.values()["step"]


# ---- what shows that a keyword of the pair style has an effect --------------------------------------------------


def _device(place: Path) -> None:
    import torch

    result = lmp(place, script("device cuda"))
    assert ("cuda" in result.output) == torch.cuda.is_available() or "sees no usable GPU" in result.output
    assert "; cpu, float64" in lmp(place, script("device cpu")).output


def _precision(place: Path) -> None:
    exact, single = (table(lmp(place, script(f"precision {p}")))[0][1] for p in ("float64", "mixed"))
    assert exact != single
    assert exact == pytest.approx(single, rel=1e-5)


def _kernel(place: Path) -> None:
    assert "torchscript (as asked for)" in lmp(place, script("kernel torchscript")).output


def _chunk(place: Path) -> None:
    assert "7 atoms at once" in lmp(place, script("chunk 7")).output


def _omp(place: Path) -> None:
    assert "2 thread(s) per rank" in lmp(place, script("omp 2")).output


def _every(place: Path) -> None:
    rare, never = (column(lmp(place, script(f"every {n}")), 1) for n in (3, 0))
    assert rare[1] == rare[2] != rare[3] == rare[4]
    assert len(set(never)) == 1


def _percentile(place: Path) -> None:
    low, high = (column(lmp(place, script(f"percentile {p}")), 3)[0] for p in (10, 90))
    assert low < high


def _ewald(place: Path) -> None:
    """Effects are those of tests/lammps/test_lammps_charges.py: this model has no charges."""
    assert "the model has no charges" in lmp(place, script("ewald 1e-5")).output


def _mesh(place: Path) -> None:
    assert "the model has no charges" in lmp(place, script("mesh auto")).output


def _charge(place: Path) -> None:
    assert "the model has no charges" in lmp(place, script("charge 1.0")).output


# ---- and of a watch, given to the style or to the fix ------------------------------------------------------------

Run = Callable[[str], Result]


def _watch(place: Path, run: Run) -> None:
    run("watch force_std_max 100 INF")
    assert not (place / "watch.extxyz").exists()
    assert ended(run("watch force_std_max 0.1 0.2")) == 0
    run("watch force_std_max 0.1 INF")
    assert frames(place) == [0]


def _min_distance(place: Path, run: Run) -> None:
    assert "closer than min_distance 1.5" in run("min_distance 1.5").output


def _max_force(place: Path, run: Run) -> None:
    assert "above max_force 0.2" in run("max_force 0.2").output


def _frames(place: Path, run: Run) -> None:
    run(f"{ALL} frames other.extxyz")
    assert frames(place, "other.extxyz") == [0]
    run(f"{ALL} frames NULL")
    assert not (place / "watch.extxyz").exists()


def _restart(place: Path, run: Run) -> None:
    run("max_force 0.2 restart 'my $file.*'")
    assert (place / "my $file.0").exists()
    run("max_force 0.2 restart NULL")
    assert not (place / "watch.restart").exists()


def _interval(place: Path, run: Run) -> None:
    run(f"{ALL} interval 2")
    assert frames(place) == [0, 2, 4, 6]


def _limit(place: Path, run: Run) -> None:
    run(f"{ALL} interval 1 limit 3")
    assert frames(place) == [0, 1, 2]


def _species(place: Path, run: Run) -> None:
    assert "species says Fe for atom type 1, which is O for the model" in run(f"{ALL} species Fe,H").output
    assert "species has 3 elements for 2 atom types" in run(f"{ALL} species O,H,H").output
    assert "species is 'O,Q', expected an element for each" in run(f"{ALL} species O,Q").output


def _showew(place: Path, run: Run) -> None:
    assert run("showew yes").output.count("extrapolations at step") == 7


def _showewsum(place: Path, run: Run) -> None:
    assert run("showewsum 2").output.count("extrapolations until step") == 5  # 0, 2, 4, 6 and the end


def _maxew(place: Path, run: Run) -> None:
    assert ended(run("maxew 700 frames NULL")) == 2
    assert ended(run("maxew 1000 frames NULL")) == 3


def _resetew(place: Path, run: Run) -> None:
    assert ended(run("maxew 700 resetew yes")) == 6


def _context(place: Path, run: Run) -> None:
    run("maxew 1000 context 2 1")
    assert frames(place) == [1, 2]
    run("maxew 1000")
    assert not (place / "watch.extxyz").exists()


STYLE = {
    "device": _device, "precision": _precision, "kernel": _kernel, "chunk": _chunk, "omp": _omp, "every": _every,
    "percentile": _percentile, "ewald": _ewald, "mesh": _mesh, "charge": _charge,
}  # fmt: skip
WATCH = {
    "watch": _watch, "min_distance": _min_distance, "max_force": _max_force, "frames": _frames, "restart": _restart,
    "interval": _interval, "limit": _limit, "species": _species, "showew": _showew, "showewsum": _showewsum,
    "maxew": _maxew, "resetew": _resetew, "context": _context,
}  # fmt: skip
COMPUTE = (
    "force_std_max", "force_std_mean", "force_std_percentile", "energy_std", "extrapolations", "shortest_distance",
    "largest_force",
)  # fmt: skip


def parsed(place: Path, text: str) -> set[str]:
    """The keywords that a parser says it knows."""
    message = lmp(place, setup() + text).output
    known = re.search(r"unknown (?:keyword|quantity) 'nonsense', expected (.*?) \(", message)
    assert known, message
    return set(known[1].replace(" or, of fix nnpkit/watch,", ",").split(", "))


def test_every_keyword_has_an_entry_and_a_place_in_the_manual(place: Path) -> None:
    model = "pair_style nnpkit\npair_coeff * * committee.pt O H\n"
    style = parsed(place, "pair_style nnpkit nonsense 1\n")
    fix = parsed(place, model + "fix w all nnpkit/watch 1 nonsense 1\n")
    compute = parsed(place, model + "compute c all nnpkit nonsense\n")
    assert style == {*STYLE, *WATCH}
    assert fix == {*WATCH, "pair"}
    assert compute == {
        *COMPUTE, "member_energy", "force_std/atom", "charge_std/atom", "extrapolations/atom", "features/atom", "pair"
    }  # fmt: skip
    page = PAGE.read_text(encoding="utf-8")
    assert style | fix <= set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE))
    assert all(f"`{name}`" in page for name in compute - {"pair"})


@pytest.mark.parametrize("name", STYLE)
def test_keyword_of_the_style(place: Path, name: str) -> None:
    STYLE[name](place)


@pytest.mark.parametrize("by", ["style", "fix"])
@pytest.mark.parametrize("name", WATCH)
def test_keyword_of_a_watch(place: Path, name: str, by: str) -> None:
    def run(words: str) -> Result:
        for left in {*place.glob("watch.*"), *place.glob("*.extxyz")}:
            left.unlink()
        return lmp(place, script(words) if by == "style" else script("every 0", f"1 {words}"))

    WATCH[name](place, run)


def test_the_interval_of_the_fix(place: Path) -> None:
    assert lmp(place, script("every 0", f"3 {ALL} interval 1")).returncode == 0
    assert frames(place) == [0, 3, 6]
    refused = lmp(place, script("", f"0 {ALL}")).output
    assert "nnpkit/watch is '0', expected a number of steps" in refused
    refused = lmp(
        place, script().replace("pair_coeff", "group g id 1\nfix w g nnpkit/watch 1\npair_coeff")
    ).output
    assert "the group is g, expected all" in refused


@pytest.mark.parametrize("name", COMPUTE)
def test_quantity_of_the_compute(place: Path, name: str) -> None:
    """The number is that of compute pair, on the steps that ask for it and no others."""
    ask = f"compute c all nnpkit {name}\nthermo_style custom step pe c_u[*] c_c[1]\n"
    text = script("every 0").replace("velocity", ask + "velocity").replace("thermo 1\n", "thermo 3\n")
    result = lmp(place, text)
    k = [*COMPUTE[:5], "", *COMPUTE[5:]].index(name)
    rows = table(result)
    assert [row[0] for row in rows] == [0, 3, 6]
    assert [row[-1] for row in rows] == [row[2 + k] for row in rows]
    assert len({row[-1] for row in rows}) > 1


def test_quantities_of_atoms(place: Path) -> None:
    ask = "compute c all nnpkit extrapolations/atom force_std/atom\ncompute d all nnpkit force_std/atom\n"
    ask += "dump d all custom 3 dump id c_c[1] c_c[2] c_d\ndump_modify d sort id\n"
    result = lmp(place, script("every 0").replace("velocity", ask + "velocity"), 2)
    last, rows = result.dump(), table(result)
    assert last[:, 1].sum() == rows[-1][6] > 0
    assert last[:, 2].max() == pytest.approx(rows[-1][2], rel=1e-5)
    assert (last[:, 2] == last[:, 3]).all()


def test_what_a_model_cannot_give_is_refused(place: Path) -> None:
    for words, message in (
        ("nnpkit force_std_max", "one potential cannot disagree with itself"),
        ("nnpkit force_std/atom", "one potential cannot disagree with itself"),
        ("nnpkit extrapolations", "no ranges of its training data"),
        ("nnpkit", "no quantity is given"),
        ("nnpkit member_energy", "one potential has no members"),
        ("nnpkit features/atom", "this model shows no features: toy.pt"),
        ("nnpkit pair 2 largest_force", "pair is 2, but there is 1 pair style nnpkit"),
    ):
        text = script(model="toy.pt").replace("velocity", f"compute c all {words}\nvelocity")
        assert message in lmp(place, text).output
    single = script(model="toy.pt").replace(SEEN, "compute c all nnpkit largest_force\n" + SEEN)
    single = single.replace("c_u[*]", "c_c[1] c_u[*]")
    assert table(lmp(place, single))[0][2] > 0.0
    unknown = script().replace("velocity", "group g id 1\ncompute c g nnpkit energy_std\nvelocity")
    assert "the group is g, expected all" in lmp(place, unknown).output


def test_which_of_two_styles(place: Path) -> None:
    """hybrid with two potentials: each fix and compute says whose it is."""
    both = script(model="committee.pt").replace(
        "pair_style nnpkit ", "pair_style hybrid/overlay nnpkit nnpkit "
    )
    both = both.replace(
        "pair_coeff * * committee.pt",
        "pair_coeff * * nnpkit 1 committee.pt O H\npair_coeff * * nnpkit 2 toy.pt",
    )
    both = both.replace(SEEN, "SEEN")
    watch = both.replace("SEEN", f"fix w all nnpkit/watch 1 {ALL} interval 1 WHICH\n")
    assert "say which one by 'pair 1'" in lmp(place, watch.replace("WHICH", "")).output
    assert "one potential cannot disagree" in lmp(place, watch.replace("WHICH", "pair 2")).output
    assert lmp(place, watch.replace("WHICH", "pair 1")).returncode == 0
    assert frames(place) == list(range(7))
    ask = "compute a all nnpkit largest_force pair 1\ncompute b all nnpkit largest_force pair 2\n"
    ask += "thermo_style custom step pe pe pe pe c_a[1] c_b[1]\n"
    rows = table(lmp(place, both.replace("SEEN", ask)))
    assert rows[0][-1] != rows[0][-2]
    assert min(rows[0][-2:]) > 0.0


def test_the_fix_shows_what_it_has_done(place: Path) -> None:
    shown = "thermo_style custom step pe pe pe c_u[9] c_u[10] f_w[1] f_w[2] f_w[3]\n"
    text = script("every 0", f"2 {ALL} interval 1 maxew 1000 restart NULL").replace(
        "velocity", shown + "velocity"
    )
    rows = table(lmp(place, text, 2))
    assert [row[0] for row in rows] == [0, 1, 2, 3, 4, 5, 6][: len(rows)]
    assert [row[4] for row in rows] == [row[6] for row in rows]
    assert rows[-1][7] == rows[-1][5] == 1.0
    assert rows[-1][8] > 1000


def test_programs_read_the_same(place: Path) -> None:
    pytest.importorskip("mpi4py")
    text = script("every 0", f"2 {ALL}").split("run 6")[0]
    (place / "driver.py").write_text(
        "from mpi4py import MPI\nfrom lammps import lammps\n"
        "lmp = lammps(cmdargs=['-screen', 'none', '-log', 'none'])\n"
        f"lmp.commands_string({text!r})\nlmp.command('run 4')\n"
        "frames = [lmp.extract_fix('w', 0, 1, k) for k in range(3)]\n"
        "print('@frames', frames[0])\nprint('@counted', frames[2])\n"
    )
    values = run(place, ["python", "driver.py"]).values()
    assert values["frames"] == 1.0
    assert values["counted"] > 0
