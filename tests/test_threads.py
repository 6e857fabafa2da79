"""Threads by default: as many as processors are free, and asleep while they wait."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from nnpkit.threads import MOST_THREADS, allowed_processors, free_processors, set_defaults, torch_threads


def machine(folder, load="0.00 0.00 0.00 1/300 4242", quota=None):
    """A root with the files that say how busy a machine is and what the process may use of it."""
    (folder / "proc").mkdir()
    (folder / "proc" / "loadavg").write_text(load + "\n")
    (folder / "sys/fs/cgroup").mkdir(parents=True)
    if quota is not None:
        (folder / "sys/fs/cgroup/cpu.max").write_text(quota + "\n")
    return folder


@pytest.fixture
def eight(monkeypatch):
    """A machine of eight processors, all of them allowed."""
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


@pytest.mark.parametrize(
    ("load", "free"),
    [("0.02 0 0 1/300 1", 8), ("0.02 0 0 4/300 1", 5), ("6.10 0 0 1/300 1", 2), ("40.0 0 0 41/300 1", 1)],
)
def test_what_runs_is_not_free(tmp_path, eight, load, free):
    assert free_processors(machine(tmp_path, load)) == free


@pytest.mark.parametrize(("quota", "allowed"), [("max 100000", 8), ("250000 100000", 2), ("50000 100000", 1)])
def test_the_control_group_limits(tmp_path, eight, quota, allowed):
    assert allowed_processors(machine(tmp_path, quota=quota)) == allowed


def test_the_older_control_group_limits(tmp_path, eight):
    folder = machine(tmp_path) / "sys/fs/cgroup/cpu"
    folder.mkdir()
    (folder / "cpu.cfs_quota_us").write_text("300000")
    (folder / "cpu.cfs_period_us").write_text("100000")
    assert allowed_processors(tmp_path) == 3


def test_the_affinity_limits(tmp_path, eight, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {3})
    assert free_processors(machine(tmp_path)) == 1


def test_both_libraries_get_the_same_number_and_sleep(tmp_path, eight):
    environment: dict[str, str] = {}
    set_defaults(environment, machine(tmp_path, "0.1 0 0 6/300 1"))
    assert environment["OMP_NUM_THREADS"] == environment["OPENBLAS_NUM_THREADS"] == "3"
    assert environment["OMP_WAIT_POLICY"] == "PASSIVE"
    assert environment["OPENBLAS_THREAD_TIMEOUT"] == "4"


def test_an_idle_machine_of_many_processors_is_not_filled(tmp_path, eight):
    environment: dict[str, str] = {}
    set_defaults(environment, machine(tmp_path))
    assert environment["OMP_NUM_THREADS"] == str(MOST_THREADS)


def test_what_the_user_has_set_stays_and_holds_for_both(tmp_path, eight):
    environment = {"OMP_NUM_THREADS": "6", "OMP_WAIT_POLICY": "ACTIVE"}
    set_defaults(environment, machine(tmp_path))
    assert environment["OMP_NUM_THREADS"] == environment["OPENBLAS_NUM_THREADS"] == "6"
    assert environment["OMP_WAIT_POLICY"] == "ACTIVE"


def run_python(code):
    clean = {k: v for k, v in os.environ.items() if "THREADS" not in k and "OMP_" not in k}
    return subprocess.run(
        [sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=True
    ).stdout.split()


def test_the_program_decides_before_torch_is_loaded_and_the_library_does_not():
    told = "import os, sys; print('torch' in sys.modules, os.environ.get('OMP_WAIT_POLICY'))"
    program = (
        "import atexit, sys\n"
        "from nnpkit.cli import main\n"
        f"main.app = lambda prog_name: exec({told!r})\n"
        "main.run()"
    )
    assert run_python(program) == ["False", "PASSIVE"]
    assert run_python(f"import nnpkit; nnpkit.load; {told}") == ["True", "None"]


@pytest.fixture
def four_threads():
    """PyTorch with four threads, as it has in somebody's own program."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(4)
    yield torch.get_num_threads
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("most", "given", "inside"), [(1, None, 1), (1, "4", 1), (None, "4", 4), (None, None, 2), (8, None, 4)]
)
def test_threads_of_torch_while_a_model_is_evaluated(four_threads, monkeypatch, most, given, inside):
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    monkeypatch.setattr("nnpkit.threads.free_processors", lambda: 2)
    with torch_threads(most):
        assert four_threads() == inside
    assert four_threads() == 4
