"""A training of two processes that the limit of its time ends and Slurm starts again: the same bits as undisturbed?

    python benchmarks/slurm_requeue.py

starts a Slurm of one node by ``tests/slurm/start_slurm.sh`` (needs root), submits the job of
``examples/slurm_training`` with two tasks and a limit of two minutes, of which SIGUSR1 comes a minute before the end
(or up to another minute earlier, as Slurm says), and compares its last checkpoint with that of the same training
without a limit. The last line is ``RESULT {"starts": ..., "same_bits": ...}``.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from nnpkit.data.dataset import load_dataset
from nnpkit.data.formats.reading import write
from nnpkit.training.checkpoint import latest_checkpoint, read_checkpoint

HERE = Path(__file__).resolve().parents[1]
SLURM, EXAMPLE = HERE / "tests" / "slurm", HERE / "examples" / "slurm_training"


def job_script(folder: Path, name: str, epochs: int, limit: str, warning: int) -> Path:
    """The script of the example for two tasks, with another limit; the frames are in the folder."""
    config = yaml.safe_load((EXAMPLE / "train.yaml").read_text())
    config["data"]["train"] = "frames.xyz"
    config["output"] = name
    config["training"]["epochs"] = epochs
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(config))
    text = (EXAMPLE / "one_node.sh").read_text()
    for line, new in (
        (r"--ntasks=\d+", "--ntasks=2"), (r"--time=\S+", f"--time={limit}"),
        (r"--signal=USR1@\d+", f"--signal=USR1@{warning}"), (r"nnpkit train train.yaml", f"nnpkit train {name}.yaml"),
    ):  # fmt: skip
        text, count = re.subn(line, new, text)
        if count != 1:
            raise SystemExit(f"the script of the example has no {line}")
    path = folder / f"{name}.sh"
    path.write_text(text)
    return path


def run(folder: Path, script: Path, seconds: float) -> int:
    """Submit and wait; how often it was started."""
    command = ["sbatch", "--parsable", "-o", f"{script.stem}.out", script.name]
    job = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
    until = time.monotonic() + seconds
    while subprocess.run(
        ["squeue", "-h", "-j", job], capture_output=True, text=True, check=False
    ).stdout.strip():
        if time.monotonic() > until:
            subprocess.run(["scancel", job], check=False)
            raise SystemExit(
                f"{script.stem} did not end:\n{(folder / f'{script.stem}.out').read_text()[-2000:]}"
            )
        time.sleep(2.0)
    return (folder / f"{script.stem}.out").read_text().count("Model: ")


def main() -> None:
    """Compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--epochs", type=int, default=12, help="so many that they take longer than a minute")
    parser.add_argument("--frames", type=int, default=120, help="of the example's")
    parser.add_argument("--limit", type=int, default=2, help="minutes")
    parser.add_argument(
        "--warning", type=int, default=60, help="seconds before the limit at which SIGUSR1 comes"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = EXAMPLE / yaml.safe_load((EXAMPLE / "train.yaml").read_text())["data"]["train"]
        write(folder / "frames.xyz", load_dataset(str(source))[: options.frames])
        subprocess.run([SLURM / "start_slurm.sh", folder / "slurm"], check=True)
        os.environ |= {
            "SLURM_CONF": str(folder / "slurm" / "slurm.conf"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        try:
            run(folder, job_script(folder, "whole", options.epochs, "01:00:00", 1), 600.0)
            script = job_script(
                folder, "limited", options.epochs, f"00:{options.limit:02d}:00", options.warning
            )
            starts = run(folder, script, 1200.0)
        finally:
            subprocess.run([SLURM / "stop_slurm.sh", folder / "slurm"], check=False)
        whole, limited = (read_checkpoint(latest_checkpoint(folder / n) or n) for n in ("whole", "limited"))
        same = all(
            (a == b).all() for group in ("model", "best", "update") for a, b in
            zip(whole.tensors[group].values(), limited.tensors[group].values(), strict=True)
        )  # fmt: skip
        found = {"starts": starts, "same_bits": bool(same), "epochs": limited.state["epoch"]}
    print("RESULT", json.dumps(found))


if __name__ == "__main__":
    main()
