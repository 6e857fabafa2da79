"""Shared by all tests."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from pathlib import Path

import pytest

# Tests import the helper modules of their own folder by their plain names.
sys.path[:0] = [str(folder) for folder in sorted(Path(__file__).parent.iterdir()) if folder.is_dir()]

# Ranks that wait for each other poll, and take the processor from those they wait for wherever there are more of them
# than processors, as beside other tests. MPICH sleeps for a moment instead.
os.environ.setdefault("MPIR_CVAR_CH4_PROGRESS_THROTTLE", "1")
os.environ.setdefault("MPIR_CVAR_CH4_PROGRESS_THROTTLE_NO_PROGRESS_COUNT", "16")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let tests of compiled code that is slow, as that with sanitizers, be fewer."""
    parser.addoption(
        "--ends", action="store_true",
        help="of each test with parameters only the first and the last set of them, outside of tests/kernels",
    )  # fmt: skip


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """See ``--ends``: the sets of a test go the same ways, kernels have code of their own for each."""
    if not config.getoption("--ends"):
        return
    sets: dict[str, list[pytest.Item]] = defaultdict(list)
    for item in items:
        sets[item.nodeid.partition("[")[0]].append(item)
    kept = {id(item) for own in sets.values() for item in (own[0], own[-1])}
    left = [item for item in items if id(item) not in kept and "tests/kernels/" not in item.nodeid]
    config.hook.pytest_deselected(items=left)
    out = {id(item) for item in left}
    items[:] = [item for item in items if id(item) not in out]
