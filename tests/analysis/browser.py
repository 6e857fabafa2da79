"""Chromium for tests that click."""

from __future__ import annotations

import os
import shutil
from importlib.util import find_spec

import pytest

__all__ = ["ARGUMENTS", "chromium"]

ARGUMENTS = ["--use-gl=angle", "--use-angle=swiftshader", "--no-sandbox"]


def chromium() -> str:
    """Path of Chromium, or skip."""
    path = os.environ.get("NNPKIT_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if not path or find_spec("playwright") is None:
        pytest.skip("needs playwright (pip) and Chromium, on the PATH or in NNPKIT_CHROMIUM")
    return path
