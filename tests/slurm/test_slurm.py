"""The loop on a real Slurm of one node, and a scheduler that does not answer at first."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nnpkit.active.executor import Execution, Executor
from nnpkit.active.store import Store
from nnpkit.active.task import outcome, prepare_task

HERE = Path(__file__).resolve().parent
OPTIONS = {"partition": "test", "walltime": "00:20:00", "exclusive": False}
FAILING_SBATCH = """\
#!/bin/sh
echo x >> {count}
[ $(wc -l < {count}) -le 1 ] && {{ echo 'sbatch: error: Socket timed out on send/recv operation' >&2; exit 1; }}
exec {sbatch} "$@"
"""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    """A Slurm on this machine, for as long as the tests take."""
    if not shutil.which("slurmctld") and not os.environ.get("NNPKIT_REQUIRE_SLURM"):
        pytest.skip("no slurm here; NNPKIT_REQUIRE_SLURM=1 installs one where apt-get may do so")
    folder = tmp_path_factory.mktemp("slurm")
    started = subprocess.run([HERE / "start_slurm.sh", folder], capture_output=True, text=True, check=False)
    if started.returncode:
        message = f"slurm did not start: {started.stderr or started.stdout}"
        pytest.fail(message) if os.environ.get("NNPKIT_REQUIRE_SLURM") else pytest.skip(message)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    yield folder
    subprocess.run([HERE / "stop_slurm.sh", folder], check=False)
    del os.environ["SLURM_CONF"]


def tasks_run_in_a_job_although_sbatch_fails_at_first(tmp_path, monkeypatch) -> None:
    shim = tmp_path / "bin" / "sbatch"
    shim.parent.mkdir(parents=True)
    shim.write_text(FAILING_SBATCH.format(count=tmp_path / "count", sbatch=shutil.which("sbatch")))
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim.parent}:{os.environ['PATH']}")
    folders = [tmp_path / "tasks" / str(k) for k in range(2)]
    for folder in folders:
        prepare_task(folder, ["sh", "-c", "echo job $SLURM_JOB_ID"])
    with Executor(Execution("slurm", 2, OPTIONS), tmp_path) as executor:
        executor.run(folders)
    for folder in folders:
        assert (outcome(folder) or {})["code"] == 0
        assert (folder / "log").read_text().split()[1].isdigit()
    assert len((tmp_path / "count").read_text().split()) == 2


def the_loop_runs_on_slurm(tmp_path) -> None:
    """One round: train, explore, select, label, train."""
    sys.path.insert(0, str(HERE.parents[1] / "benchmarks"))
    from active_toy import PROJECT, TRAINING, write_project

    options = "{partition: test, walltime: '00:20:00', exclusive: false}"
    execution = f"execution: {{executor: slurm, cores: 2, options: {options}}}"
    text = PROJECT.replace("execution: {cores: 2}", execution).replace("rounds: 3", "rounds: 1")
    text = (
        text.replace("runs: 2", "runs: 1").replace("budget: 5", "budget: 2").replace("steps: 48", "steps: 24")
    )
    config = write_project(tmp_path, text, TRAINING.replace("epochs: 2", "epochs: 1"))
    done = subprocess.run(
        [sys.executable, "-m", "nnpkit", "active", "run", config], cwd=tmp_path, capture_output=True, text=True,
        check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    print(done.stdout)
    assert done.returncode == 0, done.stdout + done.stderr
    store = Store(tmp_path / "project")
    assert store.fact("ended") == "all 1 rounds are done"
    kinds = {row["kind"] for row in store.query("SELECT * FROM runs WHERE state = 'done'")}
    assert kinds == {"train", "explore", "label"}
    assert (store.step(0, "label") or {})["done"] > 0
    assert list((tmp_path / "project" / "parsl").glob("*/submit_scripts/*"))


def test_slurm(slurm, tmp_path, monkeypatch) -> None:
    """One test, because there is one Slurm on a machine."""
    with monkeypatch.context() as patch:
        tasks_run_in_a_job_although_sbatch_fails_at_first(tmp_path / "tasks", patch)
    the_loop_runs_on_slurm(tmp_path / "loop")
