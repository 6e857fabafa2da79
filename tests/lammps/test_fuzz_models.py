"""Mutated model files: refused by both loaders, or what they were; never a crash. See benchmarks/fuzz_models.py."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from harness import environment

FUZZ = Path(__file__).parents[2] / "benchmarks" / "fuzz_models.py"


def test_mutated_files(lammps: None) -> None:
    command = [sys.executable, str(FUZZ), "--files", "60", "--seed", "20240229"]
    if "libasan" in os.environ.get("LD_PRELOAD", ""):  # which reserves more memory than any limit leaves
        command += ["--memory", "0"]
    done = subprocess.run(
        command, env=environment(), capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.rpartition("RESULT")[2])
    assert (result["files"], result["crashed"], result["hung"]) == (60, [], [])
    for loader in ("python", "lammps"):
        assert result[loader]["accepted_damaged"] == 0
        assert result[loader]["refused"] > 30
        assert result[loader]["refused"] + result[loader]["accepted"] == 60
