"""For every option of the program: a call in which it must show, and calls in which it is refused."""

from __future__ import annotations

__all__ = ["CALLS", "EXCUSED", "PROBES", "REFUSED"]

CALLS: dict[str, str] = {
    "new": "new train.extxyz -o fresh",
    "train": "train train.yaml output=out training.epochs=1",
    "evaluate": "evaluate run train.extxyz",
    "analyze errors": "analyze errors run train.extxyz",
    "analyze contradictions": "analyze contradictions run other train.extxyz",
    "analyze extrapolation": "analyze extrapolation run train.extxyz",
    "analyze histograms": "analyze histograms train.extxyz",
    "analyze fisher": "analyze fisher run --batches 5 --data train.extxyz",
    "analyze weights": "analyze weights run",
    "analyze cutoff": "analyze cutoff big.extxyz --calculator emt --center 0 --radii 3,4 --samples 2",
    "analyze learning-curve": "analyze learning-curve train.yaml -o out --fractions 0.5 --set data.test_fraction=0.2",
    "analyze sensitivity": "analyze sensitivity train.yaml 2.0 -o out",
    "convert": "convert train.extxyz out.data",
    "convert potential": "convert hdnn out --cflength 1.0 --cfenergy 1.0",
    "report": "report run",
    "export": "export run --output out.pt",
    "data build": "data build train.extxyz out --processes 1",
    "md": "md run first.extxyz -o out --steps 100",
    "properties": "properties run first.extxyz -o out --what elastic,phonons,surfaces,compression,expansion,diffusion",
    "select": "select committee.pt more.extxyz -o out.xyz --known train.extxyz --lower 1e-6 --upper 1e3",
    "label": "label bare.extxyz -o out.xyz --calculator emt",
    "active": "active status project",
    "build": "build",
    "doctor": "doctor",
    "schema": "schema",
}
"""A call of each command, in a folder with runs, a committee, potentials, data, a project and YAML."""

_NUMBERS = {"--json": "--json out.json", "--figure": "--figure out.png"}
PROBES: dict[str, dict[str, str]] = {
    "new": {
        "--output": "-o another", "--engine": "--engine gpumd", "--time": "--time 30min",
        "--labels": "--labels energy=E",
        "--reference": "new bare.extxyz -o fresh: --reference lj",
        "--temperature": "new bare.extxyz -o fresh: --temperature 900",
    },
    "train": {
        "--plan": "--plan", "--overwrite": "output=run --overwrite | output=run",
        "--resume": "output=run --resume | output=run", "--folds": "--folds 2",
    },
    "evaluate": {
        "--json": "--json out.json", "--predictions": "--predictions out.xyz", "--format": "--format runner",
        "--units": "--units bohr-hartree", "--labels": "--labels energy=E", "--groups": "--groups pbc",
    },
    "analyze errors": _NUMBERS,
    "analyze contradictions": {"--factor": "--factor 1.1", **_NUMBERS},
    "analyze extrapolation": {"--json": "--json out.json"},
    "analyze histograms": {"--model": "--model run", **_NUMBERS},
    "analyze fisher": {
        "--data": "--data more.extxyz", "--batches": "--batches 6", "--seed": "--seed 7",
        "--force-labels": "--force-labels 3", **_NUMBERS,
    },
    "analyze weights": _NUMBERS,
    "analyze cutoff": {
        "--calculator": "--calculator lj", "--radii": "--radii 3,5",
        "--method": "analyze cutoff big.extxyz --calculator emt: --method hessian | --radii 3,4",
        "--center": "--center 1", "--displacement": "--displacement 0.2", "--samples": "--samples 3", **_NUMBERS,
    },
    "analyze learning-curve": {
        "--output": "-o another", "--fractions": "--fractions 1", "--seeds": "--seeds 2",
        "--set": "--set model.network.hidden=[2]", **_NUMBERS,
    },
    "analyze sensitivity": {
        "--output": "-o another", "--key": "--key training.optimizer.initial_covariance", "--seeds": "--seeds 2",
        "--set": "--set model.network.hidden=[2]", **_NUMBERS,
    },
    "convert": {
        "--from": "--from runner", "--to": "--to extxyz", "--units": "--units angstrom-ev",
        "--labels": "--labels energy=E",
        "--species": "convert types.data out.extxyz --units metal: --species Cu,Au | --species Au,Cu",
    },
    "convert potential": {
        "--cflength": "--cflength 1.5", "--cfenergy": "--cfenergy 2.0",
        "--without-wall": "convert run out: --without-wall",
    },
    "report": {
        "--output": "-o out.html", "--other": "--other other", "--md": "--md", "--steps": "--md --steps 200 | --md",
        "--temperature": "--md --temperature 400 | --md", "--pressure": "--md --pressure 2 | --md",
        "--start": "--md --start first.extxyz | --md", "--solid": "--solid first.extxyz", "--fisher": "--fisher 7",
    },
    "export": {
        "--output": "--output another.pt", "--committee": "export run other: --committee",
        "--tabulate": "export deep --output out.pt: --tabulate 1e-5",
        "--uncertainty": "--uncertainty 4",
    },
    "data build": {
        "--frames": "--frames :2", "--labels": "--labels energy=E", "--from": "--from runner",
        "--units": "--units bohr-hartree",
    },
    "md": {
        "--output": "-o another", "--ensemble": "--ensemble nvt", "--temperature": "--temperature 400",
        "--pressure": "--pressure 2", "--timestep": "--timestep 0.3", "--steps": "--steps 200",
        "--replicate": "--replicate 2 1 1", "--seed": "--seed 7", "--every": "--every 7",
        "--dump-every": "--dump-every 7", "--tdamp": "--tdamp 50", "--pdamp": "--pdamp 2000",
        "--coupling": "--coupling tri", "--relax": "--relax", "--ranks": "--ranks 2",
        "--lmp": "--lmp /bin/cat", "--dry-run": "--dry-run", "--overwrite": "-o before --overwrite | -o before",
        "--watch": "md committee.pt first.extxyz -o out: --watch 0.1 0.5",
        "--species": "md run types.data -o out: --species Cu,Au | --species Au,Cu",
        "--also": "--also dcd", "--replicas": "--replicas 2", "--time-limit": "--time-limit 00:10:00",
        "--slurm": "--slurm time=00:10:00",
    },
    "properties": {
        "--output": "-o another", "--what": "--what eos", "--reference": "--reference emt",
        "--pressure-max": "--pressure-max 20", "--surfaces": "--surfaces 210", "--extent": "--extent 12",
        "--temperature": "--temperature 400", "--temperatures": "--temperatures 200,300", "--pressure": "--pressure 2",
        "--steps": "--steps 300", "--timestep": "--timestep 0.3", "--atoms": "--atoms 99", "--seed": "--seed 7",
        "--ranks": "--ranks 2",
    },
    "select": {
        "--output": "-o another.xyz", "--known": "--known more.extxyz", "--budget": "--budget 1",
        "--seed": "--method random --budget 2 --seed 9 | --method random --budget 2", "--reasons": "--reasons out.csv",
        "--method": "--method random --budget 2 | --budget 2", "--duplicate": "--duplicate 5",
        "--format": "--format vasp", "--lower": "--lower 500", "--upper": "--upper 1e-5",
        "--without": "select committee.pt argon.extxyz -o out.xyz --lower 1e-6 --upper 1e3: --without Ar",
        "--validation": "select committee.pt more.extxyz -o out.xyz: --validation train.extxyz",
    },
    "label": {
        "--output": "-o another.xyz", "--calculator": "--calculator lj", "--folder": "--folder elsewhere",
        "--cores": "--cores 3", "--reference": "label bare.extxyz -o out.xyz: --reference lj.yaml | --calculator emt",
    },
    "active": {
        "--rebuild": "active resume project: --rebuild", "--watch": "--watch 0.5",
        "--output": "active report project: -o out.html", "--test": "active report project: --test train.extxyz",
    },
    "build": {
        "--cuda": "--cuda", "--cuda-arch": "--cuda-arch 80", "--lammps-include": "--lammps-include run",
        "--lammps-sizes": "--lammps-include run --lammps-sizes bigbig | --lammps-include run", "--force": "--force",
        "--sanitize": "--sanitize",
    },
    "doctor": {"--json": "--json"},
    "schema": {"--active": "--active", "--report": "--report"},
}  # fmt: skip
"""Options to add to the call; behind a bar, those of the call to compare with; before a colon, another call.

Commas in values stand for spaces.
"""

REFUSED: list[tuple[str, str]] = [
    ("new train.extxyz -o fresh --reference lj", "--reference has no effect"),
    ("new train.extxyz -o fresh --temperature 900", "--temperature has no effect"),
    ("new train.extxyz -o fresh --engine gromax", "engine 'gromax'"),
    ("train train.yaml --plan --folds 2", "--folds has no effect"),
    ("train train.yaml --resume --overwrite", "--resume continues the run that --overwrite removes"),
    *((f"report run {option}", option.split()[0] + " has no effect") for option in (
        "--steps 20", "--temperature 400", "--pressure 2", "--start first.extxyz",
    )),
    *((f"md run first.extxyz -o out --ensemble nvt {option}", option.split()[0] + " has no effect") for option in (
        "--pressure 2", "--pdamp 50", "--coupling tri",
    )),
    *((f"md run first.extxyz -o out --ensemble minimize {option}", option.split()[0] + " has no effect") for option in (
        "--temperature 400", "--timestep 2", "--seed 3", "--relax", "--tdamp 50", "--pressure 2",
    )),
    ("md run first.extxyz -o out --ensemble nve --tdamp 50", "--tdamp has no effect"),
    ("md run first.extxyz -o out --watch 0.1 0.5", "--watch"),
    *((f"md run first.extxyz -o out --ensemble minimize {option}", option.split()[0] + " has no effect") for option in (
        "--replicas 2", "--time-limit 00:10:00", "--slurm time=00:10:00",
    )),
    ("md run first.extxyz -o out --slurm time=00:10:00 --time-limit 00:10:00", "--time-limit has no effect"),
    ("md --continue -o before --temperature 400", "--temperature has no effect"),
    ("md --continue run first.extxyz -o before", "--continue takes model and structure from the folder"),
    *((f"properties run first.extxyz -o out --what eos {option}", option.split()[0] + " has no effect") for option in (
        "--pressure-max 9", "--surfaces 111", "--extent 9", "--temperatures 200,300", "--temperature 200",
        "--pressure 2", "--steps 200", "--timestep 2", "--atoms 9", "--seed 2", "--ranks 2",
    )),
    ("properties run first.extxyz -o out --what diffusion --reference emt", "--reference has no effect"),
    *((f"properties run first.extxyz -o out --what {name}", "a crystal of one element")
      for name in ("vacancy", "interstitial", "stacking")),
    ("properties run first.extxyz -o out --what melting --temperatures 300", "between two temperatures"),
    ("properties run first.extxyz -o out --what beauty", "unknown property 'beauty'"),
    ("select committee.pt more.extxyz --lower 1 --upper 2 --seed 3", "--seed has no effect"),
    ("select run more.extxyz --lower 1", "--lower has no effect"),
    ("select run more.extxyz --upper 1", "--upper has no effect"),
    ("select run more.extxyz --validation train.extxyz", "--validation has no effect"),
    ("select committee.pt more.extxyz --lower 1 --upper 2 --validation train.extxyz", "--validation has no effect"),
    *((f"analyze cutoff first.extxyz --calculator emt --method hessian {option}", option.split()[0] + " has no effect")
      for option in ("--radii 3", "--displacement 1", "--samples 3")),
    ("select committee.pt more.extxyz --lower 1 --upper 2 --without Ar", "no frame has Ar"),
    ("select committee.pt more.extxyz --lower 1 --upper 2 --without Au", "the potential sees Au"),
    ("convert run out.pt --without-wall", "--without-wall has no effect"),
    ("convert run out.pt --from runner", "--from has no effect"),
    ("convert run out.pt --cflength 2", "units do not apply"),
    ("convert run out.pt --units bohr-hartree", "--units is for RuNNer potentials"),
    ("convert run out.pt --labels energy=E", "--labels has no effect"),
    ("convert run out.pt --species Cu", "--species is for LAMMPS data files"),
    ("convert train.extxyz out.data --cflength 2", "are for potentials"),
    ("export run --tabulate 1e-5 --uncertainty 3", "one run alone"),
    ("export run --tabulate 1e-5", "nothing to tabulate"),
    ("label bare.extxyz --calculator emt --reference lj.yaml", "both --reference and --calculator"),
    *((f"active {action} project {option}", option.split()[0] + " has no effect") for action, option in (
        ("run", "--rebuild"), ("report", "--watch 1"), ("status", "--output out.html"), ("stop", "--test train.extxyz"),
    )),
    ("build --lammps-sizes bigbig", "--lammps-sizes has no effect"),
    ("schema --active --report", "--active has no effect"),
]  # fmt: skip
"""Calls with an option that would have no effect in them, and what is said of it."""

EXCUSED: dict[str, str] = {
    "data build --precision": "of binary files: test_data_store.py::test_single_precision_is_of_...",
    "data build --overwrite": "of binary files: tests/data/test_data_store.py compares what is in the store",
    "data build --processes": "the store is the same: test_data_store.py::test_two_processes_write_the_same",
    **dict.fromkeys(
        [f"tune --{o}" for o in ("budget", "families", "output", "precision", "seed", "target", "time")],
        "a search trains for minutes: tests/workflow/test_tune.py replaces the trainings",
    ),
    "build --for-wheel": "the wheel that holds the result: tests/install/test_wheels.py",
    "md --continue": "goes on with a run: tests/md/test_long_runs.py::test_the_command_line",
    "properties --overwrite": "replaces what is there: tests/analysis/test_properties_command.py",
    "new --overwrite": "replaces files that are there: tests/workflow/test_new_files.py",
}
"""Options without a probe here, and why."""
