"""Kill the driver of active learning at random instants and compare with an undisturbed run.

    python benchmarks/active_kill.py --kills 50

Every third time a worker or a watcher of the project is killed too. The last line is ``RESULT {json}``: whether the
labels are the same bit by bit, how many were computed twice, and how many are missing.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from active_toy import write_project

from nnpkit.data.formats_extxyz import read_extxyz
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


def disturbed(folder: Path, kills: int, seed: int, longest: float) -> dict[str, int]:
    """Run with kills; how many of which kind happened."""
    dice, done = random.Random(seed), Counter[str]()
    while done["driver"] < kills:
        exists = (folder / "project" / "active.sqlite").exists()
        driver = drive(folder, "resume" if exists else "run")
        if dice.random() < 0.8:  # else: while it starts
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
    finish(folder, "resume" if (folder / "project" / "active.sqlite").exists() else "run")
    return dict(done)


def main() -> None:
    """Run undisturbed, run with kills, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--longest", type=float, help="most seconds of work between two kills; by default from the first run"
    )
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        calm, wild = Path(name).resolve() / "calm", Path(name).resolve() / "wild"
        for folder in (calm, wild):
            write_project(folder)
        seconds = finish(calm, "run")
        print(f"undisturbed: {seconds:.0f} s")
        longest = arguments.longest or max(2.0, 2.5 * seconds / arguments.kills)
        done = disturbed(wild, arguments.kills, arguments.seed, longest)
        expected, found = labels(calm), labels(wild)
        log = (wild / "project" / "computed.log").read_text().splitlines()
        computed = Counter(line.split()[0] for line in log)
        result = {
            "kills": done.get("driver", 0), "worker_kills": done.get("worker", 0), "labels": len(expected),
            "identical": found == expected, "relabelled": sum(n > 1 for n in computed.values()),
            "lost": len(expected.keys() - found.keys()), "extra": len(found.keys() - expected.keys()),
        }  # fmt: skip
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
