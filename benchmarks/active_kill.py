"""Kill the driver of active learning at random instants and compare with an undisturbed run.

    python benchmarks/active_kill.py --kills 50

Every third time a worker or a watcher of the project is killed too. A project that ends before all kills are done is
followed by another. The last line is ``RESULT {json}``: whether the labels are the same bit by bit, how many were
computed twice, how many are missing, and in which steps of the loop the kills fell.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

from active_toy import write_project

from nnpkit.active.store import DATABASE
from nnpkit.data.formats.extxyz import read_extxyz
from nnpkit.lock import FolderLock


def drive(folder: Path, action: str) -> subprocess.Popen[bytes]:
    """Start a driver."""
    command = [sys.executable, "-m", "nnpkit", "active", action, "active.yaml"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with open(folder / "driver.log", "ab") as log:
        return subprocess.Popen(command, cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=environment)


def workers(folder: Path) -> list[int]:
    """Processes that work on tasks of the project in `folder`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(str(folder / "project") in word for word in words) and int(entry.name) != os.getpid():
            found.append(int(entry.name))
    return sorted(found)


def labels(folder: Path) -> dict[str, tuple[float, bytes]]:
    """Energy and forces of every label, by key."""
    found = {}
    for path in sorted((folder / "project" / "labels").glob("*/*.xyz")):
        frame = read_extxyz(path)[0]
        assert frame.energy is not None
        assert frame.forces is not None
        found[path.stem] = (frame.energy, frame.forces.tobytes())
    return found


def finish(folder: Path, action: str) -> float:
    """Run a driver to its end; seconds."""
    began = time.monotonic()
    if drive(folder, action).wait():
        sys.exit((folder / "driver.log").read_text()[-2000:])
    return time.monotonic() - began


def wait_for_work(driver: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait until the driver has the lock of the project, or has ended."""
    lock = FolderLock(folder / "project" / "driver.lock")
    while driver.poll() is None and (lock.holder() or {}).get("pid") != driver.pid:
        time.sleep(0.05)


def running_step(folder: Path) -> str:
    """Step of the loop that is under way."""
    path = folder / "project" / DATABASE
    if not path.exists():
        return "start"
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
        try:
            rows = database.execute("SELECT step FROM steps WHERE state = 'running'").fetchall()
        except sqlite3.OperationalError:  # no tables yet
            rows = []
    return rows[0][0] if rows else "between steps"


def disturbed(folder: Path, kills: int, dice: random.Random, longest: float) -> Counter[str]:
    """Run with at most so many kills; how many of which kind, and in which step of the loop, there were."""
    done = Counter[str]()
    while done["driver"] < kills:
        exists = (folder / "project" / DATABASE).exists()
        driver = drive(folder, "resume" if exists else "run")
        early = dice.random() < 0.1  # while it starts
        if not early:
            wait_for_work(driver, folder)
        time.sleep(dice.uniform(0.0, longest))
        if driver.poll() is not None:
            if driver.returncode:
                sys.exit((folder / "driver.log").read_text()[-2000:])
            break
        if done["driver"] % 3 == 2 and (running := workers(folder)):
            os.kill(dice.choice(running), signal.SIGKILL)
            done["worker"] += 1
        driver.kill()
        driver.wait()
        done["driver"] += 1
        done["in start-up" if early else f"in {running_step(folder)}"] += 1
    finish(folder, "resume" if (folder / "project" / DATABASE).exists() else "run")
    return done


def main() -> None:
    """Run undisturbed, run with kills, compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--longest",
        type=float,
        help="most seconds of work before a kill; a tenth of an undisturbed run by default",
    )
    arguments = parser.parse_args()
    dice, done, projects = random.Random(arguments.seed), Counter[str](), 0
    same, relabelled, lost, extra = True, 0, 0, 0
    with tempfile.TemporaryDirectory() as name:
        calm = Path(name).resolve() / "calm"
        write_project(calm)
        seconds = finish(calm, "run")
        print(f"undisturbed: {seconds:.0f} s", flush=True)
        longest = arguments.longest or seconds / 10.0
        expected = labels(calm)
        while done["driver"] < arguments.kills:
            wild = Path(name).resolve() / f"wild-{projects}"
            write_project(wild)
            done += disturbed(wild, arguments.kills - done["driver"], dice, longest)
            projects, found = projects + 1, labels(wild)
            log = (wild / "project" / "computed.log").read_text().splitlines()
            same &= found == expected
            relabelled += sum(n > 1 for n in Counter(line.split()[0] for line in log).values())
            lost += len(expected.keys() - found.keys())
            extra += len(found.keys() - expected.keys())
            print(f"project {projects}: {dict(done)}, the same labels so far: {same}", flush=True)
    result = {
        "kills": done.pop("driver"), "worker_kills": done.pop("worker", 0), "projects": projects,
        "labels_per_project": len(expected), "identical": same, "relabelled": relabelled, "lost": lost,
        "extra": extra, "kills_by_step": dict(done),
    }  # fmt: skip
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
