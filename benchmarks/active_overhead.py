"""What the loop itself costs: wall time in which neither dynamics nor labels nor training ran.

    python benchmarks/active_overhead.py                 runs a small project of water
    python benchmarks/active_overhead.py --project DIR   reads the record of a project that ran

The last line is ``RESULT {json}``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from nnpkit.active.status import overhead
from nnpkit.active.store import Store

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "active_water"


def run(folder: Path, rounds: int) -> Path:
    """Run some rounds of the water example; folder of the project."""
    subprocess.run([sys.executable, EXAMPLE / "make_start.py"], check=True)
    command = [
        sys.executable,
        "-m",
        "nnpkit",
        "active",
        "run",
        EXAMPLE / "active.yaml",
        f"output={folder / 'project'}",
    ]
    command += [f"stop.rounds={rounds}", "stop.candidates=0"]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return folder / "project"


def main() -> None:
    """Run or read, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--project", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        store = Store(arguments.project or run(Path(name), arguments.rounds))
        cost = overhead(store)
        kinds = store.query("SELECT kind, COUNT(*), SUM(seconds), SUM(cpu_seconds) FROM runs GROUP BY kind")
        result = {
            "overhead_fraction": round(cost["fraction"], 5), "seconds": round(cost["seconds"], 1),
            "seconds_in_tasks": round(cost["busy"], 1),
            "tasks": {row[0]: {"number": row[1], "seconds": row[2], "cpu_seconds": row[3]} for row in kinds},
        }  # fmt: skip
        store.close()
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
