"""Every option of every command changes what the command does, or a reason is given why that is shown elsewhere."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from alloy import CONFIG, write_alloy
from observing import digest
from typer.testing import CliRunner

import nnpkit
from nnpkit.cli.main import COMMANDS, app, load_command

MD = "md run first.extxyz -o out --dry-run --steps 100"
CALLS: dict[str, str] = {
    "train": "train train.yaml output=out training.epochs=1",
    "evaluate": "evaluate run train.extxyz",
    "analyze errors": "analyze errors run train.extxyz",
    "analyze contradictions": "analyze contradictions run other train.extxyz",
    "analyze extrapolation": "analyze extrapolation run train.extxyz",
    "analyze histograms": "analyze histograms train.extxyz",
    "analyze fisher": "analyze fisher run --batches 5 --data train.extxyz",
    "analyze weights": "analyze weights run",
    "convert": "convert train.extxyz out.data",
    "export": "export run --output out.pt",
    "md": MD,
    "select": "select run more.extxyz -o out.xyz --known train.extxyz",
    "schema": "schema",
}
"""A call of each command whose options are probed here, in a folder with two runs, data and YAML."""

PROBES: dict[str, dict[str, str]] = {
    "train": {"--plan": "--plan", "--overwrite": "!output=run --overwrite", "--resume": "!output=run --resume"},
    "evaluate": {
        "--json": "--json out.json", "--predictions": "--predictions out.xyz", "--format": "--format runner",
        "--units": "--units bohr-hartree",
    },
    "analyze errors": {"--json": "--json out.json", "--figure": "--figure out.png"},
    "analyze contradictions": {
        "--factor": "--factor 1.1", "--json": "--json out.json", "--figure": "--figure out.png",
    },
    "analyze extrapolation": {"--json": "--json out.json"},
    "analyze histograms": {"--model": "--model run", "--json": "--json out.json", "--figure": "--figure out.png"},
    "analyze fisher": {
        "--data": "--data more.extxyz", "--batches": "--batches 6", "--seed": "--seed 7", "--json": "--json out.json",
        "--force-labels": "--force-labels 3", "--figure": "--figure out.png",
    },
    "analyze weights": {"--json": "--json out.json", "--figure": "--figure out.png"},
    "convert": {"--from": "--from runner", "--to": "--to extxyz", "--units": "--units angstrom-ev"},
    "export": {"--output": "--output another.pt"},
    "md": {
        "--output": "-o another", "--ensemble": "--ensemble nvt", "--temperature": "--temperature 400",
        "--pressure": "--ensemble npt --pressure 2 | --ensemble npt", "--timestep": "--timestep 0.3",
        "--steps": "--steps 200", "--replicate": "--replicate 2 1 1", "--seed": "--seed 7", "--every": "--every 7",
        "--dump-every": "--dump-every 7", "--tdamp": "--tdamp 50",
        "--pdamp": "--ensemble npt --pdamp 2000 | --ensemble npt",
        "--coupling": "--ensemble npt --coupling tri | --ensemble npt", "--relax": "--relax", "--ranks": "--ranks 2",
    },
    "select": {
        "--output": "-o another.xyz", "--known": "--known more.extxyz", "--budget": "--budget 1",
        "--seed": "--method random --seed 9 --budget 2 | --method random --budget 2", "--reasons": "--reasons out.csv",
        "--method": "--method random --budget 2 | --budget 2", "--duplicate": "--duplicate 5",
        "--format": "--format vasp",
    },
    "schema": {"--active": "--active", "--report": "--report"},
}  # fmt: skip
"""Options to add to the call; behind a bar, those of the call to compare with; behind ``!``, a setting first."""

_STUDIES = "trains several times; tests/analysis/test_analyze.py"
_CUTOFF = "needs phonons of a supercell; tests/analysis/test_analyze.py"
_BUILD = "compiles the plugin; tests/lammps/test_lammps_build.py"
_RUNS = "runs LAMMPS; tests/md/test_cli_md.py"
_COMMITTEE = "needs a committee; tests/active/test_commands.py"
EXCUSED: dict[str, str] = {
    "train --folds": "trains several times; tests/workflow/test_selection_of_models.py",
    **{f"analyze learning-curve {o}": _STUDIES for o in ("--output", "--fractions", "--seeds", "--set")},
    **{f"analyze sensitivity {o}": _STUDIES for o in ("--output", "--key", "--seeds", "--set")},
    **{f"analyze {c} {o}": _STUDIES for c in ("learning-curve", "sensitivity") for o in ("--json", "--figure")},
    **{f"analyze cutoff {o}": _CUTOFF for o in (
        "--calculator", "--method", "--radii", "--center", "--displacement", "--samples", "--json", "--figure",
    )},
    **{f"report {o}": "writes a page with simulations; tests/analysis/test_report.py" for o in (
        "--output", "--other", "--md", "--steps", "--temperature", "--pressure", "--start", "--solid", "--fisher",
    )},
    "export --committee": "needs several runs; tests/deploy/test_committee.py",
    "export --tabulate": "needs a Deep Potential; tests/kernels/test_deep_kernel.py",
    "convert --species": "of dumps; tests/data/test_lammpsdata.py",
    **{f"convert {o}": "of potentials; tests/deploy/test_convert.py" for o in (
        "--cflength", "--cfenergy", "--without-wall",
    )},
    "md --species": "of dumps; tests/data/test_lammpsdata.py",
    **{f"md {o}": _RUNS for o in ("--lmp", "--dry-run", "--overwrite", "--watch")},
    **{f"select {o}": _COMMITTEE for o in ("--lower", "--upper", "--validation")},
    **{f"label {o}": "computes labels; tests/active/test_commands.py" for o in (
        "--output", "--calculator", "--folder", "--reference", "--cores",
    )},
    **{f"active {o}": "tests/active/test_loop.py" for o in ("--rebuild", "--watch", "--output", "--test")},
    **{f"build {o}": _BUILD for o in (
        "--cuda", "--cuda-arch", "--lammps-include", "--lammps-sizes", "--force", "--sanitize",
    )},
    "doctor --json": "prints what is installed; tests/lammps/test_lammps_build.py",
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def folder(tmp_path_factory):
    """The current folder."""
    before, folder = Path.cwd(), tmp_path_factory.mktemp("options")
    os.chdir(folder)
    write_alloy(folder / "train.extxyz")
    write_alloy(folder / "more.extxyz", 6, seed=9, lattice=3.5)
    frames = nnpkit.data.formats.reading.read("train.extxyz")
    nnpkit.data.formats.reading.write("first.extxyz", frames[:1])
    nnpkit.data.formats.reading.write(
        "bare.extxyz", [f.replace(energy=None, forces=None, stress=None) for f in frames[:2]]
    )
    (folder / "train.yaml").write_text(CONFIG)
    for name, seed in (("run", 5), ("other", 6)):
        nnpkit.train("train.yaml", [f"output={name}", f"seed={seed}", "training.epochs=2"])
    shutil.copytree("run", "kept")
    yield folder
    os.chdir(before)


def observe(call: str) -> str:
    """Digest of exit code, output and new files."""
    shutil.rmtree("run")
    shutil.copytree("kept", "run")
    old = set(Path().rglob("*"))
    result = CliRunner().invoke(app, call.split())
    new = sorted(p for p in Path().rglob("*") if p not in old and p.is_file() and "member" not in p.name)
    content = [
        (str(p), p.read_bytes() if p.suffix in (".xyz", ".csv", ".lammps", ".data", ".png") else "")
        for p in new
    ]
    for path in {p.parts[0] for p in new}:
        shutil.rmtree(path, ignore_errors=True) if Path(path).is_dir() and path != "run" else Path(
            path
        ).unlink(missing_ok=True) if path != "run" else None
    return digest([result.exit_code, "" if call.startswith("train") else result.stdout, content])


@cache
def unchanged(call: str) -> str:
    return observe(call)


def options() -> Iterator[str]:
    """``command --option`` of the whole program."""
    for name in COMMANDS:
        command = load_command(name)
        parts = {name: command} | {f"{name} {k}": v for k, v in getattr(command, "commands", {}).items()}
        for full, part in parts.items():
            for parameter in part.params:
                if parameter.param_type_name == "option" and parameter.name not in ("help", "version"):
                    yield f"{full} {max(parameter.opts, key=len)}"


ALL = [pytest.param(c, o, v, id=f"{c} {o}") for c, own in PROBES.items() for o, v in own.items()]


@pytest.mark.parametrize(("command", "option", "text"), ALL)
def test_an_option_shows(command: str, option: str, text: str) -> None:
    call, (more, _, base) = CALLS[command], text.partition(" | ")
    if more.startswith("!"):
        setting, _, more = more[1:].partition(" ")
        call += f" {setting}"
    assert observe(f"{call} {more}".strip()) != unchanged(f"{call} {base}".strip())


def test_every_option_has_a_probe_or_a_reason() -> None:
    known = {f"{command} {option}" for command, own in PROBES.items() for option in own}
    assert sorted(set(options()) - known - set(EXCUSED)) == []
    assert sorted((known | set(EXCUSED)) - set(options())) == []
    for reason in EXCUSED.values():
        file = reason.split()[-1]
        assert (Path(__file__).parents[2] / file).exists(), reason
