"""How many threads the program uses by default, and how they wait.

PyTorch (OpenMP) and OpenBLAS each have threads of their own, which by default are as many as there are processors
and wait for their next piece of work by turning in circles. Beside one busy process on two processors they keep each
other from working: a report took nine times as long as with one thread. So threads sleep while they wait, and their
number is that of the processors that nobody uses when the program starts.

Libraries read these environment variables when they are loaded; the program sets them before that. What a user has
set is left alone, and `import nnpkit` sets nothing: in a program of somebody else `torch_threads` limits PyTorch while
a model is evaluated, and only then.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path

__all__ = ["MOST_THREADS", "allowed_processors", "free_processors", "set_defaults", "torch_threads"]

MOST_THREADS = 4
"""Default for many free processors: the pieces of work are small, and more threads divide them no further."""
_PASSIVE = {
    "OMP_WAIT_POLICY": "PASSIVE",
    "GOMP_SPINCOUNT": "0",
    "KMP_BLOCKTIME": "0",
    "OPENBLAS_THREAD_TIMEOUT": "4",  # two to this power cycles, the least that it accepts
}
_COUNTS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def allowed_processors(root: Path = Path("/")) -> int:
    """Processors that this process may use: by its affinity and by the quota of its control group.

    Parameters
    ----------
    root : Path
        Where ``sys/fs/cgroup`` is.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    count = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    for quota, period in (_version_2(root), _version_1(root)):
        if quota > 0 and period > 0:
            count = min(count, max(1, quota // period))
    return count


def free_processors(root: Path = Path("/")) -> int:
    """Allowed processors less what runs on the machine at this moment, but at least one.

    Parameters
    ----------
    root : Path
        Where ``proc/loadavg`` and ``sys/fs/cgroup`` are.
    """
    try:
        fields = (root / "proc" / "loadavg").read_text().split()
        busy = max(int(fields[3].split("/")[0]) - 1, round(float(fields[0])))  # this process runs, too
    except (OSError, ValueError, IndexError):
        busy = 0
    machine = os.cpu_count() or 1
    return max(1, min(allowed_processors(root), machine - busy))


def set_defaults(environment: MutableMapping[str, str], root: Path = Path("/")) -> None:
    """Let threads sleep while they wait and be as many as processors are free, unless `environment` says otherwise."""
    for name, value in _PASSIVE.items():
        environment.setdefault(name, value)
    given = next((environment[name] for name in _COUNTS if environment.get(name)), None)
    count = given or str(min(MOST_THREADS, free_processors(root)))
    for name in _COUNTS:
        environment.setdefault(name, count)


@contextmanager
def torch_threads(most: int | None = None) -> Iterator[None]:
    """PyTorch with at most so many threads, by default those of the free processors, or as many as a user has set.

    In a program that has loaded PyTorch by itself its threads wait in circles: beside busy processes an evaluation of
    two hundred atoms then takes five times as long as with one thread.
    """
    import torch

    before = torch.get_num_threads()
    if most is None:
        given = any(os.environ.get(name) for name in _COUNTS)
        most = before if given else free_processors()
    if most >= before:
        yield
        return
    torch.set_num_threads(most)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _version_2(root: Path) -> tuple[int, int]:
    try:
        quota, period = (root / "sys/fs/cgroup/cpu.max").read_text().split()
        return int(quota), int(period)
    except (OSError, ValueError):
        return 0, 0


def _version_1(root: Path) -> tuple[int, int]:
    folder = root / "sys/fs/cgroup/cpu"
    try:
        return int((folder / "cpu.cfs_quota_us").read_text()), int((folder / "cpu.cfs_period_us").read_text())
    except (OSError, ValueError):
        return 0, 0
