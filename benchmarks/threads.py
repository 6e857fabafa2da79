"""What default threads cost beside a busy process: every command against itself with one thread.

A small potential of water and a project of active learning are made, then each command runs beside one process that
computes without end: with ``OMP_NUM_THREADS=1`` and with the threads that it chooses itself, in turn, and of each the
fastest counts. The calculator runs in a program that has loaded PyTorch by itself.

    python benchmarks/threads.py [--repeat 3] [--folder threads] [--commands train active ...]

The last line is ``RESULT {json}``: seconds of both and their ``ratio`` for every command.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from active_toy import PROJECT, write_project
from deep_systems import machine

from nnpkit.threads import allowed_processors

WATER = Path(__file__).parents[1] / "examples" / "water" / "train.xyz.xz"
_CALCULATOR = """
import sys, time
from nnpkit.data.formats.reading import read
from nnpkit.md.calculator import NnpkitCalculator
from ase import Atoms
frame = read(sys.argv[2])[0]
atoms = Atoms(frame.symbols, frame.positions, cell=frame.cell, pbc=frame.pbc)
atoms.calc = NnpkitCalculator(sys.argv[1])
for step in range(300):
    atoms.positions += 1e-5
    atoms.get_forces()
"""


def commands(folder: Path) -> dict[str, list[str]]:
    """Command line of everything that is measured."""
    nnpkit = [sys.executable, "-m", "nnpkit"]
    model = str(folder / "run" / "model.pt")
    return {
        "train": [*nnpkit, "train", str(folder / "train.yaml"), f"output={folder / 'again'}", "--overwrite"],
        "evaluate": [*nnpkit, "evaluate", model, str(WATER)],
        "report": [*nnpkit, "report", str(folder / "run")],
        "active": [*nnpkit, "active", "run", str(folder / "active" / "active.yaml")],
        "calculator": [sys.executable, "-c", _CALCULATOR, model, str(WATER)],
    }


def afresh(folder: Path) -> None:
    """The project of active learning without what an earlier run has left of it."""
    shutil.rmtree(folder / "active", ignore_errors=True)
    write_project(
        folder / "active", PROJECT.replace("cores: 2", "cores: null").replace("rounds: 3", "rounds: 2")
    )


def seconds(command: list[str], one: bool) -> float:
    """Wall-clock time of a command with one thread, or with what it chooses."""
    environment = {
        k: v for k, v in os.environ.items() if "THREADS" not in k and not k.startswith(("OMP_", "GOMP_"))
    }
    environment |= {"OMP_NUM_THREADS": "1"} if one else {}
    begin = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.monotonic() - begin


def main() -> None:
    """Make a potential, run everything in turn, print the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path("threads"))
    names = list(commands(Path()))
    parser.add_argument("--commands", nargs="+", choices=names, default=names)
    options = parser.parse_args()
    shutil.rmtree(options.folder, ignore_errors=True)
    options.folder.mkdir(parents=True)
    settings = {
        "data": {"train": str(WATER), "frames": ":60"},
        "training": {"epochs": 2},
        "output": str(options.folder / "run"),
    }
    (options.folder / "train.yaml").write_text(json.dumps(settings))
    seconds([sys.executable, "-m", "nnpkit", "train", str(options.folder / "train.yaml")], one=True)
    found: dict[str, dict[str, float]] = {}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # or the busy process would outlive this one
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        for name in options.commands:
            command = commands(options.folder)[name]
            times: dict[bool, list[float]] = {True: [], False: []}
            for _ in range(options.repeat):
                for one in (True, False):
                    afresh(options.folder)
                    times[one].append(seconds(command, one))
            single, default = min(times[True]), min(times[False])
            found[name] = {
                "one": round(single, 2),
                "default": round(default, 2),
                "ratio": round(default / single, 2),
            }
            print(
                f"{name:12s} one thread {single:7.2f} s, default {default:7.2f} s, ratio {default / single:.2f}",
                flush=True,
            )
    finally:
        busy.kill()
    print("RESULT " + json.dumps({"commands": found, "machine": machine(allowed_processors())}))


if __name__ == "__main__":
    main()
